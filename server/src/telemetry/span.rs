//! A span, and how OTLP writes it in JSON.

use serde_json::{Value as Json, json};

use super::trace::Begun;

/// A span that is over. Its texts are names from here, the catalog or the operator, or were checked by [`name`].
#[derive(Debug)]
pub(super) struct Span {
    pub(super) begun: Begun,
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Nanoseconds since 1970.
    pub(super) start: u64,
    /// The same; not before the start.
    pub(super) end: u64,
    pub(super) attributes: Vec<(&'static str, Value)>,
    /// Whether what it stands for failed.
    pub(super) failed: bool,
}

/// Who does what a span stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// This process.
    Internal = 1,
    /// Another one, which this process asks.
    Client = 3,
}

/// An attribute's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Word(&'static str),
    Words(Vec<&'static str>),
    Int(u64),
    Signed(i64),
    Double(f64),
    Bool(bool),
}

impl Value {
    fn document(&self) -> Json {
        match self {
            Self::Text(text) => json!({ "stringValue": text }),
            Self::Word(word) => json!({ "stringValue": word }),
            Self::Words(words) => {
                let values: Vec<Json> = words.iter().map(|word| json!({ "stringValue": word })).collect();
                json!({ "arrayValue": { "values": values } })
            }
            // 64-bit integers are texts in OTLP's JSON, and have a sign.
            Self::Int(number) => json!({ "intValue": number.min(&(i64::MAX as u64)).to_string() }),
            Self::Signed(number) => json!({ "intValue": number.to_string() }),
            Self::Double(number) => json!({ "doubleValue": number }),
            Self::Bool(is) => json!({ "boolValue": is }),
        }
    }
}

/// `STATUS_CODE_ERROR`.
const ERROR: u8 = 2;
/// That a trace is kept, that it is said whether the parent is of another process, and that it is.
const SAMPLED: u32 = 0x1;
const SAYS_REMOTE: u32 = 0x100;
const REMOTE: u32 = 0x200;

impl Span {
    pub(super) fn document(&self) -> Json {
        let Begun { trace, span, parent } = self.begun;
        let remote = parent.is_some_and(|parent| parent.remote);
        let mut document = json!({
            "traceId": trace.hex(),
            "spanId": span.hex(),
            "name": self.name,
            "kind": self.kind as u8,
            "startTimeUnixNano": self.start.to_string(),
            "endTimeUnixNano": self.end.to_string(),
            "attributes": attributes(&self.attributes),
            "status": if self.failed { json!({ "code": ERROR }) } else { json!({}) },
            "flags": SAMPLED | SAYS_REMOTE | if remote { REMOTE } else { 0 },
        });
        if let Some(parent) = parent {
            document["parentSpanId"] = json!(parent.span.hex());
        }
        document
    }
}

/// Attributes as OTLP lists them.
pub(super) fn attributes(pairs: &[(&str, Value)]) -> Vec<Json> {
    pairs.iter().map(|(key, value)| json!({ "key": key, "value": value.document() })).collect()
}

/// Longest name that is told.
const NAME: usize = 128;

/// A name that somebody else chose, if it looks like one: a model's or an id. Sentences do not, nor does what would draw on
/// a terminal or end a label.
pub(super) fn name(text: &str) -> Option<&str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/@+".contains(&byte);
    (!text.is_empty() && text.len() <= NAME && text.bytes().all(fits)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_and_sentences_are_not() {
        for good in [
            "gpt-4o-mini",
            "models/gemini-2.5-flash",
            "llama3.2:1b",
            "us.anthropic.claude@1",
            &"x".repeat(128),
        ] {
            assert_eq!(name(good), Some(good));
        }
        for bad in ["", "two words", "a\nb", "a\"b", "\u{1b}[2J", "modèle", "{}", "a,b", &"x".repeat(129)] {
            assert_eq!(name(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn integers_are_texts_and_have_a_sign() {
        assert_eq!(Value::Int(7).document(), json!({ "intValue": "7" }));
        assert_eq!(Value::Int(u64::MAX).document(), json!({ "intValue": "9223372036854775807" }));
    }
}
