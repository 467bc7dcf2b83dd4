#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_gateway_fuzz::plant("json"),
    |data: &[u8]| orch_gateway::fuzzing::json(data)
);
