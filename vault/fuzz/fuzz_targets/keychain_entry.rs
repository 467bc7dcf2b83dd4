#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_vault_fuzz::plant("keychain_entry"),
    |data: &[u8]| orch_vault::fuzzing::keychain_entry(data)
);
