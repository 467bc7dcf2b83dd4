//! Vectors: the answer to one request, or to several, one after the other, where a model takes but some of the inputs at once.
//!
//! Several are one attempt: they were set aside as one, their tokens are summed, and their vectors stand in the order of the
//! inputs. One after the other, because a failure then leaves no other one at work that somebody would have to pay for.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use orch_manifests::Dialect;
use orch_proxy::{Body, full};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Answer, Attempted, Charge, Failed, Requests, Sender, ask, collect, from_body, in_time};
use crate::bounded;
use crate::classify::{Failure, error_inside};
use crate::embeddings::{self, EmbedResponse, Expected, More, Vector};
use crate::fields::NO_COUNT;
use crate::ir::{Class, Usage};

/// How often one of several requests is sent at most, where the provider is too busy for it.
const TRIES: u32 = 4;

/// Before it is sent again where the provider does not say when; doubled each time.
const BACKOFF: Duration = Duration::from_millis(500);

/// Asks for vectors.
pub(super) async fn vectors(
    sender: Sender<'_>,
    Requests { first, more }: Requests,
    spoken: Dialect,
    expected: Expected,
) -> Attempted {
    // Before the provider is at work: what it answers then has a place.
    let room = sender.session.intake.room(expected.most_bytes());
    let Ok(room) = timeout_at(sender.until, room).await else {
        let message = "there was no room for its answer in time: others of vectors are being read";
        return Attempted::unanswered(Failed::new(Class::Timeout, message));
    };
    let (provider_id, read) = match more.is_empty() {
        true => exchange(sender, first, spoken, expected).await,
        false => several(sender, first, &more, spoken, expected).await,
    };
    let outcome = read.map(|(body, response)| Answer::Embedded { body, response, room });
    Attempted { provider_id, outcome }
}

/// What came of a request, and what the provider calls it.
type Exchanged = (Option<String>, Result<(Bytes, EmbedResponse), Failed>);

/// Sends one request and reads its answer.
async fn exchange(
    sender: Sender<'_>,
    request: Request<Body>,
    spoken: Dialect,
    expected: Expected,
) -> Exchanged {
    let (provider_id, asked) = ask(sender, request).await;
    let read = match asked {
        Err(failed) => Err(failed),
        Ok(response) => {
            let status = response.status();
            in_time(sender.until, status, embedded(response, spoken, expected)).await
        }
    };
    (provider_id, read)
}

/// An answer of vectors. There are far too many numbers in it for a tree of values, which only an error is read into.
async fn embedded(
    response: Response<Body>,
    spoken: Dialect,
    expected: Expected,
) -> Result<(Bytes, EmbedResponse), Failed> {
    let status = response.status();
    let counted = embeddings::input_tokens(response.headers()).filter(|_| spoken == Dialect::BedrockConverse);
    let body = collect(response.into_body(), expected.most_bytes())
        .await
        .map_err(|(_, error)| Failed { status: Some(status), ..from_body(&error) }.charged())?;
    match expected.read(spoken, &body) {
        Ok(mut response) => {
            response.input_tokens = response.input_tokens.or(counted).filter(|tokens| *tokens < NO_COUNT);
            Ok((body, response))
        }
        Err(error) => {
            let document = bounded::answer(&body);
            if let Some(failure) = document.as_ref().ok().and_then(error_inside) {
                return Err(Failed::with(failure, status));
            }
            let cut = document.is_err_and(|error| error.is_eof());
            let class = if cut { Class::Truncated } else { Class::Server };
            Err(Failed::with(Failure::new(class, error.to_string()), status).charged())
        }
    }
}

/// Sends one request after the other, and joins their answers. What the provider calls the last one is kept.
async fn several(
    sender: Sender<'_>,
    first: Request<Body>,
    more: &[More],
    spoken: Dialect,
    expected: Expected,
) -> Exchanged {
    let of_more: usize = more.iter().map(|more| more.inputs).sum();
    let mut joined = Joined::new(&expected);
    let (head, body) = first.into_parts();
    let part = expected.part(expected.inputs().saturating_sub(of_more), joined.left);
    // When the first one fails nothing is lost yet, and what follows is the call's to decide.
    let (mut provider_id, read) =
        exchange(sender, Request::from_parts(head.clone(), body), spoken, part).await;
    if let Some(failed) = joined.add(read) {
        return (provider_id, Err(failed));
    }
    for More { body, inputs } in more {
        let mut tries = 0;
        loop {
            tries += 1;
            let request = Request::from_parts(head.clone(), full(body.clone()));
            let (id, read) = exchange(sender, request, spoken, expected.part(*inputs, joined.left)).await;
            provider_id = id;
            let Some(failed) = joined.add(read) else { break };
            match pause(&failed, tries, sender.until) {
                // All that was paid for before would be asked for again.
                Some(wait) => sleep(wait).await,
                None => return (provider_id, Err(joined.charged(failed))),
            }
        }
    }
    // Nobody gets these bytes: what was asked for in several requests is written anew.
    (provider_id, Ok((Bytes::new(), joined.response())))
}

/// How long to wait before one of several requests is sent again; `None` where that is no use, or does not fit.
fn pause(failed: &Failed, tries: u32, until: Instant) -> Option<Duration> {
    let busy = matches!(failed.failure.class, Class::RateLimited | Class::Overloaded)
        && failed.charge == Charge::Nothing
        && failed.run_is_over.is_none();
    let wait = failed.failure.retry_after.unwrap_or(BACKOFF * 2_u32.saturating_pow(tries - 1));
    (busy && tries < TRIES && wait < until.saturating_duration_since(Instant::now())).then_some(wait)
}

/// The answers so far to several requests, as one.
struct Joined {
    vectors: Vec<Vector>,
    /// Numbers of a vector.
    length: Option<usize>,
    /// `None` where one of them did not say.
    input_tokens: Option<u64>,
    id: String,
    /// Bytes that the rest may have.
    left: usize,
}

impl Joined {
    fn new(expected: &Expected) -> Joined {
        let left = expected.most_bytes();
        let vectors = Vec::with_capacity(expected.inputs());
        Joined { vectors, length: None, input_tokens: Some(0), id: String::new(), left }
    }

    /// Adds the next answer. What comes back is why there is none: the request failed, or its vectors have another length
    /// than those before.
    fn add(&mut self, read: Result<(Bytes, EmbedResponse), Failed>) -> Option<Failed> {
        let (body, response) = match read {
            Ok(read) => read,
            Err(failed) => return Some(failed),
        };
        self.left = self.left.saturating_sub(body.len());
        let counted = self.input_tokens.zip(response.input_tokens);
        self.input_tokens = counted.map(|(all, more)| all.saturating_add(more));
        let length = response.vectors.first().and_then(|vector| match vector {
            Vector::Numbers(numbers) => Some(numbers.len()),
            Vector::Unread => None,
        });
        if self.length.is_some() && self.length != length {
            return Some(Failed::new(Class::Server, "its vectors differ in length").charged());
        }
        self.length = length;
        self.vectors.extend(response.vectors);
        self.id = response.id;
        None
    }

    /// The failure of the next one, with what those before it cost.
    fn charged(&self, failed: Failed) -> Failed {
        let charge = match (failed.charge, self.input_tokens) {
            // What it costs, or what those before it did, nobody knows.
            (Charge::All, _) | (_, None) => Charge::All,
            (Charge::Nothing, Some(input)) => Charge::Counted(Usage { input, ..Usage::default() }),
            (Charge::Counted(usage), Some(input)) => {
                Charge::Counted(Usage { input: usage.input.saturating_add(input), ..usage })
            }
        };
        Failed { charge, ..failed }
    }

    fn response(self) -> EmbedResponse {
        let Joined { vectors, input_tokens, id, .. } = self;
        EmbedResponse { id, vectors, input_tokens, ..EmbedResponse::default() }
    }
}
