//! Who uses a secret at this moment, and how they are cut off.

use orch_vault::SecretName;

use super::Service;
use crate::config::PlatformKeys;
use crate::keeper::{Ring, platform_id};

impl Service {
    /// The ids of the runs under way that hold a secret.
    pub(crate) fn users_of(&self, workspace: &str, name: &SecretName) -> Vec<String> {
        self.keeper.held().holders(workspace, name).iter().map(ToString::to_string).collect()
    }

    /// Ends the exchanges under way that carry a secret, once the vault gives it out no more. Says how many.
    pub(crate) fn cut(&self, workspace: &str, name: &SecretName) -> usize {
        let held = self.keeper.held();
        let own = held.cut_clients(workspace, name.as_str()) + self.broker.cut(workspace, name.as_str());
        own + self.cut_lent(workspace, name)
    }

    /// The same of what the operator lends out of this workspace: it goes by another name with clients and runs of others,
    /// which go on having it whatever their own workspaces do.
    fn cut_lent(&self, workspace: &str, name: &SecretName) -> usize {
        let config = self.config();
        let platform = &config.platform;
        if platform.keys != Some(PlatformKeys::Vault) || platform.workspace != workspace {
            return 0;
        }
        let id = platform_id(name.as_str());
        self.keeper.held().cut_clients(workspace, &id) + self.broker.cut_everywhere(&id)
    }

    /// The same of what a member has registered, with their clients and with the runs that they asked for.
    pub(crate) fn cut_own(&self, workspace: &str, ring: &Ring, name: &SecretName) -> usize {
        let id = ring.id(name.as_str());
        self.keeper.held().cut_clients(&ring.part, &id) + self.broker.cut(workspace, &id)
    }
}
