//! What a run on the command line leaves in the vault's log, however it ends.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;

use futures_util::FutureExt as _;
use orch_manifests::Format;
use orch_vault::{Custody, ExpectedVersion, Secret, SecretMeta};

use super::*;
use crate::agent::Agent;
use crate::permissions::{Answer, Question};
use crate::stage::ONE_MODEL;

const KEY: &str = "sk-0123456789abcdef0123456789abcdef";

/// Somebody who says yes, and has it remembered.
struct Always;

impl Observer for Always {
    fn event(&self, _: Event<'_>) {}

    fn ask(&self, _: &Question) -> Answer {
        Answer::Remember
    }
}

struct Stage {
    broker: Broker,
    _folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let set = BTreeMap::from([("ORCH_HOME".to_owned(), folder.path().display().to_string())]);
        let home = Home::locate(&Environment::Fixed(set)).expect("a home");
        let vault = VaultLocation {
            store: home.vault(),
            key_file: home.vault_key(),
            workspace: "default".to_owned(),
            custody: Custody::default(),
        };
        let program = PathBuf::from("/nonexistent/orch");
        let environment = Environment::Fixed(BTreeMap::new());
        let config = Config::default();
        let catalog = config.catalog().expect("a catalog");
        Self { broker: Broker::new(environment, home, config, catalog, vault, &program), _folder: folder }
    }

    fn store(&self, name: &str) {
        let mut vault = Vault::open(&self.broker.vault, OpenMode::Create).expect("a vault");
        let (name, secret) = (name.parse().expect("a name"), Secret::new(KEY.as_bytes().to_vec()));
        vault.set(&name, secret, SecretMeta::default(), ExpectedVersion::Any).expect("stored");
    }

    fn log(&self) -> Vec<AuditEvent> {
        let vault = Vault::open(&self.broker.vault, OpenMode::ReadOnlyIfExists).expect("a vault");
        vault.audit().expect("a log").into_iter().map(|record| record.event).collect()
    }

    async fn run(&self, rest: &str) -> Result<Report, Failure> {
        let text = format!("name: acme/x\nversion: 1.2.3\nmodule: x.wasm\n{rest}");
        let module = bytes::Bytes::from_static(b"\0asm");
        let agent = Agent::from_parts(&text, Format::Yaml, module, &Catalog::builtin()).expect("an agent");
        self.broker.run(RunRequest::new(agent), &Always, watch::Sender::new(0).subscribe()).await
    }
}

#[tokio::test]
async fn a_run_that_panics_leaves_a_count_that_is_not_complete() {
    let stage = Stage::new();
    stage.store("OPENAI_API_KEY");
    let act: Box<dyn FnOnce() + Send> = Box::new(|| panic!("a test wants the execution to panic"));
    *stage.broker.in_next_execution.lock().expect("nobody panicked with it") = Some(act);
    let done = AssertUnwindSafe(stage.run(ONE_MODEL)).catch_unwind().await;
    assert!(done.is_err(), "it panicked");
    let log = stage.log();
    let Some(AuditEvent::UseCounted { uses: 0, complete: false, host, .. }) = log.last() else {
        panic!("{log:?}")
    };
    assert_eq!(host, "api.openai.com");
}

/// As after a second interrupt: nobody polls it any more.
#[tokio::test]
async fn a_run_that_is_dropped_leaves_a_count_that_is_not_complete() {
    let stage = Stage::new();
    stage.store("OPENAI_API_KEY");
    // It would wait for its turn on a runtime that this loop does not give back.
    stage.broker.prove().await.expect("the proxy's self-test holds");
    let mut run = Box::pin(stage.run(ONE_MODEL));
    let planned = || stage.log().iter().any(|event| matches!(event, AuditEvent::UsePlanned { .. }));
    while !planned() {
        assert!(futures_util::poll!(run.as_mut()).is_pending(), "it waits for its worker");
    }
    drop(run);
    assert!(matches!(stage.log().last(), Some(AuditEvent::UseCounted { complete: false, .. })));
}

#[tokio::test]
async fn a_remembered_answer_is_on_record_where_there_is_a_vault() {
    let egress = "egress: [{ host: api.example.com }]\n";
    let without = Stage::new();
    without.run(egress).await.expect_err("no worker");
    assert!(!without.broker.vault.store.exists(), "no vault is made for it");
    let stage = Stage::new();
    stage.store("OTHER");
    for _ in 0..2 {
        stage.run(egress).await.expect_err("no worker");
    }
    let log = stage.log();
    let granted: Vec<_> = log.iter().filter(|event| matches!(event, AuditEvent::Granted { .. })).collect();
    let [AuditEvent::Granted { agent, capabilities: 1, .. }] = granted[..] else { panic!("{log:?}") };
    assert_eq!(agent, "acme/x");
}
