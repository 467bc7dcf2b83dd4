use std::sync::mpsc;

use orch_gateway::{Candidate, Plan, Witness};
use orch_manifests::Slug;
use orch_proxy::Use;
use orch_vault::{AuditEvent, Clock, Custody, ExpectedVersion, GrantTerms, KeyChoice, Secret, SecretMeta};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::*;
use crate::failure::Kind;

const KEY: &str = "sk-0123456789abcdef0123456789abcdef";
const OTHER: &str = "sk-fedcba9876543210fedcba9876543210";
const HERE: &str = "default";

fn place() -> (TempDir, VaultLocation) {
    let folder = tempfile::tempdir().expect("a folder");
    let location = VaultLocation {
        store: folder.path().join("vault"),
        key_file: folder.path().join("vault.key"),
        workspace: HERE.to_owned(),
        custody: Custody::default(),
    };
    (folder, location)
}

fn rings() -> Rings {
    Rings { team: Ring::team(&HERE.into()), own: Ring::own(HERE, "alice"), platform: None }
}

async fn held(location: &VaultLocation) -> Arc<Keeper> {
    let catalog = Arc::new(Catalog::builtin());
    Arc::new(Keeper::hold(location.clone(), catalog).await.expect("the vault opens"))
}

fn put(vault: &mut Vault, name: &str, value: &str) -> Result<(), Failure> {
    let secret = Secret::new(value.as_bytes().to_vec());
    let name = name.parse().expect("a name");
    vault.set(&name, secret, SecretMeta::default(), ExpectedVersion::Any)?;
    Ok(())
}

async fn set(keeper: &Keeper, workspace: &str, name: &'static str, value: &'static str) {
    keeper.with_new(workspace, move |vault| put(vault, name, value)).await.expect("stored");
}

async fn plan(keeper: &Keeper, workspace: &str) -> Arc<Plan> {
    Arc::clone(&keeper.providers(&workspace.into()).await.expect("readable").plan)
}

/// What a call to this provider is authorised with; none when it is not at hand.
fn key_of(plan: &Plan, provider: &str) -> Option<String> {
    let slug: Slug = provider.parse().expect("a slug");
    let credential = Arc::clone(plan.provider(&slug)?.credential()?);
    let mut parts = http::Request::new(()).into_parts().0;
    let endpoint = "https://api.example.com".parse().expect("an endpoint");
    credential
        .authorize(&mut parts, None, Use::Own { endpoint: &endpoint, pinned: false })
        .expect("authorised");
    let value = parts.headers.values().next()?.to_str().expect("text").to_owned();
    Some(value.trim_start_matches("Bearer ").to_owned())
}

fn candidate(plan: &Plan) -> Candidate {
    plan.provider(&"openai".parse().expect("a slug")).expect("at hand").candidate("gpt-4o-mini")
}

fn planned(run: &str, host: &str) -> PlannedUse {
    let secret = "OPENAI_API_KEY".parse().expect("a name");
    PlannedUse { run: run.to_owned(), secret, host: host.to_owned(), grant: None }
}

/// Who used what where, as the audit log has it.
async fn audited(keeper: &Keeper, workspace: &str) -> Vec<String> {
    let records = keeper.with(workspace, |vault| Ok(vault.audit()?)).await.expect("an audit log");
    records
        .into_iter()
        .filter_map(|record| match record.event {
            AuditEvent::UsePlanned { run, secret, host, .. } => Some(format!("{run} {secret} {host}")),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn keys_are_opened_once_and_replaced_with_the_change() {
    let (_folder, location) = place();
    let keeper = held(&location).await;
    let nothing = plan(&keeper, HERE).await;
    assert!(nothing.at_hand.is_empty());

    set(&keeper, HERE, "OPENAI_API_KEY", KEY).await;
    let first = plan(&keeper, HERE).await;
    assert_eq!(key_of(&first, "openai").as_deref(), Some(KEY));
    assert!(Arc::ptr_eq(&first, &plan(&keeper, HERE).await), "opened once");

    set(&keeper, HERE, "OPENAI_API_KEY", OTHER).await;
    assert_eq!(key_of(&*plan(&keeper, HERE).await, "openai").as_deref(), Some(OTHER));
    assert_eq!(key_of(&first, "openai").as_deref(), Some(OTHER), "the next request of who has begun, too");

    let remove = |vault: &mut Vault| Ok(vault.remove(&"OPENAI_API_KEY".parse().expect("a name"))?);
    assert!(keeper.with(HERE, remove).await.expect("removed").is_some());
    assert!(plan(&keeper, HERE).await.at_hand.is_empty());
}

#[tokio::test]
async fn a_provider_has_every_key_of_its_name_and_a_bad_one_keeps_none_back() {
    let (_folder, location) = place();
    let keeper = held(&location).await;
    for (name, key) in [
        ("OPENAI_API_KEY", KEY),
        ("OPENAI_API_KEY_3", OTHER),
        ("OPENAI_API_KEY_2", "sk-0123456789 abcdefghij"),
    ] {
        set(&keeper, HERE, name, key).await;
    }
    let plan = plan(&keeper, HERE).await;
    let keys = &plan.provider(&"openai".parse().expect("a slug")).expect("at hand").keys;
    let names: Vec<&str> = keys.iter().map(|key| key.id()).collect();
    assert_eq!(
        names,
        ["OPENAI_API_KEY", "OPENAI_API_KEY_3"],
        "the first stands for them, and a blank is no key"
    );
    assert_eq!(keys[1].version(), Some(1), "what is learnt of it is of this version");
    set(&keeper, HERE, "OPENAI_API_KEY_3", KEY).await;
    assert_eq!(keys[1].version(), Some(2));
}

/// A name may become a key's long after its owner stored something else under it.
#[tokio::test]
async fn what_its_owner_lent_to_hosts_is_no_provider_s_key() {
    let (_folder, location) = place();
    let keeper = held(&location).await;
    set(&keeper, HERE, "OPENAI_API_KEY", KEY).await;
    let lend = |vault: &mut Vault| {
        let terms = GrantTerms { host: Some("proxy.example".to_owned()), ..GrantTerms::default() };
        let meta = SecretMeta { grants: Some(vec![terms]), ..SecretMeta::default() };
        let (name, value) = ("OPENAI_API_KEY_2".parse().expect("a name"), Secret::new(OTHER.into()));
        Ok(vault.set(&name, value, meta, ExpectedVersion::Any).map(|_| ())?)
    };
    keeper.with_new(HERE, lend).await.expect("stored");
    let plan = plan(&keeper, HERE).await;
    let keys = &plan.provider(&"openai".parse().expect("a slug")).expect("at hand").keys;
    let names: Vec<&str> = keys.iter().map(|key| key.id()).collect();
    assert_eq!(names, ["OPENAI_API_KEY"]);
}

#[tokio::test]
async fn workspaces_see_their_own_keys_only() {
    let (_folder, location) = place();
    let keeper = held(&location).await;
    set(&keeper, "mine", "OPENAI_API_KEY", KEY).await;
    set(&keeper, "theirs", "ANTHROPIC_API_KEY", OTHER).await;
    let (mine, theirs) = (plan(&keeper, "mine").await, plan(&keeper, "theirs").await);
    assert_eq!((mine.at_hand.len(), theirs.at_hand.len()), (1, 1));
    assert_eq!(key_of(&mine, "openai").as_deref(), Some(KEY));
    assert_eq!(key_of(&theirs, "anthropic").as_deref(), Some(OTHER));
    assert!(plan(&keeper, HERE).await.at_hand.is_empty());
    let names = |at: VaultAt<'_>| match at {
        VaultAt::Open(vault) => Ok(vault.list()?.len()),
        VaultAt::Rest(_) => Err(Failure::defect("it is held")),
    };
    assert_eq!(keeper.look("mine", names).await.expect("listed"), 1);
    assert_eq!(keeper.look(HERE, names).await.expect("listed"), 0);
}

#[tokio::test]
async fn any_name_of_a_key_counts_and_what_no_header_carries_does_not() {
    let (_folder, location) = place();
    let keeper = held(&location).await;
    set(&keeper, HERE, "GOOGLE_API_KEY", KEY).await;
    set(&keeper, HERE, "OPENAI_API_KEY", "sk-with a blank in its middle").await;
    let plan = plan(&keeper, HERE).await;
    assert_eq!(key_of(&plan, "gemini").as_deref(), Some(KEY));
    assert_eq!(key_of(&plan, "openai"), None);
}

#[test]
fn an_expired_key_is_none_and_is_not_kept() {
    struct At(i64);
    impl Clock for At {
        fn now(&self) -> OffsetDateTime {
            OffsetDateTime::from_unix_timestamp(self.0).expect("a time")
        }
    }
    let (_folder, location) = place();
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let open = |later| {
        Vault::open_with_clock(&location, OpenMode::Create, Box::new(At(now + later))).expect("opens")
    };
    let held = HeldSecrets::default();
    let name = "OPENAI_API_KEY".parse().expect("a name");
    let meta = SecretMeta { expires: Some(At(now + 3_600).now()), ..SecretMeta::default() };
    let secret = Secret::new(KEY.as_bytes().to_vec());
    open(0).set(&name, secret, meta, ExpectedVersion::Any).expect("stored");

    let catalog = Catalog::builtin();
    let before =
        ProviderKeys::open(&open(3_599), &held, &catalog, &Ring::team(&HERE.into())).expect("opened");
    assert_eq!(key_of(&before.plan, "openai").as_deref(), Some(KEY));
    assert!(before.are_fresh());
    let after = ProviderKeys::open(&open(3_600), &held, &catalog, &Ring::team(&HERE.into())).expect("opened");
    assert_eq!(key_of(&after.plan, "openai"), None);
    assert!(after.are_fresh());
}

#[tokio::test]
async fn a_vault_that_is_not_held_is_free_between_uses() {
    let (_folder, location) = place();
    let keeper = Keeper::new(location.clone(), Arc::new(Catalog::builtin()));
    let at_rest = |at: VaultAt<'_>| Ok(matches!(at, VaultAt::Rest(location) if !location.store.exists()));
    assert!(keeper.look(HERE, at_rest).await.expect("looked"), "looking makes nothing");
    let refused = keeper.with(HERE, |vault| put(vault, "OPENAI_API_KEY", KEY)).await;
    assert_eq!(refused.map_err(|failure| failure.kind()), Err(Kind::Usage), "there is none to change");
    let refused = keeper.record_uses(HERE, vec![planned("run_x", "api.openai.com")]).await;
    assert!(refused.is_err(), "nor one to write to");

    set(&keeper, HERE, "OPENAI_API_KEY", KEY).await;
    let mut elsewhere = Vault::open(&location, OpenMode::WriteIfExists).expect("nobody has it");
    put(&mut elsewhere, "OPENAI_API_KEY", OTHER).expect("changed by somebody else");
    drop(elsewhere);
    assert_eq!(key_of(&*plan(&keeper, HERE).await, "openai").as_deref(), Some(OTHER), "nothing is kept");
}

#[tokio::test]
async fn dropping_the_keeper_closes_the_vault() {
    let (_folder, location) = place();
    let keeper = held(&location).await;
    set(&keeper, HERE, "OPENAI_API_KEY", KEY).await;
    drop(keeper);
    let vault = Vault::open(&location, OpenMode::ReadOnlyIfExists).expect("nobody has it");
    assert_eq!(vault.list().expect("listed").len(), 1);
}

#[tokio::test]
async fn uses_that_wait_together_share_a_commit() {
    let (_folder, location) = place();
    let keeper = held(&location).await;
    for workspace in [HERE, "other"] {
        set(&keeper, workspace, "OPENAI_API_KEY", KEY).await;
    }
    let (open, gate) = mpsc::channel::<()>();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let busy = keeper.with(HERE, move |_| Ok(begun.send(()).is_ok() && gate.recv().is_ok()));
    // Within one commit the same use is one record; two commits would leave two.
    let first = keeper.record_uses(HERE, vec![planned("run_a", "a.example"), planned("run_a", "b.example")]);
    let second = keeper.record_uses(HERE, vec![planned("run_a", "a.example")]);
    let third = keeper.record_uses("other", vec![planned("run_b", "a.example")]);
    let release = async { open.send(()).expect("it waits") };
    let waiting = async {
        // Nothing that comes before may be taken up together with it.
        begins.await.expect("it begins");
        tokio::join!(first, second, third, release)
    };
    let (busy, (first, second, third, ())) = tokio::join!(busy, waiting);
    assert!(busy.expect("done"));
    first.and(second).and(third).expect("on record");
    let here = audited(&keeper, HERE).await;
    assert_eq!(here, ["run_a OPENAI_API_KEY a.example", "run_a OPENAI_API_KEY b.example"]);
    assert_eq!(audited(&keeper, "other").await, ["run_b OPENAI_API_KEY a.example"]);
    keeper.record_uses(HERE, vec![planned("run_a", "a.example")]).await.expect("on record");
    assert_eq!(audited(&keeper, HERE).await.len(), 3, "a commit of its own");
}

#[tokio::test]
async fn a_job_that_panics_closes_the_vault() {
    let (_folder, location) = place();
    let keeper = held(&location).await;
    let panicked = keeper.with(HERE, |_| -> Result<(), Failure> { panic!("a defect") }).await;
    assert_eq!(panicked.map_err(|failure| failure.code().to_owned()), Err("vault_closed".to_owned()));
    let after = keeper.look(HERE, |_| Ok(())).await.expect_err("closed");
    assert_eq!((after.kind(), after.code()), (Kind::Vault, "vault_closed"));
    drop(keeper);
    Vault::open(&location, OpenMode::ReadOnlyIfExists).expect("nobody has it");
}

#[tokio::test]
async fn each_token_s_use_is_on_record_once() {
    let (_folder, location) = place();
    let keeper = held(&location).await;
    set(&keeper, HERE, "OPENAI_API_KEY", KEY).await;
    let plan = plan(&keeper, HERE).await;
    let candidate = candidate(&plan);
    let witness = |token: &str| ClientWitness::new(&keeper, rings(), &token.into());
    let (one, again, other) = (witness("tok_1"), witness("tok_1"), witness("tok_2"));
    let all =
        tokio::join!(one.before_use(&candidate), again.before_use(&candidate), other.before_use(&candidate));
    assert_eq!(all, (Ok(()), Ok(()), Ok(())));
    assert_eq!(one.before_use(&candidate).await, Ok(()));
    let mut audit = audited(&keeper, HERE).await;
    audit.sort();
    let expected = ["tok_1", "tok_2"].map(|t| format!("gateway:{t} OPENAI_API_KEY api.openai.com"));
    assert_eq!(audit, expected);

    let mut keyless = candidate;
    keyless.credential = None;
    assert_eq!(witness("tok_3").before_use(&keyless).await, Ok(()));
    assert_eq!(audited(&keeper, HERE).await.len(), 2);
}

#[tokio::test]
async fn a_use_that_cannot_be_recorded_is_refused_until_it_can() {
    let (folder, location) = place();
    let keeper = Arc::new(Keeper::new(location.clone(), Arc::new(Catalog::builtin())));
    set(&keeper, HERE, "OPENAI_API_KEY", KEY).await;
    let plan = plan(&keeper, HERE).await;
    let candidate = candidate(&plan);
    let aside = folder.path().join("aside");
    std::fs::rename(&location.store, &aside).expect("moved");
    let witness = ClientWitness::new(&keeper, rings(), &"tok_1".into());
    let refused = witness.before_use(&candidate).await.expect_err("not on record");
    assert_eq!((refused.status, refused.code.as_deref()), (Some(503), Some("orch_vault")));

    std::fs::rename(&aside, &location.store).expect("moved back");
    assert_eq!(witness.before_use(&candidate).await, Ok(()));
    assert_eq!(audited(&keeper, HERE).await.len(), 1);
}

#[tokio::test]
async fn what_has_happened_makes_no_vault_and_asks_nobody() {
    let (_folder, location) = place();
    let refused = || {
        vec![AuditEvent::Denied {
            run: "r".to_owned(),
            host: String::new(),
            reason: "not_granted".to_owned(),
        }]
    };
    let catalog = || Arc::new(Catalog::builtin());
    let keeper = Keeper::new(location.clone(), catalog());
    keeper.record_after(HERE, refused()).await.expect("nothing to hold it");
    assert!(!location.store.exists());

    let words = || Ok(Secret::new(b"correct horse battery staple".to_vec()));
    let custody = Custody::new(KeyChoice::Passphrase);
    let told = VaultLocation {
        custody: custody.clone().with_passphrase(Arc::new(move |_| words())),
        ..location.clone()
    };
    put(&mut Vault::open(&told, OpenMode::Create).expect("made"), "OPENAI_API_KEY", KEY).expect("stored");
    let never = custody.with_passphrase(Arc::new(|_| panic!("nobody is to be asked")));
    let keeper = Keeper::new(VaultLocation { custody: never, ..location }, catalog());
    assert_eq!(keeper.record_after(HERE, refused()).await.expect_err("it is closed").code(), "vault_key");

    // Whose passphrase was given for the run's keys is not asked for it again.
    let keeper = Keeper::new(told.clone(), catalog());
    drop(Vault::open(&told, OpenMode::ReadOnlyIfExists).expect("opens"));
    keeper.record_after(HERE, refused()).await.expect("on record");
    let log = keeper.with(HERE, |vault| Ok(vault.audit()?)).await.expect("an audit log");
    assert!(log.iter().any(|record| matches!(record.event, AuditEvent::Denied { .. })));
}

#[tokio::test]
async fn a_member_s_keys_are_nobody_else_s_and_none_of_the_workspace_s() {
    let (_folder, location) = place();
    let keeper = held(&location).await;
    let (alice, bob) = (Ring::own(HERE, "alice"), Ring::own(HERE, "bob"));
    set(&keeper, HERE, "OPENAI_API_KEY", KEY).await;
    set(&keeper, &alice.part, "OPENAI_API_KEY", OTHER).await;
    let plan_of = async |ring: &Ring| Arc::clone(&keeper.keys_of(ring).await.expect("readable").plan);
    let (hers, his) = (plan_of(&alice).await, plan_of(&bob).await);
    assert_eq!(key_of(&hers, "openai").as_deref(), Some(OTHER));
    assert!(!his.has_keys() && !plan_of(&Ring::own("other", "alice")).await.has_keys());
    assert_eq!(key_of(&*plan(&keeper, HERE).await, "openai").as_deref(), Some(KEY));
    let credential =
        hers.provider(&"openai".parse().expect("a slug")).expect("at hand").credential().cloned();
    let credential = credential.expect("a key");
    assert_eq!((credential.id(), credential.whose()), ("own/alice/OPENAI_API_KEY", Whose::Own));

    // The name of her part is no workspace that anybody could be in, and what lies there is not the workspace's.
    let listed = |at: VaultAt<'_>| match at {
        VaultAt::Open(vault) => Ok(vault.list()?.len()),
        VaultAt::Rest(_) => Err(Failure::defect("it is held")),
    };
    assert_eq!(keeper.look(HERE, listed).await.expect("listed"), 1);

    // Replaced and removed without anybody else's key changing.
    set(&keeper, &alice.part, "OPENAI_API_KEY", KEY).await;
    assert_eq!(key_of(&*plan_of(&alice).await, "openai").as_deref(), Some(KEY));
    let remove = |vault: &mut Vault| Ok(vault.remove(&"OPENAI_API_KEY".parse().expect("a name"))?);
    assert!(keeper.with(&alice.part, remove).await.expect("removed").is_some());
    assert!(!plan_of(&alice).await.has_keys());
    assert_eq!(key_of(&*plan(&keeper, HERE).await, "openai").as_deref(), Some(KEY));
}

#[tokio::test]
async fn a_use_is_on_record_where_its_secret_lies() {
    let (_folder, location) = place();
    let keeper = held(&location).await;
    let alice = Ring::own(HERE, "alice");
    set(&keeper, &alice.part, "OPENAI_API_KEY", KEY).await;
    let hers = candidate(&keeper.keys_of(&alice).await.expect("readable").plan);
    let witness = ClientWitness::new(&keeper, rings(), &"tok_1".into());
    assert_eq!(witness.before_use(&hers).await, Ok(()));
    assert_eq!(audited(&keeper, &alice.part).await, ["gateway:tok_1 OPENAI_API_KEY api.openai.com"]);
    // Who looks after the workspace sees it, and nobody else does.
    assert_eq!(audited(&keeper, HERE).await.len(), 1);
    assert!(audited(&keeper, "other").await.is_empty());
    assert!(audited(&keeper, &Ring::own(HERE, "al").part).await.is_empty());
}
