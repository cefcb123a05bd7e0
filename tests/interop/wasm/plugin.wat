;; A Proxy-Wasm plugin (ABI 0.2.1) in the text format of WebAssembly; wat2wasm makes the module.
;; Responses get the header x-plugin with the plugin's configuration; a request with the header x-wasm is answered with
;; 403 if its value begins with `d`, and traps if it begins with `t`.
(module
  (import "env" "proxy_get_buffer_bytes" (func $buffer (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_send_local_response" (func $answer (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 16) "x-wasm")
  (data (i32.const 32) "x-plugin")
  ;; 64: where a value is, 68: how long it is; 72 and 76: the same of the configuration
  (global $free (mut i32) (i32.const 4096))

  (func (export "proxy_abi_version_0_2_1"))

  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $free))
    ;; a plugin of a test: what is taken is never given back, but begins again before the memory ends
    (if (i32.gt_u (i32.add (local.get $at) (local.get $size)) (i32.const 200000))
      (then (local.set $at (i32.const 8192))))
    (global.set $free (i32.add (local.get $at) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8))))
    (local.get $at))

  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))

  (func (export "proxy_on_configure") (param i32) (param $size i32) (result i32)
    (drop (call $buffer (i32.const 7) (i32.const 0) (local.get $size) (i32.const 72) (i32.const 76)))
    (i32.const 1))

  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (local $first i32)
    (if (call $get (i32.const 0) (i32.const 16) (i32.const 6) (i32.const 64) (i32.const 68))
      (then (return (i32.const 0))))
    (local.set $first (i32.load8_u (i32.load (i32.const 64))))
    (if (i32.eq (local.get $first) (i32.const 116))
      (then (unreachable)))
    (if (i32.eq (local.get $first) (i32.const 100))
      (then
        (drop (call $answer (i32.const 403) (i32.const 16) (i32.const 6) (i32.const 16) (i32.const 6)
                            (i32.const 0) (i32.const 0) (i32.const -1)))
        (return (i32.const 1))))
    (i32.const 0))

  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (drop (call $add (i32.const 2) (i32.const 32) (i32.const 8) (i32.load (i32.const 72)) (i32.load (i32.const 76))))
    (i32.const 0))
)
