//! One model behind every provider's door, for tests of client libraries: what is asked in any dialect is answered in that
//! dialect, and comes to the same.
//!
//! A request is first judged by its provider (path, headers, key, fields), then by what it says (every call has its result, a
//! schema and an image arrive whole), and is refused in the provider's words. What the model then does follows from the
//! request ([`answer`]), or from a word in what the user says ([`Play`]): `play:slow:7` waits in the middle of a stream.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::Failure;
use crate::gate::Gate;
use crate::reply::{Piece, Reply};
use crate::upstream::Host;
use crate::wire::Received;

mod asked;
mod chat;
mod cohere;
mod converse;
mod generate;
mod messages;
mod ollama;
mod responses;
mod vectors;

pub use asked::{Asked, Tool};
pub use chat::{Aloud, chat};
pub use cohere::cohere;
pub use converse::converse;
pub use generate::generate;
pub use messages::messages;
pub use ollama::ollama;
pub use responses::responses;
pub use vectors::{Form, with_vectors};

/// What the model says when nothing else is asked of it.
pub const SAYS: &str = "Keys stay with their owner, and café agents ask.";
/// What it says beside calls.
pub const PLAN: &str = "I will look.";
/// What it thinks, where it is asked to.
pub const THOUGHTS: &str = "Who asks has no key.";
/// What its thoughts, or the calls that follow from them, are signed with, where they are.
pub const SIGNATURE: &str = "c2lnbmVkIGJ5IG5vYm9keQ==";
/// Seconds to wait, of a rate limit.
pub const WAIT: u64 = 3600;
/// Tokens of every request.
pub const INPUT: u64 = 25;
/// Those of them that the provider had in its cache.
pub const CACHED: u64 = 6;
/// Tokens of every answer.
pub const OUTPUT: u64 = 12;
/// Those of them that went into thoughts, where there are any.
pub const REASONING: u64 = 5;

/// What the model says.
#[derive(Debug, Default)]
pub struct Said {
    /// Whether it thought before.
    pub thought: bool,
    /// What it shows of that.
    pub thoughts: Option<&'static str>,
    /// Its text; beside calls, what it is about to do.
    pub text: String,
    /// Its calls.
    pub calls: Vec<Call>,
}

/// A call of a tool.
#[derive(Debug)]
pub struct Call {
    /// The tool's name.
    pub name: String,
    /// An object.
    pub arguments: Value,
}

impl Said {
    /// Tokens that went into thoughts.
    fn reasoning(&self) -> u64 {
        if self.thought { REASONING } else { 0 }
    }
}

/// A stream as it is written, and how far it has come when the first of the text is out.
#[derive(Default)]
pub struct Script {
    pieces: Vec<Piece>,
    spoken: Option<usize>,
}

impl Script {
    fn push(&mut self, piece: Piece) {
        self.pieces.push(piece);
    }

    /// A piece of the answer's text.
    fn text(&mut self, piece: Piece) {
        self.pieces.push(piece);
        self.spoken.get_or_insert(self.pieces.len());
    }
}

/// How one provider reads and writes.
pub trait Door: Send + Sync + 'static {
    /// What is wrong with a request before anybody looks at what it says.
    fn objection(&self, request: &Received) -> Option<Reply>;

    /// What the request asks.
    ///
    /// # Errors
    /// What is wrong with it, as the provider would say it.
    fn asked(&self, request: &Received) -> Result<Asked, String>;

    /// The refusal of a request with these words.
    fn invalid(&self, message: &str) -> Reply;

    /// The answer of a provider that fails in this way.
    fn failure(&self, failure: Failure) -> Reply;

    /// A whole answer.
    fn whole(&self, request: &Received, said: &Said) -> Reply;

    /// A streamed answer.
    fn stream(&self, request: &Received, said: &Said) -> Script;

    /// What a stream says that breaks down.
    fn broken(&self) -> Piece;

    /// What streams are.
    fn media_type(&self) -> &'static str {
        "text/event-stream"
    }
}

/// What is to happen, if something is.
enum Play {
    Fails(Failure),
    /// The stream breaks down in the middle, and says so.
    Broken,
    /// The stream ends in the middle, and says nothing.
    Cut,
    /// The stream waits in the middle until it may go on.
    Slow(String),
    /// The stream never ends.
    Endless(String),
}

impl Play {
    fn of(prompt: &str) -> Option<Play> {
        let word = prompt.split_whitespace().find_map(|word| word.strip_prefix("play:"))?;
        let (name, token) = word.split_once(':').unwrap_or((word, ""));
        Some(match name {
            "unauthorized" => Play::Fails(Failure::BadKey),
            "missing" => Play::Fails(Failure::NoModel),
            "limited" => Play::Fails(Failure::RateLimited(WAIT)),
            "invalid" => Play::Fails(Failure::BadRequest),
            "broken" => Play::Broken,
            "cut" => Play::Cut,
            "slow" => Play::Slow(token.to_owned()),
            "endless" => Play::Endless(token.to_owned()),
            other => panic!("nobody can play {other:?}"),
        })
    }
}

/// Where streams wait, and where it is known who left: a test reaches it over HTTP.
#[derive(Clone, Default)]
pub struct Wings {
    gates: Arc<Mutex<HashMap<String, Gate>>>,
}

impl Wings {
    fn gate(&self, kind: &str, token: &str) -> Gate {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.entry(format!("{kind}/{token}")).or_insert_with(Gate::closed).clone()
    }
}

/// `/go/TOKEN` lets `play:slow:TOKEN` go on; `/gone/TOKEN` is answered once the caller of `play:endless:TOKEN` has hung up.
impl Host for Wings {
    fn answer(&self, request: &Received) -> Reply {
        let done = Reply::json(200, &json!({}));
        match request.path.trim_start_matches('/').split_once('/') {
            Some(("go", token)) => {
                self.gate("go", token).open();
                done
            }
            Some(("gone", token)) => done.held(&self.gate("gone", token)),
            _ => Reply::json(404, &json!({ "error": "/go/TOKEN or /gone/TOKEN" })),
        }
    }
}

/// The model behind a door.
pub struct Behind<D> {
    door: D,
    wings: Wings,
}

/// The model behind `door`.
pub fn behind<D: Door>(door: D, wings: &Wings) -> Behind<D> {
    Behind { door, wings: wings.clone() }
}

impl<D: Door> Host for Behind<D> {
    fn answer(&self, request: &Received) -> Reply {
        if let Some(objection) = self.door.objection(request) {
            return objection;
        }
        let asked = match self.door.asked(request).and_then(Asked::judged) {
            Ok(asked) => asked,
            Err(message) => return self.door.invalid(&message),
        };
        let play = Play::of(&asked.prompt);
        if let Some(Play::Fails(failure)) = play {
            return self.door.failure(failure);
        }
        let said = answer(&asked);
        if !asked.stream {
            return self.door.whole(request, &said);
        }
        let Script { mut pieces, spoken } = self.door.stream(request, &said);
        let middle = spoken.unwrap_or(pieces.len());
        let rest = pieces.split_off(middle);
        match play {
            None | Some(Play::Fails(_)) => pieces.extend(rest),
            Some(Play::Broken) => pieces.push(self.door.broken()),
            Some(Play::Cut) => pieces.push(Piece::Cut),
            Some(Play::Slow(token)) => {
                pieces.push(Piece::Wait(self.wings.gate("go", &token)));
                pieces.extend(rest);
            }
            Some(Play::Endless(token)) => pieces.push(Piece::Left(self.wings.gate("gone", &token))),
        }
        let headers = vec![("content-type".into(), self.door.media_type().into())];
        Reply::Stream { status: 200, headers, pieces }
    }
}

/// What the model says to this.
fn answer(asked: &Asked) -> Said {
    let mut said = Said { thought: asked.thinks, ..Said::default() };
    said.thoughts = (asked.thinks && asked.aloud).then_some(THOUGHTS);
    if !asked.results.is_empty() {
        let results: Vec<String> =
            asked.results.iter().map(|(name, text)| format!("{name}: {text}")).collect();
        said.text = results.join("; ");
    } else if !asked.tools.is_empty() {
        said.text = PLAN.to_owned();
        let call = |tool: &Tool| Call { name: tool.name.clone(), arguments: arguments(&tool.name) };
        said.calls = asked.tools.iter().map(call).collect();
    } else if let Some(schema) = &asked.schema {
        said.text = filled(schema).to_string();
    } else if !asked.images.is_empty() {
        let sizes: Vec<String> = asked.images.iter().map(|image| format!("{} bytes", image.len())).collect();
        said.text = format!("I see a picture of {}.", sizes.join(" and one of "));
    } else {
        said.text = SAYS.to_owned();
    }
    said
}

/// What the model calls a tool with: a forecast is of a place, and anything else of nothing.
fn arguments(name: &str) -> Value {
    if name == "forecast" { json!({ "city": "Zürich", "days": 2 }) } else { json!({}) }
}

/// Something that keeps to a schema.
fn filled(schema: &Value) -> Value {
    let kind = schema["type"].as_str().unwrap_or_default().to_ascii_lowercase();
    match kind.as_str() {
        "object" => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            Value::Object(fields.map(|(name, of)| (name.clone(), filled(of))).collect())
        }
        "array" => json!([filled(&schema["items"])]),
        "integer" | "number" => json!(3),
        "boolean" => json!(true),
        _ => json!(SAYS),
    }
}

/// Two parts of a text, so that a reader has to join them. Cut between characters.
fn halves(text: &str) -> [&str; 2] {
    let middle = text.char_indices().nth(text.chars().count() / 2).map_or(text.len(), |(at, _)| at);
    let (start, end) = text.split_at(middle);
    [start, end]
}

/// An event of server-sent events, with its name.
fn named(name: &str, data: &Value) -> Piece {
    Piece::text(format!("event: {name}\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests;
