//! Turning an agent's wasm into machine code, in a process that can do nothing else.
//!
//! Parsing hostile wasm happens nowhere but here: the broker starts a **compile jail** per module (`orch
//! __compile`, [`compile_main`]) with an empty environment and two pipes, sends the module and takes back compiled
//! bytes or a [`ModuleError`]. The process bounds its own memory and processor time and [jails](crate::jail) itself before
//! it reads the module, and the broker kills it when its time is over.
//!
//! A module is a component for `wasi:cli/command@0.2`, or a core module for `wasm32-wasip1` that exports `_start`
//! and is adapted with the standard command adapter. Imports are checked in the jail against what a worker will
//! link, so that an agent that compiles also instantiates.

mod extent;
mod inspect;
mod jail;
mod wire;

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::jail::{Report, Requirement};
use crate::process::{Descriptors, Process, WorkerCommand, describe, input_pipe, output_pipe, violated};
use crate::text::{and_it_said, printable_tail};

pub use inspect::PROVIDED_INTERFACES;
pub use jail::compile_main;

/// The jail's diagnostics that are kept, in bytes.
const DIAGNOSTICS: usize = 16 << 10;

/// Bounds of one compilation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Longest module, in bytes.
    pub module: u64,
    /// Longest compiled artifact, in bytes.
    pub artifact: u64,
    /// The jail's address space, in bytes.
    pub memory: u64,
    /// Wall-clock time. Processor time is bounded to this for each of the machine's processors.
    pub time: Duration,
}

impl Default for CompileLimits {
    /// 64 MiB of wasm, 512 MiB of artifact, 8 GiB of address space (of which an interpreter of 18 MB takes a
    /// quarter), two minutes.
    fn default() -> Self {
        CompileLimits {
            module: 64 << 20,
            artifact: 512 << 20,
            memory: 8 << 30,
            time: Duration::from_secs(120),
        }
    }
}

/// What is wrong with a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "problem", rename_all = "snake_case")]
pub enum ModuleError {
    /// The bytes are not valid WebAssembly, or use a proposal that is not enabled.
    #[error("not a valid WebAssembly module or component: {reason}{}", at_offset(*.offset))]
    Malformed {
        /// Where in the module's bytes, when that is known.
        offset: Option<u64>,
        /// What is wrong.
        reason: String,
    },
    /// It needs something from its host that agents do not get.
    #[error("it imports {import}, which agents do not have: {reason}")]
    UnsupportedImport {
        /// The import.
        import: String,
        /// What is known about it, and what there is instead.
        reason: String,
    },
    /// It is a library or a server, not a program.
    #[error("it is not a command: {reason}")]
    NotACommand {
        /// What it has instead of an entry point.
        reason: String,
    },
    /// The core module cannot be turned into a component.
    #[error("the core module cannot be turned into a component: {reason}")]
    Unadaptable {
        /// Why.
        reason: String,
    },
    /// It consists of more than a worker has room for.
    #[error("it has {has} {what}, more than the {limit} allowed")]
    TooMuch {
        /// Of what.
        what: String,
        /// How many.
        has: u64,
        /// How many are allowed.
        limit: u64,
    },
    /// The compiled code would be longer than allowed.
    #[error("its compiled code is {size} bytes long, more than the {limit} allowed")]
    ArtifactTooLarge {
        /// Its size in bytes.
        size: u64,
        /// [`CompileLimits::artifact`].
        limit: u64,
    },
}

fn at_offset(offset: Option<u64>) -> String {
    offset.map_or_else(String::new, |offset| format!(" (at offset {offset:#x})"))
}

/// Why a module was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// There is something wrong with the module.
    #[error("the module cannot be used: {0}")]
    Module(#[from] ModuleError),
    /// The module is longer than allowed.
    #[error("the module is {size} bytes long, more than the {limit} allowed")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// [`CompileLimits::module`].
        limit: u64,
    },
    /// The compilation took too long.
    #[error("compiling the module took longer than the {} s allowed", .limit.as_secs_f64())]
    TimedOut {
        /// [`CompileLimits::time`].
        limit: Duration,
    },
    /// The compilation needed too much memory.
    #[error("compiling the module took more than the {limit} bytes of memory allowed")]
    OutOfMemory {
        /// [`CompileLimits::memory`].
        limit: u64,
    },
    /// The compilation took too much processor time.
    #[error("compiling the module took more than the {limit} s of processor time allowed")]
    OutOfProcessorTime {
        /// Over all processors, in seconds.
        limit: u64,
    },
    /// Something in the module is nested so deeply that the compiler ran out of stack.
    #[error("compiling the module took more stack than there is: something in it is nested too deeply")]
    TooDeep,
    /// The compiler did something that its jail does not allow and was ended by the kernel.
    #[error(
        "sandbox violation: the compiler process made a system call that no compilation needs and was killed{}",
        and_it_said(.diagnostics)
    )]
    Violation {
        /// Its process id, which the kernel's audit log names together with the system call.
        pid: u32,
        /// The end of what it said, free of control characters.
        diagnostics: String,
    },
    /// Layers of the jail that are required do not hold.
    #[error("the compiler process cannot be jailed as required: {}", .missing.join("; "))]
    Unjailed {
        /// Which, each as `layer: reason`.
        missing: Vec<String>,
    },
    /// The jail died, which may be the module's doing.
    #[error("the compiler process {how}{}", and_it_said(.diagnostics))]
    Crashed {
        /// How it ended.
        how: String,
        /// The end of what it said, free of control characters.
        diagnostics: String,
    },
    /// The jail could not be started or talked to.
    #[error("the compiler process cannot be started: {0}")]
    Start(#[source] io::Error),
}

/// Starts compile jails.
#[derive(Debug, Clone)]
pub struct Compiler {
    command: WorkerCommand,
    limits: CompileLimits,
    required: Requirement,
}

impl Compiler {
    /// A compiler that runs `command` (a program that calls [`compile_main`]) within `limits`.
    pub fn new(command: WorkerCommand, limits: CompileLimits) -> Self {
        Compiler { command, limits, required: Requirement::default() }
    }

    /// The same, but it compiles nothing where one of these layers of the jail does not hold.
    #[must_use]
    pub fn requiring(self, required: Requirement) -> Self {
        Compiler { required, ..self }
    }

    /// Starts a compile jail, has it say what became of its layers, and ends it.
    ///
    /// # Errors
    /// When it cannot be started or does not answer in time.
    pub async fn probe(&self) -> Result<Report, CompileError> {
        let probe = async {
            let mut process = InJail::start(&self.command, &self.limits).await?;
            match process.begin().await {
                Ok(report) => Ok(report),
                Err(_) => Err(process.crashed(&self.limits).await),
            }
        };
        match timeout(self.limits.time, Box::pin(probe)).await {
            Ok(result) => result,
            Err(_) => Err(CompileError::TimedOut { limit: self.limits.time }),
        }
    }

    /// Compiles `module` in a jail of its own. The result is what [`crate::Artifact`] is made of. Dropping the
    /// future kills the jail.
    ///
    /// # Errors
    /// See [`CompileError`].
    pub async fn compile(&self, module: Bytes) -> Result<Bytes, CompileError> {
        let limits = self.limits;
        let size = module.len() as u64;
        if size > limits.module {
            return Err(CompileError::TooLarge { size, limit: limits.module });
        }
        match timeout(limits.time, Box::pin(self.in_jail(&module))).await {
            Ok(result) => result,
            // The timed-out future owned the process, which is now killed.
            Err(_) => Err(CompileError::TimedOut { limit: limits.time }),
        }
    }

    async fn in_jail(&self, module: &[u8]) -> Result<Bytes, CompileError> {
        let mut process = InJail::start(&self.command, &self.limits).await?;
        let Ok(report) = process.begin().await else {
            return Err(process.crashed(&self.limits).await);
        };
        let missing = report.unmet(&self.required);
        if !missing.is_empty() {
            return Err(CompileError::Unjailed { missing });
        }
        match process.answer(module, self.limits.artifact).await {
            Ok(wire::Answer::Compiled(bytes)) => Ok(bytes),
            Ok(wire::Answer::Refused(error)) => Err(CompileError::Module(error)),
            Err(_) => Err(process.crashed(&self.limits).await),
        }
    }
}

/// A compile jail's process, from the broker's side.
struct InJail {
    process: Process,
    order: Bytes,
    to_jail: Option<pipe::Sender>,
    from_jail: pipe::Receiver,
    said: pipe::Receiver,
    diagnostics: Vec<u8>,
}

impl InJail {
    async fn start(command: &WorkerCommand, limits: &CompileLimits) -> Result<Self, CompileError> {
        let (stdin, to_jail) = input_pipe().map_err(CompileError::Start)?;
        let (from_jail, stdout) = output_pipe().map_err(CompileError::Start)?;
        let (said, stderr) = output_pipe().map_err(CompileError::Start)?;
        let process = Process::spawn(command, Descriptors { stdin, stdout, stderr })
            .await
            .map_err(CompileError::Start)?;
        let order = wire::Order {
            memory: limits.memory,
            processor_seconds: processor_seconds(limits.time),
            artifact: limits.artifact,
        };
        let order = order.encode();
        Ok(InJail { process, order, to_jail: Some(to_jail), from_jail, said, diagnostics: Vec::new() })
    }

    /// Sends the order, and waits until the process has jailed itself. It was not given anything else yet.
    async fn begin(&mut self) -> io::Result<Report> {
        let to_jail = self.to_jail.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        to_jail.write_all(&self.order).await?;
        let report = wire::read_report(&mut self.from_jail);
        while_listening(&mut self.said, &mut self.diagnostics, report).await
    }

    /// Sends the module and takes back what became of it.
    async fn answer(&mut self, module: &[u8], artifact: u64) -> io::Result<wire::Answer> {
        let to_jail = self.to_jail.take();
        let send = async move {
            // A jail that dies early breaks the pipe; how it ended says more than that.
            if let Some(mut to_jail) = to_jail {
                let _ = to_jail.write_all(module).await;
            }
        };
        let receive = wire::read_answer(&mut self.from_jail, artifact);
        let converse = async { tokio::join!(send, receive).1 };
        while_listening(&mut self.said, &mut self.diagnostics, converse).await
    }

    /// How it ended, of a process that has stopped to talk sense.
    async fn crashed(mut self, limits: &CompileLimits) -> CompileError {
        drop(self.to_jail.take());
        let exited = self.process.exited();
        let rest = async {
            let mut chunk = vec![0; 4096];
            while let Ok(read @ 1..) = self.said.read(&mut chunk).await {
                keep(&mut self.diagnostics, &chunk[..read]);
            }
        };
        let (status, ()) = tokio::join!(exited, rest);
        let text = printable_tail(&self.diagnostics, DIAGNOSTICS);
        if violated(status) {
            return CompileError::Violation { pid: self.process.pid(), diagnostics: text };
        }
        let told = status.and_then(|status| status.code()) == Some(i32::from(jail::OUT_OF_MEMORY));
        // The latter is what Rust's allocator says before it aborts.
        if told || text.contains("memory allocation of") {
            return CompileError::OutOfMemory { limit: limits.memory };
        }
        if status.and_then(|status| status.signal()) == Some(Signal::XCPU.as_raw()) {
            return CompileError::OutOfProcessorTime { limit: processor_seconds(limits.time) };
        }
        // As above: what Rust says of a thread that reached the end of its stack.
        if text.contains("has overflowed its stack") {
            return CompileError::TooDeep;
        }
        CompileError::Crashed { how: describe(status), diagnostics: text }
    }
}

/// Does `work`, and reads what the process says of itself meanwhile, so that it is never stuck on a full pipe.
async fn while_listening<T>(
    said: &mut pipe::Receiver,
    diagnostics: &mut Vec<u8>,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let mut work = pin!(work);
    let mut chunk = vec![0; 4096];
    let mut open = true;
    loop {
        tokio::select! {
            done = &mut work => return done,
            read = said.read(&mut chunk), if open => match read {
                Ok(read @ 1..) => keep(diagnostics, &chunk[..read]),
                _ => open = false,
            },
        }
    }
}

fn keep(diagnostics: &mut Vec<u8>, more: &[u8]) {
    let room = DIAGNOSTICS.saturating_sub(diagnostics.len());
    diagnostics.extend_from_slice(&more[..more.len().min(room)]);
}

fn processor_seconds(time: Duration) -> u64 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    time.as_secs().saturating_add(1).saturating_mul(processors)
}
