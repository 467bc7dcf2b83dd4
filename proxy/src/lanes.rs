//! Threads that serve connections, each with a runtime of its own.
//!
//! A request, the connection that it came on and the one that it goes out on are all moved by one thread: nobody on
//! another core has to be woken for them, which takes longer than the request itself. What is given up is that an idle
//! thread helps a busy one; connections go to the thread that has the fewest.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::num::NonZero;
use std::sync::Arc;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

thread_local! {
    static CURRENT: Cell<LaneId> = const { Cell::new(LaneId(0)) };
}

/// Which thread this is, among those that keep upstream connections to themselves. All others together are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LaneId(usize);

impl LaneId {
    /// This thread's.
    pub(crate) fn current() -> Self {
        CURRENT.get()
    }
}

/// Threads that serve connections, each with a runtime and upstream connections of its own. They end when this is dropped,
/// and so does whatever they still serve.
pub struct Lanes(Vec<Lane>);

struct Lane {
    runtime: Handle,
    /// Held by each of its connections.
    seat: Arc<()>,
    _stop: oneshot::Sender<Infallible>,
}

/// A connection's place on a thread, until it is dropped.
pub struct Seat {
    runtime: Handle,
    _seat: Arc<()>,
}

impl Lanes {
    /// Whoever serves does so on its own runtime.
    #[must_use]
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Starts so many.
    ///
    /// # Errors
    /// As the system says.
    pub fn start(count: NonZero<usize>) -> io::Result<Self> {
        (1..=count.get()).map(|number| Lane::start(LaneId(number))).collect::<io::Result<_>>().map(Self)
    }

    /// A place on the thread that has the fewest connections, if there is any thread.
    #[must_use]
    pub fn seat(&self) -> Option<Seat> {
        let lane = self.0.iter().min_by_key(|lane| Arc::strong_count(&lane.seat))?;
        Some(Seat { runtime: lane.runtime.clone(), _seat: Arc::clone(&lane.seat) })
    }
}

impl Seat {
    /// Where the connection's task is to run.
    #[must_use]
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

impl Lane {
    fn start(id: LaneId) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<Infallible>();
        std::thread::Builder::new().name(format!("lane-{}", id.0)).spawn(move || {
            CURRENT.set(id);
            let _ = runtime.block_on(stopped);
            // A name that the system is looking up is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, seat: Arc::default(), _stop: stop })
    }
}
