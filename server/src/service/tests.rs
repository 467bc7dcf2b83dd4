//! Runs of a service whose program cannot be started: each is accepted, waits, is prepared, and fails at its worker.

use std::path::PathBuf;

use orch_manifests::Format;
use orch_vault::{AuditEvent, ExpectedVersion, FlagKey, Secret, SecretMeta};

use super::queue::Turn;
use super::*;
use crate::agent::Agent;
use crate::stage::ONE_MODEL;
use crate::store::{EventKind, RunRow, RunStatus};

mod ends;
mod waiting;

const KEY: &str = "sk-0123456789abcdef0123456789abcdef";
const WORKSPACE: &str = "default";

/// A service that executes one run at a time, in a folder that goes with it.
struct Stage {
    service: Arc<Service>,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let service = Service::open(parts(&folder), Mode::Serve).await.expect("a service");
        Self { service, folder }
    }

    /// The one turn that there is.
    fn turn(&self) -> Turn {
        self.service.queue.try_turn().expect("nobody has it")
    }

    async fn submit(&self, request: RunRequest) -> RunId {
        self.service.submit(&Caller::owner(), request).await.expect("accepted")
    }

    async fn row(&self, run: &RunId) -> RunRow {
        self.service.store().run(WORKSPACE, run).await.expect("readable").expect("on record")
    }

    /// How it ended: its status, exit code and the code of its error.
    async fn end(&self, run: &RunId) -> (RunStatus, u8, String) {
        self.service.ended(run).await;
        let row = self.row(run).await;
        let code = row.error.as_ref().and_then(|error| error["code"].as_str()).unwrap_or_default().to_owned();
        (row.status, row.exit_code.expect("an end"), code)
    }

    async fn set_secret(&self, name: &'static str, value: &'static str) {
        let set = move |vault: &mut orch_vault::Vault| {
            let name = name.parse().expect("a name");
            vault.set(&name, secret(value), SecretMeta::default(), ExpectedVersion::Any)?;
            Ok(())
        };
        self.service.keeper().with_new(WORKSPACE, set).await.expect("stored");
    }

    /// What was told of a run and is on record: kinds and texts.
    async fn told(&self, run: &RunId) -> Vec<(EventKind, String)> {
        let events = self.service.store().events(run, 0, 1000).await.expect("readable");
        events.into_iter().map(|event| (event.kind, event.text)).collect()
    }
}

fn parts(folder: &tempfile::TempDir) -> Parts {
    let set = BTreeMap::from([("ORCH_HOME".to_owned(), folder.path().display().to_string())]);
    let home = Home::locate(&Environment::Fixed(set)).expect("a home");
    let config = Config { max_running: 1, ..Config::default() };
    let vault = VaultLocation {
        store: home.vault(),
        key_file: home.vault_key(),
        workspace: WORKSPACE.to_owned(),
        custody: orch_vault::Custody::default(),
    };
    let catalog = config.catalog().expect("a catalog");
    let program = PathBuf::from("/nonexistent/orch");
    let environment = Environment::Fixed(BTreeMap::new());
    Parts { home, config, catalog, vault, program, simulate: None, environment }
}

/// An agent whose manifest goes on like this, and whose module has nothing but its first bytes.
fn agent(rest: &str) -> Agent {
    let text = format!("name: acme/x\nversion: 1.2.3\nmodule: x.wasm\n{rest}");
    let module = bytes::Bytes::from_static(b"\0asm");
    Agent::from_parts(&text, Format::Yaml, module, &Catalog::builtin()).expect("an agent")
}

fn secret(value: &str) -> Secret {
    Secret::new(value.as_bytes().to_vec())
}

/// A run of an agent that thinks, with a key for it.
fn with_key(agent: impl Into<Arc<Agent>>) -> RunRequest {
    let mut request = RunRequest::new(agent);
    request.keys.push(FlagKey { provider: None, secret: secret(KEY) });
    request
}
