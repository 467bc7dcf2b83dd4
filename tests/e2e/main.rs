//! The end-to-end suite: the real binary in a home of its own, upstreams on loopback, and nothing else.
//!
//! Each file is a subject of the contract in the command line's documentation; [`stage`] is what they stand on.

mod accepted;
mod azure;
mod bad_input;
mod bedrock;
mod byok;
mod byok_members;
mod byok_requests;
mod byok_rotation;
mod checks;
mod clocks;
mod conformance;
mod copies;
mod crash;
mod credential_files;
mod crowd;
mod custody;
mod decisions;
mod digest;
mod egress;
mod embedded;
mod embeddings;
mod exit_codes;
mod fallback;
mod gemini;
mod hostile;
mod injection;
mod jail;
mod key_check;
mod keys;
mod lent;
mod lifecycle;
mod limits;
mod login;
mod members;
mod mounts;
mod owners;
mod placeholders;
mod places;
mod policy;
mod pressure;
mod providers;
mod proxy;
mod publishing;
mod questions;
mod quirks;
mod reach;
mod readme;
mod record;
mod records;
mod records_kept;
mod reload;
mod remote;
mod result;
mod scratch;
mod search;
mod secrecy;
mod secrets;
mod serve;
mod simulate;
mod stage;
mod streaming;
mod telemetry;
mod tenants;
mod tools;
mod vault;
mod waiting;
mod words;

/// A file that nobody declares is compiled by nobody, and its tests pass by not running.
#[test]
fn every_file_is_part_of_the_suite() {
    let here = orch_tests::guests::repository().join("tests/e2e");
    let mut folders = vec![(here.join("main.rs"), here)];
    while let Some((parent, folder)) = folders.pop() {
        let declared = std::fs::read_to_string(&parent).expect("the file of the folder");
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push((path.with_extension("rs"), path));
                continue;
            }
            let name = path.file_name().and_then(std::ffi::OsStr::to_str).expect("UTF-8");
            let module = name.strip_suffix(".rs").unwrap_or_else(|| panic!("{name} is not a source file"));
            assert!(
                path == parent || declared.contains(&format!("\nmod {module};\n")),
                "{} is not declared",
                path.display()
            );
        }
    }
}
