//! What a run did with the vault's secrets, and what it was refused, for the vault's record of it.

use std::collections::{BTreeMap, BTreeSet};

use orch_gateway::{Receipt, Receipts};
use orch_manifests::{HostPattern, RunId};
use orch_vault::{AuditEvent, GrantId, PlannedUse, SecretName, Source};

use crate::failure::{Failure, Kind};

mod tally;

use tally::Counts;
pub(crate) use tally::Tally;

/// What model calls with each key cost, in millionths of a US dollar. Keys of the vault are among them; which those are, is
/// known by what was planned.
pub(crate) type Spent = BTreeMap<String, u64>;

/// What a run's calls say that its keys of the vault cost.
pub(crate) fn spent(receipts: &Receipts) -> Spent {
    by_key(&receipts.all())
}

/// Each key has what its own attempts cost: whoever answers in the end does not pay for those that failed before.
fn by_key(receipts: &[Receipt]) -> Spent {
    let mut spent = Spent::new();
    let mut add = |key: &str, cost: u64| {
        let sum = spent.entry(key.to_owned()).or_default();
        *sum = sum.saturating_add(cost);
    };
    for receipt in receipts {
        let last = receipt.credential.as_ref();
        let mut elsewhere = 0_u64;
        for attempt in &receipt.attempts {
            let charged = attempt.charged.as_ref().and_then(|charged| charged.cost_micro_usd);
            let (Some(key), Some(cost)) = (&attempt.credential, charged) else { continue };
            if last.is_none_or(|last| last.id != *key) {
                elsewhere = elsewhere.saturating_add(cost);
                add(key, cost);
            }
        }
        if let (Some(last), Some(cost)) = (last, receipt.cost_micro_usd)
            && last.source == Source::Vault.as_str()
        {
            add(&last.id, cost.saturating_sub(elsewhere));
        }
    }
    spent
}

/// What the record has to hold when a run has ended: how often each of the vault's secrets went where and what that
/// cost, and which hosts it was refused, in the order in which it asked for them.
pub(crate) fn of_run(run: &RunId, planned: &[PlannedUse], tally: &Tally, spent: &Spent) -> Vec<AuditEvent> {
    let Counts { uses: counted, refused, more_refused: more, .. } = tally.counts();
    let mut uses: BTreeMap<(&SecretName, &str), u64> = BTreeMap::new();
    for (secret, places) in &counted {
        // What is on record already as lost is not counted again.
        if planned.iter().any(|one| one.secret == *secret) {
            uses.extend(places.iter().map(|(host, count)| ((secret, host.as_str()), *count)));
        }
    }
    let mut spent = spent.clone();
    // A call whose request was none of the agent's own has its cost all the same.
    for one in planned.iter().filter(|one| spent.contains_key(one.secret.as_str())) {
        uses.entry((&one.secret, &one.host)).or_default();
    }
    let counted = uses.into_iter().map(|((secret, host), uses)| AuditEvent::UseCounted {
        run: run.to_string(),
        secret: secret.clone(),
        host: plain(host),
        uses,
        complete: true,
        grant: grant_of(planned, secret, host),
        cost_micro_usd: spent.remove(secret.as_str()).unwrap_or_default(),
    });
    let denied = |host: &String| AuditEvent::Denied {
        run: run.to_string(),
        host: plain(host),
        reason: "request_refused".to_owned(),
    };
    let refused = refused.iter().map(denied);
    counted.chain(refused).chain(more.then(|| more_refused(run.to_string()))).collect()
}

/// What the record has to hold of a run whose worker's jail was run against: somebody had native code executed in there.
pub(crate) fn of_violation<T>(run: &RunId, ended: &Result<T, Failure>) -> Option<AuditEvent> {
    let failure = ended.as_ref().err().filter(|failure| failure.code() == "sandbox_violation")?;
    Some(AuditEvent::Denied { run: run.to_string(), host: String::new(), reason: failure.code().to_owned() })
}

/// The grant that let a run send a secret to this host.
fn grant_of(planned: &[PlannedUse], secret: &SecretName, host: &str) -> Option<GrantId> {
    let covers = |planned: &&PlannedUse| {
        let pattern = || planned.host.parse::<HostPattern>().ok();
        let matches = |pattern: HostPattern| host.parse().is_ok_and(|host| pattern.matches(&host));
        planned.secret == *secret && (planned.host == host || pattern().is_some_and(matches))
    };
    planned.iter().find(covers)?.grant
}

/// What the record has to hold of a run that ended without being seen to: its uses were planned, and nobody has counted
/// them.
pub(crate) fn of_lost(planned: &[PlannedUse]) -> Vec<AuditEvent> {
    let planned: BTreeSet<&PlannedUse> = planned.iter().collect();
    let counted = planned.into_iter().cloned().map(|PlannedUse { run, secret, host, grant }| {
        AuditEvent::UseCounted { run, secret, host, uses: 0, complete: false, grant, cost_micro_usd: 0 }
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
    use orch_gateway::ir::Class;
    use orch_gateway::{Attempt, Charged, CredentialRef};
    use orch_manifests::Whose;
    use orch_proxy::{Decision, Outcome};
    use time::OffsetDateTime;

    use super::tally::{ELSEWHERE, MOST_PLACES, MOST_REFUSALS};
    use super::*;

    fn decided(verdict: Outcome, host: &str) -> Decision {
        Decision {
            time: OffsetDateTime::UNIX_EPOCH,
            run: RunId::random(),
            method: "GET".to_owned(),
            scheme: None,
            host: host.to_owned(),
            port: 443,
            path: "/".to_owned(),
            maker: orch_proxy::Maker::Guest,
            request_id: None,
            verdict,
            rule: None,
            trial: None,
            reason: None,
            address: None,
            injected: vec!["TOKEN".to_owned()],
            inert_placeholders: 0,
            status: None,
            duration_us: 0,
        }
    }

    fn planned(secret: &str, host: &str, grant: u32) -> PlannedUse {
        PlannedUse {
            run: "run".to_owned(),
            secret: secret.parse().expect("a name"),
            host: host.to_owned(),
            grant: Some(GrantId::new(grant)),
        }
    }

    fn tally<'a>(planned: &[PlannedUse], decisions: impl IntoIterator<Item = &'a Decision>) -> Tally {
        let tally = Tally::of(planned);
        decisions.into_iter().for_each(|decision| tally.count(decision));
        tally
    }

    /// The hosts of refusals, and the words for why, as they go on record.
    fn refused(decisions: &[Decision]) -> Vec<(String, String)> {
        let events = of_run(&RunId::random(), &[], &tally(&[], decisions), &Spent::new()).into_iter();
        let said = |event| match event {
            AuditEvent::Denied { host, reason, .. } => (host, reason),
            other => panic!("{other:?}"),
        };
        events.map(said).collect()
    }

    #[test]
    fn refusals_are_in_the_order_in_which_they_came_and_more_of_them_are_marked() {
        let row = |host: &str| (host.to_owned(), "request_refused".to_owned());
        let more = (String::new(), "more_refused".to_owned());
        let few = ["z.example", "a.example", "z.example"].map(|host| decided(Outcome::Denied, host));
        assert_eq!(refused(&few), [row("z.example"), row("a.example")]);
        // Names that sort before the one that counts do not push it out.
        let names = (0..MOST_REFUSALS + 1).map(|n| format!("a{n:03}.example"));
        let names: Vec<String> = std::iter::once("z.example".to_owned()).chain(names).collect();
        let many: Vec<Decision> = names.iter().map(|host| decided(Outcome::Denied, host)).collect();
        let said = refused(&many);
        assert_eq!(said.len(), MOST_REFUSALS + 1);
        assert_eq!((&said[0], said.last()), (&row("z.example"), Some(&more)));
        assert_eq!(refused(&many[..MOST_REFUSALS]).len(), MOST_REFUSALS);
        // The same ones again are no more.
        let again: Vec<Decision> =
            many[..MOST_REFUSALS].iter().chain(&many[..MOST_REFUSALS]).cloned().collect();
        assert_eq!(refused(&again).len(), MOST_REFUSALS);
    }

    #[test]
    fn uses_at_very_many_hosts_are_counted_together() {
        let planned = planned("TOKEN", "*.example.com", 3);
        let hosts: Vec<String> = (0..MOST_PLACES + 10).map(|n| format!("h{n}.example.com")).collect();
        let decisions: Vec<Decision> = hosts.iter().map(|host| decided(Outcome::Allowed, host)).collect();
        let one = std::slice::from_ref(&planned);
        let events = of_run(&RunId::random(), one, &tally(one, &decisions), &Spent::new());
        let count = |event: &AuditEvent| match event {
            AuditEvent::UseCounted { host, uses, complete: true, grant, .. } => {
                assert_eq!(grant.is_some(), host != ELSEWHERE, "{host}");
                (host.clone(), *uses)
            }
            other => panic!("{other:?}"),
        };
        let counts: Vec<(String, u64)> = events.iter().map(count).collect();
        assert_eq!(counts.len(), MOST_PLACES + 1);
        assert!(counts.contains(&(ELSEWHERE.to_owned(), 10)), "{counts:?}");
        let lost = of_lost(&[planned.clone(), planned]);
        assert!(matches!(&lost[..], [AuditEvent::UseCounted { uses: 0, complete: false, .. }]), "{lost:?}");
    }

    #[test]
    fn however_many_there_are_each_use_is_counted_once() {
        let planned = [planned("TOKEN", "a.example", 1), planned("OTHER", "b.example", 2)];
        let tally = Tally::of(&planned);
        let one = |verdict, host: &str, injected: &[&str]| Decision {
            injected: injected.iter().map(|name| (*name).to_owned()).collect(),
            ..decided(verdict, host)
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..3000 {
                        tally.count(&one(Outcome::Allowed, "a.example", &["TOKEN"]));
                        tally.count(&one(Outcome::Failed, "b.example", &["TOKEN", "OTHER", "FROM_A_FLAG"]));
                        tally.count(&one(Outcome::Allowed, "c.example", &[]));
                        tally.count(&one(Outcome::Denied, "c.example", &["TOKEN"]));
                    }
                });
            }
        });
        let events = of_run(&RunId::random(), &planned, &tally, &Spent::new());
        let said: Vec<(&str, &str, u64)> = events
            .iter()
            .filter_map(|event| match event {
                AuditEvent::UseCounted { secret, host, uses, complete: true, .. } => {
                    Some((secret.as_str(), host.as_str(), *uses))
                }
                _ => None,
            })
            .collect();
        let expected =
            [("OTHER", "b.example", 12_000), ("TOKEN", "a.example", 12_000), ("TOKEN", "b.example", 12_000)];
        assert_eq!(said, expected);
        // The host that was refused is there once, and nothing of a secret that was not planned.
        assert_eq!(events.len(), 4, "{events:?}");
        // What is on record as lost already is not counted beside that.
        assert_eq!(of_run(&RunId::random(), &[], &tally, &Spent::new()).len(), 1);
    }

    #[test]
    fn what_calls_cost_is_told_once_with_the_grant_that_let_them() {
        let host = "api.openai.com";
        let planned = planned("OPENAI_API_KEY", host, 1);
        let spent = Spent::from([("OPENAI_API_KEY".to_owned(), 700), ("FROM_A_FLAG".to_owned(), 9)]);
        // Also when no request was counted.
        for (decisions, uses) in [(vec![decided(Outcome::Allowed, host)], 1), (Vec::new(), 0)] {
            let mut decisions = decisions;
            decisions.iter_mut().for_each(|decision| decision.injected = vec!["OPENAI_API_KEY".to_owned()]);
            let one = std::slice::from_ref(&planned);
            let events = of_run(&RunId::random(), one, &tally(one, &decisions), &spent);
            let [AuditEvent::UseCounted { uses: counted, grant, cost_micro_usd, .. }] = &events[..] else {
                panic!("{events:?}");
            };
            assert_eq!((*counted, *grant, *cost_micro_usd), (uses, planned.grant, 700));
        }
    }

    #[test]
    fn whoever_answers_does_not_pay_for_whoever_failed() {
        let attempt = |key: &str, charged: Option<u64>| Attempt {
            provider: "openai".to_owned(),
            model: "m".to_owned(),
            credential: Some(key.to_owned()),
            whose: Some(Whose::Team),
            class: charged.map(|_| Class::Timeout),
            status: None,
            request_id: None,
            latency_ms: 1,
            charged: charged.map(|cost| Charged {
                input_tokens: 1,
                output_tokens: 1,
                cost_micro_usd: Some(cost),
            }),
            message: String::new(),
        };
        let call =
            |source: &str, attempts: Vec<Attempt>, cost: u64| Receipt {
                credential: attempts.last().and_then(|last| last.credential.clone()).map(|id| {
                    CredentialRef { id, source: source.to_owned(), whose: Whose::Team, mask: None }
                }),
                attempts,
                cost_micro_usd: Some(cost),
                ..Receipt::default()
            };
        let receipts = [
            call("vault", vec![attempt("A", Some(600)), attempt("B", Some(20)), attempt("B", None)], 650),
            call("vault", vec![attempt("A", None)], 7),
            call("flag", vec![attempt("A", Some(1)), attempt("F", None)], 500),
        ];
        assert_eq!(by_key(&receipts), Spent::from([("A".to_owned(), 608), ("B".to_owned(), 50)]));
    }

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
