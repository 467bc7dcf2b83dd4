//! Turning an agent's wasm into machine code, in a process that can do nothing else.
//!
//! Parsing hostile wasm happens nowhere but here: the broker starts a **compile jail** per module (`orch
//! __compile`, [`compile_main`]) with an empty environment and two pipes, sends the module and takes back compiled
//! bytes or a [`ModuleError`]. The jail bounds its own memory and processor time before it reads, and the broker
//! kills it when its time is over.
//!
//! A module is a component for `wasi:cli/command@0.2`, or a core module for `wasm32-wasip1` that exports `_start`
//! and is adapted with the standard command adapter. Imports are checked in the jail against what a worker will
//! link, so that an agent that compiles also instantiates.

mod extent;
mod inspect;
mod jail;
mod wire;

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::process::{Descriptors, Process, WorkerCommand, describe, input_pipe, output_pipe};
use crate::text::{and_it_said, printable_tail};

pub use inspect::PROVIDED_INTERFACES;
pub use jail::compile_main;

/// The jail's diagnostics that are kept, in bytes.
const DIAGNOSTICS: u64 = 16 << 10;

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
}

impl Compiler {
    /// A compiler that runs `command` (a program that calls [`compile_main`]) within `limits`.
    pub fn new(command: WorkerCommand, limits: CompileLimits) -> Self {
        Compiler { command, limits }
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
        match timeout(limits.time, self.in_jail(&module)).await {
            Ok(result) => result,
            // The timed-out future owned the process, which is now killed.
            Err(_) => Err(CompileError::TimedOut { limit: limits.time }),
        }
    }

    async fn in_jail(&self, module: &[u8]) -> Result<Bytes, CompileError> {
        let (stdin, mut to_jail) = input_pipe().map_err(CompileError::Start)?;
        let (mut from_jail, stdout) = output_pipe().map_err(CompileError::Start)?;
        let (mut said, stderr) = output_pipe().map_err(CompileError::Start)?;
        let process = Process::spawn(&self.command, Descriptors { stdin, stdout, stderr })
            .await
            .map_err(CompileError::Start)?;

        let order = wire::Order {
            memory: self.limits.memory,
            processor_seconds: processor_seconds(self.limits.time),
            artifact: self.limits.artifact,
        };
        let send = async {
            // A jail that dies early breaks the pipe; how it ended says more than that.
            if to_jail.write_all(&order.encode()).await.is_ok() {
                let _ = to_jail.write_all(module).await;
            }
            drop(to_jail);
        };
        let receive = wire::read_answer(&mut from_jail, self.limits.artifact);
        let listen = async {
            let mut diagnostics = Vec::new();
            let _ = (&mut said).take(DIAGNOSTICS).read_to_end(&mut diagnostics).await;
            // What is beyond is read all the same, so that the jail is never stuck on a full pipe.
            let _ = tokio::io::copy(&mut said, &mut tokio::io::sink()).await;
            diagnostics
        };
        let ((), answer, diagnostics) = tokio::join!(send, receive, listen);
        match answer {
            Ok(wire::Answer::Compiled(bytes)) => Ok(bytes),
            Ok(wire::Answer::Refused(error)) => Err(CompileError::Module(error)),
            Err(_) => {
                let status = process.exited().await;
                Err(self.crashed(status, &diagnostics))
            }
        }
    }

    fn crashed(&self, status: Option<ExitStatus>, diagnostics: &[u8]) -> CompileError {
        let text = printable_tail(diagnostics, DIAGNOSTICS as usize);
        let told = status.and_then(|status| status.code()) == Some(i32::from(jail::OUT_OF_MEMORY));
        // The latter is what Rust's allocator says before it aborts.
        if told || text.contains("memory allocation of") {
            return CompileError::OutOfMemory { limit: self.limits.memory };
        }
        CompileError::Crashed { how: describe(status), diagnostics: text }
    }
}

fn processor_seconds(time: Duration) -> u64 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    time.as_secs().saturating_add(1).saturating_mul(processors)
}
