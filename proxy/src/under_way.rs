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
        self.lock().entry(number).or_default().line = Some(line);
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
