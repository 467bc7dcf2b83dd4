//! The sandbox process.
//!
//! A worker is started by the broker with its socket on descriptor 0, its agent's artifact on descriptor 1 and a
//! pipe for diagnostics on descriptor 2, and has nothing else. One thread drives the socket (HTTP/2, as the client
//! that the [protocol](crate::protocol) describes); guests run on threads of their own, so that no guest, however
//! busy, keeps the worker from noticing that its broker is gone. Guests that keep a processor busy go on in a
//! [lane](lane) of theirs, behind everybody else.
//!
//! [`Sandbox`] is the part without a process around it: one loaded agent that can be run many times at once.

mod beginners;
mod control;
mod egress;
mod guest;
mod lane;
mod meter;
mod sandbox;
mod stdio;
mod ticker;
mod turns;
mod wire;

use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use tokio::runtime;

use crate::isolate;

pub use meter::Cancel;
pub(crate) use sandbox::check_imports;
pub use sandbox::{LoadError, Rejected, Sandbox};
pub use wire::{Wire, WireBody, WireError};

/// The worker's `main`. Only the broker starts it.
pub fn worker_main() -> ExitCode {
    match isolate::enter().map_err(|error| error.to_string()).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            isolate::say(&format!("worker: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(inherited: isolate::Inherited) -> Result<(), String> {
    let socket = UnixStream::from(std::os::fd::OwnedFd::from(inherited.first));
    let guests = runtime::Builder::new_multi_thread()
        .thread_name("guest")
        .enable_time()
        // A guest that is interrupted by an epoch queues up again. What wakes another one (a timer, the socket's
        // thread) must not wait until dozens of such turns are over.
        .event_interval(3)
        .global_queue_interval(3)
        .build()
        .map_err(|error| format!("the guests' threads cannot be started: {error}"))?;
    let socket_thread = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the socket cannot be served: {error}"))?;
    let result = socket_thread.block_on(control::serve(socket, inherited.second, guests.handle().clone()));
    // Guests may be running; the process ends without them.
    guests.shutdown_background();
    result
}
