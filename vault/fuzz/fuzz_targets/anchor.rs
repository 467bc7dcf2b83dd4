#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_vault_fuzz::plant("anchor"),
    |data: &[u8]| orch_vault::fuzzing::anchor(data)
);
