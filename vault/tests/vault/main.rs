//! The vault from outside: its operations, and everything that files, processes and attackers do to it.
#![allow(clippy::unwrap_used, reason = "the helpers of tests fail tests")]

mod backup;
mod concurrency;
mod crash;
mod custody;
mod grants;
mod memory;
mod operations;
mod places;
#[cfg(target_os = "linux")]
mod power;
mod support;
mod tamper;
mod verify;
