//! The LLM gateway: dialects, routing, fallbacks, usage and receipts.
//!
//! Wire formats ([`dialect`]) are pure translations to and from one intermediate form ([`ir`]). Everything that
//! touches the network goes through the egress proxy with a credential *reference*: this crate opens no
//! connection and holds no key.

pub mod classify;
pub mod dialect;
mod fields;
pub mod ir;
pub mod simulate;
pub mod sse;
