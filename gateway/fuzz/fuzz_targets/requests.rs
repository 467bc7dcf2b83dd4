#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_gateway_fuzz::plant("requests"),
    |data: &[u8]| orch_gateway::fuzzing::requests(data)
);
