//! How much of an answer that is written anew may be kept. Some dialects have a call in one piece, or blocks one after the
//! other, or the whole answer once more at its end: what they have to wait for, their writers keep. A client that reads
//! slowly does not slow down what it is not sent, so that this has a bound of its own.

use std::mem::Discriminant;

use crate::attempt::ANSWER_CAP;
use crate::ir::StreamEvent;

/// What a piece of another kind than the one before costs beside its bytes: a block or an item of its own.
const PIECE: usize = 1 << 10;

/// The pieces of an answer so far, of which all may be kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    bytes: usize,
    /// What the last piece was.
    kind: Option<Discriminant<StreamEvent>>,
}

impl Kept {
    /// Takes a piece. `false`: the answer has become larger than a whole one may be.
    pub(crate) fn take(&mut self, event: &StreamEvent) -> bool {
        let bytes = match event {
            StreamEvent::Text(text)
            | StreamEvent::Reasoning(text)
            | StreamEvent::ReasoningSignature(text)
            | StreamEvent::Refusal(text)
            | StreamEvent::ToolArguments { fragment: text, .. } => text.len(),
            StreamEvent::ToolStart { id, name, signature, .. } => {
                PIECE + id.len() + name.len() + signature.as_ref().map_or(0, String::len)
            }
            StreamEvent::Start { .. }
            | StreamEvent::ToolEnd { .. }
            | StreamEvent::Opaque(_)
            | StreamEvent::Usage(_)
            | StreamEvent::Stop { .. }
            | StreamEvent::End
            | StreamEvent::Error(_) => return true,
        };
        let kind = std::mem::discriminant(event);
        let another = self.kind.replace(kind) != Some(kind);
        self.bytes = self.bytes.saturating_add(bytes).saturating_add(if another { PIECE } else { 0 });
        self.bytes <= ANSWER_CAP
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Usage;

    /// How many of these events, one after the other, are taken.
    fn taken(events: &[StreamEvent]) -> usize {
        let mut kept = Kept::default();
        events.iter().cycle().take(1 << 20).take_while(|event| kept.take(event)).count()
    }

    #[test]
    fn an_answer_is_bounded_however_it_is_cut() {
        let say = |length: usize| StreamEvent::Text("x".repeat(length));
        assert_eq!(taken(&[say(1 << 16)]), (ANSWER_CAP - PIECE) >> 16);
        assert_eq!(
            taken(&[say(1), StreamEvent::Usage(Usage::default())]),
            1 << 20,
            "small pieces weigh what they are"
        );
        let begins = StreamEvent::ToolStart { index: 0, id: "c".into(), name: "f".into(), signature: None };
        assert!(taken(&[begins]) < ANSWER_CAP / PIECE, "a call is more than its name");
        let pieces = [say(1), StreamEvent::Reasoning("x".into())];
        assert!(taken(&pieces) < ANSWER_CAP / PIECE, "and so is a block than its text");
    }
}
