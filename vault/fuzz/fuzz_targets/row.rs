#![no_main]

libfuzzer_sys::fuzz_target!(
    init: orch_vault_fuzz::plant("row"),
    |data: &[u8]| orch_vault::fuzzing::row(data)
);
