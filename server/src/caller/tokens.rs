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

    /// The holder of the token with this text, as far as is known; none when there is no such token, it has ended, or
    /// it was made by another process since the store was read.
    ///
    /// # Errors
    /// When the store cannot be read and what is known is too old to go by.
    pub(crate) async fn holder(&self, text: &[u8]) -> Result<Option<Caller>, Failure> {
        let Some(hash) = digest_of(text) else { return Ok(None) };
        self.refresh().await?;
        Ok(self.known_holder(&hash))
    }

    /// The holder of a token that is not known yet. The store is asked each time, so whoever asks has to be bounded.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn newcomer(&self, text: &[u8]) -> Result<Option<Caller>, Failure> {
        let Some(hash) = digest_of(text) else { return Ok(None) };
        if self.store.token(hash).await?.is_none() {
            return Ok(None);
        }
        self.changed().await?;
        Ok(self.known_holder(&hash))
    }

    fn known_holder(&self, hash: &[u8; 32]) -> Option<Caller> {
        let now = OffsetDateTime::now_utc();
        let holder = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.callers.get(hash).filter(|caller| caller.expires.is_none_or(|end| now < end)).cloned()
        };
        if let Some(holder) = &holder {
            self.note(&holder.id, now);
        }
        holder
    }

    /// Reads the store again when what is known is not fresh.
    async fn refresh(&self) -> Result<(), Failure> {
        let age = self.age();
        if age.is_some_and(|age| age <= FRESH) {
            return Ok(());
        }
        let trusted = age.is_some_and(|age| age <= TRUSTED);
        let turn = match self.reading.try_lock() {
            Ok(turn) => turn,
            Err(_) if trusted => return Ok(()),
            // Whoever has nothing to go by has to wait for whoever reads.
            Err(_) => self.reading.lock().await,
        };
        if self.age().is_some_and(|age| age <= FRESH) {
            return Ok(());
        }
        let read = self.read().await;
        drop(turn);
        if trusted { Ok(()) } else { read }
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
