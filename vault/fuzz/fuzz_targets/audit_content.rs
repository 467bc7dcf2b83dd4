#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_vault_fuzz::plant("audit_content"),
    |data: &[u8]| orch_vault::fuzzing::audit_content(data)
);
