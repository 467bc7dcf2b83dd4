;; A wasip1 command whose conduct is the number of its arguments, so that runs of different conduct share a worker:
;; none: returns at once. One: spins. Two: forty times, sleeps 100 ms and writes a byte to standard error.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  ;; An iovec of one byte.
  (data (i32.const 64) "\50\00\00\00\01\00\00\00")
  (data (i32.const 80) ".")
  ;; A subscription (48 bytes): clock 1 (monotonic), 100,000,000 ns from now.
  (data (i32.const 144) "\01\00\00\00\00\00\00\00\00\e1\f5\05\00\00\00\00")
  (func (export "_start") (local $conduct i32) (local $left i32)
    (drop (call $args (i32.const 0) (i32.const 4)))
    (local.set $conduct (i32.load (i32.const 0)))
    (if (i32.eq (local.get $conduct) (i32.const 1)) (then (return)))
    (if (i32.eq (local.get $conduct) (i32.const 2)) (then (loop $on (br $on))))
    (local.set $left (i32.const 40))
    (loop $on
      (drop (call $poll (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 8)))
      (drop (call $write (i32.const 2) (i32.const 64) (i32.const 1) (i32.const 12)))
      (br_if $on (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))
