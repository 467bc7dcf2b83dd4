//! Who uses a secret just now.

use orch_vault::SecretName;

use super::Service;

impl Service {
    /// The runs under way that hold a secret of a workspace.
    #[allow(clippy::unused_self, reason = "to be made")]
    pub(crate) fn users_of(&self, _workspace: &str, _name: &SecretName) -> Vec<String> {
        Vec::new()
    }

    /// Ends the exchanges under way that carry a secret of a workspace; how many there were.
    #[allow(clippy::unused_self, reason = "to be made")]
    pub(crate) fn cut(&self, _workspace: &str, _name: &SecretName) -> usize {
        0
    }
}
