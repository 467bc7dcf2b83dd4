//! Where the gateway answers.

use http::Uri;
use http::uri::PathAndQuery;
use orch_gateway::{ClientOf, OLLAMA_PATHS};
use orch_manifests::Dialect;

/// Clients that were made for other gateways ask here.
const PREFIX: &str = "/api";

/// The dialect in which whoever asks at a path expects errors, with or without `/api` before it, whether or not the gateway
/// answers there; `None` for a path that no provider has.
#[must_use]
pub(crate) fn family_at(path: &str, client: ClientOf) -> Option<Dialect> {
    orch_gateway::family_at(without_prefix(path).unwrap_or(path), client)
}

/// A path without the prefix. Ollama's paths begin like that by themselves.
fn without_prefix(path: &str) -> Option<&str> {
    let below =
        |root: &&&str| path.strip_prefix(**root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    path.strip_prefix(PREFIX).filter(|_| !OLLAMA_PATHS.iter().any(|root| below(&root)))
}

/// Leaves the path as the gateway knows it.
pub(super) fn drop_prefix(uri: &mut Uri) {
    if without_prefix(uri.path()).is_none() {
        return;
    }
    let Some(rest) = uri.path_and_query().and_then(|path| path.as_str().strip_prefix(PREFIX)) else { return };
    // What follows the prefix of a path is a path as long as it begins as one.
    let Ok(rest) = rest.parse::<PathAndQuery>() else { return };
    if rest.as_str().starts_with('/') {
        *uri = Uri::from(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_family_s_dialect_under_both_prefixes() {
        let plain = ClientOf(Dialect::OpenAiChat);
        let anthropic = ClientOf(Dialect::AnthropicMessages);
        for prefix in ["", "/api"] {
            let at = |path: &str, client| family_at(&format!("{prefix}{path}"), client);
            for path in ["/v1/chat/completions", "/v1/chat/completions/", "/v1/embeddings", "/v1/files/x"] {
                assert_eq!(at(path, anthropic), Some(Dialect::OpenAiChat), "{path}");
            }
            assert_eq!(at("/v1/responses", anthropic), Some(Dialect::OpenAiResponses));
            assert_eq!(at("/v1/responses/resp_1", plain), Some(Dialect::OpenAiResponses));
            for path in ["/v1/messages", "/v1/messages/batches"] {
                assert_eq!(at(path, plain), Some(Dialect::AnthropicMessages), "{path}");
            }
            assert_eq!(at("/v2/chat", plain), Some(Dialect::CohereChat));
            for path in ["/v1/models", "/v1/models/x", "/v1/models/openai/x:1b"] {
                assert_eq!(at(path, plain), Some(Dialect::OpenAiChat), "{path}");
                assert_eq!(at(path, anthropic), Some(Dialect::AnthropicMessages), "{path}");
            }
            for path in [
                "/v1beta",
                "/v1beta/models",
                "/v1beta/models/m",
                "/v1beta/models/m:generateContent",
                "/v1/models/m:streamGenerateContent",
                "/v1alpha/models/m:generateContent",
                "/v1/tunedModels",
                "/v1/cachedContents/x",
            ] {
                assert_eq!(at(path, plain), Some(Dialect::GeminiGenerateContent), "{path}");
            }
            for other in ["/v1/runs", "/v1/agents/orch/x:generateContent", "/v1/chatter", "/v1", "", "/"] {
                assert_eq!(at(other, plain), None, "{prefix}{other}");
            }
        }
        assert_eq!(family_at("/api/api/v1/models", plain), None);
        for path in ["/api/chat", "/api/chat/", "/api/tags", "/api/generate", "/api/api/chat"] {
            assert_eq!(family_at(path, plain), Some(Dialect::OllamaChat), "{path}");
        }
        for path in ["/chat", "/tags", "/api", "/api/", "/api/chatter"] {
            assert_eq!(family_at(path, plain), None, "{path}");
        }
    }

    #[test]
    fn the_prefix_goes_and_the_query_stays() {
        for (before, after) in [
            ("/api/v1/models?limit=2", "/v1/models?limit=2"),
            ("/v1/models", "/v1/models"),
            ("/apiv1/models", "/apiv1/models"),
            ("http://localhost/api/v1/messages", "/v1/messages"),
            ("/api", "/api"),
            ("/api/chat", "/api/chat"),
            ("/api/tags?x=1", "/api/tags?x=1"),
        ] {
            let mut uri: Uri = before.parse().expect("a URI");
            drop_prefix(&mut uri);
            assert_eq!(uri.to_string(), after);
        }
    }
}
