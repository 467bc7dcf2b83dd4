//! From a request to an answer: candidates in order, attempts within one deadline, and what each failure leads to.
//!
//! What follows a failure is `step.rs`, what a call may spend is set aside in `reserve.rs`, and what the client hears is
//! written in `reply.rs`.

mod reply;
mod reserve;
mod step;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Response;
use orch_manifests::Dialect;
use orch_proxy::{Body, CallId, Proxy};
use tokio::time::{Instant, sleep};

use crate::attempt::{Answer, Attempted, Charge, Failed, Item, Manner, Pace, Requests, attempt};
use crate::dialect;
use crate::embeddings;
use crate::ir::{Class, StopReason, StreamEvent, Usage};
use crate::kept::Kept;
use crate::listener::CallStart;
use crate::needs::{all_lack, fitting};
use crate::plan::Candidate;
use crate::plan::pick::{Picked, pick};
use crate::purse::LimitHit;
use crate::receipt::{Outcome, Skipped};
use crate::request_id::RequestId;
use crate::serve::{Chosen, wants_receipt};
use crate::session::Session;
use crate::shown::shown;
use crate::stream::{Live, unavailable};
use crate::tab::Tab;
use crate::upstream::{Asked, ClientRequest, Unfit, http_request};
use reply::{
    Vectors, all_failed, embedded, encoder, fill_start, identify, limited, name, refuse, reply_error,
    run_over, streamed, whole,
};
use reserve::{Passed, reserve};
use step::{dice, jitter};

pub(crate) use reply::{RECEIPT_HEADER, json_reply};
pub(crate) use step::{Failing, Step, after};

/// How long things may take. The run's deadline bounds all of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Until an answer has begun (a stream) or is whole (anything else), when there is another candidate to turn to.
    /// The last candidate has until the deadline.
    pub attempt: Duration,
    /// Between two events of a stream.
    pub idle: Duration,
    /// Between two events of a stream that say something: comments and pings do not.
    pub silent: Duration,
    /// The longest wait for a rate limit to pass when there is another candidate to turn to. For the last one, any wait is
    /// begun that fits the deadline.
    pub short_wait: Duration,
    /// Before an overloaded or failing provider is asked again; half of it to one and a half times.
    pub backoff: Duration,
}

impl Default for Timing {
    /// 120 s, 300 s (a model may think that long with its answer begun), 600 s, 10 s, 500 ms.
    fn default() -> Timing {
        Timing {
            attempt: Duration::from_secs(120),
            idle: Duration::from_secs(300),
            silent: Duration::from_secs(600),
            short_wait: Duration::from_secs(10),
            backoff: Duration::from_millis(500),
        }
    }
}

impl Timing {
    fn pace(&self) -> Pace {
        Pace { idle: self.idle, silent: self.silent }
    }
}

/// A request on its way to an answer.
pub(crate) struct Call {
    client: ClientRequest,
    /// In the order in which they are asked. None when every key was rejected before.
    candidates: Vec<Candidate>,
    /// What was left out so far.
    skipped: Vec<Skipped>,
    /// The provider and model for the receipt.
    asked: (String, String),
    id: RequestId,
    want_receipt: bool,
}

impl Call {
    /// A call of these models. `asked` are provider and model for the receipt.
    pub(crate) fn new(
        client: ClientRequest,
        session: &Session,
        chosen: Chosen,
        asked: (String, String),
        id: RequestId,
    ) -> Call {
        let want_receipt = wants_receipt(&client.headers);
        let Picked { mut candidates, skipped } =
            pick(&chosen.planned, &session.health, SystemTime::now(), &mut dice);
        if client.byok.is_strict() {
            // One key and one model, where several share the calls.
            candidates.truncate(1);
        }
        let skipped = chosen.skipped.into_iter().chain(skipped).collect();
        Call { client, candidates, skipped, asked, id, want_receipt }
    }
}

/// What has come of a call's candidates so far.
#[derive(Default)]
struct Tried<'c> {
    /// Of every attempt.
    classes: Vec<Class>,
    /// Models that failed for reasons that no other key of the same owner changes, and those reasons.
    given_up: Vec<(&'c Candidate, Class)>,
    /// The first limit that stood in the way.
    limit: Option<LimitHit>,
    /// The first candidate that the request does not fit, and why.
    unfit: Option<(&'c Candidate, Unfit)>,
    /// When somebody may be asked again, as far as providers said.
    again: Option<Instant>,
}

impl Tried<'_> {
    fn gave_up(&self, candidate: &Candidate) -> bool {
        self.given_up.iter().any(|(given_up, class)| match class {
            // The request's own doing, whoever pays.
            Class::ContextTooLong | Class::RefusedByFilter => candidate.is_model_of(given_up),
            _ => candidate.shares_fate_of(given_up),
        })
    }

    fn again_after(&mut self, wait: Duration) {
        let at = Instant::now() + wait;
        self.again = Some(self.again.map_or(at, |known| known.min(at)));
    }
}

/// Answers a call. Failures become errors in the client's dialect.
pub(crate) async fn answer(
    proxy: &Arc<Proxy>,
    timing: &Timing,
    session: &Session,
    call: Call,
) -> Response<Body> {
    let Call { client, candidates, mut skipped, asked: (provider, model), id, want_receipt } = call;
    let picked = candidates.len();
    let (candidates, lacking) = fitting(&client, session.server_tools, candidates);
    let none_fits = (picked > 0 && candidates.is_empty()).then(|| all_lack(&client, &lacking));
    skipped.extend(lacking);
    let mut tab =
        Tab::open(session.receipts.clone(), &provider, &model, skipped).heard_by(session.listener.as_deref());
    tab.asks(|| CallStart::of(&client));
    tab.named(&id);
    if let Some(error) = none_fits {
        return reply_error(&client, tab, Outcome::Rejected, &error);
    }
    let mut tried = Tried::default();
    for (position, candidate) in candidates.iter().enumerate() {
        if tried.gave_up(candidate) {
            tab.skip(Skipped::of(candidate, "the model failed with another key, and not for want of one"));
            continue;
        }
        let later = || candidates[position + 1..].iter().filter(|other| !tried.gave_up(other));
        let last = !later().any(|other| !other.shares_fate_of(candidate));
        let another_key = later().any(|other| other.is_model_of(candidate) && other.rest.is_none());
        let alone = later().next().is_none();
        if let Some(rest) = candidate.rest.filter(|rest| rest.said) {
            let wait = rest.until.duration_since(SystemTime::now()).unwrap_or_default();
            if wait >= session.deadline.saturating_duration_since(Instant::now()) {
                let reason = format!(
                    "{} asked for a pause of {} s more, which does not fit the deadline",
                    candidate.provider.slug,
                    wait.as_secs() + 1
                );
                tab.skip(Skipped::of(candidate, reason).sparing(rest.class));
                tried.again_after(wait);
                continue;
            }
            sleep(wait).await;
        }
        if let Some(witness) = &session.witness
            && let Err(error) = witness.before_use(candidate).await
        {
            return reply_error(&client, tab, Outcome::Rejected, &error);
        }
        let fallback = !candidate.is_model_of(&candidates[0]);
        let mut tries = 0;
        loop {
            tries += 1;
            let ready = reserve(session, &client, candidate, fallback, &mut tab).await.and_then(|prepared| {
                let mut request = http_request(&client, candidate, &prepared).map_err(Passed::Unfit)?;
                request.extensions_mut().insert(CallId(id.as_str().into()));
                Ok((prepared, request))
            });
            let (mut prepared, request) = match ready {
                Ok(ready) => ready,
                Err(passed) => {
                    let reason = match passed {
                        Passed::Unavailable(why) => {
                            session.budget.note_unavailable(&why);
                            return reply_error(&client, tab, Outcome::Limit, &unavailable(&why));
                        }
                        Passed::Limit(hit, said) => {
                            tried.limit.get_or_insert(*hit);
                            said
                        }
                        Passed::Over(reason) => reason,
                        Passed::Unfit(unfit) => {
                            let reason = unfit.reason.clone();
                            tried.unfit.get_or_insert((candidate, unfit));
                            reason
                        }
                    };
                    tab.skip(Skipped::of(candidate, reason));
                    break;
                }
            };
            tab.sends(candidate);
            let began = Instant::now();
            let until = match last {
                true => session.deadline,
                false => session.deadline.min(began + timing.attempt),
            };
            let vectors = match &client.asked {
                Asked::Chat(_) => None,
                Asked::Embeddings(embed) => Some(embeddings::Expected::of(embed, candidate)),
            };
            let (spoken, stream) = (prepared.spoken, client.streams());
            let no_done = candidate.provider.quirks.no_done;
            let wrapped = candidate.provider.quirks.code_assist;
            let manner = Manner { spoken, stream, repeated: prepared.repeated(), vectors, no_done, wrapped };
            let requests = Requests { first: request, more: std::mem::take(&mut prepared.more) };
            let trying = attempt(proxy, session, candidate, requests, manner, until, timing.pace());
            let Attempted { provider_id, outcome } = Box::pin(trying).await;
            tab.provider_calls_it(provider_id);
            let failed = match outcome {
                Ok(Answer::Whole { body, mut response })
                    if prepared.same_dialect || response.stop != StopReason::Error =>
                {
                    serves(session, &mut tab, candidate, began.elapsed());
                    name(&mut response.model, candidate);
                    if spoken == Dialect::OpenAiResponses {
                        session.own.note(&response.id);
                    }
                    identify(&mut response.id);
                    return whole(&client, tab, &prepared, body, response);
                }
                Ok(Answer::Whole { response, .. }) => {
                    let charge = response.usage.map_or(Charge::All, Charge::Counted);
                    Failed { charge, ..Failed::new(Class::Server, "the provider gave up on the answer") }
                }
                Ok(Answer::Embedded { body, mut response, room }) => {
                    serves(session, &mut tab, candidate, began.elapsed());
                    name(&mut response.model, candidate);
                    identify(&mut response.id);
                    let answer = Vectors { body, response, room };
                    return embedded(&client, tab, candidate, prepared.same_dialect, answer);
                }
                Ok(Answer::Begun { held, events }) if !prepared.same_dialect && gives_up(&held) => {
                    drop(events);
                    let charge = counted(&held).map_or(Charge::All, Charge::Counted);
                    Failed { charge, ..Failed::new(Class::Server, "the provider gave up on the answer") }
                }
                Ok(Answer::Begun { mut held, events }) => {
                    serves(session, &mut tab, candidate, began.elapsed());
                    if spoken == Dialect::OpenAiResponses {
                        note_own(session, &held);
                    }
                    tab.speaks();
                    fill_start(&mut held, candidate);
                    let live = Live {
                        proxy: Arc::clone(proxy),
                        session: session.clone(),
                        candidate: candidate.clone(),
                        held: held.into(),
                        events: *events,
                        encoder: encoder(&client, &prepared),
                        framing: dialect::wire(client.dialect).framing(),
                        tab,
                        kept: Kept::default(),
                        want_receipt,
                    };
                    return streamed(live);
                }
                Err(failed) => failed,
            };
            let class = failed.failure.class;
            tab.failed(candidate, &failed, began.elapsed());
            if let Some(over) = failed.run_is_over {
                return run_over(&client, session, tab, over);
            }
            if let Some(credential) = &candidate.credential {
                let (model, now) = (candidate.sent(), SystemTime::now());
                session.health.failed(&**credential, model, &failed.failure, failed.status, now);
            }
            tried.classes.push(class);
            if let (Class::RateLimited | Class::Overloaded, Some(wait)) = (class, failed.failure.retry_after)
            {
                tried.again_after(wait);
            }
            let failing = Failing {
                class,
                retry_after: failed.failure.retry_after,
                tries,
                left: session.deadline.saturating_duration_since(Instant::now()),
                another_key,
                // Where only other keys are left, that is for rate limits alone to turn to.
                last: if class == Class::RateLimited { alone } else { last },
                on: candidate.on,
            };
            match after(&failing, jitter(), timing) {
                Step::Stop => {
                    let spoken = candidate.spoken_with(client.dialect);
                    let mut error = failed.failure.into_error_for(client.dialect, spoken);
                    error.message = shown(&error.message, candidate.credential.as_deref());
                    error.status = failed.status.filter(|s| s.is_client_error()).map(|s| s.as_u16());
                    return refuse(&client, tab, candidate, error);
                }
                Step::NextKey => break,
                Step::NextModel => {
                    tried.given_up.push((candidate, class));
                    break;
                }
                Step::Again(wait) => sleep(wait).await,
            }
        }
    }
    match (tried.limit, tried.unfit) {
        // A limit stands in the way only where nothing else was tried.
        (Some(hit), _) if tried.classes.is_empty() => limited(&client, session, tab, &hit),
        (_, Some((candidate, unfit))) if tried.classes.is_empty() => {
            refuse(&client, tab, candidate, unfit.into_error())
        }
        _ => all_failed(&client, tab, &tried.classes, tried.again),
    }
}

/// Whether a stream ends with a failure where it begins. Its client has heard nothing yet.
fn gives_up(held: &[Item]) -> bool {
    let mut events = held.iter().flat_map(|item| &item.meaning);
    events.any(|event| matches!(event, StreamEvent::Stop { reason: StopReason::Error, .. }))
}

/// What its provider counted so far, if that can be believed.
fn counted(held: &[Item]) -> Option<Usage> {
    let last = held.iter().rev().find_map(|item| {
        let counts = item.meaning.iter().rev();
        let mut counts = counts.filter_map(|event| match event {
            StreamEvent::Usage(usage) => Some(*usage),
            _ => None,
        });
        counts.next().map(|usage| item.counts.then_some(usage))
    });
    last.flatten()
}

/// Notes the id under which a stream's answer may be kept. It comes before anything that is held back ends.
fn note_own(session: &Session, held: &[Item]) {
    for event in held.iter().flat_map(|item| &item.meaning) {
        if let StreamEvent::Start { id, .. } = event {
            session.own.note(id);
        }
    }
}

/// The attempt under way answers, and its key is good.
fn serves(session: &Session, tab: &mut Tab, candidate: &Candidate, took: Duration) {
    tab.serves(candidate, took);
    if let Some(credential) = &candidate.credential {
        session.health.served(&**credential, candidate.sent());
    }
}
