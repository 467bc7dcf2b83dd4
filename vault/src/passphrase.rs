//! The key of a passphrase slot: argon2id (RFC 9106) over the passphrase.
//!
//! ```text
//! function 1 ‖ memory in KiB 4 ‖ passes 4 ‖ lanes 4 ‖ salt 16
//! ```
//!
//! Integers are big-endian. The parameters are read before anything about the header can be checked, so
//! whoever can write to the store chooses them: they are held between bounds, lest opening a vault take
//! the machine's memory or its afternoon.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroizing;

use crate::crypto::{self, Key};
use crate::error::Tampering;
use crate::row::unknown;
use crate::{Secret, VaultError};

const ARGON2ID: u8 = 1;
const SALT_LEN: usize = 16;
const LEN: usize = 1 + 4 + 4 + 4 + SALT_LEN;
/// The shortest passphrase that a slot is made for, in bytes. It says nothing about a good one.
const SHORTEST: usize = 8;
/// The longest, far above what anybody types.
const LONGEST: usize = 1024;

/// What deriving the key costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// RFC 9106's second recommendation: 64 MiB, three passes, four lanes.
    const NEW: Cost = Cost { memory_kib: 64 * 1024, passes: 3, lanes: 4 };

    /// Whether an honest slot could ask for this much.
    fn check(self) -> Result<Cost, VaultError> {
        let work = u64::from(self.memory_kib) * u64::from(self.passes);
        for (what, found, least, most) in [
            ("KiB of memory", u64::from(self.memory_kib), 8 * 1024, 1024 * 1024),
            ("passes", u64::from(self.passes), 1, 64),
            ("lanes", u64::from(self.lanes), 1, 16),
            ("KiB over all passes", work, 8 * 1024, 4 * 1024 * 1024),
        ] {
            if !(least..=most).contains(&found) {
                return Err(VaultError::KdfBounds { what, found, least, most });
            }
        }
        Ok(self)
    }
}

/// The parameters of a passphrase slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Derivation {
    cost: Cost,
    salt: [u8; SALT_LEN],
}

impl Derivation {
    /// For a new slot.
    pub(crate) fn fresh() -> Result<Derivation, VaultError> {
        let mut salt = [0; SALT_LEN];
        crypto::fill_random(&mut salt)?;
        Ok(Derivation { cost: Cost::NEW, salt })
    }

    /// As a slot's parameters.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEN);
        out.push(ARGON2ID);
        for number in [self.cost.memory_kib, self.cost.passes, self.cost.lanes] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.salt);
        out
    }

    /// From a slot's parameters, which anybody may have written.
    pub(crate) fn decode(parameters: &[u8]) -> Result<Derivation, VaultError> {
        let (&function, _) = parameters.split_first().ok_or(Tampering::Slots)?;
        if function != ARGON2ID {
            return Err(unknown("a passphrase slot", function, ARGON2ID));
        }
        let &[_, a, b, c, d, e, f, g, h, i, j, k, l, ref salt @ ..] = parameters else {
            return Err(Tampering::Slots.into());
        };
        let salt = <[u8; SALT_LEN]>::try_from(salt).map_err(|_| Tampering::Slots)?;
        let number = u32::from_be_bytes;
        let cost = Cost {
            memory_kib: number([a, b, c, d]),
            passes: number([e, f, g, h]),
            lanes: number([i, j, k, l]),
        };
        Ok(Derivation { cost: cost.check()?, salt })
    }

    /// The key for a passphrase. Takes a good part of a second, on purpose.
    pub(crate) fn key(&self, passphrase: &Secret) -> Result<Key, VaultError> {
        let Cost { memory_kib, passes, lanes } = self.cost.check()?;
        let impossible = |_| VaultError::slots("argon2 does not take the passphrase or its parameters");
        let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(impossible)?;
        // Our own memory, because it is full of what the passphrase became, and is wiped here.
        let mut memory = Zeroizing::new(Vec::new());
        if memory.try_reserve_exact(params.block_count()).is_err() {
            return Err(VaultError::KdfMemory { kib: memory_kib });
        }
        memory.resize(params.block_count(), Block::new());
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        Key::filled(|out| {
            passphrase.expose(|passphrase| {
                argon2.hash_password_into_with_memory(passphrase, &self.salt, out, memory.as_mut_slice())
            })
        })
        .map_err(impossible)
    }
}

/// Whether a slot may be made for this passphrase.
pub(crate) fn check_new(passphrase: &Secret) -> Result<(), VaultError> {
    let problem = match passphrase.len() {
        0 => "it is empty",
        length if length < SHORTEST => "it is shorter than 8 bytes; five or six random words are a good one",
        length if length > LONGEST => "it is longer than 1024 bytes",
        _ => return Ok(()),
    };
    Err(VaultError::WeakPassphrase { problem })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;
    use crate::golden;

    fn derivation(memory_kib: u32, passes: u32, lanes: u32) -> Derivation {
        Derivation { cost: Cost { memory_kib, passes, lanes }, salt: *b"0123456789abcdef" }
    }

    #[test]
    fn what_is_written_is_read() {
        let fresh = Derivation::fresh().unwrap();
        assert_eq!(Derivation::decode(&fresh.encode()).unwrap(), fresh);
        assert_eq!(fresh.cost, Cost { memory_kib: 65_536, passes: 3, lanes: 4 });
        for length in 0..LEN {
            assert!(Derivation::decode(&fresh.encode()[..length]).is_err(), "length {length}");
        }
        assert!(Derivation::decode(&[fresh.encode().as_slice(), &[0]].concat()).is_err());
    }

    /// The answer is `argon2-cffi`'s: argon2id, version 1.3, 8 MiB, one pass, two lanes.
    #[test]
    fn the_key_is_what_another_implementation_says() {
        let key = derivation(8 * 1024, 1, 2).key(&Secret::new(b"correct horse".to_vec())).unwrap();
        assert_eq!(key.bytes(), golden::hex(golden::PASSPHRASE_KEY));
    }

    #[test]
    fn hostile_parameters_are_refused_before_they_cost_anything() {
        let most = u32::MAX;
        for (hostile, what) in [
            (derivation(most, 1, 1), "KiB of memory"),
            (derivation(1024 * 1024 + 1, 1, 1), "KiB of memory"),
            (derivation(8, 1, 1), "KiB of memory"),
            (derivation(65_536, most, 4), "passes"),
            (derivation(65_536, 0, 4), "passes"),
            (derivation(65_536, 3, most), "lanes"),
            (derivation(65_536, 3, 0), "lanes"),
            (derivation(1024 * 1024, 5, 4), "KiB over all passes"),
        ] {
            let started = std::time::Instant::now();
            let error = Derivation::decode(&hostile.encode()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Tampered);
            assert!(error.to_string().contains(what), "{error} does not say {what}");
            // And whoever gets to the derivation by another way does not either.
            assert!(hostile.key(&Secret::new(b"x".to_vec())).is_err());
            assert!(started.elapsed().as_secs() < 1);
        }
        let mut later = derivation(65_536, 3, 4).encode();
        later[0] = 2;
        assert_eq!(Derivation::decode(&later).unwrap_err().kind(), ErrorKind::Format);
    }

    #[test]
    fn passphrases_that_no_slot_is_made_for() {
        let checked = |length: usize| check_new(&Secret::new(vec![b'x'; length]));
        for (length, fine) in [(0, false), (7, false), (8, true), (1024, true), (1025, false)] {
            assert_eq!(checked(length).is_ok(), fine, "{length}");
        }
    }

    proptest! {
        /// Whoever wrote them: they are refused, or cost no more than what is allowed.
        #[test]
        fn no_bytes_break_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            for parameters in [bytes.clone(), [&[ARGON2ID], bytes.as_slice()].concat()] {
                if let Ok(derivation) = Derivation::decode(&parameters) {
                    prop_assert!(derivation.cost.check().is_ok());
                    prop_assert_eq!(derivation.encode(), parameters);
                }
            }
        }
    }
}
