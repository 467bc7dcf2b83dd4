//! The sandbox process.
//!
//! A worker is started by the broker with its socket on descriptor 0, its agent's artifact on descriptor 1 and a
//! pipe for diagnostics on descriptor 2, and has nothing else. One thread drives the socket (HTTP/2, as the client
//! that the [protocol](crate::protocol) describes). It loads the artifact, closes the [jail](crate::jail), and only then
//! are there threads for guests, so that no guest, however busy, keeps the worker from noticing that its broker is gone.
//! Guests that keep a processor busy go on in a [lane](lane) of theirs, behind everybody else.
//!
//! [`Sandbox`] is the part without a process around it: one loaded agent that can be run many times at once.

mod beginners;
mod control;
mod egress;
mod files;
mod guest;
mod lane;
mod meter;
mod sandbox;
mod stdio;
mod ticker;
mod turns;
mod wire;

use std::io;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use tokio::runtime::{self, Handle, Runtime};

use crate::jail::{self, Purpose, say};
use crate::protocol::RunSpec;

pub use meter::Cancel;
pub(crate) use sandbox::check_imports;
pub use sandbox::{LoadError, Rejected, Sandbox};
pub use wire::{Wire, WireBody, WireError};

/// The worker's `main`. Only the broker starts it.
pub fn worker_main() -> ExitCode {
    worker_main_with(|_| ())
}

/// The worker's `main` for tests of its jail: `native` is called in there, on a guest's thread, whenever a run starts, and
/// does what a guest could do that had escaped from wasmtime.
#[doc(hidden)]
pub fn worker_main_with(native: fn(&RunSpec)) -> ExitCode {
    match jail::enter().map_err(|error| error.to_string()).and_then(|entered| run(entered, native)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("worker: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(entered: jail::Entered, native: fn(&RunSpec)) -> Result<(), String> {
    let (inherited, jail) = entered.split(Purpose::Worker);
    let socket = UnixStream::from(std::os::fd::OwnedFd::from(inherited.first));
    let socket_thread = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the socket cannot be served: {error}"))?;
    let start = control::Start { artifact: inherited.second, jail, native };
    socket_thread.block_on(control::serve(socket, start))
}

/// The threads that guests run on. Dropping this lets go of them: guests may be running, and the process ends without
/// them.
struct Guests(Option<Runtime>);

impl Guests {
    /// One for each of the `processors`, which have to be counted while the machine can still be looked at, and one more than
    /// [beginners](beginners) may have.
    fn start(processors: usize) -> io::Result<Self> {
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(processors.max(2))
            .thread_name("guest")
            .enable_time()
            // A guest that is interrupted by an epoch queues up again. What wakes another one (a timer, the socket's
            // thread) must not wait until dozens of such turns are over.
            .event_interval(3)
            .global_queue_interval(3)
            .build()?;
        Ok(Guests(Some(runtime)))
    }

    fn handle(&self) -> Handle {
        self.0.as_ref().expect("it is taken by drop alone").handle().clone()
    }
}

impl Drop for Guests {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
