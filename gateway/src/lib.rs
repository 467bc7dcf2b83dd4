//! The LLM gateway: dialects, routing, fallbacks, usage and receipts.
//!
//! Wire formats ([`dialect`]) are pure translations to and from one intermediate form ([`ir`]). Everything that
//! touches the network goes through the egress proxy with a credential *reference*: this crate opens no
//! connection and holds no key.
//!
//! A run's models are decided before it starts ([`plan()`]). [`Gateway::serve`] answers at `llm.orch.internal`,
//! [`Gateway::passthrough`] carries direct calls to a provider; both lead to `route.rs`, where attempts follow one
//! another within one deadline. What came of each call is in the session's [`Receipts`], what it cost in its
//! [`Budget`].

mod advice;
mod attempt;
mod bounded;
mod byok;
pub mod check;
pub mod classify;
mod clients;
mod deltas;
pub mod dialect;
mod edit;
mod embeddings;
mod envelope;
mod fields;
pub mod frames;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(all(test, not(fuzzing)))]
#[allow(unreachable_pub, clippy::unwrap_used, reason = "public to fuzz targets, and no part of a release")]
mod fuzzing;
mod gateway;
mod health;
mod intake;
pub mod ir;
mod kept;
mod listener;
pub mod matrix;
mod models;
mod needs;
mod passthrough;
mod plan;
mod purse;
mod reach;
mod receipt;
mod request_id;
mod route;
mod serve;
mod session;
mod shown;
pub mod simulate;
mod spoken;
mod stream;
mod tab;
mod unread;
mod upstream;
mod usage;
mod worst;

pub use advice::{Blamed, advice};
pub use byok::{ByokPolicy, Keyrings, Order, UnknownPolicy};
pub use gateway::{ClientOf, Gateway, OLLAMA_PATHS, error_reply, family_at, spoken_at};
pub use health::{Health, KeyHealth, Setback};
pub use intake::Intake;
pub use listener::{CallEnd, CallListener, CallStart, Listener, Operation};
pub use passthrough::Direct;
pub use plan::{
    AtHand, Candidate, KeyAtHand, Keyed, MissingKey, Plan, PlanError, Planned, Preference, Wishes, plan,
};
pub use purse::{
    Amount, Ask, BoundOf, CacheWrites, Granted, Held, Left, LimitHit, Purse, Short, Treasury, Unreserved,
};
pub use reach::OwnAnswers;
pub use receipt::{
    Attempt, Charged, ClassCounts, CredentialRef, Outcome, Receipt, Receipts, Refused, Skipped,
    every_key_was_rejected,
};
pub use request_id::RequestId;
pub use route::Timing;
pub use session::{Session, Witness};
pub use usage::{Budget, Spent};
