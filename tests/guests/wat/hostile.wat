;; A wasip1 command whose conduct is the number of its arguments, so that an attack and its neighbour share a worker.
;; The tests give them names: runner/tests/sandbox/hostile.rs. Without arguments it returns at once.
(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (memory (export "memory") 4)
  (table $table 1 funcref)
  (type $deeper (func (param i32) (result i32)))
  (elem (table $table) (i32.const 0) func $indirect)

  (func $recurse (param i32) (result i32)
    (i32.add (call $recurse (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
  (func $indirect (param i32) (result i32)
    (i32.add (call_indirect $table (type $deeper) (local.get 0) (i32.const 0)) (i32.const 1)))
  (func $grow (param i32)
    (if (i32.eq (memory.grow (local.get 0)) (i32.const -1)) (then unreachable)))

  ;; Writes `length` bytes at 1024 to `descriptor`, without end.
  (func $flood (param $descriptor i32) (param $length i32)
    (i32.store (i32.const 16) (i32.const 1024))
    (i32.store (i32.const 20) (local.get $length))
    (loop $on
      (drop (call $write (local.get $descriptor) (i32.const 16) (i32.const 1) (i32.const 8)))
      (br $on)))

  (func (export "_start") (local $conduct i32)
    (drop (call $args (i32.const 0) (i32.const 4)))
    (local.set $conduct (i32.load (i32.const 0)))
    (block $stdout (block $stderr (block $sleep (block $pollables (block $table_growth (block $memory_growth
    (block $fill (block $random_bytes (block $host_calls (block $indirect_recursion (block $recursion (block $spin
    (block $nothing
      (br_table $nothing $nothing $spin $recursion $indirect_recursion $host_calls $random_bytes $fill $memory_growth
        $table_growth $pollables $sleep $stderr $stdout (local.get $conduct)))
      (return))
      ;; 1
      (loop $on (br $on)))
      ;; 2
      (drop (call $recurse (i32.const 0)))
      (return))
      ;; 3
      (drop (call $indirect (i32.const 0)))
      (return))
      ;; 4
      (loop $on (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 8))) (br $on)))
      ;; 5: more at once than one call may ask for
      (call $grow (i32.const 200))
      (drop (call $random (i32.const 65536) (i32.const 12000000)))
      (return))
      ;; 6: instructions that take long
      (call $grow (i32.const 1000))
      (loop $on (memory.fill (i32.const 65536) (i32.const 7) (i32.const 60000000)) (br $on)))
      ;; 7
      (loop $on (call $grow (i32.const 1)) (br $on)))
      ;; 8
      (loop $on
        (if (i32.eq (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1)) (then unreachable))
        (br $on)))
      ;; 9: a pollable for each of 2,000 timers
      (call $grow (i32.const 4))
      (drop (call $poll (i32.const 131072) (i32.const 300000) (i32.const 2000) (i32.const 8)))
      (return))
      ;; 10: the longest timer that there is
      (i32.store (i32.const 144) (i32.const 1))
      (i64.store (i32.const 152) (i64.const -1))
      (drop (call $poll (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 8)))
      (return))
      ;; 11
      (call $flood (i32.const 2) (i32.const 200000))
      (return))
    ;; 12
    (call $flood (i32.const 1) (i32.const 200000))))
