;; A component that makes its host hold what belongs to files, as no wasip1 program can: those have one listing at a time, and
;; read what they open. Its conduct is the number of its arguments; the tests give them names: runner/tests/sandbox/files.rs.
;; It fails where its host says no, and traps where a file is not read when it asks. Without arguments it returns at once.
(component $guest
  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "get-arguments" (func (result (list string))))))
  (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
  (alias export $errors "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "input-stream" (type $input (sub resource)))
    (alias outer $guest $error (type $an-error))
    (export "error" (type $error (eq $an-error)))
    (type $failure (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failure)))
    (export "[method]input-stream.read"
      (func (param "self" (borrow $input)) (param "len" u64) (result (result (list u8) (error $stream-error)))))))
  (alias export $streams "input-stream" (type $input))
  (import "wasi:filesystem/types@0.2.0" (instance $types
    (alias outer $guest $input (type $an-input))
    (export "input-stream" (type $input (eq $an-input)))
    (export "descriptor" (type $descriptor (sub resource)))
    (export "directory-entry-stream" (type $listing (sub resource)))
    (type $codes (enum "access" "would-block" "already" "bad-descriptor" "busy" "deadlock" "quota" "exist"
      "file-too-large" "illegal-byte-sequence" "in-progress" "interrupted" "invalid" "io" "is-directory" "loop"
      "too-many-links" "message-size" "name-too-long" "no-device" "no-entry" "no-lock" "insufficient-memory"
      "insufficient-space" "not-directory" "not-empty" "not-recoverable" "unsupported" "no-tty" "no-such-device"
      "overflow" "not-permitted" "pipe" "read-only" "invalid-seek" "text-file-busy" "cross-device"))
    (export "error-code" (type $code (eq $codes)))
    (type $some-path-flags (flags "symlink-follow"))
    (export "path-flags" (type $path-flags (eq $some-path-flags)))
    (type $some-open-flags (flags "create" "directory" "exclusive" "truncate"))
    (export "open-flags" (type $open-flags (eq $some-open-flags)))
    (type $some-flags (flags "read" "write" "file-integrity-sync" "data-integrity-sync" "requested-write-sync"
      "mutate-directory"))
    (export "descriptor-flags" (type $flags (eq $some-flags)))
    (export "[method]descriptor.read-directory"
      (func (param "self" (borrow $descriptor)) (result (result (own $listing) (error $code)))))
    (export "[method]descriptor.open-at" (func (param "self" (borrow $descriptor)) (param "path-flags" $path-flags)
      (param "path" string) (param "open-flags" $open-flags) (param "flags" $flags)
      (result (result (own $descriptor) (error $code)))))
    (export "[method]descriptor.read-via-stream"
      (func (param "self" (borrow $descriptor)) (param "offset" u64) (result (result (own $input) (error $code)))))))
  (alias export $types "descriptor" (type $descriptor))
  (import "wasi:filesystem/preopens@0.2.0" (instance $preopens
    (alias outer $guest $descriptor (type $a-descriptor))
    (export "descriptor" (type $descriptor (eq $a-descriptor)))
    (export "get-directories" (func (result (list (tuple (own $descriptor) string)))))))

  (core module $libc
    (memory (export "memory") 4)
    ;; What a call is handed replaces what the one before was.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536)))
  (core instance $libc (instantiate $libc))
  (core module $lists
    (import "libc" "memory" (memory 4))
    (global $next (mut i32) (i32.const 4096))
    ;; Lists of lists take several pieces.
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (global.get $next)
      (global.set $next
        (i32.and (i32.add (i32.add (global.get $next) (local.get $size)) (i32.const 7)) (i32.const -8)))))
  (core instance $lists (instantiate $lists (with "libc" (instance $libc))))

  (core func $arguments (canon lower (func $environment "get-arguments")
    (memory $libc "memory") (realloc (func $lists "realloc"))))
  (core func $directories (canon lower (func $preopens "get-directories")
    (memory $libc "memory") (realloc (func $lists "realloc"))))
  (core func $read-directory (canon lower (func $types "[method]descriptor.read-directory") (memory $libc "memory")))
  (core func $open-at (canon lower (func $types "[method]descriptor.open-at") (memory $libc "memory")))
  (core func $read-via-stream (canon lower (func $types "[method]descriptor.read-via-stream") (memory $libc "memory")))
  (core func $read (canon lower (func $streams "[method]input-stream.read")
    (memory $libc "memory") (realloc (func $libc "realloc"))))

  (core module $main
    (import "libc" "memory" (memory 4))
    (import "host" "arguments" (func $arguments (param i32)))
    (import "host" "directories" (func $directories (param i32)))
    (import "host" "read-directory" (func $read_directory (param i32 i32)))
    (import "host" "open-at" (func $open_at (param i32 i32 i32 i32 i32 i32 i32)))
    (import "host" "read-via-stream" (func $read_via_stream (param i32 i64 i32)))
    (import "host" "read" (func $read (param i32 i64 i32)))
    (data (i32.const 64) "file")

    ;; The first folder that it was given.
    (func $folder (result i32)
      (call $directories (i32.const 0))
      (i32.load (i32.load (i32.const 0))))

    (func (export "run") (result i32) (local $conduct i32) (local $of i32) (local $left i32)
      (call $arguments (i32.const 0))
      (local.set $conduct (i32.load (i32.const 4)))
      (block $streams (block $listings (block $nothing
        (br_table $nothing $nothing $listings $streams (local.get $conduct)))
        (return (i32.const 0)))
        ;; 1: listings without end
        (local.set $of (call $folder))
        (loop $on
          (call $read_directory (local.get $of) (i32.const 16))
          (br_if $on (i32.eqz (i32.load8_u (i32.const 16)))))
        (return (i32.const 1)))
      ;; 2: begins to read `file` 900 times over, 65,536 bytes each time
      (call $open_at (call $folder) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 0) (i32.const 1) (i32.const 16))
      (if (i32.load8_u (i32.const 16)) (then (return (i32.const 1))))
      (local.set $of (i32.load (i32.const 20)))
      (local.set $left (i32.const 900))
      (loop $on
        (call $read_via_stream (local.get $of) (i64.const 0) (i32.const 16))
        (if (i32.load8_u (i32.const 16)) (then (return (i32.const 1))))
        (call $read (i32.load (i32.const 20)) (i64.const 65536) (i32.const 32))
        (if (i32.load8_u (i32.const 32)) (then (return (i32.const 1))))
        (if (i32.ne (i32.load (i32.const 40)) (i32.const 65536)) (then unreachable))
        (br_if $on (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (i32.const 0)))
  (core instance $main (instantiate $main
    (with "libc" (instance $libc))
    (with "host" (instance
      (export "arguments" (func $arguments))
      (export "directories" (func $directories))
      (export "read-directory" (func $read-directory))
      (export "open-at" (func $open-at))
      (export "read-via-stream" (func $read-via-stream))
      (export "read" (func $read))))))

  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
