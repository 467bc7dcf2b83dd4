#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_vault_fuzz::plant("key_file"),
    |data: &[u8]| orch_vault::fuzzing::key_file(data)
);
