//! What a decision costs under 1,000 rules, beside asking every rule in turn.
//!
//! Most rules name a host each, a quarter hosts below one, and fifty the host that is asked for, with other paths that
//! begin alike: those are asked in turn, at about 25 ns each. Both ways take turns, and the medians over the rounds are
//! compared. Refusals also write a reason.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking and reports by printing"
)]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use http::Method;
use orch_manifests::{CanonicalPath, HostName, Scheme};
use orch_proxy::{Asked, Methods, Rule, RuleIndex, RuleOrigin, Verdict, decide};

const ROUNDS: usize = 21;
const TIMES: u32 = 5_000;
const RULES: usize = 1_000;
/// For one decision.
const TARGET: Duration = Duration::from_micros(2);

fn main() -> ExitCode {
    let rules: Vec<Rule> = (0..RULES).map(rule).collect();
    let index = RuleIndex::new(&rules);
    let path = CanonicalPath::parse("/v1/things/17?limit=10").unwrap();
    println!("{ROUNDS} interleaved rounds of {TIMES} decisions under {RULES} rules; medians");
    let mut reached = true;
    for (name, host, method, allowed) in [
        ("the last rule of its host", "host-997.example.com", Method::GET, true),
        ("below a host", "a.b.zone-998.example.net", Method::GET, true),
        ("no rule for the host", "host-1.example.org", Method::GET, false),
        ("another method", "host-997.example.com", Method::PUT, false),
    ] {
        let host: HostName = host.parse().unwrap();
        let asked = Asked { scheme: Scheme::Https, host: &host, port: 443, method: &method, path: &path };
        let verdict = index.decide(&rules, &asked);
        assert_eq!(matches!(verdict, Verdict::Allow { .. }), allowed);
        assert_eq!(verdict, decide(&rules, &asked));
        let (mut ours, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(timed(TIMES, || index.decide(black_box(&rules), black_box(&asked))));
            plain.push(timed(TIMES, || decide(black_box(&rules), black_box(&asked))));
        }
        let (ours, plain) = (median(ours), median(plain));
        println!("{name:>26}: {ours:>9.1?}, rule by rule {plain:>9.1?}; target {TARGET:?}");
        reached &= ours <= TARGET;
    }
    // Once for each run.
    let made = timed(20, || RuleIndex::new(black_box(&rules)));
    println!("{:>26}: {made:>9.1?}", "making the index");
    if reached { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn rule(number: usize) -> Rule {
    let of_the_host = number % 20 == 3;
    let host = match number % 4 {
        _ if of_the_host => "host-997.example.com".to_owned(),
        2 => format!("*.zone-{number}.example.net"),
        _ => format!("host-{number}.example.com"),
    };
    let paths = if of_the_host { vec![format!("/v1/parts/{number}/*").parse().unwrap()] } else { Vec::new() };
    Rule {
        scheme: Scheme::Https,
        host: host.parse().unwrap(),
        port: 443,
        methods: Methods::Only(vec![Method::GET, Method::POST]),
        paths,
        origin: RuleOrigin::Manifest,
    }
}

fn timed<T>(times: u32, mut work: impl FnMut() -> T) -> Duration {
    let started = Instant::now();
    for _ in 0..times {
        black_box(work());
    }
    started.elapsed() / times
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
