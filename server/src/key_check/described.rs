//! What became of a key, in words that a person can act on.

use orch_gateway::check::Verdict;
use orch_manifests::{Auth, Provider};
use serde_json::{Value, json};

/// A verdict in words, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// One sentence, with the key's name.
    pub text: String,
    /// What to do; a command in it can be pasted.
    pub hints: Vec<String>,
}

/// Says what a check found out.
#[must_use]
pub fn describe(provider: &Provider, name: &str, verdict: &Verdict) -> Described {
    with(provider, name, verdict, None)
}

/// The same, where another command than that for secrets sets another key.
pub(super) fn with(provider: &Provider, name: &str, verdict: &Verdict, set: Option<&str>) -> Described {
    let setting = || set.map_or_else(|| setting(provider, name), str::to_owned);
    let whose = &provider.name;
    let because = verdict.why().map(|why| format!(" ({why})")).unwrap_or_default();
    let keys = |hints: &mut Vec<String>| {
        hints.extend(provider.pages.keys.as_ref().map(|page| format!("keys of {whose} are made at {page}")));
    };
    let mut hints = Vec::new();
    let text = match verdict {
        Verdict::Valid => format!("{whose} accepts {name}"),
        Verdict::Restricted { .. } => {
            keys(&mut hints);
            format!("{whose} accepts {name}, and restricts it{because}: it may still serve models")
        }
        Verdict::OutOfMoney { .. } => {
            hints.extend(
                provider.pages.billing.as_ref().map(|page| format!("pay in, or raise the limit, at {page}")),
            );
            format!("{whose} accepts {name}, and nothing is left to spend{because}")
        }
        Verdict::RateLimited { .. } => {
            format!("{whose} accepts {name}, and limits its rate just now{because}")
        }
        Verdict::Invalid { .. } => {
            hints.push(format!("set another one: {}", setting()));
            keys(&mut hints);
            format!("{whose} does not accept {name}{because}")
        }
        Verdict::Revoked { .. } => {
            match &provider.auth {
                Auth::TokenFile(tool) => {
                    hints.push(format!("sign in with {} again: {}", tool.name(), tool.command()));
                }
                _ => hints.push(format!("set a new one: {}", setting())),
            }
            keys(&mut hints);
            format!("{whose} says that {name} was taken back, has expired or is blocked{because}")
        }
        Verdict::NoAccess { .. } => {
            keys(&mut hints);
            format!("{whose} knows {name}, and does not let it do this{because}")
        }
        Verdict::NoModel { .. } => {
            format!("{whose} accepts {name}, and does not know the model of the check{because}")
        }
        Verdict::Unchecked { .. } => format!("{name} could not be checked at {whose}{because}"),
        Verdict::Offline { .. } => {
            if provider.local_only {
                hints.push(format!("start {whose}, or take it out of the plan"));
            }
            format!("{name} was not checked, since {whose} could not be reached{because}")
        }
    };
    Described { text, hints }
}

/// What a check found out, for programs.
#[must_use]
pub fn document(provider: &Provider, name: &str, verdict: &Verdict) -> Value {
    let Described { text, hints } = describe(provider, name, verdict);
    json!({
        "name": name, "provider": provider.slug.as_str(), "verdict": verdict.word(), "why": verdict.why(),
        "text": text, "hints": hints,
    })
}

/// The command that stores a key.
fn setting(provider: &Provider, name: &str) -> String {
    match &provider.auth {
        Auth::TokenFile(_) => format!("orch secrets set {name} --credential-file"),
        _ => format!("orch secrets set {name}"),
    }
}

/// What to do about a key that a provider rejected in a call: which command, and which page.
#[must_use]
pub fn rejected(provider: &Provider, name: &str) -> Vec<String> {
    describe(provider, name, &Verdict::Invalid { why: String::new() }).hints
}
