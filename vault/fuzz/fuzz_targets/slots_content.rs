#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_vault_fuzz::plant("slots_content"),
    |data: &[u8]| orch_vault::fuzzing::slots_content(data)
);
