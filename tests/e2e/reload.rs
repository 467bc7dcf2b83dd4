//! `config.yaml` read again while the server works: on SIGHUP, and on `POST /v1/reload`.

use std::fs;

use orch_tests::gate::Gate;
use orch_tests::guests::Agent;
use orch_tests::orch::{Orch, Outcome};
use orch_tests::reply::Reply;
use orch_tests::server::Server;
use orch_tests::upstream::Upstream;
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{Mode, OPENAI_KEY, PROGRAM, Stage, guest};

const HOST: &str = "api.github.com";

/// A server whose configuration allows a host that answers whatever it is sent.
struct Operator {
    stage: Stage,
    server: Server,
    api: Upstream,
    agent: Agent,
}

impl Operator {
    fn new() -> Self {
        let mut stage = Stage::new();
        let api =
            Upstream::https(&stage.ca, &[HOST], |_: &Received| Reply::json(200, &json!({ "ok": true })));
        let address = api.address();
        stage.configure(|config| config.connect("api.github.com:443", address).allow(HOST));
        stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
        let server = Server::start(PROGRAM, &stage.home);
        let agent = guest("wanderer", &json!({ "egress": [{ "host": HOST }] }));
        Self { stage, server, api, agent }
    }

    /// A run on the server that asks for these paths, one after another.
    fn ask(&self, paths: &[&str]) -> Orch {
        let requests: Vec<Value> =
            paths.iter().map(|path| json!({ "url": format!("https://{HOST}{path}") })).collect();
        self.stage.run_in(Mode::Embedded, self.agent.path(), &json!({ "requests": requests }).to_string())
    }

    /// Replaces the configuration by this text.
    fn write(&self, text: &str) -> String {
        let path = self.stage.home.orch().join("config.yaml");
        let before = fs::read_to_string(&path).expect("a configuration");
        fs::write(&path, text).expect("written");
        before
    }

    /// The configuration without the host.
    fn allow_nothing(&self) -> String {
        let path = self.stage.home.orch().join("config.yaml");
        let text = fs::read_to_string(path).expect("a configuration");
        let mut config: Value = serde_json::from_str(&text).expect("the harness writes JSON");
        config["egress"]["allow"] = json!([]);
        self.write(&config.to_string())
    }
}

fn statuses(outcome: &Outcome) -> Vec<Value> {
    let results = outcome.json()["output"]["results"].as_array().expect("results").clone();
    results.iter().map(|result| result["status"].clone()).collect()
}

#[test]
fn a_host_that_is_taken_back_is_refused_from_the_next_request_on() {
    let operator = Operator::new();
    let gate = Gate::closed();
    operator.api.script([Reply::json(200, &json!({ "first": "x".repeat(64) })).held(&gate)]);
    let running = operator.ask(&["/first", "/second"]).start();
    operator.api.wait_for(1);
    let before = operator.allow_nothing();
    operator.server.process().hang_up();
    operator.server.process().wait_says("egress changed");
    operator.server.process().wait_says("have lost: 1");
    gate.open();
    // What was under way ends as it began.
    let outcome = running.finish();
    assert_eq!(statuses(&outcome), [200, 403], "{outcome}");
    assert_eq!(operator.api.received().len(), 1);
    // New runs are not admitted, until it is allowed again.
    let refused = operator.ask(&["/third"]).run().expect(4).silent();
    assert!(refused.stderr().contains(HOST), "{refused}");
    operator.write(&before);
    let reloaded = operator.server.ask("POST", "/v1/reload", None).expect(200).json();
    assert_eq!(reloaded, json!({ "changed": ["egress"], "on_restart": [], "rules_taken_back": 0 }));
    assert_eq!(statuses(&operator.ask(&["/third"]).run().expect(0)), [200]);
}

#[test]
fn a_configuration_that_is_not_in_order_changes_nothing() {
    let operator = Operator::new();
    let before = operator.write("egress: { alow: [] }\n");
    operator.server.process().hang_up();
    operator.server.process().wait_says("was not taken over");
    operator.server.process().wait_says("unknown field `alow`");
    operator.server.process().wait_says("the configuration from before holds");
    let refused = operator.server.ask("POST", "/v1/reload", None);
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (400, &json!("config_invalid")));
    operator.write("egress: { ca_file: absent.pem }\n");
    assert_eq!(operator.server.ask("POST", "/v1/reload", None).status, 400);
    // Commands read the file themselves.
    operator.write(&before);
    assert_eq!(statuses(&operator.ask(&["/a"]).run().expect(0)), [200]);
    let nothing = operator.server.ask("POST", "/v1/reload", None).expect(200).json();
    assert_eq!(nothing["changed"], json!([]));
}

#[test]
fn only_the_operator_may_and_what_takes_a_restart_is_said() {
    let operator = Operator::new();
    let body = json!({ "name": "runner", "scopes": ["run"] });
    let made = operator.server.ask("POST", "/v1/tokens", Some(&body)).expect(201).json();
    let token = made["token"].as_str().expect("a token");
    assert_eq!(operator.server.ask_as(Some(token), "POST", "/v1/reload", None).status, 403);
    assert_eq!(operator.server.ask_as(None, "POST", "/v1/reload", None).status, 401);
    operator.write("{ server: { max_running: 5 }, limits: { ceilings: { requests: 3 } } }");
    let reloaded = operator.server.ask("POST", "/v1/reload", None).expect(200).json();
    assert_eq!(reloaded["changed"], json!(["egress", "limits.ceilings"]));
    assert_eq!(reloaded["on_restart"], json!(["server"]));
}
