#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_proxy_fuzz::plant("client_hello"),
    |data: &[u8]| orch_proxy::fuzzing::client_hello(data)
);
