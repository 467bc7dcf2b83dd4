//! `orch run` and its records on another server: `ORCH_SERVER`, and the socket of the server of this home.

use orch_tests::gate::Gate;
use orch_tests::home::Home;
use orch_tests::needle::{self, Needle};
use orch_tests::orch::Orch;
use orch_tests::reply::Reply;
use orch_tests::server::Server;
use serde_json::{Value, json};

use crate::stage::{
    INPUT, OPENAI_KEY, OPENAI_SAYS, PROGRAM, Stage, fake_openai, guest, orch, summarizer, summary,
};

/// A server in the stage's home, and a client's home that knows nothing of it.
pub(crate) struct Remote {
    pub(crate) stage: Stage,
    pub(crate) server: Server,
    pub(crate) client: Home,
}

impl Remote {
    /// The server has OpenAI's key in its vault.
    pub(crate) fn new() -> Self {
        let remote = Self::without_keys();
        remote.here(["secrets", "set", "OPENAI_API_KEY", "-"]).stdin(OPENAI_KEY).run().expect(0);
        remote
    }

    pub(crate) fn without_keys() -> Self {
        let stage = Stage::cold();
        let server = Server::start(PROGRAM, &stage.home);
        Self { stage, server, client: Home::cold() }
    }

    /// A command on the client's machine, as the server's admin.
    pub(crate) fn orch<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Orch {
        self.anybody(args).env("ORCH_TOKEN", self.server.token())
    }

    /// The same without a token.
    pub(crate) fn anybody<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Orch {
        orch(&self.client).args(args).env("ORCH_SERVER", self.server.url())
    }

    /// A command in the server's home, which finds its socket.
    pub(crate) fn here<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Orch {
        self.stage.orch(args)
    }

    /// A run whose agent waits for the model until the gate opens.
    fn held(&self, gate: &Gate) -> orch_tests::orch::Running {
        let asked = json!({ "model": "gpt-4o-mini", "stream_options": { "include_usage": true } });
        self.stage.openai.script([Reply::sse(fake_openai().stream(&asked)).held(gate)]);
        let agent = summarizer(&["gpt-4o-mini"]);
        let running = self.orch(["run", "--json", "--input", INPUT]).arg(agent.path()).start();
        self.stage.openai.wait_for(1);
        running
    }

    fn newest(&self) -> Value {
        self.server.ask("GET", "/v1/runs?limit=1", None).expect(200).json()["runs"][0].clone()
    }
}

#[test]
fn an_uploaded_agent_answers_with_the_server_s_key() {
    let remote = Remote::new();
    let agent = summarizer(&["gpt-4o-mini"]);
    let outcome = remote.orch(["run", "--json", "--input", INPUT]).arg(agent.path()).run();
    assert!(outcome.stderr().contains("│"), "the agent's log arrives: {outcome}");
    let report = summary(outcome, OPENAI_SAYS);
    assert_eq!(report["calls"][0]["credential"]["source"], "vault", "{report:#}");
    assert_eq!(remote.newest()["status"], "succeeded");
    // The second time nothing has to be uploaded; without --json the output alone.
    let outcome = remote.orch(["run", "--input", INPUT]).arg(agent.path()).run().expect(0);
    assert_eq!(outcome.json()["summary"], OPENAI_SAYS);
    let streamed = remote.orch(["run", "--stream", "--input", INPUT]).arg(agent.path()).run().expect(0);
    assert_eq!(streamed.json()["summary"], OPENAI_SAYS);
    // The client's home has nothing of it.
    assert!(!remote.client.orch().join("data").exists());
}

#[test]
fn the_server_of_this_home_is_found_by_its_socket() {
    let remote = Remote::new();
    let who = remote.here(["whoami", "--json"]).run().expect(0).json();
    assert_eq!((&who["name"], &who["workspace"]), (&json!("owner"), &json!("default")), "{who:#}");
    let run = || remote.here(["run", "--json", "orch/summarizer", "--input", INPUT]);
    summary(run().run(), OPENAI_SAYS);
    // Over the socket the environment goes along, as it does for a run here.
    let report = summary(run().env("OPENAI_API_KEY", OPENAI_KEY).run(), OPENAI_SAYS);
    assert_eq!(report["calls"][0]["credential"]["source"], "env", "{report:#}");
    let mount = run().args(["--mount", ".::/data"]).run().expect(2).silent();
    assert_eq!(mount.error()["code"], "mount_refused", "{mount}");
}

#[test]
fn a_run_here_and_the_doctor_know_that_the_server_holds_the_vault() {
    let remote = Remote::new();
    let local = remote
        .here(["run", "--local", "--json", "orch/summarizer", "--input", INPUT])
        .run()
        .expect(7)
        .silent();
    assert!(local.error()["hints"].to_string().contains("without --local"), "{local}");
    let doctor = remote.here(["doctor", "--json"]).run().expect(0).json();
    let said = doctor["checks"].to_string();
    for part in
        ["the server of this home, as owner", "held by the server of this home", "OPENAI_API_KEY, vault"]
    {
        assert!(said.contains(part), "{part:?} is missing in {doctor:#}");
    }
    // Elsewhere it is the configured server that is looked at.
    let doctor = remote.anybody(["doctor", "--json"]).run().expect(8).json();
    assert_eq!(doctor["ok"], false, "{doctor:#}");
}

#[test]
fn keys_of_the_environment_stay_unless_they_are_to_go_along() {
    let remote = Remote::without_keys();
    let agent = summarizer(&["gpt-4o-mini"]);
    let run = || {
        remote.orch(["run", "--json", "--input", INPUT]).arg(agent.path()).env("OPENAI_API_KEY", OPENAI_KEY)
    };
    let stayed = run().run().expect(3).silent();
    assert!(stayed.stderr().contains("OPENAI_API_KEY stays here"), "{stayed}");
    assert!(stayed.error()["hints"].to_string().contains("--send-env-keys"), "{stayed}");
    remote.stage.openai.untouched();

    let sent = run().arg("--send-env-keys").run().expect(0);
    let needle = Needle::new(OPENAI_KEY);
    needle::none(&sent.search(&needle));
    assert_eq!(summary(sent, OPENAI_SAYS)["calls"][0]["credential"]["source"], "env");
    let flag =
        remote.orch(["run", "--json", "--key-stdin", "--input", INPUT]).arg(agent.path()).stdin(OPENAI_KEY);
    assert_eq!(summary(flag.run(), OPENAI_SAYS)["calls"][0]["credential"]["source"], "flag");
    remote.stage.openai.took_key(OPENAI_KEY);
    // Neither side keeps what was sent for one run.
    needle::none(&remote.client.search(&needle));
    needle::none(&remote.stage.home.search(&needle));
}

#[test]
fn a_failure_is_the_one_that_a_run_here_has() {
    let remote = Remote::new();
    for (name, code) in [("exit7", 1), ("trap", 1), ("badjson", 1)] {
        // The server holds the vault, so the run here has to find its keys elsewhere.
        let agent = guest(name, &json!({ "supported_providers": ["openai"] }));
        let there =
            remote.orch(["run", "--json", "--input", "{}"]).arg(agent.path()).run().expect(code).silent();
        let here = remote.stage.run_with_keys(&agent, "{}").run().expect(code);
        let (there, here) = (there.error(), here.error());
        assert_eq!((&there["code"], &there["message"]), (&here["code"], &here["message"]), "{name}");
        assert!(there["details"]["run"]["run_id"].is_string(), "{there:#}");
    }
    let input = remote.orch(["run", "--json", "orch/summarizer", "--input", "{"]).run().expect(2).silent();
    assert_eq!(input.error()["code"], "input_invalid", "{input}");
    let simulated = ["run", "--json", "orch/summarizer", "--simulate=out-of-money", "--input", INPUT];
    let outcome = remote.orch(simulated).run();
    assert_eq!(outcome.code(), remote.stage.orch(simulated).arg("--local").run().code(), "{outcome}");
}

#[test]
fn what_nobody_granted_is_refused_until_it_is() {
    let remote = Remote::new();
    let agent = guest("wanderer", &json!({ "egress": [{ "host": "api.github.com", "methods": ["GET"] }] }));
    let run = || remote.orch(["run", "--json", "--input", r#"{"requests":[]}"#]).arg(agent.path());
    let refused = run().run().expect(4).silent();
    let error = refused.error();
    assert_eq!(
        (&error["code"], &error["hints"][0]),
        (&json!("not_granted"), &json!("--allow api.github.com"))
    );
    run().args(["--allow", "api.github.com"]).run().expect(0);
    // What is remembered is remembered for exactly this agent.
    let digest = error["details"]["digest"].as_str().expect("a digest");
    let grant = json!({ "agent": error["details"]["name"], "capabilities": error["details"]["wanted"] });
    remote.server.ask("PUT", &format!("/v1/grants/{digest}"), Some(&grant)).expect(200);
    run().run().expect(0);
}

#[test]
fn ctrl_c_cancels_the_run_on_the_server() {
    let remote = Remote::new();
    let gate = Gate::closed();
    let running = remote.held(&gate);
    running.interrupt();
    let outcome = running.finish().expect(130).silent();
    assert_eq!(outcome.error()["code"], "interrupted", "{outcome}");
    remote.stage.openai.wait_closed();
    let run = remote.newest();
    assert_eq!(run["status"], "cancelled", "{run:#}");
    assert_eq!(outcome.error()["details"]["run_id"], run["id"], "{outcome}");
}

#[test]
fn a_server_that_dies_is_lost_and_the_run_is_named() {
    let remote = Remote::new();
    let gate = Gate::closed();
    let running = remote.held(&gate);
    let run = remote.newest()["id"].clone();
    remote.server.kill();
    let outcome = running.finish().expect(8).silent();
    let error = outcome.error();
    assert_eq!(
        (&error["code"], &error["details"]["run_id"]),
        (&json!("server_unreachable"), &run),
        "{outcome}"
    );
}

#[test]
fn a_detached_run_goes_on_and_can_be_followed() {
    let remote = Remote::new();
    let gate = Gate::closed();
    let asked = json!({ "model": "gpt-4o-mini", "stream_options": { "include_usage": true } });
    remote.stage.openai.script([Reply::sse(fake_openai().stream(&asked)).held(&gate)]);
    let agent = summarizer(&["gpt-4o-mini"]);
    let outcome = remote.orch(["run", "--detach", "--input", INPUT]).arg(agent.path()).run().expect(0);
    let run = outcome.stdout().trim().to_owned();
    assert!(run.starts_with("run_"), "{outcome}");
    remote.stage.openai.wait_for(1);
    let follower = remote.orch(["logs", &run, "--follow"]).start();
    gate.open();
    let followed = follower.finish().expect(0);
    assert!(followed.stdout().contains(OPENAI_SAYS), "{followed}");
    let all = remote.orch(["logs", "latest"]).run().expect(0);
    assert_eq!(all.stdout(), followed.stdout());
    let json = remote.orch(["logs", &run, "--json"]).run().expect(0).json();
    assert!(json["events"].as_array().is_some_and(|events| !events.is_empty()), "{json:#}");
    let usage = remote.orch(["usage", "--by", "model", "--json"]).run().expect(0).json();
    assert_eq!(usage["rows"][0]["key"], "openai/gpt-4o-mini", "{usage:#}");
}

#[test]
fn a_log_cannot_draw_on_the_terminal() {
    let remote = Remote::new();
    let agent = guest("snoop", &json!({}));
    let outcome = remote.orch(["run", "--json", "--input", "{}"]).arg(agent.path()).run();
    let log = remote.orch(["logs", "latest"]).run().expect(0);
    for said in [outcome.stderr(), log.stdout()] {
        assert!(!said.contains('\u{1b}') && !said.contains('\r'), "{said:?}");
    }
}

#[test]
fn nobody_there_is_exit_code_eight() {
    let home = Home::cold();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    drop(listener);
    for command in
        [&["run", "orch/summarizer"][..], &["list"], &["whoami"], &["logs"], &["usage"], &["secrets", "list"]]
    {
        let outcome =
            orch(&home).args(command).arg("--json").env("ORCH_SERVER", &url).run().expect(8).silent();
        let error = outcome.error();
        assert_eq!(error["code"], "server_unreachable", "{outcome}");
        assert!(error["hints"].to_string().contains("ORCH_SERVER"), "{outcome}");
    }
    // A run here asks no server.
    orch(&home)
        .args(["run", "--local", "orch/summarizer", "--simulate", "--input", INPUT])
        .env("ORCH_SERVER", &url)
        .run()
        .expect(0);
    for (bad, code) in [("http://orch.example.com", "server_url_insecure"), ("orch", "server_url_invalid")] {
        let outcome = orch(&home).args(["list", "--json"]).env("ORCH_SERVER", bad).run().expect(2).silent();
        assert_eq!(outcome.error()["code"], code, "{outcome}");
    }
}

#[test]
fn the_configuration_names_a_server_and_its_authority() {
    let remote = Remote::new();
    let home = Home::cold();
    home.write("config.yaml", &format!("server: {{ url: \"{}\" }}\n", remote.server.url()));
    let who = orch(&home)
        .args(["whoami", "--json"])
        .env("ORCH_TOKEN", remote.server.token())
        .run()
        .expect(0)
        .json();
    assert_eq!(who["workspace"], "default", "{who:#}");
    // What the environment says goes before it.
    let outcome =
        orch(&home).args(["whoami", "--json"]).env("ORCH_SERVER", "https://127.0.0.1:1").run().expect(8);
    assert!(
        outcome.error()["message"].as_str().is_some_and(|said| said.contains("https://127.0.0.1:1")),
        "{outcome}"
    );
}
