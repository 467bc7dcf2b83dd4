//! What is under way for a grant, and how it is ended from outside: a body that nobody reads is not polled, and cannot
//! notice by itself that it is over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::Credential;
use crate::http1::Driver;
use crate::http2::Reset;

/// The exchanges under way, by number. Nothing is ended while the lock is held: what that drops may be a body that
/// takes this lock itself.
#[derive(Default)]
pub(crate) struct UnderWay(Mutex<HashMap<u64, Exchange>>);

/// One exchange, as far as others may have to end it.
#[derive(Default)]
struct Exchange {
    line: Option<Cancel>,
    /// What stands in its request, or is about to.
    carried: Vec<Arc<dyn Credential>>,
    cut: Option<Cut>,
}

/// What ends one exchange and no other.
pub(crate) enum Cancel {
    /// The connection that it has for itself.
    Connection(Arc<Driver>),
    /// Its stream.
    Stream(Reset),
}

impl Cancel {
    fn cancel(self) {
        match self {
            Self::Connection(driver) => driver.cut(),
            Self::Stream(stream) => stream.cancel(),
        }
    }
}

/// Whether an exchange was cut off because of what it carries. Only those that carry something have one.
#[derive(Clone, Default)]
pub(crate) struct Cut(Arc<OnceLock<String>>);

impl Cut {
    /// The credential that was withdrawn.
    pub(crate) fn by(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

impl UnderWay {
    /// Names what the exchange runs on. One that is over by now has to find that out afterwards: there is nobody left
    /// who would end it.
    pub(crate) fn attach(&self, number: u64, line: Cancel) {
        let before = self.lock().entry(number).or_default().line.replace(line);
        drop(before);
    }

    /// Notes that the exchange is about to carry a credential.
    pub(crate) fn take_up(&self, number: u64, credential: &Arc<dyn Credential>, cut: &Cut) {
        let mut all = self.lock();
        let exchange = all.entry(number).or_default();
        exchange.carried.push(Arc::clone(credential));
        exchange.cut.get_or_insert_with(|| cut.clone());
    }

    /// It does not carry the credential that it took up last.
    pub(crate) fn put_down(&self, number: u64) {
        let last = self.lock().get_mut(&number).and_then(|exchange| exchange.carried.pop());
        drop(last);
    }

    /// The exchange is over. Says whether what it ran on is anybody's again, and not about to be ended from outside.
    pub(crate) fn leave(&self, number: u64) -> bool {
        let exchange = self.lock().remove(&number);
        exchange.is_some_and(|exchange| exchange.line.is_some())
    }

    /// Ends all.
    pub(crate) fn end(&self) {
        let all = std::mem::take(&mut *self.lock());
        for line in all.into_values().filter_map(|exchange| exchange.line) {
            line.cancel();
        }
    }

    /// Ends those that carry the credential of this id, and says how many.
    pub(crate) fn cut_carrying(&self, id: &str) -> usize {
        let mut lines = Vec::new();
        let mut count = 0;
        for exchange in self.lock().values_mut() {
            let Some(cut) = exchange.cut.as_ref().filter(|_| exchange.carries(id)) else { continue };
            if cut.0.set(id.to_owned()).is_ok() {
                count += 1;
                lines.extend(exchange.line.take());
            }
        }
        for line in lines {
            line.cancel();
        }
        count
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Exchange>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange {
    fn carries(&self, id: &str) -> bool {
        self.carried.iter().any(|credential| credential.id() == id)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use http::request::Parts;

    use super::*;
    use crate::{AuthorizeError, Scrubber, Use};

    struct Key(&'static str);

    impl Credential for Key {
        fn id(&self) -> &str {
            self.0
        }

        fn source(&self) -> &str {
            "vault"
        }

        fn authorize(
            &self,
            _: &mut Parts,
            _: Option<&[u8; 32]>,
            _: Use<'_>,
        ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
            Ok(None)
        }

        fn scrubber(&self) -> Option<Arc<Scrubber>> {
            None
        }
    }

    fn line() -> Cancel {
        Cancel::Connection(Arc::new(Driver::new(std::future::pending(), Arc::new(AtomicBool::new(true)))))
    }

    /// An exchange that carries these, and where its cut shows.
    fn carrying(all: &UnderWay, number: u64, ids: &[&'static str]) -> Cut {
        let cut = Cut::default();
        for id in ids {
            let key: Arc<dyn Credential> = Arc::new(Key(id));
            all.take_up(number, &key, &cut);
        }
        cut
    }

    #[test]
    fn those_that_carry_it_are_cut_once_and_no_others() {
        let all = UnderWay::default();
        let cuts = [&["a"][..], &["b"], &["a", "b"], &["ab"]];
        let cuts: Vec<Cut> = (0..).zip(cuts).map(|(number, ids)| carrying(&all, number, ids)).collect();
        for number in 0..5 {
            all.attach(number, line());
        }
        assert_eq!((all.cut_carrying("a"), all.cut_carrying("a"), all.cut_carrying("")), (2, 0, 0));
        let by: Vec<_> = cuts.iter().map(Cut::by).collect();
        assert_eq!(by, [Some("a"), None, Some("a"), None]);
        // One that was cut for one of its credentials is not cut again for the other.
        assert_eq!(all.cut_carrying("b"), 1);
        assert_eq!(cuts[2].by(), Some("a"));
    }

    #[test]
    fn what_was_put_down_is_not_carried() {
        let all = UnderWay::default();
        let cut = carrying(&all, 0, &["a", "b"]);
        all.put_down(0);
        assert_eq!((all.cut_carrying("b"), cut.by()), (0, None));
        assert_eq!((all.cut_carrying("a"), cut.by()), (1, Some("a")));
    }

    #[test]
    fn what_it_runs_on_serves_others_only_when_nobody_is_ending_it() {
        let all = UnderWay::default();
        for number in 0..3 {
            carrying(&all, number, &["a"]);
            all.attach(number, line());
        }
        assert!(all.leave(0));
        assert!(!all.leave(0));
        assert_eq!(all.cut_carrying("a"), 2);
        assert!(!all.leave(1));
        all.attach(3, line());
        all.end();
        assert!(!all.leave(2) && !all.leave(3));
    }

    #[test]
    fn one_that_was_cut_before_it_had_a_line_knows() {
        let all = UnderWay::default();
        let cut = carrying(&all, 0, &["a"]);
        assert_eq!(all.cut_carrying("a"), 1);
        all.attach(0, line());
        assert_eq!(cut.by(), Some("a"));
    }
}
