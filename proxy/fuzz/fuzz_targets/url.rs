#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_proxy_fuzz::plant("url"),
    |data: &[u8]| orch_proxy::fuzzing::url(data)
);
