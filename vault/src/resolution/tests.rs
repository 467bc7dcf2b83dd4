use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::error::Tampering;

#[derive(Default)]
struct Fake {
    env: BTreeSet<String>,
    vault: BTreeMap<String, u64>,
    broken: bool,
    asked: RefCell<Vec<String>>,
}

impl Lookup for Fake {
    fn env(&self, name: &str) -> bool {
        self.env.contains(name)
    }

    fn vault(&self, name: &str) -> Result<Option<u64>, VaultError> {
        self.asked.borrow_mut().push(name.to_owned());
        if self.broken {
            return Err(Tampering::Root.into());
        }
        Ok(self.vault.get(name).copied())
    }
}

fn fake(env: &[&str], vault: &[(&str, u64)]) -> Fake {
    Fake {
        env: env.iter().map(|&name| name.to_owned()).collect(),
        vault: vault.iter().map(|&(name, version)| (name.to_owned(), version)).collect(),
        ..Fake::default()
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn place(source: Source, name: &str, version: Option<u64>) -> Candidate {
    Candidate { source, name: name.to_owned(), version }
}

const BARE: FlagName<'static> = FlagName { provider: None };

#[test]
fn each_source_in_turn_and_what_it_hides() {
    let gemini = names(&["GEMINI_API_KEY", "GOOGLE_API_KEY"]);
    let wanted = [Wanted { provider: "gemini", names: &gemini }];
    let lookup = fake(&["GOOGLE_API_KEY"], &[("GEMINI_API_KEY", 7)]);
    let env = place(Source::Env, "GOOGLE_API_KEY", None);
    let vault = place(Source::Vault, "GEMINI_API_KEY", Some(7));
    let key = |at: &Candidate, shadows: &[&Candidate]| KeyRef {
        provider: "gemini".into(),
        name: at.name.clone(),
        source: at.source,
        version: at.version,
        shadows: shadows.iter().map(|&shadow| shadow.clone()).collect(),
    };
    let flag = place(Source::Flag, "GEMINI_API_KEY", None);
    for (flags, lookup, expected) in [
        (&[BARE][..], &lookup, key(&flag, &[&env, &vault])),
        (&[], &lookup, key(&env, &[&vault])),
        (&[], &fake(&[], &[("GEMINI_API_KEY", 7)]), key(&vault, &[])),
    ] {
        let resolution = resolve_keys(&wanted, flags, lookup, Depth::All).unwrap();
        assert_eq!(resolution, Resolution { found: vec![expected], missing: vec![] });
    }
}

#[test]
fn nothing_found_lists_where_it_was_looked_for() {
    let gemini = names(&["GEMINI_API_KEY", "GOOGLE_API_KEY"]);
    let wanted = [Wanted { provider: "gemini", names: &gemini }];
    let resolution = resolve_keys(&wanted, &[], &fake(&[], &[]), Depth::First).unwrap();
    assert!(resolution.found.is_empty());
    let looked_for = vec![
        place(Source::Flag, "GEMINI_API_KEY", None),
        place(Source::Env, "GEMINI_API_KEY", None),
        place(Source::Env, "GOOGLE_API_KEY", None),
        place(Source::Vault, "GEMINI_API_KEY", None),
        place(Source::Vault, "GOOGLE_API_KEY", None),
    ];
    assert_eq!(resolution.missing, [Missing { provider: "gemini".into(), looked_for }]);
}

#[test]
fn a_run_does_not_ask_the_vault_once_it_has_a_key() {
    let openai = names(&["OPENAI_API_KEY"]);
    let wanted = [Wanted { provider: "openai", names: &openai }];
    let lookup = Fake { broken: true, ..fake(&["OPENAI_API_KEY"], &[]) };
    let resolution = resolve_keys(&wanted, &[], &lookup, Depth::First).unwrap();
    assert_eq!(resolution.found.first().map(|key| key.source), Some(Source::Env));
    assert!(lookup.asked.borrow().is_empty());

    let asked = resolve_keys(&wanted, &[], &lookup, Depth::All);
    assert!(matches!(asked, Err(ResolutionError::Vault(_))), "{asked:?}");
}

#[test]
fn a_broken_vault_is_not_an_empty_one() {
    let openai = names(&["OPENAI_API_KEY"]);
    let wanted = [Wanted { provider: "openai", names: &openai }];
    let lookup = Fake { broken: true, ..Fake::default() };
    let outcome = resolve_keys(&wanted, &[], &lookup, Depth::First);
    assert!(matches!(outcome, Err(ResolutionError::Vault(_))), "{outcome:?}");
}

#[test]
fn flags_that_make_no_sense() {
    let openai = names(&["OPENAI_API_KEY"]);
    let wanted = [Wanted { provider: "openai", names: &openai }];
    let openai_flag = FlagName { provider: Some("openai") };
    let other_flag = FlagName { provider: Some("anthropic") };
    let resolve = |wanted: &[Wanted<'_>], flags: &[FlagName<'_>]| {
        resolve_keys(wanted, flags, &Fake::default(), Depth::First).unwrap_err().to_string()
    };
    for (flags, text) in [
        (&[openai_flag, BARE][..], "two keys were given on the command line for openai"),
        (&[openai_flag, openai_flag], "two keys were given on the command line for openai"),
        (&[other_flag], "a key was given on the command line for anthropic, which this run does not use"),
    ] {
        assert_eq!(resolve(&wanted, flags), text);
    }
    assert_eq!(resolve(&[], &[BARE]), "a key was given on the command line, and this run uses none");
}

#[test]
fn a_provider_without_names_takes_a_flag_and_nothing_else() {
    let wanted = [Wanted { provider: "ollama", names: &[] }];
    let lookup = fake(&["ollama"], &[("ollama", 1)]);
    let resolution = resolve_keys(&wanted, &[], &lookup, Depth::All).unwrap();
    assert_eq!(resolution.missing.len(), 1);
    let resolution = resolve_keys(&wanted, &[BARE], &lookup, Depth::All).unwrap();
    assert_eq!(resolution.found.first().map(|key| key.source), Some(Source::Flag));
}

#[test]
fn empty_variables_are_not_keys() {
    for (value, counts) in [("", false), (" \t\n", false), ("x", true), (" x ", true)] {
        let layers = Layers::new(|name: &str| (name == "A").then(|| OsString::from(value)), None);
        assert_eq!(layers.env("A"), counts, "{value:?}");
        assert!(!layers.env("B"));
    }
}

/// Two providers with two names each; every name may be in the environment and in the vault, and each
/// provider may have a flag.
fn worlds() -> impl Strategy<Value = (Vec<bool>, Vec<bool>, [bool; 2])> {
    (
        proptest::collection::vec(any::<bool>(), 4),
        proptest::collection::vec(any::<bool>(), 4),
        any::<[bool; 2]>(),
    )
}

proptest! {
    #[test]
    fn the_order_is_flag_env_vault_and_providers_never_mix((env, vault, flags) in worlds()) {
        let all = names(&["A_1", "A_2", "B_1", "B_2"]);
        let present = |mask: &[bool]| all.iter().zip(mask).filter(|(_, on)| **on).map(|(n, _)| n.clone()).collect::<Vec<_>>();
        let lookup = Fake {
            env: present(&env).into_iter().collect(),
            vault: present(&vault).into_iter().map(|name| (name, 3)).collect(),
            ..Fake::default()
        };
        let providers = ["a", "b"];
        let (names_a, names_b) = all.split_at(2);
        let wanted = [Wanted { provider: "a", names: names_a }, Wanted { provider: "b", names: names_b }];
        let given: Vec<FlagName<'_>> = providers.iter().zip(flags).filter(|(_, on)| *on)
            .map(|(provider, _)| FlagName { provider: Some(provider) }).collect();
        let resolution = resolve_keys(&wanted, &given, &lookup, Depth::All).unwrap();
        let quick = resolve_keys(&wanted, &given, &lookup, Depth::First).unwrap();

        for (index, provider) in providers.iter().enumerate() {
            // The law, written down a second time: concatenate the sources, take the first.
            let own = all.get(index * 2..index * 2 + 2).unwrap();
            let mut expected = Vec::new();
            if flags.get(index) == Some(&true) {
                expected.push(place(Source::Flag, own.first().unwrap(), None));
            }
            expected.extend(own.iter().filter(|n| lookup.env.contains(*n)).map(|n| place(Source::Env, n, None)));
            expected.extend(own.iter().filter(|n| lookup.vault.contains_key(*n)).map(|n| place(Source::Vault, n, Some(3))));

            let found = resolution.found.iter().find(|key| key.provider == *provider);
            let got: Vec<Candidate> = found.into_iter().flat_map(|key| {
                std::iter::once(Candidate { source: key.source, name: key.name.clone(), version: key.version })
                    .chain(key.shadows.iter().cloned())
            }).collect();
            prop_assert_eq!(&got, &expected);
            prop_assert_eq!(resolution.missing.iter().any(|m| m.provider == *provider), expected.is_empty());

            // Asking less finds the same key.
            let quick = quick.found.iter().find(|key| key.provider == *provider);
            prop_assert_eq!(
                quick.map(|key| (key.source, &key.name, key.version)),
                found.map(|key| (key.source, &key.name, key.version))
            );
        }
    }
}
