//! Who the holder of a token is, without asking the disk each time.
//!
//! Other processes change tokens as well, so what is known is read again when it is older than a second: a token that
//! was revoked anywhere ends here within that time, and one that this server revoked ends at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::{Caller, Scope, digest_of};
use crate::failure::Failure;
use crate::store::{Store, TokenRow};

/// Age of what is known, after which it is read again.
const FRESH: Duration = Duration::from_secs(1);
/// Age of what is known, after which nobody is let in on its word when it cannot be read again.
const TRUSTED: Duration = Duration::from_secs(10);
/// How often the use of a token is put on record.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// The tokens of a server.
pub(crate) struct Tokens {
    store: Store,
    known: RwLock<Known>,
    /// Who holds this reads the store; the others go on with what is known.
    reading: tokio::sync::Mutex<()>,
    /// When the use of each token was noted last.
    noted: Mutex<HashMap<Arc<str>, Instant>>,
}

/// What was read last.
#[derive(Default)]
struct Known {
    callers: HashMap<[u8; 32], Caller>,
    read: Option<Instant>,
}

impl Tokens {
    /// Reads nothing yet.
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            known: RwLock::default(),
            reading: tokio::sync::Mutex::default(),
            noted: Mutex::default(),
        }
    }

    /// The holder of the token with this text; none when there is no such token, or it has ended.
    ///
    /// # Errors
    /// When the store cannot be read and what is known is too old to go by.
    pub(crate) async fn holder(&self, text: &[u8]) -> Result<Option<Caller>, Failure> {
        let Some(hash) = digest_of(text) else { return Ok(None) };
        let age = self.age();
        if age.is_none_or(|age| age > FRESH) {
            // Whoever has nothing to go by has to wait for whoever reads.
            let turn = match self.reading.try_lock() {
                Ok(turn) => Some(turn),
                Err(_) if age.is_some_and(|age| age <= TRUSTED) => None,
                Err(_) => Some(self.reading.lock().await),
            };
            if turn.is_some()
                && self.age().is_none_or(|age| age > FRESH)
                && let Err(failure) = self.read().await
                && age.is_none_or(|age| age > TRUSTED)
            {
                return Err(failure);
            }
        }
        let now = OffsetDateTime::now_utc();
        let holder = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.callers.get(&hash).filter(|caller| caller.expires.is_none_or(|end| now < end)).cloned()
        };
        if let Some(holder) = &holder {
            self.note(&holder.id, now);
        }
        Ok(holder)
    }

    /// Notes that a token was used, now and then: when it was is for people.
    fn note(&self, id: &Arc<str>, now: OffsetDateTime) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.get(id).is_none_or(|last| last.elapsed() > NOTED_EVERY) {
            noted.insert(Arc::clone(id), Instant::now());
            drop(noted);
            self.store.token_used(id, now);
        }
    }

    /// Reads the store now, because something was changed in it.
    ///
    /// # Errors
    /// When it cannot be read. Then nobody is let in before it can.
    pub(crate) async fn changed(&self) -> Result<(), Failure> {
        let _turn = self.reading.lock().await;
        let read = self.read().await;
        if read.is_err() {
            *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known::default();
        }
        read
    }

    fn age(&self) -> Option<Duration> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).read.map(|read| read.elapsed())
    }

    async fn read(&self) -> Result<(), Failure> {
        let read = Some(Instant::now());
        let callers = callers(self.store.tokens().await?);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known { callers, read };
        Ok(())
    }
}

/// The holders of the tokens that were not revoked, by digest.
fn callers(rows: Vec<TokenRow>) -> HashMap<[u8; 32], Caller> {
    rows.into_iter().filter(|row| row.revoked.is_none()).map(|row| (row.hash, caller(&row))).collect()
}

fn caller(row: &TokenRow) -> Caller {
    Caller {
        id: Arc::from(row.id.as_str()),
        workspace: Arc::from(row.workspace.as_str()),
        name: Arc::from(row.name.as_str()),
        // A scope that a later version knows is none here.
        scopes: row.scopes.iter().filter_map(|word| word.parse::<Scope>().ok()).collect(),
        expires: row.expires,
    }
}
