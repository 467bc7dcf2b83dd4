//! From a request to an answer: candidates in order, attempts within one deadline, and what each failure leads to.
//!
//! What follows a failure is `step.rs`, what a call may spend is set aside in `reserve.rs`, and what the client hears is
//! written in `reply.rs`.

mod reply;
mod reserve;
mod step;

use std::time::Duration;

use http::Response;
use orch_proxy::{Body, Proxy};
use tokio::time::{Instant, sleep};

use crate::attempt::{Answer, Failed, attempt};
use crate::ir::{ApiError, Class, StopReason};
use crate::needs::fitting;
use crate::plan::Candidate;
use crate::receipt::Outcome;
use crate::session::Session;
use crate::shown::shown;
use crate::stream::{Live, limit_error};
use crate::tab::Tab;
use crate::upstream::{ClientRequest, http_request};
use reply::{all_failed, encoder, fill_created, refuse, reply_error, run_over, streamed, whole};
use reserve::{Passed, reserve};
use step::{Step, after, jitter};

pub(crate) use reply::{RECEIPT_HEADER, json_reply};

/// How long things may take. The run's deadline bounds all of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Until an answer has begun (a stream) or is whole (anything else), when there is another candidate to turn to.
    /// The last candidate has until the deadline.
    pub attempt: Duration,
    /// Between two events of a stream.
    pub idle: Duration,
    /// The longest wait for a rate limit to pass that is begun at all.
    pub short_wait: Duration,
    /// Before an overloaded or failing provider is asked again; half of it to one and a half times.
    pub backoff: Duration,
}

impl Default for Timing {
    /// 120 s, 60 s, 10 s, 500 ms.
    fn default() -> Timing {
        Timing {
            attempt: Duration::from_secs(120),
            idle: Duration::from_secs(60),
            short_wait: Duration::from_secs(10),
            backoff: Duration::from_millis(500),
        }
    }
}

/// A request on its way to an answer.
pub(crate) struct Call {
    pub(crate) client: ClientRequest,
    /// In the order in which they are asked; not empty.
    pub(crate) candidates: Vec<Candidate>,
    /// The provider and model for the receipt.
    pub(crate) asked: (String, String),
    pub(crate) want_receipt: bool,
}

/// Answers a call. Failures become errors in the client's dialect.
pub(crate) async fn answer(proxy: &Proxy, timing: &Timing, session: &Session, call: Call) -> Response<Body> {
    let Call { client, candidates, asked: (provider, model), want_receipt } = call;
    let (candidates, skipped) = fitting(&client.parsed, candidates);
    let mut tab = Tab::open(session.receipts.clone(), &provider, &model, skipped);
    let mut limit = None;
    let mut classes = Vec::new();
    for (position, candidate) in candidates.iter().enumerate() {
        let last = position + 1 == candidates.len();
        if let Some(witness) = &session.witness
            && let Err(error) = witness.before_use(candidate).await
        {
            return reply_error(&client, tab, Outcome::Rejected, &error);
        }
        let mut tries = 0;
        loop {
            tries += 1;
            let prepared = match reserve(session, &client, candidate, position > 0, &mut tab) {
                Ok(prepared) => prepared,
                Err(Passed::Limit(hit)) => {
                    tab.skip(candidate, hit.to_string());
                    limit.get_or_insert(hit);
                    break;
                }
                Err(Passed::Over(reason)) => {
                    tab.skip(candidate, reason);
                    break;
                }
                Err(Passed::Unfit(reason)) => {
                    return refuse(&client, tab, candidate, ApiError::new(Class::BadRequest, reason));
                }
            };
            let began = Instant::now();
            let until = match last {
                true => session.deadline,
                false => session.deadline.min(began + timing.attempt),
            };
            let request = match http_request(&client, candidate, &prepared) {
                Ok(request) => request,
                Err(unfit) => {
                    return refuse(&client, tab, candidate, ApiError::new(Class::BadRequest, unfit.0));
                }
            };
            let stream = client.parsed.stream;
            let trying = attempt(proxy, session, candidate, request, stream, until, timing.idle);
            let failed = match Box::pin(trying).await {
                Ok(Answer::Whole { body, response })
                    if prepared.same_dialect || response.stop != StopReason::Error =>
                {
                    tab.serves(candidate, began.elapsed());
                    return whole(&client, tab, prepared.same_dialect, body, response);
                }
                Ok(Answer::Whole { .. }) => Failed::new(Class::Server, "the provider gave up on the answer"),
                Ok(Answer::Begun { mut held, events }) => {
                    tab.serves(candidate, began.elapsed());
                    fill_created(&mut held);
                    let live = Live {
                        session: session.clone(),
                        candidate: candidate.clone(),
                        held: held.into(),
                        events,
                        encoder: encoder(&client, &prepared),
                        tab,
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
            classes.push((class, failed.status));
            let left = session.deadline.saturating_duration_since(Instant::now());
            match after(class, failed.failure.retry_after, tries, left, jitter(), timing) {
                Step::Stop => {
                    let mut error = failed.failure.into_error();
                    error.message = shown(&error.message, candidate.credential.as_deref());
                    error.status = failed.status.filter(|s| s.is_client_error()).map(|s| s.as_u16());
                    return refuse(&client, tab, candidate, error);
                }
                Step::Next => break,
                Step::Again(wait) => sleep(wait).await,
            }
        }
    }
    match limit {
        // A limit stands in the way only where nothing else was tried.
        Some(hit) if classes.is_empty() => {
            session.budget.note(hit);
            reply_error(&client, tab, Outcome::Limit, &limit_error(&hit))
        }
        _ => all_failed(&client, tab, &classes),
    }
}
