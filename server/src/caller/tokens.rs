//! Who the holder of a token is, without asking the disk each time.
//!
//! Other processes change tokens as well, so what is known is read again when it is older than a second: a token that
//! was revoked anywhere ends here within that time, and one that this server revoked ends at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::{Caller, Scope, digest_of, is_owner};
use crate::failure::Failure;
use crate::store::{Store, TokenRow};

/// Usual age of what is known, after which it is read again.
const FRESH: Duration = Duration::from_secs(1);
/// Age of what is known, after which nobody is let in on its word when it cannot be read again.
const TRUSTED: Duration = Duration::from_secs(10);
/// How often the use of a token is put on record.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// The tokens of a server.
pub(crate) struct Tokens {
    store: Store,
    /// Age of what is known, after which it is read again.
    fresh: Duration,
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
            fresh: FRESH,
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
        if age.is_some_and(|age| age <= self.fresh) {
            return Ok(());
        }
        let trusted = age.is_some_and(|age| age <= TRUSTED);
        let turn = match self.reading.try_lock() {
            Ok(turn) => turn,
            Err(_) if trusted => return Ok(()),
            // Whoever has nothing to go by has to wait for whoever reads.
            Err(_) => self.reading.lock().await,
        };
        if self.age().is_some_and(|age| age <= self.fresh) {
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
        name: member(row),
        // A scope that a later version knows is none here.
        scopes: row.scopes.iter().filter_map(|word| word.parse::<Scope>().ok()).collect(),
        expires: row.expires,
    }
}

/// The member that a token stands for. One that was called like the owner before that was refused is a member by itself: it
/// has none of what is the owner's.
fn member(row: &TokenRow) -> Arc<str> {
    match is_owner(&row.workspace, &row.name) {
        true => format!("{} ({})", row.name, row.id).into(),
        false => Arc::from(row.name.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::NewToken;
    use crate::keeper::Ring;

    /// A token in the store, as another process left it, and its text.
    async fn add(store: &Store, scopes: &[&str]) -> (String, Vec<u8>) {
        add_called(store, ("w", "ci"), scopes).await
    }

    async fn add_called(
        store: &Store,
        (workspace, name): (&str, &str),
        scopes: &[&str],
    ) -> (String, Vec<u8>) {
        let NewToken { id, text, hash } = NewToken::random().expect("a token");
        let row = TokenRow {
            id: id.clone(),
            workspace: workspace.to_owned(),
            name: name.to_owned(),
            hash,
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            created: OffsetDateTime::now_utc(),
            expires: None,
            revoked: None,
            last_used: None,
        };
        store.add_token(row).await.expect("added");
        (id, text.expose(<[u8]>::to_vec))
    }

    #[tokio::test]
    async fn what_others_change_is_seen_when_it_is_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).expect("a store");
        let always = Tokens { fresh: Duration::ZERO, ..Tokens::new(store.clone()) };
        let never = Tokens { fresh: Duration::MAX, ..Tokens::new(store.clone()) };
        let (id, text) = add(&store, &["run", "of a later version"]).await;
        for tokens in [&always, &never] {
            let holder = tokens.holder(&text).await.expect("read").expect("known");
            assert_eq!((&*holder.id, &*holder.workspace, &*holder.name), (id.as_str(), "w", "ci"));
            assert!(holder.may(Scope::Run) && !holder.may(Scope::Admin));
        }
        let (_, second) = add(&store, &["llm"]).await;
        assert!(always.holder(&second).await.expect("read").is_some());
        assert!(never.holder(&second).await.expect("read").is_none());
        assert!(never.newcomer(&second).await.expect("read").is_some(), "asked for by itself");
        assert!(never.holder(&second).await.expect("read").is_some(), "and known from then on");

        assert!(store.revoke_token("w", &id, OffsetDateTime::now_utc()).await.expect("revoked"));
        assert!(always.holder(&text).await.expect("read").is_none());
        assert!(never.holder(&text).await.expect("read").is_some(), "not read again");
        never.changed().await.expect("read");
        assert!(never.holder(&text).await.expect("read").is_none());
        assert!(never.newcomer(&text).await.expect("read").is_none());
    }

    #[tokio::test]
    async fn no_token_is_the_owner_whatever_it_is_called() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).expect("a store");
        let tokens = Tokens::new(store.clone());
        let owner = Caller::owner();
        let (id, text) = add_called(&store, (&owner.workspace, &owner.name), &["llm"]).await;
        let (_, second) = add_called(&store, (&owner.workspace, &owner.name), &["llm"]).await;
        let (_, elsewhere) = add_called(&store, ("acme", "owner"), &["llm"]).await;
        let mut rings = vec![Ring::own(&owner.workspace, &owner.name).part];
        for text in [&text, &second, &elsewhere] {
            let holder = tokens.newcomer(text).await.expect("read").expect("it goes on working");
            rings.push(Ring::own(&holder.workspace, &holder.name).part);
        }
        let holder = tokens.holder(&text).await.expect("read").expect("known");
        assert_eq!((&*holder.workspace, &*holder.name), ("default", format!("owner ({id})").as_str()));
        let all = rings.len();
        rings.sort();
        rings.dedup();
        assert_eq!(rings.len(), all, "{rings:?}");
    }
}
