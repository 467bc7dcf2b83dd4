//! Model calls, and what they add up to.

use orch_manifests::RunId;
use time::OffsetDateTime;

/// One model call, of a run or of a client of the gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct CallRow {
    /// Who pays.
    pub workspace: String,
    /// The run that called; none for a client of the gateway.
    pub run: Option<RunId>,
    /// Who asked.
    pub caller: String,
    /// The agent's name; none for a client of the gateway.
    pub agent: Option<String>,
    /// Who answered, or was tried last.
    pub provider: String,
    /// The model that answered, or was tried last.
    pub model: String,
    /// Input tokens. Counts over [`COUNT_LIMIT`] are stored as that: a provider that counts wrong must not spoil sums.
    pub input_tokens: u64,
    /// Output tokens, bounded as input tokens are.
    pub output_tokens: u64,
    /// Millionths of a US dollar, bounded as tokens are; none when the price is not known.
    pub cost_micro_usd: Option<u64>,
    /// When it ended.
    pub time: OffsetDateTime,
    /// The name of its request, as its answer had it; none for calls stored before there was one.
    pub request: Option<String>,
    /// The key that served it, or was tried last, by name.
    pub credential: Option<String>,
    /// The day on which the prices were published that it was counted by, as `YYYY-MM-DD`.
    pub price_date: Option<String>,
    /// The gateway's receipt, as JSON.
    pub receipt: String,
}

/// The largest count that is stored: 2^40. Eight million of them still add up in 63 bits.
pub const COUNT_LIMIT: u64 = 1 << 40;

/// Which calls of a workspace to add up, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageQuery {
    /// From this time on.
    pub since: Option<OffsetDateTime>,
    /// Before this time.
    pub until: Option<OffsetDateTime>,
    /// One row for each what.
    pub by: UsageBy,
}

/// What a row of usage stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageBy {
    /// A day (UTC); the key is its date, `2026-01-31`.
    Day,
    /// An agent; the key is its name, and empty for clients of the gateway.
    Agent,
    /// A model; the key is `provider/model`.
    Model,
    /// A provider; the key is its name.
    Provider,
    /// Everything: one row with an empty key, also when there is nothing to add up. A run that used two models counts
    /// once here, so the total is not the sum of other rows.
    Total,
}

/// What calls add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// What it stands for.
    pub key: String,
    /// Distinct runs that made the calls.
    pub runs: u64,
    /// Calls.
    pub calls: u64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Millionths of a US dollar; none when the price of any call is not known.
    pub cost_micro_usd: Option<u64>,
}
