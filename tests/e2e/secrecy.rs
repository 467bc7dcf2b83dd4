//! A key's value is searched for in everything a run touches: nothing found.

use orch_tests::gate::Gate;
use orch_tests::needle::{self, Needle};
use orch_tests::orch::Orch;
use orch_tests::process;
use orch_tests::reply::Reply;
use orch_tests::upstream::Upstream;
use orch_tests::wire::Received;
use serde_json::json;

use crate::stage::{
    ANTHROPIC_KEY, INPUT, OPENAI_KEY, OPENAI_SAYS, Outside, Stage, fake_openai, guest, summarizer, summary,
    text,
};

/// Looks into the workers while their guest waits for the model, then at everything that is left.
#[track_caller]
fn watched(stage: &Stage, run: Orch, keys: &[&str]) {
    let gate = Gate::closed();
    let asked = json!({ "model": "gpt-4o-mini", "stream_options": { "include_usage": true } });
    stage.openai.script([Reply::sse(fake_openai().stream(&asked)).held(&gate)]);
    let running = run.start();
    stage.openai.wait_for(1);
    stage.openai.took_key(OPENAI_KEY);

    let needles: Vec<Needle> = keys.iter().map(|key| Needle::new(key)).collect();
    let workers = running.workers();
    assert!(!workers.is_empty(), "the guest runs in a process of its own");
    for &worker in &workers {
        let line = process::command_line(worker).expect("readable by anyone");
        let environment = readable(process::environment(worker)).unwrap_or_default();
        assert_eq!(
            environment,
            Vec::<String>::new(),
            "the environment of worker {worker} ({line}) is not empty"
        );
        for needle in &needles {
            needle::none(&needle.in_bytes("a command line", line.as_bytes()));
            if let Some((hits, looked_at)) = readable(process::memory(worker, needle)) {
                assert!(
                    looked_at > 1 << 20,
                    "only {looked_at} bytes of worker {worker} ({line}) were looked at"
                );
                needle::none(&hits);
            }
        }
    }
    // The same search finds the key where it must be: it is able to find one.
    if let Some((hits, _)) = readable(process::memory(running.pid(), &Needle::new(OPENAI_KEY))) {
        assert!(!hits.is_empty(), "the broker holds the key, and the search did not see it");
    }
    let hits: Vec<_> = needles.iter().flat_map(|needle| stage.home.search(needle)).collect();
    needle::none(&hits);

    gate.open();
    let outcome = running.finish();
    let hits: Vec<_> = needles
        .iter()
        .flat_map(|needle| [outcome.search(needle), stage.home.search(needle)].concat())
        .collect();
    needle::none(&hits);
    summary(outcome, OPENAI_SAYS);
}

/// A worker that its own user cannot look into keeps its secrets as well: then there is nothing to search.
fn readable<T>(looked: std::io::Result<T>) -> Option<T> {
    match looked {
        Ok(seen) => Some(seen),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => None,
        Err(error) => panic!("cannot look into the worker: {error}"),
    }
}

#[test]
fn a_key_from_the_environment() {
    let stage = Stage::cold();
    let agent = summarizer(&["gpt-4o-mini", "claude-3-haiku"]);
    watched(&stage, stage.run_with_keys(&agent, INPUT), &[OPENAI_KEY, ANTHROPIC_KEY]);
}

#[test]
fn a_key_from_the_command_line() {
    let stage = Stage::cold();
    let agent = summarizer(&["gpt-4o-mini"]);
    watched(&stage, stage.run(&agent, INPUT).args(["--key", OPENAI_KEY]), &[OPENAI_KEY]);
}

#[test]
fn a_key_from_a_file() {
    let stage = Stage::cold();
    let agent = summarizer(&["gpt-4o-mini"]);
    let outside = Outside::new();
    let file = outside.file("key", OPENAI_KEY);
    watched(&stage, stage.run(&agent, INPUT).args(["--key-file", &text(file)]), &[OPENAI_KEY]);
}

#[test]
fn a_key_from_standard_input() {
    let stage = Stage::cold();
    let agent = summarizer(&["gpt-4o-mini"]);
    watched(&stage, stage.run(&agent, INPUT).arg("--key-stdin").stdin(OPENAI_KEY), &[OPENAI_KEY]);
}

#[test]
fn a_key_from_the_vault() {
    let stage = Stage::cold();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    stage.store("ANTHROPIC_API_KEY", ANTHROPIC_KEY, &[]);
    let agent = summarizer(&["gpt-4o-mini", "claude-3-haiku"]);
    watched(&stage, stage.run(&agent, INPUT), &[OPENAI_KEY, ANTHROPIC_KEY]);
}

/// A provider that puts the key into its error must not get it shown.
#[test]
fn a_key_that_the_provider_repeats_in_an_error() {
    for status in [401, 400, 500] {
        let stage = Stage::cold();
        let message =
            format!("Incorrect API key provided: {OPENAI_KEY}. You can find your API key in your account.");
        let body = json!({ "error": { "message": message, "type": "invalid_request_error", "code": "invalid_api_key" } });
        let reply = Reply::json(status, &body).with_header("x-debug", OPENAI_KEY);
        stage.openai.script(std::iter::repeat_n(reply, 20));
        let outcome = stage.run_with_keys(&summarizer(&["gpt-4o-mini"]), INPUT).run();
        assert_ne!(outcome.code(), Some(0), "{outcome}");
        let needle = Needle::new(OPENAI_KEY);
        needle::none(&[outcome.search(&needle), stage.home.search(&needle)].concat());
    }
}

/// An agent that got hold of a value elsewhere and asks for it, as a host and in paths, leaves it in nothing that stays.
#[test]
fn a_value_that_an_agent_asks_for() {
    let value = "e2e4w9kx7zq2lm5tn8vp3hd6bs1gj0cf";
    let (front, back) = value.split_at(16);
    let mut stage = Stage::cold();
    let api = Upstream::https(&stage.ca, &["api.github.com"], |request: &Received| Reply::echo(request));
    let address = api.address();
    stage.configure(|config| {
        config
            .connect("api.github.com:443", address)
            .trial(json!([{ "host": "trial.example.org", "methods": ["GET"] }]))
    });
    stage.store("GITHUB_TOKEN", value, &["--host", "api.github.com"]);
    let fields = json!({
        "egress": [{ "host": "api.github.com", "methods": ["GET"], "paths": ["/repos/**"] }],
        "secrets": [{ "name": "GITHUB_TOKEN", "hosts": ["api.github.com"] }],
    });
    let long = "a".repeat(300);
    let requests = json!({ "requests": [
        { "url": "https://${FRONT}${BACK}/" },
        { "url": "https://${FRONT}${BACK}.example.org/x" },
        { "url": "https://denied.example.org/${FRONT}${BACK}" },
        { "url": format!("https://api.github.com/other/{long}/${{FRONT}}${{BACK}}") },
        { "url": "https://api.github.com/repos/${FRONT}${BACK}",
          "headers": [["authorization", "Bearer ${GITHUB_TOKEN}"]] },
    ]});
    let outcome = stage
        .run_with_keys(&guest("wanderer", &fields), &requests.to_string())
        .args(["--env", &format!("FRONT={front}"), "--env", &format!("BACK={back}")])
        .args(["--allow", "api.github.com", "--secret", "GITHUB_TOKEN@api.github.com"])
        .run()
        .expect(0);
    let egress = &outcome.json()["egress"];
    assert_eq!(egress["denied"].as_array().map(Vec::len), Some(4), "{outcome}");
    assert_eq!(egress["trial"]["would_deny"].as_array().map(Vec::len), Some(1), "{outcome}");
    assert!(api.received()[0].path.ends_with(value), "the agent did ask for it");
    let needle = Needle::new(value);
    needle::none(&needle.in_bytes("the report's egress", egress.to_string().as_bytes()));
    needle::none(&stage.home.search(&needle));
    let audit = stage.orch(["vault", "audit", "--json"]).run().expect(0);
    let records = audit.json()["records"].clone();
    let of = |event: &str| records.as_array().into_iter().flatten().filter(|r| r["event"] == event).count();
    assert_eq!((of("use_counted"), of("denied") > 2), (1, true), "{audit}");
    let learnt = stage.orch(["policy", "learn", "--json"]).run();
    needle::none(&[audit.search(&needle), learnt.search(&needle)].concat());
}

/// Whatever is wrong with the command line, its error does not repeat a key.
#[test]
fn a_key_in_a_broken_command_line() {
    let stage = Stage::cold();
    let agent = summarizer(&["gpt-4o-mini"]);
    let needle = Needle::new(OPENAI_KEY);
    let spoiled = format!("{OPENAI_KEY}\r\nx-evil: 1");
    let lines: [&[&str]; 4] = [
        &["--key", OPENAI_KEY, "--no-such-flag"],
        &["--key", &spoiled],
        &["--key", OPENAI_KEY, "--key-stdin"],
        &["--key", OPENAI_KEY, "--time", "soon"],
    ];
    for flags in lines {
        for json in [true, false] {
            let mut run =
                stage.orch(["run", "--local"]).arg(agent.path()).args(["--input", INPUT]).args(flags);
            if json {
                run = run.arg("--json");
            }
            let outcome = run.run();
            assert!(matches!(outcome.code(), Some(2 | 3)), "{outcome}");
            needle::none(&[outcome.search(&needle), stage.home.search(&needle)].concat());
        }
    }
    stage.openai.untouched();
}

/// A key that was pasted where something else belongs is not repeated by the error about it: neither one of a known
/// shape nor one that only looks random.
#[test]
fn a_key_in_the_wrong_place() {
    let stage = Stage::cold();
    for key in [OPENAI_KEY, "Zk3v9QpL7xTn2WcR8mYb4HdS6gJf1KaE", "7F9A1C3E5B2D48606F8E0A9B1C3D5E7F"] {
        let needle = Needle::new(key);
        let (bound, assigned) = (format!("{key}@api.openai.com"), format!("{key}="));
        let summarizer = ["run", "--local", "orch/summarizer"];
        let after = |flags: &[&'_ str]| [&summarizer[..], flags].concat().join("\n");
        let lines = [
            key.to_owned(),
            ["run", "--local", key].join("\n"),
            ["run", key].join("\n"),
            after(&[key]),
            after(&["--key-file", key]),
            after(&["--provider", key]),
            after(&["--secret", key]),
            after(&["--secret", &bound]),
            after(&["--allow", key]),
            after(&["--env", key]),
            after(&["--mount", key]),
            after(&["--time", key]),
            after(&["--key", key, "--model", key]),
            ["secrets", "set", key].join("\n"),
            ["secrets", "set", &assigned].join("\n"),
            ["secrets", "set", key, "-"].join("\n"),
            ["secrets", "rm", key, "--yes"].join("\n"),
            ["secrets", "which", key].join("\n"),
            ["secrets", "set", "OPENAI_API_KEY", "--from-file", key].join("\n"),
            ["secrets", "set", "X", "-", "--host", key].join("\n"),
            ["secrets", "set", "X", "-", "--host", "a.example", "--agent", key].join("\n"),
            ["secrets", "set", "X", "-", "--host", "a.example", "--in", key].join("\n"),
            ["secrets", "set", "X", "-", "--host", "a.example", "--method", key].join("\n"),
            ["secrets", "set", "X", "-", "--host", "a.example", "--path", key].join("\n"),
            ["secrets", "set", "X", "-", "--host", "a.example", "--runs", key].join("\n"),
            ["secrets", "set", "OPENAI_API_KEY", "-", "--max-cost", key].join("\n"),
            ["secrets", "rotate", key, "-"].join("\n"),
            ["secrets", "grants", key].join("\n"),
            ["secrets", "grants", "add", "X", "--host", key].join("\n"),
            ["secrets", "grants", "rm", "X", key].join("\n"),
            ["secrets", "import", key].join("\n"),
            ["info", key].join("\n"),
            ["pull", key].join("\n"),
            ["publish", key].join("\n"),
            ["logs", key].join("\n"),
            ["usage", "--since", key].join("\n"),
            ["login", key].join("\n"),
        ];
        for (at, line) in lines.iter().enumerate() {
            let run = stage.orch(line.split('\n'));
            // Both ways of telling an error leave out the same.
            let outcome = if at % 2 == 0 { run.arg("--json") } else { run }.run();
            assert!(outcome.code().is_some_and(|code| code != 0 && code != 70), "{outcome}");
            needle::none(&outcome.search(&needle));
        }
        needle::none(&stage.home.search(&needle));
    }
}
