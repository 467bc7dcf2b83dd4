//! What calls under way in this process have set aside: the rest of what the store holds belongs to nobody any more, or to
//! another process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use orch_gateway::Amount;

use crate::store::{SpendOf, Subject};

/// A workspace, whom it is about, and the day.
type Row = (String, Subject, i64);

/// See the module.
#[derive(Default)]
pub(super) struct Open(Mutex<HashMap<Row, Amount>>);

impl Open {
    /// Set aside. To be called in the transaction that sets aside, so that whoever looks in another one sees both or none.
    pub(super) fn add(&self, of: &SpendOf, amount: Amount) {
        let mut rows = self.lock();
        for row in rows_of(of) {
            let sum = rows.entry(row).or_default();
            sum.tokens = sum.tokens.saturating_add(amount.tokens);
            sum.micro_usd = sum.micro_usd.saturating_add(amount.micro_usd);
        }
    }

    /// Taken back. To be called after the transaction that takes back was queued.
    pub(super) fn remove(&self, of: &SpendOf, amount: Amount) {
        let mut rows = self.lock();
        for row in rows_of(of) {
            let Some(sum) = rows.get_mut(&row) else { continue };
            sum.tokens = sum.tokens.saturating_sub(amount.tokens);
            sum.micro_usd = sum.micro_usd.saturating_sub(amount.micro_usd);
            if *sum == Amount::default() {
                rows.remove(&row);
            }
        }
    }

    /// What is set aside of a day.
    pub(super) fn of(&self, workspace: &str, subject: &Subject, day: i64) -> Amount {
        self.lock().get(&(workspace.to_owned(), subject.clone(), day)).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Row, Amount>> {
        // Every change of it is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rows_of(of: &SpendOf) -> impl Iterator<Item = Row> + '_ {
    of.subjects.iter().map(|subject| (of.workspace.clone(), subject.clone(), of.day))
}
