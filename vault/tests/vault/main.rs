//! The vault from outside: its operations, and everything that files, processes and attackers do to it.
#![allow(clippy::unwrap_used, reason = "the helpers of tests fail tests")]

mod backup;
mod crash;
mod operations;
mod places;
mod support;
mod tamper;
mod verify;
