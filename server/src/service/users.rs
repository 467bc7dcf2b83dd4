//! Who uses a secret at this moment, and how they are cut off.

use orch_vault::SecretName;

use super::Service;
use crate::keeper::platform_id;

impl Service {
    /// The ids of the runs under way that hold a secret.
    pub(crate) fn users_of(&self, workspace: &str, name: &SecretName) -> Vec<String> {
        self.keeper.held().holders(workspace, name).iter().map(ToString::to_string).collect()
    }

    /// Ends the exchanges under way that carry a secret, once the vault gives it out no more. Says how many.
    pub(crate) fn cut(&self, workspace: &str, name: &SecretName) -> usize {
        let held = self.keeper.held();
        // Where it is lent to other workspaces, it goes by another name there.
        let lent = held.cut_clients(workspace, &platform_id(name.as_str()));
        let of_clients = held.cut_clients(workspace, name.as_str()) + lent;
        self.broker.cut(workspace, name.as_str()) + of_clients
    }
}
