//! A wake-up call that is put off each time something comes, and hardly ever comes due.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// Wakes up whoever waits for something else, once that has taken too long. Putting it off costs nothing: the runtime's timer
/// stays where it is, and is moved when it fires before its time.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once it is `until`, and not before. Whoever asks is woken then, or earlier.
    pub fn poll(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// How long until an alarm goes off that was set to the first of these moments, and then to the others in turn.
    async fn rings(moments: &[u64]) -> u128 {
        let begun = Instant::now();
        let mut alarm = Alarm::default();
        let mut ask = |moment: &u64| {
            let until = begun + Duration::from_secs(*moment);
            std::future::ready(alarm.poll(until, &mut Context::from_waker(Waker::noop())))
        };
        let (last, before) = moments.split_last().expect("there is one");
        for moment in before {
            assert!(ask(moment).await.is_pending());
        }
        let until = begun + Duration::from_secs(*last);
        let due = poll_fn(|cx| alarm.poll(until, cx));
        timeout(Duration::from_secs(3600), due).await.expect("it goes off");
        begun.elapsed().as_secs().into()
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_off_when_it_was_last_set_to() {
        assert_eq!(rings(&[5]).await, 5);
        assert_eq!(rings(&[5, 9, 20]).await, 20, "put off");
        assert_eq!(rings(&[20, 5]).await, 5, "brought forward");
        assert_eq!(rings(&[5, 20, 7]).await, 7, "put off too far");
    }

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asked_last_is_woken() {
        let begun = Instant::now();
        let mut alarm = Alarm::default();
        let (first, last) = (Arc::new(Woken::default()), Arc::new(Woken::default()));
        for (woken, second) in [(&first, 5), (&first, 9), (&last, 9), (&last, 9)] {
            let waker = Waker::from(Arc::clone(woken));
            let until = begun + Duration::from_secs(second);
            assert!(alarm.poll(until, &mut Context::from_waker(&waker)).is_pending());
        }
        let counts = || [&first, &last].map(|woken| woken.0.load(Ordering::SeqCst));
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(counts(), [0, 1], "before its time");
        let waker = Waker::from(Arc::clone(&last));
        let until = begun + Duration::from_secs(9);
        assert!(alarm.poll(until, &mut Context::from_waker(&waker)).is_pending());
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(counts(), [0, 2]);
        assert!(alarm.poll(until, &mut Context::from_waker(&waker)).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_off_where_the_budget_was_used_up() {
        let until = Instant::now() + Duration::from_secs(5);
        let (mut alarm, mut first) = (Alarm::default(), true);
        let due = poll_fn(|cx| {
            if std::mem::take(&mut first) {
                while tokio::task::coop::has_budget_remaining() {
                    let _ = pin!(tokio::task::coop::consume_budget()).poll(cx);
                }
            }
            alarm.poll(until, cx)
        });
        timeout(Duration::from_secs(60), due).await.expect("it goes off");
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_go_off_before_its_time() {
        let mut alarm = Alarm::default();
        let begun = Instant::now();
        for second in 1..100 {
            let until = begun + Duration::from_secs(second + 10);
            let early = timeout(Duration::from_secs(1), poll_fn(|cx| alarm.poll(until, cx))).await;
            assert!(early.is_err(), "{second}");
        }
    }
}
