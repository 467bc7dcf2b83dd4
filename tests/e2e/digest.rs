//! `orch/repo-digest`: a host and a secret that are granted, a fake GitHub, and everything that can go wrong there.

use orch_tests::fakes::github::github;
use orch_tests::guests::repository;
use orch_tests::needle::{self, Needle};
use orch_tests::orch::Orch;
use orch_tests::upstream::Upstream;
use serde_json::{Value, json};

use crate::stage::{Mode, OPENAI_KEY, OPENAI_SAYS, Stage, in_every_mode, text};

const TOKEN: &str = "ghp_e2eDg4w9Kx7Zq2Lm5Tn8Vp3Hd6Bs1Gj0Cf";
const AGENT: &str = "orch/repo-digest";

struct Hosts {
    stage: Stage,
    github: Upstream,
}

/// GitHub on loopback, and the owner's token in the vault.
fn hosts(token: &str) -> Hosts {
    let mut stage = Stage::cold();
    let github = Upstream::https(&stage.ca, &["api.github.com"], github(TOKEN));
    let address = github.address();
    stage.configure(|config| config.connect("api.github.com:443", address));
    stage.store("GITHUB_TOKEN", token, &["--host", "api.github.com"]);
    Hosts { stage, github }
}

impl Hosts {
    /// A run that nobody has granted anything to.
    fn bare(&self, mode: Mode, input: &Value) -> Orch {
        self.stage.run_in(mode, AGENT, &input.to_string()).env("OPENAI_API_KEY", OPENAI_KEY)
    }

    fn digest(&self, mode: Mode, input: &Value) -> Orch {
        let flags = ["--allow", "api.github.com", "--secret", "GITHUB_TOKEN@api.github.com"];
        self.bare(mode, input).args(flags)
    }
}

fn a_repository_is_read_with_the_token_and_digested_without_it(mode: Mode) {
    let hosts = hosts(TOKEN);
    let outcome = hosts.digest(mode, &json!({ "repo": "acme/widget" })).run().expect(0);
    let output = &outcome.json()["output"];
    assert_eq!(
        (&output["repo"], &output["digest"]),
        (&json!("acme/widget"), &json!(OPENAI_SAYS)),
        "{outcome}"
    );
    let read = json!({ "readme": true, "commits": 2, "issues": 1, "newest_commit": "2026-02-03" });
    assert_eq!(output["read"], read, "{outcome}");

    hosts.github.took_key(TOKEN);
    let asked: Vec<String> = hosts.github.received().into_iter().map(|request| request.path).collect();
    let parts = ["", "/readme", "/commits", "/issues"].map(|part| format!("/repos/acme/widget{part}"));
    assert_eq!(asked, parts);

    let prompt = hosts.stage.openai.only();
    for material in
        ["The widget turns cranks.", "2026-02-03, Ada: Turn crank 1", "#0, 3 comments: Crank 0 squeaks"]
    {
        assert!(prompt.carries(material.as_bytes()), "the model was not told {material:?}");
    }
    assert!(!prompt.carries(b"At length.") && !prompt.carries(b"Crank 1 squeaks"), "too much was told");
    hosts.stage.openai.never_saw(TOKEN.as_bytes());
    hosts.stage.openai.never_saw(b"orch_ph_");
    let needle = Needle::new(TOKEN);
    needle::none(&outcome.search(&needle));
    needle::none(&hosts.stage.home.search(&needle));
}

fn pages_are_bounded(mode: Mode) {
    let hosts = hosts(TOKEN);
    let input = json!({ "repo": "acme/busy", "commits": 150, "issues": 200 });
    let outcome = hosts.digest(mode, &input).run().expect(0);
    let read = &outcome.json()["output"]["read"];
    assert_eq!((&read["commits"], &read["issues"]), (&json!(150), &json!(200)), "{outcome}");
    let asked = |part: &str| {
        let requests = hosts.github.received().into_iter().filter(|request| request.path.ends_with(part));
        requests.filter_map(|request| request.query).collect::<Vec<_>>()
    };
    assert_eq!(asked("/commits"), ["per_page=100&page=1", "per_page=100&page=2"]);
    assert_eq!(asked("/issues").len(), 4);
}

fn an_empty_repository_is_digested_too(mode: Mode) {
    let hosts = hosts(TOKEN);
    let outcome = hosts.digest(mode, &json!({ "repo": "acme/bare" })).run().expect(0);
    let read = json!({ "readme": false, "commits": 0, "issues": 0, "newest_commit": null });
    assert_eq!(outcome.json()["output"]["read"], read, "{outcome}");
}

fn a_token_that_github_echoes_reaches_neither_agent_nor_model(mode: Mode) {
    let hosts = hosts(TOKEN);
    let outcome = hosts.digest(mode, &json!({ "repo": "acme/echo" })).run().expect(0);
    hosts.github.took_key(TOKEN);
    let prompt = hosts.stage.openai.only();
    assert!(prompt.carries(b"authorization: Bearer "), "the echo is part of the prompt");
    needle::none(&Needle::new(TOKEN).in_bytes("the prompt", &prompt.body));
    needle::none(&outcome.search(&Needle::new(TOKEN)));
}

fn without_its_grants_it_does_not_start(mode: Mode) {
    let hosts = hosts(TOKEN);
    let input = json!({ "repo": "acme/widget" });
    let outcome = hosts.bare(mode, &input).run().expect(4).silent();
    assert!(outcome.stderr().contains("--allow api.github.com"), "the hint can be pasted: {outcome}");
    // The host alone is not the secret.
    hosts.bare(mode, &input).args(["--allow", "api.github.com"]).run().expect(4).silent();
    hosts.github.untouched();
    hosts.stage.openai.untouched();
}

fn a_wrong_token_is_said(mode: Mode) {
    let hosts = hosts("ghp_e2eWrongXk7Zq2Lm5Tn8Vp3Hd6Bs1Gj0Cf");
    let outcome = hosts.digest(mode, &json!({ "repo": "acme/widget" })).run().expect(1).silent();
    outcome.says("GitHub does not accept the token; set another with: orch secrets set GITHUB_TOKEN");
    assert_eq!(hosts.github.received().len(), 1, "it stops at the first answer");
    hosts.stage.openai.untouched();
}

fn what_github_refuses_is_said(mode: Mode) {
    let hosts = hosts(TOKEN);
    for (repo, said) in [
        ("acme/nothing", "there is no repository acme/nothing, or the token may not see it"),
        ("acme/limited", "GitHub's rate limit is reached, try again in 60 s: API rate limit exceeded"),
        ("acme/secret", "the token may not read acme/secret: Resource not accessible"),
        ("acme/moved", "acme/moved has moved; ask for it by its new name"),
        ("acme/..", "\"acme/..\" is no repository"),
    ] {
        hosts.digest(mode, &json!({ "repo": repo })).run().expect(1).silent().says(said);
    }
    hosts.digest(mode, &json!({ "repo": "acme" })).run().expect(2).silent();
    hosts.stage.openai.untouched();
}

fn a_path_that_nobody_granted_is_refused_in_words(mode: Mode) {
    let hosts = hosts(TOKEN);
    // The manifest's own paths, narrowed by whoever copied it.
    let manifest =
        std::fs::read_to_string(repository().join("examples/repo-digest/orch.yaml")).expect("there");
    let agent = orch_tests::guests::Agent::raw(&manifest.replace("/repos/**", "/repos/*/*"));
    let module = std::fs::read(orch_tests::guests::example("repo-digest")).expect("there");
    let agent = agent.with("repo-digest.wasm", &module);
    let flags = ["--allow", "api.github.com", "--secret", "GITHUB_TOKEN@api.github.com"];
    let input = json!({ "repo": "acme/widget" }).to_string();
    let run = hosts.stage.run_in(mode, agent.path(), &input).env("OPENAI_API_KEY", OPENAI_KEY).args(flags);
    run.run().expect(4).silent().says("the request was not allowed to leave: ");
    assert_eq!(hosts.github.received().len(), 1, "only what was granted");
}

/// The scenario beside the example plays GitHub: nothing is real, neither token nor host.
fn the_example_runs_simulated(mode: Mode) {
    let hosts = hosts(TOKEN);
    let scenario = text(repository().join("examples/repo-digest/scenario.yaml"));
    let outcome = hosts
        .digest(mode, &json!({ "repo": "acme/widget" }))
        .arg(format!("--simulate={scenario}"))
        .run()
        .expect(0);
    let report = outcome.json();
    assert_eq!(report["simulated"], true, "{outcome}");
    let digest = report["output"]["digest"].as_str().expect("text");
    assert!(digest.contains("widget") || digest.contains("crank"), "{outcome}");
    assert_eq!(report["output"]["read"]["issues"], 2, "{outcome}");
    hosts.github.untouched();
    hosts.stage.openai.untouched();
}

in_every_mode! {
    a_repository_is_read_with_the_token_and_digested_without_it
    pages_are_bounded
    an_empty_repository_is_digested_too
    a_token_that_github_echoes_reaches_neither_agent_nor_model
    without_its_grants_it_does_not_start
    a_wrong_token_is_said
    what_github_refuses_is_said
    a_path_that_nobody_granted_is_refused_in_words
    the_example_runs_simulated
}
