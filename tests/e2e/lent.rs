//! What the owner of a secret says holds at each use, also for runs and clients that have begun.

use orch_tests::gate::Gate;
use orch_tests::guests::Agent;
use orch_tests::needle::{self, Needle};
use orch_tests::orch::{Orch, Outcome, Running};
use orch_tests::reply::Reply;
use orch_tests::server::{Server, request};
use orch_tests::upstream::Upstream;
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{
    INPUT, Mode, OPENAI_KEY, OPENAI_SAYS, PROGRAM, Stage, fake_openai, guest, in_every_mode, summarizer,
    summary,
};

const OLD: &str = "ghp_e2eOldR4w9Kx7Zq2Lm5Tn8Vp3Hd6Bs1Gj0";
const NEW: &str = "ghp_e2eNewQ8n3Tz6Lx1Vp5Kd9Hb2Mf7Gj4Cs0";
const HOST: &str = "api.github.com";

/// A home with a server, and a host that answers whatever it is sent.
struct Owner {
    stage: Stage,
    server: Server,
    api: Upstream,
    agent: Agent,
}

impl Owner {
    fn new() -> Self {
        let (stage, api) = with_host();
        stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
        stage.store("GITHUB_TOKEN", OLD, &["--host", HOST]);
        let server = Server::start(PROGRAM, &stage.home);
        Self { stage, server, api, agent: asker() }
    }

    /// An agent on the server that asks twice; the first answer waits for the gate.
    fn asks_twice(&self, gate: &Gate) -> Running {
        let first = Reply::json(200, &json!({ "first": "x".repeat(64) })).held(gate);
        self.api.script([first]);
        let running = self.ask(&["/repos/first", "/repos/second"]).start();
        self.api.wait_for(1);
        running
    }

    /// A run on the server that sends the token to these paths, one after another.
    fn ask(&self, paths: &[&str]) -> Orch {
        let headers = json!([["authorization", "Bearer ${GITHUB_TOKEN}"]]);
        let ask = |path: &&str| json!({ "url": format!("https://{HOST}{path}"), "headers": headers });
        let requests: Vec<Value> = paths.iter().map(ask).collect();
        let input = json!({ "requests": requests }).to_string();
        self.stage.run_in(Mode::Embedded, self.agent.path(), &input).args(["--allow", HOST])
    }

    /// A command of the owner, who finds the server by its socket.
    fn says(&self, args: &[&str], stdin: &str) -> Outcome {
        self.stage.orch(args).stdin(stdin).run().expect(0)
    }
}

fn with_host() -> (Stage, Upstream) {
    let mut stage = Stage::new();
    let api = Upstream::https(&stage.ca, &[HOST], |_: &Received| Reply::json(200, &json!({ "ok": true })));
    let address = api.address();
    stage.configure(|config| config.connect("api.github.com:443", address));
    (stage, api)
}

/// An agent that asks for the host, and for the token to be sent there.
fn asker() -> Agent {
    let fields = json!({
        "egress": [{ "host": HOST }],
        "secrets": [{ "name": "GITHUB_TOKEN", "hosts": [HOST] }],
    });
    guest("wanderer", &fields)
}

fn tokens(api: &Upstream) -> Vec<String> {
    let of = |request: &Received| request.header("authorization").unwrap_or_default().to_owned();
    api.received().iter().map(of).collect()
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// What became of each of the agent's requests: its status, or the reason.
fn results(outcome: &Outcome) -> Vec<Value> {
    outcome.json()["output"]["results"].as_array().expect("results").clone()
}

fn not_permitted(result: &Value) -> bool {
    result["status"] == 403
        && result["body"].as_str().is_some_and(|body| body.contains("credential_not_permitted"))
}

#[test]
fn a_rotation_reaches_the_next_request_and_not_the_one_under_way() {
    let owner = Owner::new();
    let gate = Gate::closed();
    let granted = start_granted(&owner, &gate);
    let said = owner.says(&["secrets", "rotate", "GITHUB_TOKEN", "-", "--json"], NEW).json();
    assert_eq!(said["version"], 2, "{said}");
    gate.open();
    let outcome = granted.finish().expect(0);
    assert_eq!(said["under_way"], json!([outcome.json()["run_id"]]), "{said}");
    assert!(results(&outcome).iter().all(|result| result["status"] == 200), "{outcome}");
    assert_eq!(tokens(&owner.api), [bearer(OLD), bearer(NEW)]);
    for token in [OLD, NEW] {
        needle::none(&outcome.search(&Needle::new(token)));
    }
    let log = owner.stage.orch(["vault", "audit", "--json"]).run().expect(0).json();
    let events: Vec<&str> =
        log["records"].as_array().expect("records").iter().filter_map(|r| r["event"].as_str()).collect();
    assert!(events.contains(&"rotated") && events.contains(&"use_counted"), "{events:?}");
}

#[test]
fn a_removed_secret_ends_with_the_request_under_way() {
    let owner = Owner::new();
    let gate = Gate::closed();
    let running = start_granted(&owner, &gate);
    owner.says(&["secrets", "rm", "GITHUB_TOKEN", "--yes"], "");
    gate.open();
    let outcome = running.finish();
    let results = results(&outcome);
    assert_eq!(results[0]["status"], 200, "{outcome}");
    assert!(not_permitted(&results[1]), "{outcome}");
    assert_eq!(tokens(&owner.api), [bearer(OLD)]);
}

#[test]
fn removed_at_once_it_cuts_what_carries_it() {
    let owner = Owner::new();
    let gate = Gate::closed();
    let running = start_granted(&owner, &gate);
    let said = owner.says(&["secrets", "rm", "GITHUB_TOKEN", "--yes", "--now"], "");
    // Nobody opens the gate: the request ends all the same.
    let outcome = running.finish();
    let results = results(&outcome);
    assert_ne!(results[0]["status"], 200, "{said}\n{outcome}");
    assert!(not_permitted(&results[1]), "{outcome}");
    assert_eq!(tokens(&owner.api), [bearer(OLD)]);
    owner.api.wait_closed();
    gate.open();
}

#[test]
fn a_grant_that_is_taken_back_is_refused_to_the_run_that_has_it() {
    let owner = Owner::new();
    let gate = Gate::closed();
    let running = start_granted(&owner, &gate);
    let listed = owner.says(&["secrets", "grants", "GITHUB_TOKEN", "--json"], "").json();
    let id = listed["grants"][0]["id"].to_string();
    owner.says(&["secrets", "grants", "rm", "GITHUB_TOKEN", &id], "");
    gate.open();
    let outcome = running.finish();
    let results = results(&outcome);
    assert_eq!(results[0]["status"], 200, "{outcome}");
    assert!(not_permitted(&results[1]), "{outcome}");
}

/// A run whose secret comes from the owner's grant: the workspace granted this content of the agent.
fn start_granted(owner: &Owner, gate: &Gate) -> Running {
    let refused = owner.ask(&["/repos/first"]).run().expect(4);
    let details = refused.error()["details"].clone();
    let digest = details["digest"].as_str().expect("a digest");
    let body = json!({ "agent": details["name"], "capabilities": details["wanted"] });
    owner.server.ask("PUT", &format!("/v1/grants/{digest}"), Some(&body)).expect(200);
    owner.asks_twice(gate)
}

#[test]
fn a_client_of_the_gateway_is_cut_and_refused_like_a_run() {
    let owner = Owner::new();
    let gate = Gate::closed();
    let asked = json!({ "model": "gpt-4o-mini", "stream_options": { "include_usage": true } });
    owner.stage.openai.script([Reply::sse(fake_openai().stream(&asked)).held(&gate)]);
    let body = json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": "Hello." }] });
    let (address, token) = (owner.server.address(), owner.server.token().to_owned());
    let call = {
        let body = body.to_string();
        std::thread::spawn(move || {
            request(address, Some(&token), "POST", "/v1/chat/completions", body.as_bytes())
        })
    };
    owner.stage.openai.wait_for(1);
    owner.says(&["secrets", "rm", "OPENAI_API_KEY", "--yes", "--now"], "");
    let cut = call.join().expect("it ends").expect("an answer");
    assert_ne!(cut.status, 200);
    owner.stage.openai.wait_closed();
    gate.open();
    let after = owner.server.ask("POST", "/v1/chat/completions", Some(&body));
    assert_ne!(after.status, 200);
    assert_eq!(owner.stage.openai.received().len(), 1);
}

#[test]
fn a_secret_goes_into_the_query_by_the_paths_and_methods_of_its_grant() {
    let (stage, api) = with_host();
    let flags = ["--host", HOST, "--in", "query:key", "--path", "/maps/**", "--method", "GET"];
    stage.store("GITHUB_TOKEN", OLD, &flags);
    let agent = asker();
    let url = |path: &str| json!({ "url": format!("https://{HOST}{path}?key=${{GITHUB_TOKEN}}") });
    let mut posted = url("/maps/1");
    posted["method"] = json!("POST");
    let input = json!({ "requests": [url("/maps/1"), url("/other"), posted] }).to_string();
    let run = || stage.run(&agent, &input).args(["--allow", HOST]).env("OPENAI_API_KEY", OPENAI_KEY).run();
    // Where it may go was said, and not that this agent may have it.
    run().expect(4);
    stage.store("GITHUB_TOKEN", OLD, &[&flags[..], &["--agent", "test/wanderer"]].concat());
    let outcome = run();
    let received = api.received();
    assert_eq!(received.len(), 3, "{outcome}");
    assert_eq!(received[0].query.as_deref(), Some(&*format!("key={OLD}")));
    for inert in &received[1..] {
        assert!(!inert.query.as_deref().unwrap_or_default().contains(OLD), "{outcome}");
    }
    needle::none(&outcome.search(&Needle::new(OLD)));
}

/// The runs and the money of a grant are used up, and the next run says so.
fn a_key_is_for_so_many_runs_and_so_much_money(mode: Mode) {
    let stage = Stage::new();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &["--runs", "1"]);
    let agent = summarizer(&["gpt-4o-mini"]);
    summary(stage.run_in(mode, agent.path(), INPUT).run(), OPENAI_SAYS);
    let refused = stage.run_in(mode, agent.path(), INPUT).run().expect(4);
    assert_eq!(refused.error()["code"], "secret_used_up", "{refused}");

    // What is set aside for a call is the most that it can cost, so what was spent stays below the bound.
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &["--max-cost", "0.0003"]);
    let runs = (0..60).map(|_| stage.run_in(mode, agent.path(), INPUT).run());
    let served = runs.take_while(|run| run.code() == Some(0)).count();
    assert!((1..60).contains(&served), "{served} runs");
    // The last one may have been cut short where the money ended.
    assert!(stage.openai.received().len() - served <= 2, "nobody was asked in vain");
    let listed = stage.orch(["secrets", "grants", "OPENAI_API_KEY", "--json"]).run().expect(0).json();
    let used = listed["grants"][0]["used"]["cost_usd"].as_f64().expect("a number");
    assert!(used > 0.0 && used <= 0.0003, "{listed}");
}

/// Of runs that begin at once, so many as the grant is for are let in.
fn of_runs_at_once_only_so_many_are_let_in(mode: Mode) {
    let stage = Stage::new();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &["--runs", "2"]);
    let agent = summarizer(&["gpt-4o-mini"]);
    let runs: Vec<Running> = (0..4).map(|_| stage.run_in(mode, agent.path(), INPUT).start()).collect();
    let mut codes: Vec<Option<i32>> = runs.into_iter().map(|run| run.finish().code()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(0), Some(4), Some(4)]);
}

in_every_mode! {
    a_key_is_for_so_many_runs_and_so_much_money
    of_runs_at_once_only_so_many_are_let_in
}

#[test]
fn what_clients_spend_is_bounded_and_on_record() {
    let owner = Owner::new();
    owner.stage.store("OPENAI_API_KEY", OPENAI_KEY, &["--max-cost", "0.001"]);
    let body = json!({ "model": "gpt-4o-mini", "messages": [{ "role": "user", "content": "Hello." }] });
    let call = |_: &u32| owner.server.ask("POST", "/v1/chat/completions", Some(&body)).status == 200;
    let served = (0..500).take_while(call).count();
    assert!((1..500).contains(&served), "{served} calls");
    assert_eq!(owner.stage.openai.received().len(), served);
    // A model without a price cannot be bounded.
    let mut unpriced = body.clone();
    unpriced["model"] = json!("openai/gpt-9-unpriced");
    assert_ne!(owner.server.ask("POST", "/v1/chat/completions", Some(&unpriced)).status, 200);
    assert_eq!(owner.stage.openai.received().len(), served);
    // Counts go on record when the server ends, at the latest.
    owner.server.terminate().expect(0);
    let log = owner.stage.orch(["vault", "audit", "--json"]).run().expect(0).json();
    let records = log["records"].as_array().expect("records");
    let counted = |record: &&Value| record["event"] == "use_counted" && record["run"] == "gateway";
    let cost: u64 =
        records.iter().filter(counted).filter_map(|record| record["cost_micro_usd"].as_u64()).sum();
    let uses: u64 = records.iter().filter(counted).filter_map(|record| record["uses"].as_u64()).sum();
    assert!(cost > 0 && cost <= 1_000 && uses == served as u64, "{cost} {uses}");
}

#[test]
fn a_name_that_anybody_can_upload_is_no_grant_of_a_key() {
    let owner = Owner::new();
    let agent = summarizer(&["gpt-4o-mini"]);
    owner.stage.store("OPENAI_API_KEY", OPENAI_KEY, &["--agent", "test/summarizer"]);
    let refused = owner.stage.run_in(Mode::Embedded, agent.path(), INPUT).run().expect(4);
    assert_eq!(refused.error()["code"], "not_granted", "{refused}");
    owner.stage.openai.untouched();
    // On the owner's own machine it is.
    owner.server.terminate().expect(0);
    summary(owner.stage.run(&agent, INPUT).run(), OPENAI_SAYS);
}
