//! `orch byok status`: who is active, where the key comes from, and who is billed.

use orch_manifests::{Auth, Provider};
use orch_server::Failure;
use serde_json::{Value, json};

use super::active::{Active, Place, chosen};
use super::keys::{Holder, KeyAt, KeysAt};
use crate::commands::secrets::Keeping;
use crate::printer::Printer;
use crate::wire::{Installation, broken_pipe};

/// What there is to say of the active provider.
pub(crate) struct Status {
    active: Option<(Active, Option<KeyAt>)>,
    warnings: Vec<String>,
    /// The workspace's policy, at a server elsewhere.
    policy: Option<String>,
}

impl Status {
    /// Looks at what is active, and at its key.
    ///
    /// # Errors
    /// When what was chosen cannot be read, or the server cannot be asked.
    pub(crate) fn look(here: &Installation, local: bool) -> Result<Self, Failure> {
        let place = Place::of(here, local)?;
        let super::active::Chosen { active, warnings } = chosen(here, &place, false)?;
        let keys = KeysAt::look(here, Keeping::find(here, local)?)?;
        let policy = match &keys {
            KeysAt::Here(..) => None,
            KeysAt::There(there) => Some(there.registered.policy.clone()),
        };
        let active = match active {
            Some(active) => {
                let key = keys.of(&active.provider)?;
                Some((active, key))
            }
            None => None,
        };
        Ok(Self { active, warnings, policy })
    }

    fn document(&self) -> Value {
        let active = self.active.as_ref().map(|(active, key)| {
            json!({
                "provider": active.named, "name": active.provider.name, "model": active.model,
                "chosen_by": active.by.as_str(), "key": key.as_ref().map(KeyAt::document),
                "billed": billed(&active.provider, key.as_ref()),
            })
        });
        json!({ "active": active, "policy": self.policy, "warnings": self.warnings })
    }

    /// What is said of it, line by line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let Some((active, key)) = &self.active else {
            return vec![
                "No provider is active: agents think with what they name themselves.".to_owned(),
                "orch byok set PROVIDER stores a key and makes its provider active.".to_owned(),
            ];
        };
        let Active { provider, named, model, by } = active;
        let by = match by {
            super::By::Environment => "ORCH_BYOK_PROVIDER",
            super::By::Command => "orch byok",
        };
        let mut lines = vec![
            format!("Active provider: {named} ({}), chosen by {by}", provider.name),
            match model {
                Some(model) => format!("Model: {model}"),
                None => "Model: what agents name".to_owned(),
            },
        ];
        lines.push(match key {
            Some(key) => key_line(key),
            None if provider.auth == Auth::None => "Key: none is wanted".to_owned(),
            None => format!("Key: none; store one with: orch byok set {}", provider.slug),
        });
        lines.push(format!("Billed: {}", billed(provider, key.as_ref())));
        if let Some(policy) = &self.policy {
            lines.push(format!("Policy of the workspace: {policy}"));
        }
        lines
    }

    /// The same in one line, and whether the key is there.
    pub(crate) fn short(&self) -> (bool, String) {
        let Some((active, key)) = &self.active else {
            return (true, "no active provider: agents think with what they name themselves".to_owned());
        };
        let slug = &active.named;
        let model = active.model.as_ref().map(|model| format!(", {model}")).unwrap_or_default();
        match key {
            Some(key) => (true, format!("{slug}{model}, with {} from {}", key.name, key.holder.place())),
            None if active.provider.auth == Auth::None => {
                (true, format!("{slug}{model}, which wants no key"))
            }
            None => (false, format!("{slug}{model}, for which there is no key")),
        }
    }

    /// How to get the key that is missing.
    pub(crate) fn hint(&self) -> Option<String> {
        let (active, _) = self.active.as_ref().filter(|(_, key)| key.is_none())?;
        Some(format!("orch byok set {}", active.provider.slug))
    }
}

fn key_line(key: &KeyAt) -> String {
    let mut line = format!("Key: {} from {}", key.name, key.holder.place());
    if let Some(version) = key.version {
        line.push_str(&format!(", version {version}"));
    }
    if let Some(four) = &key.last_four {
        line.push_str(&format!(", ends in …{four}"));
    }
    line
}

/// Who pays the provider.
fn billed(provider: &Provider, key: Option<&KeyAt>) -> String {
    let name = &provider.name;
    match key.map(|key| key.holder) {
        Some(Holder::Environment | Holder::Vault | Holder::Own) => {
            format!("your account at {name}, by {name} itself")
        }
        Some(Holder::Team) => format!("the workspace's account at {name}"),
        Some(Holder::Platform) => format!("the account of the server's operator at {name}"),
        None if provider.auth == Auth::None => "nobody".to_owned(),
        None => "nobody, for there is no key".to_owned(),
    }
}

pub(super) fn run(here: &Installation, local: bool, printer: Printer) -> Result<(), Failure> {
    let status = Status::look(here, local)?;
    if printer.json() {
        return printer.result_json(&status.document()).or_else(broken_pipe);
    }
    for warning in &status.warnings {
        printer.warn(warning);
    }
    printer.result(&status.lines().join("\n")).or_else(broken_pipe)
}
