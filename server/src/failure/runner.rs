//! The sandbox's and the compiler's errors, with their exit codes.

use orch_runner::{ArtifactError, CompileError, WorkerError};

use super::{Failure, Kind};

impl From<ArtifactError> for Failure {
    fn from(error: ArtifactError) -> Self {
        match error {
            ArtifactError::Compile(CompileError::Module(why)) => {
                Self::usage("module_invalid", format!("the agent's module cannot be used: {why}"))
            }
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
            WorkerError::Died { .. } => Self::new(Kind::Agent, "sandbox_died", error.to_string()),
            other => Self::defect(other.to_string()),
        }
    }
}
