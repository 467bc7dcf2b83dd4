//! The control stream, from the worker's side: what runs when.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::num::NonZero;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use orch_manifests::RunId;
use serde::Deserialize;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::Guests;
use super::meter::Cancel;
use super::sandbox::Sandbox;
use super::wire::{Socket, Wire, WireBody, request_to};
use crate::jail::{Jail, Report};
use crate::protocol::{
    self, FrameDecoder, FromBroker, FromWorker, Hello, Incompatible, Mount, Pool, RunSpec, Scratch, VERSION,
    encode,
};
use crate::tasks::Tasks;

/// How long the worker may take to leave when its socket is gone.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What a worker starts with.
pub(super) struct Start {
    pub(super) artifact: File,
    pub(super) jail: Jail,
    /// See [`super::worker_main_with`].
    pub(super) native: fn(&RunSpec),
}

/// Serves the broker at the other end of `socket` until it has had enough, or is gone.
pub(super) async fn serve(socket: UnixStream, start: Start) -> Result<(), String> {
    let tasks = Tasks::new();
    let (socket, connection) = Socket::open(socket, tasks.clone()).await?;
    let mut conversing = pin!(converse(socket, start));
    let result = tokio::select! {
        result = &mut conversing => result,
        // All of its streams have ended, and it soon notices; it may have something to say about why.
        () = connection => timeout(LAST_WORDS, conversing).await.unwrap_or(Ok(())),
    };
    tasks.shutdown();
    result
}

async fn converse(socket: Arc<Socket>, start: Start) -> Result<(), String> {
    let Start { artifact, jail, native } = start;
    let (mut broker, to_broker) = Downstream::open(&socket);
    to_broker.send(&FromWorker::Hello(Hello {
        protocol: VERSION,
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }))?;
    let (pool, mounts, scratch) = match broker.next::<FirstFrame>().await? {
        Some(FirstFrame::Welcome { protocol: VERSION, rest }) => {
            let incomplete = "the broker's welcome is incomplete";
            (rest.pool.ok_or(incomplete)?, rest.mounts.ok_or(incomplete)?, rest.scratch)
        }
        Some(FirstFrame::Welcome { protocol: theirs, .. }) => {
            let incompatible = Incompatible { ours: VERSION, theirs };
            to_broker.send(&FromWorker::Incompatible(incompatible.clone()))?;
            // Stays until the broker has heard it and hangs up.
            while broker.next::<serde::de::IgnoredAny>().await?.is_some() {}
            return Err(incompatible.to_string());
        }
        Some(FirstFrame::Incompatible { ours }) => {
            return Err(Incompatible { ours: VERSION, theirs: ours }.to_string());
        }
        Some(FirstFrame::Other) => return Err("the broker did not begin with a welcome".to_owned()),
        None => return Ok(()),
    };
    // How many processors there are is in files.
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut closed = None;
    let sandbox = Sandbox::load_file(artifact, pool, || {
        let now = jail.close(&mounts, scratch.as_ref());
        closed = Some(now.report);
        now.folders
    })
    .map_err(|error| error.to_string())?;
    let guests = Guests::start(processors)
        .map_err(|error| format!("the guests' threads cannot be started: {error}"))?;
    let jail: Report = closed.expect("it was closed when the artifact was loaded");
    to_broker.send(&FromWorker::Ready { jail })?;

    let running =
        Arc::new(Running { sandbox, socket, to_broker, native, runs: Mutex::default(), idle: Notify::new() });
    let tasks = Tasks::on(guests.handle());
    let draining = loop {
        match broker.next::<FromBroker>().await? {
            Some(FromBroker::Run(spec)) => running.start(&tasks, spec)?,
            Some(FromBroker::Cancel { run }) => running.cancel(&run),
            Some(FromBroker::Drain) => break true,
            Some(FromBroker::Welcome(_) | FromBroker::Incompatible(_)) => {
                return Err("the broker began twice".to_owned());
            }
            None => break false,
        }
    };
    if draining {
        // Cancellations still count while the last runs finish.
        tokio::select! {
            () = running.drained() => {}
            result = cancellations(&mut broker, &running) => result?,
        }
        // The runs' tasks are done with it: this ends the stream of frames, and the broker's answer to that is to
        // end its own.
        drop(running);
        while broker.next::<serde::de::IgnoredAny>().await?.is_some() {}
    }
    tasks.shutdown();
    Ok(())
}

async fn cancellations(broker: &mut Downstream, running: &Running) -> Result<(), String> {
    while let Some(frame) = broker.next::<FromBroker>().await? {
        if let FromBroker::Cancel { run } = frame {
            running.cancel(&run);
        }
    }
    Ok(())
}

/// The runs at hand.
struct Running {
    sandbox: Sandbox,
    socket: Arc<Socket>,
    to_broker: Upstream,
    native: fn(&RunSpec),
    runs: Mutex<HashMap<RunId, Arc<Cancel>>>,
    idle: Notify,
}

impl Running {
    fn start(self: &Arc<Self>, tasks: &Tasks, spec: Box<RunSpec>) -> Result<(), String> {
        let cancel = Arc::new(Cancel::default());
        if self.lock().insert(spec.run.clone(), Arc::clone(&cancel)).is_some() {
            return Err("the broker started a run twice".to_owned());
        }
        let running = Arc::clone(self);
        tasks.spawn(async move {
            let wire: Arc<dyn Wire> = Arc::clone(&running.socket) as Arc<dyn Wire>;
            let run = spec.run.clone();
            // A broker that cannot be told anything is gone, and this process with it.
            let _ = running.to_broker.send(&FromWorker::Started { run: run.clone() });
            (running.native)(&spec);
            let ended = match running.sandbox.run(&spec, wire, &cancel).await {
                Ok(finished) => FromWorker::Finished(finished),
                Err(why) => FromWorker::Rejected { run: run.clone(), message: why.to_string() },
            };
            let _ = running.to_broker.send(&ended);
            running.lock().remove(&run);
            running.idle.notify_waiters();
        });
        Ok(())
    }

    fn cancel(&self, run: &RunId) {
        if let Some(cancel) = self.lock().get(run) {
            cancel.cancel();
        }
    }

    async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            if self.lock().is_empty() {
                return;
            }
            idle.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Arc<Cancel>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Frames to the broker. Unbounded: there are two per run.
struct Upstream(mpsc::UnboundedSender<Bytes>);

impl Upstream {
    fn send(&self, frame: &FromWorker) -> Result<(), String> {
        let bytes = encode(frame).map_err(|error| error.to_string())?;
        self.0.send(bytes).map_err(|_| "the broker is gone".to_owned())
    }
}

/// Frames from the broker.
struct Downstream {
    response: Response,
    decoder: FrameDecoder,
}

enum Response {
    Awaited(futures_util::future::BoxFuture<'static, Result<http::Response<WireBody>, super::WireError>>),
    Open(WireBody),
}

impl Downstream {
    fn open(socket: &Socket) -> (Self, Upstream) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let frames = futures_util::stream::poll_fn(move |cx| {
            receiver.poll_recv(cx).map(|bytes| Some(Ok::<_, Infallible>(Frame::data(bytes?))))
        });
        let body = StreamBody::new(frames).map_err(|never| match never {}).boxed_unsync();
        let path = http::uri::PathAndQuery::from_static("/v1/control");
        let response = socket.send(request_to(protocol::CONTROL, Method::POST, path).map(|()| body));
        let downstream =
            Downstream { response: Response::Awaited(response), decoder: FrameDecoder::default() };
        (downstream, Upstream(sender))
    }

    /// The next frame, or none when the broker is gone.
    async fn next<T: for<'de> Deserialize<'de>>(&mut self) -> Result<Option<T>, String> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(|error| error.to_string())? {
                return Ok(Some(frame));
            }
            match &mut self.response {
                Response::Awaited(response) => match response.await {
                    Ok(response) if response.status().is_success() => {
                        self.response = Response::Open(response.into_body());
                    }
                    Ok(response) => return Err(format!("the broker answered {}", response.status())),
                    Err(_) => return Ok(None),
                },
                Response::Open(body) => match body.frame().await {
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            self.decoder.push(&data);
                        }
                    }
                    Some(Err(_)) | None => return Ok(None),
                },
            }
        }
    }
}

/// The first frame of any version: all that can be relied on is that it says which.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FirstFrame {
    Welcome {
        protocol: u32,
        #[serde(flatten)]
        rest: RestOfWelcome,
    },
    Incompatible {
        ours: u32,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct RestOfWelcome {
    pool: Option<Pool>,
    mounts: Option<Vec<Mount>>,
    scratch: Option<Scratch>,
}
