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

/// Bytes that parsers stumble over.
const SPIKY: &[&[u8]] = &[
    b"/",
    b"..",
    b".",
    b"%2e",
    b"%2f",
    b"%25",
    b"%",
    b"\\",
    b"#",
    b"?",
    b";",
    b"@",
    b":",
    b"[",
    b"]",
    b"\0",
    b"\r\n",
    b"\n",
    b"\t",
    b" ",
    b"xn--",
    b"127.1",
    b"0x",
    b"&",
    b"=",
    b"+",
    b"*",
    b"\xe3\x80\x82",
    b"\xff",
    b"//",
    b"localhost",
    b"\\u00",
    b"key",
    b"orch_ph_0",
];

/// Alters a seed: something replaced, something put in, something cut off or out.
fn altered(mut seed: Vec<u8>, at: usize, with: &[u8], how: u8) -> Vec<u8> {
    let at = at % (seed.len() + 1);
    match how {
        0 => seed.splice(at..(at + with.len()).min(seed.len()), with.iter().copied()).for_each(drop),
        1 => seed.splice(at..at, with.iter().copied()).for_each(drop),
        2 => seed.truncate(at),
        3 => drop(seed.drain(at..(at + with.len()).min(seed.len()))),
        _ => seed.extend_from_slice(with),
    }
    seed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the bytes are, nothing panics, and what is accepted holds what its target says.
    #[test]
    fn no_bytes_break_a_parser(
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
        changes in proptest::collection::vec((any::<u16>(), proptest::sample::select(SPIKY), 0_u8..5), 1..4),
    ) {
        for target in TARGETS {
            (target.try_bytes)(&bytes);
            for mut seed in (target.seeds)() {
                for (at, with, how) in &changes {
                    seed = altered(seed, usize::from(*at), with, *how);
                }
                (target.try_bytes)(&seed);
            }
        }
    }
}
