//! Where keys lie: the environment, for names of the catalog alone, and the vault.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use orch_manifests::Catalog;
use orch_vault::{Lookup, OpenMode, Secret, SecretName, Vault, VaultError, VaultLocation, Version};

use crate::environment::Environment;
use crate::failure::Failure;
use crate::secret::{HeldSecrets, LiveSecret};

/// Key variables that a caller sent along from its own environment, by name.
pub type CallerKeys = BTreeMap<String, Secret>;

/// Whose environment is looked at.
#[derive(Clone, Copy)]
pub(crate) enum Variables<'a> {
    /// This process's.
    Own(&'a Environment),
    /// What a caller of the server sent along. The environment of the server itself is never a source.
    Callers(&'a CallerKeys),
}

/// Where the vault is.
enum Rows<'a> {
    /// On disk. It is opened when it is first asked: a run whose keys are all elsewhere works without one. It stays
    /// open, and locked, until this is dropped. What is opened of it is held there, where somebody will read it again.
    AtRest(&'a VaultLocation, Box<OnceCell<Vault>>, Option<&'a HeldSecrets>),
    /// Open already, in the hands of the server, with what is held of it.
    Open(&'a Vault, &'a HeldSecrets),
}

/// The layers below the command line.
///
/// The environment has no owner who said where a value may go, so it is a source for names of the catalog only.
pub struct KeySources<'a> {
    variables: Variables<'a>,
    catalog: &'a Catalog,
    rows: Rows<'a>,
}

impl<'a> KeySources<'a> {
    /// The environment of this process, and the vault at this place. Reads nothing yet.
    #[must_use]
    pub fn new(environment: &'a Environment, catalog: &'a Catalog, location: &'a VaultLocation) -> Self {
        Self::at_rest(Variables::Own(environment), catalog, location)
    }

    /// These variables, and the vault at this place. Reads nothing yet.
    pub(crate) fn at_rest(
        variables: Variables<'a>,
        catalog: &'a Catalog,
        location: &'a VaultLocation,
    ) -> Self {
        Self { variables, catalog, rows: Rows::AtRest(location, Box::default(), None) }
    }

    /// What is opened of the vault can be brought up to date there.
    pub(crate) fn held_in(mut self, held: &'a HeldSecrets) -> Self {
        if let Rows::AtRest(_, _, in_hands) = &mut self.rows {
            *in_hands = Some(held);
        }
        self
    }

    /// These variables, and a vault that is open; what is opened of it follows its changes.
    pub(crate) fn open(
        variables: Variables<'a>,
        catalog: &'a Catalog,
        vault: &'a Vault,
        held: &'a HeldSecrets,
    ) -> Self {
        Self { variables, catalog, rows: Rows::Open(vault, held) }
    }

    /// The value of a key variable; none when the name is not the catalog's, or nothing is in it.
    pub(super) fn in_environment(&self, name: &str) -> Option<Secret> {
        if !self.of_catalog(name) {
            return None;
        }
        match self.variables {
            Variables::Own(environment) => environment.provider_key(name, self.catalog),
            Variables::Callers(keys) => {
                keys.get(name).map(|key| key.expose(|bytes| Secret::new(bytes.to_vec())))
            }
        }
    }

    /// Decrypts a secret of the vault; none when there is none of this name.
    pub(super) fn in_vault(&self, name: &SecretName) -> Result<Option<Arc<LiveSecret>>, Failure> {
        if let Rows::Open(_, held) | Rows::AtRest(_, _, Some(held)) = &self.rows {
            return held.open(self.opened()?, name);
        }
        let opened = self.opened()?.open_secret(name)?;
        opened.map(|(secret, summary)| LiveSecret::new(secret, summary)).transpose()
    }

    fn of_catalog(&self, name: &str) -> bool {
        self.catalog.provider_of_key(name).is_some()
    }

    fn opened(&self) -> Result<&Vault, VaultError> {
        let (location, vault) = match &self.rows {
            Rows::Open(vault, _) => return Ok(vault),
            Rows::AtRest(location, vault, _) => (location, vault),
        };
        if let Some(vault) = vault.get() {
            return Ok(vault);
        }
        let opened = Vault::open(location, OpenMode::ReadOnlyIfExists)?;
        Ok(vault.get_or_init(|| opened))
    }
}

impl Lookup for KeySources<'_> {
    fn env(&self, name: &str) -> bool {
        self.in_environment(name).is_some()
    }

    fn vault(&self, name: &str) -> Result<Option<u64>, VaultError> {
        // What is not a secret's name cannot be in the vault.
        let Ok(name) = name.parse::<SecretName>() else { return Ok(None) };
        Ok(self.opened()?.version(&name)?.map(Version::get))
    }
}
