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
    /// Who asked: what their token is called.
    pub caller: String,
    /// The id of their token; none for calls stored before it was kept.
    pub token: Option<String>,
    /// The member of the workspace that the token is of, where it is of one.
    pub member: Option<String>,
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
    /// Where that key lay: `flag`, `env`, `vault` or `simulated`.
    pub source: Option<String>,
    /// The last four characters of that key, where it is long enough to show them.
    pub mask: Option<String>,
    /// Whose that key is, and so who is billed: `own`, `team` or `platform`.
    pub billing: Option<String>,
    /// The provider that was asked for first.
    pub provider_asked: Option<String>,
    /// The model as the client named it.
    pub model_asked: Option<String>,
    /// How it ended, in the receipt's word.
    pub outcome: Option<String>,
    /// The class of its failure, where it failed.
    pub class: Option<String>,
    /// From the request to the end of its answer, in milliseconds.
    pub latency_ms: Option<u64>,
    /// From the request to the first thing that a streamed answer said, in milliseconds.
    pub first_token_ms: Option<u64>,
    /// The day on which the prices were published that it was counted by, as `YYYY-MM-DD`.
    pub price_date: Option<String>,
    /// The gateway's receipt, as JSON.
    pub receipt: String,
    /// What of its tokens and its cost is not for the key, provider and model above. It is written and added up, and no part of
    /// what is read again: there the receipt says it.
    pub moved: Vec<Moved>,
}

/// What an attempt that failed came to, of a call that another key, provider or model answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The provider that charges for it, or may.
    pub provider: String,
    /// The model.
    pub model: String,
    /// The key.
    pub credential: Option<String>,
    /// Whose that is, as in [`CallRow::billing`].
    pub billing: Option<String>,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Millionths of a US dollar; none when the price is not known.
    pub cost_micro_usd: Option<u64>,
}

/// The largest count that is stored: 2^40. Eight million of them still add up in 63 bits.
pub const COUNT_LIMIT: u64 = 1 << 40;

/// Which calls of a workspace to look at. What is not said is not asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallFilter {
    /// Those that ended from this time on.
    pub since: Option<OffsetDateTime>,
    /// Those that ended before this time.
    pub until: Option<OffsetDateTime>,
    /// Those of the token with this id, and no other: what bounds a caller who may see no more.
    pub only_of: Option<String>,
    /// Those of the token with this id or name.
    pub token: Option<String>,
    /// Those of this member.
    pub member: Option<String>,
    /// Those of this run.
    pub run: Option<String>,
    /// Those of this agent.
    pub agent: Option<String>,
    /// Those that this provider answered, or was tried last for.
    pub provider: Option<String>,
    /// Those that this model answered, or that asked for it; with or without its provider before a slash.
    pub model: Option<String>,
    /// Those with the key of this name.
    pub credential: Option<String>,
    /// Those whose key is `own`, `team` or `platform`.
    pub billing: Option<String>,
    /// Those that ended so; `failed` is all that were not served.
    pub outcome: Option<String>,
    /// Those that failed with this class.
    pub class: Option<String>,
}

/// Which page of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallPage {
    /// The newest, by the time at which they ended.
    Newest,
    /// Those that ended before the call whose request has this name.
    Before(String),
    /// Those that were put on record after the call whose request has this name, in the order in which they were.
    After(String),
}

/// Which calls of a workspace to add up, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageQuery {
    /// Only those of the token with this id.
    pub only_of: Option<String>,
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
    /// A key that calls were made with; the key is its name, and empty where there was none.
    Credential,
    /// Who is billed: the key is `own`, `team` or `platform`, and empty where nobody was asked or nobody is billed.
    Billing,
    /// A member of the workspace; the key is empty for tokens that are of none.
    Member,
    /// A token; the key is its id (empty for calls stored before it was kept), and the row has its name.
    Token,
    /// Everything: one row with an empty key, also when there is nothing to add up. A run that used two models counts
    /// once here, so the total is not the sum of other rows.
    Total,
}

/// What calls add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// What it stands for.
    pub key: String,
    /// What a token is called.
    pub name: Option<String>,
    /// Distinct runs that made the calls.
    pub runs: u64,
    /// Calls.
    pub calls: u64,
    /// Those of them that were not served.
    pub failed: u64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Millionths of a US dollar; none when the price of any call is not known.
    pub cost_micro_usd: Option<u64>,
    /// The part of it that the operator's own keys paid for; the rest is billed to whoever brought a key. Bounded from
    /// below where the price of a call is not known.
    pub platform_micro_usd: u64,
}

/// What a key has come to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyUse {
    /// When the last call with it ended.
    pub last_call: Option<OffsetDateTime>,
    /// Millionths of a US dollar: this day, this month and in all, in UTC.
    pub micro_usd: [u64; 3],
    /// Tokens in all.
    pub tokens: u64,
}

impl KeyUse {
    /// Adds what the same key has come to elsewhere.
    pub(crate) fn add(&mut self, other: &Self) {
        self.last_call = self.last_call.max(other.last_call);
        for (sum, more) in self.micro_usd.iter_mut().zip(other.micro_usd) {
            *sum = sum.saturating_add(more);
        }
        self.tokens = self.tokens.saturating_add(other.tokens);
    }
}
