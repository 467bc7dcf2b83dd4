;; A component for what only components can do to their host. Its conduct is the number of its arguments.
;; The tests give them names: runner/tests/sandbox/hostile.rs. Without arguments it returns at once.
(component
  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "get-arguments" (func (result (list string))))))
  (import "wasi:http/types@0.2.0" (instance $http
    (type $either (variant (case "get") (case "head") (case "post") (case "put") (case "delete") (case "connect")
      (case "options") (case "trace") (case "patch") (case "other" string)))
    (export "method" (type $method (eq $either)))
    (export "fields" (type $fields (sub resource)))
    (export "outgoing-request" (type $request (sub resource)))
    (export "[constructor]fields" (func (result (own $fields))))
    (export "[constructor]outgoing-request" (func (param "headers" (own $fields)) (result (own $request))))
    (export "[method]outgoing-request.set-method"
      (func (param "self" (borrow $request)) (param "method" $method) (result (result))))))

  (core module $libc
    (memory (export "memory") 4)
    (global $next (mut i32) (i32.const 65536))
    (global $spin (export "spin") (mut i32) (i32.const 0))
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (if (global.get $spin) (then (loop $on (br $on))))
      (global.get $next)
      (global.set $next
        (i32.and (i32.add (i32.add (global.get $next) (local.get $size)) (i32.const 7)) (i32.const -8)))))
  (core instance $libc (instantiate $libc))

  (core func $arguments (canon lower (func $environment "get-arguments")
    (memory $libc "memory") (realloc (func $libc "realloc"))))
  (core func $new-fields (canon lower (func $http "[constructor]fields")))
  (core func $new-request (canon lower (func $http "[constructor]outgoing-request")))
  (core func $set-method (canon lower (func $http "[method]outgoing-request.set-method")
    (memory $libc "memory")))

  (core module $main
    (import "libc" "memory" (memory 4))
    (import "libc" "spin" (global $spin (mut i32)))
    (import "host" "arguments" (func $arguments (param i32)))
    (import "host" "new-fields" (func $new_fields (result i32)))
    (import "host" "new-request" (func $new_request (param i32) (result i32)))
    (import "host" "set-method" (func $set_method (param i32 i32 i32 i32) (result i32)))
    ;; Requests with methods of so many letters, without end.
    (func $giants (param $length i32)
      (drop (memory.grow (i32.add (i32.shr_u (local.get $length) (i32.const 16)) (i32.const 1))))
      (memory.fill (i32.const 131072) (i32.const 65) (local.get $length))
      (loop $on
        (drop (call $set_method
          (call $new_request (call $new_fields)) (i32.const 9) (i32.const 131072) (local.get $length)))
        (br $on)))
    (func (export "run") (result i32) (local $conduct i32)
      (call $arguments (i32.const 0))
      (local.set $conduct (i32.load (i32.const 4)))
      (block $longest (block $giants (block $realloc (block $fields (block $nothing
        (br_table $nothing $nothing $fields $realloc $giants $longest (local.get $conduct)))
        (return (i32.const 0)))
        ;; 1
        (loop $on (drop (call $new_fields)) (br $on)))
        ;; 2: spins inside of a call of the host
        (global.set $spin (i32.const 1))
        (call $arguments (i32.const 0))
        (return (i32.const 0)))
        ;; 3
        (call $giants (i32.const 1000000))
        (return (i32.const 0)))
      ;; 4: longer than anything that a call may hand over
      (call $giants (i32.const 40000000))
      (return (i32.const 0))))
  (core instance $main (instantiate $main
    (with "libc" (instance $libc))
    (with "host" (instance
      (export "arguments" (func $arguments))
      (export "new-fields" (func $new-fields))
      (export "new-request" (func $new-request))
      (export "set-method" (func $set-method))))))

  (func $run (result (result)) (canon lift (core func $main "run")))
  (instance $command (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $command)))
