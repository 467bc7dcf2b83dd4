//! What the calls of one run, or of one workspace's clients, may hold at once: request bodies, what they are parsed into, and
//! answers of vectors.
//!
//! A guest may have thousands of requests under way, and the proxy admits a call only when it is sent on. Until then
//! it counts here: bodies wait, unread, until earlier ones are done with.

use std::error::Error;
use std::sync::{Arc, LazyLock};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use orch_manifests::{Dialect, ServerTool, Task};
use orch_proxy::Body;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, Instant, timeout, timeout_at};

use crate::bounded::{self, REQUEST_VALUES};
use crate::byok::Ask;
use crate::dialect::{self, RequestError, calls};
use crate::embeddings;
use crate::gateway::{bad_request, error_reply};
use crate::ir::{ApiError, ChatRequest, Class, values_in_arguments};
use crate::reach::{Need, beside, lacking};
use crate::session::Session;
use crate::upstream::{Asked, ClientRequest};

/// Largest request body, in bytes: Anthropic's own bound. Clients send the pictures and files of a conversation each time.
const BODY_CAP: usize = 32 << 20;

/// Bytes of all bodies of a run: two of the largest.
const BYTES: usize = 64 << 20;

/// The unit in which bytes are counted, and the least that a body counts for.
const BLOCK: usize = 4 << 10;

/// Calls of a run that hold a body or wait to read one. A body that waits fills its stream's window, a quarter of a
/// MiB; past this many, a call is refused.
const CALLS: usize = 256;

/// Bytes of answers of vectors that a run holds, and all of this process: an answer may be a hundred times its request, so
/// that room for requests says nothing of it. The largest one fits into that of a run.
const ANSWERS: usize = 256 << 20;
const ALL_ANSWERS: usize = 1 << 30;

/// How often an answer of vectors is in memory: as it came, and as what it is read into or written as.
const COPIES: usize = 2;

/// How much more of answers than one run all clients of a workspace may hold together.
const ANSWERS_OF_CLIENTS: usize = 2;

/// The room for answers of all runs and clients. It is the process's memory, so there is one.
static ROOM: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(blocks(ALL_ANSWERS))));

/// How much more than one run all clients of a workspace may hold together.
const RUNS_OF_CLIENTS: usize = 8;

/// Time without any byte of a client's body. It holds room that others of its workspace wait for, and a client that is gone
/// without a word is not noticed otherwise.
const SILENCE: Duration = Duration::from_secs(15);

/// Time for a client's body, beside what its bytes take at [`SLOWEST`].
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes each second that a client's body has to arrive with.
const SLOWEST: u64 = 32 << 10;

/// The places of one run, or of all clients of a workspace.
pub struct Intake {
    most_calls: usize,
    /// Whether a body that comes too slowly is given up: where others wait for its room.
    hurried: bool,
    calls: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    /// Values of all parsed bodies: one of the largest, or hundreds of the usual ones. Taken after the bytes, never
    /// before, and given back by calls that wait for nothing here: so no two calls wait for each other.
    values: Arc<Semaphore>,
    /// Blocks of answers of vectors. Taken before the request is sent, and by nobody who waits for anything else here.
    answers: Arc<Semaphore>,
    /// Those of everybody, taken after one's own.
    all_answers: Arc<Semaphore>,
}

/// The room for one answer of vectors, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    own: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
}

impl Room {
    /// Gives back what so many bytes do not need.
    pub(crate) fn shrink(&mut self, bytes: usize) {
        for taken in [&mut self.own, &mut self.all] {
            let surplus = taken.num_permits().saturating_sub(blocks(bytes));
            drop(taken.split(surplus));
        }
    }

    /// These bytes, which hold it until nobody has them any more.
    pub(crate) fn with(mut self, bytes: Bytes) -> Bytes {
        self.shrink(bytes.len());
        Bytes::from_owner(Roomed { bytes, _room: self })
    }
}

struct Roomed {
    bytes: Bytes,
    _room: Room,
}

impl AsRef<[u8]> for Roomed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A request's places, until it is dropped.
pub(crate) struct Held {
    _call: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
    _values: OwnedSemaphorePermit,
}

impl Intake {
    /// For the calls of one run: 256 of them, 32 MiB of bodies, 256 MiB of vectors.
    #[must_use]
    pub fn of_run() -> Arc<Intake> {
        Intake::sized(1, CALLS, 1, false)
    }

    /// For the calls of all clients of a workspace: 256 MiB of bodies, 512 MiB of vectors, and so many calls, but 2048 at
    /// least.
    #[must_use]
    pub fn of_clients(calls: usize) -> Arc<Intake> {
        Intake::sized(RUNS_OF_CLIENTS, calls, ANSWERS_OF_CLIENTS, true)
    }

    /// Waits for room for an answer of at most so many bytes.
    pub(crate) async fn room(&self, most_bytes: usize) -> Room {
        let wanted = blocks(most_bytes.saturating_mul(COPIES)).min(blocks(ANSWERS));
        // Whoever has the first waits for the second alone, and whoever has both waits for neither.
        let own = acquire(&self.answers, wanted).await;
        Room { own, all: acquire(&self.all_answers, wanted).await }
    }

    fn sized(times: usize, calls: usize, answers: usize, hurried: bool) -> Arc<Intake> {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits * times));
        let most_calls = calls.max(CALLS * times);
        Arc::new(Intake {
            most_calls,
            hurried,
            calls: Arc::new(Semaphore::new(most_calls)),
            bytes: semaphore(blocks(BYTES)),
            values: semaphore(REQUEST_VALUES as usize),
            answers: Arc::new(Semaphore::new(blocks(ANSWERS) * answers)),
            all_answers: Arc::clone(&ROOM),
        })
    }
}

/// What the path of a request says, in the dialect that says it there and not in the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Called {
    pub(crate) model: String,
    pub(crate) manner: Manner,
}

/// How a model is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// For an answer, or for a stream of one.
    Chat { stream: bool },
    /// For a vector (Gemini), or for a list of them.
    Embeddings { alone: bool },
}

/// Reads a body when there is room for it, parses it, and checks what it may ask for. The end of the run ends the
/// wait.
pub(crate) async fn receive(
    session: &Session,
    spoken: Dialect,
    task: Task,
    called: Option<Called>,
    headers: HeaderMap,
    body: Body,
) -> Result<ClientRequest, Box<Response<Body>>> {
    if headers.get(CONTENT_ENCODING).is_some_and(is_packed) {
        return Err(Box::new(error_reply(spoken, &compressed())));
    }
    let received = async {
        tokio::select! {
            biased;
            ended = session.grant.ended() => Err(over(ended.to_string())),
            taken = timeout_at(session.deadline, take(&session.intake, body)) => {
                taken.unwrap_or_else(|_| Err(over("the run's deadline has passed".to_owned())))
            }
        }
    };
    let (body, held) = Box::pin(received).await.map_err(|error| Box::new(error_reply(spoken, &error)))?;
    let (byok, body) = Ask::read(&headers, body).map_err(|error| Box::new(bad_request(spoken, &error)))?;
    let asked = match task {
        Task::Chat => {
            let mut chat = understand(spoken, &body)?;
            if let Some(Called { model, manner }) = called {
                agree(spoken, &chat.model, &model)?;
                let stream = manner == Manner::Chat { stream: true };
                (chat.model, chat.stream) = (model, stream);
            }
            if let Some(need) = lacking(spoken, &chat, session.server_tools, &session.own) {
                return Err(Box::new(error_reply(spoken, &not_granted(session, need))));
            }
            Asked::Chat(Box::new(chat))
        }
        Task::Embeddings => {
            let alone = called.as_ref().is_some_and(|c| c.manner == Manner::Embeddings { alone: true });
            let mut embed = embeddings::parse(spoken, &body, alone)
                .map_err(|error| Box::new(bad_request(spoken, &error)))?;
            if let Some(Called { model, .. }) = called {
                agree(spoken, &embed.model, &model)?;
                embed.model = model;
            }
            let allowed = session.server_tools;
            let needs = embed.needs().into_iter().chain(beside(&embed.model, &embed.extras, &session.own));
            let mut missing = needs.map(|need| Need { kinds: need.kinds.without(allowed), ..need });
            if let Some(need) = missing.find(|need| !need.kinds.is_empty()) {
                return Err(Box::new(error_reply(spoken, &not_granted(session, need))));
            }
            Asked::Embeddings(Box::new(embed))
        }
    };
    let keeps = session.server_tools.contains(ServerTool::Stored);
    Ok(ClientRequest { dialect: spoken, headers, body, asked, byok, keeps, _held: held })
}

/// Where body and path name a model, they name the same.
fn agree(spoken: Dialect, body: &str, path: &str) -> Result<(), Box<Response<Body>>> {
    if body.is_empty() || body == path {
        return Ok(());
    }
    let message = format!("is {body:?}, and the path names {path:?}");
    let error = RequestError { path: "model".to_owned(), message };
    Err(Box::new(bad_request(spoken, &error)))
}

async fn take(intake: &Intake, body: Body) -> Result<(Bytes, Held), ApiError> {
    let announced = body.size_hint();
    let cap = match announced.upper() {
        Some(_) if announced.lower() > BODY_CAP as u64 => return Err(too_large()),
        // A body that does not say how long it is may become the largest.
        upper => upper.and_then(|upper| usize::try_from(upper).ok()).map_or(BODY_CAP, |n| n.min(BODY_CAP)),
    };
    let call = Arc::clone(&intake.calls).try_acquire_owned().map_err(|_| ApiError {
        code: Some("orch_too_many_calls".to_owned()),
        ..ApiError::new(Class::RateLimited, format!("{} calls are under way already", intake.most_calls))
    })?;
    let mut bytes = acquire(&intake.bytes, blocks(cap)).await;
    let body = read(Limited::new(body, cap), intake.hurried).await?;
    let surplus = bytes.num_permits().saturating_sub(blocks(body.len()));
    drop(bytes.split(surplus));
    // What holds more values is refused when it is parsed.
    let values = bounded::count(&body).min(REQUEST_VALUES as usize);
    let values = acquire(&intake.values, values).await;
    Ok((body, Held { _call: call, _bytes: bytes, _values: values }))
}

async fn acquire(semaphore: &Arc<Semaphore>, permits: usize) -> OwnedSemaphorePermit {
    // Every weight is capped by its semaphore's size, which fits.
    let permits = u32::try_from(permits).unwrap_or(u32::MAX);
    Arc::clone(semaphore).acquire_many_owned(permits).await.expect("nobody closes the places of a run")
}

fn blocks(bytes: usize) -> usize {
    bytes.div_ceil(BLOCK).max(1)
}

async fn read(body: Limited<Body>, hurried: bool) -> Result<Bytes, ApiError> {
    if hurried {
        return at_pace(body).await;
    }
    let collected = body.collect().await.map_err(|error| unreadable(&*error))?;
    Ok(collected.to_bytes())
}

/// Reads a body that may not come too slowly.
async fn at_pace(mut body: Limited<Body>) -> Result<Bytes, ApiError> {
    let begun = Instant::now();
    // Most come in one piece, which is not copied.
    let (mut first, mut all) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = timeout(SILENCE, body.frame()).await.map_err(|_| too_slow())? {
        // Trailers say nothing here.
        let Ok(data) = frame.map_err(|error| unreadable(&*error))?.into_data() else { continue };
        if first.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
        }
        let length = first.len().max(all.len()) as u64;
        if begun.elapsed() > PATIENCE + Duration::from_secs(length / SLOWEST) {
            return Err(too_slow());
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

fn unreadable(error: &(dyn Error + Send + Sync + 'static)) -> ApiError {
    match error.is::<LengthLimitError>() {
        true => too_large(),
        false => ApiError::new(Class::BadRequest, format!("the body could not be read: {error}")),
    }
}

/// Whether a body in this coding is not what it stands for. Some name their letters there, which are no coding.
fn is_packed(coding: &HeaderValue) -> bool {
    let plain = ["", "identity", "utf-8", "utf8"];
    !plain.iter().any(|name| coding.as_bytes().eq_ignore_ascii_case(name.as_bytes()))
}

fn understand(spoken: Dialect, body: &[u8]) -> Result<ChatRequest, Box<Response<Body>>> {
    let parsed =
        dialect::wire(spoken).parse_request(body).map_err(|error| Box::new(bad_request(spoken, &error)))?;
    calls::check(spoken, &parsed.messages).map_err(|error| Box::new(bad_request(spoken, &error)))?;
    let arguments: usize = parsed.messages.iter().map(|message| values_in_arguments(&message.content)).sum();
    if arguments > REQUEST_VALUES as usize {
        let message = format!("the arguments of its tool calls hold more than {REQUEST_VALUES} values");
        let error = RequestError { path: "messages".to_owned(), message };
        return Err(Box::new(bad_request(spoken, &error)));
    }
    Ok(parsed)
}

/// What is missing, in the words of whoever could grant it.
fn not_granted(session: &Session, Need { path, kinds, what }: Need) -> ApiError {
    let grant = match session.plan.clients {
        Some(_) => "a token with the scope llm:tools; this one does not have it".to_owned(),
        None => {
            let words = kinds.to_string().replace(", ", ",");
            format!(
                "the capability llm.server_tools: {kinds}; this run does not have it: the manifest lists it under \
                 llm.server_tools, and --grant llm.server_tools:{words} grants it"
            )
        }
    };
    // Clients of OpenAI's may be told to send what was said, and not its id.
    let instead = match kinds.contains(ServerTool::Stored) && path.starts_with("input[") {
        true => "; a client that is told to store nothing (`store: false`) sends what was said in its place",
        false => "",
    };
    let missing: Vec<&str> = kinds.iter().map(ServerTool::as_str).collect();
    ApiError {
        status: Some(StatusCode::FORBIDDEN.as_u16()),
        code: Some("orch_server_tools".to_owned()),
        details: Some(Box::new(json!({ "missing": missing }))),
        param: Some(path.clone()),
        ..ApiError::new(
            Class::NoAccess,
            format!("{path}: the provider would {what}, which needs {grant}{instead}"),
        )
    }
}

fn too_large() -> ApiError {
    ApiError {
        status: Some(StatusCode::PAYLOAD_TOO_LARGE.as_u16()),
        ..ApiError::new(Class::BadRequest, format!("the body is larger than {BODY_CAP} bytes"))
    }
}

fn too_slow() -> ApiError {
    ApiError {
        status: Some(StatusCode::REQUEST_TIMEOUT.as_u16()),
        code: Some("orch_request_timeout".to_owned()),
        ..ApiError::new(Class::Timeout, "the body came too slowly")
    }
}

fn compressed() -> ApiError {
    ApiError {
        status: Some(StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16()),
        code: Some("orch_media_type".to_owned()),
        ..ApiError::new(
            Class::BadRequest,
            "the body is compressed (content-encoding), and is read here as it is only; send it plain",
        )
    }
}

fn over(reason: String) -> ApiError {
    ApiError { code: Some("orch_run_ended".to_owned()), ..ApiError::new(Class::Timeout, reason) }
}

#[cfg(test)]
mod tests;
