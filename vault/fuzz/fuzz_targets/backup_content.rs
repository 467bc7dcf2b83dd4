#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_vault_fuzz::plant("backup_content"),
    |data: &[u8]| orch_vault::fuzzing::backup_content(data)
);
