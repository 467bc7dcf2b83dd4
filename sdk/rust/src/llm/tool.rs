//! Tools that a model is offered, and its calls of them.

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::{Error, Result};

/// The most calls that one answer may have; a stream that wants more is not understood.
const MOST_CALLS: usize = 128;

/// A tool to offer to the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    name: String,
    description: String,
    parameters: Value,
}

impl Tool {
    /// A tool with what it does, in words for the model, and the JSON Schema of its arguments: an object, even when
    /// there are none. Providers want a name of at most 64 letters, digits, `_` and `-`.
    pub fn new(name: impl Into<String>, description: impl Into<String>, parameters: Value) -> Tool {
        Tool { name: name.into(), description: description.into(), parameters }
    }
}

impl Serialize for Tool {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Tool { name, description, parameters } = self;
        let function = json!({ "name": name, "description": description, "parameters": parameters });
        json!({ "type": "function", "function": function }).serialize(serializer)
    }
}

/// A call that the model wants made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// What ties the result to the call.
    pub id: String,
    /// The tool's name; a model may make one up.
    pub name: String,
    /// The arguments as the model wrote them: JSON as a rule, and not always what the schema asked for.
    pub arguments: String,
}

impl ToolCall {
    /// Reads the arguments; none at all are an empty object.
    ///
    /// Fails with [`Error::Protocol`] when they are not JSON or not what `T` wants. The message is fit to be the
    /// call's result, so that the model can try again.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T> {
        let text = if self.arguments.trim().is_empty() { "{}" } else { &self.arguments };
        serde_json::from_str(text)
            .map_err(|error| Error::Protocol(format!("the arguments of {}: {error}", self.name)))
    }
}

impl Serialize for ToolCall {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let ToolCall { id, name, arguments } = self;
        let function = json!({ "name": name, "arguments": arguments });
        json!({ "id": id, "type": "function", "function": function }).serialize(serializer)
    }
}

/// The calls of one answer while it is streamed.
#[derive(Debug, Default)]
pub(super) struct Calls(Vec<(u64, ToolCall)>);

impl Calls {
    /// Takes a piece of a call. The first of each call carries its id and name, the others continue the arguments of
    /// the call with their index. Some providers send whole calls and no index, or the same index for all: an id that
    /// was not seen begins another call.
    pub(super) fn push(&mut self, piece: Piece) -> Result<()> {
        let id = piece.id.unwrap_or_default();
        let last = self.0.last().map_or(0, |(index, _)| *index);
        let index = piece.index.unwrap_or(last);
        let known = self
            .0
            .iter()
            .rposition(|(at, call)| *at == index && (id.is_empty() || call.id == id || call.id.is_empty()));
        let place = match known {
            Some(place) => place,
            None if self.0.len() >= MOST_CALLS => {
                return Err(Error::Protocol(format!("more than {MOST_CALLS} tool calls in one answer")));
            }
            None => {
                self.0.push((index, ToolCall::default()));
                self.0.len() - 1
            }
        };
        let call = &mut self.0[place].1;
        if !id.is_empty() {
            call.id = id;
        }
        let function = piece.function.unwrap_or_default();
        if let Some(name) = function.name.filter(|_| call.name.is_empty()) {
            call.name = name;
        }
        call.arguments.push_str(&function.arguments.unwrap_or_default());
        Ok(())
    }

    /// The calls in their order. A call without an id gets one: the request that carries its result needs it.
    pub(super) fn finish(self) -> Vec<ToolCall> {
        let named = |(at, (_, mut call)): (usize, (u64, ToolCall))| {
            if call.id.is_empty() {
                call.id = format!("call_{at}");
            }
            call
        };
        self.0.into_iter().enumerate().map(named).collect()
    }
}

/// A piece of a call, as a chunk of the stream carries it.
#[derive(Debug, Default, serde::Deserialize)]
pub(super) struct Piece {
    index: Option<u64>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Debug, Default, serde::Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(pieces: Value) -> Result<Vec<ToolCall>> {
        let mut calls = Calls::default();
        for piece in serde_json::from_value::<Vec<Piece>>(pieces).unwrap() {
            calls.push(piece)?;
        }
        Ok(calls.finish())
    }

    fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
        ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
    }

    #[test]
    fn pieces_are_put_together_by_index() {
        let pieces = json!([
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}},
            {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}},
            {"index": 0, "function": {"arguments": "{\"x\""}},
            {"index": 0, "function": {"arguments": ":1}"}},
        ]);
        assert_eq!(calls(pieces).unwrap(), [call("a", "f", "{\"x\":1}"), call("b", "g", "{}")]);
    }

    #[test]
    fn whole_calls_without_index_or_with_one_index_for_all_stay_apart() {
        for index in [json!(null), json!(0)] {
            let pieces = json!([
                {"index": index, "id": "a", "function": {"name": "f", "arguments": "{}"}},
                {"index": index, "id": "b", "function": {"name": "f", "arguments": "{}"}},
            ]);
            assert_eq!(calls(pieces).unwrap(), [call("a", "f", "{}"), call("b", "f", "{}")]);
        }
        let nameless = json!([{"index": 0, "id": "", "function": {"name": "f"}}]);
        assert_eq!(calls(nameless).unwrap(), [call("call_0", "f", "")]);
    }

    #[test]
    fn the_number_of_calls_is_bounded() {
        let many: Vec<Value> =
            (0..=MOST_CALLS).map(|index| json!({"index": index, "id": index.to_string()})).collect();
        assert!(matches!(calls(json!(many)), Err(Error::Protocol(_))));
        assert_eq!(calls(json!(many[1..])).unwrap().len(), MOST_CALLS);
    }

    #[test]
    fn arguments_are_read_or_the_model_is_told_why_not() {
        let read =
            |arguments: &str| call("a", "f", arguments).arguments::<std::collections::BTreeMap<String, u8>>();
        assert_eq!(read("{\"x\":1}").unwrap()["x"], 1);
        assert!(read(" ").unwrap().is_empty());
        let error = read("{\"x\":").unwrap_err().to_string();
        assert!(error.contains("the arguments of f: EOF"), "{error}");
    }
}
