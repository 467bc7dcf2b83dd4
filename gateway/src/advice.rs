//! What a person can do about a failure: which key, where it came from, which command to run, which page to open.

use orch_manifests::{Auth, Catalog, Provider};

use crate::ir::Class;

/// A key that a provider did not serve.
#[derive(Debug, Clone, Copy)]
pub struct Blamed<'a> {
    /// The provider's slug.
    pub provider: &'a str,
    /// The model that was asked for.
    pub model: &'a str,
    /// The key's id, where there was one.
    pub credential: Option<&'a str>,
    /// Where the key came from, where that is known: `flag`, `env`, `vault`.
    pub source: Option<&'a str>,
}

/// What to do about a failure of this class; `None` where nothing can be done but to try again.
pub fn advice(blamed: &Blamed<'_>, class: Class) -> Option<String> {
    let catalog = Catalog::builtin();
    let provider = catalog.provider(blamed.provider);
    let whose = provider.map_or(blamed.provider, |provider| provider.name.as_str());
    let page = |page: Option<&String>| page.map(|page| format!(": {page}")).unwrap_or_default();
    let keys = page(provider.and_then(|provider| provider.pages.keys.as_ref()));
    let billing = page(provider.and_then(|provider| provider.pages.billing.as_ref()));
    let Key { name, from, replace, shares } = key(blamed, provider);
    Some(match class {
        Class::BadKey => format!("{whose} rejected {name}{from}; {replace}. Keys are made by {whose}{keys}"),
        Class::OutOfMoney => {
            format!(
                "the account behind {name}{from} has nothing left to spend; pay in, or raise its limit{billing}"
            )
        }
        Class::RateLimited => {
            let further = match shares {
                true => format!(", or share the calls with a further key: {}", further(&name)),
                false => String::new(),
            };
            format!("{whose} limits the rate of {name}{from}; wait{further}")
        }
        Class::NoAccess => format!(
            "the account behind {name}{from} may not use {}; ask {whose} for it, or choose another model{keys}",
            blamed.model
        ),
        Class::NoModel => format!(
            "{whose} has no model {} for {name}; check its spelling, or choose one of those that GET /v1/models lists",
            blamed.model
        ),
        Class::BadRequest
        | Class::ContextTooLong
        | Class::RefusedByFilter
        | Class::Overloaded
        | Class::Server
        | Class::Timeout
        | Class::Truncated
        | Class::Network => return None,
    })
}

/// A key, as it is spoken of.
struct Key {
    name: String,
    from: &'static str,
    replace: String,
    /// Whether further keys beside it share its calls: those of the workspace's vault do.
    shares: bool,
}

fn key(blamed: &Blamed<'_>, provider: Option<&Provider>) -> Key {
    let Some(id) = blamed.credential else {
        let replace = "set one with: orch secrets set".to_owned();
        return Key { name: "the request".to_owned(), from: "", replace, shares: false };
    };
    // Keys of members and of the operator have a place before their name.
    let (place, name) = id.rsplit_once('/').unwrap_or(("", id));
    let file = provider.is_some_and(|provider| matches!(provider.auth, Auth::TokenFile(_)));
    let (from, replace) = match (place, blamed.source) {
        ("platform", _) => (" (the operator's)", "the operator has to replace it".to_owned()),
        (place, _) if place.starts_with("own") => {
            (" (your own)", format!("set another one with: orch byok set {}", blamed.provider))
        }
        (_, Some("simulated")) => {
            (" (simulated)", "the scenario says so, and nothing is to be done".to_owned())
        }
        (_, Some("flag")) => (" (given with --key)", "give another one".to_owned()),
        (_, Some("env")) => (
            " (from the environment)",
            format!("change the variable {name}, or unset it so that the vault's is used"),
        ),
        (_, _) if file => (" (another tool's credential file)", "sign in with that tool again".to_owned()),
        (_, Some("vault")) => {
            (" (from the vault)", format!("set another one with: orch secrets rotate {name}"))
        }
        _ => ("", format!("set another one with: orch secrets set {name}")),
    };
    let shares = place.is_empty() && !file && matches!(blamed.source, None | Some("vault"));
    Key { name: name.to_owned(), from, replace, shares }
}

/// The name of the next key beside this one.
fn further(name: &str) -> String {
    let numbered =
        name.rsplit_once('_').and_then(|(first, number)| Some((first, number.parse::<u32>().ok()?)));
    let next = match numbered {
        Some((first, number)) => format!("{first}_{}", number.saturating_add(1)),
        None => format!("{name}_2"),
    };
    format!("orch secrets set {next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_that_a_person_can_mend_says_how() {
        let blamed = |source| Blamed {
            provider: "openai",
            model: "gpt-4o",
            credential: Some("OPENAI_API_KEY"),
            source: Some(source),
        };
        for (source, class, said) in [
            (
                "vault",
                Class::BadKey,
                "rejected OPENAI_API_KEY (from the vault); set another one with: orch secrets rotate OPENAI_API_KEY",
            ),
            ("env", Class::BadKey, "change the variable OPENAI_API_KEY"),
            ("flag", Class::BadKey, "(given with --key)"),
            ("vault", Class::BadKey, "https://platform.openai.com/api-keys"),
            ("vault", Class::OutOfMoney, "https://platform.openai.com/settings/organization/billing"),
            ("vault", Class::RateLimited, "orch secrets set OPENAI_API_KEY_2"),
            ("vault", Class::NoAccess, "may not use gpt-4o"),
            ("vault", Class::NoModel, "has no model gpt-4o"),
        ] {
            let advice = advice(&blamed(source), class).expect("advice");
            assert!(advice.contains(said), "{advice}");
        }
        assert!(advice(&blamed("vault"), Class::Server).is_none());
        let of = |id| Blamed { credential: Some(id), source: None, ..blamed("vault") };
        let own = advice(&of("own/ada/OPENAI_API_KEY"), Class::BadKey).expect("advice");
        assert!(
            own.contains("rejected OPENAI_API_KEY (your own); set another one with: orch byok set openai"),
            "{own}"
        );
        let platform = advice(&of("platform/OPENAI_API_KEY"), Class::BadKey).expect("advice");
        assert!(platform.contains("the operator has to replace it"), "{platform}");
        // Only the workspace's vault has further keys that share the calls.
        for alone in ["own/ada/OPENAI_API_KEY", "platform/OPENAI_API_KEY"] {
            let limited = advice(&of(alone), Class::RateLimited).expect("advice");
            assert!(limited.ends_with("; wait"), "{limited}");
        }
        for source in ["env", "flag"] {
            let limited = advice(&blamed(source), Class::RateLimited).expect("advice");
            assert!(limited.ends_with("; wait"), "{limited}");
        }
        let second = advice(&of("OPENAI_API_KEY_2"), Class::RateLimited).expect("advice");
        assert!(second.contains("OPENAI_API_KEY_3"), "{second}");
    }
}
