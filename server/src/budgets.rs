//! Budgets: what a workspace, an agent, a token or a key may spend on models by the day, by the month, and in total.
//!
//! They are set in `config.yaml` (for every workspace, or one) and over `/v1/budgets` (for the caller's). All that is
//! spent and set aside is in the store, where a call's worst case is before its first byte leaves: in one transaction with
//! the look at what is left, so that neither callers at the same time nor two processes go over together, and a process
//! that is killed has spent what it had set aside. Days and months are UTC's; a call counts for the day on which it began.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use orch_gateway::Treasury;
use orch_manifests::MicroUsd;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::{Date, OffsetDateTime, UtcOffset};

use crate::config::Config;
use crate::failure::Failure;
use crate::run::dollars;
use crate::store::{Instance, Store, Subject, Sums};

mod account;
#[cfg(test)]
mod tests;

use account::Account;

/// Bytes of a budget's name, and of whom it is about.
const NAME: usize = 128;
/// Budgets that a workspace may set.
const MOST: usize = 256;

/// How long a budget lasts until it begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Window {
    /// From midnight to midnight, UTC.
    Day,
    /// A calendar month, UTC.
    Month,
    /// It never begins anew.
    Total,
}

impl Window {
    /// The first day of the window that `now` is in, since 1970, and when the next window begins.
    fn at(self, now: OffsetDateTime) -> (i64, Option<OffsetDateTime>) {
        let today = now.to_offset(UtcOffset::UTC).date();
        let midnight = |date: Date| date.midnight().assume_utc();
        match self {
            Self::Day => (day_of(now), today.next_day().map(midnight)),
            Self::Month => {
                let first = today.replace_day(1).unwrap_or(today);
                // Thirty-two days after the first is in the next month, whatever month this is.
                let next =
                    first.checked_add(time::Duration::days(32)).and_then(|day| day.replace_day(1).ok());
                (day_of(midnight(first)), next.map(midnight))
            }
            Self::Total => (i64::MIN, None),
        }
    }

    /// The days of the window that `now` is in, since 1970. What a clock that was ahead has booked for later ones is spent
    /// when they come: it is not taken from every day until then.
    fn days(self, now: OffsetDateTime) -> Range<i64> {
        let (first, next) = self.at(now);
        first..next.map_or(i64::MAX, day_of)
    }
}

/// The day of a time, since 1970.
fn day_of(at: OffsetDateTime) -> i64 {
    at.unix_timestamp().div_euclid(86_400)
}

/// A budget as it is written in `config.yaml` and in the body of `PUT /v1/budgets/{name}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BudgetDocument {
    /// Only this workspace's; said in the configuration alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workspace: Option<String>,
    /// Of one agent, whatever its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    /// Of the tokens of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// Of calls with the key of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    window: Window,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cost_usd: Option<Dollars>,
}

/// Dollars as a number or a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Dollars {
    Whole(u64),
    Fraction(f64),
    Text(String),
}

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Fraction(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// A budget that holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Budget {
    name: String,
    /// The one workspace that it is about; every one for itself when there is none.
    workspace: Option<String>,
    subject: Subject,
    window: Window,
    tokens: Option<u64>,
    micro_usd: Option<u64>,
    by_config: bool,
}

impl Budget {
    /// Reads a budget.
    ///
    /// # Errors
    /// The field that is wrong (empty: the budget as a whole), and why.
    pub(crate) fn of(
        name: &str,
        document: &BudgetDocument,
        by_config: bool,
    ) -> Result<Self, (&'static str, String)> {
        let fits = |text: &str| {
            let plain = !text.chars().any(|c| c.is_control() || c.is_whitespace());
            !text.is_empty() && text.len() <= NAME && plain
        };
        if !fits(name) || name.contains('/') {
            return Err((
                "",
                format!("its name is 1 to {NAME} bytes without spaces, slashes and control characters"),
            ));
        }
        let BudgetDocument { workspace, agent, token, key, window, tokens, cost_usd } = document;
        if workspace.is_some() && !by_config {
            return Err((
                "workspace",
                "is said in config.yaml alone: this budget is your workspace's".to_owned(),
            ));
        }
        let named = [("agent", agent), ("token", token), ("key", key)];
        let mut named = named.into_iter().filter_map(|(scope, name)| Some((scope, name.as_ref()?)));
        let subject = match (named.next(), named.next()) {
            (None, _) => ("workspace", String::new()),
            (Some((scope, name)), None) if scope == "token" || fits(name) => (scope, name.clone()),
            (Some((scope, _)), None) => return Err((scope, "is no name".to_owned())),
            (Some((one, _)), Some((other, _))) => {
                return Err((
                    other,
                    format!("a budget is about one of `agent`, `token` and `key`, and `{one}` is said"),
                ));
            }
        };
        let cost = cost_usd.as_ref().map(|text| text.to_string().parse::<MicroUsd>()).transpose();
        let micro_usd = cost.map_err(|e| ("cost_usd", e.to_string()))?.map(MicroUsd::micros);
        if tokens.is_none() && micro_usd.is_none() {
            return Err(("", "bounds nothing: it needs `tokens`, `cost_usd` or both".to_owned()));
        }
        let (workspace, name) = (workspace.clone(), name.to_owned());
        Ok(Self { name, workspace, subject, window: *window, tokens: *tokens, micro_usd, by_config })
    }

    fn set_by(&self) -> String {
        match self.by_config {
            true => format!("`budgets.{}` in config.yaml", self.name),
            false => format!("PUT /v1/budgets/{}", self.name),
        }
    }

    /// As it is shown, with what it has come to.
    fn shown(&self, sums: Sums, now: OffsetDateTime) -> Value {
        let (_, renews_at) = self.window.at(now);
        let renews_at =
            renews_at.and_then(|at| at.format(&time::format_description::well_known::Rfc3339).ok());
        let (scope, subject) = &self.subject;
        json!({
            "name": self.name, "scope": scope, "of": Some(subject).filter(|subject| !subject.is_empty()),
            "window": self.window, "renews_at": renews_at, "set_by": if self.by_config { "config" } else { "api" },
            "tokens": self.tokens, "cost_usd": self.micro_usd.map(dollars),
            "used": { "tokens": sums.tokens, "cost_usd": dollars(sums.micro_usd) },
            "held": { "tokens": sums.held_tokens, "cost_usd": dollars(sums.held_micro_usd) },
        })
    }
}

fn named<'b>(all: &'b [Budget], name: &str) -> Result<&'b Budget, Failure> {
    all.iter().find(|budget| budget.name == name).ok_or_else(|| {
        Failure::usage("not_found", "this workspace has no budget of this name").hint("GET /v1/budgets")
    })
}

type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// The budgets of an installation.
pub(crate) struct Budgets {
    store: Store,
    /// Those of the configuration, as it is now.
    configured: RwLock<Arc<Config>>,
    /// Those that were set over the API, of the workspaces that were asked for.
    set: RwLock<HashMap<String, Arc<[Budget]>>>,
    /// Held from a look at the store to what is remembered of it, and by whoever changes it: what was read before a change
    /// is not remembered after it.
    changing: tokio::sync::Mutex<()>,
    /// This process, as the store knows whose it is what is set aside.
    instance: Arc<str>,
    clock: Clock,
}

impl Budgets {
    /// The budgets of this store and this configuration; `instance` is this process in the store.
    pub(crate) fn new(store: Store, instance: &Instance, config: Arc<Config>) -> Arc<Self> {
        Self::by(store, instance, config, Arc::new(OffsetDateTime::now_utc))
    }

    fn by(store: Store, instance: &Instance, config: Arc<Config>, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            store,
            configured: RwLock::new(config),
            set: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
            instance: instance.id().into(),
            clock,
        })
    }

    /// Goes by this configuration from the next call on.
    pub(crate) fn configure(&self, config: Arc<Config>) {
        *self.configured.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Who pays for the calls of an agent's runs, or of clients where there is no agent.
    pub(crate) fn account(
        self: &Arc<Self>,
        workspace: &str,
        token: &str,
        agent: Option<&str>,
    ) -> Arc<dyn Treasury> {
        Arc::new(Account::new(Arc::clone(self), workspace, token, agent))
    }

    /// The budgets of a workspace, the configuration's first.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn of(&self, workspace: &str) -> Result<Vec<Budget>, Failure> {
        let set = self.set_by(workspace).await?;
        Ok(self.listed(workspace, &set))
    }

    fn listed(&self, workspace: &str, set: &[Budget]) -> Vec<Budget> {
        let config = Arc::clone(&self.configured.read().unwrap_or_else(PoisonError::into_inner));
        let here = |budget: &&Budget| budget.workspace.as_deref().is_none_or(|only| only == workspace);
        config.budgets.iter().filter(here).chain(set.iter()).cloned().collect()
    }

    /// The budgets of a workspace with what they have come to, as the API shows them.
    ///
    /// # Errors
    /// The store's.
    pub(crate) async fn shown(&self, workspace: &str) -> Result<Vec<Value>, Failure> {
        let (budgets, now) = (self.of(workspace).await?, (self.clock)());
        let asked = budgets.iter().map(|budget| (budget.subject.clone(), budget.window.days(now))).collect();
        let sums = self.store.spending(workspace, asked).await?;
        Ok(budgets.iter().zip(sums).map(|(budget, sums)| budget.shown(sums, now)).collect())
    }

    /// Sets a budget of a workspace, in the place of the one of this name.
    ///
    /// # Errors
    /// What is wrong with it; the configuration has one of this name; there are too many; the store's.
    pub(crate) async fn put(
        &self,
        workspace: &str,
        name: &str,
        document: &BudgetDocument,
    ) -> Result<(), Failure> {
        Budget::of(name, document, false).map_err(|(field, why)| {
            let at = if field.is_empty() { "the budget".to_owned() } else { format!("`{field}`") };
            Failure::usage("bad_budget", format!("{at}: {why}")).detail("field", field)
        })?;
        let _changing = self.changing.lock().await;
        let all = self.listed(workspace, &self.read(workspace).await?);
        Self::check_own(&all, name)?;
        if all.len() >= MOST && !all.iter().any(|budget| budget.name == name) {
            return Err(Failure::usage("bad_budget", format!("a workspace has at most {MOST} budgets")));
        }
        let text = serde_json::to_string(document).unwrap_or_default();
        self.store.put_budget(workspace, name, text).await?;
        self.forget(workspace);
        Ok(())
    }

    /// Removes a budget of a workspace.
    ///
    /// # Errors
    /// There is none, or it is the configuration's; the store's.
    pub(crate) async fn remove(&self, workspace: &str, name: &str) -> Result<(), Failure> {
        Self::check_own(&self.of(workspace).await?, name)?;
        let _changing = self.changing.lock().await;
        let removed = self.store.remove_budget(workspace, name).await?;
        self.forget(workspace);
        match removed {
            true => Ok(()),
            false => Err(Failure::usage("not_found", "this workspace has set no budget of this name")
                .hint("GET /v1/budgets")),
        }
    }

    /// Whether releasing a budget of a workspace would release one of the operator's: what is set aside is set aside for all
    /// budgets that are about the same.
    ///
    /// # Errors
    /// There is no budget of this name; the store's.
    pub(crate) async fn is_operators(&self, workspace: &str, name: &str) -> Result<bool, Failure> {
        let all = self.of(workspace).await?;
        let subject = &named(&all, name)?.subject;
        Ok(all.iter().any(|budget| budget.by_config && budget.subject == *subject))
    }

    /// Frees what a budget of a workspace holds for calls that are under way no more: those of processes that died. What
    /// calls hold stays held, of this process and of every other that lives.
    ///
    /// # Errors
    /// There is no budget of this name; the store's.
    pub(crate) async fn release(&self, workspace: &str, name: &str) -> Result<Sums, Failure> {
        let all = self.of(workspace).await?;
        let budget = named(&all, name)?;
        let from = budget.window.at((self.clock)()).0;
        self.store.release(workspace, budget.subject.clone(), from).await
    }

    fn check_own(all: &[Budget], name: &str) -> Result<(), Failure> {
        match all.iter().find(|budget| budget.by_config && budget.name == name) {
            Some(budget) => Err(Failure::usage(
                "conflict",
                format!("the budget {name:?} is the operator's: {} sets it", budget.set_by()),
            )),
            None => Ok(()),
        }
    }

    fn forget(&self, workspace: &str) {
        self.set.write().unwrap_or_else(PoisonError::into_inner).remove(workspace);
    }

    async fn set_by(&self, workspace: &str) -> Result<Arc<[Budget]>, Failure> {
        let known = || self.set.read().unwrap_or_else(PoisonError::into_inner).get(workspace).map(Arc::clone);
        if let Some(known) = known() {
            return Ok(known);
        }
        let _changing = self.changing.lock().await;
        let set = self.read(workspace).await?;
        self.set
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(workspace.to_owned(), Arc::clone(&set));
        Ok(set)
    }

    /// What the store says.
    async fn read(&self, workspace: &str) -> Result<Arc<[Budget]>, Failure> {
        let read = |(name, text): (String, String)| {
            let document = serde_json::from_str(&text).map_err(|e| e.to_string());
            let budget =
                document.and_then(|document| Budget::of(&name, &document, false).map_err(|(_, why)| why));
            budget.map_err(|why| Failure::defect(format!("the stored budget {name:?} cannot be read: {why}")))
        };
        let rows = self.store.budgets(workspace).await?;
        rows.into_iter().map(read).collect()
    }
}
