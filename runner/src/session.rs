//! The broker's end of a worker.
//!
//! [`Worker::start`] starts the process, hands it its socket and its artifact, and returns once it is ready;
//! [`Worker::run`] runs the agent once, and any number of runs may be under way. What the guest asks for arrives
//! at the [`Door`] that the worker was started with.
//!
//! Nothing the worker says is believed: run ids and tokens are compared with the runs it was given, output is
//! counted here as well, and a worker that says something senseless, or does not answer when a run's time is over,
//! is killed. A run whose end the broker has seen can send no further request.

mod control;
mod doors;
mod runs;

use std::error::Error;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_util::rt::TokioIo;
use orch_manifests::RunId;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::artifact::Artifact;
use crate::jail::Report;
use crate::process::{Descriptors, Process, WorkerCommand, describe, output_pipe, violated};
use crate::protocol::{
    Exit, FromBroker, Incompatible, Input, MAX_INLINE_INPUT, Mount, Pool, RefusalCode, RunSpec, Scratch,
    Usage, VERSION, Welcome, encode,
};
use crate::tasks::Tasks;
use crate::text::{and_it_said, printable_tail};

pub use crate::protocol::Refusal;
use runs::{Ended, LiveRun, Runs};

/// A body that goes through a door, in either direction.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// What breaks a body off. Its text stays on the broker's side.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// Where guests' requests go: the broker's gateway and egress proxy.
pub trait Door: Send + Sync + 'static {
    /// Carries out one request of the run that `token` belongs to.
    ///
    /// The request's URI is absolute, `http` or `https`, without user information; it has no `orch-*` and no `host`
    /// headers. Nothing else about it was checked. To refuse it, answer with [`refused`]. The future, and with it
    /// the response's body, is dropped when the guest loses interest or its run ends.
    fn request<'a>(&'a self, token: &'a str, request: Request<Body>) -> BoxFuture<'a, Response<Body>>;
}

/// A response that tells the guest that its request was refused.
pub fn refused(code: RefusalCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = match code {
        RefusalCode::BadRequest => http::StatusCode::BAD_REQUEST,
        RefusalCode::Denied | RefusalCode::AddressProhibited => http::StatusCode::FORBIDDEN,
        _ => http::StatusCode::BAD_GATEWAY,
    };
    response.extensions_mut().insert(Refusal(code));
    response
}

/// A body of nothing.
pub fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// How a worker is treated.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// How many runs it holds, and how large they get.
    pub pool: Pool,
    /// All that its runs may mount, by absolute paths without links. Whatever is not among these is out of its reach for
    /// good.
    pub mounts: Vec<Mount>,
    /// Scratch folders. A worker that has them runs once.
    pub scratch: Option<Scratch>,
    /// How long it may take until it is ready.
    pub start: Duration,
    /// How long after a run's time, a cancellation or a shutdown it may take to answer before it is killed.
    pub grace: Duration,
}

impl Default for WorkerConfig {
    /// The default pool, no mounts, no scratch folders, 10 s to start, 2 s of grace.
    fn default() -> Self {
        WorkerConfig {
            pool: Pool::default(),
            mounts: Vec::new(),
            scratch: None,
            start: Duration::from_secs(10),
            grace: Duration::from_secs(2),
        }
    }
}

/// The standard streams of a run.
///
/// Output arrives in order and with backpressure: a full channel stops the guest. A missing or closed channel
/// discards. Everything that was written has been sent when [`Worker::run`] returns.
#[derive(Default)]
pub struct RunIo {
    /// Standard input, for a spec with [`Input::Stream`].
    pub stdin: Option<Body>,
    /// Where standard output goes.
    pub stdout: Option<mpsc::Sender<Bytes>>,
    /// Where standard error goes.
    pub stderr: Option<mpsc::Sender<Bytes>>,
}

/// How a run ended and what it took, as the worker tells it. `stdout_bytes` and `stderr_bytes` are the broker's
/// own counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOutcome {
    /// How it ended.
    pub exit: Exit,
    /// What it took.
    pub usage: Usage,
    /// One line about an unusual end, free of control characters.
    pub message: Option<String>,
}

/// What went wrong with a worker, as opposed to with the guest in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WorkerError {
    /// The process could not be started.
    #[error("the sandbox process cannot be started: {0}")]
    Start(Arc<std::io::Error>),
    /// The process did not become ready in time.
    #[error("the sandbox process was not ready after {} s", .after.as_secs_f64())]
    NotReady {
        /// [`WorkerConfig::start`].
        after: Duration,
    },
    /// The process is of another release.
    #[error(transparent)]
    Incompatible(Incompatible),
    /// The worker could not set the run up; no guest code ran.
    #[error("the run cannot be set up: {message}")]
    Rejected {
        /// Why.
        message: String,
    },
    /// The spec cannot be sent to a worker.
    #[error("the run cannot be described to the sandbox process: {message}")]
    BadSpec {
        /// What is wrong with it.
        message: String,
    },
    /// [`Worker::shutdown`] was called.
    #[error("the sandbox process is shutting down")]
    ShuttingDown,
    /// The process did something that its jail does not allow, and was ended by the kernel with every run in it. One of
    /// them had native code executed; which, nobody can say.
    #[error(
        "sandbox violation: the sandbox process made a system call that no guest needs and was killed{}",
        and_it_said(.diagnostics)
    )]
    Violation {
        /// Its process id, which the kernel's audit log names together with the system call.
        pid: u32,
        /// The end of what it said, free of control characters.
        diagnostics: String,
    },
    /// The process ended, and every run in it.
    #[error("the sandbox process {how}{}", and_it_said(.diagnostics))]
    Died {
        /// How, or why it was killed.
        how: String,
        /// The end of what it said, free of control characters.
        diagnostics: String,
    },
}

/// A running worker. Dropping it kills the process and every run in it.
pub struct Worker {
    shared: Arc<Shared>,
    process: Process,
    /// One permit per run that the pool has room for.
    room: Arc<Semaphore>,
    config: WorkerConfig,
    jail: Report,
}

/// What the connection's tasks and the worker's owner share.
struct Shared {
    runs: Runs,
    door: Arc<dyn Door>,
    tasks: Tasks,
    /// Frames on their way to the worker. Unbounded because it is fed from `drop`; a run adds two at most.
    control: mpsc::UnboundedSender<Bytes>,
    killer: crate::process::Killer,
    /// Why the broker killed the worker, when it did.
    verdict: Mutex<Option<String>>,
    /// Set once, when the worker is gone.
    death: watch::Sender<Option<WorkerError>>,
    grace: Duration,
}

impl Shared {
    /// Ends the worker because of something it did or failed to do. The first reason is kept.
    fn condemn(&self, why: impl Into<String>) {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| why.into());
        self.killer.kill();
    }

    fn send(&self, frame: Bytes) {
        // Nobody receives when the connection is gone; then the runs hear of it as the worker's death.
        let _ = self.control.send(frame);
    }

    async fn died(&self) -> WorkerError {
        let mut death = self.death.subscribe();
        let error = match death.wait_for(Option::is_some).await {
            Ok(error) => error.clone(),
            Err(_) => None,
        };
        error.unwrap_or_else(|| WorkerError::Died {
            how: "was abandoned".to_owned(),
            diagnostics: String::new(),
        })
    }
}

impl Worker {
    /// Starts `command` (a program that calls [`crate::worker_main`]) with `artifact`, and waits until it is ready
    /// to run it. Guests' requests go to `door`.
    ///
    /// # Errors
    /// [`WorkerError::Start`], [`WorkerError::NotReady`], [`WorkerError::Incompatible`], or
    /// [`WorkerError::Died`] when the artifact does not load.
    pub async fn start(
        command: &WorkerCommand,
        artifact: Artifact,
        config: WorkerConfig,
        door: Arc<dyn Door>,
    ) -> Result<Worker, WorkerError> {
        let failed = |error| WorkerError::Start(Arc::new(error));
        // Paths of mounts are the caller's: they may be no text, or too long.
        let WorkerConfig { pool, mounts, scratch, .. } = config.clone();
        let welcome = Welcome { protocol: VERSION, pool, mounts, scratch };
        let welcome = encode(&FromBroker::Welcome(welcome))
            .map_err(|error| WorkerError::BadSpec { message: error.to_string() })?;
        let (ours, theirs) = StdUnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let ours = UnixStream::from_std(ours).map_err(failed)?;
        let (said, stderr) = output_pipe().map_err(failed)?;
        let descriptors = Descriptors { stdin: theirs.into(), stdout: artifact.into_descriptor(), stderr };
        let process = Process::spawn(command, descriptors).await.map_err(failed)?;

        let (control, frames) = mpsc::unbounded_channel();
        let tasks = Tasks::new();
        let shared = Arc::new(Shared {
            runs: Runs::default(),
            door,
            tasks: tasks.clone(),
            control,
            killer: process.killer(),
            verdict: Mutex::new(None),
            death: watch::Sender::new(None),
            grace: config.grace,
        });
        // From here on `worker` owns the process and the tasks, whichever way this ends.
        let room = Arc::new(Semaphore::new(config.pool.runs as usize));
        let mut worker = Worker { shared, process, room, config, jail: Report::default() };
        let (ready, is_ready) = oneshot::channel();
        let WorkerConfig { start, grace, .. } = worker.config;
        let doors = doors::Doors::new(&worker.shared, pool.runs, control::Control { welcome, frames, ready });
        let connection = doors::serve(TokioIo::new(ours), doors);
        let (killer, exited) = (worker.process.killer(), worker.process.exited());
        tasks.spawn(async move {
            connection.await;
            // A worker without its socket is of no use, whatever the reason. It usually knows.
            if timeout(grace, exited).await.is_err() {
                killer.kill();
            }
        });
        tasks.spawn(mourn(Arc::downgrade(&worker.shared), (worker.pid(), worker.process.exited()), said));

        match timeout(start, is_ready).await {
            Ok(Ok(Ok(jail))) => {
                worker.jail = jail;
                Ok(worker)
            }
            Ok(Ok(Err(incompatible))) => Err(WorkerError::Incompatible(incompatible)),
            // The control stream is gone, so the worker is or soon will be.
            Ok(Err(_)) => Err(worker.shared.died().await),
            Err(_) => Err(WorkerError::NotReady { after: start }),
        }
    }

    /// Whether the process is there, as far as is known.
    pub fn is_alive(&self) -> bool {
        self.shared.death.borrow().is_none()
    }

    /// What became of the layers of its jail, as it said before it was given anything to run.
    pub fn jail(&self) -> &Report {
        &self.jail
    }

    /// The worker's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Runs the agent once, waiting first while the worker's pool is full.
    ///
    /// Dropping the future cancels the run: its door closes at once, and its guest is stopped at the next epoch.
    ///
    /// # Errors
    /// See [`WorkerError`]. A guest that fails is not an error.
    pub async fn run(&self, spec: RunSpec, io: RunIo) -> Result<RunOutcome, WorkerError> {
        check(&spec, &self.config)?;
        let bad = |message: String| WorkerError::BadSpec { message };
        let room = match Arc::clone(&self.room).acquire_owned().await {
            Ok(permit) => permit,
            Err(_) => return Err(WorkerError::ShuttingDown),
        };
        let (run, limits) = (spec.run.clone(), spec.limits);
        let (live, end) = LiveRun::new(&spec, io, room);
        let frame = encode(&FromBroker::Run(Box::new(spec))).map_err(|error| bad(error.to_string()))?;
        if !self.shared.runs.add(&live) {
            return Err(bad(format!("run {run} is already under way")));
        }
        let watch = Watch { shared: &self.shared, run: &run, live: &live, over: false };
        self.shared.send(frame);

        let answer_by = Instant::now() + limits.time + self.config.grace;
        let ended = async {
            tokio::select! {
                ended = end => ended.ok(),
                () = sleep_until(answer_by) => {
                    self.shared.condemn(format!("did not end run {run} when its time was over"));
                    None
                }
            }
        };
        tokio::select! {
            biased;
            Some(ended) = ended => watch.over(ended),
            error = self.shared.died() => Err(error),
        }
    }

    /// Asks for the end of a run, whose [`Worker::run`] then returns [`Exit::Cancelled`]. For a run that is not
    /// under way this does nothing.
    pub fn cancel(&self, run: &RunId) {
        if self.shared.runs.get(run).is_some() {
            self.shared.cancel(run);
        }
    }

    /// Takes no further runs, lets those at hand finish within the grace period, and ends the process.
    pub async fn shutdown(&self) {
        self.room.close();
        self.shared.send(small(&FromBroker::Drain));
        if timeout(self.config.grace, self.process.exited()).await.is_err() {
            self.shared.condemn("did not finish in time when it was shut down");
        }
        self.process.exited().await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.tasks.shutdown();
        self.shared.killer.kill();
    }
}

fn check(spec: &RunSpec, config: &WorkerConfig) -> Result<(), WorkerError> {
    let bad = |message: &str| Err(WorkerError::BadSpec { message: message.to_owned() });
    match &spec.input {
        Input::Inline(text) if text.len() > MAX_INLINE_INPUT => {
            bad("the input is too long to be inline and must be streamed")
        }
        _ if spec.limits.memory > config.pool.memory => {
            bad("its memory limit is beyond what the worker's pool allows")
        }
        _ if spec.mounts.iter().any(|mount| !config.mounts.contains(mount)) => {
            bad("a mount is not among those that the worker was started with")
        }
        _ if http::HeaderValue::from_str(spec.token.reveal()).is_err() => {
            bad("the token is not a header value")
        }
        _ if spec
            .env
            .iter()
            .any(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')) =>
        {
            bad("an environment variable has an impossible name or value")
        }
        _ if spec.args.iter().any(|arg| arg.contains('\0')) => bad("an argument contains a NUL"),
        _ => Ok(()),
    }
}

/// A run between its start and the moment when its caller has its outcome.
struct Watch<'a> {
    shared: &'a Arc<Shared>,
    run: &'a RunId,
    live: &'a LiveRun,
    over: bool,
}

impl Watch<'_> {
    fn over(mut self, ended: Ended) -> Result<RunOutcome, WorkerError> {
        self.over = true;
        match ended {
            Ended::Finished(finished) => Ok(RunOutcome {
                exit: finished.exit,
                usage: self.live.usage(finished.usage),
                message: finished.message,
            }),
            Ended::Rejected(message) => Err(WorkerError::Rejected { message }),
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.live.close();
        if !self.over {
            self.shared.cancel(self.run);
        }
    }
}

impl Shared {
    /// Tells the worker to stop a run, and kills it if it does not.
    fn cancel(self: &Arc<Self>, run: &RunId) {
        self.send(small(&FromBroker::Cancel { run: run.clone() }));
        let Some(live) = self.runs.get(run) else { return };
        let (shared, grace, run) = (Arc::downgrade(self), self.grace, run.clone());
        self.tasks.spawn(async move {
            if timeout(grace, live.removed()).await.is_err()
                && let Some(shared) = shared.upgrade()
            {
                shared.condemn(format!("did not stop run {run} when it was told to"));
            }
        });
    }
}

/// The bytes of a frame that does not carry a spec.
fn small(frame: &FromBroker) -> Bytes {
    encode(frame).expect("ids and numbers fit a frame")
}

/// The end of a worker's life: collects what it said and tells everybody who waits.
async fn mourn(
    shared: std::sync::Weak<Shared>,
    (pid, exited): (u32, impl Future<Output = Option<ExitStatus>>),
    mut said: pipe::Receiver,
) {
    let listen = async {
        let mut tail: Vec<u8> = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = said.read(&mut chunk).await {
            let excess = (tail.len() + read).saturating_sub(DIAGNOSTICS);
            tail.drain(..excess.min(tail.len()));
            tail.extend_from_slice(&chunk[..read]);
        }
        tail
    };
    let (status, tail) = tokio::join!(exited, listen);
    let Some(shared) = shared.upgrade() else { return };
    let verdict = shared.verdict.lock().unwrap_or_else(PoisonError::into_inner).take();
    let diagnostics = printable_tail(&tail, DIAGNOSTICS);
    shared.death.send_replace(Some(match violated(status) {
        true => WorkerError::Violation { pid, diagnostics },
        false => {
            let how = verdict.map_or_else(|| describe(status), |why| format!("{why} and was killed"));
            WorkerError::Died { how, diagnostics }
        }
    }));
    shared.runs.close_all();
}

/// How much of what a worker says is kept, in bytes.
const DIAGNOSTICS: usize = 8 << 10;
