//! Secrets that a provider's host spreads over the events of a stream.
//!
//! The proxy has looked through the bytes of an answer, each event by itself. A text that comes in deltas stands between
//! other things there, and is whole again only at the client; so it is put together here as well, block by block, and
//! searched for the secrets that the provider's origin got. What may be the beginning of one is held until the block goes
//! on, and goes on as a delta of its own where the block ends. An event that neither holds such a thing nor completes it
//! passes as it came, byte for byte.
//!
//! What is held is no more than the beginning of a secret for each block, of [`MOST`] blocks.

mod anthropic;
mod bedrock;
mod cohere;
mod gemini;
mod held;
mod ollama;
mod openai_chat;
mod openai_responses;
mod splice;
mod texts;

use orch_manifests::Dialect;
use orch_proxy::{SCRUBBED, Sought};
use serde_json::{Map, Value};

use crate::frames::Frame;
use held::Held;
use splice::Change;
use texts::{Block, Seen, Texts};

/// Blocks of which something may be held at once. Answers have a handful; beyond this the one that was quiet for the
/// longest time lets go.
const MOST: usize = 64;

/// Bytes of a held beginning that go ahead where another block of the same choice goes on: texts that end in a letter with
/// which a secret begins are common, and stay in front of what follows them. They are no secret yet, and kept in mind.
const AHEAD: usize = 3;

/// From so many bytes of a held beginning on, the log probabilities of an event go: they repeat its text, token by token.
const TELLING: usize = 8;

/// The texts of one stream.
pub(crate) struct Deltas {
    sought: Sought,
    texts: Box<dyn Texts>,
    /// The block that was quiet for the longest time first.
    held: Vec<Held>,
    /// What every event of the stream repeats, for those that are made here.
    envelope: Map<String, Value>,
}

impl Deltas {
    /// For a stream in this dialect, in which these secrets may turn up.
    pub(crate) fn new(sought: Sought, spoken: Dialect) -> Deltas {
        let texts: Box<dyn Texts> = match spoken {
            Dialect::OpenAiChat => Box::<openai_chat::OpenAiChat>::default(),
            Dialect::OpenAiResponses => Box::<openai_responses::OpenAiResponses>::default(),
            Dialect::AnthropicMessages => Box::new(anthropic::Anthropic),
            Dialect::GeminiGenerateContent => Box::new(gemini::Gemini),
            Dialect::BedrockConverse => Box::new(bedrock::Bedrock),
            Dialect::CohereChat => Box::new(cohere::Cohere),
            Dialect::OllamaChat => Box::new(ollama::Ollama),
        };
        Deltas { sought, texts, held: Vec::new(), envelope: Map::new() }
    }

    /// Whether an event passes as it came of which this text is all that matters.
    pub(crate) fn lets_through(&self, text: &str) -> bool {
        self.held.is_empty() && self.is_free(text)
    }

    /// Takes secrets out of an event, whose data `tree` is. Gives back what goes on ahead of it.
    pub(crate) fn pass(&mut self, event: &mut Frame, tree: &mut Value) -> Vec<Frame> {
        let seen = self.texts.see(tree);
        if self.held.is_empty() && seen.iter().all(|seen| self.is_plain(seen)) {
            return Vec::new();
        }
        self.remember(tree);
        let mut work = Work::new(&seen);
        for at in 0..seen.len() {
            self.take(&mut work, at);
            work.taken = at + 1;
        }
        while self.held.len() > MOST {
            let held = self.held.remove(0);
            self.let_go(held, &mut work);
        }
        for held in std::mem::take(&mut self.held) {
            match self.texts.ends(tree, held.block.of) {
                true => self.let_go(held, &mut work),
                false => self.held.push(held),
            }
        }
        let ahead = std::mem::take(&mut work.ahead);
        let changes = work.changes();
        if !changes.is_empty() {
            let old = event.data.take().unwrap_or_default();
            let new = splice::spliced(&old, changes, tree);
            match new == old {
                true => event.data = Some(old),
                false => event.replace_data(new),
            }
        }
        ahead
    }

    /// What is held when the stream is over.
    pub(crate) fn finish(&mut self) -> Vec<Frame> {
        let held = std::mem::take(&mut self.held);
        let rest = held.into_iter().map(|held| (held.block, held.finish()));
        let rest = rest.filter(|(_, text)| !text.is_empty());
        rest.map(|(block, text)| self.texts.delta(block, &text, &self.envelope)).collect()
    }

    fn is_plain(&self, seen: &Seen<'_>) -> bool {
        match seen {
            Seen::Call { .. } => true,
            Seen::Text { text, .. } => self.is_free(text),
        }
    }

    /// Whether there is nothing of a secret in a text, nor a mark of one that was there.
    fn is_free(&self, text: &str) -> bool {
        !text.contains(SCRUBBED) && self.sought.lets_through(text.as_bytes())
    }

    /// Takes the next of what was seen.
    fn take(&mut self, work: &mut Work<'_, '_>, at: usize) {
        let (block, text) = match &work.seen[at] {
            Seen::Call { of, own } => return self.go_ahead(*of, *own, work),
            Seen::Text { block, text, .. } => (*block, *text),
        };
        if !text.is_empty() {
            self.go_ahead(block.of, Some(block), work);
        }
        let known = self.held.iter().position(|held| held.block == block);
        let mut held = match known {
            Some(known) => self.held.remove(known),
            None if self.sought.lets_through(text.as_bytes()) => return,
            None => Held::new(block, self.sought.stream()),
        };
        work.said[at] = Some(held.push(text));
        work.telling[at] = held.begun() >= TELLING;
        if !held.is_idle() {
            self.held.push(held);
        }
    }

    /// Lets short beginnings of the other blocks of a choice go ahead.
    fn go_ahead(&mut self, of: u64, but: Option<Block>, work: &mut Work<'_, '_>) {
        for held in self.held.iter_mut().filter(|held| held.block.of == of && Some(held.block) != but) {
            let text = held.release(AHEAD);
            work.settle(held.block, &text, &*self.texts, &self.envelope);
        }
    }

    fn let_go(&self, held: Held, work: &mut Work<'_, '_>) {
        let block = held.block;
        work.settle(block, &held.finish(), &*self.texts, &self.envelope);
    }

    fn remember(&mut self, tree: &Value) {
        for key in self.texts.envelope() {
            if let Some(value) = tree.get(key).filter(|value| is_small(value)) {
                self.envelope.insert((*key).to_owned(), value.clone());
            }
        }
    }
}

fn is_small(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() <= 256,
        Value::Array(_) | Value::Object(_) => false,
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

/// One event under way.
struct Work<'s, 't> {
    seen: &'s [Seen<'t>],
    /// What each text has become, where it changed.
    said: Vec<Option<String>>,
    /// Of which texts a telling part is held.
    telling: Vec<bool>,
    /// So many of the texts were taken.
    taken: usize,
    /// What goes on ahead of the event.
    ahead: Vec<Frame>,
}

impl<'s, 't> Work<'s, 't> {
    fn new(seen: &'s [Seen<'t>]) -> Self {
        let count = seen.len();
        Work { seen, said: vec![None; count], telling: vec![false; count], taken: 0, ahead: Vec::new() }
    }

    /// Text of a block that is held no longer: behind what this event has of the block, or else ahead of the event.
    fn settle(&mut self, block: Block, rest: &str, texts: &dyn Texts, envelope: &Map<String, Value>) {
        if rest.is_empty() {
            return;
        }
        let taken = self.seen[..self.taken].iter().zip(&mut self.said[..self.taken]);
        let here = taken.rev().find_map(|(seen, said)| match seen {
            Seen::Text { block: other, .. } if *other == block => said.as_mut(),
            _ => None,
        });
        match here {
            Some(said) => said.push_str(rest),
            None => self.ahead.push(texts.delta(block, rest, envelope)),
        }
    }

    fn changes(self) -> Vec<Change> {
        let mut changes = Vec::new();
        // Texts of one choice stand together.
        let mut told = None;
        for (at, (seen, said)) in self.seen.iter().zip(self.said).enumerate() {
            let Seen::Text { path, text, beside, .. } = seen else { continue };
            let tells = self.telling[at] || said.as_deref().unwrap_or(text).contains(SCRUBBED);
            if let Some(beside) = beside.as_ref().filter(|beside| tells && told != Some(*beside)) {
                changes.push(Change { path: beside.clone(), value: None });
                told = Some(beside);
            }
            if let Some(said) = said.filter(|said| said != text) {
                changes.push(Change { path: path.clone(), value: Some(said) });
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests;
