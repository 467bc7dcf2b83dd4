//! The sandbox's and the compiler's errors, with their exit codes.

use orch_runner::{ArtifactError, CompileError, WorkerError};

use super::{Failure, Kind};

impl From<ArtifactError> for Failure {
    fn from(error: ArtifactError) -> Self {
        match error {
            ArtifactError::Compile(CompileError::Module(why)) => {
                Self::usage("module_invalid", format!("the agent's module cannot be used: {why}"))
            }
            ArtifactError::Compile(error @ CompileError::Violation { .. }) => violation(&error),
            ArtifactError::Compile(CompileError::Unjailed { missing }) => incomplete(&missing),
            // Nothing of the agent was looked at.
            ArtifactError::Compile(error @ CompileError::Start(_)) => Self::defect(error.to_string()),
            ArtifactError::Compile(other) => Self::new(
                Kind::Agent,
                "compile_failed",
                format!("the agent's module cannot be compiled: {other}"),
            ),
            other => Self::usage("cache_unusable", format!("the artifact cache cannot be used: {other}")),
        }
    }
}

impl From<WorkerError> for Failure {
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Rejected { message } => {
                Self::usage("run_rejected", format!("the run cannot be set up: {message}"))
            }
            WorkerError::Violation { .. } => violation(&error),
            WorkerError::Died { .. } => Self::new(Kind::Agent, "sandbox_died", error.to_string()),
            other => Self::defect(other.to_string()),
        }
    }
}

/// The jail ended a process that tried to leave it.
fn violation(error: &impl std::fmt::Display) -> Failure {
    Failure::new(Kind::Agent, "sandbox_violation", error.to_string())
        .hint("the kernel's log names the system call: journalctl -k | grep type=1326")
        .hint("whatever was run in it may have got at all that these runs may; `orch logs` shows their requests")
}

/// An agent asks for scratch folders, and this machine lets a worker have no file system of its own.
pub(crate) fn no_scratch(reason: &str) -> Failure {
    Failure::new(
        Kind::Denied,
        "scratch_unavailable",
        format!(
            "the agent wants scratch folders, which need the sandbox's own root, and there is none: {reason}"
        ),
    )
    .hint("`orch doctor` shows what stands in its way")
}

/// Layers of the sandbox that the operator requires do not hold.
pub(crate) fn incomplete(missing: &[String]) -> Failure {
    let failure = Failure::usage(
        "sandbox_incomplete",
        format!("the sandbox is not what `sandbox.require` in config.yaml asks for: {}", missing.join("; ")),
    );
    failure.detail("missing", missing).hint("`orch doctor` shows every layer, and what stands in its way")
}
