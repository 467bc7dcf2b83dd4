//! Who uses a secret at this moment, and how they are cut off.

use orch_vault::SecretName;

use super::Service;

impl Service {
    /// The ids of the runs under way that hold a secret.
    pub(crate) fn users_of(&self, workspace: &str, name: &SecretName) -> Vec<String> {
        self.keeper.held().holders(workspace, name).iter().map(ToString::to_string).collect()
    }

    /// Ends the exchanges under way that carry a secret, once the vault gives it out no more. Says how many.
    pub(crate) fn cut(&self, workspace: &str, name: &SecretName) -> usize {
        let of_clients = self.keeper.held().cut_clients(workspace, name.as_str());
        self.broker.cut(workspace, name.as_str()) + of_clients
    }
}
