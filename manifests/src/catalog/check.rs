//! How a provider's key is proven without spending: which request is made, and how its answer is read.
//!
//! Providers differ in what proves a key. Some list their models to anybody, so that a list proves nothing; some answer
//! 403 to a key that is restricted and good; some say in a 200 that the key is blocked. The catalog says which is which,
//! and the gateway's `check` module asks.

use std::collections::BTreeMap;

use http::Method;

use super::operator::VERSIONS;
use super::{Auth, Dialect, InferencePath, Provider, Task};
use crate::endpoint::Endpoint;

/// How a key is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// No request proves a key and costs nothing, and why.
    Impossible(String),
    /// This request does.
    Asks(CheckRequest),
}

/// The request that proves a key, and what its answers mean beyond what every error of providers means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRequest {
    /// The method.
    pub method: Method,
    /// Where it goes.
    pub place: CheckPlace,
    /// The body, as JSON.
    pub body: Option<String>,
    /// What an answer means, by its status or by the code in it. Codes go before statuses.
    pub means: BTreeMap<String, Meaning>,
    /// Fields of a 200 of which a true one says that the key is blocked.
    pub blocked: Vec<String>,
    /// Whether the provider may give the same answer to anybody: then a made-up key is sent as well, and an answer that
    /// is good for both proves nothing.
    pub control: bool,
}

/// Where the request of a check goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckPlace {
    /// This path below the provider's base URL.
    Below(String),
    /// This path on the provider's host.
    On(String),
    /// This path on another host of the provider's. Where an operator moved the provider, its check stays with it.
    At(Endpoint, String),
}

/// What an answer says of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// It is good.
    Valid,
    /// It is good, and not for everything.
    Restricted,
    /// It is good, and nothing is left to spend.
    OutOfMoney,
    /// It is good, and was used too often just now.
    RateLimited,
    /// It is none.
    Invalid,
    /// It was one.
    Revoked,
}

impl Provider {
    /// Where the request of its check goes: the endpoint, and the path with its query.
    pub fn check_target(&self, check: &CheckRequest) -> (Endpoint, String) {
        match &check.place {
            CheckPlace::Below(path) => (self.endpoint.clone(), self.below_base(path)),
            CheckPlace::On(path) => (self.endpoint.clone(), path.clone()),
            CheckPlace::At(endpoint, path) if !self.pinned => (endpoint.clone(), path.clone()),
            CheckPlace::At(_, path) => (self.endpoint.clone(), self.below_base(path)),
        }
    }

    /// A path below the base URL. One that names its version is not put behind another: an operator's base URL may hold the
    /// version that the built-in one leaves to the paths.
    fn below_base(&self, path: &str) -> String {
        let base = self.endpoint.base_path.as_str();
        let named = VERSIONS.iter().any(|version| {
            path.strip_prefix(version).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
        });
        let above = VERSIONS.iter().find_map(|version| base.strip_suffix(version)).filter(|_| named);
        format!("{}{path}", above.unwrap_or(base))
    }
}

/// The check of an operator's own server of a dialect: a list of models, where dialects have one. Nobody promised that the
/// list is not everybody's, so a made-up key is sent as well.
pub(super) fn of_dialect(auth: &Auth, dialect: Dialect, inference: &[InferencePath]) -> Check {
    let unknown =
        || Check::Impossible("it is a server of the operator's own, whose check is not known".to_owned());
    if *auth == Auth::None {
        return Check::Impossible("it takes no key".to_owned());
    }
    let chats = |path: &&InferencePath| path.task == Task::Chat && path.dialect == dialect;
    let Some(chat) = inference.iter().find(chats) else { return unknown() };
    let ends = ["/chat/completions", "/responses", "/messages"];
    match ends.iter().find_map(|end| chat.path.strip_suffix(end)) {
        Some(base) => Check::Asks(CheckRequest {
            method: Method::GET,
            place: CheckPlace::On(format!("{base}/models")),
            body: None,
            means: BTreeMap::new(),
            blocked: Vec::new(),
            control: true,
        }),
        None => unknown(),
    }
}

/// Pages of a provider where a person can do something about a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages {
    /// Where keys are made and taken back.
    pub keys: Option<String>,
    /// Where money is paid in, and limits are raised.
    pub billing: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Catalog, OperatorProvider};

    #[test]
    fn a_check_stays_with_a_provider_that_an_operator_moved() {
        let builtin = Catalog::builtin();
        for (slug, base_url, path) in [
            ("openrouter", "https://127.0.0.1:8443", "/api/v1/key"),
            ("openrouter", "https://127.0.0.1:8443/proxy/v1", "/proxy/v1/key"),
            // The operator's base URL may hold the version, or leave it out as the built-in one does.
            ("anthropic", "https://127.0.0.1:8443", "/v1/models?limit=1"),
            ("anthropic", "https://127.0.0.1:8443/v1", "/v1/models?limit=1"),
            ("anthropic", "https://127.0.0.1:8443/proxy", "/proxy/v1/models?limit=1"),
            ("google", "https://127.0.0.1:8443", "/v1beta/models?pageSize=1"),
            ("google", "https://127.0.0.1:8443/v1beta", "/v1beta/models?pageSize=1"),
            ("cohere", "https://127.0.0.1:8443/v2", "/v1/models?page_size=1"),
            ("deepinfra", "https://127.0.0.1:8443", "/v1/me"),
        ] {
            let entry = OperatorProvider {
                slug: slug.parse().unwrap(),
                dialect: None,
                base_url: Some(base_url.parse().unwrap()),
                env: Vec::new(),
                models: Vec::new(),
                free: false,
                prices: BTreeMap::new(),
            };
            let moved = builtin.with_operator(vec![entry]).unwrap();
            let (endpoint, found) = target(&moved, slug).unwrap();
            assert_eq!(
                (endpoint.authority().as_str(), found.as_str()),
                ("127.0.0.1:8443", path),
                "{base_url}"
            );
        }
    }

    fn target(catalog: &Catalog, slug: &str) -> Option<(Endpoint, String)> {
        let provider = catalog.anybody(slug).unwrap();
        match &provider.check {
            Check::Asks(check) => Some(provider.check_target(check)),
            Check::Impossible(_) => None,
        }
    }

    /// As the providers' documentation has it, and not made from the catalog.
    #[test]
    fn each_check_goes_where_its_provider_documents_it() {
        let catalog = Catalog::builtin();
        let found: Vec<String> = catalog
            .everybody()
            .map(|provider| match (&provider.check, target(&catalog, provider.slug.as_str())) {
                (Check::Asks(check), Some((endpoint, path))) => {
                    let at = format!("{}://{}", endpoint.scheme, endpoint.authority());
                    format!("{} {} {at}{path}", provider.slug, check.method)
                }
                _ => format!("{} none", provider.slug),
            })
            .collect();
        let expected = "\
openai GET https://api.openai.com/v1/models
anthropic GET https://api.anthropic.com/v1/models?limit=1
gemini GET https://generativelanguage.googleapis.com/v1beta/models?pageSize=1
cohere GET https://api.cohere.com/v1/models?page_size=1
aws GET https://bedrock.us-east-1.amazonaws.com/foundation-models
azure GET https://azure-openai.invalid/openai/v1/models
azure-anthropic-foundry POST https://azure-foundry.invalid/anthropic/v1/messages
mistral GET https://api.mistral.ai/v1/models
xai GET https://api.x.ai/v1/api-key
deepseek GET https://api.deepseek.com/user/balance
moonshot GET https://api.moonshot.ai/v1/models
zai POST https://api.z.ai/api/paas/v4/tokenizer
perplexity POST https://api.perplexity.ai/chat/completions
groq GET https://api.groq.com/openai/v1/models
cerebras GET https://api.cerebras.ai/v1/models
sambanova POST https://api.sambanova.ai/v1/chat/completions
fireworks GET https://api.fireworks.ai/inference/v1/models
together GET https://api.together.xyz/v1/models
deepinfra GET https://api.deepinfra.com/v1/me
nvidia POST https://integrate.api.nvidia.com/v1/chat/completions
novita POST https://api.novita.ai/openai/v1/chat/completions
siliconflow GET https://api.siliconflow.com/v1/user/info
chutes GET https://api.chutes.ai/chutes/
gmicloud GET https://api.gmi-serving.com/v1/models
meganova GET https://api.meganova.ai/v1/models
akash GET https://api.akashml.com/v1/models
openrouter GET https://openrouter.ai/api/v1/key
vercel GET https://ai-gateway.vercel.sh/v1/credits
nano-gpt POST https://nano-gpt.com/api/check-balance
ollama GET http://localhost:11434/api/tags
qwen-code GET https://portal.qwen.ai/v1/models
gemini-cli POST https://cloudcode-pa.googleapis.com/v1internal:loadCodeAssist
claude-code GET https://api.anthropic.com/v1/models?limit=1
tavily GET https://api.tavily.com/usage
exa POST https://api.exa.ai/search
kagi none
valyu GET https://api.valyu.ai/v1/datasources";
        assert_eq!(found.join("\n"), expected);
    }

    #[test]
    fn every_provider_says_how_its_key_is_proven_or_why_it_is_not() {
        for provider in Catalog::builtin().providers() {
            match &provider.check {
                Check::Impossible(why) => assert!(why.len() > 10, "{}: {why}", provider.slug),
                Check::Asks(check) => {
                    let (_, path) = provider.check_target(check);
                    assert!(path.starts_with('/'), "{}: {path}", provider.slug);
                    // A check that spends would be an inference; only a model that is none may be asked for.
                    let inference = provider.inference.iter().any(|own| own.covers(&path));
                    let spends =
                        inference && check.body.as_ref().is_none_or(|body| !body.contains("invalid-model"));
                    assert!(!spends, "{}", provider.slug);
                    assert_eq!(check.method == Method::POST, check.body.is_some(), "{}", provider.slug);
                }
            }
            if provider.auth != Auth::None && !provider.local_only {
                assert!(provider.pages.keys.is_some(), "{}: no page where keys are made", provider.slug);
            }
        }
    }
}
