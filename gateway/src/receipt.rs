//! What happened to each call, for the run's result and for whoever pays.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use orch_manifests::Whose;
use serde::{Serialize, Serializer};

use crate::ir::{Class, Dropped};
use crate::plan::Candidate;
use crate::shown::shown;

/// The record of one call. Holds names and numbers, never a key.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Receipt {
    /// The name of the request, as its answer has it in `x-request-id`.
    pub request_id: String,
    /// The credential that served, or that was tried last.
    pub credential: Option<CredentialRef>,
    /// Whether that was a key of the caller or of the workspace, and not the platform's. False where no key was used.
    pub byok: bool,
    /// The provider that the client or the plan asked for first.
    pub provider_asked: String,
    /// The model as the client named it; the plan's first when it named none.
    pub model_asked: String,
    /// Who answered.
    pub provider_served: Option<String>,
    /// The model that the provider says has answered.
    pub model_served: Option<String>,
    /// Every request that was sent, in order; the last one of a served call is the one that served.
    pub attempts: Vec<Attempt>,
    /// Candidates that were passed over, and why.
    pub skipped: Vec<Skipped>,
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// Whether the provider sent no counts and these are an upper estimate.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// Dollars; absent when the price is not known.
    #[serde(rename = "cost_usd", serialize_with = "dollars")]
    pub cost_micro_usd: Option<u64>,
    /// The day on which the prices were published by which the cost was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_as_of: Option<String>,
    /// From the client's request to the end of its answer.
    pub latency_ms: u64,
    /// From the client's request to the first thing that a streamed answer said; absent for whole answers and for streams
    /// that said nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<u64>,
    /// What translation could not carry.
    pub dropped: Vec<Dropped>,
    /// Whether the simulated provider answered.
    pub simulated: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// The class of its failure; absent when it was served, and when nobody failed but the client, which went away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Why no candidate was even looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
}

/// Why a call was refused before it came to any candidate. Not in its own words: those may repeat what the client wrote,
/// which may be a key in the wrong place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// The kind of failure.
    pub class: Class,
    /// The machine-readable code, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The field at fault, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// Names a credential without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CredentialRef {
    /// Such as `OPENAI_API_KEY`.
    pub id: String,
    /// `flag`, `env`, `vault` or `simulated`.
    pub source: String,
    /// Whose it is.
    pub whose: Whose,
    /// The last four characters of the value. Never told to an agent: it is for the owner's records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
}

/// One request to one provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// Provider slug.
    pub provider: String,
    /// Model as sent.
    pub model: String,
    /// The key that it was sent with, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// Whose key that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whose: Option<Whose>,
    /// How it failed; absent for the one that served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// HTTP status, when there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What the provider calls the request, when it said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Until it failed or the first content came.
    pub latency_ms: u64,
    /// What its provider charges, or may, although it failed. It is part of what the call came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charged: Option<Charged>,
    /// The provider's words, scrubbed and shortened.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What a failed attempt came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Charged {
    /// Input tokens, cached ones included.
    pub input_tokens: u64,
    /// Output tokens, reasoning included.
    pub output_tokens: u64,
    /// Dollars; null when the price is not known.
    #[serde(rename = "cost_usd", serialize_with = "dollars")]
    pub cost_micro_usd: Option<u64>,
}

/// A candidate that was passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// `provider/model`, or the model as the manifest names it.
    pub model: String,
    /// The key that was passed over, where the model may be asked with others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The class of the failure that is spared this way, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Why, for people.
    pub reason: String,
}

impl Skipped {
    /// A model that cannot serve, whatever the key.
    pub(crate) fn new(model: &str, reason: impl Into<String>) -> Skipped {
        Skipped {
            model: shown(model, None),
            credential: None,
            class: None,
            reason: shown(&reason.into(), None),
        }
    }

    /// A model with one of its keys.
    pub(crate) fn of(candidate: &Candidate, reason: impl Into<String>) -> Skipped {
        let credential = candidate.credential.as_ref().map(|credential| credential.id().to_owned());
        Skipped { credential, ..Skipped::new(&candidate.name(), reason) }
    }

    /// The same, sparing a failure of this class.
    #[must_use]
    pub(crate) fn sparing(self, class: Class) -> Skipped {
        Skipped { class: Some(class), ..self }
    }

    /// Model and key, for messages.
    pub(crate) fn name(&self) -> String {
        match &self.credential {
            Some(credential) => format!("{} with {credential}", self.model),
            None => self.model.clone(),
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The client got its whole answer.
    Served,
    /// No candidate answered.
    AllFailed,
    /// A provider refused the request itself, so that no other was asked.
    Rejected,
    /// A limit of the run ended it, before or during the answer.
    Limit,
    /// The answer broke off after it had begun.
    Broken,
    /// The client went away before its answer was complete. What a call is until something else is said of it.
    #[default]
    Cancelled,
}

/// How many attempts of a failed call ended in each class.
pub type ClassCounts = BTreeMap<Class, u32>;

impl Receipt {
    /// The word for how it ended, as its JSON has it.
    #[must_use]
    pub fn outcome_word(&self) -> &'static str {
        match self.outcome {
            Outcome::Served => "served",
            Outcome::AllFailed => "all_failed",
            Outcome::Rejected => "rejected",
            Outcome::Limit => "limit",
            Outcome::Broken => "broken",
            Outcome::Cancelled => "cancelled",
        }
    }

    /// The provider and the model that answered, or were tried last; what was asked for, when none was.
    pub fn answered_by(&self) -> (String, String) {
        let last = self.attempts.last();
        let provider = self.provider_served.clone().or_else(|| last.map(|attempt| attempt.provider.clone()));
        // The model as it was sent: what providers call themselves in an answer differs from call to call.
        let model = last.map(|attempt| attempt.model.clone());
        (
            provider.unwrap_or_else(|| self.provider_asked.clone()),
            model.unwrap_or_else(|| self.model_asked.clone()),
        )
    }
}

/// The receipts of one run, or the way on for those of clients.
#[derive(Default)]
pub struct Receipts {
    inner: Mutex<Vec<Receipt>>,
    /// How many of them are of calls that were refused at once.
    refused: AtomicUsize,
    /// Where they go instead of being kept.
    sink: Option<Sink>,
}

/// Receipts of calls refused at once that are kept of a run: such calls cost it nothing, and it may make any number.
const REFUSED_KEPT: usize = 256;

type Sink = Box<dyn Fn(Receipt) + Send + Sync>;

impl Receipts {
    /// None yet.
    pub fn new() -> Receipts {
        Receipts::default()
    }

    /// Keeps none: each goes to `sink` when its call has ended, which for a stream is when the last of it was read or
    /// its reader went away. `sink` must not block.
    pub fn passed_to(sink: impl Fn(Receipt) + Send + Sync + 'static) -> Receipts {
        Receipts { sink: Some(Box::new(sink)), ..Receipts::default() }
    }

    /// All of them, in the order in which calls ended.
    pub fn all(&self) -> Vec<Receipt> {
        self.lock().clone()
    }

    /// Whether the run's last call ended because no candidate answered, with the number of attempts by class.
    /// When the agent fails as well this is why: exit code 5, or 3 when [`every_key_was_rejected`].
    pub fn all_candidates_failed(&self) -> Option<ClassCounts> {
        let receipts = self.lock();
        let last = receipts.last().filter(|receipt| receipt.outcome == Outcome::AllFailed)?;
        let mut counts = ClassCounts::new();
        // A key that was rejected before is as good as one that is rejected now.
        let spared = last.skipped.iter().filter_map(|skipped| skipped.class);
        let spared = spared.filter(|class| matches!(class, Class::BadKey | Class::RateLimited));
        for class in last.attempts.iter().filter_map(|attempt| attempt.class).chain(spared) {
            *counts.entry(class).or_default() += 1;
        }
        Some(counts)
    }

    pub(crate) fn record(&self, receipt: Receipt) {
        match &self.sink {
            Some(sink) => sink(receipt),
            None => self.lock().push(receipt),
        }
    }

    /// Records a call that came to no candidate.
    pub(crate) fn record_refused(&self, receipt: Receipt) {
        if self.sink.is_some() || self.refused.fetch_add(1, Ordering::Relaxed) < REFUSED_KEPT {
            self.record(receipt);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Receipt>> {
        // Receipts are pushed whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether attempts were made and every one ended with a rejected key.
pub fn every_key_was_rejected(counts: &ClassCounts) -> bool {
    counts.len() == 1 && counts.contains_key(&Class::BadKey)
}

impl Receipt {
    /// As whoever asked is told it, an agent perhaps: nothing of a key's value, not even its end.
    pub(crate) fn told(mut self) -> Receipt {
        if let Some(credential) = &mut self.credential {
            credential.mask = None;
        }
        self
    }

    /// A short form for a header: ASCII, names and numbers only.
    pub(crate) fn compact(&self) -> String {
        #[derive(Serialize)]
        struct Named<'a> {
            id: &'a str,
            source: &'a str,
            whose: Whose,
        }
        #[derive(Serialize)]
        struct Compact<'a> {
            request_id: &'a str,
            provider: Option<&'a str>,
            model: Option<&'a str>,
            credential: Option<Named<'a>>,
            byok: bool,
            failed: Vec<(&'a str, Option<Class>)>,
            input_tokens: u64,
            output_tokens: u64,
            cost_usd: Option<f64>,
            dropped: usize,
            simulated: bool,
        }
        let compact = Compact {
            request_id: &self.request_id,
            provider: self.provider_served.as_deref(),
            model: self.model_served.as_deref(),
            credential: self.credential.as_ref().map(|credential| Named {
                id: &credential.id,
                source: &credential.source,
                whose: credential.whose,
            }),
            byok: self.byok,
            failed: self
                .attempts
                .iter()
                .filter(|attempt| attempt.class.is_some())
                .map(|attempt| (attempt.provider.as_str(), attempt.class))
                .collect(),
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            cost_usd: self.cost_micro_usd.map(in_dollars),
            dropped: self.dropped.len(),
            simulated: self.simulated,
        };
        // Only a model's name can hold anything but ASCII; JSON can spell it in ASCII.
        let json = serde_json::to_string(&compact).unwrap_or_default();
        if json.is_ascii() {
            return json;
        }
        let mut ascii = String::with_capacity(json.len());
        for unit in json.encode_utf16() {
            match u8::try_from(unit) {
                Ok(byte) if byte.is_ascii() => ascii.push(char::from(byte)),
                _ => ascii.push_str(&format!("\\u{unit:04x}")),
            }
        }
        ascii
    }
}

fn in_dollars(micro_usd: u64) -> f64 {
    micro_usd as f64 / 1e6
}

// Signature set by serde.
fn dollars<S: Serializer>(micro_usd: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    micro_usd.map(in_dollars).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(outcome: Outcome, classes: &[Class]) -> Receipt {
        let attempt = |class: &Class| Attempt {
            provider: "openai".into(),
            model: "m".into(),
            credential: None,
            whose: None,
            class: Some(*class),
            status: None,
            request_id: None,
            latency_ms: 1,
            charged: None,
            message: String::new(),
        };
        Receipt {
            provider_asked: "openai".into(),
            model_asked: "m".into(),
            model_served: Some("modèle-𝛼".into()),
            attempts: classes.iter().map(attempt).collect(),
            input_tokens: 1,
            output_tokens: 2,
            cost_micro_usd: Some(1_500),
            latency_ms: 3,
            outcome,
            ..Receipt::default()
        }
    }

    #[test]
    fn the_last_call_decides_how_the_run_failed() {
        let receipts = Receipts::new();
        assert_eq!(receipts.all_candidates_failed(), None);
        receipts.record(receipt(Outcome::AllFailed, &[Class::BadKey, Class::BadKey]));
        let counts = receipts.all_candidates_failed().unwrap();
        assert_eq!(counts.get(&Class::BadKey), Some(&2));
        assert!(every_key_was_rejected(&counts));
        receipts.record(receipt(Outcome::AllFailed, &[Class::BadKey, Class::Server]));
        assert!(!every_key_was_rejected(&receipts.all_candidates_failed().unwrap()));
        receipts.record(receipt(Outcome::Served, &[]));
        assert_eq!(receipts.all_candidates_failed(), None);
    }

    #[test]
    fn a_call_without_attempts_is_no_rejected_key() {
        assert!(!every_key_was_rejected(&ClassCounts::new()));
    }

    #[test]
    fn outcomes_have_one_word_each() {
        for outcome in [
            Outcome::Served,
            Outcome::AllFailed,
            Outcome::Rejected,
            Outcome::Limit,
            Outcome::Broken,
            Outcome::Cancelled,
        ] {
            let receipt = receipt(outcome, &[]);
            assert_eq!(serde_json::to_value(outcome).unwrap(), receipt.outcome_word());
        }
    }

    #[test]
    fn money_is_a_number_and_the_header_form_is_ascii() {
        let receipt = receipt(Outcome::Served, &[]);
        let json = serde_json::to_value(&receipt).unwrap();
        assert_eq!(json["cost_usd"], 0.0015);
        let compact = receipt.compact();
        assert!(compact.is_ascii(), "{compact}");
        let read: serde_json::Value = serde_json::from_str(&compact).unwrap();
        assert_eq!(read["model"], "modèle-𝛼");
    }

    /// The header goes to agents as well.
    #[test]
    fn the_header_form_says_whose_key_it_was_and_nothing_of_the_value() {
        let credential = CredentialRef {
            id: "OPENAI_API_KEY".into(),
            source: "vault".into(),
            whose: Whose::Team,
            mask: Some("wxyz".into()),
        };
        let receipt = Receipt { credential: Some(credential), byok: true, ..receipt(Outcome::Served, &[]) };
        let compact = receipt.compact();
        let read: serde_json::Value = serde_json::from_str(&compact).unwrap();
        assert_eq!((&read["credential"]["whose"], &read["byok"]), (&"team".into(), &true.into()));
        assert!(!compact.contains("wxyz"), "{compact}");
        assert_eq!(serde_json::to_value(&receipt).unwrap()["credential"]["mask"], "wxyz");
        // So does the event at the end of a stream.
        let told = serde_json::to_value(receipt.told()).unwrap();
        assert_eq!((&told["credential"]["whose"], told["credential"].get("mask")), (&"team".into(), None));
    }
}
