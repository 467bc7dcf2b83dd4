//! Threads that make way for every other one.
#![allow(unsafe_code)]

/// Gives the calling thread the lowest priority there is. Without any such thing it stays as it is, and shares
/// processors as equals do.
#[cfg(target_os = "linux")]
pub(crate) fn yield_to_everybody() {
    let no_parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads the structure, which outlives it; 0 is the calling thread.
    let refused = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &no_parameters) } != 0;
    if refused {
        // On Linux this, too, is about a thread.
        let _ = rustix::process::setpriority_process(None, 19);
    }
}

/// No such thing is known here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn yield_to_everybody() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_makes_way() {
        // SAFETY: nothing is read but a number.
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let before = policy();
        let idle = std::thread::spawn(move || {
            yield_to_everybody();
            policy()
        });
        assert_eq!((idle.join().unwrap(), policy()), (libc::SCHED_IDLE, before));
    }
}
