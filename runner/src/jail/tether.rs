//! A jailed process dies with its broker, even while it is busy.

use std::io;

use super::report::Layer;

pub(super) struct Tether;

impl Tether {
    #[cfg(target_os = "linux")]
    pub(super) fn apply(&self) -> io::Result<Layer> {
        use rustix::process::{Signal, set_parent_process_death_signal};
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The signal is not sent for a parent that was gone before it was asked for. One that is gone has closed its
        // descriptors first, and whoever reads the diagnostics is the broker.
        if broker_is_gone()? {
            return Err(io::Error::other("the broker is gone"));
        }
        Ok(Layer::Active)
    }

    /// The process still ends with its socket, as soon as it looks at it.
    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unnecessary_wraps, reason = "it can fail elsewhere")]
    pub(super) fn apply(&self) -> io::Result<Layer> {
        Ok(Layer::missing("only Linux ends a process with its parent; a worker ends when its socket closes"))
    }
}

/// Whether the pipe for diagnostics has no reader any more. Anything but a pipe has.
#[cfg(target_os = "linux")]
fn broker_is_gone() -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stderr = io::stderr();
    let mut diagnostics = [PollFd::new(&stderr, PollFlags::OUT)];
    poll(&mut diagnostics, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(diagnostics[0].revents().intersects(PollFlags::ERR | PollFlags::NVAL))
}
