//! Grants: what one run may do, reached by an unguessable token, and what it did so far.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use orch_manifests::RunId;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::placeholders::Placeholders;
use crate::received::Received;
use crate::tenancy::Tenancy;
use crate::under_way::{Cancel, Cut, UnderWay};
use crate::{Credential, EgressError, Ended, Ledger, OnDecision, Place, Placeholder, Rule, Target};

/// What one run may do. Nothing is allowed that is not listed.
pub struct Grant {
    /// The run.
    pub run: RunId,
    /// The workspace that the run belongs to. Connections are never shared between workspaces.
    pub workspace: String,
    /// Where the guest's own requests may go; empty allows none.
    pub rules: Vec<Rule>,
    /// Policies on trial: each is asked about what `rules` allow, and what it says is only written down.
    pub trials: Vec<Vec<Rule>>,
    /// Which placeholders turn into which credentials, and where.
    pub bindings: Vec<Binding>,
    /// How many requests the run may make, refused ones and the gateway's included.
    pub requests: u64,
    /// How many exchanges may be under way at once; one ends with its response's body.
    pub concurrent: u32,
    /// When the run is over: new requests are refused then, and bodies under way are cut.
    pub expires: Instant,
}

/// Where one placeholder turns into one credential.
pub struct Binding {
    /// What the guest holds.
    pub placeholder: Placeholder,
    /// What it stands for.
    pub credential: Arc<dyn Credential>,
    /// The destinations that the secret's owner named.
    pub targets: Vec<Target>,
    /// Where in the request.
    pub place: Place,
}

/// 256 random bits that stand for a grant. Not `Debug`, not `Clone`: who holds it may do what the grant allows.
pub struct CapabilityToken(Zeroizing<[u8; 32]>);

impl CapabilityToken {
    /// The text form for the run spec, 64 hex digits.
    #[must_use]
    pub fn reveal(&self) -> String {
        data_encoding::HEXLOWER.encode(self.0.as_ref())
    }

    fn random() -> Self {
        let mut bits = Zeroizing::new([0u8; 32]);
        SystemRandom::new().fill(bits.as_mut()).expect("the operating system provides randomness");
        Self(bits)
    }
}

/// Every live grant of this broker.
#[derive(Default)]
pub struct Grants {
    /// By SHA-256 of the token's text: looking up leaks nothing about tokens through timing, and a core dump of the
    /// map holds no token.
    live: RwLock<HashMap<[u8; 32], Arc<LiveGrant>>>,
}

impl Grants {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a grant live.
    pub fn mint(&self, grant: Grant) -> (CapabilityToken, Arc<LiveGrant>) {
        let token = CapabilityToken::random();
        let live = Arc::new(LiveGrant::new(grant, Ledger::default()));
        let key = fingerprint(&token.reveal());
        self.live.write().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&live));
        (token, live)
    }

    /// The live grant that `token` stands for. Expired grants are found until they are revoked, so that the refusal
    /// can say so.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<Arc<LiveGrant>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).get(&fingerprint(token)).cloned()
    }

    /// Ends every grant of a run: its token is unknown from here on, new requests are refused, bodies under way are
    /// cut. Says whether there was one.
    pub fn revoke(&self, run: &RunId) -> bool {
        let mut found = false;
        self.live.write().unwrap_or_else(PoisonError::into_inner).retain(|_, live| {
            let keep = live.grant.run != *run;
            if !keep {
                live.revoke();
                found = true;
            }
            keep
        });
        found
    }

    /// Ends the exchanges under way that carry the credential of this id in a grant of this workspace, and says how
    /// many; see [`LiveGrant::cut_carrying`]. Grants that no token leads to are not known here.
    pub fn cut_carrying(&self, workspace: &str, id: &str) -> usize {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        let grants: Vec<Arc<LiveGrant>> =
            live.values().filter(|live| live.grant.workspace == workspace).cloned().collect();
        drop(live);
        grants.iter().map(|grant| grant.cut_carrying(id)).sum()
    }
}

fn fingerprint(token: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}

/// A grant in use: the grant, its counters, and its ledger.
pub struct LiveGrant {
    grant: Grant,
    used: AtomicU64,
    running: AtomicU32,
    revoked: AtomicBool,
    /// Told whenever something was ended from outside.
    ending: Notify,
    ledger: Ledger,
    placeholders: Placeholders,
    tenancy: Tenancy,
    under_way: UnderWay,
    next_exchange: AtomicU64,
    received: Received,
}

impl LiveGrant {
    /// A live grant that no token leads to, for requests that no guest makes. It ends by its own expiry, by
    /// [`LiveGrant::revoke`], or with its last holder.
    #[must_use]
    pub fn without_token(grant: Grant) -> Arc<Self> {
        Arc::new(Self::new(grant, Ledger::default()))
    }

    /// The same, and each decision is told as it is made.
    #[must_use]
    pub fn telling(grant: Grant, told: OnDecision) -> Arc<Self> {
        Arc::new(Self::new(grant, Ledger::telling(told)))
    }

    fn new(grant: Grant, ledger: Ledger) -> Self {
        let placeholders = Placeholders::new(&grant.bindings);
        let tenancy = Tenancy::of(&grant);
        Self {
            grant,
            used: AtomicU64::new(0),
            running: AtomicU32::new(0),
            revoked: AtomicBool::new(false),
            ending: Notify::new(),
            ledger,
            placeholders,
            tenancy,
            under_way: UnderWay::default(),
            next_exchange: AtomicU64::new(0),
            received: Received::default(),
        }
    }

    /// What was granted.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// What happened so far.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Requests so far.
    #[must_use]
    pub fn requests_used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Exchanges under way.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    /// Ends the grant: new requests are refused, bodies under way are cut. [`Grants::revoke`] also forgets the token.
    pub fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
        self.ending.notify_waiters();
        self.under_way.end();
    }

    /// Ends the exchanges under way that carry the credential of this id, and says how many: bodies are cut as by
    /// [`LiveGrant::revoke`], and requests that were not answered yet fail with [`EgressError::Withdrawn`]. All others,
    /// and the grant, go on.
    ///
    /// Call it once the credential no longer gives the value out. An exchange that [`Credential::authorize`] let through
    /// just before, or is asking right now, is found too: it fails before it sends anything, or else its stream is reset
    /// as soon as there is one. One that gets the value that replaced the old at that very moment fails with it.
    pub fn cut_carrying(&self, id: &str) -> usize {
        let count = self.under_way.cut_carrying(id);
        if count > 0 {
            self.ending.notify_waiters();
        }
        count
    }

    /// Whether the grant is over, and how.
    ///
    /// # Errors
    /// How it ended.
    pub fn check_live(&self) -> Result<(), Ended> {
        if self.revoked.load(Ordering::Acquire) {
            Err(Ended::Revoked)
        } else if Instant::now() >= self.grant.expires {
            Err(Ended::Expired)
        } else {
            Ok(())
        }
    }

    /// Waits until the grant is over.
    pub async fn ended(&self) -> Ended {
        loop {
            let news = self.news();
            if let Err(ended) = self.check_live() {
                return ended;
            }
            let _ = tokio::time::timeout_at(self.grant.expires, news).await;
        }
    }

    /// Resolves when, since this was called, the grant was revoked or exchanges of it were cut. Called before looking
    /// whether that is so, nothing is missed in between.
    pub(crate) fn news(&self) -> Notified<'_> {
        self.ending.notified()
    }

    /// Who may share connections with this grant's run.
    pub(crate) fn tenancy(&self) -> Tenancy {
        self.tenancy
    }

    /// What the origins got so far.
    pub(crate) fn received(&self) -> &Received {
        &self.received
    }

    pub(crate) fn placeholders(&self) -> &Placeholders {
        &self.placeholders
    }

    /// Takes one request and one exchange from the budgets.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Admission, EgressError> {
        self.check_live().map_err(EgressError::Ended)?;
        let concurrent = self.grant.concurrent;
        self.running
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < concurrent).then_some(n + 1))
            .map_err(|used| EgressError::Limit {
                name: "concurrent requests",
                used: used.into(),
                limit: concurrent.into(),
            })?;
        let number = self.next_exchange.fetch_add(1, Ordering::Relaxed);
        let admission = Admission { grant: Arc::clone(self), number, cut: None, left: false };
        let limit = self.grant.requests;
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (n < limit).then_some(n + 1))
            .map_err(|used| EgressError::Limit { name: "requests", used, limit })?;
        Ok(admission)
    }
}

/// One exchange's place in the concurrency budget, given back when dropped.
pub(crate) struct Admission {
    grant: Arc<LiveGrant>,
    number: u64,
    cut: Option<Cut>,
    left: bool,
}

impl Admission {
    pub(crate) fn grant(&self) -> &Arc<LiveGrant> {
        &self.grant
    }

    /// Notes that the exchange is about to carry a credential.
    pub(crate) fn take_up(&mut self, credential: &Arc<dyn Credential>) {
        let cut = self.cut.get_or_insert_default();
        self.grant.under_way.take_up(self.number, credential, cut);
    }

    /// It does not carry the credential that it took up last.
    pub(crate) fn put_down(&mut self) {
        self.grant.under_way.put_down(self.number);
    }

    /// Where it shows that the exchange was cut off; `None` when it carries nothing that could be withdrawn.
    pub(crate) fn cut(&self) -> Option<Cut> {
        self.cut.clone()
    }

    /// Names what the exchange runs on.
    ///
    /// # Errors
    /// As [`Admission::check`]: what was ended before is not ended again by whoever did it.
    pub(crate) fn attach(&mut self, line: Cancel) -> Result<(), EgressError> {
        self.grant.under_way.attach(self.number, line);
        self.check()
    }

    /// Whether the exchange may go on.
    ///
    /// # Errors
    /// [`EgressError::Ended`] with its grant, [`EgressError::Withdrawn`] when it was cut.
    pub(crate) fn check(&self) -> Result<(), EgressError> {
        self.grant.check_live().map_err(EgressError::Ended)?;
        match self.cut.as_ref().and_then(Cut::by) {
            Some(credential) => Err(EgressError::Withdrawn { credential: credential.to_owned() }),
            None => Ok(()),
        }
    }

    /// Ends the exchange. Says whether what it ran on may serve others: not while somebody outside is ending it.
    pub(crate) fn leave(mut self) -> bool {
        self.left = true;
        self.grant.running.fetch_sub(1, Ordering::AcqRel);
        self.grant.under_way.leave(self.number)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if !self.left {
            self.grant.running.fetch_sub(1, Ordering::AcqRel);
            self.grant.under_way.leave(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn grant(expires: Instant) -> Grant {
        Grant {
            run: RunId::random(),
            workspace: "default".to_owned(),
            rules: Vec::new(),
            trials: Vec::new(),
            bindings: Vec::new(),
            requests: 5,
            concurrent: 2,
            expires,
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn a_token_finds_its_grant_and_no_other() {
        let grants = Grants::new();
        let (one, live_one) = grants.mint(grant(soon()));
        let (two, live_two) = grants.mint(grant(soon()));
        assert_eq!(one.reveal().len(), 64);
        assert_ne!(one.reveal(), two.reveal());
        assert!(Arc::ptr_eq(&grants.find(&one.reveal()).unwrap(), &live_one));
        assert!(Arc::ptr_eq(&grants.find(&two.reveal()).unwrap(), &live_two));
        for wrong in ["", "0", &one.reveal()[..63], &one.reveal().to_uppercase().replace('A', "B")] {
            assert!(grants.find(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_revoked_grant_is_forgotten_and_refuses() {
        let grants = Grants::new();
        let (token, live) = grants.mint(grant(soon()));
        let (other, _) = grants.mint(grant(soon()));
        assert!(grants.revoke(&live.grant().run));
        assert!(!grants.revoke(&live.grant().run));
        assert!(grants.find(&token.reveal()).is_none());
        assert!(grants.find(&other.reveal()).is_some());
        assert_eq!(live.check_live(), Err(Ended::Revoked));
        assert_eq!(live.admit().err().map(|error| error.code()), Some("grant_revoked"));
    }

    #[test]
    fn budgets_are_exact_under_contention() {
        let (_, live) = Grants::new().mint(Grant { requests: 100, concurrent: 8, ..grant(soon()) });
        let admitted: usize = std::thread::scope(|scope| {
            let tries: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..50).filter(|_| live.admit().is_ok()).count())).collect();
            tries.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((admitted, live.requests_used(), live.running()), (100, 100, 0));
    }

    #[tokio::test]
    async fn the_end_is_noticed() {
        let (_, expired) = Grants::new().mint(grant(Instant::now()));
        assert_eq!(expired.ended().await, Ended::Expired);
        let (_, revoked) = Grants::new().mint(grant(soon()));
        let (ended, ()) = tokio::join!(revoked.ended(), async { revoked.revoke() });
        assert_eq!(ended, Ended::Revoked);
    }
}
