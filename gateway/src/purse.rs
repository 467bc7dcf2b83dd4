//! What a call may be paid from: purses that are asked together, and give all of it or nothing.
//!
//! A call is paid from several at once: its run's limits, what the key's owner lets it cost, and budgets that outlive
//! both. The answer is clamped to what the scarcest of them pays for, and that is set aside in each before the first
//! byte leaves.

use std::fmt;

use futures_util::future::BoxFuture;
use orch_manifests::{Price, PricedTokens};
use orch_proxy::Credential;
use serde::{Serialize, Serializer};
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::ir::Usage;

/// The name of a bound on tokens.
pub(crate) const TOKENS: &str = "tokens";
/// The name of a bound on money.
pub(crate) const COST: &str = "cost_usd";

/// Tokens and money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Input and output tokens together.
    pub tokens: u64,
    /// Millionths of a US dollar.
    pub micro_usd: u64,
}

/// What a purse still pays for; `None` does not bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Tokens.
    pub tokens: Option<u64>,
    /// Millionths of a US dollar.
    pub micro_usd: Option<u64>,
}

/// Which of the two is not enough, and the least that would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Short {
    /// So many tokens are needed.
    Tokens(u64),
    /// So many millionths of a dollar are needed.
    Money(u64),
    /// Money is bounded, and what the call costs is not known.
    Unpriced,
}

/// Which bound was hit, for the error and the exit code. Tokens are counted in ones, money in micro-dollars.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct LimitHit {
    /// `tokens`, `cost_usd`, or a limit of the network, as the manifest spells it.
    pub name: &'static str,
    /// Spent and reserved when it was hit.
    pub used: u64,
    /// The bound.
    pub limit: u64,
    /// The least that the refused call needed; absent when nobody knows what it costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needed: Option<u64>,
    /// Whose bound it is.
    #[serde(flatten)]
    pub of: BoundOf,
}

/// Whose bound was hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "of", rename_all = "snake_case")]
pub enum BoundOf {
    /// The run's, or the one call's of a client.
    Run,
    /// The owner's of the key.
    Key {
        /// The key's id.
        key: String,
    },
    /// A budget's.
    Budget {
        /// Its name.
        budget: String,
        /// When it renews; absent when it never does.
        #[serde(serialize_with = "rfc3339", skip_serializing_if = "Option::is_none")]
        renews_at: Option<OffsetDateTime>,
        /// What sets it, for people.
        set_by: String,
    },
}

impl LimitHit {
    /// A bound of the run.
    pub(crate) fn of_run(name: &'static str, used: u64, limit: u64, needed: Option<u64>) -> LimitHit {
        LimitHit { name, used, limit, needed, of: BoundOf::Run }
    }

    /// A bound of somebody's that is short of something.
    pub fn short(of: BoundOf, short: Short, used: Amount, limit: Amount) -> LimitHit {
        let (name, used, limit, needed) = match short {
            Short::Tokens(needed) => (TOKENS, used.tokens, limit.tokens, Some(needed)),
            Short::Money(needed) => (COST, used.micro_usd, limit.micro_usd, Some(needed)),
            Short::Unpriced => (COST, used.micro_usd, limit.micro_usd, None),
        };
        LimitHit { name, used, limit, needed, of }
    }

    /// When what was hit renews, if it ever does.
    pub fn renews_at(&self) -> Option<OffsetDateTime> {
        match self.of {
            BoundOf::Budget { renews_at, .. } => renews_at,
            BoundOf::Run | BoundOf::Key { .. } => None,
        }
    }

    fn unit(&self) -> &'static str {
        match self.name.trim_start_matches("per_host.") {
            COST => "micro-dollars",
            "requests" => "requests",
            "upload" | "download" => "bytes",
            _ => "tokens",
        }
    }
}

impl fmt::Display for LimitHit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match &self.of {
            BoundOf::Run => format!("the run's limit `{}`", self.name),
            BoundOf::Key { key } => format!("what the owner of {key} granted for it"),
            BoundOf::Budget { budget, .. } => format!("the budget `{budget}` ({})", self.name),
        };
        let Some(needed) = self.needed else {
            return write!(f, "{whose} bounds the cost, and the price of this call is not known");
        };
        let (used, limit, unit) = (self.used, self.limit, self.unit());
        write!(
            f,
            "{whose} is reached: {used} of {limit} {unit} are spent or reserved, and {needed} more are needed"
        )?;
        match &self.of {
            BoundOf::Budget { renews_at: Some(at), .. } => {
                write!(f, "; it renews at {}", at.format(&Rfc3339).unwrap_or_default())
            }
            BoundOf::Budget { .. } => f.write_str("; it does not renew"),
            BoundOf::Run | BoundOf::Key { .. } => Ok(()),
        }
    }
}

// Signature set by serde.
fn rfc3339<S: Serializer>(at: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
    at.and_then(|at| at.format(&Rfc3339).ok()).serialize(serializer)
}

/// How a request has the provider write its prompt cache, each dearer than the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CacheWrites {
    /// Not at all, or at the price of plain input.
    #[default]
    None,
    /// For some minutes.
    Short,
    /// For an hour (Anthropic's `ttl: 1h`).
    Long,
}

/// What a call could cost at most.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Input tokens at most.
    pub input: u64,
    /// The bound of one answer that the client or the model sets; `None` when neither does.
    pub max_output: Option<u64>,
    /// Number of answers.
    pub answers: u64,
    /// What it costs, when that is known.
    pub price: Option<Price>,
    /// Whether the client asks for cache writes, which cost more than plain input.
    pub cache_writes: CacheWrites,
    /// Output tokens of one answer that are set aside already, with the input: this asks for what comes on top.
    pub already: Option<u64>,
}

/// More than any answer: keeps arithmetic on bounds far from overflow.
pub(crate) const NO_BOUND: u64 = 1 << 40;

impl Ask {
    /// What has to be set aside for answers of this many tokens each.
    pub fn amount(&self, output: u64) -> Amount {
        let all = self.whole(output);
        let had = self.already.map(|already| self.whole(already)).unwrap_or_default();
        Amount {
            tokens: all.tokens.saturating_sub(had.tokens),
            micro_usd: all.micro_usd.saturating_sub(had.micro_usd),
        }
    }

    fn whole(&self, output: u64) -> Amount {
        let output = output.saturating_mul(self.answers.max(1));
        let (cache_write, cache_write_1h) = match self.cache_writes {
            CacheWrites::None => (0, 0),
            CacheWrites::Short => (self.input, 0),
            CacheWrites::Long => (self.input, self.input),
        };
        let tokens = PricedTokens { input: self.input, cached: 0, cache_write, cache_write_1h, output };
        let micro_usd = self.price.map_or(0, |price| price.cost_of(&tokens).micros());
        Amount { tokens: self.input.saturating_add(output), micro_usd }
    }

    /// The longest answer that `left` pays for, within the one that is asked for; `None` when neither bounds it.
    ///
    /// # Errors
    /// It does not pay for one token of it (where it has any), or nobody knows.
    pub fn within(&self, left: &Left) -> Result<Option<u64>, Short> {
        if left.micro_usd.is_some() && self.price.is_none() {
            return Err(Short::Unpriced);
        }
        // An answer that is no text has no tokens.
        let least = self.already.unwrap_or(0).saturating_add(u64::from(self.max_output != Some(0)));
        let mut output = self.max_output;
        let mut clamp = |fits: &dyn Fn(Amount) -> bool| {
            let can = longest(least, &|output| fits(self.amount(output)))?;
            output = Some(output.map_or(can, |wanted| wanted.min(can)));
            Some(())
        };
        if let Some(tokens) = left.tokens {
            clamp(&|amount| amount.tokens <= tokens).ok_or(Short::Tokens(self.amount(least).tokens))?;
        }
        if let Some(micro_usd) = left.micro_usd {
            clamp(&|amount| amount.micro_usd <= micro_usd)
                .ok_or(Short::Money(self.amount(least).micro_usd))?;
        }
        Ok(output)
    }
}

/// The largest answer, from `least` on, that fits; what fits grows no smaller with the answer. `None`: not even `least`.
pub(crate) fn longest(least: u64, fits: &dyn Fn(u64) -> bool) -> Option<u64> {
    if fits(NO_BOUND) {
        return Some(NO_BOUND);
    }
    if !fits(least) {
        return None;
    }
    let (mut fitting, mut too_much) = (least, NO_BOUND);
    while too_much - fitting > 1 {
        let middle = fitting + (too_much - fitting) / 2;
        if fits(middle) { fitting = middle } else { too_much = middle }
    }
    Some(fitting)
}

/// Money and tokens that are set aside. What is not spent of it goes back when it is dropped.
pub trait Held: Send + Sync {
    /// Books what the call came to; called once at most.
    fn spend(&self, usage: &Usage, micro_usd: u64);
}

/// Something in memory that calls are paid from.
pub trait Purse: Send + Sync {
    /// What it has left at this moment.
    fn left(&self) -> Left;
    /// Sets an amount aside. `None`: not so much is left any more.
    fn hold(&self, amount: Amount) -> Option<Box<dyn Held>>;
    /// The error for a call that it does not pay for.
    fn refusal(&self, short: Short) -> LimitHit;
}

/// Why nothing was set aside for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreserved {
    /// A bound is in the way.
    Limit(LimitHit),
    /// What is left cannot be known: whoever keeps the budgets has failed. What cannot be counted is not spent.
    Unavailable(String),
}

impl From<LimitHit> for Unreserved {
    fn from(hit: LimitHit) -> Unreserved {
        Unreserved::Limit(hit)
    }
}

/// Who keeps the budgets that outlive calls, runs and processes.
pub trait Treasury: Send + Sync {
    /// Sets aside the worst case of a call with the key of this id, clamped to what is left in every budget that is about
    /// it: in all of them or in none, and so that a process that dies has spent it. Dropping the future sets nothing aside.
    fn reserve<'a>(&'a self, key: Option<&'a str>, ask: Ask) -> BoxFuture<'a, Result<Granted, Unreserved>>;
}

/// What a treasury has set aside.
pub struct Granted {
    /// The bound of one answer; `None` when nothing bounds it.
    pub output: Option<u64>,
    /// Whether a budget is about the call at all.
    pub bounded: bool,
    /// What is set aside.
    pub held: Box<dyn Held>,
}

/// What the owner of a key lets calls with it cost.
pub(crate) struct Owners(pub(crate) Arc<dyn Credential>);

impl Purse for Owners {
    fn left(&self) -> Left {
        Left { tokens: None, micro_usd: self.0.money_left() }
    }

    fn hold(&self, amount: Amount) -> Option<Box<dyn Held>> {
        struct OfOwner(Box<dyn orch_proxy::Hold>);
        impl Held for OfOwner {
            fn spend(&self, _: &Usage, micro_usd: u64) {
                self.0.spend(micro_usd);
            }
        }
        Some(Box::new(OfOwner(self.0.hold(amount.micro_usd)?)))
    }

    fn refusal(&self, short: Short) -> LimitHit {
        // What the owner granted is not told to whoever uses the key; what is left of it is.
        let left = self.0.money_left().unwrap_or(0);
        let limit = Amount { tokens: 0, micro_usd: left };
        LimitHit::short(BoundOf::Key { key: self.0.id().to_owned() }, short, Amount::default(), limit)
    }
}

#[cfg(test)]
mod tests;
