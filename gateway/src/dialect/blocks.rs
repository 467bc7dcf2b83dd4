//! The content blocks of a stream for clients whose blocks come one after the other, while other dialects interleave
//! tool calls: the front block is live, the ones behind it are held until it is complete.

use std::collections::VecDeque;

use crate::ir::StreamEvent;

/// What a block is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Thinking,
    Tool { index: u32, id: String, name: String },
}

/// What is to be written next of the block with this position.
pub(super) enum Step<'b> {
    Start(&'b Kind),
    /// More text, never empty.
    Delta(&'b Kind, String),
    Signature(String),
    Stop,
}

/// The blocks that are not written yet.
#[derive(Default)]
pub(super) struct Blocks {
    blocks: VecDeque<Held>,
    /// Index of the front block in the client's stream.
    position: u64,
    /// Whether the front block's start has been written.
    open: bool,
}

struct Held {
    kind: Kind,
    /// Text that has not been written.
    pending: String,
    signature: Option<String>,
    complete: bool,
}

impl Blocks {
    /// Takes an event. `false` when it is none of a block's content.
    pub(super) fn take(&mut self, event: &StreamEvent) -> bool {
        match event {
            StreamEvent::Text(text) | StreamEvent::Refusal(text) => {
                self.prose(Kind::Text).pending.push_str(text);
            }
            StreamEvent::Reasoning(text) => self.prose(Kind::Thinking).pending.push_str(text),
            StreamEvent::ReasoningSignature(signature) => {
                self.prose(Kind::Thinking).signature = Some(signature.clone());
            }
            StreamEvent::ToolStart { index, id, name, .. } => {
                self.begin(Kind::Tool { index: *index, id: id.clone(), name: name.clone() });
            }
            StreamEvent::ToolArguments { index, fragment } => {
                if let Some(block) = self.tool(*index) {
                    block.pending.push_str(fragment);
                }
            }
            StreamEvent::ToolEnd { index } => {
                if let Some(block) = self.tool(*index) {
                    block.complete = true;
                }
            }
            StreamEvent::Stop { .. } => self.blocks.iter_mut().for_each(|block| block.complete = true),
            StreamEvent::Start { .. }
            | StreamEvent::Usage(_)
            | StreamEvent::Opaque(_)
            | StreamEvent::End
            | StreamEvent::Error(_) => return false,
        }
        true
    }

    /// Forgets what is held.
    pub(super) fn clear(&mut self) {
        self.blocks.clear();
    }

    /// Writes what the front block has, and the ones behind it as far as those before them are complete.
    pub(super) fn advance(&mut self, mut write: impl FnMut(u64, Step<'_>)) {
        while let Some(front) = self.blocks.front_mut() {
            let index = self.position;
            if !std::mem::replace(&mut self.open, true) {
                write(index, Step::Start(&front.kind));
            }
            if !front.pending.is_empty() {
                write(index, Step::Delta(&front.kind, std::mem::take(&mut front.pending)));
            }
            if let Some(signature) = front.signature.take() {
                write(index, Step::Signature(signature));
            }
            if !front.complete {
                return;
            }
            write(index, Step::Stop);
            self.blocks.pop_front();
            self.position += 1;
            self.open = false;
        }
    }

    /// The last block if it is of this kind and still open, or a new one.
    fn prose(&mut self, kind: Kind) -> &mut Held {
        let fits = self.blocks.back().is_some_and(|block| block.kind == kind && !block.complete);
        if !fits {
            self.begin(kind);
        }
        let last = self.blocks.len() - 1;
        &mut self.blocks[last]
    }

    /// A new block completes the prose before it; a tool call is completed only by its own end.
    fn begin(&mut self, kind: Kind) {
        for block in &mut self.blocks {
            block.complete |= matches!(block.kind, Kind::Text | Kind::Thinking);
        }
        self.blocks.push_back(Held { kind, pending: String::new(), signature: None, complete: false });
    }

    fn tool(&mut self, wanted: u32) -> Option<&mut Held> {
        self.blocks.iter_mut().find(|block| matches!(block.kind, Kind::Tool { index, .. } if index == wanted))
    }
}
