//! The corpus of attacks on the egress proxy, and what it takes to run it.
//!
//! `tests/egress/` holds the rows: what somebody could ask, under which policy, and what must come of it, with the reason.
//! Every row goes two ways, through a real guest of `orch run` and through the listener of `orch proxy`; what one of
//! them cannot express says why. A row is judged by what upstreams got, to the byte, and by the code of the refusal.

pub mod answers;
pub mod dns;
pub mod fill;
pub mod ground;
pub mod guest;
pub mod hello;
pub mod judge;
pub mod listener;
pub mod row;
