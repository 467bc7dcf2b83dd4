use proptest::prelude::*;

use super::*;

/// That a seed is what the parser takes: altered bytes begin near it.
#[test]
fn seeds_are_accepted() {
    let seed = |name: &str| {
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        (target.seeds)().remove(0)
    };
    for target in TARGETS {
        for seed in (target.seeds)() {
            assert!(!seed.is_empty(), "{}", target.name);
            (target.try_bytes)(&seed);
        }
    }
    assert!(Header::parse(&seed("slots")).unwrap().open(&ring_key()).is_ok());
    assert!(Ring::decode(&seed("ring")).is_ok());
    assert!(Derivation::decode(&seed("derivation")).is_ok());
    assert!(keyfile::decode(&seed("key_file")).is_ok());
    assert!(keychain::load(&Entry(&seed("keychain_entry")), &VAULT, &SlotId([0; 16])).is_ok());
    assert!(Anchor::new(file_with(&seed("anchor"))).read(&VAULT, &golden::ring()).unwrap().is_some());
}

/// Every fuzz target is one of these, and the other way round.
#[test]
fn there_is_a_fuzz_target_for_each_and_no_other() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut there: Vec<String> =
        files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    there.sort();
    let mut expected: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    expected.sort_unstable();
    assert_eq!(there, expected);
}

/// Alters a seed: something replaced, something put in, something cut off.
fn altered(mut seed: Vec<u8>, at: usize, with: &[u8], how: u8) -> Vec<u8> {
    let at = at % (seed.len() + 1);
    match how {
        0 => seed.splice(at..(at + with.len()).min(seed.len()), with.iter().copied()).for_each(drop),
        1 => seed.splice(at..at, with.iter().copied()).for_each(drop),
        2 => seed.truncate(at),
        _ => seed.extend_from_slice(with),
    }
    seed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever the bytes are, they are an error or what was written; never a panic.
    #[test]
    fn no_bytes_break_a_parser(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), at in any::<u16>(), length in 0_usize..9, how in 0_u8..4
    ) {
        for target in TARGETS {
            (target.try_bytes)(&bytes);
            for seed in (target.seeds)() {
                let with = &bytes[..length.min(bytes.len())];
                (target.try_bytes)(&altered(seed, at.into(), with, how));
            }
        }
    }
}
