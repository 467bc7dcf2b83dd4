//! What a request's address says: Gemini names the model and the method there.

use url::form_urlencoded;

use super::RequestError;
use crate::intake::Manner;

/// The method of a model that a request calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Method {
    /// The model; `provider/model` is possible at the gateway.
    pub(crate) model: String,
    /// What follows the last colon: `generateContent` and so on.
    pub(crate) name: String,
}

/// The method that a path calls, if it is one of a model: `/v1beta/models/MODEL:METHOD`, or the same below `/v1`.
pub(crate) fn method(path: &str) -> Option<Method> {
    let rest = path.strip_prefix("/v1beta/models/").or_else(|| path.strip_prefix("/v1/models/"))?;
    let rest = super::super::unescaped(rest)?;
    let (model, name) = rest.rsplit_once(':')?;
    // Client libraries put the whole resource name there when they were given one.
    let model = model.strip_prefix("models/").unwrap_or(model);
    (!model.is_empty()).then(|| Method { model: model.to_owned(), name: name.to_owned() })
}

impl Method {
    /// What to call instead.
    pub(crate) fn offered(&self) -> String {
        format!(
            "{} is not offered here; use MODEL:generateContent, MODEL:streamGenerateContent?alt=sse, MODEL:embedContent or \
             MODEL:batchEmbedContents",
            self.name.chars().take(64).collect::<String>()
        )
    }

    /// What is wanted; `None` for methods that are no inference.
    pub(crate) fn manner(&self) -> Option<Manner> {
        match self.name.as_str() {
            "generateContent" => Some(Manner::Chat { stream: false }),
            "streamGenerateContent" => Some(Manner::Chat { stream: true }),
            "embedContent" => Some(Manner::Embeddings { alone: true }),
            "batchEmbedContents" => Some(Manner::Embeddings { alone: false }),
            _ => None,
        }
    }
}

/// Checks what a query asks for. None of it is passed on.
///
/// # Errors
/// It holds a key, which everything that keeps addresses would keep, or wants a stream in the form of one JSON array.
pub(crate) fn check_query(query: Option<&str>, stream: bool) -> Result<(), RequestError> {
    let mut sse = false;
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        match &*name {
            "key" | "access_token" => {
                return Err(RequestError {
                    path: name.into_owned(),
                    message:
                        "is a key in the address, where logs keep it; send it in the header x-goog-api-key"
                            .to_owned(),
                });
            }
            "alt" => sse = value == "sse",
            _ => {}
        }
    }
    if stream && !sse {
        return Err(RequestError {
            path: "alt".to_owned(),
            message: "streams are sent as server-sent events here, not as a JSON array; add ?alt=sse"
                .to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_and_the_method_are_the_paths() {
        let whole = Some(Manner::Chat { stream: false });
        let rows = [
            ("/v1beta/models/gemini-2.5-flash:generateContent", "gemini-2.5-flash", whole),
            (
                "/v1/models/gemini-2.5-flash:streamGenerateContent",
                "gemini-2.5-flash",
                Some(Manner::Chat { stream: true }),
            ),
            ("/v1beta/models/anthropic/claude-3-haiku:generateContent", "anthropic/claude-3-haiku", whole),
            ("/v1beta/models/ollama%2Fllama3.2%3A3b:generateContent", "ollama/llama3.2:3b", whole),
            ("/v1beta/models/models/default:generateContent", "default", whole),
            ("/v1beta/models/x:embedContent", "x", Some(Manner::Embeddings { alone: true })),
            ("/v1/models/openai/x:batchEmbedContents", "openai/x", Some(Manner::Embeddings { alone: false })),
            ("/v1beta/models/x:countTokens", "x", None),
        ];
        for (path, model, manner) in rows {
            let method = method(path).unwrap();
            assert_eq!((method.model.as_str(), method.manner()), (model, manner), "{path}");
        }
        for path in [
            "/v1beta/models",
            "/v1beta/models/",
            "/v1beta/models/x",
            "/v1beta/models/:generateContent",
            "/v1beta/models/x%:generateContent",
            "/v1beta/models/x%ff:generateContent",
            "/v1alpha/models/x:generateContent",
            "/v1/chat/completions",
        ] {
            assert_eq!(method(path), None, "{path}");
        }
    }

    #[test]
    fn a_query_brings_no_key_and_a_stream_is_one_of_events() {
        for query in [None, Some(""), Some("alt=json"), Some("prettyPrint=false&$fields=x")] {
            assert_eq!(check_query(query, false), Ok(()), "{query:?}");
            assert_eq!(check_query(query, true).unwrap_err().path, "alt", "{query:?}");
        }
        assert_eq!(check_query(Some("alt=sse"), true), Ok(()));
        for query in ["key=AIza", "alt=sse&key=", "%6Bey=x", "access_token=x"] {
            let error = check_query(Some(query), true).unwrap_err();
            assert!(error.message.contains("x-goog-api-key"), "{query}: {error}");
        }
    }
}
