//! Composition: environment → home → configuration → catalog → broker. Everything else is handed its parts.

use std::io;

use orch_manifests::Catalog;
use orch_server::{Broker, Config, Environment, Failure, Home, KeySources};
use orch_vault::VaultLocation;

/// The workspace of a local installation. Servers have more of them.
const WORKSPACE: &str = "default";

/// What is installed on this machine, read but not changed.
pub(crate) struct Installation {
    pub(crate) environment: Environment,
    pub(crate) home: Home,
    pub(crate) config: Config,
    pub(crate) catalog: Catalog,
    pub(crate) vault: VaultLocation,
}

impl Installation {
    /// Finds the folders and reads the configuration; creates nothing.
    pub(crate) fn open() -> Result<Self, Failure> {
        let environment = Environment::Process;
        let home = Home::locate(&environment)?;
        let config = Config::load(&home)?;
        let catalog = config.catalog()?;
        let vault = VaultLocation {
            store: home.vault(),
            key_file: home.vault_key(),
            workspace: WORKSPACE.to_owned(),
        };
        Ok(Self { environment, home, config, catalog, vault })
    }

    /// Creates the folders that a new vault lives in.
    pub(crate) fn prepare_vault(&self) -> Result<(), Failure> {
        for file in [&self.vault.store, &self.vault.key_file] {
            if let Some(folder) = file.parent() {
                self.home.ensure(folder)?;
            }
        }
        Ok(())
    }

    /// Where keys lie, below the command line.
    pub(crate) fn key_sources(&self) -> KeySources<'_> {
        KeySources::new(&self.environment, &self.catalog, &self.vault)
    }

    /// The broker of this installation, whose workers are this same binary.
    pub(crate) fn broker(self) -> Result<Broker, Failure> {
        let program = std::env::current_exe()
            .map_err(|e| Failure::defect(format!("cannot tell which program this is: {e}")))?;
        Ok(Broker::new(self.environment, self.home, self.config, self.catalog, self.vault, &program))
    }
}

/// A reader that went away, as in `orch … | head -1`, is no failure of the command.
#[expect(clippy::needless_pass_by_value, reason = "for `or_else`")]
pub(crate) fn broken_pipe(error: io::Error) -> Result<(), Failure> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Failure::usage("output_failed", format!("cannot write the result: {error}"))),
    }
}
