//! What an operator adds to the catalog: providers of their own, and other addresses for built-in ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::Method;

use super::{
    Auth, Catalog, CatalogError, Dialect, InferencePath, Pages, Price, Provider, Quirks, Task, check,
};
use crate::endpoint::Endpoint;
use crate::identity::{Slug, is_variable_name};
use crate::resolve::nearest_provider;

/// An entry of `providers` in the operator's configuration.
///
/// With the slug or alias of a built-in provider it changes where that provider is reached; any other slug defines a
/// new one, which needs a dialect and a base URL. Either way the endpoint counts as pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorProvider {
    /// Which provider.
    pub slug: Slug,
    /// What it speaks; the built-in provider's own when absent.
    pub dialect: Option<Dialect>,
    /// Where it is. A base URL without a path keeps the built-in provider's path.
    pub base_url: Option<Endpoint>,
    /// Names of its key. None for a new provider means that it takes no key.
    pub env: Vec<String>,
    /// Models that it has, as names or patterns in which `*` stands for any characters.
    pub models: Vec<String>,
    /// Whether its models cost nothing. A cap on money refuses models with an unknown price.
    pub free: bool,
    /// What models of it cost, in the place of what the catalog says, and of models that it does not list.
    pub prices: BTreeMap<String, Price>,
}

/// How the versions of providers' APIs end a base URL.
pub(super) const VERSIONS: [&str; 3] = ["/v1", "/v1beta", "/v2"];

pub(super) fn extend(catalog: &Catalog, entries: Vec<OperatorProvider>) -> Result<Catalog, CatalogError> {
    let mut providers = catalog.providers.clone();
    let mut seen = BTreeSet::new();
    for mut entry in entries {
        check(&entry)?;
        let prices = std::mem::take(&mut entry.prices);
        if let Some(other) = catalog.others.iter().find(|other| other.goes_by(entry.slug.as_str())) {
            return Err(CatalogError::NoModels(other.slug.clone()));
        }
        let at = providers.iter().position(|provider| provider.goes_by(entry.slug.as_str()));
        let mut provider = match at {
            Some(at) => redirect(&providers[at], entry)?,
            None => define(entry, catalog)?,
        };
        provider.prices = Arc::new(by_id(&provider, prices)?);
        if !seen.insert(provider.slug.clone()) {
            return Err(CatalogError::Repeated(provider.slug));
        }
        for other in providers.iter().chain(&catalog.others).filter(|other| other.slug != provider.slug) {
            // A part of another's key, such as `AWS_SECRET_ACCESS_KEY`, is as secret as a whole one.
            let part = |env: &String| other.env_parts.iter().any(|part| part.names.contains(env));
            if let Some(env) = provider.env.iter().find(|env| other.takes_key(env) || part(env)) {
                return Err(CatalogError::KeyOfAnother {
                    env: env.clone(),
                    owner: other.slug.clone(),
                    provider: provider.slug,
                });
            }
        }
        match at {
            Some(at) => providers[at] = Arc::new(provider),
            None => providers.push(Arc::new(provider)),
        }
    }
    Ok(Catalog { providers, others: catalog.others.clone() })
}

fn check(entry: &OperatorProvider) -> Result<(), CatalogError> {
    let provider = || entry.slug.clone();
    if let Some(env) = entry.env.iter().find(|env| !is_variable_name(env) || env.starts_with("ORCH_")) {
        return Err(CatalogError::KeyName { provider: provider(), env: env.clone() });
    }
    let well_formed = |pattern: &String| {
        !pattern.is_empty()
            && pattern.len() <= 256
            && pattern.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:/@+~-*".contains(&b))
    };
    let priced = entry.prices.keys().find(|name| !well_formed(name) || name.contains('*'));
    match entry.models.iter().find(|pattern| !well_formed(pattern)).or(priced) {
        Some(pattern) => Err(CatalogError::ModelPattern { provider: provider(), pattern: pattern.clone() }),
        None => Ok(()),
    }
}

/// The prices by the names under which they are looked up: a model that is known may go by others.
fn by_id(
    provider: &Provider,
    prices: BTreeMap<String, Price>,
) -> Result<BTreeMap<String, Price>, CatalogError> {
    let mut by_id = BTreeMap::new();
    for (name, price) in prices {
        let id = provider.model(&name).map_or_else(|| name.clone(), |known| known.id.clone());
        if by_id.insert(id, price).is_some() {
            return Err(CatalogError::PricedTwice { provider: provider.slug.clone(), model: name });
        }
    }
    Ok(by_id)
}

fn define(entry: OperatorProvider, catalog: &Catalog) -> Result<Provider, CatalogError> {
    let missing = |field| {
        let near = nearest_provider(catalog.providers(), entry.slug.as_str()).map(str::to_owned);
        CatalogError::Missing { provider: entry.slug.clone(), field, near }
    };
    let dialect = entry.dialect.ok_or_else(|| missing("dialect"))?;
    let endpoint = entry.base_url.clone().ok_or_else(|| missing("base_url"))?;
    let auth = if entry.env.is_empty() { Auth::None } else { dialect_auth(dialect) };
    let inference = inference(&endpoint, dialect);
    Ok(Provider {
        check: check::of_dialect(&auth, dialect, &inference),
        pages: Pages::default(),
        env_parts: Vec::new(),
        deployment: None,
        project: None,
        name: entry.slug.to_string(),
        slug: entry.slug,
        aliases: Vec::new(),
        variants: Vec::new(),
        inference,
        endpoint,
        region: None,
        hosts: Vec::new(),
        query: None,
        dialect,
        auth,
        headers: dialect_headers(dialect),
        env: entry.env,
        key_pattern: None,
        models: Arc::default(),
        prices: Arc::default(),
        calls: Vec::new(),
        model_patterns: entry.models,
        local_only: false,
        pinned: true,
        free: entry.free,
        hosts_others: false,
        quirks: dialect_quirks(dialect),
    })
}

fn redirect(builtin: &Provider, entry: OperatorProvider) -> Result<Provider, CatalogError> {
    let mut provider = builtin.clone();
    let dialect = entry.dialect.or(builtin.named_dialect(entry.slug.as_str()));
    if let Some(dialect) = dialect.filter(|dialect| *dialect != provider.dialect) {
        provider.dialect = dialect;
        provider.headers = dialect_headers(dialect);
        provider.variants.retain(|variant| variant.dialect == dialect);
        if builtin.speaks(dialect) {
            // One of its own: where its key goes, its ways and its check stay what they are.
            provider.quirks.max_tokens_required |= dialect_quirks(dialect).max_tokens_required;
            provider.inference.retain(|path| path.dialect == dialect);
            if let Some(mut endpoint) = entry.base_url {
                if endpoint.base_path.is_empty() {
                    endpoint.base_path.clone_from(&builtin.endpoint.base_path);
                }
                provider.inference = inference(&endpoint, dialect);
                provider.endpoint = endpoint;
                provider.pinned = true;
            }
        } else {
            // Another dialect is another API, so the built-in path and header mean nothing there.
            let elsewhere = || CatalogError::Elsewhere(builtin.slug.clone());
            provider.endpoint = entry.base_url.ok_or_else(elsewhere)?;
            provider.pinned = true;
            provider.quirks = dialect_quirks(dialect);
            if provider.auth != Auth::None {
                provider.auth = dialect_auth(dialect);
            }
            provider.inference = inference(&provider.endpoint, dialect);
            provider.check = check::of_dialect(&provider.auth, dialect, &provider.inference);
        }
    } else if let Some(mut endpoint) = entry.base_url {
        if endpoint.base_path.is_empty() {
            endpoint.base_path.clone_from(&provider.endpoint.base_path);
        }
        // The provider's own dialect first, then those that it speaks as well, unless the operator named one.
        let further = builtin.inference.iter().map(|path| path.dialect).filter(|_| dialect.is_none());
        let mut spoken = vec![provider.dialect];
        for dialect in further {
            if !spoken.contains(&dialect) {
                spoken.push(dialect);
            }
        }
        provider.variants.retain(|variant| spoken.contains(&variant.dialect));
        provider.inference = match builtin.quirks.code_assist {
            // No dialect's paths, and below no path of its own.
            true => below(&endpoint, &builtin.inference),
            false => spoken.iter().flat_map(|dialect| inference(&endpoint, *dialect)).collect(),
        };
        provider.endpoint = endpoint;
        provider.pinned = true;
    }
    if !entry.env.is_empty() {
        provider.env = entry.env;
        // They are parts of the key that went by the other names.
        provider.env_parts.clear();
        if provider.auth == Auth::None {
            provider.auth = Auth::Bearer;
        }
    }
    provider.model_patterns = entry.models;
    provider.free |= entry.free;
    Ok(provider)
}

/// The inference requests of a dialect below a base URL, by the convention of the dialect's client libraries: OpenAI's
/// base URL holds the version, those of Anthropic, Google and Cohere do not. One of theirs that does hold it is not given
/// it twice.
fn inference(endpoint: &Endpoint, dialect: Dialect) -> Vec<InferencePath> {
    let versioned = VERSIONS.iter().any(|version| endpoint.base_path.ends_with(version));
    let paths: &[&str] = match (dialect, versioned) {
        (Dialect::OpenAiChat, _) => &["/chat/completions", "/embeddings"],
        (Dialect::OpenAiResponses, _) => &["/responses"],
        (Dialect::AnthropicMessages, true) => &["/messages"],
        (Dialect::AnthropicMessages, false) => &["/v1/messages"],
        (Dialect::GeminiGenerateContent, true) => &[
            "/models/*:generateContent",
            "/models/*:streamGenerateContent",
            "/models/*:embedContent",
            "/models/*:batchEmbedContents",
        ],
        (Dialect::GeminiGenerateContent, false) => &[
            "/v1beta/models/*:generateContent",
            "/v1beta/models/*:streamGenerateContent",
            "/v1beta/models/*:embedContent",
            "/v1beta/models/*:batchEmbedContents",
        ],
        (Dialect::BedrockConverse, _) => {
            &["/model/*/converse", "/model/*/converse-stream", "/model/*/invoke"]
        }
        (Dialect::OllamaChat, _) => return ollama(endpoint),
        (Dialect::CohereChat, true) => &["/chat", "/embed"],
        (Dialect::CohereChat, false) => &["/v2/chat", "/v2/embed"],
    };
    paths.iter().map(|path| request(endpoint.path(path), dialect)).collect()
}

/// The same requests at another place.
fn below(endpoint: &Endpoint, paths: &[InferencePath]) -> Vec<InferencePath> {
    let moved = |path: &InferencePath| InferencePath { path: endpoint.path(&path.path), ..path.clone() };
    paths.iter().map(moved).collect()
}

fn request(path: String, dialect: Dialect) -> InferencePath {
    let embeds = ["/embeddings", "/embed", ":embedContent", ":batchEmbedContents", "/invoke"];
    let task = match embeds.iter().any(|end| path.ends_with(end)) {
        true => Task::Embeddings,
        false => Task::Chat,
    };
    // What an operator pinned is no guest's to address, so that no model's request is one by its path.
    let models = InferencePath::only(dialect, task, &[]);
    InferencePath { method: Method::POST, path, dialect, task, dated: None, models }
}

/// Ollama's documentation has `/api` in the base URL and its clients do not; `/v1` is where it speaks OpenAI's dialect, beside
/// its own.
fn ollama(endpoint: &Endpoint) -> Vec<InferencePath> {
    let base = &endpoint.base_path;
    let base = base.strip_suffix("/api").or_else(|| base.strip_suffix("/v1")).unwrap_or(base);
    let below = |path: &str| request(format!("{base}{path}"), Dialect::OllamaChat);
    vec![below("/api/chat"), below("/api/embed")]
}

fn dialect_auth(dialect: Dialect) -> Auth {
    match dialect {
        Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::CohereChat | Dialect::OllamaChat => {
            Auth::Bearer
        }
        Dialect::AnthropicMessages => Auth::Header(http::HeaderName::from_static("x-api-key")),
        Dialect::GeminiGenerateContent => Auth::Header(http::HeaderName::from_static("x-goog-api-key")),
        Dialect::BedrockConverse => Auth::Aws,
    }
}

fn dialect_headers(dialect: Dialect) -> Vec<(http::HeaderName, http::HeaderValue)> {
    match dialect {
        Dialect::OpenAiChat
        | Dialect::OpenAiResponses
        | Dialect::GeminiGenerateContent
        | Dialect::CohereChat
        | Dialect::OllamaChat
        | Dialect::BedrockConverse => Vec::new(),
        Dialect::AnthropicMessages => vec![(
            http::HeaderName::from_static("anthropic-version"),
            http::HeaderValue::from_static("2023-06-01"),
        )],
    }
}

fn dialect_quirks(dialect: Dialect) -> Quirks {
    match dialect {
        Dialect::OpenAiChat => Quirks { stream_options: true, ..Quirks::default() },
        Dialect::AnthropicMessages => Quirks { max_tokens_required: true, ..Quirks::default() },
        Dialect::OpenAiResponses
        | Dialect::GeminiGenerateContent
        | Dialect::CohereChat
        | Dialect::OllamaChat
        | Dialect::BedrockConverse => Quirks::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(slug: &str, base_url: &str) -> OperatorProvider {
        OperatorProvider {
            slug: slug.parse().unwrap(),
            dialect: None,
            base_url: Some(base_url.parse().unwrap()),
            env: Vec::new(),
            models: Vec::new(),
            free: false,
            prices: BTreeMap::new(),
        }
    }

    fn with(entries: Vec<OperatorProvider>) -> Result<Catalog, CatalogError> {
        Catalog::builtin().with_operator(entries)
    }

    #[test]
    fn a_built_in_provider_can_be_reached_elsewhere() {
        for (slug, base_url, path) in [
            ("openai", "https://127.0.0.1:8443/v1", "/v1/chat/completions"),
            ("openai", "https://127.0.0.1:8443", "/v1/chat/completions"),
            ("openai", "https://127.0.0.1:8443/proxy/openai", "/proxy/openai/chat/completions"),
            ("anthropic", "https://127.0.0.1:8443", "/v1/messages"),
            ("anthropic", "https://127.0.0.1:8443/v1", "/v1/messages"),
            ("ollama", "http://10.0.0.5:11434", "/v1/chat/completions"),
            ("google", "https://127.0.0.1:8443", "/v1beta/models/*:generateContent"),
            ("google", "https://127.0.0.1:8443/v1beta", "/v1beta/models/*:generateContent"),
            ("google", "https://127.0.0.1:8443/proxy", "/proxy/v1beta/models/*:generateContent"),
            ("cohere", "https://127.0.0.1:8443", "/v2/chat"),
            ("cohere", "https://127.0.0.1:8443/v2", "/v2/chat"),
        ] {
            let catalog = with(vec![entry(slug, base_url)]).unwrap();
            let provider = catalog.provider(slug).unwrap();
            assert!(provider.pinned);
            assert_eq!(provider.inference_path(false).unwrap().path, path, "{slug} at {base_url}");
            assert_eq!(provider.env, Catalog::builtin().provider(slug).unwrap().env);
            assert_eq!(catalog.providers().count(), Catalog::builtin().providers().count());
        }
    }

    #[test]
    fn a_provider_of_two_dialects_keeps_both_unless_the_operator_names_one() {
        let paths = |entry: OperatorProvider| {
            let catalog = with(vec![entry]).unwrap();
            let openai = catalog.provider("openai").unwrap();
            let spoken =
                openai.inference.iter().map(|i| format!("{} {}", i.dialect, i.path)).collect::<Vec<_>>();
            (openai.dialect, spoken, openai.named_dialect("openai-responses"))
        };
        let responses = Some(Dialect::OpenAiResponses);
        let (chat, answers) =
            ("openai-chat /v1/chat/completions".to_owned(), "openai-responses /v1/responses".to_owned());
        let embeddings = "openai-chat /v1/embeddings".to_owned();
        let plain = entry("openai", "https://127.0.0.1:8443");
        let both = vec![chat.clone(), embeddings.clone(), answers.clone()];
        assert_eq!(paths(plain.clone()), (Dialect::OpenAiChat, both, responses));
        let only = OperatorProvider { dialect: Some(Dialect::OpenAiChat), ..plain.clone() };
        assert_eq!(paths(only), (Dialect::OpenAiChat, vec![chat, embeddings], None));
        // By its variant's name it speaks that dialect, and is still the provider whose key goes there.
        for by_name in [
            OperatorProvider { dialect: responses, ..entry("openai", "https://127.0.0.1:8443/v1") },
            entry("openai-responses", "https://127.0.0.1:8443/v1"),
        ] {
            let wanted = (Dialect::OpenAiResponses, vec![answers.clone()], responses);
            assert_eq!(paths(by_name), wanted);
        }
        let twice = vec![plain, entry("openai-responses", "https://127.0.0.1:8443")];
        assert_eq!(with(twice).unwrap_err(), CatalogError::Repeated("openai".parse().unwrap()));
        let mut own = entry("lan-llm", "http://10.0.0.5:8000/v1");
        own.dialect = Some("openai-responses".parse().unwrap());
        let catalog = with(vec![own]).unwrap();
        let lan = catalog.provider("lan-llm").unwrap();
        assert_eq!(lan.inference_path(true).unwrap().path, "/v1/responses");
    }

    #[test]
    fn a_dialect_of_its_own_keeps_the_header_of_its_key_and_its_ways() {
        for (slug, base_url, path) in [
            ("azure-responses", "https://acme.openai.azure.com", "/openai/v1/responses"),
            ("azure-responses", "https://acme.openai.azure.com/openai/v1", "/openai/v1/responses"),
            ("groq-responses", "https://127.0.0.1:8443", "/openai/v1/responses"),
            ("openrouter-responses", "https://127.0.0.1:8443/api/v1", "/api/v1/responses"),
        ] {
            let catalog = with(vec![entry(slug, base_url)]).unwrap();
            let (provider, builtin) = (catalog.provider(slug).unwrap(), Catalog::builtin());
            let before = builtin.provider(slug).unwrap();
            assert_eq!(provider.inference_path(true).unwrap().path, path, "{slug}");
            assert_eq!((&provider.auth, &provider.quirks), (&before.auth, &before.quirks), "{slug}");
            assert_eq!(provider.check, before.check, "{slug}");
        }
        // Where it is known to be, it needs no base URL, and nothing of it is pinned.
        let there = OperatorProvider { base_url: None, ..entry("groq-responses", "https://127.0.0.1") };
        let catalog = with(vec![there]).unwrap();
        let groq = catalog.provider("groq").unwrap();
        let (path, host) = (&groq.inference_path(false).unwrap().path, groq.endpoint.authority());
        assert_eq!((path.as_str(), host.as_str()), ("/openai/v1/responses", "api.groq.com"));
        assert!(!groq.pinned && !groq.speaks(Dialect::OpenAiChat));
        let other = OperatorProvider {
            dialect: Some(Dialect::AnthropicMessages),
            ..entry("openrouter", "https://127.0.0.1:8443")
        };
        let catalog = with(vec![other]).unwrap();
        let openrouter = catalog.provider("openrouter").unwrap();
        assert_eq!(openrouter.auth, Auth::Bearer);
        assert!(openrouter.quirks.max_tokens_required);
        assert_eq!(openrouter.inference_path(true).unwrap().path, "/api/v1/messages");
    }

    #[test]
    fn code_assist_keeps_its_own_paths_where_it_is_moved() {
        for (base_url, base) in
            [("https://127.0.0.1:8443", ""), ("https://127.0.0.1:8443/proxy/google", "/proxy/google")]
        {
            for dialect in [None, Some(Dialect::GeminiGenerateContent)] {
                let moved = OperatorProvider { dialect, ..entry("gemini-cli", base_url) };
                let catalog = with(vec![moved]).unwrap();
                let provider = catalog.provider("gemini-cli").unwrap();
                let paths: Vec<&str> = provider.inference.iter().map(|path| path.path.as_str()).collect();
                let expected = ["generateContent", "streamGenerateContent"];
                assert_eq!(paths, expected.map(|method| format!("{base}/v1internal:{method}")), "{base_url}");
                assert!(provider.pinned && provider.quirks.code_assist);
            }
        }
        // In another dialect it is another API.
        let other = OperatorProvider {
            dialect: Some(Dialect::OpenAiChat),
            ..entry("gemini-cli", "https://127.0.0.1/v1")
        };
        let catalog = with(vec![other]).unwrap();
        let provider = catalog.provider("gemini-cli").unwrap();
        assert_eq!(provider.inference_path(true).unwrap().path, "/v1/chat/completions");
        assert!(!provider.quirks.code_assist);
    }

    #[test]
    fn embeddings_are_reached_beside_chat() {
        for (slug, base_url, dialect, path) in [
            ("openai", "https://127.0.0.1:8443", None, Some("/v1/embeddings")),
            ("google", "https://127.0.0.1:8443", None, Some("/v1beta/models/*:embedContent")),
            ("cohere", "https://127.0.0.1:8443/v2", None, Some("/v2/embed")),
            ("ollama", "http://10.0.0.5:11434/api", Some(Dialect::OllamaChat), Some("/api/embed")),
            ("ollama", "http://10.0.0.5:11434", None, Some("/v1/embeddings")),
            ("aws", "https://127.0.0.1:8443", None, Some("/model/*/invoke")),
            ("anthropic", "https://127.0.0.1:8443", None, None),
        ] {
            let catalog = with(vec![OperatorProvider { dialect, ..entry(slug, base_url) }]).unwrap();
            let provider = catalog.provider(slug).unwrap();
            let found = provider.embeds_with(Dialect::BedrockConverse);
            let found = found.and_then(|dialect| provider.embeddings_path(dialect, true));
            assert_eq!(found.map(|found| found.path.as_str()), path, "{slug} at {base_url}");
        }
    }

    #[test]
    fn a_provider_of_ones_own() {
        let mut lan = entry("lan-llm", "http://10.0.0.5:8000/v1");
        assert_eq!(
            with(vec![lan.clone()]).unwrap_err().to_string(),
            "provider `lan-llm` is not built in, so it needs `dialect`"
        );
        assert_eq!(
            with(vec![entry("opnai", "http://10.0.0.5:8000/v1")]).unwrap_err().to_string(),
            "provider `opnai` is not built in (did you mean `openai`?), so it needs `dialect`"
        );
        let nowhere = OperatorProvider {
            dialect: Some(Dialect::AnthropicMessages),
            base_url: None,
            ..entry("groq", "https://127.0.0.1:8443")
        };
        assert_eq!(
            with(vec![nowhere]).unwrap_err().to_string(),
            "provider `groq` is to speak a dialect in which nothing is known of it, so it needs `base_url`"
        );
        lan.dialect = Some("openai".parse().unwrap());
        lan.env = vec!["LAN_LLM_KEY".into()];
        lan.models = vec!["llama-*".into()];
        let catalog = with(vec![lan.clone()]).unwrap();
        let provider = catalog.provider("lan-llm").unwrap();
        assert_eq!((provider.pinned, &provider.auth, provider.free), (true, &Auth::Bearer, false));
        assert_eq!(provider.inference_path(false).unwrap().path, "/v1/chat/completions");
        assert_eq!(
            with(vec![lan.clone(), lan.clone()]).unwrap_err(),
            CatalogError::Repeated(lan.slug.clone())
        );

        lan.dialect = Some(Dialect::AnthropicMessages);
        let catalog = with(vec![lan]).unwrap();
        let provider = catalog.provider("lan-llm").unwrap();
        assert_eq!(provider.auth, Auth::Header(http::HeaderName::from_static("x-api-key")));
        assert_eq!(provider.inference_path(true).unwrap().path, "/v1/messages");

        let mut compatible = entry("gemini", "https://generativelanguage.googleapis.com/v1beta/openai");
        compatible.dialect = Some(Dialect::OpenAiChat);
        let catalog = with(vec![compatible]).unwrap();
        let provider = catalog.provider("gemini").unwrap();
        assert_eq!(provider.auth, Auth::Bearer);
        assert_eq!(provider.inference_path(true).unwrap().path, "/v1beta/openai/chat/completions");

        for (base, path) in [
            ("http://10.0.0.5:11434", "/api/chat"),
            ("http://10.0.0.5:11434/api", "/api/chat"),
            ("http://10.0.0.5:11434/v1", "/api/chat"),
            ("https://10.0.0.5/models/", "/models/api/chat"),
        ] {
            let mut native = entry("ollama", base);
            native.dialect = Some("ollama".parse().unwrap());
            let catalog = with(vec![native]).unwrap();
            let provider = catalog.provider("ollama").unwrap();
            assert_eq!((provider.dialect, &provider.auth), (Dialect::OllamaChat, &Auth::None));
            assert!(provider.pinned && provider.free && provider.local_only);
            assert_eq!(provider.inference_path(true).unwrap().path, path, "{base}");
        }

        let mut own = entry("vertex-like", "https://10.0.0.5/");
        own.dialect = Some("gemini".parse().unwrap());
        own.env = vec!["OWN_KEY".into()];
        let catalog = with(vec![own]).unwrap();
        let provider = catalog.provider("vertex-like").unwrap();
        assert_eq!(provider.auth, Auth::Header(http::HeaderName::from_static("x-goog-api-key")));
        let streams = provider.inference_path(true).unwrap();
        assert_eq!(streams.path, "/v1beta/models/*:streamGenerateContent");
    }

    #[test]
    fn the_operators_prices_go_before_the_catalogs() {
        let price = |text: &str| serde_yaml::from_str::<Price>(text);
        let (cheap, own) = (
            price("{ input: 2, output: 8.5, as_of: 2026-10-01 }").unwrap(),
            price("{ input: 3, output: 12 }").unwrap(),
        );
        assert_eq!((cheap.input_per_mtok.micros(), cheap.output_per_mtok.micros()), (2_000_000, 8_500_000));
        assert!(cheap.as_of.is_some() && own.as_of.is_none());
        let prices = |names: &[(&str, Price)]| -> BTreeMap<String, Price> {
            names.iter().map(|(name, price)| ((*name).to_owned(), *price)).collect()
        };
        let (id, alias) = ("claude-3-haiku-20240307", "claude-3-haiku");
        let entry = |names: &[(&str, Price)]| OperatorProvider {
            base_url: None,
            prices: prices(names),
            ..entry("anthropic", "https://127.0.0.1:8443")
        };
        // By whatever name it goes.
        let catalog = with(vec![entry(&[(alias, cheap), ("my-finetune", own)])]).unwrap();
        let provider = catalog.provider("anthropic").unwrap();
        assert_eq!((provider.price(id), provider.price(alias)), (Some(cheap), Some(cheap)));
        assert_eq!((provider.price("my-finetune"), provider.price("claude-unheard-of")), (Some(own), None));
        let others = provider.models.iter().filter(|model| model.id != id);
        assert!(
            others.clone().count() > 0
                && others.clone().all(|model| provider.price(&model.id) == model.price)
        );
        assert!(!provider.pinned, "nothing else of it is changed");

        let twice = with(vec![entry(&[(alias, cheap), (id, own)])]).unwrap_err();
        assert!(matches!(twice, CatalogError::PricedTwice { .. }), "{twice}");
        let pattern = with(vec![entry(&[("claude-*", cheap)])]).unwrap_err();
        assert!(matches!(pattern, CatalogError::ModelPattern { .. }), "{pattern}");
        // What would let a call cost more than was set aside for it.
        for (text, why) in [
            ("{ input: 2, output: 8, cached_input: 3 }", "cached_input is more"),
            ("{ input: 2, output: 8, tier: { above_input_tokens: 9, input: 1, output: 8 } }", "no less"),
            ("{ input: 2 }", "output is missing"),
            ("{ input: -2, output: 8 }", "no amount"),
            ("{ input: 2, outptu: 8 }", "outptu"),
        ] {
            let error = price(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_key_goes_to_its_own_provider_only() {
        let mut thief = entry("thief", "https://thief.example/v1");
        thief.dialect = Some(Dialect::OpenAiChat);
        thief.env = vec!["OPENAI_API_KEY".into()];
        assert_eq!(
            with(vec![thief.clone()]).unwrap_err().to_string(),
            "provider `thief` cannot take `OPENAI_API_KEY`: that is the key of `openai`"
        );
        thief.env = vec!["AWS_SECRET_ACCESS_KEY".into()];
        assert_eq!(
            with(vec![thief.clone()]).unwrap_err().to_string(),
            "provider `thief` cannot take `AWS_SECRET_ACCESS_KEY`: that is the key of `aws`"
        );
        for env in ["", "A B", "ORCH_TOKEN"] {
            thief.env = vec![env.into()];
            assert!(matches!(with(vec![thief.clone()]), Err(CatalogError::KeyName { .. })), "{env:?}");
        }
        thief.env.clear();
        thief.models = vec!["llama *".into()];
        assert!(matches!(with(vec![thief]), Err(CatalogError::ModelPattern { .. })));
    }
}
