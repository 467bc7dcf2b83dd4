use proptest::prelude::*;

use super::*;

/// That seeds are what the parsers have to do with: altered bytes begin near them.
#[test]
fn seeds_are_taken() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(seeds.len() > 1, "{}", target.name);
        for seed in seeds {
            (target.try_bytes)(&seed);
        }
    }
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

/// A seed with a few bytes changed, taken out or put in.
fn altered(target: &Target) -> impl Strategy<Value = Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), 0..3u8, any::<u8>()), 0..8);
    (prop::sample::select((target.seeds)()), changes).prop_map(|(mut bytes, changes)| {
        for (at, how, byte) in changes {
            let at = at.index(bytes.len().max(1));
            match how {
                0 if at < bytes.len() => bytes[at] = byte,
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_break_a_parser(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for target in TARGETS {
            (target.try_bytes)(&bytes);
        }
    }

    #[test]
    fn nor_do_altered_ones((target, bytes) in (0..TARGETS.len()).prop_flat_map(|at| (Just(at), altered(&TARGETS[at])))) {
        (TARGETS[target].try_bytes)(&bytes);
    }
}
