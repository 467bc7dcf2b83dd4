#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_proxy_fuzz::plant("path"),
    |data: &[u8]| orch_proxy::fuzzing::path(data)
);
