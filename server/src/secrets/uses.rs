//! Who uses a secret, and who would miss it.

use orch_manifests::{Catalog, Manifest};
use orch_vault::{SecretName, SecretSummary};
use serde_json::{Value, json};

use super::listed;
use crate::agent::Agent;
use crate::failure::Failure;
use crate::home::Home;
use crate::permissions::{Capability, Remembered};
use crate::store::Store;

/// Who uses a secret, as far as it is on record.
pub struct Uses {
    secret: SecretSummary,
    /// Who was granted it, and by what.
    granted: Vec<Value>,
    /// The agents that ask for it.
    agents: Vec<Value>,
    /// The runs under way that use it; none where nobody follows them.
    pub(crate) under_way: Option<Vec<String>>,
}

impl Uses {
    /// What the secret's own grants say.
    #[must_use]
    pub fn of(secret: &SecretSummary) -> Self {
        let mut granted = Vec::new();
        for grant in &secret.grants {
            for agent in &grant.terms.agents {
                granted.push(json!({
                    "agent": agent, "by": "secret", "grant": grant.id.get(), "host": grant.terms.host,
                    "digest": null,
                }));
            }
        }
        Self { secret: secret.clone(), granted, agents: Vec::new(), under_way: None }
    }

    /// Adds the grants of the workspace, and the agents that were published and those that come with `orch`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn add_store(
        &mut self,
        store: &Store,
        workspace: &str,
        catalog: &Catalog,
    ) -> Result<(), Failure> {
        for row in store.grants(workspace).await? {
            for text in &row.capabilities {
                self.add_grant("workspace", row.agent.as_str(), &row.digest.to_string(), text);
            }
        }
        let mut published = Vec::new();
        for agent in store.agents().await? {
            let versions = store.versions(&agent.name).await?;
            let Some(latest) = versions.into_iter().find(|row| row.version == agent.latest) else { continue };
            let Some(row) = store.agent(&latest.digest).await? else { continue };
            // What was published was a manifest then; what is none any more asks for nothing.
            if let Ok(manifest) = Manifest::parse(&row.manifest, row.format, agent.name.as_str()) {
                published.push(manifest);
            }
        }
        self.add_builtins(catalog, &published)?;
        for manifest in &published {
            self.add_agent(manifest, catalog);
        }
        Ok(())
    }

    /// Adds what was remembered on this machine.
    fn add_remembered(&mut self, remembered: &Remembered) {
        for (agent, digest, text) in remembered.all() {
            self.add_grant("remembered", agent.as_str(), &digest.to_string(), text);
        }
    }

    fn add_builtins(&mut self, catalog: &Catalog, published: &[Manifest]) -> Result<(), Failure> {
        for agent in Agent::builtins() {
            let manifest = agent?.manifest;
            // What was published goes before what comes with `orch`.
            if !published.iter().any(|known| known.name == manifest.name) {
                self.add_agent(&manifest, catalog);
            }
        }
        Ok(())
    }

    fn add_grant(&mut self, by: &str, agent: &str, digest: &str, capability: &str) {
        if let Some(host) = Capability::host_of_secret(capability, self.secret.name.as_str()) {
            self.granted
                .push(json!({ "agent": agent, "by": by, "grant": null, "host": host, "digest": digest }));
        }
    }

    fn add_agent(&mut self, manifest: &Manifest, catalog: &Catalog) {
        if let Some(why) = why(manifest, &self.secret.name, catalog) {
            self.agents.push(json!({
                "name": manifest.name.as_str(), "version": manifest.version.to_string(), "asks_for": why,
            }));
        }
    }

    /// All of it, with the secret as it is listed.
    #[must_use]
    pub fn document(&self, catalog: &Catalog) -> Value {
        let mut document = listed(&self.secret, catalog);
        document["granted"] = json!(self.granted);
        document["agents"] = json!(self.agents);
        document["under_way"] = json!(self.under_way);
        document
    }
}

/// As what an agent asks for a secret, if it does.
fn why(manifest: &Manifest, name: &SecretName, catalog: &Catalog) -> Option<&'static str> {
    match catalog.provider_of_key(name.as_str()) {
        Some(provider) => manifest.supported_providers.allows(provider).then_some("provider"),
        None => manifest.secrets.iter().any(|want| want.name.as_str() == name.as_str()).then_some("secret"),
    }
}

/// The uses of a secret of this home, whose vault no server holds. Makes nothing that is not there.
///
/// # Errors
/// When the store or the remembered grants cannot be read.
pub async fn uses_here(
    home: &Home,
    workspace: &str,
    secret: &SecretSummary,
    catalog: &Catalog,
) -> Result<Value, Failure> {
    let mut uses = Uses::of(secret);
    uses.add_remembered(&Remembered::load(&home.grants_file())?);
    let folder = home.data().to_owned();
    if Store::is_in(&folder) {
        let opened = tokio::task::spawn_blocking(move || Store::open(&folder)).await;
        let store = opened.map_err(|e| Failure::defect(format!("opening the store ended early: {e}")))??;
        uses.add_store(&store, workspace, catalog).await?;
    } else {
        uses.add_builtins(catalog, &[])?;
    }
    Ok(uses.document(catalog))
}
