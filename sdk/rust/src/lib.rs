//! What a Rust agent imports to run under `orch`.
//!
//! An agent is an ordinary program: JSON arrives on stdin, JSON leaves on stdout, stderr is the log, and exit
//! status 0 is success. `run` does that part, so that an agent is a function from its input to its output:
//!
//! ```no_run
//! use orch_sdk::{Error, llm};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Input {
//!     question: String,
//! }
//!
//! #[derive(Serialize)]
//! struct Output {
//!     answer: String,
//! }
//!
//! # #[cfg(target_family = "wasm")]
//! fn main() -> std::process::ExitCode {
//!     orch_sdk::run(|input: Input| async move {
//!         let request = llm::ChatRequest::new().user(input.question);
//!         let mut stream = llm::chat(request).await?;
//!         while let Some(text) = stream.next().await? {
//!             eprint!("{text}");
//!         }
//!         Ok::<_, Error>(Output { answer: stream.into_completion()?.text })
//!     })
//! }
//! # #[cfg(not(target_family = "wasm"))]
//! # fn main() {}
//! ```
//!
//! The world is reached through `wasi:http` alone, and the keys that an agent finds in its environment are
//! placeholders: they are exchanged for the real ones outside of the sandbox, on the way to the host they belong
//! to. So there is nothing here that handles a secret, and nothing that an agent could not do without this crate.
//!
//! Everything but the transport is plain Rust and is tested natively; `run`, `llm::chat` and
//! `http::Request::send` exist on `wasm32` targets only.

// Natively nothing but the tests drives the parts that only the transport calls.
#![cfg_attr(not(target_family = "wasm"), allow(dead_code))]

pub mod anthropic;
mod entry;
mod error;
pub mod http;
pub mod llm;
pub mod sse;

#[cfg(target_family = "wasm")]
pub use entry::run;
pub use error::{Error, Result};
