//! What is on record of each model call: who made it, with which key, how it went, and, where a workspace wants that, what
//! was asked and answered.
//!
//! Calls of runs and of clients become rows in one place ([`Who::call`]); they are shown in one as well (`shown.rs`), as
//! JSON and as CSV.

use orch_gateway::Receipt;
use orch_manifests::RunId;
use time::OffsetDateTime;

use crate::caller::Caller;
use crate::store::{CallRow, Moved, RunRow};

mod bodies;
mod csv;
mod settings;
mod shown;
#[cfg(test)]
mod tests;

pub(crate) use bodies::{BodyKeeper, Recorder, recorded};
pub use csv::Csv;
pub(crate) use settings::{BodiesKept, RawRecords, RecordsConfig};
pub use shown::{calls_csv, usage_csv};
pub(crate) use shown::{detail, one, usage};

/// Who makes calls, as the records have it.
#[derive(Debug, Clone)]
pub(crate) struct Who {
    /// Who pays.
    pub(crate) workspace: String,
    /// What their token is called.
    pub(crate) name: String,
    /// The id of their token.
    pub(crate) token: Option<String>,
    /// The member of the workspace that the token is of, where it is of one.
    pub(crate) member: Option<String>,
}

impl Who {
    /// Whoever sent a request.
    pub(crate) fn of(caller: &Caller) -> Self {
        Self {
            workspace: caller.workspace.to_string(),
            name: caller.name.to_string(),
            token: Some(caller.id.to_string()),
            // A token is a member's until there are members with more than one.
            member: Some(caller.name.to_string()),
        }
    }

    /// Whoever asked for a run that another process accepted.
    pub(crate) fn of_run(run: &RunRow) -> Self {
        Self {
            workspace: run.workspace.clone(),
            name: run.caller.clone(),
            token: run.token.clone(),
            member: run.member.clone(),
        }
    }

    /// A call of theirs, or of a run of theirs and its agent.
    pub(crate) fn call(
        &self,
        of_run: Option<(&RunId, &str)>,
        receipt: &Receipt,
        time: OffsetDateTime,
    ) -> CallRow {
        let (provider, model) = receipt.answered_by();
        // What was refused at once was for no provider yet.
        let provider = if provider.is_empty() { "none".to_owned() } else { provider };
        let key = receipt.credential.as_ref();
        // Whoever was told nothing charges nothing, whatever the price: one refusal must not make a month's cost unknown.
        let free = (receipt.input_tokens, receipt.output_tokens) == (0, 0);
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        CallRow {
            workspace: self.workspace.clone(),
            run: of_run.map(|(run, _)| run.clone()),
            caller: self.name.clone(),
            token: self.token.clone(),
            member: self.member.clone(),
            agent: of_run.map(|(_, agent)| agent.to_owned()),
            provider,
            model,
            input_tokens: receipt.input_tokens,
            output_tokens: receipt.output_tokens,
            cost_micro_usd: receipt.cost_micro_usd.or(free.then_some(0)),
            time,
            request: Some(receipt.request_id.clone()),
            credential: key.map(|key| key.id.clone()),
            source: key.map(|key| key.source.clone()),
            mask: key.and_then(|key| key.mask.clone()),
            billing: billing(receipt).map(str::to_owned),
            provider_asked: some(&receipt.provider_asked),
            model_asked: some(&receipt.model_asked),
            outcome: Some(receipt.outcome_word().to_owned()),
            class: receipt.class.map(|class| class.as_str().to_owned()),
            latency_ms: Some(receipt.latency_ms),
            first_token_ms: receipt.first_token_ms,
            price_date: receipt.price_as_of.clone(),
            receipt: serde_json::to_string(receipt).unwrap_or_default(),
            moved: moved(receipt),
        }
    }
}

/// What failed attempts came to that another key, provider or model was asked for than those that a call stands under.
fn moved(receipt: &Receipt) -> Vec<Moved> {
    let Some(last) = receipt.attempts.last() else { return Vec::new() };
    let stands = (&last.provider, &last.model, receipt.credential.as_ref().map(|key| &key.id));
    let elsewhere = receipt
        .attempts
        .iter()
        .filter(|attempt| (&attempt.provider, &attempt.model, attempt.credential.as_ref()) != stands);
    elsewhere
        .filter_map(|attempt| {
            let charged = attempt.charged.as_ref()?;
            Some(Moved {
                provider: attempt.provider.clone(),
                model: attempt.model.clone(),
                credential: attempt.credential.clone(),
                billing: attempt
                    .whose
                    .filter(|_| attempt.credential.is_some() && !receipt.simulated)
                    .map(|whose| whose.as_str().to_owned()),
                input_tokens: charged.input_tokens,
                output_tokens: charged.output_tokens,
                cost_micro_usd: charged.cost_micro_usd,
            })
        })
        .collect()
}

/// Whose key served a call, or was tried last, and so who is billed for it; none where nobody was asked, or nobody is
/// billed.
fn billing(receipt: &Receipt) -> Option<&'static str> {
    let key = receipt.credential.as_ref().filter(|_| !receipt.simulated)?;
    Some(key.whose.as_str())
}
