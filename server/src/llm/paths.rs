//! Where the gateway answers.

use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};
use orch_manifests::Dialect;

/// Clients that were made for other gateways ask here.
const PREFIX: &str = "/api";

/// The dialect of one of the gateway's paths, with or without `/api` before it; `None` for a path that is not its.
#[must_use]
pub(crate) fn spoken_at(path: &str, headers: &HeaderMap) -> Option<Dialect> {
    orch_gateway::spoken_at(path.strip_prefix(PREFIX).unwrap_or(path), headers)
}

/// Leaves the path as the gateway knows it.
pub(super) fn drop_prefix(uri: &mut Uri) {
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
    }

    #[test]
    fn the_prefix_goes_and_the_query_stays() {
        for (before, after) in [
            ("/api/v1/models?limit=2", "/v1/models?limit=2"),
            ("/v1/models", "/v1/models"),
            ("/apiv1/models", "/apiv1/models"),
            ("http://localhost/api/v1/messages", "/v1/messages"),
            ("/api", "/api"),
        ] {
            let mut uri: Uri = before.parse().expect("a URI");
            drop_prefix(&mut uri);
            assert_eq!(uri.to_string(), after);
        }
    }
}
