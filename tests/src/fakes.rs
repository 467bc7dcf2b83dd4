//! The providers, played.
//!
//! Each is strict about what it is sent, as the real one is: a wrong path, header, field or key gets the error that the
//! provider would give, in its own shape (`openai`, `anthropic`, `gemini`, `bedrock`, and `ollama` through OpenAI's). Answers are
//! deterministic: the text that the test chose, word by word when streamed, and one token per word. `model` puts one model
//! behind all of them, and behind Cohere, Ollama's own dialect and OpenAI's responses, which calls tools, thinks and sees: for
//! tests of client libraries. `api` is a host that is no model provider, and `github` one that people know.

use serde_json::Value;

use crate::reply::Reply;
use crate::wire::Received;

pub mod anthropic;
pub mod api;
pub mod bedrock;
pub mod gemini;
pub mod github;
pub mod model;
pub mod openai;
pub mod provider;
pub mod responses;

/// A way in which a provider fails, to be scripted in the provider's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Too many requests, with a Retry-After in seconds.
    RateLimited(u64),
    /// An internal error.
    ServerError,
    /// No capacity at the moment.
    Overloaded,
    /// A time limit inside the provider.
    TimedOut,
    /// The account has no credit left.
    OutOfMoney,
    /// The key is not accepted.
    BadKey,
    /// The model does not exist, or not for this account.
    NoModel,
    /// The key is good and may not do this.
    NoAccess,
    /// The provider's filter stopped it.
    Filtered,
    /// The request itself is wrong.
    BadRequest,
    /// The request is too long for the model.
    TooLong,
    /// A stream that ends before any content, without its terminator.
    CutBeforeContent,
    /// A stream that ends inside its content, without its terminator.
    CutInContent,
    /// A stream that begins well and carries an error instead of content.
    ErrorInStream,
    /// The connection closes without an answer.
    HangUp,
    /// Bytes that are not HTTP.
    Garbage,
}

/// How many words all messages of a request have: what the fakes bill as input tokens.
pub fn input_tokens(request: &Value) -> u64 {
    let messages = request["messages"].as_array().into_iter().flatten().map(|message| &message["content"]);
    // Gemini's names.
    let contents = request["contents"].as_array().into_iter().flatten();
    let parts = contents.chain([&request["systemInstruction"]]).map(|content| &content["parts"]);
    // Bedrock's parts hold nothing but a text, as do those of its system.
    messages.chain([&request["system"]]).chain(parts).map(|content| words(&text_of(content))).sum()
}

/// How many words a text has: what the fakes bill as output tokens.
pub fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

/// Text content, given as a string or as text parts.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

/// The text in the pieces that a stream sends it in: words with the space before them.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let starts = text.match_indices(' ').map(|(at, _)| at).filter(|at| *at > 0);
    let mut cuts: Vec<usize> = std::iter::once(0).chain(starts).collect();
    cuts.push(text.len());
    let ends = cuts.clone().into_iter().skip(1);
    cuts.into_iter().zip(ends).map(|(from, to)| &text[from..to]).filter(|piece| !piece.is_empty())
}

/// What no provider may ever be sent: headers of `orch`'s own, hop-by-hop headers, or where the request came from.
fn stray_header(request: &Received) -> Option<String> {
    let bad = |name: &str| {
        name.starts_with("orch-")
            || matches!(
                name,
                "via"
                    | "forwarded"
                    | "x-forwarded-for"
                    | "x-real-ip"
                    | "proxy-authorization"
                    | "te"
                    | "trailer"
                    | "upgrade"
                    | "cookie"
            )
    };
    request.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).find(|name| bad(name))
}

/// The first field of an object that is not in a list.
fn unknown_field<'a>(object: &'a Value, known: &[&str]) -> Option<&'a str> {
    object.as_object()?.keys().map(String::as_str).find(|key| !known.contains(key))
}

/// Failures that look the same whatever the provider.
fn without_words(failure: Failure) -> Option<Reply> {
    match failure {
        Failure::HangUp => Some(Reply::hang_up()),
        Failure::Garbage => Some(Reply::garbage()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pieces_join_to_the_text() {
        for text in ["One two  three.", " leading", "x", "", "ends "] {
            assert_eq!(pieces(text).collect::<String>(), text);
        }
        assert_eq!(pieces("One two three.").collect::<Vec<_>>(), ["One", " two", " three."]);
    }

    #[test]
    fn tokens_are_words_of_every_message() {
        let request = json!({"system": "be brief", "messages": [
            {"role": "user", "content": "one two"},
            {"role": "user", "content": [{"type": "text", "text": "three"}]},
        ]});
        assert_eq!(input_tokens(&request), 5);
        let request = json!({"systemInstruction": {"parts": [{"text": "be brief"}]}, "contents": [
            {"role": "user", "parts": [{"text": "one"}, {"text": "two three"}]},
        ]});
        assert_eq!(input_tokens(&request), 5);
    }
}
