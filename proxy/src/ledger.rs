//! What happened: one [`Decision`] per request, kept per run, capped, with totals that are not.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use orch_manifests::{RunId, Scheme};
use serde::{Serialize, Serializer};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{Reason, RuleOrigin};

/// Decisions that a ledger keeps of each outcome. A flood of one does not push out the others.
const KEPT_PER_OUTCOME: usize = 512;

/// Bytes of a guest-chosen text that a decision keeps.
const TEXT_KEPT: usize = 256;

/// What became of one request. Holds names, never values; guest-chosen texts are cut and free of control characters.
#[derive(Debug, Clone, Serialize)]
pub struct Decision {
    /// When the request arrived, UTC.
    #[serde(serialize_with = "rfc3339")]
    pub time: OffsetDateTime,
    /// The run that asked.
    pub run: RunId,
    /// The method.
    pub method: String,
    /// The scheme; `None` when the target could not be parsed.
    #[serde(serialize_with = "scheme")]
    pub scheme: Option<Scheme>,
    /// The host as parsed, or the start of what could not be parsed.
    pub host: String,
    /// TCP port; 0 when the target could not be parsed.
    pub port: u16,
    /// The path without its query.
    pub path: String,
    /// Who built the request.
    pub maker: Maker,
    /// The name of the call that the gateway built it for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// How it went.
    pub verdict: Outcome,
    /// Who wrote the rule that allowed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleOrigin>,
    /// What a policy on trial would have done about what was allowed; nothing when it allows it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
    /// Why it was denied, or how it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The address that was dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Names of the credentials that were put in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub injected: Vec<String>,
    /// Placeholders that travelled as they were, because they stood in a place that is not bound: in the head, or in what of
    /// the body had gone up when the answer began.
    pub inert_placeholders: u32,
    /// The response's status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// From the request's arrival to the head of its answer, or to what came in its place, in microseconds.
    pub duration_us: u64,
}

/// The name of the call that a request of the gateway's is for, in its extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallId(pub Box<str>);

/// Who built a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Maker {
    /// The agent.
    Guest,
    /// The gateway, for a provider.
    Gateway,
}

/// How a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A response came back.
    Allowed,
    /// Refused before any byte left.
    Denied,
    /// Allowed, but no response came.
    Failed,
}

/// Hears of each decision as it is made, on the thread that made it.
pub type OnDecision = Box<dyn Fn(&Decision) + Send + Sync>;

/// What a policy on trial says about a request that the rules in force allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trial {
    /// It would have refused it.
    Deny,
}

/// Every decision of one run.
#[derive(Default)]
pub struct Ledger {
    inner: Mutex<Entries>,
    told: Option<OnDecision>,
}

/// Counts of a [`Ledger`], exact even where entries were not kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Requests that got a response.
    pub allowed: u64,
    /// Requests that were refused.
    pub denied: u64,
    /// Requests that were allowed and failed.
    pub failed: u64,
    /// Of those that were not denied, how many a policy on trial would have refused.
    pub trial_denied: u64,
    /// Decisions that were counted but not kept.
    pub not_kept: u64,
}

#[derive(Debug, Default)]
struct Entries {
    decisions: Vec<Decision>,
    totals: Totals,
}

impl Ledger {
    /// What was kept so far, oldest first.
    #[must_use]
    pub fn decisions(&self) -> Vec<Decision> {
        self.lock().decisions.clone()
    }

    /// The counts so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.lock().totals
    }

    /// A ledger that also tells of what is entered, whether kept or not.
    pub(crate) fn telling(told: OnDecision) -> Self {
        Self { inner: Mutex::default(), told: Some(told) }
    }

    pub(crate) fn record(&self, decision: Decision) {
        if let Some(told) = &self.told {
            told(&decision);
        }
        let mut entries = self.lock();
        let totals = &mut entries.totals;
        totals.trial_denied += u64::from(decision.trial.is_some());
        let count = match decision.verdict {
            Outcome::Allowed => &mut totals.allowed,
            Outcome::Denied => &mut totals.denied,
            Outcome::Failed => &mut totals.failed,
        };
        *count += 1;
        if *count > KEPT_PER_OUTCOME as u64 {
            totals.not_kept += 1;
        } else {
            entries.decisions.push(decision);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Entries are pushed whole, so a panic elsewhere leaves nothing half written.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a text that a guest chose fit for a log line: printable ASCII, at most [`TEXT_KEPT`] bytes.
pub(crate) fn sanitised(text: &str) -> String {
    if text.len() <= TEXT_KEPT && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return text.to_owned();
    }
    let mut clean: String = text
        .chars()
        .take(TEXT_KEPT)
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect();
    if text.chars().nth(TEXT_KEPT).is_some() {
        clean.push_str("...");
    }
    clean
}

fn rfc3339<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.format(&Rfc3339).map_err(serde::ser::Error::custom)?)
}

// Serde hands over a reference to the field.
fn scheme<S: Serializer>(scheme: &Option<Scheme>, serializer: S) -> Result<S::Ok, S::Error> {
    scheme.map(Scheme::as_str).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(verdict: Outcome) -> Decision {
        Decision {
            time: OffsetDateTime::UNIX_EPOCH,
            run: RunId::random(),
            method: "GET".to_owned(),
            scheme: Some(Scheme::Https),
            host: "a.example".to_owned(),
            port: 443,
            path: "/".to_owned(),
            maker: Maker::Guest,
            request_id: None,
            verdict,
            rule: None,
            trial: None,
            reason: None,
            address: None,
            injected: Vec::new(),
            inert_placeholders: 0,
            status: None,
            duration_us: 0,
        }
    }

    #[test]
    fn a_flood_is_counted_and_does_not_push_out_the_rest() {
        let ledger = Ledger::default();
        for _ in 0..KEPT_PER_OUTCOME + 10 {
            ledger.record(decision(Outcome::Denied));
        }
        ledger.record(Decision { trial: Some(Trial::Deny), ..decision(Outcome::Allowed) });
        let totals = ledger.totals();
        assert_eq!(totals.trial_denied, 1);
        assert_eq!((totals.denied, totals.allowed, totals.not_kept), (KEPT_PER_OUTCOME as u64 + 10, 1, 10));
        assert_eq!(ledger.decisions().len(), KEPT_PER_OUTCOME + 1);
        assert_eq!(ledger.decisions().last().unwrap().verdict, Outcome::Allowed);
    }

    #[test]
    fn texts_are_cut_and_harmless() {
        assert_eq!(sanitised("a\r\n\u{1b}[31m\u{202e}\u{7f}é b"), "a???[31m??? b");
        let long = sanitised(&"x".repeat(TEXT_KEPT + 1));
        assert_eq!(long.len(), TEXT_KEPT + 3);
        assert!(long.ends_with("..."));
        assert_eq!(sanitised(&"x".repeat(TEXT_KEPT)).len(), TEXT_KEPT);
    }

    #[test]
    fn times_are_rfc_3339() {
        let json = serde_json::to_value(decision(Outcome::Failed)).unwrap();
        assert_eq!(json["time"], "1970-01-01T00:00:00Z");
        assert_eq!((&json["verdict"], &json["maker"]), (&"failed".into(), &"guest".into()));
    }
}
