#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_gateway_fuzz::plant("event_stream"),
    |data: &[u8]| orch_gateway::fuzzing::event_stream(data)
);
