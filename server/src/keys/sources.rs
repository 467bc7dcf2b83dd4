//! Where keys lie: the environment, for names of the catalog alone, and the vault.

use std::cell::OnceCell;
use std::ffi::OsString;

use orch_manifests::Catalog;
use orch_vault::{
    Layers, Lookup, OpenMode, Secret, SecretMeta, SecretName, Vault, VaultError, VaultLocation,
};

use crate::environment::Environment;
use crate::failure::Failure;

/// The layers below the command line.
///
/// The environment has no owner who said where a value may go, so it is a source for names of the catalog only. The
/// vault is opened when it is first asked: a run whose keys are all elsewhere works without one. It stays open, and
/// locked, until this is dropped.
pub struct KeySources<'a> {
    environment: &'a Environment,
    catalog: &'a Catalog,
    location: &'a VaultLocation,
    vault: OnceCell<Vault>,
}

impl<'a> KeySources<'a> {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(environment: &'a Environment, catalog: &'a Catalog, location: &'a VaultLocation) -> Self {
        Self { environment, catalog, location, vault: OnceCell::new() }
    }

    /// The value of a key variable; none when the name is not the catalog's, or nothing is in it.
    pub(super) fn in_environment(&self, name: &str) -> Option<Secret> {
        self.of_catalog(name).then(|| self.environment.key(name)).flatten()
    }

    /// Decrypts a secret of the vault; none when there is none of this name.
    pub(super) fn in_vault(&self, name: &SecretName) -> Result<Option<(Secret, SecretMeta)>, Failure> {
        let opened = self.opened()?.open_secret(name)?;
        Ok(opened.map(|(secret, meta, _)| (secret, meta)))
    }

    fn of_catalog(&self, name: &str) -> bool {
        self.catalog.provider_of_key(name).is_some()
    }

    fn opened(&self) -> Result<&Vault, VaultError> {
        if let Some(vault) = self.vault.get() {
            return Ok(vault);
        }
        let vault = Vault::open(self.location, OpenMode::ReadOnlyIfExists)?;
        Ok(self.vault.get_or_init(|| vault))
    }

    fn layers<'v>(&'v self, vault: Option<&'v Vault>) -> Layers<'v, impl Fn(&str) -> Option<OsString> + 'v> {
        Layers::new(|name: &str| self.environment.key_variable(name), vault)
    }
}

impl Lookup for KeySources<'_> {
    fn env(&self, name: &str) -> bool {
        self.of_catalog(name) && self.layers(None).env(name)
    }

    fn vault(&self, name: &str) -> Result<Option<u64>, VaultError> {
        self.layers(Some(self.opened()?)).vault(name)
    }
}
