//! The words with which a person grants what is no host and no secret: `llm.server_tools:KIND`, `llm.account:PROVIDER`,
//! `search:PROVIDER`.
//!
//! They stand beside the texts of capabilities in what was granted for a run, and mean those that a manifest asks for.

use std::collections::BTreeSet;

use orch_manifests::{ServerTool, ServerTools, Slug};

use super::Capability;
use crate::failure::Failure;

/// Before the kinds of server tools.
const TOOLS: &str = "llm.server_tools:";
/// Before the providers whose accounts are used.
const ACCOUNT: &str = "llm.account:";

/// Before the providers that the web is searched with.
const SEARCH: &str = "search:";

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Tool(ServerTool),
    Account(Slug),
    Search(Slug),
}

impl Word {
    /// None when it is the text of a capability, or anything else.
    fn of(text: &str) -> Option<Self> {
        if let Some(kind) = text.strip_prefix(TOOLS) {
            return kind.parse().ok().map(Self::Tool);
        }
        if let Some(provider) = text.strip_prefix(ACCOUNT) {
            return provider.parse().ok().map(Self::Account);
        }
        text.strip_prefix(SEARCH)?.parse().ok().map(Self::Search)
    }

    fn means(&self, capability: &Capability) -> bool {
        match (self, capability) {
            (Self::Tool(kind), Capability::ServerTool(wanted)) => kind == wanted,
            (Self::Account(provider), Capability::Account(wanted)) => *provider == wanted.provider,
            (Self::Search(provider), Capability::Search(wanted)) => provider == wanted,
            _ => false,
        }
    }
}

/// Reads a value of `--grant`: each word of it alone.
///
/// # Errors
/// When it is none of the words.
pub fn grant_words(text: &str) -> Result<Vec<String>, Failure> {
    let wrong = |why: &str| {
        Failure::usage("bad_usage", format!("--grant {text:?}: {why}"))
            .hint(format!("--grant {TOOLS}KIND[,KIND], where KIND is one of {}", ServerTools::ALL))
            .hint(format!("--grant {ACCOUNT}PROVIDER"))
            .hint(format!("--grant {SEARCH}PROVIDER"))
            .hint("hosts are granted with --allow, secrets with --secret")
    };
    let found = [TOOLS, ACCOUNT, SEARCH].into_iter().find_map(|at| Some((at, text.strip_prefix(at)?)));
    let (prefix, list) = found.ok_or_else(|| wrong("it is none of what can be granted so"))?;
    let words = list.split(',').map(|word| {
        let word = format!("{prefix}{}", word.trim());
        Word::of(&word).map(|_| word).ok_or_else(|| wrong("it names what is not known"))
    });
    words.collect()
}

/// The flag that grants a capability for one run.
pub(super) fn flag_for(capability: &Capability) -> Option<String> {
    match capability {
        Capability::ServerTool(kind) => Some(format!("--grant {TOOLS}{kind}")),
        Capability::Account(want) => Some(format!("--grant {ACCOUNT}{}", want.provider)),
        Capability::Search(provider) => Some(format!("--grant {SEARCH}{provider}")),
        Capability::Egress(_) | Capability::Secret { .. } => None,
    }
}

/// Whether a capability was granted for a run, by its text or by a word for it.
pub(crate) fn is_said(capability: &Capability, granted: &BTreeSet<String>) -> bool {
    granted.contains(&capability.to_string())
        || granted.iter().filter_map(|text| Word::of(text)).any(|word| word.means(capability))
}

/// The kinds that were granted by words, for the agent that no manifest speaks for.
pub(crate) fn tools_said(granted: &BTreeSet<String>) -> ServerTools {
    let kind = |text: &String| match Word::of(text)? {
        Word::Tool(kind) => Some(kind),
        Word::Account(_) | Word::Search(_) => None,
    };
    granted.iter().filter_map(kind).collect()
}

/// Whether each word means something that is asked for: who writes a word means it.
///
/// # Errors
/// When one does not.
pub(crate) fn check_wanted(
    agent: &str,
    granted: &BTreeSet<String>,
    wanted: &[Capability],
) -> Result<(), Failure> {
    let unwanted = granted.iter().find(|text| {
        Word::of(text).is_some_and(|word| !wanted.iter().any(|capability| word.means(capability)))
    });
    let Some(text) = unwanted else { return Ok(()) };
    let field = text.split(':').next().unwrap_or_default();
    Err(Failure::usage("grant_not_wanted", format!("--grant {text}: {agent} does not ask for it"))
        .hint(format!("an agent has only what its manifest asks for under `{field}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_one_by_one() {
        assert_eq!(
            grant_words("llm.server_tools:search, image_url").expect("words"),
            ["llm.server_tools:search", "llm.server_tools:image_url"]
        );
        assert_eq!(grant_words("llm.account:openai").expect("a word"), ["llm.account:openai"]);
        assert_eq!(grant_words("search:tavily,exa").expect("words"), ["search:tavily", "search:exa"]);
        for bad in [
            "",
            "search",
            "search:",
            "llm.server_tools",
            "llm.server_tools:",
            "llm.server_tools:web",
            "llm.server_tools:search,",
            "llm.account:",
            "llm.account:No Such",
            "api.example.com",
        ] {
            let failure = grant_words(bad).expect_err(bad);
            assert_eq!((failure.code(), failure.hints().len()), ("bad_usage", 4), "{failure}");
        }
    }

    #[test]
    fn a_word_grants_what_it_means_and_nothing_else() {
        let tool = Capability::ServerTool;
        let said: BTreeSet<String> =
            ["llm.server_tools:search".to_owned(), tool(ServerTool::Code).to_string()].into();
        assert!(is_said(&tool(ServerTool::Search), &said) && is_said(&tool(ServerTool::Code), &said));
        assert!(!is_said(&tool(ServerTool::Fetch), &said));
        assert_eq!(tools_said(&said), ServerTool::Search.into());
        // The flag of a refusal grants it.
        for kind in ServerTool::ALL {
            let flag = flag_for(&tool(kind)).expect("a flag");
            let words = grant_words(flag.strip_prefix("--grant ").expect("a flag")).expect("words");
            assert!(is_said(&tool(kind), &words.into_iter().collect()), "{flag}");
        }
        assert!(check_wanted("acme/x", &said, &[tool(ServerTool::Search)]).is_ok());
        let failure = check_wanted("acme/x", &said, &[tool(ServerTool::Code)]).expect_err("not asked for");
        assert_eq!(failure.code(), "grant_not_wanted");
        assert!(failure.hints()[0].contains("`llm.server_tools`"), "{failure}");
    }
}
