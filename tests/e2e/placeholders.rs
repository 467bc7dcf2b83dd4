//! A placeholder in every place but its own: inert where it may go, refused where it may not.

use orch_tests::fakes::api::api;
use orch_tests::guests::Agent;
use orch_tests::needle::{self, Needle};
use orch_tests::orch::Outcome;
use orch_tests::reply::Reply;
use orch_tests::upstream::Upstream;
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{Mode, OPENAI_KEY, OPENAI_SAYS, Stage, guest, in_every_mode, refused};

const TOKEN: &str = "ghp_e2ePh4w9Kx7Zq2Lm5Tn8Vp3Hd6Bs1Gj0Cf";
const PLACEHOLDER: &[u8] = b"orch_ph_";

struct Hosts {
    stage: Stage,
    /// `api.github.com`, which the token is for.
    api: Upstream,
    /// `other.example.org`, which may be talked to, and which the token is not for.
    other: Upstream,
    /// `third.example.org`, which nobody granted.
    third: Upstream,
}

fn hosts() -> Hosts {
    let mut stage = Stage::new();
    let api = Upstream::https(&stage.ca, &["api.github.com"], api(TOKEN));
    let echo = |request: &Received| Reply::echo(request);
    let other = Upstream::https(&stage.ca, &["other.example.org"], echo);
    let third = Upstream::https(&stage.ca, &["third.example.org"], echo);
    let addresses = [&api, &other, &third].map(Upstream::address);
    stage.configure(|config| {
        config
            .connect("api.github.com:443", addresses[0])
            .connect("other.example.org:443", addresses[1])
            .connect("third.example.org:443", addresses[2])
    });
    stage.store("GITHUB_TOKEN", TOKEN, &["--host", "api.github.com"]);
    Hosts { stage, api, other, third }
}

fn wanderer() -> Agent {
    let fields = json!({
        "llm": { "primary": "gpt-4o-mini" },
        "egress": [{ "host": "api.github.com" }, { "host": "other.example.org" }],
        "secrets": [{ "name": "GITHUB_TOKEN", "hosts": ["api.github.com"] }],
    });
    guest("wanderer", &fields)
}

impl Hosts {
    /// Has the wanderer make these requests, both hosts and the token granted; its results.
    #[track_caller]
    fn ask(&self, mode: Mode, requests: &Value) -> (Vec<Value>, Outcome) {
        let agent = wanderer();
        let outcome = self
            .stage
            .run_in(mode, agent.path(), &json!({ "requests": requests }).to_string())
            .env("OPENAI_API_KEY", OPENAI_KEY)
            .args(["--allow", "api.github.com", "--allow", "other.example.org"])
            .args(["--secret", "GITHUB_TOKEN@api.github.com"])
            .run()
            .expect(0);
        needle::none(&outcome.search(&Needle::new(TOKEN)));
        needle::none(&outcome.search(&Needle::new(OPENAI_KEY)));
        let results = outcome.json()["output"]["results"].as_array().expect("a list").clone();
        (results, outcome)
    }
}

fn toward_another_allowed_host_it_arrives_as_it_is(mode: Mode) {
    let hosts = hosts();
    let url = "https://other.example.org/";
    let (results, outcome) = hosts.ask(
        mode,
        &json!([
            { "url": url, "headers": [["authorization", "Bearer ${GITHUB_TOKEN}"]] },
            { "url": url, "headers": [["x-api-key", "${OPENAI_API_KEY}"]] },
            { "url": format!("{url}${{GITHUB_TOKEN}}?key=${{OPENAI_API_KEY}}") },
            { "method": "POST", "url": url, "body": "{\"token\":\"${GITHUB_TOKEN}\"}" },
        ]),
    );
    let received = hosts.other.received();
    assert_eq!(received.len(), 4, "{outcome}");
    for (request, result) in received.iter().zip(&results) {
        assert!(request.carries(PLACEHOLDER), "something else arrived: {request:?}");
        // Nothing is scrubbed from a host that got no secret: what it echoes is what it was sent.
        assert!(result["body"].as_str().is_some_and(|body| body.contains("orch_ph_")), "{result}");
    }
    for key in [TOKEN, OPENAI_KEY] {
        hosts.other.never_saw(key.as_bytes());
    }
    hosts.api.untouched();
}

fn toward_a_host_that_nobody_granted_it_does_not_leave(mode: Mode) {
    let hosts = hosts();
    let url = "https://third.example.org/";
    let (results, outcome) = hosts.ask(
        mode,
        &json!([
            { "url": url, "headers": [["authorization", "Bearer ${GITHUB_TOKEN}"]] },
            { "url": format!("{url}?key=${{OPENAI_API_KEY}}") },
            { "method": "POST", "url": url, "body": "${GITHUB_TOKEN}" },
        ]),
    );
    assert!(results.iter().all(refused), "{outcome}");
    hosts.third.untouched();
}

/// The token's own host, and every place in a request but the one that its owner named.
fn in_another_place_of_its_own_host_it_is_inert(mode: Mode) {
    let hosts = hosts();
    let url = "https://api.github.com/repos/a";
    let header = |name: &str, value: &str| json!({ "url": url, "headers": [[name, value]] });
    let basic = |pair: &str| format!("Basic {pair}");
    let (_, outcome) = hosts.ask(
        mode,
        &json!([
            { "url": format!("{url}?access_token=${{GITHUB_TOKEN}}") },
            { "url": format!("{url}/${{GITHUB_TOKEN}}") },
            header("x-github-token", "${GITHUB_TOKEN}"),
            header("cookie", "token=${GITHUB_TOKEN}"),
            header("proxy-authorization", "Bearer ${GITHUB_TOKEN}"),
            header("authorization", &basic("user:${GITHUB_TOKEN}")),
            { "method": "POST", "url": url, "body": "token=${GITHUB_TOKEN}" },
        ]),
    );
    assert!(!hosts.api.received().is_empty(), "{outcome}");
    hosts.api.never_saw(TOKEN.as_bytes());
}

fn in_the_prompt_it_is_a_word_like_any_other(mode: Mode) {
    let hosts = hosts();
    let ask = |content: &str| {
        json!({
            "method": "POST", "url": "${ORCH_LLM_URL}/chat/completions",
            "headers": [["content-type", "application/json"]],
            "body": json!({ "model": "default", "messages": [{ "role": "user", "content": content }] }).to_string(),
        })
    };
    let (results, outcome) =
        hosts.ask(mode, &json!([ask("Say ${OPENAI_API_KEY}."), ask("Say ${GITHUB_TOKEN}.")]));
    for result in &results {
        assert_eq!(result["status"], 200, "{outcome}");
        assert!(result["body"].as_str().is_some_and(|body| body.contains(OPENAI_SAYS)), "{outcome}");
    }
    let received = hosts.stage.openai.received();
    assert_eq!(received.len(), 2, "{outcome}");
    for request in received {
        let prompt = request.json()["messages"][0]["content"].as_str().map(str::to_owned).unwrap_or_default();
        assert!(prompt.starts_with("Say orch_ph_"), "{prompt}");
        needle::none(&Needle::new(OPENAI_KEY).in_bytes("the prompt", &request.body));
        needle::none(&Needle::new(TOKEN).in_bytes("the prompt", &request.body));
    }
    hosts.stage.openai.took_key(OPENAI_KEY);
}

/// A model's placeholder sent to the other's host, and the token's to a model's.
fn at_the_host_of_another_secret_it_is_inert(mode: Mode) {
    let hosts = hosts();
    let call =
        json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": "Hi." }] }).to_string();
    let (_, outcome) = hosts.ask(
        mode,
        &json!([
            { "url": "https://api.github.com/repos/a", "headers": [["authorization", "Bearer ${OPENAI_API_KEY}"]] },
            {
                "method": "POST", "url": "https://api.openai.com/v1/chat/completions",
                "headers": [["authorization", "Bearer ${GITHUB_TOKEN}"]], "body": call,
            },
        ]),
    );
    hosts.api.never_saw(OPENAI_KEY.as_bytes());
    hosts.api.never_saw(TOKEN.as_bytes());
    hosts.stage.openai.never_saw(TOKEN.as_bytes());
    assert_eq!(hosts.api.received().len(), 1, "{outcome}");
}

/// A terminal that reads what an agent wrote is told nothing; a program reads it whole.
fn an_agents_words_are_harmless_on_a_terminal_and_whole_for_a_program(mode: Mode) {
    let stage = Stage::new();
    let agent = guest("escape", &json!({}));
    let run = |flags: &[&str]| {
        let run = stage.orch(["run"]).args(mode.flags()).args(flags).arg(agent.path());
        run.env("OPENAI_API_KEY", OPENAI_KEY).run().expect(0)
    };
    for flags in [&[][..], &["--json"], &["--stream"]] {
        let outcome = run(flags);
        for text in [outcome.stdout(), outcome.stderr()] {
            let obeyed = |c: char| {
                let bidi = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
                c.is_control() && !matches!(c, '\n' | '\t') || bidi
            };
            assert_eq!(text.chars().find(|c| obeyed(*c)), None, "{flags:?}: {text:?}");
        }
        let document = outcome.json();
        let output = if flags.contains(&"--json") { &document["output"] } else { &document };
        assert_eq!(output["clipboard"], "\u{1b}]52;c;b3duZWQ=\u{7}", "{flags:?}: {outcome}");
        assert_eq!(output["c1_csi"], "\u{9b}31mred\u{9b}0m", "{flags:?}: {outcome}");
        assert_eq!(output["mark"], "a\u{61c}b\u{2028}c", "{flags:?}: {outcome}");
    }
}

in_every_mode! {
    toward_another_allowed_host_it_arrives_as_it_is
    toward_a_host_that_nobody_granted_it_does_not_leave
    in_another_place_of_its_own_host_it_is_inert
    in_the_prompt_it_is_a_word_like_any_other
    at_the_host_of_another_secret_it_is_inert
    an_agents_words_are_harmless_on_a_terminal_and_whole_for_a_program
}
