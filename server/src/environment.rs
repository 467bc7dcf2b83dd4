//! The one place that reads environment variables.
//!
//! Every variable is declared in [`VARIABLES`], which also generates the documentation; key variables come from the
//! provider catalog. No base URL is ever read from the environment: a planted variable must not redirect a key.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use orch_vault::Secret;

/// A variable that `orch` reads.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub meaning: &'static str,
}

/// Every variable that `orch` reads, beside the key variables of the provider catalog.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: "ORCH_HOME",
        meaning: "Folder that holds configuration, data and cache, instead of the XDG folders.",
    },
    Variable { name: "HOME", meaning: "Where the XDG folders are when their own variables are not set." },
    Variable { name: "XDG_CONFIG_HOME", meaning: "Parent of the configuration folder `orch`." },
    Variable { name: "XDG_DATA_HOME", meaning: "Parent of the data folder `orch`." },
    Variable { name: "XDG_CACHE_HOME", meaning: "Parent of the cache folder `orch`." },
    Variable { name: "NO_COLOR", meaning: "When set and not empty, output has no colour." },
    Variable {
        name: "CI",
        meaning: "When set and not empty, nothing is asked on the terminal and no progress is drawn.",
    },
];

/// Where variables come from: the process, or a fixed set in tests.
#[derive(Debug)]
pub enum Environment {
    /// The environment of this process.
    Process,
    /// A fixed set.
    Fixed(BTreeMap<String, String>),
}

impl Environment {
    /// The value of a declared variable; empty counts as unset.
    ///
    /// # Panics
    /// When `name` is not in [`VARIABLES`]: an undeclared variable is a defect that any test of its caller finds.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<OsString> {
        assert!(VARIABLES.iter().any(|v| v.name == name), "{name} is not declared in VARIABLES");
        self.raw(name)
    }

    /// The same as a path; relative values are ignored, as the XDG specification asks.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// Whether a key variable of the catalog holds something.
    #[must_use]
    pub fn has_key(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// The key in a variable of the catalog, exactly as it stands but for one trailing newline.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<Secret> {
        use std::os::unix::ffi::OsStringExt;
        let mut bytes = self.raw(name)?.into_vec();
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        (!bytes.is_empty()).then(|| Secret::new(bytes))
    }

    fn raw(&self, name: &str) -> Option<OsString> {
        let value = match self {
            Self::Process => std::env::var_os(name),
            Self::Fixed(set) => set.get(name).map(OsString::from),
        };
        value.filter(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(pairs: &[(&str, &str)]) -> Environment {
        Environment::Fixed(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn empty_is_unset() {
        let env = fixed(&[("CI", ""), ("OPENAI_API_KEY", "")]);
        assert!(env.get("CI").is_none());
        assert!(!env.has_key("OPENAI_API_KEY"));
        assert!(env.key("OPENAI_API_KEY").is_none());
    }

    #[test]
    fn relative_folders_are_ignored() {
        assert!(fixed(&[("XDG_DATA_HOME", "data")]).path("XDG_DATA_HOME").is_none());
    }

    #[test]
    fn a_trailing_newline_is_not_part_of_a_key() {
        let key = fixed(&[("K", "abc\n")]).key("K").expect("a key");
        key.expose(|value| assert_eq!(value, b"abc"));
    }
}
