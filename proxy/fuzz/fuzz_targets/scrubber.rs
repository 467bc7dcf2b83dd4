#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_proxy_fuzz::plant("scrubber"),
    |data: &[u8]| orch_proxy::fuzzing::scrubber(data)
);
