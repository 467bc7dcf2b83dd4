//! YAML or JSON text as one bounded tree, before anything is made of it.
//!
//! Both formats come in through the same visitor, so that both get the same rules: text as keys, no key twice, no
//! tags, bounds on depth, size and what aliases may multiply.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::Format;
use super::locate::{Place, Step};
use super::read::{Draft, Position};
use crate::text::{escape, quote};

/// Deepest nesting. JSON Schemas are the deepest part of a manifest, and 64 is deep for one.
const DEPTH_MAX: usize = 64;
/// Most values, what aliases repeat included.
const VALUES_MAX: usize = 100_000;
/// Most bytes of text in keys and values, what aliases repeat included.
const TEXT_MAX: usize = 4 << 20;

/// Longest message of a parser that is repeated.
const PARSER_CHARS: usize = 300;

/// A value of either format.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The node as a JSON value.
    pub(super) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value;
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(number) => Value::Number(number.clone()),
            Self::Text(text) => Value::String(text.clone()),
            Self::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Self::Map(entries) => {
                Value::Object(entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect())
            }
        }
    }
}

/// Reads text into a tree.
pub(super) fn parse(text: &str, format: Format) -> Result<Node, Box<Draft>> {
    let context = Context::default();
    let seed = NodeSeed { context: &context, depth: 0 };
    let (message, position) = match format {
        Format::Yaml => {
            if let Some(at) = too_many_brackets(text) {
                return Err(Box::new(Draft::at(too_deep(), Some(at))));
            }
            match seed.deserialize(serde_yaml::Deserializer::from_str(text)) {
                Ok(node) => return Ok(node),
                Err(error) => yaml_problem(text, &error),
            }
        }
        Format::Json => {
            let mut deserializer = serde_json::Deserializer::from_str(text);
            match seed.deserialize(&mut deserializer).and_then(|node| deserializer.end().map(|()| node)) {
                Ok(node) => return Ok(node),
                Err(error) => {
                    let message = error.to_string();
                    let message = message.rfind(" at line ").map_or(message.as_str(), |at| &message[..at]);
                    // An error at the very start or end of a line has column 0.
                    let position = Some((error.line().max(1), error.column().max(1)));
                    (format!("is not valid JSON: {}", escape(message, PARSER_CHARS)), position)
                }
            }
        }
    };
    // What the visitor found wrong it has noted, with its path; everything else is the parser's own.
    Err(Box::new(match context.0.into_inner().fault {
        // JSON's positions lie behind what was read. That will do for a key; values are looked up.
        Some(fault) if format == Format::Json && fault.place == Place::Value => fault,
        Some(fault) => Draft { position: Position::Parser(position), ..fault },
        None => Draft::at(message, position),
    }))
}

/// The parser's own error, and where it is.
fn yaml_problem(text: &str, error: &serde_yaml::Error) -> (String, Option<(usize, usize)>) {
    let position = error.location().map(|at| (at.line(), at.column()));
    let message = error.to_string();
    if message.contains("repetition limit") {
        return ("repeats itself too often through aliases".into(), position);
    }
    if message.contains("more than one document") {
        return ("holds more than one YAML document (`---`): keep one".into(), position);
    }
    // Errors of the reader know an offset and no line.
    if let Some((message, offset)) = message.split_once(" at position ")
        && let Some(offset) = offset.split(',').next().and_then(|offset| offset.parse().ok())
    {
        return (
            format!("is not valid YAML: {}", escape(message, PARSER_CHARS)),
            Some(line_and_column(text, offset)),
        );
    }
    // The first position is the one reported apart; one that follows says where the broken construct began.
    let own = position.map(|(line, column)| format!(" at line {line} column {column}")).unwrap_or_default();
    (format!("is not valid YAML: {}", escape(&message.replacen(&own, "", 1), PARSER_CHARS)), position)
}

/// Line and column, from 1, of a byte.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let line = before.iter().filter(|b| **b == b'\n').count() + 1;
    (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
}

fn too_deep() -> String {
    format!("is nested deeper than {DEPTH_MAX} levels")
}

/// Where brackets are nested so deeply that the YAML scanner, which takes quadratic time for them, must not see the
/// text. Brackets in strings and comments count as well; no sane manifest holds this many without closing them.
pub(super) fn too_many_brackets(text: &str) -> Option<(usize, usize)> {
    const OPEN_MAX: usize = 256;
    let mut open = 0_usize;
    for (offset, byte) in text.bytes().enumerate() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > OPEN_MAX {
            return Some(line_and_column(text, offset));
        }
    }
    None
}

#[derive(Default)]
struct Context(RefCell<State>);

#[derive(Default)]
struct State {
    path: Vec<Step>,
    values: usize,
    text: usize,
    fault: Option<Draft>,
}

impl Context {
    /// Notes what is wrong here and gives the parser an error to stop with.
    fn fault<E: serde::de::Error>(&self, place: Place, message: String, hint: Option<String>) -> E {
        let mut state = self.0.borrow_mut();
        let path = state.path.clone();
        state.fault.get_or_insert(Draft { path, place, message, hint, position: Position::LookUp });
        E::custom("refused")
    }

    fn count<E: serde::de::Error>(&self, text: usize) -> Result<(), E> {
        let (values, bytes) = {
            let mut state = self.0.borrow_mut();
            state.values += 1;
            state.text = state.text.saturating_add(text);
            (state.values, state.text)
        };
        if values > VALUES_MAX || bytes > TEXT_MAX {
            // The place where the bound was reached means nothing to anybody.
            self.0.borrow_mut().path.clear();
            return Err(self.fault(
                Place::Value,
                "holds too much, aliases written out".into(),
                Some(format!(
                    "a manifest has at most {VALUES_MAX} values and {} MiB of text",
                    TEXT_MAX >> 20
                )),
            ));
        }
        Ok(())
    }

    fn within<T, E>(&self, step: Step, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.0.borrow_mut().path.push(step);
        let result = read();
        self.0.borrow_mut().path.pop();
        result
    }
}

#[derive(Clone, Copy)]
struct NodeSeed<'a> {
    context: &'a Context,
    depth: usize,
}

impl NodeSeed<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            self.context.0.borrow_mut().path.truncate(4);
            return Err(self.context.fault(Place::Value, too_deep(), None));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Node, E> {
        self.context.count(0).map(|()| Node::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Node, E> {
        self.visit_unit()
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Node, E> {
        self.context.count(0).map(|()| Node::Bool(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Node, E> {
        self.context.count(0).map(|()| Node::Number(value.into()))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Node, E> {
        self.context.count(0).map(|()| Node::Number(value.into()))
    }

    // JSON has no integers of this size, and serde_json reads them as floating point; so both formats agree.
    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Node, E> {
        self.visit_f64(value as f64)
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Node, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        self.context.count(0)?;
        canonical_number(value).map(Node::Number).ok_or_else(|| {
            self.context.fault(Place::Value, "infinities and NaN are not numbers here".into(), None)
        })
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Node, E> {
        self.context.count(value.len()).map(|()| Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        self.context.count(0)?;
        let seed = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) =
            self.context.within(Step::Index(list.len()), || items.next_element_seed(seed))?
        {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        self.context.count(0)?;
        let seed = self.deeper()?;
        let mut map = Vec::new();
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key_seed(KeySeed { context: self.context, seen: &mut seen })? {
            let value = self.context.within(Step::Key(key.clone()), || entries.next_value_seed(seed))?;
            map.push((key, value));
        }
        Ok(Node::Map(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Node, A::Error> {
        Err(self.context.fault(
            Place::Value,
            "YAML tags (`!name`) have no meaning in a manifest".into(),
            Some("quote the value if it starts with `!`".into()),
        ))
    }
}

/// A number whose bytes do not depend on the format or the parser: kept to 15 significant digits, which every parser
/// gets right, and as an integer when it is one. `None` for infinities and NaN.
fn canonical_number(value: f64) -> Option<Number> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
    let rounded: f64 = if value.is_finite() { format!("{value:.14e}").parse().ok()? } else { return None };
    if rounded.fract() == 0.0 && rounded.abs() < EXACT {
        return Some(Number::from(rounded as i64));
    }
    Number::from_f64(rounded)
}

struct KeySeed<'a> {
    context: &'a Context,
    seen: &'a mut HashSet<String>,
}

impl KeySeed<'_> {
    fn not_text<E: serde::de::Error>(&self, found: &str) -> E {
        self.context.fault(
            Place::Key,
            format!("has {found} as the name of a field"),
            Some("put the name in quotes".into()),
        )
    }
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<String, E> {
        self.context.count(key.len())?;
        if !self.seen.insert(key.to_owned()) {
            let name = quote(key);
            return Err(self.context.fault(Place::Key, format!("has the field {name} twice"), None));
        }
        Ok(key.to_owned())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<String, E> {
        Err(self.not_text(&format!("`{value}`")))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<String, E> {
        Err(self.not_text(&format!("the number {value}")))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<String, E> {
        Err(self.not_text(&format!("the number {value}")))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<String, E> {
        Err(self.not_text(&format!("the number {value}")))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<String, E> {
        Err(self.not_text(&format!("the number {value}")))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<String, E> {
        Err(self.not_text("nothing"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(self.not_text("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(self.not_text("a mapping"))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<String, A::Error> {
        Err(self.not_text("a YAML tag"))
    }
}
