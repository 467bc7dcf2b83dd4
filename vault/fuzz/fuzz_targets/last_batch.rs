#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_vault_fuzz::plant("last_batch"),
    |data: &[u8]| orch_vault::fuzzing::last_batch(data)
);
