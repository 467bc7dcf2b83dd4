//! The words of OpenTelemetry's conventions for generative AI, as of 1.41 and the repository that they moved to after it:
//! names, values and buckets.
//!
//! Nothing that was said is ever an attribute: neither the messages nor the tools and instructions that the conventions
//! have names for.

use orch_gateway::ir::{Class, StopReason};
use orch_gateway::{Operation, Outcome};

/// Upper bounds of what takes time, in seconds.
pub(super) const SECONDS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// Upper bounds of the time to a first token, in seconds.
pub(super) const FIRST_TOKEN: &[f64] =
    &[0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Upper bounds of the time for each further token, in seconds.
pub(super) const PER_TOKEN: &[f64] =
    &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];

/// Upper bounds of tokens.
pub(super) const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];

/// `gen_ai.operation.name`.
pub(super) fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Chat => "chat",
        Operation::Embeddings => "embeddings",
    }
}

/// `gen_ai.provider.name` of a provider: the well-known value where there is one, else the slug itself.
pub(super) fn provider(slug: &str) -> &str {
    match slug {
        "aws" => "aws.bedrock",
        "azure" | "azure-openai" => "azure.ai.openai",
        "azure-ai" => "azure.ai.inference",
        "gemini" | "google" => "gcp.gemini",
        "vertex" | "vertex-ai" => "gcp.vertex_ai",
        "mistral" => "mistral_ai",
        "moonshot" | "moonshotai" => "moonshot_ai",
        "xai" => "x_ai",
        "watsonx" => "ibm.watsonx.ai",
        slug => slug,
    }
}

/// A value of `gen_ai.response.finish_reasons`.
pub(super) fn finish(stop: StopReason) -> &'static str {
    match stop {
        StopReason::Stop => "stop",
        StopReason::Length => "length",
        StopReason::ToolUse => "tool_calls",
        StopReason::ContentFilter => "content_filter",
        StopReason::Refusal => "refusal",
        StopReason::Error => "error",
        StopReason::Truncated => "truncated",
    }
}

/// What `error.type` is, and the label `error`: the class of a failure, or what else kept a call from its answer.
pub(super) fn error(outcome: Outcome, class: Option<Class>) -> Option<&'static str> {
    match outcome {
        Outcome::Served => None,
        Outcome::Limit => Some(LIMIT),
        Outcome::Cancelled => Some(CANCELLED),
        Outcome::AllFailed | Outcome::Rejected | Outcome::Broken => {
            Some(class.map_or("_OTHER", Class::as_str))
        }
    }
}

/// A bound on what is spent was in the way.
pub(super) const LIMIT: &str = "limit";
/// Whoever asked has gone away.
pub(super) const CANCELLED: &str = "cancelled";
