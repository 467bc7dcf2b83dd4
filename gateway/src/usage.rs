//! What a run may spend, and what it has spent.
//!
//! Spend is reserved before a call and settled after it, so that calls under way at the same time can never go
//! over together. A reservation is the worst case: one token per byte of text (a token covers at least one byte),
//! never more than the model's context, and an answer whose bound is clamped to what is left.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orch_manifests::Price;
use serde::Serialize;

use crate::ir::{ChatRequest, ImageSource, Part, Tool, Usage};

/// Which bound was hit, for the error and the exit code. Tokens are counted in ones, money in micro-dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("the run's limit `{name}` is reached: {used} of {limit} {} are spent or reserved, and {needed} more are needed", self.unit())]
pub struct LimitHit {
    /// `tokens`, `cost_usd`, or a limit of the network, as the manifest spells it.
    pub name: &'static str,
    /// Spent and reserved when it was hit.
    pub used: u64,
    /// The bound.
    pub limit: u64,
    /// The least that the refused call needed.
    pub needed: u64,
}

impl LimitHit {
    fn unit(&self) -> &'static str {
        match self.name.trim_start_matches("per_host.") {
            COST => "micro-dollars",
            "requests" => "requests",
            "upload" | "download" => "bytes",
            _ => "tokens",
        }
    }
}

/// Why a reservation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// Nothing, or too little, is left.
    #[error(transparent)]
    Limit(LimitHit),
    /// Money is bounded and this model's price is not known.
    #[error("the run, or its key's owner, bounds the cost, and the price of this model is not known")]
    UnknownPrice,
    /// The key's owner bounds what calls with it cost, and what is left does not pay for this one.
    #[error("what the key's owner granted for it does not pay for this call any more")]
    Owner,
}

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
    reserved_tokens: u64,
    reserved_micro_usd: u64,
    hit: Option<LimitHit>,
}

impl State {
    fn tokens(&self) -> u64 {
        let Spent { input_tokens, output_tokens, .. } = self.spent;
        input_tokens.saturating_add(output_tokens).saturating_add(self.reserved_tokens)
    }

    fn micro_usd(&self) -> u64 {
        self.spent.micro_usd.saturating_add(self.reserved_micro_usd)
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

    /// The bound that a call of this run ran into first, if one did.
    pub fn hit(&self) -> Option<LimitHit> {
        self.lock().hit
    }

    /// Whether money is bounded.
    pub fn bounds_cost(&self) -> bool {
        self.max_micro_usd.is_some()
    }

    /// Notes that a bound ended a call.
    pub(crate) fn note(&self, hit: LimitHit) {
        self.lock().hit.get_or_insert(hit);
    }

    /// Sets aside the worst case of one call.
    ///
    /// # Errors
    /// Nothing is left for even one token of answer, or the cost cannot be known.
    pub fn reserve(self: &Arc<Self>, ask: &Ask) -> Result<Reservation, ReserveError> {
        let bounded = self.max_micro_usd.is_some() || ask.owners_micro_usd.is_some();
        if bounded && ask.price.is_none() {
            return Err(ReserveError::UnknownPrice);
        }
        let mut state = self.lock();
        let answers = ask.answers.max(1);
        let mut output = ask.max_output;
        if let Some(limit) = self.max_tokens {
            let used = state.tokens();
            let can = limit.saturating_sub(used).saturating_sub(ask.input) / answers;
            if can == 0 {
                let needed = ask.input.saturating_add(answers);
                return Err(ReserveError::Limit(LimitHit { name: TOKENS, used, limit, needed }));
            }
            output = Some(output.map_or(can, |wanted| wanted.min(can)));
        }
        if let (Some(limit), Some(price)) = (self.max_micro_usd, &ask.price) {
            let used = state.micro_usd();
            let left = limit.saturating_sub(used);
            let can = payable_output(left, |output| ask.cost(price, output));
            if can == 0 {
                let needed = ask.cost(price, 1);
                return Err(ReserveError::Limit(LimitHit { name: COST, used, limit, needed }));
            }
            output = Some(output.map_or(can, |wanted| wanted.min(can)));
        }
        if let (Some(left), Some(price)) = (ask.owners_micro_usd, &ask.price) {
            let can = payable_output(left, |output| ask.cost(price, output));
            if can == 0 {
                return Err(ReserveError::Owner);
            }
            output = Some(output.map_or(can, |wanted| wanted.min(can)));
        }
        let tokens = ask.input.saturating_add(output.unwrap_or(0).saturating_mul(answers));
        let micro_usd = ask.price.as_ref().map_or(0, |price| ask.cost(price, output.unwrap_or(0)));
        state.reserved_tokens = state.reserved_tokens.saturating_add(tokens);
        state.reserved_micro_usd = state.reserved_micro_usd.saturating_add(micro_usd);
        drop(state);
        Ok(Reservation {
            budget: Arc::clone(self),
            price: ask.price,
            input: ask.input,
            max_output: output,
            answers,
            tokens,
            micro_usd,
            by_owner: ask.owners_micro_usd.is_some(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is completed under the lock; a panic elsewhere leaves the sums whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const TOKENS: &str = "tokens";
const COST: &str = "cost_usd";

/// More than any answer: keeps arithmetic on bounds far from overflow.
const NO_BOUND: u64 = 1 << 40;

/// The largest answer in tokens that `left` pays for; `cost` grows with it.
fn payable_output(left: u64, cost: impl Fn(u64) -> u64) -> u64 {
    if cost(NO_BOUND) <= left {
        return NO_BOUND;
    }
    let (mut payable, mut too_much) = (0, NO_BOUND);
    while too_much - payable > 1 {
        let middle = payable + (too_much - payable) / 2;
        if cost(middle) <= left { payable = middle } else { too_much = middle }
    }
    payable
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
    /// The model's price, when it is known.
    pub price: Option<Price>,
    /// Whether the client asks the provider to write its prompt cache, which costs more than plain input.
    pub cache_writes: bool,
    /// What the owner of the key lets calls with it cost still; `None` when that is not bounded.
    pub owners_micro_usd: Option<u64>,
}

impl Ask {
    fn cost(&self, price: &Price, output: u64) -> u64 {
        let written = if self.cache_writes { self.input } else { 0 };
        let output = output.saturating_mul(self.answers.max(1));
        price.cost(self.input, 0, written, output).micros()
    }
}

/// Money and tokens set aside for one call; what is left of it goes back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    price: Option<Price>,
    input: u64,
    max_output: Option<u64>,
    answers: u64,
    tokens: u64,
    micro_usd: u64,
    /// Whether the key's owner bounds it.
    by_owner: bool,
}

impl Reservation {
    /// The most that the call can cost.
    pub fn micro_usd(&self) -> u64 {
        self.micro_usd
    }

    /// The bound on one answer; `None` when nothing bounds it.
    pub fn max_output(&self) -> Option<u64> {
        let bounded =
            self.by_owner || self.budget.max_tokens.is_some() || self.budget.max_micro_usd.is_some();
        self.max_output.filter(|max| bounded && *max < NO_BOUND)
    }

    /// The limit that this many output tokens break, if one does. `output` must be a count that the provider
    /// cannot be below.
    pub fn broken_by(&self, output: u64) -> Option<LimitHit> {
        let allowed = self.max_output?.saturating_mul(self.answers);
        if output <= allowed {
            return None;
        }
        let state = self.budget.lock();
        if let Some(limit) = self.budget.max_tokens {
            return Some(LimitHit { name: TOKENS, used: state.tokens(), limit, needed: output - allowed });
        }
        let limit = self.budget.max_micro_usd?;
        let needed = self.price.map_or(0, |price| price.cost(0, 0, 0, output - allowed).micros());
        Some(LimitHit { name: COST, used: state.micro_usd(), limit, needed })
    }

    /// Books what the provider counted. Returns the cost in micro-dollars, when the price is known.
    pub fn settle(self, usage: &Usage) -> Option<u64> {
        let micro_usd = self.price.map(|price| {
            price.cost(usage.input, usage.cached_input, usage.cache_write, usage.output).micros()
        });
        let mut state = self.budget.lock();
        let spent = &mut state.spent;
        spent.input_tokens = spent.input_tokens.saturating_add(usage.input);
        spent.output_tokens = spent.output_tokens.saturating_add(usage.output);
        spent.micro_usd = spent.micro_usd.saturating_add(micro_usd.unwrap_or(0));
        micro_usd
    }

    /// What to book for an answer whose counts never came: the input as far as it was counted, else all that was set
    /// aside for it; `output` tokens as far as they were set aside, or all that were when it is `None`.
    pub fn estimate(&self, counted: Option<Usage>, output: Option<u64>) -> Usage {
        let set_aside = self.max_output.map(|max| max.saturating_mul(self.answers));
        let output = match (output, set_aside) {
            (Some(output), Some(set_aside)) => output.min(set_aside),
            (Some(output), None) => output,
            (None, set_aside) => set_aside.unwrap_or(0),
        };
        let counted = counted.unwrap_or(Usage { input: self.input, ..Usage::default() });
        Usage { output: output.max(counted.output), ..counted }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        // Never below zero: what is taken off here was put on in `reserve`, unless the sum had saturated.
        state.reserved_tokens = state.reserved_tokens.saturating_sub(self.tokens);
        state.reserved_micro_usd = state.reserved_micro_usd.saturating_sub(self.micro_usd);
    }
}

/// Tokens that an image can count for at most: the largest tile count of the models in use.
const IMAGE_TOKENS: u64 = 50_000;

/// Tokens of structure around one message or tool.
const FRAME_TOKENS: u64 = 32;

/// Input tokens of a request at most.
pub fn worst_input(request: &ChatRequest, body_len: usize, context: Option<u64>) -> u64 {
    let found = request.messages.iter().map(|message| images(&message.content));
    let (count, bytes) = found.fold((0, 0), |(count, bytes), (n, b)| (count + n, bytes + b));
    let frames = request.messages.len() as u64 + request.tools.len() as u64 + 1;
    // The body's bytes stand for every text in it, wherever it is, structure and escapes included.
    let text = body_len.saturating_sub(bytes) as u64;
    let all = text + count * IMAGE_TOKENS + frames * FRAME_TOKENS;
    if request.messages.iter().any(|message| has_film(&message.content)) {
        return context.unwrap_or(ANY_CONTEXT).max(FRAME_TOKENS);
    }
    // What does not fit the context is refused by the provider, unpaid.
    context.map_or(all, |context| all.min(context))
}

/// Tokens that every model in use can take.
const ANY_CONTEXT: u64 = 2 << 20;

/// Whether a part is sound, film or a document of Gemini's dialect: a few bytes, or an address, can be an hour of film or
/// a thousand pages, so that nothing but the model's context bounds them.
fn has_film(parts: &[Part]) -> bool {
    parts.iter().any(|part| match part {
        Part::Opaque(value) => value.get("fileData").is_some() || value.get("inlineData").is_some(),
        Part::ToolResult(result) => has_film(&result.content),
        _ => false,
    })
}

/// Number of images, and bytes of their data.
fn images(parts: &[Part]) -> (u64, usize) {
    parts.iter().fold((0, 0), |(count, bytes), part| match part {
        Part::Image(image) => match &image.source {
            ImageSource::Url(_) => (count + 1, bytes),
            ImageSource::Base64 { data, .. } => (count + 1, bytes + data.len()),
        },
        Part::ToolResult(result) => {
            let (inner, inner_bytes) = images(&result.content);
            (count + inner, bytes + inner_bytes)
        }
        _ => (count, bytes),
    })
}

const CACHE_CONTROL: &str = "cache_control";

/// Whether the client asks for cache writes anywhere.
pub(crate) fn asks_for_cache_writes(request: &ChatRequest) -> bool {
    request.extras.contains_key(CACHE_CONTROL)
        || marked(&request.system)
        || request.messages.iter().any(|message| marked(&message.content))
        || request.tools.iter().any(|tool| match tool {
            Tool::Function { extras, .. } => extras.contains_key(CACHE_CONTROL),
            Tool::Provider { raw, .. } => raw.get(CACHE_CONTROL).is_some(),
        })
}

fn marked(parts: &[Part]) -> bool {
    parts.iter().any(|part| match part {
        Part::Text { extras, .. } => extras.contains_key(CACHE_CONTROL),
        Part::Image(image) => image.extras.contains_key(CACHE_CONTROL),
        Part::ToolResult(result) => result.extras.contains_key(CACHE_CONTROL) || marked(&result.content),
        // Bedrock's marker stands behind what it marks.
        Part::Opaque(value) => value.get(CACHE_CONTROL).is_some() || value.get("cachePoint").is_some(),
        // A tool call's marker is not kept by the intermediate form.
        Part::ToolCall(_) => true,
        Part::Reasoning { .. } | Part::Refusal(_) => false,
    })
}

#[cfg(test)]
mod tests;
