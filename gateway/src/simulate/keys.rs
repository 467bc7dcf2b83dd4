//! The random keys of a simulation: one per provider, new each time.

use std::collections::BTreeMap;

use data_encoding::BASE32_NOPAD;
use ring::rand::{SecureRandom, SystemRandom};

use super::SimulationError;
use super::served::{KeyPlace, Served};

/// The keys that the server accepts, by provider. No `Debug`: simulated or not, a key is not printed.
pub(super) struct Keys(BTreeMap<String, String>);

impl Keys {
    pub(super) fn random(providers: &[Served]) -> Result<Keys, SimulationError> {
        let rng = SystemRandom::new();
        let mut keys = BTreeMap::new();
        for served in providers.iter().filter(|served| served.key != KeyPlace::None) {
            let mut bytes = [0u8; 25];
            rng.fill(&mut bytes).map_err(|_| SimulationError::NoRandomness)?;
            let random = BASE32_NOPAD.encode(&bytes).to_ascii_lowercase();
            keys.entry(served.provider.clone()).or_insert_with(|| format!("orch-simulated-{random}"));
        }
        Ok(Keys(keys))
    }

    pub(super) fn get(&self, provider: &str) -> Option<&str> {
        self.0.get(provider).map(String::as_str)
    }
}
