//! What a run did with the vault's secrets, and what it was refused, for the vault's record of it.

use std::collections::{BTreeMap, BTreeSet};

use orch_manifests::RunId;
use orch_proxy::{Decision, Outcome};
use orch_vault::{AuditEvent, PlannedUse, SecretName};

use crate::failure::{Failure, Kind};

/// The most refusals of one run that go on record: an agent decides how many there are.
const MOST_REFUSALS: usize = 32;

/// Places that the uses of one run are counted for, each; what an agent does beyond that is counted together.
const MOST_PLACES: usize = 64;
/// Stands for the hosts that are counted together.
const ELSEWHERE: &str = "*";

/// What the record has to hold when a run has ended: how often each of the vault's secrets went where, and which
/// hosts it was refused. `not_kept` is how many of its requests were counted and not kept.
pub(crate) fn of_run(
    run: &RunId,
    planned: &[PlannedUse],
    decisions: &[Decision],
    not_kept: u64,
) -> Vec<AuditEvent> {
    let secrets: BTreeSet<&SecretName> = planned.iter().map(|planned| &planned.secret).collect();
    let mut uses: BTreeMap<(&SecretName, &str), u64> = BTreeMap::new();
    let mut refused: BTreeMap<&str, &'static str> = BTreeMap::new();
    for decision in decisions {
        if decision.verdict == Outcome::Denied {
            refused.entry(&decision.host).or_insert("request_refused");
            continue;
        }
        for name in &decision.injected {
            let Some(secret) = secrets.iter().find(|secret| secret.as_str() == name) else { continue };
            let place = (*secret, decision.host.as_str());
            let room = uses.len() < MOST_PLACES || uses.contains_key(&place);
            *uses.entry(if room { place } else { (*secret, ELSEWHERE) }).or_default() += 1;
        }
    }
    let counted = uses.into_iter().map(|((secret, host), uses)| AuditEvent::UseCounted {
        run: run.to_string(),
        secret: secret.clone(),
        host: plain(host),
        uses,
        complete: not_kept == 0,
    });
    let refused = refused.into_iter().take(MOST_REFUSALS).map(|(host, reason)| AuditEvent::Denied {
        run: run.to_string(),
        host: plain(host),
        reason: reason.to_owned(),
    });
    counted.chain(refused).collect()
}

/// What the record has to hold of a run that ended without being seen to: its uses were planned, and nobody has counted
/// them.
pub(crate) fn of_lost(planned: &[PlannedUse]) -> Vec<AuditEvent> {
    let planned: BTreeSet<&PlannedUse> = planned.iter().collect();
    let counted = planned.into_iter().cloned().map(|PlannedUse { run, secret, host }| {
        AuditEvent::UseCounted { run, secret, host, uses: 0, complete: false }
    });
    counted.collect()
}

/// What the record has to hold when a run was refused before it began: policy, or a secret that did not open.
pub(crate) fn of_refusal(run: &RunId, failure: &Failure) -> Option<AuditEvent> {
    let (run, reason) = (run.to_string(), failure.code().to_owned());
    match failure.kind() {
        Kind::Denied => Some(AuditEvent::Denied { run, host: String::new(), reason }),
        Kind::NoKey if failure.code() == "secret_expired" => Some(AuditEvent::OpenFailed { run, reason }),
        // Who waited for the vault once need not do it again.
        Kind::Vault if failure.code() != "vault_locked" => Some(AuditEvent::OpenFailed { run, reason }),
        _ => None,
    }
}

/// That there were more refusals than those on record before this.
pub(crate) fn more_refused(run: String) -> AuditEvent {
    AuditEvent::Denied { run, host: String::new(), reason: "more_refused".to_owned() }
}

/// A host as the record takes it: it may be the beginning of what could not be parsed.
fn plain(host: &str) -> String {
    let kept = host.chars().filter(|c| !c.is_whitespace() && !c.is_control()).take(64);
    let text: String = kept.collect();
    if text.is_empty() { "unreadable".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_are_none_are_made_plain() {
        assert_eq!(plain("api.example.com"), "api.example.com");
        assert_eq!(plain(" a\u{1b}[31m b\n"), "a[31mb");
        assert_eq!(plain(" \n"), "unreadable");
        assert_eq!(plain(&"h".repeat(1000)).len(), 64);
    }

    #[test]
    fn refusals_before_a_run_row_by_row() {
        let run = RunId::random();
        let event = |kind, code| of_refusal(&run, &Failure::new(kind, code, "why"));
        let id = || run.to_string();
        let denied = AuditEvent::Denied { run: id(), host: String::new(), reason: "not_granted".into() };
        assert_eq!(event(Kind::Denied, "not_granted"), Some(denied));
        for (kind, code) in [(Kind::NoKey, "secret_expired"), (Kind::Vault, "vault_tampered")] {
            let failed = AuditEvent::OpenFailed { run: id(), reason: code.into() };
            assert_eq!(event(kind, code), Some(failed));
        }
        assert_eq!(event(Kind::Vault, "vault_locked"), None);
        assert_eq!(event(Kind::NoKey, "no_key"), None);
        assert_eq!(event(Kind::Usage, "bad_usage"), None);
    }
}
