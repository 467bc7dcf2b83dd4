//! What was asked and answered, of workspaces that want it kept: copied on its way, without the keys in it.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use orch_gateway::RequestId;
use orch_proxy::{Body, BodyError};
use time::OffsetDateTime;

use super::BodiesKept;
use crate::redact::{Known, Said, redact};
use crate::store::{Bodies, Kept, Store};

/// Requests of one run whose bodies are kept. It may make any number, and what is kept of a workspace is bounded: one agent
/// must not be able to have all others' forgotten.
pub(super) const OF_A_RUN: usize = 1000;

/// Where bodies of a workspace go, and how.
#[derive(Clone)]
pub(crate) struct BodyKeeper {
    pub(crate) store: Store,
    pub(crate) workspace: Arc<str>,
    pub(crate) kept: BodiesKept,
}

impl BodyKeeper {
    /// The same for calls that hold these values.
    pub(crate) fn without(self, known: Arc<Known>) -> Arc<Recorder> {
        Arc::new(Recorder { keeper: self, known, left: AtomicUsize::new(OF_A_RUN) })
    }
}

/// Keeps the bodies of one client's call, or of the calls of one run.
pub(crate) struct Recorder {
    keeper: BodyKeeper,
    /// What must not be in them.
    known: Arc<Known>,
    /// So many more.
    left: AtomicUsize,
}

impl Recorder {
    /// Whether one more is kept.
    fn takes_one(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// Lets a request of a model be answered, and keeps copies of what passes if there is a recorder.
pub(crate) async fn recorded(
    recorder: Option<&Arc<Recorder>>,
    mut request: Request<Body>,
    answer: impl AsyncFnOnce(Request<Body>) -> Response<Body>,
) -> Response<Body> {
    let is_call = request.method() == Method::POST;
    let Some(recorder) = recorder.filter(|recorder| is_call && recorder.takes_one()) else {
        return answer(request).await;
    };
    // Under this name it is on record as well.
    let id = request.extensions().get::<RequestId>().cloned().unwrap_or_else(RequestId::random);
    request.extensions_mut().insert(id.clone());
    let (asked, answered) =
        (Copied::upto(recorder.keeper.kept.size), Copied::upto(recorder.keeper.kept.size));
    let request =
        request.map(|body| Copying { inner: body, copied: asked.clone(), end: None }.boxed_unsync());
    let end = End { recorder: Arc::clone(recorder), id, asked, answered: answered.clone() };
    // From here on somebody holds the end: whoever goes away meanwhile leaves what there is by then.
    let response = answer(request).await;
    response.map(|body| Copying { inner: body, copied: answered, end: Some(end) }.boxed_unsync())
}

/// The beginning of a body that passes.
#[derive(Clone)]
struct Copied(Arc<Mutex<Beginning>>);

struct Beginning {
    bytes: Vec<u8>,
    most: usize,
    of: u64,
}

impl Copied {
    fn upto(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Beginning { bytes: Vec::new(), most, of: 0 })))
    }

    fn add(&self, piece: &[u8]) {
        let mut beginning = self.lock();
        let room = beginning.most.saturating_sub(beginning.bytes.len()).min(piece.len());
        beginning.bytes.extend_from_slice(&piece[..room]);
        beginning.of = beginning.of.saturating_add(piece.len() as u64);
    }

    /// What is kept of it, once nothing that `known` finds and nothing that looks like a key is in it.
    fn kept(&self, known: &Known) -> Kept {
        let (bytes, of) = {
            let mut beginning = self.lock();
            (std::mem::take(&mut beginning.bytes), beginning.of)
        };
        let cut = (bytes.len() as u64) < of;
        let mut stream = known.stream();
        let mut clean = stream.push(Bytes::from(bytes)).to_vec();
        // What is held back may be the beginning of a value whose rest was cut off.
        if !cut {
            clean.extend_from_slice(&stream.finish());
        }
        let mut text = String::from_utf8_lossy(&clean).into_owned();
        if cut {
            // So may the last word be that of a key that nobody here knows.
            let end = text.rfind(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'));
            text.truncate(end.unwrap_or(0));
        }
        let text = redact(&text, Said::Anything).into_owned();
        Kept { bytes: text.into_bytes(), of, cut }
    }

    fn lock(&self) -> MutexGuard<'_, Beginning> {
        // Every change of it is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is done when the answer was read, or its reader went away.
struct End {
    recorder: Arc<Recorder>,
    id: RequestId,
    asked: Copied,
    answered: Copied,
}

impl Drop for End {
    fn drop(&mut self) {
        let Recorder { keeper, known, left: _ } = &*self.recorder;
        let life = time::Duration::try_from(keeper.kept.keep).unwrap_or(time::Duration::ZERO);
        let expires = OffsetDateTime::now_utc().checked_add(life);
        keeper.store.keep_bodies(Bodies {
            workspace: keeper.workspace.to_string(),
            request: self.id.as_str().to_owned(),
            expires: expires.unwrap_or(OffsetDateTime::UNIX_EPOCH),
            asked: self.asked.kept(known),
            answered: self.answered.kept(known),
        });
    }
}

/// A body that is copied as it passes.
struct Copying {
    inner: Body,
    copied: Copied,
    /// Dropped with it.
    #[expect(dead_code, reason = "what it is for happens when it is dropped")]
    end: Option<End>,
}

impl HttpBody for Copying {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.copied.add(data);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
