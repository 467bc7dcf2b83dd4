//! What the deltas of a dialect are pieces of.

use serde_json::{Map, Value};

use crate::frames::Frame;

/// A text that comes in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The choice or candidate that it belongs to, by its index; where a message is made of blocks (Anthropic, Cohere),
    /// the block's own number.
    pub(super) of: u64,
    pub(super) part: Part,
}

/// Which of the texts there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A field of the delta that is nothing but text.
    Field(&'static str),
    /// A thought, where thoughts stand among the texts (Gemini).
    Thought,
    /// A text by its index and a name: a field of a detail of the reasoning (OpenRouter), a kind of delta in an item
    /// (OpenAI's responses).
    Detail(u64, &'static str),
    /// What is said in sound (OpenAI).
    Transcript,
    /// The arguments of the one call of old (OpenAI).
    FunctionCall,
    /// The arguments of a call (OpenAI).
    Arguments(Call),
    /// The free-form input of a call (OpenAI).
    Input(Call),
}

/// Which of the calls of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// By the provider's index.
    Index(u64),
    /// The same, where so many other calls began under this index before it.
    Again(u64, u64),
    /// By what there is where the provider gives none.
    Other(u64),
}

/// A step on the way from an event to a value in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(&'static str),
    At(usize),
}

/// Something in an event.
pub(super) enum Seen<'t> {
    /// A piece of a text.
    Text {
        block: Block,
        /// Where it stands.
        path: Vec<Step>,
        text: &'t str,
        /// Where the log probabilities of its tokens stand, should there be any.
        beside: Option<Vec<Step>>,
    },
    /// Something else that has its place among the texts of a choice, such as a tool call, which may have a text of its own.
    Call { of: u64, own: Option<Block> },
}

/// A dialect's texts. Signatures and whole values are none: each comes in one event.
pub(super) trait Texts: Send {
    /// What an event holds, in order.
    fn see<'t>(&mut self, tree: &'t Value) -> Vec<Seen<'t>>;

    /// Whether the blocks of a choice end with this event.
    fn ends(&self, tree: &Value, of: u64) -> bool;

    /// An event that holds this much of a block and nothing else.
    fn delta(&self, block: Block, text: &str, envelope: &Map<String, Value>) -> Frame;

    /// Fields that every event of an answer repeats.
    fn envelope(&self) -> &'static [&'static str] {
        &[]
    }
}

/// Whether the provider says that it failed, after which it says nothing more.
pub(super) fn is_error(tree: &Value) -> bool {
    tree.get("error").is_some_and(|error| !error.is_null())
        || tree.get("type").and_then(Value::as_str) == Some("error")
}

/// A path, in two parts.
pub(super) fn within(holder: &[Step], rest: &[Step]) -> Vec<Step> {
    let mut path = Vec::with_capacity(holder.len() + rest.len());
    path.extend_from_slice(holder);
    path.extend_from_slice(rest);
    path
}
