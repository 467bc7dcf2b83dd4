//! Threads that write what was done, beside those that answer.

/// How far it steps back: when processors are short it gets a third of what another thread gets, and is put
/// aside as soon as one of those wakes.
#[cfg(target_os = "linux")]
const STEP_BACK: i32 = 5;

/// Lets those that answer go before the calling thread, which works in bursts of milliseconds: whoever wakes meanwhile on
/// the same processor would otherwise wait for the burst's end. Where that is refused it stays as it is.
#[cfg(target_os = "linux")]
pub(crate) fn step_back() {
    // On Linux this is about the calling thread, whatever its name says.
    let _ = rustix::process::setpriority_process(None, STEP_BACK);
}

/// Priorities are those of processes here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn step_back() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_steps_back() {
        let priority = || rustix::process::getpriority_process(None).ok();
        let before = priority();
        let aside = std::thread::spawn(move || {
            step_back();
            priority()
        });
        assert_eq!((aside.join().unwrap(), priority()), (Some(STEP_BACK), before));
    }
}
