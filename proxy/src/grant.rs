//! Grants: what one run may do, reached by an unguessable token, and what it did so far.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use orch_manifests::RunId;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::limits::{Hits, Refused, Shares, Usage, Way};
use crate::placeholders::Placeholders;
use crate::received::Received;
use crate::tenancy::Tenancy;
use crate::under_way::UnderWay;
use crate::{
    Asked, Credential, EgressError, Ended, Ledger, LimitHit, Limits, OnDecision, Place, Placeholder, Rule,
    RuleIndex, Target, Verdict,
};

mod admission;

pub(crate) use admission::Admission;

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
    /// How much of the network the run may use.
    pub limits: Limits,
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
    live: RwLock<Live>,
}

#[derive(Default)]
struct Live {
    /// By SHA-256 of the token's text: looking up leaks nothing about tokens through timing, and a core dump of the
    /// map holds no token.
    by_token: HashMap<[u8; 32], Arc<LiveGrant>>,
    /// The keys of each run's grants.
    of_run: HashMap<RunId, Vec<[u8; 32]>>,
}

impl Grants {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a grant live.
    pub fn mint(&self, grant: Grant) -> (CapabilityToken, Arc<LiveGrant>) {
        self.enter(LiveGrant::new(grant, Ledger::default()))
    }

    /// The same, and each decision is told as it is made.
    pub fn mint_telling(&self, grant: Grant, told: OnDecision) -> (CapabilityToken, Arc<LiveGrant>) {
        self.enter(LiveGrant::new(grant, Ledger::telling(told)))
    }

    fn enter(&self, grant: LiveGrant) -> (CapabilityToken, Arc<LiveGrant>) {
        let (token, live) = (CapabilityToken::random(), Arc::new(grant));
        let key = fingerprint(&token.reveal());
        let mut all = self.live.write().unwrap_or_else(PoisonError::into_inner);
        all.of_run.entry(live.grant.run.clone()).or_default().push(key);
        all.by_token.insert(key, Arc::clone(&live));
        drop(all);
        (token, live)
    }

    /// The live grant that `token` stands for. Expired grants are found until they are revoked, so that the refusal
    /// can say so.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<Arc<LiveGrant>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).by_token.get(&fingerprint(token)).cloned()
    }

    /// Ends every grant of a run: its token is unknown from here on, new requests are refused, bodies under way are
    /// cut. Says whether there was one.
    pub fn revoke(&self, run: &RunId) -> bool {
        let mut all = self.live.write().unwrap_or_else(PoisonError::into_inner);
        let Some(keys) = all.of_run.remove(run) else { return false };
        for live in keys.iter().filter_map(|key| all.by_token.remove(key)) {
            live.revoke();
        }
        true
    }

    /// Takes back the rules of every grant for which this is false, and says how many; see
    /// [`LiveGrant::retain_rules`].
    pub fn retain_rules(&self, keep: impl Fn(&Rule) -> bool) -> usize {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        live.by_token.values().map(|grant| grant.retain_rules(&keep)).sum()
    }

    /// Ends the exchanges under way that carry the credential of this id in a grant of this workspace, and says how
    /// many; see [`LiveGrant::cut_carrying`]. Grants that no token leads to are not known here.
    pub fn cut_carrying(&self, workspace: &str, id: &str) -> usize {
        self.cut(id, |grant| grant.workspace == workspace)
    }

    /// The same in the grants of all workspaces, of a credential that is lent to them by one id.
    pub fn cut_carrying_everywhere(&self, id: &str) -> usize {
        self.cut(id, |_| true)
    }

    fn cut(&self, id: &str, of: impl Fn(&Grant) -> bool) -> usize {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        let grants: Vec<Arc<LiveGrant>> =
            live.by_token.values().filter(|live| of(&live.grant)).cloned().collect();
        drop(live);
        grants.iter().map(|grant| grant.cut_carrying(id)).sum()
    }
}

fn fingerprint(token: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}

/// What is left of a grant's rules, and who may share connections with its run because of them.
pub(crate) struct Standing {
    pub(crate) rules: Vec<Rule>,
    pub(crate) index: RuleIndex,
    pub(crate) tenancy: Tenancy,
}

impl Standing {
    fn of(grant: &Grant, rules: Vec<Rule>) -> Self {
        Self { tenancy: Tenancy::of(grant, &rules), index: RuleIndex::new(&rules), rules }
    }

    /// What the rules say.
    pub(crate) fn decide(&self, asked: &Asked<'_>) -> Verdict {
        self.index.decide(&self.rules, asked)
    }
}

/// A grant in use: the grant, its counters, and its ledger.
pub struct LiveGrant {
    grant: Grant,
    usage: Usage,
    /// By host; only where hosts have limits of their own, and no more of them than there are requests.
    hosts: Mutex<HashMap<String, Arc<Usage>>>,
    hits: Hits,
    revoked: AtomicBool,
    /// Told whenever something was ended from outside.
    ending: Notify,
    ledger: Ledger,
    placeholders: Placeholders,
    /// Of the policies on trial, in their order.
    trials: Vec<RuleIndex>,
    standing: RwLock<Arc<Standing>>,
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
        let standing = RwLock::new(Arc::new(Standing::of(&grant, grant.rules.clone())));
        let usage = Usage::of_run(grant.limits.run);
        let trials = grant.trials.iter().map(|rules| RuleIndex::new(rules)).collect();
        Self {
            grant,
            trials,
            usage,
            hosts: Mutex::default(),
            hits: Hits::default(),
            revoked: AtomicBool::new(false),
            ending: Notify::new(),
            ledger,
            placeholders,
            standing,
            under_way: UnderWay::default(),
            next_exchange: AtomicU64::new(0),
            received: Received::default(),
        }
    }

    /// What was granted. Its rules may be others by now; see [`LiveGrant::retain_rules`] and
    /// [`LiveGrant::replace_rules`].
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
        self.usage.requests()
    }

    /// Exchanges under way.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.usage.running()
    }

    /// Bytes of request bodies so far.
    #[must_use]
    pub fn uploaded(&self) -> u64 {
        self.usage.bytes(Way::Up)
    }

    /// Bytes of response bodies so far.
    #[must_use]
    pub fn downloaded(&self) -> u64 {
        self.usage.bytes(Way::Down)
    }

    /// The limit that was hit, if one was: the first of those that leave nothing for the rest of the run, or else the
    /// first one.
    #[must_use]
    pub fn limit_hit(&self) -> Option<LimitHit> {
        self.hits.first()
    }

    /// Notes that a limit was hit.
    pub(crate) fn hit(&self, hit: LimitHit) -> LimitHit {
        self.hits.note(hit)
    }

    /// What the run used so far.
    pub(crate) fn usage(&self) -> &Usage {
        &self.usage
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
        self.check_live_at(Instant::now())
    }

    /// The same, for whoever knows what time it is.
    pub(crate) fn check_live_at(&self, now: Instant) -> Result<(), Ended> {
        if self.revoked.load(Ordering::Acquire) {
            Err(Ended::Revoked)
        } else if now >= self.grant.expires {
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

    /// The policies on trial.
    pub(crate) fn trials(&self) -> impl Iterator<Item = (&[Rule], &RuleIndex)> {
        self.grant.trials.iter().map(Vec::as_slice).zip(&self.trials)
    }

    /// What the run may do at this moment.
    pub(crate) fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes back the rules for which this is false, and says how many. The next request is refused where one of them
    /// would have allowed it; exchanges under way go on, as they were allowed when they began. Nothing gives a rule back.
    pub fn retain_rules(&self, keep: impl Fn(&Rule) -> bool) -> usize {
        let mut standing = self.standing.write().unwrap_or_else(PoisonError::into_inner);
        let rules: Vec<Rule> = standing.rules.iter().filter(|rule| keep(rule)).cloned().collect();
        let gone = standing.rules.len() - rules.len();
        if gone > 0 {
            *standing = Arc::new(Standing::of(&self.grant, rules));
        }
        gone
    }

    /// Puts other rules in the place of those that stand, from the next request on; exchanges under way go on. Only for
    /// grants whose rules a person sets directly, who may widen them as well: an agent's are what was granted to it, of
    /// which [`LiveGrant::retain_rules`] takes back.
    pub fn replace_rules(&self, rules: Vec<Rule>) {
        let standing = Arc::new(Standing::of(&self.grant, rules));
        *self.standing.write().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    /// What the origins got so far.
    pub(crate) fn received(&self) -> &Received {
        &self.received
    }

    pub(crate) fn placeholders(&self) -> &Placeholders {
        &self.placeholders
    }

    /// Takes one request and one exchange from the run's limits.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Admission, EgressError> {
        self.check_live().map_err(EgressError::Ended)?;
        let entered = self.usage.enter();
        if let Err(Refused::Outside(hit)) = entered {
            return Err(self.hit(hit).into());
        }
        let number = self.next_exchange.fetch_add(1, Ordering::Relaxed);
        let admission = Admission::new(self, number);
        match entered {
            Ok(()) => Ok(admission),
            Err(Refused::Inside(hit) | Refused::Outside(hit)) => Err(self.hit(hit).into()),
        }
    }

    /// What counts the use of a host, where hosts have limits of their own.
    fn host_usage(&self, host: &str) -> Option<Arc<Usage>> {
        let shares = self.grant.limits.host;
        if shares == Shares::default() {
            return None;
        }
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(usage) = hosts.get(host) {
            return Some(Arc::clone(usage));
        }
        let usage = Arc::new(Usage::of_host(shares));
        hosts.insert(host.to_owned(), Arc::clone(&usage));
        Some(usage)
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
            limits: Limits::of(5, 2),
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
        let (_, live) = Grants::new().mint(Grant { limits: Limits::of(100, 8), ..grant(soon()) });
        let admitted: usize = std::thread::scope(|scope| {
            let tries: Vec<_> =
                (0..8).map(|_| scope.spawn(|| (0..50).filter(|_| live.admit().is_ok()).count())).collect();
            tries.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((admitted, live.requests_used(), live.running()), (100, 100, 0));
    }

    #[test]
    fn a_rule_that_is_taken_back_is_gone_and_its_connections_are_not_shared() {
        let rule = |host: &str, origin| Rule {
            scheme: orch_manifests::Scheme::Https,
            host: host.parse().unwrap(),
            port: 443,
            methods: crate::Methods::Any,
            paths: Vec::new(),
            origin,
        };
        let (config, flag) = (crate::RuleOrigin::Config, crate::RuleOrigin::Flag);
        let rules = vec![rule("a.example.com", config), rule("b.example.com", flag)];
        let grants = Grants::new();
        let (_, live) = grants.mint(Grant { rules: rules.clone(), ..grant(soon()) });
        let (_, narrow) = grants.mint(Grant { rules: rules[1..].to_vec(), ..grant(soon()) });
        let before = live.standing().tenancy;
        assert_eq!((grants.retain_rules(|_| true), live.standing().tenancy == before), (0, true));
        assert_eq!(grants.retain_rules(|rule| rule.origin != config), 1);
        let after = live.standing();
        assert_eq!((after.rules.len(), after.rules[0].origin), (1, flag));
        assert!(after.tenancy != before && after.tenancy == narrow.standing().tenancy);
        assert_eq!(grants.retain_rules(|_| false), 2);
        live.replace_rules(rules);
        let origins: Vec<_> = live.standing().rules.iter().map(|rule| rule.origin).collect();
        assert_eq!(origins, [config, flag]);
        assert!(live.standing().tenancy == before);
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
