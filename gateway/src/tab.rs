//! The running account of one call: what was reserved, tried and said so far. It becomes the receipt, also when the
//! client goes away in the middle.

use std::sync::Arc;
use std::time::Duration;

use orch_proxy::Credential;
use serde_json::Value;
use tokio::time::Instant;

use crate::attempt::{Charge, Failed, Item};
use crate::ir::{Class, Dropped, StopReason, StreamEvent, Usage};
use crate::listener::{CallStart, Heard, Listener};
use crate::plan::Candidate;
use crate::purse::{LimitHit, Unreserved};
use crate::receipt::{Attempt, Charged, CredentialRef, Outcome, Receipt, Receipts, Skipped};
use crate::request_id::RequestId;
use crate::shown::shown;
use crate::spoken::Spoken;
use crate::unread::Unread;
use crate::usage::Reservation;

/// Entries of a receipt's list of dropped fields.
pub(crate) const DROPPED_KEPT: usize = 64;

/// One call's account. Dropped without [`Tab::close`], the client has gone away.
pub(crate) struct Tab {
    receipts: Arc<Receipts>,
    receipt: Option<Receipt>,
    started: Instant,
    /// What the provider of the attempt under way calls it.
    provider_id: Option<String>,
    /// What was set aside for the attempt under way.
    reservation: Option<Reservation>,
    usage: Option<Usage>,
    /// Whether the counts are not those of the whole answer: something was said after them, or others came that are none.
    stale: bool,
    /// The content so far, for answers whose counts never come. Of several answers in a stream, the first one's.
    said: Spoken,
    /// Whether there is any.
    spoke: bool,
    /// Whether it has said why it ended.
    stopped: bool,
    /// What there may be of it that the client did not take, where it is heard piece by piece.
    unread: Option<Unread>,
    /// Whether the model thinks, or may, where nobody hears it.
    thinks: bool,
    /// What failed attempts came to, and whether all of it has a price.
    lost: Usage,
    lost_micro_usd: Option<u64>,
    /// Whoever hears of the call, and what is kept for them.
    heard: Option<Heard>,
}

impl Tab {
    pub(crate) fn open(receipts: Arc<Receipts>, provider: &str, model: &str, skipped: Vec<Skipped>) -> Tab {
        let receipt = Receipt {
            provider_asked: provider.to_owned(),
            model_asked: name(model),
            skipped,
            ..Receipt::default()
        };
        Tab {
            receipts,
            receipt: Some(receipt),
            started: Instant::now(),
            provider_id: None,
            reservation: None,
            usage: None,
            stale: false,
            said: Spoken::default(),
            spoke: false,
            stopped: false,
            unread: None,
            thinks: false,
            lost: Usage::default(),
            lost_micro_usd: Some(0),
            heard: None,
        }
    }

    /// The same, of which this one hears while it goes on.
    pub(crate) fn heard_by(mut self, listener: Option<&dyn Listener>) -> Tab {
        self.heard = listener.map(Heard::by);
        self
    }

    /// What is asked for is known.
    pub(crate) fn asks(&mut self, asked: impl FnOnce() -> CallStart) {
        if let Some(heard) = &mut self.heard {
            heard.asked(&asked());
        }
    }

    /// A request is about to be sent.
    pub(crate) fn sends(&mut self, candidate: &Candidate) {
        if let Some(heard) = &mut self.heard {
            heard.attempt_began(candidate);
        }
    }

    /// The attempt under way has said the first thing of its stream.
    pub(crate) fn speaks(&mut self) {
        let after = millis(self.started.elapsed());
        self.edit(|receipt| receipt.first_token_ms = Some(after));
        self.unread = Some(Unread::nothing());
        if let Some(heard) = &mut self.heard {
            heard.first_token();
        }
    }

    /// The next event of its stream is waited for.
    pub(crate) fn waits(&mut self) {
        if let Some(unread) = &mut self.unread {
            unread.waits();
        }
    }

    /// It has come, or `ends`: there will be none.
    pub(crate) fn reads(&mut self, ends: bool) {
        match &mut self.unread {
            Some(unread) if ends => unread.ends(),
            Some(unread) => unread.reads(),
            None => {}
        }
    }

    /// Why the call is going to end as it does.
    pub(crate) fn fails(&mut self, class: Class) {
        self.edit(|receipt| receipt.class = Some(class));
        if let Some(heard) = &mut self.heard {
            heard.fails(class);
        }
    }

    /// The bound on account of which it does.
    pub(crate) fn bounded(&mut self, hit: &LimitHit) {
        if let Some(heard) = &mut self.heard {
            heard.bounded(hit);
        }
    }

    /// The call has this name.
    pub(crate) fn named(&mut self, id: &RequestId) {
        self.edit(|receipt| receipt.request_id = id.as_str().to_owned());
    }

    /// The provider calls the attempt under way this.
    pub(crate) fn provider_calls_it(&mut self, id: Option<String>) {
        self.provider_id = id;
    }

    /// An attempt begins.
    pub(crate) fn attempt(&mut self, candidate: &Candidate, reservation: Reservation, dropped: Vec<Dropped>) {
        self.reservation = Some(reservation);
        self.usage = None;
        self.stale = false;
        self.said = Spoken::default();
        self.spoke = false;
        self.stopped = false;
        self.unread = None;
        self.thinks = candidate.known().is_none_or(|model| model.reasoning);
        self.provider_id = None;
        let credential = candidate.credential.as_deref().map(reference);
        let as_of = candidate.price().and_then(|price| price.as_of).map(|date| date.to_string());
        self.edit(|receipt| {
            receipt.price_as_of = as_of;
            receipt.simulated |= credential.as_ref().is_some_and(|c| c.source == "simulated");
            receipt.byok = credential.as_ref().is_some_and(|c| c.whose.is_byok());
            receipt.credential = credential;
            receipt.dropped = dropped;
            receipt.dropped.truncate(DROPPED_KEPT);
        });
    }

    /// The attempt under way failed before anything was said. What its provider charges for that, or may, is spent.
    pub(crate) fn failed(&mut self, candidate: &Candidate, failed: &Failed, took: Duration) {
        let mut charged = None;
        if let Some(reservation) = self.reservation.take() {
            let usage = match failed.charge {
                Charge::Nothing => None,
                Charge::Counted(usage) => Some(usage),
                Charge::All => {
                    self.edit(|receipt| receipt.estimated = true);
                    Some(reservation.estimate(None, None))
                }
            };
            if let Some(usage) = usage {
                let cost = reservation.settle(&usage);
                self.lost_micro_usd = self.lost_micro_usd.zip(cost).map(|(a, b)| a.saturating_add(b));
                self.lost.input = self.lost.input.saturating_add(usage.input);
                self.lost.output = self.lost.output.saturating_add(usage.output);
                charged = Some(Charged {
                    input_tokens: usage.input,
                    output_tokens: usage.output,
                    cost_micro_usd: cost,
                });
            }
        }
        if let Some(heard) = &mut self.heard {
            heard.attempt_failed(failed.failure.class, failed.status.map(|status| status.as_u16()));
        }
        let attempt = Attempt {
            provider: candidate.provider.slug.to_string(),
            model: name(candidate.sent()),
            credential: candidate.credential.as_ref().map(|credential| credential.id().to_owned()),
            whose: candidate.whose(),
            class: Some(failed.failure.class),
            status: failed.status.map(|status| status.as_u16()),
            request_id: self.provider_id.take(),
            latency_ms: millis(took),
            charged,
            message: shown(&failed.failure.message, candidate.credential.as_deref()),
        };
        self.edit(|receipt| receipt.attempts.push(attempt));
    }

    /// The attempt under way answers.
    pub(crate) fn serves(&mut self, candidate: &Candidate, took: Duration) {
        let attempt = Attempt {
            provider: candidate.provider.slug.to_string(),
            model: name(candidate.sent()),
            credential: candidate.credential.as_ref().map(|credential| credential.id().to_owned()),
            whose: candidate.whose(),
            class: None,
            status: Some(200),
            request_id: self.provider_id.take(),
            latency_ms: millis(took),
            charged: None,
            message: String::new(),
        };
        self.edit(|receipt| {
            receipt.attempts.push(attempt);
            receipt.provider_served = Some(candidate.provider.slug.to_string());
            receipt.model_served = Some(name(candidate.sent()));
        });
    }

    /// A candidate is passed over, and nothing is set aside for it any more.
    pub(crate) fn skip(&mut self, skipped: Skipped) {
        self.reservation = None;
        self.edit(|receipt| receipt.skipped.push(skipped));
    }

    /// A piece of the answer.
    pub(crate) fn heard(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::Start { id, model, .. } => {
                self.served_by(model);
                if let Some(heard) = &mut self.heard {
                    heard.id(id);
                }
            }
            StreamEvent::Stop { reason, .. } => {
                self.stopped = true;
                if let Some(heard) = &mut self.heard {
                    heard.stopped(*reason);
                }
            }
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            _ => {
                if let Some(text) = event.text() {
                    self.said.hear(text);
                    self.spoke = true;
                }
            }
        }
    }

    /// What the counts so far are worth after this event of the answer, each of whose pieces was heard.
    pub(crate) fn weighs(&mut self, item: &Item) {
        let counts = |event: &StreamEvent| matches!(event, StreamEvent::Usage(_));
        let says = |event: &StreamEvent| event.text().is_some();
        match item.meaning.iter().any(counts) {
            true => self.stale = !item.counts,
            false => self.stale |= item.meaning.iter().any(says),
        }
    }

    /// A piece of the answer that the client's dialect has no place for. Each kind is listed once.
    pub(crate) fn lost(&mut self, piece: &Value) {
        let dropped = Dropped::piece(piece);
        self.edit(|receipt| {
            if receipt.dropped.len() < DROPPED_KEPT && !receipt.dropped.contains(&dropped) {
                receipt.dropped.push(dropped);
            }
        });
    }

    /// The model and counts of a whole answer of so many bytes, and whether it says anything.
    pub(crate) fn heard_all(&mut self, model: &str, usage: Option<Usage>, bytes: usize, spoke: bool) {
        self.served_by(model);
        self.usage = usage;
        self.said.hear_bytes(bytes);
        self.spoke = spoke;
    }

    /// The id of a whole answer, and why it ended.
    pub(crate) fn answered(&mut self, id: &str, stop: StopReason) {
        if let Some(heard) = &mut self.heard {
            heard.id(id);
            heard.stopped(stop);
        }
    }

    /// Sees to it that the answer so far is paid for.
    ///
    /// # Errors
    /// The limit that it has certainly gone over.
    pub(crate) async fn cover(&mut self) -> Result<(), Unreserved> {
        let counted = self.usage.map_or(0, |usage| usage.output);
        match &mut self.reservation {
            Some(reservation) => reservation.cover(counted.max(self.said.least())).await,
            None => Ok(()),
        }
    }

    /// Settles and records.
    pub(crate) fn close(mut self, outcome: Outcome) -> Option<Receipt> {
        self.settle(outcome)
    }

    fn settle(&mut self, outcome: Outcome) -> Option<Receipt> {
        let mut receipt = self.receipt.take()?;
        receipt.outcome = outcome;
        if matches!(outcome, Outcome::Served | Outcome::Cancelled) {
            receipt.class = None;
        }
        receipt.latency_ms = millis(self.started.elapsed());
        let mut spent = (self.lost, self.lost_micro_usd, self.lost != Usage::default());
        if let Some(reservation) = self.reservation.take() {
            let answered = receipt.provider_served.is_some();
            // Answers that nobody follows are as long as the one that is heard, for all that anybody knows.
            let answers = if self.unread.is_some() { reservation.answers() } else { 1 };
            // Whoever thinks in silence has said less than it will charge for.
            let said = (!self.thinks).then(|| self.said.most().saturating_mul(answers));
            // A provider goes on for a while after the last thing that somebody heard of it.
            let unread = self.unread.as_ref().map_or(0, Unread::most).saturating_mul(answers);
            let made = said.map(|said| said.saturating_add(unread));
            // Many hang up once they have heard why it ended. What was counted by then is all of it, where it is one answer.
            let ended = outcome == Outcome::Served || (answered && self.stopped && answers == 1);
            let booked = match (outcome, self.usage) {
                // Whatever is said takes a token at least.
                (_, Some(usage)) if ended && !self.stale && (usage.output > 0 || !self.spoke) => Some(usage),
                // It is whole, and what was said of it is all there is.
                (Outcome::Served, counted) => {
                    receipt.estimated = true;
                    Some(reservation.estimate(counted, said))
                }
                // The counts so far are those of the answer's beginning.
                (_, counted) if answered => {
                    receipt.estimated = true;
                    Some(reservation.estimate(counted, made))
                }
                // The provider is at work and nobody will hear what it counts. A guest must not be able to spend
                // by hanging up.
                (Outcome::Cancelled, _) => {
                    receipt.estimated = true;
                    Some(reservation.estimate(None, None))
                }
                _ => None,
            };
            if let Some(usage) = booked {
                let cost = reservation.settle(&usage);
                let (lost, lost_micro_usd, _) = spent;
                let usage = Usage {
                    input: usage.input.saturating_add(lost.input),
                    output: usage.output.saturating_add(lost.output),
                    ..usage
                };
                let cost = lost_micro_usd.zip(cost).map(|(lost, cost)| lost.saturating_add(cost));
                spent = (usage, cost, true);
            }
        }
        if let (usage, cost, true) = spent {
            receipt.input_tokens = usage.input;
            receipt.output_tokens = usage.output;
            receipt.cost_micro_usd = cost;
        }
        if let Some(heard) = self.heard.take() {
            heard.ended(&receipt, self.usage.as_ref());
        }
        self.receipts.record(receipt.clone());
        Some(receipt)
    }

    fn served_by(&mut self, model: &str) {
        if !model.is_empty() {
            let model = shown(model, None);
            self.edit(|receipt| receipt.model_served = Some(model));
        }
    }

    /// What the receipt holds so far of attempts and skipped candidates, for an error's details.
    pub(crate) fn tried(&self) -> (&[Attempt], &[Skipped]) {
        self.receipt.as_ref().map_or((&[], &[]), |receipt| (&receipt.attempts, &receipt.skipped))
    }

    fn edit(&mut self, change: impl FnOnce(&mut Receipt)) {
        if let Some(receipt) = &mut self.receipt {
            change(receipt);
        }
    }
}

impl Drop for Tab {
    fn drop(&mut self) {
        self.settle(Outcome::Cancelled);
    }
}

/// A model's name as a receipt has it: a client may make up any, as long as its request may be.
fn name(model: &str) -> String {
    shown(model, None)
}

fn reference(credential: &dyn Credential) -> CredentialRef {
    CredentialRef {
        id: credential.id().to_owned(),
        source: credential.source().to_owned(),
        whose: credential.whose(),
        mask: credential.mask(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
