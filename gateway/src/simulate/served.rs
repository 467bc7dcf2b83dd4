//! What the simulation is told about a provider: where it lives, what it speaks, where it wants its key.

use http::HeaderName;

/// A wire format that the simulation speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// OpenAI chat completions, `POST …/chat/completions`.
    OpenAiChat,
    /// Anthropic messages, `POST …/messages`.
    AnthropicMessages,
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
    /// The exact request paths that it answers inference on, each with its wire format. The list of models is served
    /// beside each (`…/models`).
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
    /// Everyone else who speaks chat completions.
    Compatible,
}

impl Served {
    pub(super) fn origin(&self) -> Origin {
        Origin { host: self.host.clone(), port: self.port, https: self.https }
    }

    pub(super) fn house(&self, wire: Wire) -> House {
        match wire {
            Wire::AnthropicMessages => House::Anthropic,
            Wire::OpenAiChat if self.host == "api.openai.com" => House::OpenAi,
            Wire::OpenAiChat if self.host.ends_with(".googleapis.com") => House::Google,
            Wire::OpenAiChat => House::Compatible,
        }
    }

    /// The path that lists models beside an inference path: `/v1/chat/completions` → `/v1/models`.
    pub(super) fn models_path(inference: &str) -> Option<String> {
        let base =
            inference.strip_suffix("/chat/completions").or_else(|| inference.strip_suffix("/messages"))?;
        Some(format!("{base}/models"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_listed_beside_the_inference_path() {
        assert_eq!(Served::models_path("/v1/chat/completions").as_deref(), Some("/v1/models"));
        assert_eq!(Served::models_path("/v1/messages").as_deref(), Some("/v1/models"));
        assert_eq!(
            Served::models_path("/v1beta/openai/chat/completions").as_deref(),
            Some("/v1beta/openai/models")
        );
        assert_eq!(Served::models_path("/v1/embeddings"), None);
    }
}
