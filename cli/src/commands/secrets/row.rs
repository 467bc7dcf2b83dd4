//! What is shown of a secret, as the contract has it.

use orch_server::Failure;
use orch_vault::ValuePlace;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// A secret in a listing.
#[derive(Debug, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(super) version: u64,
    pub(crate) mask: Option<String>,
    pub(super) updated: String,
    pub(super) expires: Option<String>,
    pub(super) expired: bool,
    pub(super) last_used: Option<String>,
    /// The last call of a model with it; left out by servers before it was known, as is what it spent.
    #[serde(default)]
    pub(super) last_call: Option<String>,
    #[serde(default)]
    pub(super) spent: Option<Spent>,
    pub(super) provider: Option<Provider>,
    pub(super) grants: Vec<GrantRow>,
    pub(super) scrubbable: bool,
    pub(super) never_in_header: bool,
}

/// Whose key it is.
#[derive(Debug, Deserialize)]
pub(super) struct Provider {
    pub(super) host: String,
}

/// What calls with a key came to.
#[derive(Debug, Deserialize)]
pub(super) struct Spent {
    pub(super) month_usd: f64,
}

/// One grant of a secret.
#[derive(Debug, Deserialize)]
pub(super) struct GrantRow {
    pub(super) id: u32,
    pub(super) host: Option<String>,
    pub(super) methods: Vec<String>,
    pub(super) paths: Vec<String>,
    pub(super) place: Option<ValuePlace>,
    /// Left out by servers before it was known.
    #[serde(default)]
    pub(super) account: Vec<String>,
    pub(super) agents: Vec<String>,
    pub(super) runs: Option<u64>,
    pub(super) max_cost_usd: Option<f64>,
    pub(super) expires: Option<String>,
    pub(super) used: Used,
    /// Why it allows nothing any more.
    pub(super) spent: Option<String>,
}

/// What was done with a grant.
#[derive(Debug, Deserialize)]
pub(super) struct Used {
    pub(super) runs: u64,
    pub(super) cost_usd: f64,
}

impl Row {
    /// Whether nobody said where it may go.
    pub(super) fn goes_nowhere(&self) -> bool {
        self.provider.is_none() && self.grants.is_empty()
    }

    /// Where it may go, in a few words.
    pub(super) fn destination(&self) -> String {
        let first = self.provider.as_ref().map(|provider| provider.host.as_str());
        let hosts: Vec<&str> = self.grants.iter().filter_map(|grant| grant.host.as_deref()).collect();
        let Some(host) = first.or(hosts.first().copied()) else { return "nowhere yet".to_owned() };
        let mut text = cut(host, 33);
        match (self.provider.is_some(), self.grants.as_slice()) {
            (_, []) => {}
            (_, [grant]) => text.push_str(&grant.narrowed()),
            (true, grants) => text.push_str(&format!(" ({} grants)", grants.len())),
            (false, grants) => text.push_str(&format!(" +{} more", grants.len() - 1)),
        }
        if !self.grants.is_empty() && self.grants.iter().all(|grant| grant.spent.is_some()) {
            text.push_str(", used up");
        }
        text
    }
}

impl GrantRow {
    /// What it narrows, in a word each.
    fn narrowed(&self) -> String {
        let mut words = Vec::new();
        if !self.methods.is_empty() {
            words.push(self.methods.join(","));
        }
        match self.agents.as_slice() {
            [] => {}
            [agent] => words.push(format!("for {}", cut(agent, 24))),
            agents => words.push(format!("for {} agents", agents.len())),
        }
        if words.is_empty() { String::new() } else { format!(" ({})", words.join("; ")) }
    }

    /// Where in a request, as a flag says it.
    pub(super) fn place_text(&self) -> String {
        self.place.as_ref().map(ToString::to_string).unwrap_or_default()
    }
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// What this process has said in the contract's words, as the type that they are.
pub(super) fn typed<T: DeserializeOwned>(document: Value) -> Result<T, Failure> {
    serde_json::from_value(document)
        .map_err(|e| Failure::defect(format!("a secret is told in other words than it is read: {e}")))
}
