//! What the broker does about a worker that misbehaves, and what either side says to another version.

use std::os::fd::FromRawFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use orch_manifests::RunId;
use orch_runner::protocol::{
    Finished, FrameDecoder, FromBroker, FromWorker, Hello, Incompatible, VERSION, Welcome, encode,
};
use orch_runner::{
    Body, Door, Exit, JailReport, Pool, RunIo, RunOutcome, RunSpec, Usage, Worker, WorkerCommand,
    WorkerError, empty, full,
};
use tokio::sync::mpsc;

use crate::isolation::worker_refuses;
use crate::support::{Ask, Closed, artifact, config, spec, this_program};

async fn misbehaving(how: &str, door: Arc<dyn Door>) -> Result<Worker, WorkerError> {
    let mut config = config();
    config.grace = Duration::from_millis(500);
    let command = this_program("__misbehave");
    let command = WorkerCommand { args: vec!["__misbehave".into(), how.into()], ..command };
    Worker::start(&command, artifact("noop").await, config, door).await
}

async fn run_in(how: &str, spec: RunSpec) -> Result<RunOutcome, WorkerError> {
    misbehaving(how, Arc::new(Closed)).await.unwrap().run(spec, RunIo::default()).await
}

#[track_caller]
fn died(outcome: Result<RunOutcome, WorkerError>) -> (String, String) {
    match outcome {
        Err(WorkerError::Died { how, diagnostics }) => (how, diagnostics),
        other => panic!("the worker should have died: {other:?}"),
    }
}

pub(crate) async fn another_version_is_refused_by_the_broker() {
    let error = misbehaving("version", Arc::new(Closed)).await.err().unwrap();
    assert!(
        matches!(error, WorkerError::Incompatible(Incompatible { ours: VERSION, theirs: 99 })),
        "{error}"
    );
    assert!(error.to_string().contains("same release"), "{error}");
}

pub(crate) async fn another_version_is_refused_by_the_worker() {
    let (incompatible, said) =
        worker_refuses(Welcome { protocol: 7, pool: Pool::default(), mounts: Vec::new(), scratch: None })
            .await;
    assert_eq!(incompatible, Incompatible { ours: VERSION, theirs: 7 });
    assert!(said.contains("version 7"), "{said}");
}

pub(crate) async fn too_much_output_is_the_workers_end() {
    let mut spec = spec("");
    spec.limits.output = 1000;
    let (how, _) = died(run_in("flood", spec).await);
    assert!(how.contains("more output"), "{how}");
}

pub(crate) async fn an_answer_that_never_comes_is_the_workers_end() {
    let mut spec = spec("");
    spec.limits.time = Duration::from_millis(100);
    let (how, _) = died(run_in("silence", spec).await);
    assert!(how.contains("did not end run"), "{how}");

    // A cancelled run is not left to it either.
    let worker = misbehaving("silence", Arc::new(Closed)).await.unwrap();
    let cancelled = crate::support::spec("");
    let id = cancelled.run.clone();
    let (outcome, ()) = tokio::join!(worker.run(cancelled, RunIo::default()), async { worker.cancel(&id) });
    let (how, _) = died(outcome);
    assert!(how.contains("did not stop run"), "{how}");
}

pub(crate) async fn a_run_that_does_not_exist_is_the_workers_end() {
    let (how, _) = died(run_in("ghost", spec("")).await);
    assert!(how.contains("which it does not have"), "{how}");
}

pub(crate) async fn a_dead_worker_ends_its_runs_with_what_it_said() {
    let worker = misbehaving("death", Arc::new(Closed)).await.unwrap();
    let (one, two) =
        tokio::join!(worker.run(spec(""), RunIo::default()), worker.run(spec(""), RunIo::default()));
    for outcome in [one, two] {
        let (how, diagnostics) = died(outcome);
        assert_eq!(how, "exited with status 3");
        assert_eq!(diagnostics, "\u{fffd}[31mlast words", "it is free of control characters");
    }
    let (how, _) = died(worker.run(spec(""), RunIo::default()).await);
    assert_eq!(how, "exited with status 3", "later runs hear of it as well");
}

pub(crate) async fn tokens_and_targets_are_checked() {
    let door = Ask(|_: String, request: Request<Body>| async move {
        Response::builder().header("x-uri", request.uri().to_string()).body(empty()).unwrap()
    });
    let worker = misbehaving("targets", Arc::new(door)).await.unwrap();
    let outcome = worker.run(spec(""), RunIo::default()).await.unwrap();
    let report = outcome.message.unwrap();
    let report: Vec<&str> = report.split('\n').collect();
    assert_eq!(
        report,
        [
            "good: 200 https://h.example:444/p?q",
            "http: 200 http://h.example/p?q",
            "wrong token: denied",
            "no token: denied",
            "two tokens: denied",
            "other scheme: bad-request",
            "no scheme: bad-request",
            "user information: bad-request",
            "no host: bad-request",
            "two authorities: bad-request",
            "not an authority: bad-request",
            "unknown door: 404",
            "output with a wrong token: 403",
            "output of no run: 403",
            "second control stream: 409",
        ]
    );
}

pub(crate) async fn bodies_are_streamed_both_ways() {
    // An echo: each chunk of the response exists only once that chunk of the request has arrived.
    let door = Ask(|_: String, request: Request<Body>| async move { Response::new(request.into_body()) });
    let worker = misbehaving("conversation", Arc::new(door)).await.unwrap();
    let outcome = worker.run(spec(""), RunIo::default()).await.unwrap();
    assert_eq!(outcome.message.as_deref(), Some("0 1 2 3 4"));
}

/// A worker's `main`, gone wrong in one of several ways.
pub(crate) fn misbehave(how: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { Misbehaviour::begin(how).await.go_on(how).await })
}

struct Misbehaviour {
    socket: SendRequest<Body>,
    up: mpsc::UnboundedSender<Bytes>,
    down: Incoming,
    decoder: FrameDecoder,
}

impl Misbehaviour {
    async fn begin(how: &str) -> Self {
        // SAFETY: the descriptor was inherited for this and nothing else uses it.
        #[allow(unsafe_code)]
        let socket = unsafe { std::os::unix::net::UnixStream::from_raw_fd(0) };
        socket.set_nonblocking(true).unwrap();
        let io = TokioIo::new(tokio::net::UnixStream::from_std(socket).unwrap());
        let (mut socket, connection) = http2::Builder::new(TokioExecutor::new()).handshake(io).await.unwrap();
        #[allow(clippy::disallowed_methods, reason = "it ends with the process")]
        tokio::spawn(connection);
        let (up, mut frames) = mpsc::unbounded_channel::<Bytes>();
        let body = futures_util::stream::poll_fn(move |cx| {
            frames.poll_recv(cx).map(|bytes| Some(Ok(Frame::data(bytes?))))
        });
        let request = Request::post("http://control/v1/control").body(StreamBody::new(body).boxed_unsync());
        let response = socket.send_request(request.unwrap());
        let protocol = if how == "version" { 99 } else { VERSION };
        let hello = Hello { protocol, pid: std::process::id(), version: "0.0.0".into() };
        up.send(encode(&FromWorker::Hello(hello)).unwrap()).unwrap();
        let down = response.await.unwrap().into_body();
        Misbehaviour { socket, up, down, decoder: FrameDecoder::default() }
    }

    async fn next(&mut self) -> Option<FromBroker> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            let data = self.down.frame().await?.ok()?;
            self.decoder.push(&data.into_data().unwrap_or_default());
        }
    }

    fn say(&self, frame: &FromWorker) {
        let _ = self.up.send(encode(frame).unwrap());
    }

    async fn go_on(mut self, how: &str) -> ExitCode {
        match self.next().await {
            Some(FromBroker::Welcome(_)) => self.say(&FromWorker::Ready { jail: JailReport::default() }),
            Some(FromBroker::Incompatible(_)) | None => return ExitCode::FAILURE,
            other => panic!("{other:?}"),
        }
        let mut runs = 0;
        loop {
            let Some(frame) = self.next().await else { return ExitCode::SUCCESS };
            let FromBroker::Run(spec) = frame else { continue };
            runs += 1;
            match how {
                "silence" => {}
                "ghost" => self.say(&finished(RunId::random(), None)),
                "flood" => drop(self.output(&spec.run, spec.token.reveal(), vec![b'x'; 1001]).await),
                "death" if runs == 2 => {
                    eprint!("\x1b[31mlast words");
                    return ExitCode::from(3);
                }
                "death" => {}
                "targets" => {
                    let report = self.targets(&spec).await;
                    self.say(&finished(spec.run.clone(), Some(report)));
                }
                "conversation" => {
                    let report = self.conversation(&spec).await;
                    self.say(&finished(spec.run.clone(), Some(report)));
                }
                other => panic!("unknown misbehaviour {other}"),
            }
        }
    }

    async fn output(&mut self, run: &RunId, token: &str, bytes: Vec<u8>) -> String {
        let uri = format!("http://io/v1/runs/{run}/stdout");
        self.ask(Request::post(uri).header("orch-token", token).body(full(bytes)).unwrap()).await
    }

    async fn ask(&mut self, request: Request<Body>) -> String {
        match self.socket.send_request(request).await {
            Err(_) => "broken off".to_owned(),
            Ok(response) => {
                let header =
                    |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
                match (header("orch-refusal"), header("x-uri")) {
                    (Some(refusal), _) => refusal,
                    (None, Some(uri)) => format!("{} {uri}", response.status().as_u16()),
                    (None, None) => response.status().as_u16().to_string(),
                }
            }
        }
    }

    /// Sends a chunk only after the one before it has come back.
    async fn conversation(&mut self, spec: &RunSpec) -> String {
        let (chunks, mut receiver) = mpsc::channel::<Bytes>(1);
        let body = futures_util::stream::poll_fn(move |cx| {
            receiver.poll_recv(cx).map(|bytes| Some(Ok(Frame::data(bytes?))))
        });
        let request = Request::post("http://egress/")
            .header("orch-token", spec.token.reveal())
            .header("orch-scheme", "https")
            .header("orch-authority", "h.example")
            .body(StreamBody::new(body).boxed_unsync());
        let mut echo = self.socket.send_request(request.unwrap()).await.unwrap().into_body();
        let mut said = Vec::new();
        for number in 0..5 {
            chunks.send(number.to_string().into()).await.unwrap();
            let data = echo.frame().await.unwrap().unwrap().into_data().unwrap();
            said.push(String::from_utf8(data.to_vec()).unwrap());
        }
        drop(chunks);
        assert_eq!(echo.collect().await.unwrap().to_bytes(), "");
        said.join(" ")
    }

    async fn targets(&mut self, spec: &RunSpec) -> String {
        let token = spec.token.reveal();
        let good = [("orch-token", token), ("orch-scheme", "https"), ("orch-authority", "h.example:444")];
        let with = |name: &'static str, value: &'static str| {
            good.map(|(header, old)| if header == name { (header, value) } else { (header, old) }).to_vec()
        };
        let without = |name: &str| good.into_iter().filter(|(header, _)| *header != name).collect::<Vec<_>>();
        let twice = |name: &'static str, value: &'static str| [good.to_vec(), vec![(name, value)]].concat();
        let mut http = with("orch-scheme", "http");
        http[2].1 = "h.example";
        let mut report = Vec::new();
        for (name, headers) in [
            ("good", good.to_vec()),
            ("http", http),
            ("wrong token", with("orch-token", "guessed")),
            ("no token", without("orch-token")),
            ("two tokens", twice("orch-token", "guessed")),
            ("other scheme", with("orch-scheme", "file")),
            ("no scheme", without("orch-scheme")),
            ("user information", with("orch-authority", "user@h.example")),
            ("no host", with("orch-authority", ":443")),
            ("two authorities", twice("orch-authority", "other.example")),
            ("not an authority", with("orch-authority", "h.example/path")),
        ] {
            let mut request = Request::builder().method(Method::GET).uri("http://egress/p?q");
            for (header, value) in headers {
                request = request.header(header, value);
            }
            report.push(format!("{name}: {}", self.ask(request.body(empty()).unwrap()).await));
        }
        let unknown = Request::get("http://elsewhere/").body(empty()).unwrap();
        report.push(format!("unknown door: {}", self.ask(unknown).await));
        let wrong = self.output(&spec.run, "guessed", b"x".to_vec()).await;
        report.push(format!("output with a wrong token: {wrong}"));
        let nobody = self.output(&RunId::random(), token, b"x".to_vec()).await;
        report.push(format!("output of no run: {nobody}"));
        let control = Request::post("http://control/v1/control").body(empty()).unwrap();
        report.push(format!("second control stream: {}", self.ask(control).await));
        report.join("\n")
    }
}

fn finished(run: RunId, message: Option<String>) -> FromWorker {
    FromWorker::Finished(Finished { run, exit: Exit::Status(0), usage: Usage::default(), message })
}
