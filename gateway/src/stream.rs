//! The rest of a stream that has begun: from here on the client hears this provider or an error.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use orch_manifests::Dialect;
use orch_proxy::{Body, Proxy};
use serde_json::{Value, json};
use tokio::task::yield_now;

use crate::attempt::{ANSWER_CAP, Events, Item};
use crate::bounded;
use crate::classify::Failure;
use crate::dialect::names::Renamed;
use crate::dialect::{self, StreamWriter, signatures};
use crate::frames::Framing;
use crate::ir::{ApiError, Class, StopReason, StreamEvent};
use crate::kept::Kept;
use crate::plan::Candidate;
use crate::purse::{BoundOf, LimitHit, Unreserved};
use crate::receipt::Outcome;
use crate::session::Session;
use crate::shown::shown;
use crate::tab::Tab;

/// Bytes from which on a piece goes out, although more has come.
const AT_ONCE: usize = 16 << 10;

/// A stream on its way to the client.
pub(crate) struct Live {
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) session: Session,
    pub(crate) candidate: Candidate,
    pub(crate) held: VecDeque<Item>,
    pub(crate) events: Events,
    pub(crate) encoder: Encoder,
    /// The client's.
    pub(crate) framing: Framing,
    pub(crate) tab: Tab,
    pub(crate) kept: Kept,
    /// Whether the client wants the receipt as the last event.
    pub(crate) want_receipt: bool,
}

impl Live {
    /// The client's body. What the provider says next is read only when the client takes what came before.
    pub(crate) fn into_body(self) -> Body {
        let frames = stream::unfold(Some(Box::new(self)), |live| async move {
            let (bytes, live) = live?.step().await;
            Some((Ok(Frame::data(bytes)), live))
        });
        // An event may come to nothing in the client's dialect; empty frames would only cost.
        let frames = frames.filter(|frame| {
            let empty = matches!(frame, Ok(frame) if frame.data_ref().is_some_and(Bytes::is_empty));
            std::future::ready(!empty)
        });
        StreamBody::new(frames).boxed_unsync()
    }

    /// The bytes of what came since, of the next event at least, and the stream after it; `None` after the last.
    async fn step(mut self: Box<Self>) -> (Bytes, Option<Box<Live>>) {
        let mut out = Vec::new();
        let mut next = self.next().await;
        loop {
            let said = match next {
                Ok(item) => self.say(item, &mut out).await,
                Err(failure) => Err(Over::Broken(failure)),
            };
            if let Err(over) = said {
                self.end(over, &mut out);
                return (out.into(), None);
            }
            let more = if out.len() < AT_ONCE { self.at_hand() } else { None };
            match more {
                Some(item) => next = Ok(item),
                None => return (out.into(), Some(self)),
            }
        }
    }

    /// The next event.
    async fn next(&mut self) -> Result<Item, Failure> {
        if let Some(item) = self.held.pop_front() {
            return Ok(item);
        }
        if !self.events.flows() {
            // What comes with it, for a provider may send much at once, is looked at when it is on its way.
            yield_now().await;
            self.events.flow();
        }
        self.tab.waits();
        let next = self.events.next(Some(self.session.deadline)).await;
        self.tab.reads(!matches!(next, Ok(Some(_))));
        let ended = || Failure::new(Class::Truncated, "the provider's stream ended before its end");
        next?.ok_or_else(ended)
    }

    /// The next event that goes out together with the one before it.
    fn at_hand(&mut self) -> Option<Item> {
        match self.events.flows() {
            true => self.events.at_hand(),
            false => self.held.pop_front(),
        }
    }

    /// Writes an event for the client.
    async fn say(&mut self, mut item: Item, out: &mut Vec<u8>) -> Result<(), Over> {
        self.encoder.restore_names(&mut item);
        for event in &item.meaning {
            // Counts that are none are no counts.
            if item.counts || !matches!(event, StreamEvent::Usage(_)) {
                self.tab.heard(event);
            }
            if let Some(piece) = self.encoder.lost(event) {
                self.tab.lost(&piece);
            }
            if !self.encoder.passes() && !self.kept.take(event) {
                let message = format!("the answer is larger than {ANSWER_CAP} bytes");
                return Err(Over::Broken(Failure::new(Class::Server, message)));
            }
            if let StreamEvent::Error(error) = event {
                let failure =
                    Failure { code: error.code.clone(), ..Failure::new(error.class, error.message.clone()) };
                return Err(Over::Broken(failure));
            }
            if !self.encoder.passes() && matches!(event, StreamEvent::Stop { reason: StopReason::Error, .. })
            {
                let failure = Failure::new(Class::Server, "the provider gave up on the answer");
                return Err(Over::Broken(failure));
            }
        }
        self.tab.weighs(&item);
        self.tab.cover().await?;
        // A piece is about as long in every dialect.
        out.reserve(item.frame.raw.len() + 256);
        self.encoder.item(&item, out);
        if item.meaning.contains(&StreamEvent::End) { Err(Over::Served) } else { Ok(()) }
    }

    /// What the client hears last.
    fn end(self: Box<Self>, over: Over, out: &mut Vec<u8>) {
        let Live { proxy, session, candidate, events, mut encoder, mut tab, want_receipt, framing, .. } =
            *self;
        let (outcome, error) = match over {
            Over::Served => {
                proxy.drain(events.into_rest());
                (Outcome::Served, None)
            }
            Over::Broken(failure) => {
                let mut error =
                    failure.into_error_for(encoder.client(), candidate.spoken_with(encoder.client()));
                let said = shown(&error.message, candidate.credential.as_deref());
                error.message = format!("{}: {said}", candidate.name());
                let mut details = error.details.take().map_or_else(|| json!({}), |details| *details);
                details["class"] = json!(error.class.as_str());
                error.details = Some(Box::new(details));
                (Outcome::Broken, Some(error))
            }
            Over::Uncounted(why) => {
                session.budget.note_unavailable(&why);
                (Outcome::Broken, Some(unavailable(&why)))
            }
            Over::Limited(hit) => {
                tab.bounded(&hit);
                let error = limit_error(&hit);
                session.budget.note(hit);
                (Outcome::Limit, Some(error))
            }
        };
        if let Some(error) = error {
            tab.fails(error.class);
            encoder.error(error, out);
        }
        let receipt = tab.close(outcome).filter(|_| want_receipt);
        // The receipt as the last event, where it is wanted.
        if let Some(json) = receipt.and_then(|receipt| serde_json::to_string(&receipt.told()).ok()) {
            out.extend_from_slice(&framing.own_frame("orch.receipt", &json).raw);
        }
    }
}

/// How a stream is over.
enum Over {
    /// All was said.
    Served,
    /// The provider, or the way to it, failed.
    Broken(Failure),
    /// A bound on what is spent was reached.
    Limited(LimitHit),
    /// What is left to spend is not known.
    Uncounted(String),
}

impl From<Unreserved> for Over {
    fn from(unreserved: Unreserved) -> Over {
        match unreserved {
            Unreserved::Limit(hit) => Over::Limited(hit),
            Unreserved::Unavailable(why) => Over::Uncounted(why),
        }
    }
}

/// That nobody can say what is left to spend, as an error for the client: it may try again, the server is at fault.
pub(crate) fn unavailable(why: &str) -> ApiError {
    ApiError {
        status: Some(503),
        code: Some("orch_budgets_unavailable".to_owned()),
        ..ApiError::new(
            Class::Server,
            format!("the budgets cannot be read or written, so that nothing is sent: {why}"),
        )
    }
}

/// A bound on what is spent as an error for the client: 429 where time helps, or a fallback within the run may; 402 where
/// nothing but money does; 400 where the request has to change.
pub(crate) fn limit_error(hit: &LimitHit) -> ApiError {
    let (status, code) = match (&hit.of, hit.needed) {
        (_, None) => (Some(400), "orch_price_unknown"),
        (BoundOf::Run, _) => (None, "orch_limit_reached"),
        (BoundOf::Key { .. }, _) => (Some(402), "orch_key_limit_reached"),
        (BoundOf::Budget { renews_at: Some(_), .. }, _) => (Some(429), "orch_budget_reached"),
        (BoundOf::Budget { renews_at: None, .. }, _) => (Some(402), "orch_budget_reached"),
    };
    ApiError {
        status,
        code: Some(code.to_owned()),
        details: Some(Box::new(json!({ "limit": hit }))),
        ..ApiError::new(Class::OutOfMoney, hit.to_string())
    }
}

/// How a provider's events become the client's.
pub(crate) enum Encoder {
    /// Both speak the same: the bytes pass.
    Pass {
        client: Dialect,
        /// Leave out the usage event, which the client did not ask for.
        hide_usage: bool,
        /// Events that have passed.
        passed: u64,
    },
    /// Written anew.
    Translate {
        client: Dialect,
        writer: Box<dyn StreamWriter>,
        /// Whether the client gets the signatures of thoughts, because its providers know them.
        signed: bool,
        /// What the provider knows by other names than the client.
        renamed: Renamed,
    },
}

impl Encoder {
    /// The dialect that is written.
    fn client(&self) -> Dialect {
        match self {
            Encoder::Pass { client, .. } | Encoder::Translate { client, .. } => *client,
        }
    }

    fn passes(&self) -> bool {
        matches!(self, Encoder::Pass { .. })
    }

    /// What of an event the client does not get.
    fn lost<'e>(&self, event: &'e StreamEvent) -> Option<Cow<'e, Value>> {
        match (self, event) {
            (Encoder::Translate { .. }, StreamEvent::Opaque(piece)) => Some(Cow::Borrowed(piece)),
            (Encoder::Translate { signed: false, .. }, StreamEvent::ReasoningSignature(_)) => {
                Some(Cow::Owned(signatures::lost()))
            }
            _ => None,
        }
    }

    /// Puts the client's names of functions in the place of the provider's.
    fn restore_names(&self, item: &mut Item) {
        if let Encoder::Translate { renamed, .. } = self {
            item.meaning.iter_mut().for_each(|event| renamed.restore_in(event));
        }
    }

    fn item(&mut self, item: &Item, out: &mut Vec<u8>) {
        match self {
            Encoder::Pass { hide_usage: true, .. } if is_usage_only(item) => {}
            // The provider left the terminator out, and the dialect has one.
            Encoder::Pass { client: client @ Dialect::OpenAiChat, .. } if item.frame.raw.is_empty() => {
                let mut writer = dialect::wire(*client).stream_writer(false);
                item.meaning.iter().for_each(|event| writer.write(event, out));
            }
            Encoder::Pass { passed, .. } => {
                *passed += u64::from(item.frame.data.is_some());
                out.extend_from_slice(&item.frame.raw);
            }
            Encoder::Translate { writer, signed, .. } => {
                let is_kept =
                    |event: &&StreamEvent| *signed || !matches!(event, StreamEvent::ReasoningSignature(_));
                item.meaning.iter().filter(is_kept).for_each(|event| writer.write(event, out));
            }
        }
    }

    fn error(&mut self, error: ApiError, out: &mut Vec<u8>) {
        let error = StreamEvent::Error(error);
        match self {
            Encoder::Pass { client, passed, .. } => {
                let mut writer = dialect::wire(*client).stream_writer(false);
                writer.begun(*passed);
                writer.write(&error, out);
            }
            Encoder::Translate { writer, .. } => writer.write(&error, out),
        }
    }
}

/// The chunk after the last choice's, which holds counts and nothing else.
fn is_usage_only(item: &Item) -> bool {
    if !matches!(item.meaning.as_slice(), [StreamEvent::Usage(_)]) {
        return false;
    }
    let chunk = item.frame.data.as_deref().and_then(|data| bounded::event(data).ok());
    chunk.is_some_and(|chunk| {
        chunk.get("choices").is_none_or(|choices| choices.as_array().is_none_or(Vec::is_empty))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_for_clients_whose_providers_know_them_and_are_named_for_others() {
        let thought = StreamEvent::Reasoning("Hm.".into());
        let signature = StreamEvent::ReasoningSignature("c2ln".into());
        for signed in [true, false] {
            let writer = dialect::wire(Dialect::AnthropicMessages).stream_writer(true);
            let client = Dialect::AnthropicMessages;
            let mut encoder = Encoder::Translate { client, writer, signed, renamed: Renamed::default() };
            assert_eq!(encoder.lost(&thought), None);
            assert_eq!(encoder.lost(&signature).is_none(), signed);
            let frame = crate::frames::Frame::nothing(Framing::Sse);
            let meaning = vec![thought.clone(), signature.clone(), StreamEvent::End];
            let mut out = Vec::new();
            encoder.item(&Item { frame, meaning, counts: true }, &mut out);
            let out = String::from_utf8(out).unwrap();
            assert_eq!((out.contains("Hm."), out.contains("c2ln")), (true, signed), "{out}");
        }
    }
}
