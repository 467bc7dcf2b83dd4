//! The words with which a person grants what is no host and no secret: `llm.server_tools:KIND`, `search:PROVIDER`, and
//! `llm.account:PROVIDER:METHOD:PATH` for a path of an account.
//!
//! They stand beside the texts of capabilities in what was granted for a run. A word says all that it grants: what a
//! manifest asks for today may be more than what it asked for when somebody wrote the word.

use std::collections::BTreeSet;

use orch_manifests::{AccountWant, PathGlob, ServerTool, ServerTools, Slug};

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
    /// A provider, a method, and a path as the manifest writes it.
    Account(Slug, String, String),
    Search(Slug),
}

impl Word {
    /// None when it is the text of a capability, or anything else.
    fn of(text: &str) -> Option<Self> {
        if let Some(kind) = text.strip_prefix(TOOLS) {
            return kind.parse().ok().map(Self::Tool);
        }
        if let Some(account) = text.strip_prefix(ACCOUNT) {
            let mut parts = account.splitn(3, ':');
            let (provider, method, path) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
            let path: PathGlob = path.parse().ok()?;
            return is_method(method).then(|| Self::Account(provider, method.to_owned(), path.to_string()));
        }
        if let Some(provider) = text.strip_prefix(ACCOUNT) {
            return provider.parse().ok().map(Self::Account);
        }
        text.strip_prefix(SEARCH)?.parse().ok().map(Self::Search)
    }

    /// Whether it is about this capability, or about a part of it.
    fn means(&self, capability: &Capability) -> bool {
        match (self, capability) {
            (Self::Tool(kind), Capability::ServerTool(wanted)) => kind == wanted,
            (Self::Account(..), Capability::Account(wanted)) => words_of(wanted).any(|word| word == *self),
            (Self::Search(provider), Capability::Search(wanted)) => provider == wanted,
            _ => false,
        }
    }
}

/// A word for each method at each path that is asked for.
fn words_of(want: &AccountWant) -> impl Iterator<Item = Word> + '_ {
    want.methods.iter().flat_map(move |method| {
        want.paths
            .iter()
            .map(move |path| Word::Account(want.provider.clone(), method.to_string(), path.to_string()))
    })
}

fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// The parts of a list of `METHOD:PATH`. A path may hold a comma; what follows one is another part where it begins as such.
fn parts(list: &str) -> Vec<&str> {
    let begins = |text: &str| {
        text.trim_start()
            .split_once(':')
            .is_some_and(|(method, path)| is_method(method) && path.starts_with('/'))
    };
    let ends = list.match_indices(',').map(|(at, _)| at).filter(|at| begins(&list[at + 1..]));
    let mut from = 0;
    let mut parts = Vec::new();
    for end in ends.chain([list.len()]) {
        parts.push(list[from..end].trim());
        from = end + 1;
    }
    parts
}

/// Reads a value of `--grant`: each word of it alone.
///
/// # Errors
/// When it is none of the words.
pub fn grant_words(text: &str) -> Result<Vec<String>, Failure> {
    let wrong = |why: &str| {
        Failure::usage("bad_usage", format!("--grant {text:?}: {why}"))
            .hint(format!("--grant {TOOLS}KIND[,KIND], where KIND is one of {}", ServerTools::ALL))
            .hint(format!(
                "--grant '{ACCOUNT}PROVIDER:METHOD:PATH[,METHOD:PATH]', as the refusal of the run says it"
            ))
            .hint(format!("--grant {SEARCH}PROVIDER"))
            .hint("hosts are granted with --allow, secrets with --secret")
    };
    let known =
        |word: String| Word::of(&word).map(|_| word).ok_or_else(|| wrong("it names what is not known"));
    for prefix in [TOOLS, SEARCH] {
        if let Some(list) = text.strip_prefix(prefix) {
            return list.split(',').map(|word| known(format!("{prefix}{}", word.trim()))).collect();
        }
    }
    let Some(account) = text.strip_prefix(ACCOUNT) else {
        return Err(wrong("it is none of what can be granted so"));
    };
    let Some((provider, list)) = account.split_once(':') else {
        return Err(wrong("it says no paths, and an account is granted by the path"));
    };
    parts(list).into_iter().map(|part| known(format!("{ACCOUNT}{provider}:{part}"))).collect()
}

/// The flag that grants a capability for one run.
pub(super) fn flag_for(capability: &Capability) -> Option<String> {
    match capability {
        Capability::ServerTool(kind) => Some(format!("--grant {TOOLS}{kind}")),
        Capability::Account(want) => {
            let parts = words_of(want).filter_map(|word| match word {
                Word::Account(_, method, path) => Some(format!("{method}:{path}")),
                Word::Tool(_) | Word::Search(_) => None,
            });
            let parts: Vec<String> = parts.collect();
            Some(format!("--grant '{ACCOUNT}{}:{}'", want.provider, parts.join(",")))
        }
        Capability::Search(provider) => Some(format!("--grant {SEARCH}{provider}")),
        Capability::Egress(_) | Capability::Secret { .. } => None,
    }
}

/// Whether a capability was granted for a run, by its text or by words for all of it.
pub(crate) fn is_said(capability: &Capability, granted: &BTreeSet<String>) -> bool {
    let said = |wanted: &Word| granted.iter().filter_map(|text| Word::of(text)).any(|word| word == *wanted);
    granted.contains(&capability.to_string())
        || match capability {
            Capability::ServerTool(kind) => said(&Word::Tool(*kind)),
            Capability::Account(want) => words_of(want).all(|word| said(&word)),
            Capability::Search(provider) => said(&Word::Search(provider.clone())),
            Capability::Egress(_) | Capability::Secret { .. } => false,
        }
}

/// The kinds that were granted by words, for the agent that no manifest speaks for.
pub(crate) fn tools_said(granted: &BTreeSet<String>) -> ServerTools {
    let kind = |text: &String| match Word::of(text)? {
        Word::Tool(kind) => Some(kind),
        Word::Account(..) | Word::Search(_) => None,
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
        assert_eq!(
            grant_words("llm.account:openai:GET:/v1/files, DELETE:/v1/a,b:c,GET:/v1/files/*").expect("words"),
            [
                "llm.account:openai:GET:/v1/files",
                "llm.account:openai:DELETE:/v1/a,b:c",
                "llm.account:openai:GET:/v1/files/*"
            ]
        );
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
            "llm.account:openai",
            "llm.account:openai:",
            "llm.account:openai:GET",
            "llm.account:openai:/v1/files",
            "llm.account:openai:get:/v1/files",
            "llm.account:openai:GET:v1/files",
            "llm.account:No Such:GET:/v1/files",
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

    #[test]
    fn a_word_for_an_account_grants_what_it_says_and_not_what_a_manifest_asks_for_later() {
        let want = |methods: &[&str], paths: &[&str]| {
            Capability::Account(AccountWant {
                provider: "openai".parse().expect("a provider"),
                methods: methods.iter().map(|method| method.parse().expect("a method")).collect(),
                paths: paths.iter().map(|path| path.parse().expect("a path")).collect(),
            })
        };
        let shown = want(&["GET"], &["/v1/files", "/v1/files/*"]);
        let flag = flag_for(&shown).expect("a flag");
        assert_eq!(flag, "--grant 'llm.account:openai:GET:/v1/files,GET:/v1/files/*'");
        let word = flag.strip_prefix("--grant '").and_then(|flag| flag.strip_suffix('\'')).expect("a flag");
        let said: BTreeSet<String> = grant_words(word).expect("words").into_iter().collect();
        assert!(is_said(&shown, &said));
        assert!(check_wanted("acme/x", &said, std::slice::from_ref(&shown)).is_ok());
        for more in [
            want(&["GET", "DELETE"], &["/v1/files", "/v1/files/*"]),
            want(&["GET"], &["/v1/files", "/v1/files/*", "/v1/usage"]),
            want(&["GET"], &["/v1/files", "/v1/files/**"]),
            want(&["DELETE"], &["/v1/files", "/v1/files/*"]),
        ] {
            assert!(!is_said(&more, &said), "{more}");
        }
        let elsewhere = match &shown {
            Capability::Account(want) => Capability::Account(AccountWant {
                provider: "groq".parse().expect("a provider"),
                ..want.clone()
            }),
            other => other.clone(),
        };
        assert!(!is_said(&elsewhere, &said));
        // What is asked no more is not granted in silence.
        let less = want(&["GET"], &["/v1/files"]);
        assert!(is_said(&less, &said));
        let failure = check_wanted("acme/x", &said, &[less]).expect_err("not asked for");
        assert_eq!(failure.code(), "grant_not_wanted");
        assert!(failure.message().contains("GET:/v1/files/*"), "{failure}");
        // The text of before, which was for whatever was asked.
        assert!(!is_said(&shown, &["llm.account:openai".to_owned()].into()));
    }
}
