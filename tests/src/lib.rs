//! Harness of the end-to-end suite.
//!
//! The suite runs the real `orch` binary as a stranger would, in a home of its own, against upstreams that this crate
//! plays on loopback under a certificate authority of its own. Nothing here imports a crate of `orch`: the harness
//! judges the program from outside, by what it prints, writes, sends and leaves in memory.
//!
//! | module | plays or asks |
//! |---|---|
//! | [`ca`] | the certificate authority that the run is told to trust |
//! | [`upstream`], [`wire`], [`reply`], [`gate`] | scripted HTTP and HTTPS servers that keep an exact record |
//! | [`fakes`] | the providers: strict about what they are sent, deterministic in what they answer |
//! | [`home`], [`guests`] | a temporary home and agents to run in it |
//! | [`orch`], [`process`] | the program itself: started, signalled, timed, looked into |
//! | [`pty`] | a terminal with somebody at it |
//! | [`server`] | the program as a server: started, asked, stopped or killed |
//! | [`egress`] | the corpus of attacks on the egress proxy, run through a guest and through the listener |
//! | [`needle`] | where a secret's value turned up, in any spelling |
//! | [`paired`] | two things timed side by side |
//!
//! A failed expectation panics with all there is to know: the harness has no other caller than tests and benchmarks.

pub mod ca;
mod compiled;
pub mod egress;
pub mod fakes;
pub mod gate;
pub mod guests;
pub mod home;
pub mod needle;
pub mod orch;
pub mod paired;
pub mod process;
pub mod pty;
pub mod reply;
pub mod server;
pub mod upstream;
pub mod wire;
