//! What a worker process has, and how it ends.

use std::convert::Infallible;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use orch_runner::protocol::{FrameDecoder, FromBroker, FromWorker, Incompatible, VERSION, Welcome, encode};
use orch_runner::{Body, Pool, RunIo, empty};
use tokio::sync::mpsc;

use crate::support::{run, spec, this_program, until_it_speaks, worker};

pub(crate) async fn a_worker_has_three_descriptors_and_no_environment() {
    // A variable and a descriptor of this process, neither of which may show up there.
    assert!(std::env::vars_os().next().is_some());
    let _open = std::fs::File::open("/dev/null").unwrap();
    let worker = worker("spinner").await;
    let (stderr, speaks) = mpsc::channel(4);
    let io = RunIo { stderr: Some(stderr), ..RunIo::default() };
    tokio::select! {
        outcome = worker.run(spec(""), io) => panic!("{outcome:?}"),
        () = until_it_speaks(speaks) => {}
    }
    let proc = std::path::PathBuf::from(format!("/proc/{}", worker.pid()));
    match std::fs::read(proc.join("environ")) {
        Ok(environment) => assert_eq!(environment, b""),
        // A process that is not dumpable can be looked into by root only.
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
    }
    let Ok(descriptors) = std::fs::read_dir(proc.join("fd")) else { return };
    for entry in descriptors {
        let entry = entry.unwrap();
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let target = std::fs::read_link(entry.path()).unwrap();
        let target = target.to_str().unwrap();
        let expected = match number {
            0 => target.starts_with("socket:"),
            1 => target.ends_with(".artifact"),
            2 => target.starts_with("pipe:"),
            // The runtimes' own, and the image that a guest's memory starts from.
            _ => target.starts_with("anon_inode:[event") || target.starts_with("/memfd:"),
        } || (number > 2 && is_signal_pair(target));
        assert!(expected, "descriptor {number} is {target}");
    }
    let flags = std::fs::read_to_string(proc.join("fdinfo/1")).unwrap();
    let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
    assert_eq!(u32::from_str_radix(flags, 8).unwrap() & 3, 0, "the artifact is open for reading only");
}

/// tokio's signal driver has a socket pair to itself.
fn is_signal_pair(target: &str) -> bool {
    target.starts_with("socket:")
}

pub(crate) async fn sockets_are_denied() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let worker = worker("sockets").await;
    let ran = run(&worker, spec(&format!("{{\"port\":{port}}}"))).await;
    let tried = ran.json();
    let tried = tried.as_object().unwrap();
    assert_eq!(tried.len(), 15, "{tried:?}");
    for (way, outcome) in tried {
        assert_ne!(outcome, "reached", "{way}");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "nobody connected");
}

pub(crate) async fn a_worker_ends_with_its_socket_while_its_guest_spins() {
    let pool = Pool { runs: 4, memory: 256 << 20, yielding: true };
    let (broker, mut child) =
        Broker::start("spinner", Welcome { protocol: VERSION, pool, mounts: Vec::new(), scratch: None })
            .await;
    let Broker { mut frames, send, mut spoke, connection } = broker;
    assert!(matches!(frames.recv().await, Some(FromWorker::Hello(_))));
    assert!(matches!(frames.recv().await, Some(FromWorker::Ready { .. })));
    for _ in 0..4 {
        send.send(encode(&FromBroker::Run(Box::new(spec("")))).unwrap()).unwrap();
        spoke.recv().await.unwrap();
    }
    assert!(child.try_wait().unwrap().is_none());
    // Nothing but the socket goes: this process, its parent, lives on and sends no signal.
    connection.abort();
    let _ = connection.await;
    let status = tokio::task::spawn_blocking(move || child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0), "{status}");
}

pub(crate) async fn a_worker_is_started_by_a_broker_only() {
    for subcommand in ["__worker", "__compile"] {
        let output = Command::new(std::env::current_exe().unwrap()).arg(subcommand).output().unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("started by orch itself"), "{said}");
    }
}

/// The broker's end by hand, so that a test can do what the real one never would.
pub(crate) struct Broker {
    pub(crate) frames: mpsc::UnboundedReceiver<FromWorker>,
    pub(crate) send: mpsc::UnboundedSender<Bytes>,
    /// One message per request at the io door.
    pub(crate) spoke: mpsc::UnboundedReceiver<()>,
    pub(crate) connection: tokio::task::JoinHandle<()>,
}

impl Broker {
    pub(crate) async fn start(guest: &str, welcome: Welcome) -> (Self, std::process::Child) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // A compiled guest, by way of an artifact whose descriptor only the crate may take: a worker wants the file.
        let artifact = compiled_file(guest).await;
        let command = this_program("__worker");
        let child = Command::new(&command.program)
            .args(&command.args)
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(artifact)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        ours.set_nonblocking(true).unwrap();
        let io = TokioIo::new(tokio::net::UnixStream::from_std(ours).unwrap());

        let (frame, frames) = mpsc::unbounded_channel();
        let (speaks, spoke) = mpsc::unbounded_channel();
        let (send, to_worker) = mpsc::unbounded_channel::<Bytes>();
        send.send(encode(&FromBroker::Welcome(welcome)).unwrap()).unwrap();
        let to_worker = Arc::new(Mutex::new(Some(to_worker)));
        let service = service_fn(move |request: Request<Incoming>| {
            let (frame, speaks, to_worker) =
                (frame.clone(), speaks.clone(), to_worker.lock().unwrap().take());
            async move { Ok::<_, Infallible>(serve(request, frame, &speaks, to_worker).await) }
        });
        let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service);
        #[allow(clippy::disallowed_methods, reason = "its handle is kept by the test")]
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        (Broker { frames, send, spoke, connection }, child)
    }
}

async fn serve(
    request: Request<Incoming>,
    frame: mpsc::UnboundedSender<FromWorker>,
    speaks: &mpsc::UnboundedSender<()>,
    to_worker: Option<mpsc::UnboundedReceiver<Bytes>>,
) -> Response<Body> {
    if request.uri().path() != "/v1/control" {
        let mut body = request.into_body();
        while body.frame().await.is_some_and(|frame| frame.is_ok()) {
            let _ = speaks.send(());
        }
        return Response::new(empty());
    }
    let mut up = request.into_body();
    #[allow(clippy::disallowed_methods, reason = "it ends with the connection")]
    tokio::spawn(async move {
        let mut decoder = FrameDecoder::default();
        while let Some(Ok(data)) = up.frame().await {
            decoder.push(&data.into_data().unwrap_or_default());
            while let Some(next) = decoder.next_frame().unwrap() {
                let _ = frame.send(next);
            }
        }
    });
    let mut to_worker = to_worker.expect("one control stream");
    let down = futures_util::stream::poll_fn(move |cx| {
        to_worker.poll_recv(cx).map(|bytes| Some(Ok(Frame::data(bytes?))))
    });
    Response::new(StreamBody::new(down).boxed_unsync())
}

/// A file that a worker can be started with.
async fn compiled_file(guest: &str) -> std::fs::File {
    let folder = tempfile::tempdir().unwrap();
    let cache =
        orch_runner::ArtifactCache::open(&folder.path().join("cache"), &folder.path().join("key")).unwrap();
    let obtained = cache.obtain(crate::support::guest(guest), &crate::support::compiler()).await.unwrap();
    std::fs::File::open(cache.path(&obtained.key)).unwrap()
}

pub(crate) async fn worker_refuses(welcome: Welcome) -> (Incompatible, String) {
    let (mut broker, mut child) = Broker::start("noop", welcome).await;
    assert!(matches!(broker.frames.recv().await, Some(FromWorker::Hello(_))));
    let Some(FromWorker::Incompatible(incompatible)) = broker.frames.recv().await else {
        panic!("the worker should have said that it is incompatible")
    };
    broker.connection.abort();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    (incompatible, said)
}
