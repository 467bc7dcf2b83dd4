use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderName, Method, header};
use orch_manifests::{Auth, RunId};
use orch_proxy::{Asked, AuthorizeError, Credential, Grant as RunGrant, LiveGrant, Place, Placeholder, Use};
use orch_vault::{
    AuditEvent, Custody, ExpectedVersion, GrantId, GrantTerms, OpenMode, Rotation, Secret, SecretMeta,
    SecretName, ValuePlace, Vault, VaultLocation,
};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::*;
use crate::credential::{HeldCredential, Lease};

const ONE: &str = "tok-0123456789abcdef0123456789";
const TWO: &str = "tok-fedcba9876543210fedcba9876";

/// A vault, and what is held of it, as the keeper has them.
struct Stage {
    _folder: TempDir,
    vault: Vault,
    held: HeldSecrets,
    run: RunId,
}

fn name() -> SecretName {
    "TOKEN".parse().expect("a name")
}

fn value(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn to(host: &str) -> GrantTerms {
    GrantTerms { host: Some(host.to_owned()), ..GrantTerms::default() }
}

impl Stage {
    fn new(grants: Vec<GrantTerms>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let location = VaultLocation {
            store: folder.path().join("vault"),
            key_file: folder.path().join("vault.key"),
            workspace: "default".to_owned(),
            custody: Custody::default(),
        };
        let vault = Vault::open(&location, OpenMode::Create).expect("a vault");
        let mut stage = Self { _folder: folder, vault, held: HeldSecrets::default(), run: RunId::random() };
        stage.set(ONE, Some(grants).filter(|grants| !grants.is_empty()));
        stage
    }

    fn set(&mut self, text: &str, grants: Option<Vec<GrantTerms>>) {
        let meta = SecretMeta { grants, ..SecretMeta::default() };
        self.vault.set(&name(), value(text), meta, ExpectedVersion::Any).expect("set");
        self.held.refresh(&self.vault);
    }

    fn lend(&self, auth: Auth, lease: Lease) -> HeldCredential {
        let secret = self.held.open(&self.vault, &name()).expect("opens").expect("there");
        let run = (!matches!(lease, Lease::Client(_))).then_some(&self.run);
        HeldCredential::lent(secret, auth, lease, run)
    }

    fn secret(&self, grants: &[u32]) -> HeldCredential {
        self.lend(Auth::None, Lease::Secret(grants.iter().copied().map(GrantId::new).collect(), Vec::new()))
    }

    fn key(&self, grant: Option<u32>) -> HeldCredential {
        self.lend(Auth::Bearer, Lease::Key(grant.map(GrantId::new)))
    }

    fn client(&self) -> HeldCredential {
        let tally = self.held.tally("default", &name(), "api.openai.com");
        self.lend(Auth::Bearer, Lease::Client(tally))
    }
}

/// What stands in the request after the swap, or why nothing does.
fn used_in(
    held: &HeldCredential,
    (method, host, path): (&Method, &str, &str),
    place: &Place,
) -> Result<String, String> {
    let placeholder = Placeholder::random();
    let uri = match place {
        Place::Query(name) => format!("{path}?{name}={placeholder}"),
        Place::Header(_) => path.to_owned(),
    };
    let mut request = http::Request::builder().method(method).uri(&uri);
    if let Place::Header(name) = place {
        request = request.header(name, placeholder.as_str());
    }
    let mut parts: Parts = request.body(()).expect("a request").into_parts().0;
    let (host, path) = (host.parse().expect("a host"), path.parse().expect("a path"));
    let asked = Asked { scheme: orch_manifests::Scheme::Https, host: &host, port: 443, method, path: &path };
    let how = Use::Swap { asked, place, placeholder: &placeholder };
    match held.authorize(&mut parts, None, how) {
        Ok(scrubber) => {
            assert!(scrubber.is_some(), "what is put in is scrubbed");
            Ok(match place {
                Place::Query(_) => parts.uri.query().expect("a query").to_owned(),
                Place::Header(name) => parts.headers[name].to_str().expect("text").to_owned(),
            })
        }
        Err(AuthorizeError::NotPermitted(why)) => {
            let text = format!("{parts:?}");
            assert!(!text.contains(ONE) && !text.contains(TWO), "{text}");
            Err(why)
        }
        Err(other) => panic!("{other}"),
    }
}

fn used(held: &HeldCredential, host: &str) -> Result<String, String> {
    used_in(held, (&Method::GET, host, "/"), &Place::Header(header::AUTHORIZATION))
}

fn called(held: &HeldCredential) -> Result<String, AuthorizeError> {
    let mut parts = http::Request::new(()).into_parts().0;
    let endpoint = "https://api.openai.com".parse().expect("an endpoint");
    held.authorize(&mut parts, None, Use::Own { endpoint: &endpoint, pinned: false })?;
    Ok(parts.headers[header::AUTHORIZATION].to_str().expect("text").to_owned())
}

fn refusal<T>(outcome: Result<T, AuthorizeError>) -> String {
    match outcome {
        Err(AuthorizeError::NotPermitted(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("not refused"),
    }
}

#[test]
fn the_next_use_is_of_the_value_that_the_vault_has_then() {
    let mut stage = Stage::new(vec![to("a.example")]);
    let held = stage.secret(&[1]);
    assert_eq!(used(&held, "a.example").as_deref(), Ok(ONE));
    let rotation = Rotation { value: value(TWO), expires: None, scrubbable: true };
    stage.vault.rotate(&name(), rotation).expect("rotated");
    assert_eq!(used(&held, "a.example").as_deref(), Ok(ONE), "not before it is durable and told");
    stage.held.refresh(&stage.vault);
    assert_eq!(used(&held, "a.example").as_deref(), Ok(TWO));

    stage.vault.remove(&name()).expect("removed");
    stage.held.refresh(&stage.vault);
    assert_eq!(used(&held, "a.example"), Err("it was removed".to_owned()));
    assert!(held.scrubber().is_none());
    // One of the same name that comes later is another one: its grants are not those that this run was let in by.
    stage.set(TWO, Some(vec![to("a.example")]));
    assert_eq!(used(&held, "a.example"), Err("its owner took the grant back".to_owned()));
}

#[test]
fn each_use_is_judged_by_what_the_grant_says() {
    let terms = GrantTerms {
        methods: vec!["GET".to_owned()],
        paths: vec!["/repos/**".to_owned()],
        place: Some(ValuePlace::Header("x-token".to_owned())),
        ..to("*.a.example")
    };
    let query = GrantTerms { place: Some(ValuePlace::Query("key".to_owned())), ..to("b.example") };
    let stage = Stage::new(vec![terms, query]);
    let held = stage.secret(&[1, 2]);
    let (header, key) = (Place::Header(HeaderName::from_static("x-token")), Place::Query("key".to_owned()));
    let authorization = Place::Header(header::AUTHORIZATION);
    for (method, host, path, place, expected) in [
        (&Method::GET, "x.a.example", "/repos/1", &header, true),
        (&Method::POST, "x.a.example", "/repos/1", &header, false),
        (&Method::GET, "x.a.example", "/user", &header, false),
        (&Method::GET, "a.example", "/repos/1", &header, false),
        (&Method::GET, "x.a.example", "/repos/1", &authorization, false),
        (&Method::GET, "x.a.example", "/repos/1", &key, false),
        (&Method::POST, "b.example", "/anything", &key, true),
        (&Method::GET, "b.example", "/anything", &header, false),
    ] {
        let outcome = used_in(&held, (method, host, path), place);
        assert_eq!(outcome.is_ok(), expected, "{method} {host}{path} {place:?}: {outcome:?}");
    }
    assert_eq!(used_in(&held, (&Method::GET, "b.example", "/"), &key).as_deref(), Ok(&*format!("key={ONE}")));
    // A run that was let in by one of them is not let in by the other.
    let narrower = stage.secret(&[2]);
    assert!(used_in(&narrower, (&Method::GET, "x.a.example", "/repos/1"), &header).is_err());
}

#[test]
fn a_grant_that_is_taken_back_or_over_lets_no_further_use() {
    let soon = OffsetDateTime::now_utc() + Duration::from_secs(2);
    let mut stage = Stage::new(vec![
        to("a.example"),
        GrantTerms { expires: Some(soon), ..to("b.example") },
        GrantTerms { runs: Some(1), ..to("c.example") },
    ]);
    let held = stage.secret(&[1, 2, 3]);
    for host in ["a.example", "b.example", "c.example"] {
        assert_eq!(used(&held, host).as_deref(), Ok(ONE), "{host}");
    }
    stage.vault.remove_grant(&name(), GrantId::new(1)).expect("taken back");
    stage.held.refresh(&stage.vault);
    assert!(used(&held, "a.example").is_err());
    // A grant that was added since is not what this run was let in by.
    stage.vault.grant(&name(), to("a.example")).expect("granted");
    stage.held.refresh(&stage.vault);
    assert!(used(&held, "a.example").is_err());
    std::thread::sleep(Duration::from_millis(2_100));
    assert!(used(&held, "b.example").expect_err("over").contains("it expired"));
    // The number of runs is the vault's to count, when they begin.
    assert_eq!(used(&held, "c.example").as_deref(), Ok(ONE));
}

#[test]
fn a_caller_s_word_for_this_run_outlives_the_owner_s_grants_and_not_the_secret() {
    let mut stage = Stage::new(Vec::new());
    let hosts = vec!["a.example".parse().expect("a host")];
    let held = stage.lend(Auth::None, Lease::Secret(Vec::new(), hosts));
    assert_eq!(used(&held, "a.example").as_deref(), Ok(ONE));
    assert!(used(&held, "b.example").is_err());
    stage.vault.remove(&name()).expect("removed");
    stage.held.refresh(&stage.vault);
    assert!(used(&held, "a.example").is_err());
}

#[test]
fn a_provider_s_key_that_its_owner_binds_later_is_refused_to_who_has_it_unbound() {
    let mut stage = Stage::new(Vec::new());
    let (run, clients) = (stage.key(None), stage.client());
    assert_eq!(called(&run).expect("authorised"), format!("Bearer {ONE}"));
    assert_eq!(called(&clients).expect("authorised"), format!("Bearer {ONE}"));
    let agents = GrantTerms { agents: vec!["acme/x".to_owned()], ..GrantTerms::default() };
    stage.vault.grant(&name(), agents).expect("granted");
    stage.held.refresh(&stage.vault);
    assert_eq!(refusal(called(&run)), "its owner has bound it to grants since");
    assert_eq!(refusal(called(&clients)), "its owner granted it to no client");
    let anybody = GrantTerms { cost_micro_usd: Some(100), ..GrantTerms::default() };
    stage.vault.grant(&name(), anybody).expect("granted");
    stage.held.refresh(&stage.vault);
    assert!(called(&clients).is_ok(), "a grant that is for nobody in particular is for clients as well");
    // Taking back never widens: when no grant is left it is for nobody.
    for id in [1, 2] {
        stage.vault.remove_grant(&name(), GrantId::new(id)).expect("taken back");
    }
    stage.held.refresh(&stage.vault);
    assert_eq!(refusal(called(&clients)), "its owner granted it to no client");
    assert!(called(&stage.key(None)).is_err());
    stage.vault.grant(&name(), GrantTerms::default()).expect("granted");
    stage.held.refresh(&stage.vault);
    // Another secret is never used as a key, nor a key as another secret.
    assert_eq!(refusal(called(&stage.secret(&[1]))), "it is no provider's key");
}

/// A call with a credential that cost this much.
fn spend(held: &HeldCredential, cost: u64) {
    held.hold(cost).expect("it pays").spend(cost);
}

#[test]
fn money_bounds_the_next_call_whoever_spends_it() {
    let bounded = GrantTerms { cost_micro_usd: Some(1_000), ..GrantTerms::default() };
    let mut stage = Stage::new(vec![bounded]);
    let (run, other, clients) = (stage.key(Some(1)), stage.key(Some(1)), stage.client());
    spend(&run, 400);
    spend(&clients, 599);
    assert!(called(&other).is_ok());
    assert_eq!((other.money_left(), clients.money_left()), (Some(1), Some(1)));
    assert!(other.hold(2).is_none() && clients.hold(2).is_none());
    spend(&other, 1);
    for held in [&run, &other, &clients] {
        assert!(refusal(called(held)).contains("calls with it cost that much"));
        assert_eq!(held.money_left(), Some(0));
    }
    // What is put on record meanwhile is not counted a second time.
    let counted = |grant, cost_micro_usd| AuditEvent::UseCounted {
        run: "run_1".to_owned(),
        secret: name(),
        host: "api.openai.com".to_owned(),
        uses: 1,
        complete: true,
        grant,
        cost_micro_usd,
    };
    stage.vault.record(vec![counted(Some(GrantId::new(1)), 401)]).expect("on record");
    for (_, events) in stage.held.take_counts() {
        stage.vault.record(events).expect("on record");
    }
    stage.held.refresh(&stage.vault);
    assert!(called(&run).is_err());
    drop((run, other, clients));
    // Nobody holds it: the next one begins with what the vault says.
    let used = stage.vault.summary(&name()).expect("readable").expect("there").grants[0].used;
    assert_eq!(used.cost_micro_usd, 1_000);
    assert!(refusal(called(&stage.key(Some(1)))).contains("calls with it cost that much"));
}

#[test]
fn calls_at_once_hold_no_more_than_there_is() {
    let bounded = GrantTerms { cost_micro_usd: Some(1_000), ..GrantTerms::default() };
    let stage = Stage::new(vec![bounded]);
    let (run, clients) = (stage.key(Some(1)), stage.client());
    let held: Vec<_> = std::thread::scope(|scope| {
        let ask = |held: &HeldCredential| (0..50).filter_map(|_| held.hold(100)).collect::<Vec<_>>();
        let threads = [&run, &clients, &run, &clients].map(|held| scope.spawn(move || ask(held)));
        threads.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect()
    });
    assert_eq!((held.len(), run.money_left()), (10, Some(0)));
    held[0].spend(30);
    drop(held);
    // What was not spent is there again.
    assert_eq!((run.money_left(), clients.money_left()), (Some(970), Some(970)));
    // Who is bound to nothing holds what it likes.
    let free = Stage::new(Vec::new()).key(None);
    assert!(free.money_left().is_none() && free.hold(u64::MAX).is_some());
}

#[test]
fn who_holds_a_secret_is_known_while_it_does() {
    let stage = Stage::new(vec![to("a.example")]);
    assert!(stage.held.holders("default", &name()).is_empty());
    let (one, again, clients) = (stage.secret(&[1]), stage.key(None), stage.client());
    assert_eq!(stage.held.holders("default", &name()), std::slice::from_ref(&stage.run));
    assert!(stage.held.holders("other", &name()).is_empty());
    drop(one);
    assert_eq!(stage.held.holders("default", &name()).len(), 1);
    drop((again, clients));
    assert!(stage.held.holders("default", &name()).is_empty());
}

#[test]
fn clients_uses_are_told_once() {
    let stage = Stage::new(Vec::new());
    let held = stage.client();
    for _ in 0..3 {
        called(&held).expect("authorised");
    }
    spend(&held, 5);
    let counted = AuditEvent::UseCounted {
        run: "gateway".to_owned(),
        secret: name(),
        host: "api.openai.com".to_owned(),
        uses: 3,
        complete: true,
        grant: None,
        cost_micro_usd: 0,
    };
    assert_eq!(stage.held.take_counts(), BTreeMap::from([("default".to_owned(), vec![counted])]));
    assert!(stage.held.take_counts().is_empty());
}

#[tokio::test]
async fn clients_calls_are_forgotten_when_they_are_over() {
    let held = HeldSecrets::default();
    let workspace: Arc<str> = "default".into();
    let call = || {
        LiveGrant::without_token(RunGrant {
            run: RunId::random(),
            workspace: "default".to_owned(),
            rules: Vec::new(),
            trials: Vec::new(),
            bindings: Vec::new(),
            limits: orch_proxy::Limits::of(1, 1),
            expires: tokio::time::Instant::now(),
        })
    };
    let kept = call();
    held.follow(&workspace, &kept);
    for _ in 0..10_000 {
        held.follow(&workspace, &call());
    }
    assert!(held.followed("default") <= 2 * 64, "{}", held.followed("default"));
    assert_eq!(held.cut_clients("default", "TOKEN"), 0, "nothing carries it");
    assert_eq!(Arc::weak_count(&kept), 1, "what is under way is not forgotten");
}

#[test]
fn a_grant_that_makes_no_sense_allows_nothing() {
    let mut stage = Stage::new(vec![to("a.example")]);
    let held = stage.secret(&[1]);
    let bad = GrantTerms { agents: vec!["nobody".to_owned()], ..to("a.example") };
    stage.vault.grant(&name(), bad).expect("the vault keeps texts");
    let failure = stage.held.open(&stage.vault, &name()).err().expect("refused");
    assert_eq!(failure.code(), "secret_invalid");
    stage.held.refresh(&stage.vault);
    assert!(used(&held, "a.example").is_err());
}
