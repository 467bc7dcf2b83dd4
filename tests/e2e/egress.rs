//! The corpus of attacks on the egress proxy (`tests/egress`): what it covers, and what comes of it.

use std::collections::{BTreeMap, BTreeSet};

use orch_tests::egress::ground::{Ground, SECRETS, owners_say};
use orch_tests::egress::listener::{self, Proxied};
use orch_tests::egress::row::{Row, Way, attacks, lookalikes};
use orch_tests::egress::{guest, judge};
use orch_tests::home::Home;
use orch_tests::needle::{self, Needle};
use orch_tests::upstream::Refused;
use serde_json::Value;

use crate::stage::{OPENAI_KEY, orch};

/// The kinds of attack of the security design that are requests, with the least rows of each. What attacks the sandbox
/// itself has tests of its own.
const KINDS: &[(&str, usize)] = &[
    ("address", 500),
    ("name", 350),
    ("dns", 250),
    ("request", 350),
    ("framing", 200),
    ("secret", 200),
    ("policy", 80),
];

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
        store(&home, &["--agent", "test/prober"]);
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
    settle(Way::Guest, &ground, &rows, &outcomes);
    for (_, value) in SECRETS {
        needle::none(&outcome.search(&Needle::new(value)));
    }
}

/// Stores the secrets as their owners say.
fn store(home: &Home, flags: &[&str]) {
    for (name, value) in SECRETS {
        let set = orch(home).args(["secrets", "set", name, "-"]).args(owners_say(name)).args(flags);
        set.stdin(*value).run().expect(0);
    }
}

/// Judges what came of all rows, and what must not have come of any.
fn settle(way: Way, ground: &Ground, rows: &[&Row], outcomes: &[Vec<judge::Outcome>]) {
    judge::none(way, &judge::judge(way, rows, outcomes, &ground.received()));
    ground.nothing_got_out();
    let malformed: Vec<String> =
        ground.faults().into_iter().filter(|fault| fault.contains("Malformed")).collect();
    assert!(malformed.is_empty(), "upstreams got what is no request: {malformed:#?}");
    for row in rows.iter().filter(|row| row.dns.as_ref().is_some_and(|dns| dns.once)) {
        let name =
            row.request.as_ref().and_then(|request| request.authority.split(':').next()).expect("a name");
        assert_eq!(ground.names.asked(name), 1, "{}: {name} was asked for more than once", row.id);
    }
}

/// Runs the rows of a policy through the listener.
fn through_the_listener(policy: &str, all: &[Row]) {
    let all: Vec<Row> = all.iter().filter(|row| row.policy == policy).cloned().collect();
    let rows = listener::rows(&all);
    let ground = Ground::new(&all);
    let home = Home::new();
    // The proxy's own port has to be in the configuration before the proxy runs.
    let address = Refused::new().address();
    home.configure(&ground.config(&home).connect("loop.example.com:80", address));
    let mut flags = Vec::new();
    if policy == "secrets" {
        store(&home, &[]);
        let hosts = SECRETS.iter().map(|(name, _)| (name, owners_say(name)[1]));
        flags = hosts.flat_map(|(name, host)| ["--secret".to_owned(), format!("{name}@{host}")]).collect();
    }
    let token = "corpus-0123456789abcdef0123456789abcdef0123456789abcdef";
    let tokens = home.file("tokens", &format!("corpus:{token}\n"));
    let environment = home.work().join("environment");
    let agent = guest::agent(&ground, policy);
    let proxy = orch(&home)
        .args(["proxy", "--json", "--listen", &address.to_string(), "--max-connections", "200"])
        .arg("--manifest")
        .arg(agent.path())
        .arg("--tokens")
        .arg(&tokens)
        .arg("--env-file")
        .arg(&environment)
        .args(flags)
        .start();
    let ready: Value = serde_json::from_str(&proxy.first_line()).expect("one line of JSON");
    assert_eq!(ready["listening"], address.to_string());
    let environment = std::fs::read_to_string(&environment).expect("the proxy writes it");
    let placeholders = environment.lines().filter_map(|line| line.split_once('='));
    let proxied = Proxied {
        address,
        credentials: format!("corpus:{token}"),
        placeholders: placeholders.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        ground: &ground,
    };
    let outcomes = proxied.outcomes(&rows);
    proxy.terminate();
    let outcome = proxy.finish().expect(0);
    settle(Way::Listener, &ground, &rows, &outcomes);
    for (_, value) in SECRETS {
        needle::none(&outcome.search(&Needle::new(value)));
    }
    needle::none(&outcome.search(&Needle::new(token)));
    for line in outcome.stderr().lines() {
        let harmless = line.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        let whole = line.starts_with("orch: ") || serde_json::from_str::<Value>(line).is_ok();
        assert!(harmless && whole, "the log says {line:?}");
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

#[test]
fn nothing_gets_through_the_listener_under_a_policy_that_allows_much() {
    through_the_listener("open", &attacks());
}

#[test]
fn nothing_gets_through_the_listener_under_a_policy_that_allows_nothing() {
    through_the_listener("empty", &attacks());
}

#[test]
fn no_secret_leaves_or_comes_back_through_the_listener() {
    through_the_listener("secrets", &attacks());
}

#[test]
fn nothing_legitimate_is_refused_by_the_listener() {
    through_the_listener("open", &lookalikes());
}
