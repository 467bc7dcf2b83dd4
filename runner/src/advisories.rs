//! Known vulnerabilities of wasmtime, and whether this build has one.
//!
//! The list is a file, taken from the RustSec advisory database: `advisories.json`, format 1. `as_of` is the day up to which
//! the database was read; each entry has the versions that are safe, as Cargo writes requirements.

use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::engine::WASMTIME_VERSION;

/// The format of the file that is understood.
const FORMAT: u32 = 1;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advisories {
    version: u32,
    as_of: String,
    advisories: Vec<Advisory>,
}

/// One known vulnerability.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advisory {
    /// Its number, such as `RUSTSEC-2026-0222`.
    pub id: String,
    /// The crate, whose version is wasmtime's.
    #[serde(rename = "crate")]
    pub package: String,
    /// What it is about.
    pub title: String,
    /// Versions that do not have it: any of these.
    safe: Vec<VersionReq>,
}

impl Advisories {
    /// Those that were known when this was built.
    ///
    /// # Panics
    /// Never: the file is part of the program, and a test reads it.
    #[must_use]
    pub fn known() -> Self {
        let known: Advisories =
            serde_json::from_str(include_str!("advisories.json")).expect("the file is read by a test");
        assert_eq!(known.version, FORMAT, "the file is of another format");
        known
    }

    /// The day up to which they were collected, as `YYYY-MM-DD`.
    #[must_use]
    pub fn as_of(&self) -> &str {
        &self.as_of
    }

    /// Those that the wasmtime in this build has.
    #[must_use]
    pub fn of_this_build(&self) -> Vec<&Advisory> {
        let version =
            WASMTIME_VERSION.parse().expect("the version is the lock file's, which a test compares");
        self.of(&version)
    }

    fn of(&self, version: &Version) -> Vec<&Advisory> {
        let has = |advisory: &&Advisory| !advisory.safe.iter().any(|safe| safe.matches(version));
        self.advisories.iter().filter(has).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: &str) -> Vec<String> {
        Advisories::known().of(&version.parse().unwrap()).iter().map(|known| known.id.clone()).collect()
    }

    #[test]
    fn the_file_is_in_order_and_says_which_versions_are_affected() {
        let known = Advisories::known();
        assert_eq!(known.as_of().len(), "2026-01-01".len());
        assert!(
            known.advisories.iter().all(|advisory| !advisory.safe.is_empty() && !advisory.title.is_empty())
        );
        assert!(known.advisories.is_sorted_by(|one, next| one.id < next.id));
        // 47.0.3 had fixed these, and not yet that.
        assert_eq!(of("47.0.3"), ["RUSTSEC-2026-0269"]);
        assert_eq!(of("47.0.2"), ["RUSTSEC-2026-0222", "RUSTSEC-2026-0223", "RUSTSEC-2026-0269"]);
        // Fixed for a long-term release, and never for one between.
        assert!(of("36.0.14").is_empty());
        assert!(of("40.0.4").len() > 5);
    }

    #[test]
    fn this_build_has_none() {
        assert!(Advisories::known().of_this_build().is_empty(), "wasmtime has to be updated");
    }
}
