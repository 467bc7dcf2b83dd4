//! What every test needs: compiled guests, workers, doors.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use orch_manifests::RunId;
use orch_runner::{
    Artifact, ArtifactCache, Body, CompileLimits, Compiler, Door, Exit, Input, Mount, Pool, RefusalCode,
    RunIo, RunLimits, RunOutcome, RunSpec, Token, Worker, WorkerCommand, WorkerConfig, WorkerError,
    read_module, refused,
};
use tokio::sync::mpsc;

pub(crate) fn guest_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/guests/{name}/{name}.wasm"))
}

pub(crate) fn guest(name: &str) -> Bytes {
    read_module(&guest_path(name), 64 << 20).unwrap()
}

/// A guest that is kept as text.
pub(crate) fn wat(name: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/guests/wat/{name}.wat"));
    wat::parse_file(path).unwrap().into()
}

pub(crate) fn this_program(subcommand: &str) -> WorkerCommand {
    WorkerCommand::this_program(subcommand).unwrap()
}

pub(crate) fn compiler() -> Compiler {
    Compiler::new(this_program("__compile"), CompileLimits::default())
}

/// Guests are compiled once per test run; what the cache itself does is tested with caches of its own.
pub(crate) async fn artifact(name: &str) -> Artifact {
    static CACHE: OnceLock<(tempfile::TempDir, ArtifactCache)> = OnceLock::new();
    let (_, cache) = CACHE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let cache = ArtifactCache::open(&folder.path().join("cache"), &folder.path().join("key")).unwrap();
        (folder, cache)
    });
    cache.obtain(guest(name), &compiler()).await.unwrap().artifact
}

pub(crate) fn config() -> WorkerConfig {
    WorkerConfig {
        pool: Pool { runs: 40, memory: 512 << 20, yielding: true },
        mounts: Vec::new(),
        scratch: None,
        // A debug build on a machine that is busy with other tests.
        start: Duration::from_secs(60),
        grace: Duration::from_secs(10),
    }
}

pub(crate) async fn worker(name: &str) -> Worker {
    worker_with(name, Arc::new(Closed)).await
}

pub(crate) async fn worker_with(name: &str, door: Arc<dyn Door>) -> Worker {
    Worker::start(&this_program("__worker"), artifact(name).await, config(), door).await.unwrap()
}

/// A worker whose runs may have these mounts.
pub(crate) async fn mounted(name: &str, mounts: Vec<Mount>) -> Worker {
    let config = WorkerConfig { mounts, ..config() };
    Worker::start(&this_program("__worker"), artifact(name).await, config, Arc::new(Closed)).await.unwrap()
}

/// A door that opens for nobody.
pub(crate) struct Closed;

impl Door for Closed {
    fn request<'a>(&'a self, _: &'a str, _: Request<Body>) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async { refused(RefusalCode::Denied) })
    }
}

/// A door that is a function.
pub(crate) struct Ask<F>(pub(crate) F);

impl<F, A> Door for Ask<F>
where
    F: Fn(String, Request<Body>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    fn request<'a>(&'a self, token: &'a str, request: Request<Body>) -> BoxFuture<'a, Response<Body>> {
        Box::pin((self.0)(token.to_owned(), request))
    }
}

pub(crate) fn spec(input: &str) -> RunSpec {
    let run = RunId::random();
    RunSpec {
        token: Token::new(format!("token-of-{run}")),
        run,
        args: Vec::new(),
        env: Vec::new(),
        input: Input::Inline(input.to_owned()),
        limits: RunLimits { time: Duration::from_secs(60), ..RunLimits::default() },
        mounts: Vec::new(),
    }
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) outcome: RunOutcome,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl Ran {
    pub(crate) fn exit(&self) -> &Exit {
        &self.outcome.exit
    }

    pub(crate) fn stdout(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    pub(crate) fn stderr(&self) -> &str {
        std::str::from_utf8(&self.stderr).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) async fn run(worker: &Worker, spec: RunSpec) -> Ran {
    try_run(worker, spec, None).await.unwrap()
}

pub(crate) async fn try_run(worker: &Worker, spec: RunSpec, stdin: Option<Body>) -> Result<Ran, WorkerError> {
    let (stdout, out) = mpsc::channel(4);
    let (stderr, err) = mpsc::channel(4);
    let io = RunIo { stdin, stdout: Some(stdout), stderr: Some(stderr) };
    let (outcome, stdout, stderr) = tokio::join!(worker.run(spec, io), collect(out), collect(err));
    Ok(Ran { outcome: outcome?, stdout, stderr })
}

async fn collect(mut from: mpsc::Receiver<Bytes>) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = from.recv().await {
        all.extend_from_slice(&bytes);
    }
    all
}

/// Runs `guest` until it has said something on standard error, and returns what runs it.
pub(crate) async fn until_it_speaks(mut stderr: mpsc::Receiver<Bytes>) {
    stderr.recv().await.expect("the guest says something before it is stopped");
}
