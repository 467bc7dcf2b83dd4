//! The corpus of attacks on the egress proxy (`tests/egress`): what it covers, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};

use orch_tests::egress::ground::{Ground, SECRETS, owners_say};
use orch_tests::egress::row::{Row, Way, attacks, lookalikes};
use orch_tests::egress::{guest, judge};
use orch_tests::home::Home;
use orch_tests::needle::{self, Needle};

use crate::stage::{OPENAI_KEY, orch};

/// The kinds of attack of the security design that are requests, with the least rows of each. What attacks the sandbox
/// itself has tests of its own.
const KINDS: &[(&str, usize)] =
    &[("address", 500), ("name", 350), ("dns", 250), ("request", 350), ("framing", 200), ("secret", 200), ("policy", 80)];

#[test]
fn the_corpus_is_whole() {
    let (attacks, lookalikes) = (attacks(), lookalikes());
    let mut counts = BTreeMap::<&str, usize>::new();
    for row in &attacks {
        *counts.entry(&row.kind).or_default() += 1;
    }
    for (kind, least) in KINDS {
        let count = counts.remove(kind).unwrap_or_default();
        assert!(count >= *least, "{count} rows are about {kind}, fewer than {least}");
    }
    assert!(counts.is_empty(), "kinds that the design does not name: {counts:?}");
    assert!(attacks.len() >= 1500, "{} attacks", attacks.len());
    assert!(lookalikes.len() >= 200, "{} lookalikes", lookalikes.len());
    let (mut ids, mut essences) = (BTreeSet::new(), BTreeMap::new());
    for row in attacks.iter().chain(&lookalikes) {
        assert!(ids.insert(row.id.clone()), "two rows are called {}", row.id);
        assert!(row.what.len() > 3 && row.reason.len() > 15, "{} does not say what and why", row.id);
        if let Some(other) = essences.insert(row.essence(), row.id.clone()) {
            panic!("{} and {other} are the same", row.id);
        }
        let ways = [Way::Guest, Way::Listener].map(|way| row.expected(way).is_some());
        assert!(ways.contains(&true), "{} goes no way", row.id);
    }
}

/// Runs the rows of a policy through a guest.
fn through_a_guest(policy: &str, all: &[Row]) {
    let all: Vec<Row> = all.iter().filter(|row| row.policy == policy).cloned().collect();
    let rows = guest::rows(&all);
    let ground = Ground::new(&all);
    let home = Home::new();
    home.configure(&ground.config(&home));
    if policy == "secrets" {
        for (name, value) in SECRETS {
            let flags = owners_say(name);
            orch(&home).args(["secrets", "set", name, "-", "--agent", "test/prober"]).args(flags).stdin(*value).run().expect(0);
        }
    }
    let agent = guest::agent(&ground, policy);
    let input = home.file("input.json", &guest::input(&ground, &rows));
    let outcome = orch(&home)
        .args(["run", "--local", "--json"])
        .arg(agent.path())
        .arg("--input")
        .arg(format!("@{}", input.display()))
        .args(ground.allowed(policy))
        .env("OPENAI_API_KEY", OPENAI_KEY)
        .run()
        .expect(0);
    let outcomes = guest::outcomes(&outcome);
    judge::none(Way::Guest, &judge::judge(Way::Guest, &rows, &outcomes, &ground.received()));
    ground.nothing_got_out();
    for row in rows.iter().filter(|row| row.dns.as_ref().is_some_and(|dns| dns.once)) {
        let name = row.request.as_ref().and_then(|request| request.authority.split(':').next()).expect("a name");
        assert_eq!(ground.names.asked(name), 1, "{}: {name} was asked for more than once", row.id);
    }
    for (_, value) in SECRETS {
        needle::none(&outcome.search(&Needle::new(value)));
    }
}

#[test]
fn nothing_gets_through_a_guest_that_may_do_much() {
    through_a_guest("open", &attacks());
}

#[test]
fn nothing_gets_through_a_guest_that_may_do_nothing() {
    through_a_guest("empty", &attacks());
}

#[test]
fn no_secret_leaves_or_comes_back_through_a_guest() {
    through_a_guest("secrets", &attacks());
}

#[test]
fn nothing_legitimate_is_refused_to_a_guest() {
    through_a_guest("open", &lookalikes());
}
