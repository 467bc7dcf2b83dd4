//! Who pays for one session's calls, out of the budgets that are about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use orch_gateway::ir::Usage;
use orch_gateway::{Amount, Ask, BoundOf, Granted, Held, Left, LimitHit, Short, Treasury, Unreserved};
use time::OffsetDateTime;

use super::{Budget, Budgets, day_of};
use crate::store::{SpendOf, Store, Sums};

/// See the module.
pub(super) struct Account {
    budgets: Arc<Budgets>,
    workspace: String,
    token: String,
    agent: Option<String>,
}

impl Account {
    pub(super) fn new(budgets: Arc<Budgets>, workspace: &str, token: &str, agent: Option<&str>) -> Self {
        let (workspace, token) = (workspace.to_owned(), token.to_owned());
        Self { budgets, workspace, token, agent: agent.map(str::to_owned) }
    }

    /// Under which names a call with this key counts, today.
    fn pays(&self, key: Option<&str>, now: OffsetDateTime) -> SpendOf {
        let named = [("token", Some(&*self.token)), ("agent", self.agent.as_deref()), ("key", key)];
        let named = named.into_iter().filter_map(|(scope, name)| Some((scope, name?.to_owned())));
        let subjects = std::iter::once(("workspace", String::new())).chain(named).collect();
        let instance = Arc::clone(&self.budgets.instance);
        SpendOf { workspace: self.workspace.clone(), subjects, day: day_of(now), instance }
    }
}

impl Treasury for Account {
    fn reserve<'a>(&'a self, key: Option<&'a str>, ask: Ask) -> BoxFuture<'a, Result<Granted, Unreserved>> {
        async move {
            let (store, now) = (self.budgets.store.clone(), (self.budgets.clock)());
            let of = self.pays(key, now);
            let budgets = match self.budgets.of(&self.workspace).await {
                Ok(budgets) => budgets,
                // What cannot be counted is not spent.
                Err(failure) => return Err(Unreserved::Unavailable(failure.message().to_owned())),
            };
            let budgets: Vec<Budget> =
                budgets.into_iter().filter(|budget| of.subjects.contains(&budget.subject)).collect();
            if budgets.is_empty() {
                let held = Box::new(OnRecord::new(store, of, Amount::default()));
                return Ok(Granted { output: ask.max_output, bounded: false, held });
            }
            let subjects = of.clone();
            let asked =
                budgets.iter().map(|budget| (budget.subject.clone(), budget.window.days(now))).collect();
            // A task of its own: when the caller goes away meanwhile, what is set aside has an owner that takes it back.
            #[expect(
                clippy::disallowed_methods,
                reason = "the handle is awaited below, and what it yields is an owner"
            )]
            let setting_aside = tokio::spawn(async move {
                let decide = move |sums: &[Sums]| {
                    let mut asked = ask;
                    for (budget, sums) in budgets.iter().zip(sums) {
                        match asked.within(&budget.left(*sums)) {
                            Ok(output) => asked.max_output = output,
                            Err(short) => {
                                return (Err(budget.hit(short, *sums, budget.window.at(now).1)), 0, 0);
                            }
                        }
                    }
                    let amount = asked.amount(asked.max_output.unwrap_or(0));
                    (Ok((asked.max_output, amount)), amount.tokens, amount.micro_usd)
                };
                let decided = store.set_aside(subjects, asked, decide).await;
                decided.map(|decided| decided.map(|(output, held)| (output, OnRecord::new(store, of, held))))
            });
            match setting_aside.await {
                Ok(Ok(decided)) => {
                    let (output, held) = decided?;
                    Ok(Granted { output, bounded: true, held: Box::new(held) })
                }
                Ok(Err(failure)) => Err(Unreserved::Unavailable(failure.message().to_owned())),
                Err(_) => {
                    Err(Unreserved::Unavailable("the task that sets money aside has failed".to_owned()))
                }
            }
        }
        .boxed()
    }
}

impl Budget {
    fn left(&self, sums: Sums) -> Left {
        let left = |limit: Option<u64>, spent: u64, held: u64| {
            limit.map(|limit| limit.saturating_sub(spent).saturating_sub(held))
        };
        Left {
            tokens: left(self.tokens, sums.tokens, sums.held_tokens),
            micro_usd: left(self.micro_usd, sums.micro_usd, sums.held_micro_usd),
        }
    }

    fn hit(&self, short: Short, sums: Sums, renews_at: Option<OffsetDateTime>) -> LimitHit {
        let used = Amount {
            tokens: sums.tokens.saturating_add(sums.held_tokens),
            micro_usd: sums.micro_usd.saturating_add(sums.held_micro_usd),
        };
        let limit =
            Amount { tokens: self.tokens.unwrap_or(u64::MAX), micro_usd: self.micro_usd.unwrap_or(u64::MAX) };
        let of = BoundOf::Budget { budget: self.name.clone(), renews_at, set_by: self.set_by() };
        LimitHit::short(of, short, used, limit)
    }
}

/// Set aside in the store; taken back when it is dropped.
struct OnRecord {
    store: Store,
    of: SpendOf,
    held: Amount,
    /// Whether it was taken back with what was spent, in one transaction.
    settled: AtomicBool,
}

impl OnRecord {
    fn new(store: Store, of: SpendOf, held: Amount) -> Self {
        Self { store, of, held, settled: AtomicBool::new(false) }
    }

    fn settle(&self, spent: (u64, u64)) {
        let held = match self.settled.swap(true, Ordering::Relaxed) {
            true => (0, 0),
            false => (self.held.tokens, self.held.micro_usd),
        };
        if (spent, held) == ((0, 0), (0, 0)) {
            return;
        }
        if held == (0, 0) {
            return self.store.spent(&self.of, spent);
        }
        self.store.spend(self.of.clone(), spent, held);
    }
}

impl Held for OnRecord {
    fn spend(&self, usage: &Usage, micro_usd: u64) {
        self.settle((usage.input.saturating_add(usage.output), micro_usd));
    }
}

impl Drop for OnRecord {
    fn drop(&mut self) {
        self.settle((0, 0));
    }
}
