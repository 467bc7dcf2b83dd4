//! The answers that a run got itself, of those that providers keep under an id.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Ids that are kept; a run that has more answers goes on from those before.
const MOST: usize = 4096;
/// Longest id that is kept, in bytes.
const LONGEST: usize = 256;

/// Ids of a run's own answers. To go on from one of them is to read what the run was told anyway.
#[derive(Debug, Default)]
pub struct OwnAnswers(Mutex<HashSet<String>>);

impl OwnAnswers {
    /// An answer came under this id.
    pub(crate) fn note(&self, id: &str) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !id.is_empty() && id.len() <= LONGEST && ids.len() < MOST {
            ids.insert(id.to_owned());
        }
    }

    /// Whether the answer of this id is one of them.
    pub(crate) fn contain(&self, id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_noted_is_own_and_that_is_bounded() {
        let own = OwnAnswers::default();
        own.note("");
        own.note(&"x".repeat(LONGEST + 1));
        assert!(!own.contain("") && !own.contain(&"x".repeat(LONGEST + 1)));
        for i in 0..=MOST {
            own.note(&i.to_string());
        }
        assert!(own.contain("0") && own.contain(&(MOST - 1).to_string()));
        assert!(!own.contain(&MOST.to_string()));
    }
}
