//! What the simulation is told about a provider: where it lives, what it speaks, where it wants its key.

use http::{HeaderName, Method};
use orch_manifests::{Dialect, Host, InferencePath, Provider, Scheme, Task};

/// A wire format that the simulation speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// OpenAI chat completions, `POST …/chat/completions`.
    OpenAiChat,
    /// OpenAI responses, `POST …/responses`.
    OpenAiResponses,
    /// Anthropic messages, `POST …/messages`.
    AnthropicMessages,
    /// Gemini, `POST …/models/MODEL:generateContent` and `:streamGenerateContent`.
    GeminiGenerateContent,
    /// The same inside of Code Assist's envelope, `POST /v1internal:generateContent` and `:streamGenerateContent`.
    CodeAssist,
    /// Bedrock, `POST …/model/MODEL/converse` and `/converse-stream`.
    BedrockConverse,
    /// Cohere's chat, `POST …/v2/chat`.
    CohereChat,
    /// Ollama's own, `POST …/api/chat`.
    OllamaChat,
    /// OpenAI's embeddings, `POST …/embeddings`.
    OpenAiEmbeddings,
    /// Gemini's, `POST …/models/MODEL:embedContent` and `:batchEmbedContents`.
    GeminiEmbeddings,
    /// Cohere's, `POST …/v2/embed`.
    CohereEmbeddings,
    /// Ollama's own, `POST …/api/embed`.
    OllamaEmbeddings,
    /// Bedrock's, `POST …/model/MODEL/invoke` with the body of the model's maker.
    BedrockEmbeddings,
}

/// Where a provider wants its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// It takes none (a local model server); a key that is sent all the same is ignored.
    None,
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// The bare key as the value of this header.
    Header(HeaderName),
}

/// One provider that the simulation plays.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its catalog slug, as rules name it.
    pub provider: String,
    /// Its host: a lowercase DNS name, or an IP address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it is spoken to over TLS. Both kinds share one loopback port.
    pub https: bool,
    /// Where it wants its key.
    pub key: KeyPlace,
    /// The request paths that it answers inference on, each with its wire format; `*` stands for the model where the wire
    /// format has it in the path. The list of models is served beside each (`…/models`).
    pub inference: Vec<(String, Wire)>,
    /// What `GET …/models` lists. Requests may name any model: a catalog is always older than the newest one.
    pub models: Vec<String>,
}

/// A scheme, host and port that the simulation answers for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// A lowercase DNS name, or an IP address without brackets.
    pub host: String,
    /// The port that requests name; the simulation itself listens elsewhere.
    pub port: u16,
    /// Whether the origin is spoken to over TLS.
    pub https: bool,
}

/// Whose habits a provider has, beyond the wire format: error bodies, strictness, extra fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum House {
    /// api.openai.com.
    OpenAi,
    /// Google's OpenAI-compatible endpoint, whose errors are Google's own, in an array.
    Google,
    /// api.anthropic.com.
    Anthropic,
    /// Google's own endpoint.
    Gemini,
    /// Amazon Bedrock.
    Bedrock,
    /// api.cohere.com.
    Cohere,
    /// A model server of one's own, spoken to in its own dialect.
    Ollama,
    /// Everyone else who speaks chat completions or responses.
    Compatible,
}

impl From<&Provider> for Served {
    /// A provider as the catalog has it, with every inference path that its key is bound to.
    fn from(provider: &Provider) -> Served {
        let endpoint = &provider.endpoint;
        let posts = provider.inference.iter().filter(|path| path.method == Method::POST);
        let wire = |path: &InferencePath| match provider.quirks.code_assist {
            true => Wire::CodeAssist,
            false => Wire::of(path),
        };
        Served {
            provider: provider.slug.to_string(),
            host: match &endpoint.host {
                Host::Name(name) => name.to_string(),
                Host::Ip(address) => address.to_string(),
            },
            port: endpoint.port,
            https: endpoint.scheme == Scheme::Https,
            key: match provider.auth.header() {
                None => KeyPlace::None,
                Some((name, "")) => KeyPlace::Header(name),
                Some(_) => KeyPlace::Bearer,
            },
            inference: posts.map(|path| (path.path.clone(), wire(path))).collect(),
            models: provider.models.iter().map(|model| model.id.clone()).collect(),
        }
    }
}

impl Wire {
    /// What is spoken at a path.
    fn of(path: &InferencePath) -> Wire {
        match (path.task, path.dialect) {
            (Task::Embeddings, Dialect::GeminiGenerateContent) => Wire::GeminiEmbeddings,
            (Task::Embeddings, Dialect::CohereChat) => Wire::CohereEmbeddings,
            (Task::Embeddings, Dialect::OllamaChat) => Wire::OllamaEmbeddings,
            (Task::Embeddings, Dialect::BedrockConverse) => Wire::BedrockEmbeddings,
            (Task::Embeddings, _) => Wire::OpenAiEmbeddings,
            (Task::Chat, Dialect::OpenAiChat) => Wire::OpenAiChat,
            (Task::Chat, Dialect::OpenAiResponses) => Wire::OpenAiResponses,
            (Task::Chat, Dialect::AnthropicMessages) => Wire::AnthropicMessages,
            (Task::Chat, Dialect::GeminiGenerateContent) => Wire::GeminiGenerateContent,
            (Task::Chat, Dialect::BedrockConverse) => Wire::BedrockConverse,
            (Task::Chat, Dialect::CohereChat) => Wire::CohereChat,
            (Task::Chat, Dialect::OllamaChat) => Wire::OllamaChat,
        }
    }

    /// Whether vectors are asked for.
    pub(super) fn embeds(self) -> bool {
        match self {
            Wire::OpenAiEmbeddings
            | Wire::GeminiEmbeddings
            | Wire::CohereEmbeddings
            | Wire::OllamaEmbeddings
            | Wire::BedrockEmbeddings => true,
            Wire::OpenAiChat
            | Wire::OpenAiResponses
            | Wire::AnthropicMessages
            | Wire::GeminiGenerateContent
            | Wire::CodeAssist
            | Wire::BedrockConverse
            | Wire::CohereChat
            | Wire::OllamaChat => false,
        }
    }
}

impl Served {
    pub(super) fn origin(&self) -> Origin {
        Origin { host: self.host.clone(), port: self.port, https: self.https }
    }

    pub(super) fn house(&self, wire: Wire) -> House {
        match wire {
            Wire::AnthropicMessages => House::Anthropic,
            Wire::GeminiGenerateContent | Wire::CodeAssist | Wire::GeminiEmbeddings => House::Gemini,
            Wire::BedrockConverse | Wire::BedrockEmbeddings => House::Bedrock,
            Wire::CohereChat | Wire::CohereEmbeddings => House::Cohere,
            Wire::OllamaChat | Wire::OllamaEmbeddings => House::Ollama,
            Wire::OpenAiChat | Wire::OpenAiResponses | Wire::OpenAiEmbeddings
                if self.host == "api.openai.com" =>
            {
                House::OpenAi
            }
            Wire::OpenAiChat | Wire::OpenAiEmbeddings if self.host.ends_with(".googleapis.com") => {
                House::Google
            }
            Wire::OpenAiChat | Wire::OpenAiResponses | Wire::OpenAiEmbeddings => House::Compatible,
        }
    }

    /// The path that lists models beside an inference path: `/v1/chat/completions` → `/v1/models`.
    pub(super) fn models_path(inference: &str) -> Option<String> {
        if let Some((models, _)) = inference.split_once("/*:") {
            return Some(models.to_owned());
        }
        if inference.contains("/model/*/") {
            // Of the provider's other host; here both are one.
            return Some("/foundation-models".to_owned());
        }
        let without = |ends: [&str; 2]| ends.iter().find_map(|end| inference.strip_suffix(end));
        if let Some(base) = without(["/v2/chat", "/v2/embed"]) {
            return Some(format!("{base}/v1/models"));
        }
        if let Some(base) = without(["/api/chat", "/api/embed"]) {
            return Some(format!("{base}/api/tags"));
        }
        let base = ["/chat/completions", "/responses", "/messages", "/embeddings"]
            .iter()
            .find_map(|suffix| inference.strip_suffix(suffix))?;
        Some(format!("{base}/models"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_of_the_catalog_can_be_served() {
        let catalog = orch_manifests::Catalog::builtin();
        for provider in catalog.providers() {
            let served = Served::from(provider);
            assert!(!served.inference.is_empty(), "{}", served.provider);
            assert_eq!(served.key == KeyPlace::None, provider.key_name().is_none(), "{}", served.provider);
            for (path, wire) in &served.inference {
                // Code Assist has no list of its models.
                let listed = *wire == Wire::CodeAssist || Served::models_path(path).is_some();
                assert!(path.starts_with('/') && listed, "{path}");
            }
        }
        let anthropic = Served::from(catalog.provider("anthropic").unwrap());
        assert_eq!(
            (anthropic.host.as_str(), anthropic.port, anthropic.https),
            ("api.anthropic.com", 443, true)
        );
        assert_eq!(anthropic.key, KeyPlace::Header(HeaderName::from_static("x-api-key")));
        assert_eq!(anthropic.inference, [("/v1/messages".to_owned(), Wire::AnthropicMessages)]);
    }

    #[test]
    fn models_are_listed_beside_the_inference_path() {
        assert_eq!(Served::models_path("/v1/chat/completions").as_deref(), Some("/v1/models"));
        assert_eq!(Served::models_path("/v1/responses").as_deref(), Some("/v1/models"));
        assert_eq!(Served::models_path("/v1/messages").as_deref(), Some("/v1/models"));
        assert_eq!(
            Served::models_path("/v1beta/openai/chat/completions").as_deref(),
            Some("/v1beta/openai/models")
        );
        assert_eq!(
            Served::models_path("/v1beta/models/*:generateContent").as_deref(),
            Some("/v1beta/models")
        );
        assert_eq!(Served::models_path("/v2/chat").as_deref(), Some("/v1/models"));
        assert_eq!(Served::models_path("/api/chat").as_deref(), Some("/api/tags"));
        assert_eq!(Served::models_path("/v1/embeddings").as_deref(), Some("/v1/models"));
        assert_eq!(Served::models_path("/v2/embed").as_deref(), Some("/v1/models"));
        assert_eq!(Served::models_path("/v1/files"), None);
    }
}
