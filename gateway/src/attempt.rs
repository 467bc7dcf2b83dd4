//! One request to one provider: a whole answer, or a stream that has begun to say something.

mod events;
mod vectors;

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use orch_manifests::Dialect;
use orch_proxy::{Body, BodyError, EgressError, Ended, ProviderCall, Proxy, Sought, TimeoutKind};
use tokio::time::{Instant, timeout_at};

use crate::bounded::{self, ANSWER_VALUES};
use crate::classify::{Failure, classify, error_inside};
use crate::deltas::Deltas;
use crate::dialect;
use crate::embeddings::{self, EmbedResponse, More};
use crate::envelope;
use crate::fields::counts_are_whole;
use crate::intake::Room;
use crate::ir::{ChatResponse, Class, StopReason, StreamEvent, Usage, values_in_arguments};
use crate::plan::Candidate;
use crate::request_id::of_provider;
use crate::session::Session;

pub(crate) use events::{Events, Item, Pace};

/// Bytes of an error body that are read.
const ERROR_CAP: usize = 64 << 10;

/// Bytes of a whole answer.
pub(crate) const ANSWER_CAP: usize = 16 << 20;

/// Bytes of one frame of a stream.
pub(crate) const FRAME_CAP: usize = 1 << 20;

/// Bytes of memory for the lifecycle events that are held before the first content.
const HELD_CAP: usize = 1 << 20;

/// An answer that may be given to the client.
pub(crate) enum Answer {
    /// All of it.
    Whole { body: Bytes, response: ChatResponse },
    /// Vectors.
    Embedded { body: Bytes, response: EmbedResponse, room: Room },
    /// Its beginning, and where the rest comes from.
    Begun { held: Vec<Item>, events: Box<Events> },
}

/// What came of an attempt.
pub(crate) struct Attempted {
    /// What the provider calls the request, where it answered and said so.
    pub(crate) provider_id: Option<String>,
    pub(crate) outcome: Result<Answer, Failed>,
}

impl Attempted {
    /// Nothing was answered.
    fn unanswered(failed: Failed) -> Attempted {
        Attempted { provider_id: None, outcome: Err(failed) }
    }
}

/// Why there is none.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) status: Option<StatusCode>,
    /// A limit of the run, not the provider, stopped it: no other candidate can help.
    pub(crate) run_is_over: Option<RunLimit>,
    /// What the provider charges for it all the same.
    pub(crate) charge: Charge,
}

/// What a failed attempt costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// Nothing: it was refused, or never got there.
    Nothing,
    /// What the provider counted.
    Counted(Usage),
    /// As much as was set aside, for all that anybody knows: the provider was at work when nobody listened any more.
    All,
}

/// A bound that the proxy enforces for the run as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunLimit {
    /// Something of the network that it has used up.
    Used(orch_proxy::LimitHit),
    /// The grant's end.
    Ended(Ended),
}

impl Failed {
    pub(crate) fn new(class: Class, message: impl Into<String>) -> Failed {
        Failed {
            failure: Failure::new(class, message),
            status: None,
            run_is_over: None,
            charge: Charge::Nothing,
        }
    }

    fn with(failure: Failure, status: StatusCode) -> Failed {
        Failed { failure, status: Some(status), run_is_over: None, charge: Charge::Nothing }
    }

    /// The same, for which the provider may charge all that was set aside.
    fn charged(self) -> Failed {
        Failed { charge: Charge::All, ..self }
    }
}

/// What is sent in an attempt: one request, and those for the rest of the inputs where the model takes but some at once.
pub(crate) struct Requests {
    pub(crate) first: Request<Body>,
    /// The bodies of the others, whose heads are the same.
    pub(crate) more: Vec<More>,
}

/// What requests to a candidate are sent with, and until when.
#[derive(Clone, Copy)]
struct Sender<'a> {
    proxy: &'a Proxy,
    session: &'a Session,
    candidate: &'a Candidate,
    until: Instant,
}

/// What is spoken in an attempt.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) spoken: Dialect,
    pub(crate) stream: bool,
    /// Bytes of the request that an event of the answer may repeat.
    pub(crate) repeated: usize,
    /// What is expected where vectors are asked for.
    pub(crate) vectors: Option<embeddings::Expected>,
    /// Whether the provider may leave out the terminator of a stream.
    pub(crate) no_done: bool,
    /// Whether the answer is inside of another object.
    pub(crate) wrapped: bool,
}

/// Sends what is to be sent and reads until the answer is whole or has begun. `until` bounds all of it.
pub(crate) async fn attempt(
    proxy: &Proxy,
    session: &Session,
    candidate: &Candidate,
    requests: Requests,
    manner: Manner,
    until: Instant,
    pace: Pace,
) -> Attempted {
    let sender = Sender { proxy, session, candidate, until };
    if let Some(expected) = manner.vectors {
        return vectors::vectors(sender, requests, manner.spoken, expected).await;
    }
    let (provider_id, asked) = ask(sender, requests.first).await;
    let outcome = match asked {
        Err(failed) => Err(failed),
        Ok(response) => {
            let status = response.status();
            match manner.stream {
                true => in_time(until, status, begin(response, manner, pace)).await,
                false => in_time(until, status, whole(response, manner)).await,
            }
        }
    };
    Attempted { provider_id, outcome }
}

/// Sends a request. What comes of it is a success whose body can be read, and what the provider calls it.
async fn ask(
    Sender { proxy, session, candidate, until }: Sender<'_>,
    request: Request<Body>,
) -> (Option<String>, Result<Response<Body>, Failed>) {
    let call = ProviderCall {
        endpoint: &candidate.provider.endpoint,
        pinned: candidate.provider.pinned,
        request,
        credential: candidate.credential.as_ref(),
    };
    let sending = Box::pin(proxy.send(&session.grant, call));
    let response = match timeout_at(until, sending).await {
        Err(_) => return (None, Err(Failed::new(Class::Timeout, "no response in time").charged())),
        Ok(Err(error)) => return (None, Err(from_egress(&error))),
        Ok(Ok(response)) => response,
    };
    let provider_id = of_provider(response.headers());
    let status = response.status();
    if !status.is_success() {
        let failed = in_time(until, status, async { Ok(refused(response).await) }).await;
        return (provider_id, Err(failed.unwrap_or_else(|late| late)));
    }
    let packed = |coding: &HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if response.headers().get(CONTENT_ENCODING).is_some_and(packed) {
        let failure = Failure::new(Class::Server, "the answer is compressed, which was not asked for");
        return (provider_id, Err(Failed::with(failure, status).charged()));
    }
    (provider_id, Ok(response))
}

/// What is read of an answer with this status, if that is there in time.
async fn in_time<T>(
    until: Instant,
    status: StatusCode,
    read: impl Future<Output = Result<T, Failed>>,
) -> Result<T, Failed> {
    match timeout_at(until, Box::pin(read)).await {
        Ok(read) => read,
        Err(_) => Err(Failed {
            status: Some(status),
            charge: if status.is_success() { Charge::All } else { Charge::Nothing },
            ..Failed::new(Class::Timeout, "the answer did not come in time")
        }),
    }
}

/// An answer with an error status.
async fn refused(response: Response<Body>) -> Failed {
    let (parts, body) = response.into_parts();
    // Whatever could be read of the body has to do: the status alone is an answer too.
    let body = match collect(body, ERROR_CAP).await {
        Ok(body) => body,
        Err((partial, _)) => partial,
    };
    Failed::with(classify(parts.status, &parts.headers, &body, SystemTime::now()), parts.status)
}

/// An answer that is not a stream.
async fn whole(response: Response<Body>, manner: Manner) -> Result<Answer, Failed> {
    let spoken = manner.spoken;
    let status = response.status();
    let body = collect(response.into_body(), ANSWER_CAP)
        .await
        .map_err(|(_, error)| Failed { status: Some(status), ..from_body(&error) }.charged())?;
    let body = if manner.wrapped { envelope::unwrapped(body) } else { body };
    let document = bounded::answer(&body).map_err(|e| {
        let class = if e.is_eof() { Class::Truncated } else { Class::Server };
        Failed::with(Failure::new(class, format!("the answer is not readable JSON: {e}")), status).charged()
    })?;
    if let Some(failure) = error_inside(&document) {
        let counted =
            ["usage", "usageMetadata"].iter().any(|key| document.get(key).is_some_and(|v| !v.is_null()));
        let failed = Failed::with(failure, status);
        return Err(if counted { failed.charged() } else { failed });
    }
    let believed = counts_are_whole(&document);
    let mut response = dialect::wire(spoken)
        .read_response(document)
        .map_err(|e| Failed::with(Failure::new(Class::Server, e.to_string()), status).charged())?;
    if !believed {
        response.usage = None;
    }
    let charge = response.usage.map_or(Charge::All, Charge::Counted);
    if values_in_arguments(&response.content) > ANSWER_VALUES as usize {
        let message = format!("the arguments of its tool calls hold more than {ANSWER_VALUES} values");
        return Err(Failed { charge, ..Failed::with(Failure::new(Class::Server, message), status) });
    }
    if response.stop == StopReason::Truncated {
        let failure = Failure::new(Class::Truncated, "the answer does not say why it ended");
        return Err(Failed { charge, ..Failed::with(failure, status) });
    }
    Ok(Answer::Whole { body, response })
}

/// Reads a stream up to its first content.
async fn begin(response: Response<Body>, manner: Manner, pace: Pace) -> Result<Answer, Failed> {
    let status = response.status();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !dialect::wire(manner.spoken).framing().is_named_by(kind) {
        let kind = kind.to_owned();
        let body = match collect(response.into_body(), ERROR_CAP).await {
            Ok(body) => body,
            Err((partial, _)) => partial,
        };
        let inside = bounded::answer(&body).ok().and_then(|document| error_inside(&document));
        return Err(match inside {
            Some(failure) => Failed::with(failure, status),
            None => {
                let message = format!("a stream was asked for, and {kind:?} came");
                Failed::with(Failure::new(Class::Server, message), status).charged()
            }
        });
    }
    let deltas =
        response.extensions().get().map(|sought: &Sought| Deltas::new(sought.clone(), manner.spoken));
    let wire = dialect::wire(manner.spoken);
    let parser = if manner.no_done { wire.lenient_stream_parser() } else { wire.stream_parser() };
    let splitter = wire.framing().splitter(FRAME_CAP + manner.repeated);
    let mut events = Events::new(response.into_body(), splitter, parser, deltas, pace);
    if manner.wrapped {
        events = events.unwrapped();
    }
    // Of those before the first content two repeat the request.
    let most_held = HELD_CAP + 2 * manner.repeated;
    let mut held = Vec::new();
    let mut held_bytes = 0;
    // A provider that says itself that it failed charges for what it counted.
    let mut counted = Charge::Nothing;
    loop {
        let item = match events.next(None).await {
            Ok(Some(item)) => item,
            Ok(None) => {
                let failure = Failure::new(Class::Truncated, "the stream ended before it said anything");
                return Err(Failed::with(failure, status).charged());
            }
            Err(failure) => return Err(Failed::with(failure, status).charged()),
        };
        for event in &item.meaning {
            if let StreamEvent::Usage(usage) = event {
                counted = if item.counts { Charge::Counted(*usage) } else { Charge::All };
            }
            if let StreamEvent::Error(error) = event {
                let failure = Failure {
                    code: error.code.clone(),
                    param: error.param.clone(),
                    retry_after: wait_of(&item),
                    ..Failure::new(error.class, error.message.clone())
                };
                return Err(Failed { charge: counted, ..Failed::with(failure, status) });
            }
        }
        let commits = item.meaning.iter().any(StreamEvent::commits);
        // Events of a few bytes each cost more than their bytes.
        held_bytes += item.frame.raw.len() + size_of::<Item>();
        held.push(item);
        if commits {
            return Ok(Answer::Begun { held, events: Box::new(events) });
        }
        if held_bytes > most_held {
            let failure = Failure::new(Class::Server, "the stream goes on and says nothing");
            return Err(Failed::with(failure, status).charged());
        }
    }
}

/// How long the provider asks to wait in an event that tells of a failure.
fn wait_of(item: &Item) -> Option<Duration> {
    let event = bounded::event(item.frame.data.as_deref()?).ok()?;
    error_inside(&event)?.retry_after
}

/// A whole body up to `cap`, or what came of it and why no more did.
async fn collect(mut body: Body, cap: usize) -> Result<Bytes, (Bytes, BodyError)> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Err(error) => return Err((all.freeze(), error)),
            Ok(frame) => {
                let Some(data) = frame.data_ref() else { continue };
                if all.len() + data.len() > cap {
                    return Err((all.freeze(), BodyError::TooLarge { limit: cap as u64 }));
                }
                all.extend_from_slice(data);
            }
        }
    }
    Ok(all.freeze())
}

/// A limit that leaves nothing for another candidate. One that is about time or what is under way is only this one's.
fn used_up(hit: orch_proxy::LimitHit) -> Option<RunLimit> {
    hit.is_lasting().then_some(RunLimit::Used(hit))
}

fn from_egress(error: &EgressError) -> Failed {
    let class = match error {
        // The provider is not to be reached from here, and asking again would not change that.
        EgressError::Refused(_) | EgressError::Address { .. } => Class::NoAccess,
        EgressError::Limit { .. } => Class::RateLimited,
        EgressError::Authorize { .. } | EgressError::Withdrawn { .. } => Class::BadKey,
        EgressError::Timeout(_) | EgressError::Ended(_) => Class::Timeout,
        EgressError::Dns { .. }
        | EgressError::Connect { .. }
        | EgressError::UpstreamProxy { .. }
        | EgressError::Tls { .. }
        | EgressError::Protocol { .. }
        | EgressError::Body(_) => Class::Network,
    };
    let run_is_over = match error {
        EgressError::Limit { name, used, limit } => {
            used_up(orch_proxy::LimitHit { name, used: *used, limit: *limit })
        }
        EgressError::Ended(ended) => Some(RunLimit::Ended(*ended)),
        _ => None,
    };
    let charge = match error {
        EgressError::Refused(_)
        | EgressError::Address { .. }
        | EgressError::Authorize { .. }
        | EgressError::Dns { .. }
        | EgressError::Connect { .. }
        | EgressError::UpstreamProxy { .. }
        | EgressError::Tls { .. }
        // Half a request is none.
        | EgressError::Body(_)
        | EgressError::Timeout(TimeoutKind::Dns | TimeoutKind::Connect | TimeoutKind::Tls) => Charge::Nothing,
        EgressError::Limit { .. } if error.is_refusal() => Charge::Nothing,
        EgressError::Limit { .. }
        | EgressError::Timeout(_)
        | EgressError::Protocol { .. }
        | EgressError::Ended(_)
        | EgressError::Withdrawn { .. } => Charge::All,
    };
    let mut failed = Failed { run_is_over, charge, ..Failed::new(class, error.to_string()) };
    failed.failure.code = Some(error.code().to_owned());
    failed
}

fn from_body(error: &BodyError) -> Failed {
    let class = match error {
        BodyError::Timeout(_) | BodyError::Ended(_) | BodyError::Limit(_) => Class::Timeout,
        BodyError::Withdrawn { .. } => Class::BadKey,
        BodyError::Upstream(_) => Class::Truncated,
        BodyError::TooLarge { .. } | BodyError::Refused(_) | BodyError::Guest(_) | BodyError::Other(_) => {
            Class::Server
        }
    };
    let run_is_over = match error {
        BodyError::Ended(ended) => Some(RunLimit::Ended(*ended)),
        BodyError::Limit(hit) => used_up(*hit),
        _ => None,
    };
    Failed { run_is_over, ..Failed::new(class, error.to_string()) }
}
