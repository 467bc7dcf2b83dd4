#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_gateway_fuzz::plant("deltas"),
    |data: &[u8]| orch_gateway::fuzzing::deltas(data)
);
