//! JSON trees of bounded size.
//!
//! A tree takes a hundred times the memory of its text when the text is nothing but small objects, and whoever sends
//! it is bounded in bytes only. Every tree of text from outside is built here, against a count of its values.
//!
//! What a model wrote may hold half of a sign: `\ud83d` and nothing behind it, where it was cut by tokens. No text can be made
//! of that, and one half is no reason to lose an answer, so it becomes U+FFFD in the tree. The bytes stay as they are.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Values in one request. At some 700 bytes for the worst of them this is 90 MiB; conversations of thousands of
/// messages stay far below it.
pub(crate) const REQUEST_VALUES: u32 = 1 << 17;

/// Values in one whole answer, log probabilities aside.
pub(crate) const ANSWER_VALUES: u32 = 1 << 17;

/// Values in one event of a stream, log probabilities aside. Most have twenty, results of searches hundreds.
const EVENT_VALUES: u32 = 1 << 14;

/// What log probabilities are called in a choice (OpenAI) and a candidate (Gemini).
const LOG_PROBABILITIES: [&str; 2] = ["logprobs", "logprobsResult"];

/// The kinds of objects in responses (OpenAI) that have log probabilities as a field.
const TEXTS_OF_RESPONSES: [&str; 3] =
    ["output_text", "response.output_text.delta", "response.output_text.done"];

/// What a response (OpenAI) repeats of its request, in a whole answer and in the first and last events of a stream.
const REPEATED: [&str; 2] = ["tools", "instructions"];

/// Where a choice of an answer stands: in an array, in the answer.
const DEPTH_OF_CHOICE: u8 = 2;

/// A client's request, in which no object may have a field twice.
pub(crate) fn request(body: &[u8]) -> Result<Value, serde_json::Error> {
    read(body, REQUEST_VALUES, Kind::Request)
}

/// A provider's whole answer. Log probabilities are left out, because there are hundreds of values to a token, and what
/// it repeats of the request: nothing here looks at either.
pub(crate) fn answer(body: &[u8]) -> Result<Value, serde_json::Error> {
    mending(body, |text| read(text, ANSWER_VALUES, Kind::Answer))
}

/// One event of a provider's stream, likewise.
pub(crate) fn event(data: &str) -> Result<Value, serde_json::Error> {
    // What is text already has no strings to be checked again.
    read_from(serde_json::Deserializer::from_str(data), EVENT_VALUES, Kind::Answer).or_else(|error| {
        match mended(data.as_bytes()) {
            Some(text) => read(&text, EVENT_VALUES, Kind::Answer),
            None => Err(error),
        }
    })
}

/// The arguments of a call, which a model wrote, in which no object may have a field twice.
pub(crate) fn arguments(text: &str) -> Result<Value, serde_json::Error> {
    mending(text.as_bytes(), request)
}

/// What `read` makes of a JSON text, or, where it is none because of halves of signs, of that text without them.
pub(crate) fn mending<T>(
    text: &[u8],
    read: impl Fn(&[u8]) -> Result<T, serde_json::Error>,
) -> Result<T, serde_json::Error> {
    read(text).or_else(|error| match mended(text) {
        Some(text) => read(&text),
        None => Err(error),
    })
}

/// A JSON text with U+FFFD in the place of each half of a sign that stands alone, and with every other byte where it was;
/// `None` where none does.
pub(crate) fn mended(text: &[u8]) -> Option<Vec<u8>> {
    let mut mended: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(backslash) = text[at..].iter().position(|byte| *byte == b'\\') {
        let here = at + backslash;
        at = match (half(text, here), half(text, here + HALF)) {
            (Some(Half::First), Some(Half::Second)) => here + 2 * HALF,
            (Some(_), _) => {
                let mended = mended.get_or_insert_with(|| text.to_vec());
                mended[here..here + HALF].copy_from_slice(br"\ufffd");
                here + HALF
            }
            // What stands behind it is escaped, and begins nothing.
            (None, _) => text.len().min(here + 2),
        };
    }
    mended
}

/// Bytes of an escape of four digits.
const HALF: usize = 6;

/// Which half of a sign beyond the first 65536 an escape stands for.
enum Half {
    First,
    Second,
}

fn half(text: &[u8], at: usize) -> Option<Half> {
    let digits = text.get(at..at + HALF)?.strip_prefix(br"\u")?;
    let digits = std::str::from_utf8(digits).ok()?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..=0xdbff => Some(Half::First),
        0xdc00..=0xdfff => Some(Half::Second),
        _ => None,
    }
}

/// The number of values in a JSON text, found without building them. Of a text that is not JSON, no fewer than a
/// parser builds before it notices.
pub(crate) fn count(text: &[u8]) -> usize {
    let mut count = 1;
    // Whether a container has begun, of which nothing was seen yet.
    let mut opened = false;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            b']' | b'}' => opened = false,
            _ => count += usize::from(std::mem::take(&mut opened)),
        }
        match byte {
            b'[' | b'{' => opened = true,
            b',' => count += 1,
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => _ = bytes.next(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    count
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Request,
    Answer,
}

fn read(text: &[u8], most: u32, kind: Kind) -> Result<Value, serde_json::Error> {
    read_from(serde_json::Deserializer::from_slice(text), most, kind)
}

fn read_from<'t, R: serde_json::de::Read<'t>>(
    mut deserializer: serde_json::Deserializer<R>,
    most: u32,
    kind: Kind,
) -> Result<Value, serde_json::Error> {
    let tree = Tree { left: &Cell::new(most), most, kind, depth: 0 };
    let value = tree.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Reads one value, and what is in it. All of one text share the count.
#[derive(Clone, Copy)]
struct Tree<'c> {
    left: &'c Cell<u32>,
    most: u32,
    kind: Kind,
    depth: u8,
}

impl Tree<'_> {
    fn inner(self) -> Self {
        // serde_json ends the recursion at 128.
        Tree { depth: self.depth.saturating_add(1), ..self }
    }
}

impl Tree<'_> {
    /// Whether a field of an answer is of no interest. A response says what it is before it comes to its fields.
    fn passes_over(self, key: &str, object: &Map<String, Value>) -> bool {
        let is = |field: &str, among: &[&str]| {
            object.get(field).and_then(Value::as_str).is_some_and(|value| among.contains(&value))
        };
        (self.depth == DEPTH_OF_CHOICE && LOG_PROBABILITIES.contains(&key))
            || (key == LOG_PROBABILITIES[0] && is("type", &TEXTS_OF_RESPONSES))
            || (REPEATED.contains(&key) && is("object", &["response"]))
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => return Err(D::Error::custom(format_args!("it holds more than {} values", self.most))),
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.inner())? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            match self.kind {
                Kind::Request if object.contains_key(&key) => {
                    return Err(A::Error::custom(format_args!("the field {key:?} is there twice")));
                }
                Kind::Answer if self.passes_over(&key, &object) => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => {
                    let value = map.next_value_seed(self.inner())?;
                    object.insert(key, value);
                }
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn small_objects(count: u32) -> String {
        format!(r#"{{"x":[{}]}}"#, vec!["{}"; count as usize].join(","))
    }

    #[test]
    fn a_text_is_bounded_in_values() {
        type Read = fn(&str) -> Result<Value, serde_json::Error>;
        let readers: [(u32, Read); 3] = [
            (REQUEST_VALUES, |text| request(text.as_bytes())),
            (ANSWER_VALUES, |text| answer(text.as_bytes())),
            (EVENT_VALUES, event),
        ];
        for (most, read) in readers {
            assert!(read(&small_objects(most - 2)).is_ok());
            let error = read(&small_objects(most - 1)).unwrap_err().to_string();
            assert!(error.contains(&format!("more than {most} values")), "{error}");
        }
    }

    #[test]
    fn half_of_a_sign_is_one_that_cannot_be_shown() {
        let mends = |text: &str| mended(text.as_bytes()).map(|text| String::from_utf8(text).unwrap());
        for (text, wanted) in [
            (r#"["a\ud83d"]"#, r#"["a\ufffd"]"#),
            (r#"["\uDE00b"]"#, r#"["\ufffdb"]"#),
            (r#"["\ud83d\ud83d\ude00\ude00"]"#, r#"["\ufffd\ud83d\ude00\ufffd"]"#),
            (r#"{"\ud83d":"\ud83d\n"}"#, r#"{"\ufffd":"\ufffd\n"}"#),
            (r#"["\\\ud83d"]"#, r#"["\\\ufffd"]"#),
            (r#"["\ud83d\u0041é"]"#, r#"["\ufffd\u0041é"]"#),
        ] {
            assert_eq!(mends(text).as_deref(), Some(wanted), "{text}");
            let read: Value = serde_json::from_str(wanted).unwrap();
            assert_eq!(answer(text.as_bytes()).unwrap(), read, "{text}");
            assert_eq!(event(text).unwrap(), read, "{text}");
            assert_eq!(arguments(text).unwrap(), read, "{text}");
            // A client that sends it is told.
            assert!(request(text.as_bytes()).is_err(), "{text}");
        }
        for text in
            [r#"["\ud83d\ude00"]"#, r#"["\\ud83d"]"#, r#"["\ud83"#, r#"["\"#, r#"["\u00e9"]"#, "[DONE]", ""]
        {
            assert_eq!(mends(text), None, "{text}");
        }
        // What is cut short is cut short, whatever else it holds.
        assert!(answer(br#"{"a":"\ud83d","b"#).unwrap_err().is_eof());
        assert!(event(r#"{"a":"\ud83d""#).unwrap_err().is_eof());
    }

    #[test]
    fn log_probabilities_of_choices_are_passed_over_and_nothing_else_is() {
        let probabilities = small_objects(ANSWER_VALUES);
        let text = format!(r#"{{"choices":[{{"index":0,"logprobs":{probabilities}}}],"id":"x"}}"#);
        assert_eq!(answer(text.as_bytes()).unwrap(), json!({"choices": [{"index": 0}], "id": "x"}));
        let part = format!(r#"{{"type":"output_text","logprobs":{probabilities},"text":"a"}}"#);
        let text =
            format!(r#"{{"output":[{{"content":[{part}]}}],"object":"response","tools":{probabilities}}}"#);
        let wanted =
            json!({"output": [{"content": [{"type": "output_text", "text": "a"}]}], "object": "response"});
        assert_eq!(answer(text.as_bytes()).unwrap(), wanted);
        // A tool may have an argument of that name.
        let call = json!({"content": [{"type": "tool_use", "input": {"logprobs": 5}}], "logprobs": 1});
        assert_eq!(answer(call.to_string().as_bytes()).unwrap(), call);
    }

    #[test]
    fn values_are_counted_without_a_tree_as_with_one() {
        for text in [
            "null",
            "[]",
            " [ ] ",
            "{\n}",
            r#"{"a":[1,{"b":"]},[{"},"\"{,",null,[[],[ ]]],"c":{"d":{}}}"#,
            r#"["\\",1]"#,
        ] {
            let left = Cell::new(100);
            let tree = Tree { left: &left, most: 100, kind: Kind::Request, depth: 0 };
            tree.deserialize(&mut serde_json::Deserializer::from_str(text)).unwrap();
            assert_eq!(count(text.as_bytes()), 100 - left.get() as usize, "{text}");
        }
        // What is cut short had its values built all the same.
        assert_eq!(count(br#"[{},{},{"#), 4);
    }
}
