#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_gateway_fuzz::plant("retry_after"),
    |data: &[u8]| orch_gateway::fuzzing::retry_after(data)
);
