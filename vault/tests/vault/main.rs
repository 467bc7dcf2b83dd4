//! The vault from outside: its operations, and everything that files, processes and attackers do to it.
#![allow(clippy::unwrap_used, reason = "the helpers of tests fail tests")]

mod backup;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod calls;
mod concurrency;
mod crash;
mod custody;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod faults;
mod grants;
mod memory;
mod operations;
mod places;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod power;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod shown;
mod support;
mod tamper;
mod verify;
