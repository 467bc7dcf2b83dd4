//! What the client hears: answers, streams, and errors in its dialect, each with the receipt where there is one.

use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use orch_manifests::{Dialect, Whose};
use orch_proxy::{Body, full};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::advice::{Blamed, advice};
use crate::attempt::RunLimit;
use crate::dialect::{self, openai_responses, signatures};
use crate::embeddings::{self, EmbedResponse};
use crate::fields::NO_COUNT;
use crate::frames::Framing;
use crate::intake::Room;
use crate::ir::{ApiError, ChatResponse, Class, Part, StreamEvent, Usage};
use crate::plan::Candidate;
use crate::purse::LimitHit;
use crate::receipt::{Outcome, Receipt};
use crate::session::Session;
use crate::stream::{Encoder, Live, limit_error};
use crate::tab::Tab;
use crate::upstream::{Asked, ClientRequest, Prepared};

/// The header by which a client asks for a receipt and gets one.
pub(crate) const RECEIPT_HEADER: HeaderName = HeaderName::from_static("x-orch-receipt");

/// Whose key it was, in an answer.
const KEY_OWNER_HEADER: HeaderName = HeaderName::from_static("x-orch-key-owner");
/// Whether whoever asked had brought it, in an answer.
const BYOK_HEADER: HeaderName = HeaderName::from_static("x-orch-byok");

pub(super) fn encoder(client: &ClientRequest, prepared: &Prepared) -> Encoder {
    match prepared.same_dialect {
        true => Encoder::Pass { client: client.dialect, hide_usage: prepared.hide_usage, passed: 0 },
        false => {
            let wire = dialect::wire(client.dialect);
            let writer = match &client.asked {
                Asked::Chat(chat) => wire.answer_writer(chat),
                Asked::Embeddings(_) => wire.stream_writer(false),
            };
            let signed = signatures::are_known(client.dialect, prepared.spoken);
            Encoder::Translate { client: client.dialect, writer, signed, renamed: prepared.renamed.clone() }
        }
    }
}

/// OpenAI's clients expect a time, which Anthropic's and Gemini's answers do not have, and every client a model, which
/// Cohere's do not name.
pub(super) fn fill_start(held: &mut [crate::attempt::Item], candidate: &Candidate) {
    for event in held.iter_mut().flat_map(|item| &mut item.meaning) {
        if let StreamEvent::Start { id, created, model } = event {
            if *created == 0 {
                *created = unix_seconds();
            }
            name(model, candidate);
            identify(id);
        }
    }
}

/// An answer that names no model is of the one that was asked.
pub(super) fn name(model: &mut String, candidate: &Candidate) {
    if model.is_empty() {
        model.clone_from(&candidate.model);
    }
}

/// An answer that has no id (Bedrock's) gets one: clients tell answers apart by it.
pub(super) fn identify(id: &mut String) {
    let mut bytes = [0; 12];
    if id.is_empty() && SystemRandom::new().fill(&mut bytes).is_ok() {
        *id = format!("orch-{}", HEXLOWER.encode(&bytes));
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

pub(super) fn whole(
    client: &ClientRequest,
    mut tab: Tab,
    prepared: &Prepared,
    body: bytes::Bytes,
    mut response: ChatResponse,
) -> Response<Body> {
    let spoke = !response.content.is_empty();
    tab.heard_all(&response.model, response.usage, body.len(), spoke);
    tab.answered(&response.id, response.stop);
    let body = if prepared.same_dialect {
        body
    } else {
        if response.created == 0 {
            response.created = unix_seconds();
        }
        prepared.renamed.restore_all(&mut response.content);
        if !signatures::are_known(client.dialect, prepared.spoken) && signatures::take(&mut response) {
            tab.lost(&signatures::lost());
        }
        for part in &response.content {
            if let Part::Opaque(piece) = part {
                tab.lost(piece);
            }
        }
        let wire = dialect::wire(client.dialect);
        match &client.asked {
            Asked::Chat(chat) => wire.write_answer(&response, chat).into(),
            Asked::Embeddings(_) => wire.write_response(&response).into(),
        }
    };
    let receipt = tab.close(Outcome::Served);
    json_reply(StatusCode::OK, body, receipt.as_ref())
}

/// An answer of vectors, and the room that it takes.
pub(super) struct Vectors {
    pub(super) body: bytes::Bytes,
    pub(super) response: EmbedResponse,
    pub(super) room: Room,
}

/// Vectors.
pub(super) fn embedded(
    client: &ClientRequest,
    mut tab: Tab,
    candidate: &Candidate,
    same_dialect: bool,
    answer: Vectors,
) -> Response<Body> {
    let Vectors { body, mut response, room } = answer;
    response.input_tokens = response.input_tokens.filter(|tokens| *tokens < NO_COUNT);
    let usage = response.input_tokens.map(|input| Usage { input, ..Usage::default() });
    tab.heard_all(&response.model, usage, 0, false);
    let body = match (&client.asked, embeddings::wire(client.dialect)) {
        (Asked::Embeddings(embed), Some(wire)) if !same_dialect || !response.is_spelled_for(embed) => {
            if response.input_tokens.is_none() {
                response.input_tokens = Some(embed.worst_input(candidate.known().map(|model| model.context)));
                response.estimated = true;
            }
            drop(body);
            wire.write_response(embed, &response).into()
        }
        _ => body,
    };
    let counted = response.input_tokens.filter(|_| !response.estimated);
    drop(response);
    let receipt = tab.close(Outcome::Served);
    let mut reply = json_reply(StatusCode::OK, room.with(body), receipt.as_ref());
    if let Some(tokens) = counted.filter(|_| client.dialect == Dialect::BedrockConverse) {
        // Not every body of Bedrock's has a place for it.
        reply.headers_mut().insert(embeddings::TOKENS_HEADER, HeaderValue::from(tokens));
    }
    reply
}

pub(super) fn streamed(live: Live) -> Response<Body> {
    let content_type = live.framing.content_type();
    let whose = live.candidate.whose();
    let mut response = Response::new(live.into_body());
    let headers = response.headers_mut();
    say_whose(headers, whose);
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// The provider, or the gateway on its behalf, refused the request itself.
pub(super) fn refuse(
    client: &ClientRequest,
    tab: Tab,
    candidate: &Candidate,
    mut error: ApiError,
) -> Response<Body> {
    error.message = format!("{}: {}", candidate.name(), error.message);
    reply_error(client, tab, Outcome::Rejected, &error)
}

/// A bound on what is spent is in the way of every candidate.
pub(super) fn limited(
    client: &ClientRequest,
    session: &Session,
    mut tab: Tab,
    hit: &LimitHit,
) -> Response<Body> {
    tab.bounded(hit);
    session.budget.note(hit.clone());
    let mut error = limit_error(hit);
    if hit.needed.is_none() {
        // What the request holds, or the model's name, is why the price is not known: each candidate's reason is said.
        let (_, skipped) = tab.tried();
        let reasons = skipped.iter().map(|s| format!("{}: {}", s.model, s.reason));
        error.message = reasons.collect::<Vec<_>>().join("; ");
    }
    let mut response = reply_error(client, tab, Outcome::Limit, &error);
    if let Some(at) = hit.renews_at() {
        let seconds = (at - OffsetDateTime::now_utc()).whole_seconds().max(0) + 1;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// A limit of the run that the proxy enforces.
pub(super) fn run_over(
    client: &ClientRequest,
    session: &Session,
    tab: Tab,
    over: RunLimit,
) -> Response<Body> {
    match over {
        RunLimit::Used(orch_proxy::LimitHit { name, used, limit }) => {
            limited(client, session, tab, &LimitHit::of_run(name, used, limit, Some(1)))
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

/// Every candidate failed or was passed over. One class for all is said as such; a mixture is a bad gateway, and so is a
/// provider that failed, because nothing here did. `again` is when somebody may be asked again.
pub(super) fn all_failed(
    client: &ClientRequest,
    tab: Tab,
    classes: &[Class],
    again: Option<Instant>,
) -> Response<Body> {
    let (attempts, skipped) = tab.tried();
    let mut lines: Vec<String> = attempts
        .iter()
        .filter_map(|a| Some(format!("{}/{}: {} ({})", a.provider, a.model, a.class?.as_str(), a.message)))
        .collect();
    lines.extend(skipped.iter().map(|s| format!("{}: skipped, {}", s.name(), s.reason)));
    let mut details = json!({ "attempts": attempts, "skipped": skipped });
    let mut hints: Vec<String> = Vec::new();
    for attempt in attempts {
        let (provider, model, credential) =
            (&attempt.provider, &attempt.model, attempt.credential.as_deref());
        let blamed = Blamed { provider, model, credential, source: None };
        hints.extend(
            attempt.class.and_then(|class| advice(&blamed, class)).filter(|hint| !hints.contains(hint)),
        );
    }
    if !hints.is_empty() {
        details["hints"] = json!(hints);
    }
    // A failure that a key would have met again is one.
    let spared = skipped.iter().filter(|s| s.credential.is_some()).filter_map(|s| s.class);
    let classes: Vec<Class> = classes.iter().copied().chain(spared).collect();
    let alike = classes.windows(2).all(|pair| pair[0] == pair[1]);
    let (class, status) = match classes.first() {
        Some(Class::Server) if alike => (Class::Server, Some(502)),
        Some(class) if alike => (*class, None),
        Some(_) => (Class::Server, Some(502)),
        None => (Class::BadRequest, None),
    };
    const CODE: &str = "orch_all_candidates_failed";
    details["code"] = json!(CODE);
    let error = ApiError {
        status,
        code: Some(CODE.to_owned()),
        details: Some(Box::new(details)),
        ..ApiError::new(class, format!("no model could answer: {}", lines.join("; ")))
    };
    let mut response = reply_error(client, tab, Outcome::AllFailed, &error);
    if let (Class::RateLimited | Class::Overloaded, Some(again)) = (class, again) {
        // Whole seconds, and none before its time.
        let wait = again.saturating_duration_since(Instant::now()).as_secs_f64().ceil().max(1.0);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait as u64));
    }
    response
}

pub(super) fn reply_error(
    client: &ClientRequest,
    mut tab: Tab,
    outcome: Outcome,
    error: &ApiError,
) -> Response<Body> {
    tab.fails(error.class);
    let receipt = tab.close(outcome);
    let mut response = match (client.dialect, error.class) {
        // OpenAI says it in the stream that was asked for, which is where its clients look for it.
        (Dialect::OpenAiResponses, Class::ContextTooLong) if client.streams() => {
            let body = openai_responses::failed_stream(error);
            let mut response = json_reply(StatusCode::OK, body.into(), receipt.as_ref());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(Framing::Sse.media_type()));
            response
        }
        _ => {
            let (status, body) = dialect::wire(client.dialect).write_error(error);
            json_reply(status, body.into(), receipt.as_ref())
        }
    };
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
    let credential = receipt.and_then(|receipt| receipt.credential.as_ref());
    say_whose(response.headers_mut(), credential.map(|credential| credential.whose));
    response
}

/// Says whose key served, or was tried last: nobody is to find that out from a bill.
fn say_whose(headers: &mut HeaderMap, whose: Option<Whose>) {
    let Some(whose) = whose else { return };
    headers.insert(KEY_OWNER_HEADER, HeaderValue::from_static(whose.as_str()));
    let byok = if whose.is_byok() { "true" } else { "false" };
    headers.insert(BYOK_HEADER, HeaderValue::from_static(byok));
}
