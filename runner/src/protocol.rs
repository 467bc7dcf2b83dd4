//! What broker and worker say to each other. Version 4; `tests` below hold its bytes.
//!
//! One `AF_UNIX` socket pair carries HTTP/2, with the broker as the server. The `:authority` of a stream names
//! the door it knocks on and is written by worker code, never by a guest:
//!
//! | authority | requests |
//! |---|---|
//! | [`CONTROL`] | `POST /v1/control`, once; both bodies are sequences of [frames](codec): [`FromWorker`] up, [`FromBroker`] down |
//! | [`IO`] | `POST /v1/runs/{id}/stdout`, `POST /v1/runs/{id}/stderr`, `GET /v1/runs/{id}/stdin`, each with [`TOKEN`] |
//! | [`EGRESS`] | a guest's request: its method and path, with [`TOKEN`], [`SCHEME`] and [`AUTHORITY`] beside its own headers |
//!
//! Every header whose name starts with [`RESERVED`] belongs to this protocol: those that a guest or an upstream
//! sends are removed. A refused request comes back as a response with [`REFUSAL`] (see [`RefusalCode`]).
//!
//! The conversation on the control stream: the worker says [`Hello`]; the broker answers [`Welcome`]; the worker
//! loads its artifact, closes its [jail](crate::jail) and says [`Ready`](FromWorker::Ready); from then on the broker sends [`RunSpec`]s and the
//! worker answers each with [`Started`](FromWorker::Started) and [`Finished`], or with
//! [`Rejected`](FromWorker::Rejected). A side that does not speak the other's version says so with
//! [`Incompatible`] and leaves. When the socket closes the worker is gone.

pub mod codec;
pub mod refusal;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use orch_manifests::RunId;
use serde::{Deserialize, Serialize};

use crate::jail::Report;

pub use codec::{FrameDecoder, FrameError, MAX_FRAME, encode};
pub use refusal::{Refusal, RefusalCode};

/// The version of this protocol. Broker and worker are the same binary, so it is compared for equality.
pub const VERSION: u32 = 4;

/// Longest input that travels inside a [`RunSpec`], in bytes; anything longer is [`Input::Stream`].
pub const MAX_INLINE_INPUT: usize = 256 << 10;

/// Authority of the control door.
pub const CONTROL: &str = "control";
/// Authority of the standard streams' door.
pub const IO: &str = "io";
/// Authority of the door for requests made by guests.
pub const EGRESS: &str = "egress";

/// Prefix of the header names that belong to this protocol.
pub const RESERVED: &str = "orch-";
/// Header: the run's capability token.
pub const TOKEN: &str = "orch-token";
/// Header: the scheme of a guest's request.
pub const SCHEME: &str = "orch-scheme";
/// Header: the authority of a guest's request.
pub const AUTHORITY: &str = "orch-authority";
/// Header of a response: the request was refused, and why.
pub const REFUSAL: &str = "orch-refusal";

/// A frame from the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromWorker {
    /// The first frame.
    Hello(Hello),
    /// The other side's version is not spoken here; nothing follows.
    Incompatible(Incompatible),
    /// The artifact is loaded, linked and ready to be instantiated, and the process has jailed itself.
    Ready {
        /// What became of the jail's layers.
        jail: Report,
    },
    /// The run's guest is about to be instantiated.
    Started {
        /// Which run.
        run: RunId,
    },
    /// The run is over and everything that it wrote was accepted by the broker.
    Finished(Finished),
    /// The run could not be set up (a mount that cannot be opened, for one); no guest code ran.
    Rejected {
        /// Which run.
        run: RunId,
        /// Why, for a person.
        message: String,
    },
}

/// A frame from the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromBroker {
    /// The answer to [`Hello`].
    Welcome(Welcome),
    /// The other side's version is not spoken here; nothing follows.
    Incompatible(Incompatible),
    /// Start a run. Boxed because it dwarfs the other frames.
    Run(Box<RunSpec>),
    /// Stop a run. It still ends with [`Finished`]; for a run that is already over this means nothing.
    Cancel {
        /// Which run.
        run: RunId,
    },
    /// No further runs will come: finish those at hand, then leave.
    Drain,
}

/// Who the worker is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The worker's [`VERSION`].
    pub protocol: u32,
    /// The worker's process id, as it sees it.
    pub pid: u32,
    /// The worker's release.
    pub version: String,
}

/// What the worker needs to know before it loads its artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The broker's [`VERSION`].
    pub protocol: u32,
    /// Sizes of the worker's instance pool.
    pub pool: Pool,
    /// All that its runs may mount. Nothing else of the file system is there once it is ready.
    pub mounts: Vec<Mount>,
    /// Scratch folders of the only run that such a worker has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<Scratch>,
}

/// Folders that are one run's alone, empty at its start and gone with it. They are in memory, and share their bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scratch {
    /// Absolute paths that the guest sees.
    pub guests: Vec<String>,
    /// What all files together may hold, in bytes: whole pages, of those that were written to. Never 0.
    pub bytes: u64,
    /// How many files, folders and links there may be. Never 0.
    pub files: u64,
}

/// How many runs a worker can hold at once, and how large each can get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Runs at the same time.
    pub runs: u32,
    /// The most memory that any run may ask for, in bytes.
    pub memory: u64,
    /// Whether runs that keep a processor busy make way for everybody else on the machine. Without neighbours there
    /// is nobody to make way for.
    pub yielding: bool,
}

impl Default for Pool {
    /// 100 runs of up to 1 GiB, who make way for each other.
    fn default() -> Self {
        Pool { runs: 100, memory: 1 << 30, yielding: true }
    }
}

/// The two sides speak different versions of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error(
    "the other side speaks version {theirs} of the worker protocol, this one speaks {ours}; both must come from the same release of orch"
)]
pub struct Incompatible {
    /// Version of the side that says this.
    pub ours: u32,
    /// Version that it was offered.
    pub theirs: u32,
}

/// Everything a worker is told about a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    /// Which run.
    pub run: RunId,
    /// The run's capability token. It opens the io and egress doors and is not shown to the guest.
    pub token: Token,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// The guest's whole environment, in order.
    pub env: Vec<(String, String)>,
    /// What the guest reads from standard input.
    pub input: Input,
    /// Bounds. Reaching one ends the run with [`Exit::Limit`].
    pub limits: RunLimits,
    /// Folders of the host that the guest sees.
    pub mounts: Vec<Mount>,
}

/// A capability token on its way into a worker.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Wraps a token. It must be a valid header value; see [`RunSpec::token`].
    pub fn new(token: impl Into<String>) -> Self {
        Token(token.into())
    }

    /// The token's characters, for a header or a comparison.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Standard input of a run.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The whole input, at most [`MAX_INLINE_INPUT`] bytes.
    Inline(String),
    /// The worker fetches it with `GET /v1/runs/{id}/stdin` once the guest reads.
    Stream,
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Inline(text) => write!(f, "Inline({} bytes)", text.len()),
            Input::Stream => f.write_str("Stream"),
        }
    }
}

/// Bounds of one run. Each is what may be used; one more is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLimits {
    /// Memory of all kinds that the worker holds for the run, in bytes: linear memories, tables, what its resources
    /// stand for, and what is on its way in or out.
    pub memory: u64,
    /// Processor time of the guest and of the host calls it makes.
    #[serde(rename = "cpu_us", with = "micros")]
    pub cpu: Duration,
    /// Wall-clock time from the start of the instantiation.
    #[serde(rename = "time_us", with = "micros")]
    pub time: Duration,
    /// Standard output, in bytes.
    pub output: u64,
    /// Standard error, in bytes.
    pub log: u64,
    /// Host resources that the guest holds open at once: streams, requests, responses, bodies, files, pollables.
    pub resources: u32,
}

impl Default for RunLimits {
    /// 256 MiB, 60 s of processor time, 5 min, 10 MiB out, 1 MiB of log, 1,000 resources.
    fn default() -> Self {
        RunLimits {
            memory: 256 << 20,
            cpu: Duration::from_secs(60),
            time: Duration::from_secs(300),
            output: 10 << 20,
            log: 1 << 20,
            resources: 1_000,
        }
    }
}

/// A folder of the host inside the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path on the host.
    pub host: PathBuf,
    /// Absolute path that the guest sees.
    pub guest: String,
    /// Whether the guest may change what is below it.
    pub writable: bool,
}

/// How a run ended and what it took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Which run.
    pub run: RunId,
    /// How it ended.
    pub exit: Exit,
    /// What it took.
    pub usage: Usage,
    /// One line for a person about an unusual end.
    pub message: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// The guest exited by itself: 0 is success.
    Status(i32),
    /// The guest trapped.
    Trap {
        /// The kind of trap and the guest's backtrace, bounded and free of control characters other than newlines.
        message: String,
    },
    /// The run reached one of its bounds.
    Limit {
        /// Which.
        name: LimitName,
        /// What was used, or asked for, when it ended; in the limit's unit.
        used: u64,
        /// The bound; in the limit's unit.
        limit: u64,
    },
    /// The broker asked for it.
    Cancelled,
}

/// One of the bounds of [`RunLimits`] and of [`Scratch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitName {
    /// [`RunLimits::memory`], in bytes.
    Memory,
    /// [`RunLimits::cpu`], in microseconds.
    Cpu,
    /// [`RunLimits::time`], in microseconds.
    Time,
    /// [`RunLimits::output`], in bytes.
    Output,
    /// [`RunLimits::log`], in bytes.
    Log,
    /// [`RunLimits::resources`], in open resources.
    Resources,
    /// [`Scratch::bytes`].
    Scratch,
    /// [`Scratch::files`].
    ScratchFiles,
}

impl LimitName {
    /// The name in manifests, on the command line and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            LimitName::Memory => "memory",
            LimitName::Cpu => "cpu",
            LimitName::Time => "time",
            LimitName::Output => "output",
            LimitName::Log => "log",
            LimitName::Resources => "resources",
            LimitName::Scratch => "scratch",
            LimitName::ScratchFiles => "scratch_files",
        }
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a run took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time of the guest and of the host calls it made, in microseconds.
    pub cpu_us: u64,
    /// Wall-clock time, in microseconds.
    pub wall_us: u64,
    /// The most memory it had, in bytes.
    pub memory_peak: u64,
    /// Bytes written to standard output.
    pub stdout_bytes: u64,
    /// Bytes written to standard error.
    pub stderr_bytes: u64,
    /// What its scratch folders held in the end; none where it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<ScratchUsage>,
}

/// What scratch folders hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScratchUsage {
    /// Bytes of pages that were written to.
    pub bytes: u64,
    /// Names, of files, folders and links.
    pub files: u64,
}

/// One of a guest's standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stdio {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stdio {
    /// The path of this stream of `run` behind the io door.
    pub fn path(self, run: &RunId) -> String {
        let name = match self {
            Stdio::Stdin => "stdin",
            Stdio::Stdout => "stdout",
            Stdio::Stderr => "stderr",
        };
        format!("/v1/runs/{run}/{name}")
    }

    /// The reverse of [`Stdio::path`].
    pub fn parse(path: &str) -> Option<(RunId, Stdio)> {
        let (run, name) = path.strip_prefix("/v1/runs/")?.split_once('/')?;
        let stdio = match name {
            "stdin" => Stdio::Stdin,
            "stdout" => Stdio::Stdout,
            "stderr" => Stdio::Stderr,
            _ => return None,
        };
        Some((run.parse().ok()?, stdio))
    }
}

/// Durations as whole microseconds.
mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(value.as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_micros)
    }
}

#[cfg(test)]
mod tests;
