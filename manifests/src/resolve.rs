//! From a model's name to its provider, by tables and never by a guess.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::catalog::{Catalog, Dialect, Provider};
use crate::identity::{ModelName, Slug};
use crate::text::quote;

/// Most candidates that an error lists.
const CANDIDATES: usize = 5;
/// Longest name that is taken for that of a provider.
const LONGEST_NAME: usize = 64;

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRoute {
    /// The provider.
    pub provider: Slug,
    /// The name that the provider is asked for.
    pub model: String,
    /// What is to be spoken to it, where the name said so.
    pub dialect: Option<Dialect>,
}

/// A model name that leads to no provider, or to more than one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownModel {
    /// What was asked for.
    pub asked: ModelName,
    /// Why it leads nowhere.
    pub reason: Unresolved,
    /// What may have been meant, each as `provider/model`, likeliest first.
    pub candidates: Vec<String>,
}

/// Why a model name leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unresolved {
    /// No table knows it.
    Unknown,
    /// More than one provider has it.
    Ambiguous,
    /// It is known only as one of others' models that some providers host, each for itself.
    Hosted,
    /// It is shaped as the name of a local model, which has to be asked for by name.
    MaybeLocal,
    /// What stands before the slash is no provider.
    NoSuchProvider,
}

impl fmt::Display for UnknownModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let asked = quote(self.asked.as_str());
        match &self.reason {
            Unresolved::Unknown => write!(f, "no provider is known to have the model {asked}")?,
            Unresolved::Ambiguous => write!(f, "more than one provider has the model {asked}: name the one")?,
            Unresolved::Hosted => {
                write!(f, "the model {asked} is had from whoever hosts it: name the provider")?;
            }
            Unresolved::MaybeLocal => write!(
                f,
                "the model {asked} looks like one of a local Ollama, which is used only when it is named"
            )?,
            Unresolved::NoSuchProvider => {
                write!(
                    f,
                    "the model {asked} starts with no provider of the catalog: write `provider/model`"
                )?;
            }
        }
        if self.candidates.is_empty() {
            if self.reason == Unresolved::Unknown {
                f.write_str(": write `provider/model`")?;
            }
        } else {
            let candidates: Vec<_> = self.candidates.iter().map(|name| quote(name)).collect();
            write!(f, " (candidates: {})", candidates.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownModel {}

/// Finds the provider of a model.
///
/// 1. `provider/model` with a slug, alias or variant of the catalog: that provider, whatever it is asked for.
/// 2. A model id or alias of the catalog, or a pattern of the operator's. Providers that host the models of others claim
///    none: which of them is meant is for the caller to say.
/// 3. The first rule of `model-rules.yaml` that matches.
///
/// Steps 2 and 3 must agree on one provider. An alias becomes the id that the provider knows.
///
/// # Errors
/// When no provider or more than one is found; the error lists candidates.
pub fn resolve_model(catalog: &Catalog, name: &ModelName) -> Result<ModelRoute, UnknownModel> {
    let fail = |reason, candidates| Err(UnknownModel { asked: name.clone(), reason, candidates });
    if let (Some(prefix), model) = name.split()
        && let Some(provider) = catalog.provider(prefix)
    {
        return Ok(ModelRoute { dialect: provider.named_dialect(prefix), ..route(provider, model) });
    }

    let name = name.as_str();
    let rule = RULES.iter().find(|rule| rule.matches(name)).map(|rule| &rule.provider);
    let claims: BTreeSet<&Slug> = catalog
        .providers()
        .filter(|provider| {
            (!provider.hosts_others && provider.model(name).is_some())
                || provider.pattern_of(name).is_some()
                || rule.is_some_and(|rule| provider.goes_by(rule.as_str()))
        })
        .map(|provider| &provider.slug)
        .collect();
    let mut claims = claims.into_iter();
    match (claims.next(), claims.next()) {
        (Some(one), None) => {
            if let Some(provider) = catalog.provider(one.as_str()) {
                return Ok(route(provider, name));
            }
        }
        (Some(one), Some(two)) => {
            let all = [one, two].into_iter().chain(claims);
            return fail(Unresolved::Ambiguous, all.map(|slug| format!("{slug}/{name}")).collect());
        }
        (None, _) => {}
    }

    let hosts = catalog.providers().filter(|provider| provider.model(name).is_some());
    let hosted: Vec<String> = hosts.map(|provider| format!("{}/{name}", provider.slug)).collect();
    if !hosted.is_empty() {
        return fail(Unresolved::Hosted, hosted);
    }
    if name.contains('/') {
        return fail(Unresolved::NoSuchProvider, nearest_models(catalog, name));
    }
    if name.contains(':') && catalog.provider("ollama").is_some() {
        return fail(Unresolved::MaybeLocal, vec![format!("ollama/{name}")]);
    }
    fail(Unresolved::Unknown, nearest_models(catalog, name))
}

/// A model at a provider that was named beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelAt {
    /// Where it is.
    pub route: ModelRoute,
    /// Whether a table says that the provider has it. It may have it all the same.
    pub listed: bool,
}

/// A model that the provider which was named beside it does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{provider} does not have the model {}{}", quote(.asked.as_str()), offered(.candidates))]
pub struct NotThere {
    /// Which model.
    pub asked: ModelName,
    /// Who was named.
    pub provider: Slug,
    /// What may have been meant, each as `provider/model`, likeliest first.
    pub candidates: Vec<String>,
}

fn offered(candidates: &[String]) -> String {
    let names: Vec<String> = candidates.iter().map(|name| quote(name)).collect();
    if names.is_empty() { String::new() } else { format!(" (candidates: {})", names.join(", ")) }
}

/// Finds a model at a provider. `named` is what the provider was called: a variant's name asks for its dialect. What stands
/// before the model's slash may name the provider as well.
///
/// # Errors
/// When the provider has models of its own making alone, and this one is another's by any table.
pub fn resolve_at(
    catalog: &Catalog,
    provider: &Provider,
    named: &str,
    name: &ModelName,
) -> Result<ModelAt, NotThere> {
    let (prefix, model) = match name.split() {
        (Some(prefix), model) if provider.goes_by(prefix) => (Some(prefix), model),
        _ => (None, name.as_str()),
    };
    let ruled = |model: &str| RULES.iter().find(|rule| rule.matches(model)).map(|rule| &rule.provider);
    let listed = provider.model(model).is_some()
        || provider.pattern_of(model).is_some()
        || ruled(model).is_some_and(|owner| provider.goes_by(owner.as_str()));
    // Who has a family of models of its own serves that; who has none serves anybody's.
    let makes_its_own =
        !provider.hosts_others && RULES.iter().any(|rule| provider.goes_by(rule.provider.as_str()));
    if !listed && makes_its_own && prefix.is_none() {
        let another = match resolve_model(catalog, name) {
            Ok(route) => Some(vec![format!("{}/{}", route.provider, route.model)]),
            Err(UnknownModel { reason: Unresolved::Ambiguous | Unresolved::Hosted, candidates, .. }) => {
                Some(candidates)
            }
            Err(_) => None,
        };
        if let Some(elsewhere) = another {
            let near = nearest_at(provider, model).into_iter().chain(elsewhere).collect();
            let (asked, provider) = (name.clone(), provider.slug.clone());
            return Err(NotThere { asked, provider, candidates: near });
        }
    }
    let dialect = prefix.and_then(|prefix| provider.named_dialect(prefix)).or(provider.named_dialect(named));
    Ok(ModelAt { route: ModelRoute { dialect, ..route(provider, model) }, listed })
}

/// The provider's known models that are most like this name, each as `provider/model`.
#[must_use]
pub fn nearest_at(provider: &Provider, name: &str) -> Vec<String> {
    let bare = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(&bare, known);
    let mut scored: Vec<(f64, &str)> =
        provider.models.iter().map(|model| (likeness(&model.id), model.id.as_str())).collect();
    scored.sort_by(|(a, left), (b, right)| b.total_cmp(a).then_with(|| left.cmp(right)));
    scored.into_iter().take(CANDIDATES).map(|(_, id)| format!("{}/{id}", provider.slug)).collect()
}

/// The name among those of these providers that is most like this one, aliases and variants included; none where none is.
#[must_use]
pub fn nearest_provider<'c>(among: impl Iterator<Item = &'c Provider>, name: &str) -> Option<&'c str> {
    // A name is short; what is longer may be a key that somebody wrote in its place.
    if name.len() > LONGEST_NAME {
        return None;
    }
    let name = name.to_lowercase();
    let names = among.flat_map(|provider| {
        let variants = provider.variants.iter().map(|variant| &variant.slug);
        provider.aliases.iter().chain(variants).chain([&provider.slug])
    });
    names
        .map(|known| (strsim::normalized_damerau_levenshtein(&name, known.as_str()), known.as_str()))
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

fn route(provider: &Provider, model: &str) -> ModelRoute {
    let id = match (provider.model(model), &provider.quirks.model_prefix) {
        (Some(known), _) => known.id.clone(),
        (None, Some(prefix)) if !model.contains('/') => format!("{prefix}{model}"),
        (None, _) => model.to_owned(),
    };
    ModelRoute { provider: provider.slug.clone(), model: id, dialect: None }
}

/// The known names that are most like this one.
fn nearest_models(catalog: &Catalog, name: &str) -> Vec<String> {
    let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let bare = last(name);
    let mut scored: Vec<(f64, String)> = catalog
        .providers()
        // Whoever writes a vendor before the name may mean one of those who ask for it.
        .filter(|provider| !provider.hosts_others || name.contains('/'))
        .flat_map(|provider| {
            provider.models.iter().flat_map(move |model| {
                model.aliases.iter().chain([&model.id]).map(move |known| (provider, known))
            })
        })
        .map(|(provider, known)| {
            (
                strsim::normalized_damerau_levenshtein(&bare, &last(known)),
                format!("{}/{known}", provider.slug),
            )
        })
        .filter(|(score, _)| *score > 0.5)
        .collect();
    scored.sort_by(|(a, left), (b, right)| b.total_cmp(a).then_with(|| left.cmp(right)));
    scored.into_iter().take(CANDIDATES).map(|(_, name)| name).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    provider: Slug,
    models: Vec<String>,
    #[serde(default)]
    except: Vec<String>,
    #[serde(default)]
    lead: Vec<String>,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "the rules are compiled in, and a test reads them")]
    serde_json::from_str(include_str!(concat!(env!("OUT_DIR"), "/model-rules.json")))
        .expect("a test has read it")
});

impl Rule {
    fn matches(&self, name: &str) -> bool {
        let any = |patterns: &[String], name: &str| patterns.iter().any(|p| wildcard_matches(p, name));
        let led = self.lead.iter().filter_map(|lead| name.strip_prefix(lead.as_str()));
        std::iter::once(name).chain(led).any(|name| any(&self.models, name)) && !any(&self.except, name)
    }
}

impl Provider {
    /// The operator's pattern that covers a model's name; `None` where no pattern does.
    pub fn pattern_of(&self, name: &str) -> Option<&str> {
        self.model_patterns.iter().map(String::as_str).find(|pattern| wildcard_matches(pattern, name))
    }
}

/// Whether a pattern, in which `*` stands for any characters, covers the whole name.
fn wildcard_matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::OperatorProvider;

    fn resolve(catalog: &Catalog, name: &str) -> String {
        match resolve_model(catalog, &name.parse().unwrap()) {
            Ok(route) => format!("{} {}", route.provider, route.model),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn at_a_provider_that_is_named_its_models_are_found_and_another_s_are_not() {
        let lan = operator("lan", &["llama-*"]);
        let catalog = Catalog::builtin().with_operator(vec![lan]).unwrap();
        let at = |provider: &str, model: &str| {
            let found = catalog.provider(provider).unwrap();
            match resolve_at(&catalog, found, provider, &model.parse().unwrap()) {
                Ok(ModelAt { route, listed }) => format!("{} {} {listed}", route.provider, route.model),
                Err(error) => format!("{error}"),
            }
        };
        for (provider, model, expected) in [
            ("openai", "gpt-4o", "openai gpt-4o true"),
            ("openai", "openai/gpt-4o", "openai gpt-4o true"),
            ("google", "gemini-2.5-flash", "gemini gemini-2.5-flash true"),
            // By the rule of the family, and by nobody's table.
            ("openai", "gpt-99-not-listed", "openai gpt-99-not-listed true"),
            ("openai", "house-model", "openai house-model false"),
            ("openai", "openai/claude-of-our-own", "openai claude-of-our-own false"),
            ("lan", "llama-3", "lan llama-3 true"),
            // Who makes no models of its own may have anybody's.
            ("lan", "gpt-4o", "lan gpt-4o false"),
            ("lan", "openai/gpt-4o", "lan openai/gpt-4o false"),
        ] {
            assert_eq!(at(provider, model), expected, "{provider} {model}");
        }
        for (provider, model) in
            [("anthropic", "gpt-4o"), ("anthropic", "openai/gpt-4o"), ("openai", "claude-3-haiku")]
        {
            let said = at(provider, model);
            assert!(said.starts_with(&format!("{provider} does not have the model")), "{said}");
            assert!(said.contains("candidates: "), "{said}");
        }
        let variant = catalog.provider("openai-responses").unwrap();
        let named = resolve_at(&catalog, variant, "openai-responses", &"gpt-4o".parse().unwrap()).unwrap();
        assert_eq!(named.route.dialect, Some(Dialect::OpenAiResponses));
    }

    fn operator(slug: &str, models: &[&str]) -> OperatorProvider {
        OperatorProvider {
            slug: slug.parse().unwrap(),
            dialect: Some("openai".parse().unwrap()),
            base_url: Some("http://10.0.0.5:8000/v1".parse().unwrap()),
            env: Vec::new(),
            models: models.iter().map(|model| (*model).into()).collect(),
            free: true,
            prices: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn the_table() {
        let catalog = Catalog::builtin();
        for (name, expected) in [
            ("gpt-4o-mini", "openai gpt-4o-mini"),
            ("gpt-99-not-listed", "openai gpt-99-not-listed"),
            ("chatgpt-4o-latest", "openai chatgpt-4o-latest"),
            ("o1", "openai o1"),
            ("o3-mini", "openai o3-mini"),
            ("codex-mini-latest", "openai codex-mini-latest"),
            ("claude-3-haiku", "anthropic claude-3-haiku-20240307"),
            ("claude-3-haiku-20240307", "anthropic claude-3-haiku-20240307"),
            ("claude-sonnet-4", "anthropic claude-sonnet-4-20250514"),
            ("claude-99", "anthropic claude-99"),
            ("gemini-2.5-flash", "gemini gemini-2.5-flash"),
            ("gemma-3-27b-it", "gemini gemma-3-27b-it"),
            ("command-r-plus", "cohere command-r-plus"),
            ("command-a-03-2025", "cohere command-a-03-2025"),
            ("openai/gpt-4o-mini", "openai gpt-4o-mini"),
            ("google/gemini-2.5-pro", "gemini gemini-2.5-pro"),
            ("anthropic/claude-3-haiku", "anthropic claude-3-haiku-20240307"),
            ("openai/claude-3-haiku", "openai claude-3-haiku"),
            ("openai/anything/at:all", "openai anything/at:all"),
            ("ollama/llama3.2:3b", "ollama llama3.2:3b"),
            ("ollama/gpt-oss:20b", "ollama gpt-oss:20b"),
        ] {
            assert_eq!(resolve(&catalog, name), expected, "{name}");
        }
        let dialect = |name: &str| resolve_model(&catalog, &name.parse().unwrap()).unwrap().dialect;
        assert_eq!(resolve(&catalog, "openai-responses/gpt-4o-mini"), "openai gpt-4o-mini");
        assert_eq!(dialect("openai-responses/gpt-4o-mini"), Some(Dialect::OpenAiResponses));
        assert_eq!((dialect("openai/gpt-4o-mini"), dialect("gpt-4o-mini")), (None, None));
    }

    #[test]
    fn every_rule_of_the_table() {
        let catalog = Catalog::builtin();
        for (names, provider) in [
            (
                &["gpt-9", "chatgpt-x", "o1-pro", "o3", "o4-x", "o5", "codex-1", "text-embedding-9"][..],
                "openai",
            ),
            (&["claude-x"], "anthropic"),
            (&["gemini-9", "gemma-9"], "gemini"),
            (&["grok-4", "grok-4.3"], "xai"),
            (
                &[
                    "mistral-large-latest",
                    "ministral-9",
                    "codestral-9",
                    "magistral-9",
                    "devstral-9",
                    "pixtral-9",
                ],
                "mistral",
            ),
            (&["open-mistral-7b"], "mistral"),
            (&["command-x", "c4ai-aya"], "cohere"),
            (&["sonar", "sonar-pro"], "perplexity"),
            (&["deepseek-chat", "deepseek-reasoner", "deepseek-v4-pro"], "deepseek"),
            (&["kimi-k2", "moonshot-v1-8k"], "moonshot"),
            (&["glm-4.6"], "zai"),
            (&["accounts/fireworks/models/llama-v3p1-8b-instruct"], "fireworks"),
        ] {
            for name in names {
                let route = resolve_model(&catalog, &name.parse().unwrap()).unwrap();
                assert_eq!((route.provider.as_str(), route.model.as_str()), (provider, *name));
            }
        }
        assert!(RULES.iter().all(|rule| catalog.provider(rule.provider.as_str()).is_some()));
        for name in [
            "anthropic.claude-3-haiku-20240307-v1:0",
            "us.anthropic.claude-sonnet-4-20250514-v1:0",
            "eu.meta.llama3-2-3b-instruct-v1:0",
            "global.amazon.nova-2-lite-v1:0",
            "apac.mistral.x",
            "cohere.command-r-v1:0",
            "ai21.jamba-1-5-large-v1:0",
            "deepseek.r1-v1:0",
            "qwen.qwen3-32b-v1:0",
            "openai.gpt-oss-120b-1:0",
        ] {
            assert_eq!(resolve(&catalog, name), format!("aws {name}"));
        }
    }

    #[test]
    fn a_misspelt_provider_gets_the_nearest_name_and_a_key_gets_none() {
        let catalog = Catalog::builtin();
        let nearest = |name: &str| nearest_provider(catalog.everybody(), name);
        for (name, expected) in [
            ("opnai", Some("openai")),
            ("OpenAI", Some("openai")),
            ("antropic", Some("anthropic")),
            ("gogle", Some("google")),
            ("perplexty", Some("perplexity")),
            ("azure-response", Some("azure-responses")),
            ("tavely", Some("tavily")),
            ("", None),
            ("nobody-at-all", None),
            ("sk-proj-Qw7ZpLx4Vn8Rt2Ys6Hd1Kf9Bm3Gc5Jv0XaQw7ZpLx4Vn8Rt2Ys6Hd1Kf9Bm3Gc5J", None),
        ] {
            assert_eq!(nearest(name), expected, "{name}");
        }
        assert_eq!(nearest_provider(catalog.providers(), "tavely"), None);
    }

    #[test]
    fn nothing_is_guessed() {
        let catalog = Catalog::builtin();
        insta::assert_snapshot!(resolve(&catalog, "flan-t5"), @"no provider is known to have the model `flan-t5`: write `provider/model`");
        insta::assert_snapshot!(resolve(&catalog, "claud-3-haiku"), @"no provider is known to have the model `claud-3-haiku` (candidates: `anthropic/claude-3-haiku`, `anthropic/claude-3-5-haiku`, `anthropic/claude-haiku-4-5`, `anthropic/claude-3-5-haiku-latest`, `anthropic/claude-3-haiku-20240307`)");
        insta::assert_snapshot!(resolve(&catalog, "GPT-4o-mini"), @"no provider is known to have the model `GPT-4o-mini` (candidates: `openai/gpt-4o-mini`, `openai/gpt-4.1-mini`, `openai/gpt-5-mini`, `openai/gpt-5.4-mini`, `openai/gpt-4.1-nano`)");
        insta::assert_snapshot!(resolve(&catalog, "llama3.2:3b"), @"the model `llama3.2:3b` looks like one of a local Ollama, which is used only when it is named (candidates: `ollama/llama3.2:3b`)");
        insta::assert_snapshot!(resolve(&catalog, "gpt-oss:20b"), @"the model `gpt-oss:20b` looks like one of a local Ollama, which is used only when it is named (candidates: `ollama/gpt-oss:20b`)");
        insta::assert_snapshot!(resolve(&catalog, "gpt-oss-120b"), @"the model `gpt-oss-120b` is had from whoever hosts it: name the provider (candidates: `cerebras/gpt-oss-120b`, `fireworks/gpt-oss-120b`)");
        insta::assert_snapshot!(resolve(&catalog, "meta-llama/llama-3.3-70b-instruct"), @"the model `meta-llama/llama-3.3-70b-instruct` starts with no provider of the catalog: write `provider/model` (candidates: `meganova/meta-llama/Llama-3.3-70B-Instruct`, `nvidia/meta/llama-3.3-70b-instruct`, `nvidia/meta/llama-3.1-8b-instruct`, `deepinfra/meta-llama/Llama-3.3-70B-Instruct-Turbo`, `together/meta-llama/Llama-3.3-70B-Instruct-Turbo`)");
        insta::assert_snapshot!(resolve(&catalog, "meta-llama/llama-99-tiny"), @"the model `meta-llama/llama-99-tiny` starts with no provider of the catalog: write `provider/model`");
    }

    #[test]
    fn a_name_without_a_slash_is_one_of_fireworks_own() {
        let catalog = Catalog::builtin();
        for (name, model) in [
            ("fireworks/glm-5p2", "accounts/fireworks/models/glm-5p2"),
            ("fireworks/llama-v9", "accounts/fireworks/models/llama-v9"),
            ("fireworks/accounts/acme/models/own", "accounts/acme/models/own"),
        ] {
            assert_eq!(resolve(&catalog, name), format!("fireworks {model}"));
        }
    }

    #[test]
    fn the_operator_may_claim_models_but_not_silently_take_them() {
        let catalog = Catalog::builtin()
            .with_operator(vec![operator("lan-llm", &["llama-*", "falcon-*", "gpt-4o"])])
            .unwrap();
        assert_eq!(resolve(&catalog, "llama-3-70b"), "lan-llm llama-3-70b");
        assert_eq!(resolve(&catalog, "falcon-7b"), "lan-llm falcon-7b");
        assert_eq!(resolve(&catalog, "lan-llm/whatever"), "lan-llm whatever");
        assert_eq!(resolve(&catalog, "openai/gpt-4o"), "openai gpt-4o");
        insta::assert_snapshot!(resolve(&catalog, "gpt-4o"), @"more than one provider has the model `gpt-4o`: name the one (candidates: `lan-llm/gpt-4o`, `openai/gpt-4o`)");
        let two = catalog.with_operator(vec![operator("other", &["llama-3*"])]).unwrap();
        insta::assert_snapshot!(resolve(&two, "llama-3-70b"), @"more than one provider has the model `llama-3-70b`: name the one (candidates: `lan-llm/llama-3-70b`, `other/llama-3-70b`)");
    }

    #[test]
    fn wildcards_cover_the_whole_name() {
        for (pattern, name, expected) in [
            ("a*", "a", true),
            ("a*", "ab", true),
            ("a*", "ba", false),
            ("a", "ab", false),
            ("*", "", true),
            ("a*b", "ab", true),
            ("a*b", "aXb", true),
            ("a*b", "a", false),
            ("ab*ba", "aba", false),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
        ] {
            assert_eq!(wildcard_matches(pattern, name), expected, "{pattern} on {name}");
        }
    }
}
