//! The turns of a conversation as Claude takes them, at Anthropic's own door and at Bedrock's: neighbours of one role are one,
//! results come first, somebody has asked, and what the model has begun to say ends in a word.

use serde_json::{Value, json};

use crate::ir::{Dropped, Role};

/// System text and messages, of blocks in the order in which they were said.
pub(in crate::dialect) struct Turns {
    system: Vec<Value>,
    turns: Vec<(Role, Vec<Value>)>,
}

impl Turns {
    /// With what stands apart from the messages.
    pub(in crate::dialect) fn after(system: Vec<Value>) -> Turns {
        Turns { system, turns: Vec::new() }
    }

    /// Adds a message's blocks. System text goes to the top, wherever it stands.
    pub(in crate::dialect) fn push(
        &mut self,
        role: Role,
        blocks: Vec<Value>,
        path: &str,
        dropped: &mut Vec<Dropped>,
    ) {
        if role == Role::System {
            if !self.turns.is_empty() {
                dropped.push(Dropped::new(path, "its place: system text stands before all messages"));
            }
            self.system.extend(blocks);
            return;
        }
        if blocks.is_empty() {
            return;
        }
        match self.turns.last_mut() {
            Some((last, turn)) if *last == role => turn.extend(blocks),
            _ => self.turns.push((role, blocks)),
        }
    }

    /// System text, and the messages. `is_result`: whether a block is a tool's result.
    pub(in crate::dialect) fn finish(
        mut self,
        is_result: fn(&Value) -> bool,
        dropped: &mut Vec<Dropped>,
    ) -> (Vec<Value>, Vec<Value>) {
        if self.turns.is_empty() && !self.system.is_empty() {
            dropped.push(Dropped::new(
                "messages",
                "their place: somebody has to ask, and they were sent as the user's",
            ));
            self.turns.push((Role::User, std::mem::take(&mut self.system)));
        }
        if let Some((Role::Assistant, said)) = self.turns.last_mut() {
            end_in_a_word(said);
        }
        let messages = self.turns.into_iter().map(|(role, blocks)| {
            let (mut results, others): (Vec<_>, Vec<_>) = blocks.into_iter().partition(is_result);
            results.extend(others);
            let role = if role == Role::Assistant { "assistant" } else { "user" };
            json!({ "role": role, "content": results })
        });
        (self.system, messages.collect())
    }
}

/// White space at the end of what the model is to go on from is refused.
fn end_in_a_word(said: &mut [Value]) {
    let last = said.last_mut().and_then(|block| block.get_mut("text"));
    if let Some(Value::String(text)) = last {
        text.truncate(text.trim_end().len());
    }
}
