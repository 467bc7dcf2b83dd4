//! From a request to an answer: candidates in order, attempts within one deadline, and what each failure leads to.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use orch_manifests::Model;
use orch_proxy::{Body, Proxy, full};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::attempt::{Answer, Failed, RunLimit, attempt};
use crate::dialect;
use crate::ir::{ApiError, ChatResponse, Class, Part, StopReason, StreamEvent};
use crate::needs::fitting;
use crate::plan::Candidate;
use crate::receipt::{Outcome, Receipt};
use crate::session::Session;
use crate::shown::shown;
use crate::stream::{Encoder, Live, limit_error};
use crate::tab::Tab;
use crate::upstream::{ClientRequest, Prepared, http_request, prepare};
use crate::usage::{Ask, LimitHit, ReserveError, asks_for_cache_writes, worst_input};

/// Output tokens that every model in use can give.
const ANY_MODELS_OUTPUT: u64 = 4096;

/// The header by which a client asks for a receipt and gets one.
pub(crate) const RECEIPT_HEADER: HeaderName = HeaderName::from_static("x-orch-receipt");

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

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The request itself is at fault: no other candidate would do better.
    Stop,
    /// The next candidate.
    Next,
    /// The same candidate once more, after a wait.
    Again(Duration),
}

/// What follows the failure of the attempt number `tries` (from 1) at one candidate. `left` is the time to the
/// deadline, `jitter` is 0 to 1.
fn after(
    failure: Class,
    retry_after: Option<Duration>,
    tries: u32,
    left: Duration,
    jitter: f64,
    timing: &Timing,
) -> Step {
    let backoff = timing.backoff.mul_f64(0.5 + jitter);
    let wait = match failure {
        Class::BadRequest | Class::ContextTooLong | Class::RefusedByFilter => return Step::Stop,
        Class::BadKey | Class::NoAccess | Class::NoModel | Class::OutOfMoney | Class::Timeout => {
            return Step::Next;
        }
        Class::RateLimited | Class::Overloaded => retry_after.unwrap_or(backoff),
        Class::Server | Class::Truncated | Class::Network => backoff,
    };
    if tries > 1 || wait > timing.short_wait || wait >= left { Step::Next } else { Step::Again(wait) }
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
                Ok(Answer::Whole { body, mut response })
                    if prepared.same_dialect || response.stop != StopReason::Error =>
                {
                    tab.serves(candidate, began.elapsed());
                    name(&mut response.model, candidate);
                    return whole(&client, tab, prepared.same_dialect, body, response);
                }
                Ok(Answer::Whole { .. }) => Failed::new(Class::Server, "the provider gave up on the answer"),
                Ok(Answer::Begun { mut held, events }) => {
                    tab.serves(candidate, began.elapsed());
                    fill_start(&mut held, candidate);
                    let live = Live {
                        session: session.clone(),
                        candidate: candidate.clone(),
                        held: held.into(),
                        events,
                        encoder: encoder(&client, &prepared),
                        framing: dialect::wire(client.dialect).framing(),
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

/// Why a candidate is not asked.
enum Passed {
    Limit(LimitHit),
    Over(String),
    Unfit(String),
}

/// Sets the worst case aside and writes the request for what is left.
fn reserve(
    session: &Session,
    client: &ClientRequest,
    candidate: &Candidate,
    fallback: bool,
    tab: &mut Tab,
) -> Result<Prepared, Passed> {
    let known = candidate.known();
    // What the owner of the key has left for it bounds the call as the run's own limit does.
    let owners = candidate.credential.as_ref().and_then(|credential| credential.money_left());
    if (session.budget.bounds_cost() || owners.is_some())
        && let Some(field) = dearer_than_listed(client)
    {
        return Err(Passed::Unfit(format!("{field}: its price is not known, and the run has a cost limit")));
    }
    // A beta may widen the context that the catalog knows.
    let beta = client.headers.contains_key("anthropic-beta");
    let context = known.map(|model| model.context).filter(|_| !beta);
    let input = worst_input(&client.parsed, client.body.len(), context);
    let usual = usual_output(known, input);
    let ask = Ask {
        input,
        max_output: Some(client.parsed.max_tokens.unwrap_or(usual)),
        answers: client.parsed.answers,
        price: candidate.price(),
        cache_writes: asks_for_cache_writes(&client.parsed),
        owners_micro_usd: owners,
    };
    let reservation = session.budget.reserve(&ask).map_err(|error| match error {
        ReserveError::Limit(hit) => Passed::Limit(hit),
        ReserveError::UnknownPrice | ReserveError::Owner => Passed::Over(error.to_string()),
    })?;
    let held = candidate.credential.as_ref().map(|credential| credential.hold(reservation.micro_usd()));
    let held = match held {
        // Others were quicker.
        Some(None) => return Err(Passed::Over(ReserveError::Owner.to_string())),
        Some(held) => held,
        None => None,
    };
    let mut prepared = prepare(client, candidate, reservation.max_output(), usual, fallback)
        .map_err(|unfit| Passed::Unfit(unfit.0))?;
    tab.attempt(candidate, (reservation, held), std::mem::take(&mut prepared.dropped));
    Ok(prepared)
}

/// The bound on an answer where one has to be sent and the client named none: what the model can give and its context
/// has room for, or what every model in use can give.
fn usual_output(known: Option<&Model>, input: u64) -> u64 {
    known.map_or(ANY_MODELS_OUTPUT, |model| {
        let room = model.context.saturating_sub(input).max(ANY_MODELS_OUTPUT);
        model.max_output.min(room)
    })
}

/// A field that makes a call dearer than the catalog says: priority tiers, audio.
fn dearer_than_listed(client: &ClientRequest) -> Option<&'static str> {
    let extras = &client.parsed.extras;
    let text = |key: &str| extras.get(key).and_then(serde_json::Value::as_str);
    if text("service_tier").is_some_and(|tier| !matches!(tier, "default" | "flex" | "standard_only")) {
        return Some("service_tier");
    }
    if text("serviceTier").is_some_and(|tier| !matches!(&*tier.to_ascii_lowercase(), "standard" | "flex")) {
        return Some("serviceTier");
    }
    // Of what Gemini can answer with, the prices of text are known.
    if extras.get(MODALITIES).is_some_and(|modalities| *modalities != json!(["TEXT"])) {
        return Some(MODALITIES);
    }
    ["audio", "modalities", "speed", "inference_geo"].into_iter().find(|key| extras.contains_key(*key))
}

const MODALITIES: &str = "generationConfig.responseModalities";

fn encoder(client: &ClientRequest, prepared: &Prepared) -> Encoder {
    match prepared.same_dialect {
        true => Encoder::Pass { client: client.dialect, hide_usage: prepared.hide_usage },
        false => Encoder::Translate(dialect::wire(client.dialect).stream_writer(client.parsed.include_usage)),
    }
}

/// OpenAI's clients expect a time, which Anthropic's and Gemini's answers do not have, and every client a model, which
/// Cohere's do not name.
fn fill_start(held: &mut [crate::attempt::Item], candidate: &Candidate) {
    for event in held.iter_mut().flat_map(|item| &mut item.meaning) {
        if let StreamEvent::Start { created, model, .. } = event {
            if *created == 0 {
                *created = unix_seconds();
            }
            name(model, candidate);
        }
    }
}

/// An answer that names no model is of the one that was asked.
fn name(model: &mut String, candidate: &Candidate) {
    if model.is_empty() {
        model.clone_from(&candidate.model);
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

fn jitter() -> f64 {
    let mut byte = [128];
    // Without randomness there is no jitter, and nothing worse.
    let _ = SystemRandom::new().fill(&mut byte);
    f64::from(byte[0]) / 255.0
}

fn whole(
    client: &ClientRequest,
    mut tab: Tab,
    same_dialect: bool,
    body: bytes::Bytes,
    mut response: ChatResponse,
) -> Response<Body> {
    tab.heard_all(&response.model, response.usage, body.len());
    let body = if same_dialect {
        body
    } else {
        if response.created == 0 {
            response.created = unix_seconds();
        }
        for part in &response.content {
            if let Part::Opaque(piece) = part {
                tab.lost(piece);
            }
        }
        dialect::wire(client.dialect).write_response(&response).into()
    };
    let receipt = tab.close(Outcome::Served);
    json_reply(StatusCode::OK, body, receipt.as_ref())
}

fn streamed(live: Live) -> Response<Body> {
    let content_type = live.framing.content_type();
    let mut response = Response::new(live.into_body());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// The provider, or the gateway on its behalf, refused the request itself.
fn refuse(client: &ClientRequest, tab: Tab, candidate: &Candidate, mut error: ApiError) -> Response<Body> {
    error.message = format!("{}: {}", candidate.name(), error.message);
    reply_error(client, tab, Outcome::Rejected, &error)
}

/// A limit of the run that the proxy enforces.
fn run_over(client: &ClientRequest, session: &Session, tab: Tab, over: RunLimit) -> Response<Body> {
    match over {
        RunLimit::Used(orch_proxy::LimitHit { name, used, limit }) => {
            let hit = LimitHit { name, used, limit, needed: 1 };
            session.budget.note(hit);
            reply_error(client, tab, Outcome::Limit, &limit_error(&hit))
        }
        RunLimit::Ended(ended) => {
            let error = ApiError {
                code: Some("orch_run_ended".to_owned()),
                ..ApiError::new(Class::Timeout, ended.to_string())
            };
            reply_error(client, tab, Outcome::Limit, &error)
        }
    }
}

/// Every candidate failed or was passed over. One class for all is said as such; a mixture is a bad gateway.
fn all_failed(client: &ClientRequest, tab: Tab, classes: &[(Class, Option<StatusCode>)]) -> Response<Body> {
    let (attempts, skipped) = tab.tried();
    let mut lines: Vec<String> = attempts
        .iter()
        .filter_map(|a| Some(format!("{}/{}: {} ({})", a.provider, a.model, a.class?.as_str(), a.message)))
        .collect();
    lines.extend(skipped.iter().map(|s| format!("{}: skipped, {}", s.model, s.reason)));
    let details = json!({ "attempts": attempts, "skipped": skipped });
    let alike = classes.windows(2).all(|pair| pair[0].0 == pair[1].0);
    let (class, status) = match classes.first() {
        Some((class, _)) if alike => (*class, None),
        Some(_) => (Class::Server, Some(502)),
        None => (Class::BadRequest, None),
    };
    let error = ApiError {
        status,
        code: Some("orch_all_candidates_failed".to_owned()),
        details: Some(details),
        ..ApiError::new(class, format!("no model could answer: {}", lines.join("; ")))
    };
    reply_error(client, tab, Outcome::AllFailed, &error)
}

fn reply_error(client: &ClientRequest, tab: Tab, outcome: Outcome, error: &ApiError) -> Response<Body> {
    let receipt = tab.close(outcome);
    let (status, body) = dialect::wire(client.dialect).write_error(error);
    let mut response = json_reply(status, body.into(), receipt.as_ref());
    // Client libraries would go through the whole chain again; what could be retried has been.
    response.headers_mut().insert("x-should-retry", HeaderValue::from_static("false"));
    response
}

/// A JSON reply, with the receipt in a header where there is one.
pub(crate) fn json_reply(
    status: StatusCode,
    body: bytes::Bytes,
    receipt: Option<&Receipt>,
) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let value = receipt.and_then(|receipt| HeaderValue::from_str(&receipt.compact()).ok());
    if let Some(value) = value {
        response.headers_mut().insert(RECEIPT_HEADER, value);
    }
    response
}

#[cfg(test)]
mod tests;
