//! The control stream, from the broker's side.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use super::runs::Ended;
use super::{Body, Shared, small};
use crate::jail::Report;
use crate::protocol::{FrameDecoder, FromBroker, FromWorker, Incompatible, VERSION};
use crate::text::printable;

/// Longest text that is taken over from a worker, in bytes.
const MAX_MESSAGE: usize = 16 << 10;

/// What the control stream needs, once.
pub(super) struct Control {
    /// The frame of the [`Welcome`](crate::protocol::Welcome).
    pub(super) welcome: Bytes,
    pub(super) frames: mpsc::UnboundedReceiver<Bytes>,
    pub(super) ready: Ready,
}

/// Where it is told that the worker is ready, with its jail's layers, or will never be.
type Ready = oneshot::Sender<Result<Report, Incompatible>>;

impl Control {
    /// Starts the conversation whose upper half is `up`; returns the lower half.
    pub(super) fn open(self, shared: &Arc<Shared>, up: Incoming) -> Body {
        let Control { welcome, mut frames, ready } = self;
        // The worker ends its half when it leaves, and takes the end of this one as the word that all was heard.
        let (heard, all_heard) = oneshot::channel::<Infallible>();
        let down = futures_util::stream::poll_fn(move |cx| {
            frames.poll_recv(cx).map(|bytes| Some(Ok::<_, Infallible>(Frame::data(bytes?))))
        })
        .take_until(all_heard);
        let weak = Arc::downgrade(shared);
        shared.tasks.spawn(async move {
            let mut up = Upstream { body: up, decoder: FrameDecoder::default() };
            let result = converse(&weak, &mut up, welcome, ready).await;
            drop(heard);
            if let Err(problem) = result
                && let Some(shared) = weak.upgrade()
            {
                shared.condemn(format!("broke the worker protocol ({problem})"));
            }
        });
        StreamBody::new(down).map_err(|never| match never {}).boxed_unsync()
    }
}

struct Upstream {
    body: Incoming,
    decoder: FrameDecoder,
}

impl Upstream {
    /// The next frame, or none at the stream's end. A stream that breaks off has ended too.
    async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, String> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(|error| error.to_string())? {
                return Ok(Some(frame));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.decoder.push(&data);
                    }
                }
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}

async fn converse(
    shared: &std::sync::Weak<Shared>,
    up: &mut Upstream,
    welcome: Bytes,
    ready: Ready,
) -> Result<(), String> {
    let send = |frame: &FromBroker| {
        if let Some(shared) = shared.upgrade() {
            shared.send(small(frame));
        }
    };
    let theirs = match up.next::<FirstFrame>().await? {
        Some(FirstFrame::Hello { protocol }) => protocol,
        Some(FirstFrame::Incompatible { ours }) => ours,
        Some(FirstFrame::Other) => return Err("it did not begin with hello".to_owned()),
        None => return Ok(()),
    };
    if theirs != VERSION {
        let incompatible = Incompatible { ours: VERSION, theirs };
        send(&FromBroker::Incompatible(incompatible.clone()));
        let _ = ready.send(Err(incompatible));
        // Until it has read that and left.
        while up.body.frame().await.is_some_and(|frame| frame.is_ok()) {}
        return Ok(());
    }
    if let Some(shared) = shared.upgrade() {
        shared.send(welcome);
    }
    let mut ready = Some(ready);
    while let Some(frame) = up.next::<FromWorker>().await? {
        match frame {
            FromWorker::Ready { jail } => match ready.take() {
                Some(ready) => drop(ready.send(Ok(jail.harmless()))),
                None => return Err("it was ready twice".to_owned()),
            },
            FromWorker::Incompatible(theirs) => {
                if let Some(ready) = ready.take() {
                    let _ = ready.send(Err(Incompatible { ours: VERSION, theirs: theirs.ours }));
                }
            }
            FromWorker::Hello(_) => return Err("it said hello twice".to_owned()),
            FromWorker::Started { run } => with_run(shared, &run, |shared| shared.runs.get(&run).is_some())?,
            FromWorker::Finished(mut finished) => {
                finished.message = finished.message.map(|message| printable(&message, MAX_MESSAGE));
                if let crate::protocol::Exit::Trap { message } = &mut finished.exit {
                    *message = printable(message, MAX_MESSAGE);
                }
                let run = finished.run.clone();
                with_run(shared, &run, |shared| shared.runs.end(&run, Ended::Finished(finished)))?;
            }
            FromWorker::Rejected { run, message } => {
                let message = printable(&message, MAX_MESSAGE);
                with_run(shared, &run, |shared| shared.runs.end(&run, Ended::Rejected(message)))?;
            }
        }
    }
    Ok(())
}

fn with_run(
    shared: &std::sync::Weak<Shared>,
    run: &orch_manifests::RunId,
    act: impl FnOnce(&Shared) -> bool,
) -> Result<(), String> {
    match shared.upgrade() {
        Some(shared) if !act(&shared) => Err(format!("it spoke of run {run}, which it does not have")),
        _ => Ok(()),
    }
}

/// The first frame of any version: all that can be relied on is that it says which.
#[derive(serde::Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FirstFrame {
    Hello {
        protocol: u32,
    },
    Incompatible {
        ours: u32,
    },
    #[serde(other)]
    Other,
}
