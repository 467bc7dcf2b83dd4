//! The sandbox: wasmtime in a worker process of its own, and the broker's end of its socket.
//!
//! An agent's way through this crate: the broker takes its module to [`ArtifactCache::obtain`], which compiles it
//! in a [compile jail](compile) unless it is cached; starts a [`Worker`] on the [`Artifact`]; and hands it
//! [`RunSpec`]s. The [worker process](worker) runs the guest and forwards what it asks for over
//! one socket, by a [protocol] that is all the two have in common, to the broker's [`Door`].
//!
//! Neither worker nor compile jail can open a connection: this crate has no TLS client and no request sender, which
//! `tests/dependencies.rs` keeps so. Start reading at [`session`].

pub mod advisories;
pub mod artifact;
pub mod capacity;
pub mod compile;
pub mod engine;
pub mod jail;
mod priority;
mod process;
pub mod protocol;
pub mod session;
mod tasks;
mod text;
pub mod worker;

pub use artifact::{Artifact, ArtifactCache, ArtifactError, ArtifactKey, Obtained, Origin, read_module};
pub use capacity::{Bound, Capacity, Machine};
pub use compile::{CompileError, CompileLimits, Compiler, ModuleError, compile_main};
pub use jail::{Layer, LayerName, Report as JailReport, Requirement};
pub use process::WorkerCommand;
pub use protocol::{
    Exit, Input, LimitName, Mount, Pool, Refusal, RefusalCode, RunLimits, RunSpec, Scratch, ScratchUsage,
    Token, Usage,
};
pub use session::{
    Body, BodyError, Door, RunIo, RunOutcome, Worker, WorkerConfig, WorkerError, empty, full, refused,
};
pub use worker::worker_main;
#[doc(hidden)]
pub use worker::worker_main_with;
