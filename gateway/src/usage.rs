//! What a run may spend, and what it has spent.
//!
//! Spend is reserved before a call and settled after it, so that calls under way at the same time can never go
//! over together. A reservation is the worst case: one token per byte of text (a token covers at least one byte),
//! never more than the model's context, and an answer whose bound is clamped to what is left.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orch_manifests::PricedTokens;
use orch_proxy::Credential;
use serde::Serialize;

use crate::ir::Usage;
use crate::purse::{
    Amount, Ask, BoundOf, CacheWrites, Granted, Held, Left, LimitHit, NO_BOUND, Owners, Purse, Short,
    Treasury, Unreserved,
};

/// What was spent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spent {
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Millionths of a dollar, rounded up per call; calls of models without a known price are not in it.
    pub micro_usd: u64,
}

/// The bounds of one run and its spending. Shared by all calls of the run.
#[derive(Debug)]
pub struct Budget {
    /// Input and output tokens together.
    max_tokens: Option<u64>,
    max_micro_usd: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    spent: Spent,
    reserved: Amount,
    hit: Option<LimitHit>,
    /// Why a call could not be counted.
    unavailable: Option<String>,
}

impl State {
    fn used(&self) -> Amount {
        let Spent { input_tokens, output_tokens, micro_usd } = self.spent;
        Amount {
            tokens: input_tokens.saturating_add(output_tokens).saturating_add(self.reserved.tokens),
            micro_usd: micro_usd.saturating_add(self.reserved.micro_usd),
        }
    }
}

impl Budget {
    /// A budget of so many tokens and so many micro-dollars; `None` does not bound.
    pub fn new(max_tokens: Option<u64>, max_micro_usd: Option<u64>) -> Arc<Budget> {
        Arc::new(Budget { max_tokens, max_micro_usd, state: Mutex::default() })
    }

    /// What was spent so far; reservations are not in it.
    pub fn spent(&self) -> Spent {
        self.lock().spent
    }

    /// The bound that a call of this run ran into first, if one did: the run's own, a budget's, or the key owner's.
    pub fn hit(&self) -> Option<LimitHit> {
        self.lock().hit.clone()
    }

    /// Notes that a bound ended a call.
    pub(crate) fn note(&self, hit: LimitHit) {
        self.lock().hit.get_or_insert(hit);
    }

    /// Why a call of this run could not be paid for, where that was nobody's bound but the keeper of the budgets' failure.
    pub fn unavailable(&self) -> Option<String> {
        self.lock().unavailable.clone()
    }

    /// Notes that a call could not be counted.
    pub(crate) fn note_unavailable(&self, why: &str) {
        self.lock().unavailable.get_or_insert_with(|| why.to_owned());
    }

    fn left_of(&self, state: &State) -> Left {
        let used = state.used();
        Left {
            tokens: self.max_tokens.map(|max| max.saturating_sub(used.tokens)),
            micro_usd: self.max_micro_usd.map(|max| max.saturating_sub(used.micro_usd)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is completed under the lock; a panic elsewhere leaves the sums whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Purse for Arc<Budget> {
    fn left(&self) -> Left {
        self.left_of(&self.lock())
    }

    fn hold(&self, amount: Amount) -> Option<Box<dyn Held>> {
        let mut state = self.lock();
        let left = self.left_of(&state);
        if left.tokens.is_some_and(|left| amount.tokens > left)
            || left.micro_usd.is_some_and(|left| amount.micro_usd > left)
        {
            return None;
        }
        state.reserved.tokens = state.reserved.tokens.saturating_add(amount.tokens);
        state.reserved.micro_usd = state.reserved.micro_usd.saturating_add(amount.micro_usd);
        drop(state);
        Some(Box::new(OfRun { budget: Arc::clone(self), amount }))
    }

    fn refusal(&self, short: Short) -> LimitHit {
        let limit = Amount {
            tokens: self.max_tokens.unwrap_or(u64::MAX),
            micro_usd: self.max_micro_usd.unwrap_or(u64::MAX),
        };
        LimitHit::short(BoundOf::Run, short, self.lock().used(), limit)
    }
}

/// Set aside of a run's budget.
struct OfRun {
    budget: Arc<Budget>,
    amount: Amount,
}

impl Held for OfRun {
    fn spend(&self, usage: &Usage, micro_usd: u64) {
        let mut state = self.budget.lock();
        let spent = &mut state.spent;
        spent.input_tokens = spent.input_tokens.saturating_add(usage.input);
        spent.output_tokens = spent.output_tokens.saturating_add(usage.output);
        spent.micro_usd = spent.micro_usd.saturating_add(micro_usd);
    }
}

impl Drop for OfRun {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        // Never below zero: what is taken off here was put on in `hold`, unless the sum had saturated.
        state.reserved.tokens = state.reserved.tokens.saturating_sub(self.amount.tokens);
        state.reserved.micro_usd = state.reserved.micro_usd.saturating_sub(self.amount.micro_usd);
    }
}

/// How often a call asks again when others were quicker each time.
const ROUNDS: usize = 32;

/// Output tokens of an answer that goes on beyond what was set aside for it which are asked for at once.
const STRIDE: u64 = 1024;

/// Everything that one call is paid from.
#[derive(Clone)]
pub(crate) struct Payers {
    /// The run's, then the key owner's where there is a key.
    purses: Vec<Arc<dyn Purse>>,
    treasury: Option<Arc<dyn Treasury>>,
    key: Option<String>,
}

impl Payers {
    pub(crate) fn of(
        budget: &Arc<Budget>,
        key: Option<&Arc<dyn Credential>>,
        treasury: Option<&Arc<dyn Treasury>>,
    ) -> Payers {
        let mut purses: Vec<Arc<dyn Purse>> = vec![Arc::new(Arc::clone(budget))];
        purses.extend(key.map(|key| Arc::new(Owners(Arc::clone(key))) as Arc<dyn Purse>));
        // What a caller brought along under the same name is not the vault's key.
        let key = key.filter(|key| key.version().is_some()).map(|key| key.id().to_owned());
        Payers { purses, treasury: treasury.cloned(), key }
    }

    /// Sets aside the worst case of one call, in every purse or in none.
    ///
    /// # Errors
    /// Nothing is left for even one token of answer, or the cost, or what is left, cannot be known.
    pub(crate) async fn reserve(self, ask: Ask) -> Result<Reservation, Unreserved> {
        let (output, bounded, held) = self.set_aside(ask).await?;
        Ok(Reservation { payers: self, ask, output, bounded, held, more: Vec::new() })
    }

    async fn set_aside(&self, ask: Ask) -> Result<(Option<u64>, bool, Vec<Box<dyn Held>>), Unreserved> {
        let mut short = Short::Tokens(ask.amount(1).tokens);
        let mut scarce = &self.purses[0];
        for _ in 0..ROUNDS {
            let mut asked = ask;
            let mut bounded = false;
            for purse in &self.purses {
                let left = purse.left();
                bounded |= left != Left::default();
                asked.max_output = asked.within(&left).map_err(|short| purse.refusal(short))?;
            }
            let mut held: Vec<Box<dyn Held>> = Vec::with_capacity(self.purses.len() + 1);
            if let Some(treasury) = &self.treasury {
                let granted = treasury.reserve(self.key.as_deref(), asked).await?;
                let Granted { output, bounded: by_budget, held: of_treasury } = granted;
                asked.max_output = output;
                bounded |= by_budget;
                held.push(of_treasury);
            }
            let amount = asked.amount(asked.max_output.unwrap_or(0));
            let quicker = self.purses.iter().find(|purse| match purse.hold(amount) {
                Some(holding) => {
                    held.push(holding);
                    false
                }
                None => true,
            });
            let Some(purse) = quicker else { return Ok((asked.max_output, bounded, held)) };
            // Others were quicker, and what they took may come back: all that is held goes back, and is asked for anew.
            scarce = purse;
            short = match purse.left().micro_usd {
                Some(left) if left < amount.micro_usd => Short::Money(amount.micro_usd),
                _ => Short::Tokens(amount.tokens),
            };
        }
        Err(scarce.refusal(short).into())
    }
}

/// Money and tokens set aside for one call; what is left of it goes back when it is dropped.
pub(crate) struct Reservation {
    payers: Payers,
    ask: Ask,
    /// Of one answer, as far as it is paid for.
    output: Option<u64>,
    bounded: bool,
    held: Vec<Box<dyn Held>>,
    /// What was set aside later on.
    more: Vec<Box<dyn Held>>,
}

impl Reservation {
    /// The bound on one answer; `None` when nothing but the client and the model bound it.
    pub(crate) fn max_output(&self) -> Option<u64> {
        self.output.filter(|max| self.bounded && *max < NO_BOUND)
    }

    /// How many answers are asked for at once.
    pub(crate) fn answers(&self) -> u64 {
        self.ask.answers.max(1)
    }

    /// Sets aside what answers of `output` tokens in all need beyond what was. `output` must be a count that the provider
    /// cannot be below: an answer that its provider does not bound is paid for as long as there is anything to pay with.
    ///
    /// # Errors
    /// The limit that they break.
    pub(crate) async fn cover(&mut self, output: u64) -> Result<(), Unreserved> {
        let answers = self.answers();
        while let Some(had) = self.output.filter(|had| self.bounded && output > had.saturating_mul(answers)) {
            let wanted = output.div_ceil(answers).max(had.saturating_add(STRIDE));
            let ask = Ask { already: Some(had), max_output: Some(wanted), ..self.ask };
            let (output, _, held) = self.payers.set_aside(ask).await?;
            self.output = output;
            self.more.extend(held);
        }
        Ok(())
    }

    /// Books what the provider counted. Returns the cost in micro-dollars, when the price is known.
    pub(crate) fn settle(self, usage: &Usage) -> Option<u64> {
        let tokens = PricedTokens {
            input: usage.input,
            cached: usage.cached_input,
            cache_write: usage.cache_write,
            cache_write_1h: usage.cache_write_1h,
            output: usage.output,
        };
        let micro_usd = self.ask.price.map(|price| price.cost_of(&tokens).micros());
        self.held.iter().for_each(|held| held.spend(usage, micro_usd.unwrap_or(0)));
        micro_usd
    }

    /// What to book for an answer whose counts never came: the input as far as it was counted, else all that was set
    /// aside for it; `output` tokens as far as they were set aside, or all that were when it is `None`.
    pub(crate) fn estimate(&self, counted: Option<Usage>, output: Option<u64>) -> Usage {
        let set_aside = self.output.map(|max| max.saturating_mul(self.answers()));
        let output = match (output, set_aside) {
            (Some(output), Some(set_aside)) => output.min(set_aside),
            (Some(output), None) => output,
            (None, set_aside) => set_aside.unwrap_or(0),
        };
        // What was asked to be written to the cache is the dearest of what the input may have been.
        let written = |long| if self.ask.cache_writes >= long { self.ask.input } else { 0 };
        let counted = counted.unwrap_or(Usage {
            input: self.ask.input,
            cache_write: written(CacheWrites::Short),
            cache_write_1h: written(CacheWrites::Long),
            ..Usage::default()
        });
        Usage { output: output.max(counted.output), ..counted }
    }
}

#[cfg(test)]
mod tests;
