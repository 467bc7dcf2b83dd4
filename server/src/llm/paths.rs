//! Where the gateway answers.

use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};
use orch_manifests::Dialect;

/// Clients that were made for other gateways ask here.
const PREFIX: &str = "/api";

/// Ollama's paths, which begin like that by themselves.
const OLLAMA: [&str; 2] = ["/api/chat", "/api/tags"];

/// The dialect of one of the gateway's paths, with or without `/api` before it; `None` for a path that is not its.
#[must_use]
pub(crate) fn spoken_at(path: &str, headers: &HeaderMap) -> Option<Dialect> {
    orch_gateway::spoken_at(without_prefix(path).unwrap_or(path), headers)
}

fn without_prefix(path: &str) -> Option<&str> {
    path.strip_prefix(PREFIX).filter(|_| !OLLAMA.contains(&path))
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
    fn each_path_has_its_dialect_under_both_prefixes() {
        let plain = HeaderMap::new();
        let mut anthropic = HeaderMap::new();
        anthropic.insert("anthropic-version", http::HeaderValue::from_static("2023-06-01"));
        for prefix in ["", "/api"] {
            let at = |path: &str, headers| spoken_at(&format!("{prefix}{path}"), headers);
            assert_eq!(at("/v1/chat/completions", &anthropic), Some(Dialect::OpenAiChat));
            assert_eq!(at("/v1/messages", &plain), Some(Dialect::AnthropicMessages));
            assert_eq!(at("/v2/chat", &plain), Some(Dialect::CohereChat));
            assert_eq!(at("/v1/models", &plain), Some(Dialect::OpenAiChat));
            assert_eq!(at("/v1/models", &anthropic), Some(Dialect::AnthropicMessages));
            for path in
                ["/v1beta/models", "/v1beta/models/m:generateContent", "/v1/models/m:streamGenerateContent"]
            {
                assert_eq!(at(path, &plain), Some(Dialect::GeminiGenerateContent), "{path}");
            }
            for other in [
                "/v1/runs",
                "/v1/agents/orch/x:generateContent",
                "/v1beta",
                "/v1/chat/completions/",
                "/v1/models/x",
                "",
                "/",
            ] {
                assert_eq!(at(other, &plain), None, "{prefix}{other}");
            }
        }
        assert_eq!(spoken_at("/api/api/v1/models", &plain), None);
        for path in ["/api/chat", "/api/tags", "/api/api/chat"] {
            assert_eq!(spoken_at(path, &plain), Some(Dialect::OllamaChat), "{path}");
        }
        for path in ["/chat", "/tags", "/api", "/api/", "/api/chat/", "/api/generate"] {
            assert_eq!(spoken_at(path, &plain), None, "{path}");
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
