//! A value that wipes itself and cannot be printed, copied or serialised by accident.

use zeroize::Zeroize;

use crate::memory::Locked;
use crate::meta::mask_of;

/// The bytes of a secret. Wiped when dropped.
///
/// There is no `Debug`, `Display`, `Clone` or `Serialize`, on purpose: the only way to the bytes is
/// [`Secret::expose`], which is easy to find in a review.
pub struct Secret(Locked);

impl Secret {
    /// Takes the bytes over. They are copied once into memory that is locked, where there is room, and
    /// `bytes` is wiped, spare capacity included.
    #[must_use]
    pub fn new(mut bytes: Vec<u8>) -> Secret {
        let kept = Locked::copy_of(&bytes);
        bytes.zeroize();
        Secret(kept)
    }

    /// Lends the bytes to `use_bytes`. Whatever it copies out of them is its own to wipe.
    pub fn expose<R>(&self, use_bytes: impl FnOnce(&[u8]) -> R) -> R {
        use_bytes(self.0.bytes())
    }

    /// The last four characters, by which people tell values apart; `None` where that would be too much of it, as of values
    /// under 16 bytes.
    #[must_use]
    pub fn mask(&self) -> Option<String> {
        self.expose(mask_of)
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.bytes().len()
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.bytes().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles only while `Secret` implements none of the listed traits: with one implemented, two
    /// blanket implementations apply and the method is ambiguous.
    macro_rules! refuses {
        ($($name:ident: $bound:path),* $(,)?) => {$(
            #[test]
            fn $name() {
                struct Taken;
                trait Ambiguous<A> {
                    fn probe() -> bool { true }
                }
                impl<T: ?Sized> Ambiguous<()> for T {}
                impl<T: ?Sized + $bound> Ambiguous<Taken> for T {}
                assert!(<Secret as Ambiguous<_>>::probe());
            }
        )*};
    }

    refuses! {
        has_no_debug: std::fmt::Debug,
        has_no_display: std::fmt::Display,
        has_no_clone: Clone,
        has_no_serialize: serde::Serialize,
        has_no_deref: std::ops::Deref,
    }

    #[test]
    fn keeps_the_bytes_and_the_length() {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(b"value");
        let secret = Secret::new(bytes);
        assert_eq!((secret.len(), secret.is_empty()), (5, false));
        assert!(secret.expose(|bytes| bytes == b"value"));
    }
}
