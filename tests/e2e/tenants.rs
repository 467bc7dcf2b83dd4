//! Workspaces that share a server, and names that anybody can give.

use orch_tests::guests::{self, Agent};
use orch_tests::orch::Outcome;
use serde_json::{Value, json};

use crate::remote::Remote;
use crate::stage::{guest, with_keys};

/// An admin of a workspace of their own.
fn other(remote: &Remote) -> String {
    let body = json!({ "name": "theirs", "scopes": ["admin"], "workspace": "other" });
    let made = remote.server.ask("POST", "/v1/tokens", Some(&body)).expect(201).json();
    made["token"].as_str().expect("a token").to_owned()
}

fn echo(name: &str, version: &str, description: &str) -> Agent {
    let fields = json!({ "name": name, "version": version, "description": description });
    Agent::new("echo", &guests::guest("echo"), &fields)
}

#[track_caller]
fn refused(outcome: Outcome, exit: i32, code: &str) -> Value {
    let outcome = outcome.expect(exit).silent();
    let error = outcome.error();
    assert_eq!(error["code"], code, "{outcome}");
    error
}

#[test]
fn an_organisation_is_its_first_publisher_s() {
    let remote = Remote::without_keys();
    let theirs = other(&remote);
    let publish = |agent: &Agent, token: &str| {
        remote.anybody(["publish", "--json"]).arg(agent.path()).env("ORCH_TOKEN", token).run()
    };
    let ours = remote.server.token();
    let first = publish(&echo("acme/echo", "1.0.0", "Ours."), ours).expect(0).json();
    for agent in [
        echo("acme/echo", "1.0.0", "Theirs."),
        echo("acme/echo", "1.0.1", "Theirs."),
        echo("acme/other", "1.0.0", "Theirs."),
    ] {
        let error = refused(publish(&agent, &theirs), 2, "org_reserved");
        assert!(error["details"]["request_id"].is_string(), "{error:#}");
    }
    // Organisations whose names begin alike are others.
    publish(&echo("acme-labs/echo", "1.0.0", "Theirs."), &theirs).expect(0);
    refused(publish(&echo("acme-labs/more", "1.0.0", "Ours."), ours), 2, "org_reserved");
    // What was published is what everybody gets, and its publisher goes on.
    let info = || {
        let info = remote.anybody(["info", "acme/echo", "--json"]).env("ORCH_TOKEN", &theirs);
        info.run().expect(0).json()
    };
    assert_eq!(info()["digest"], first["digest"]);
    publish(&echo("acme/echo", "1.0.1", "Ours."), ours).expect(0);
    assert_eq!(info()["version"], "1.0.1");
}

#[test]
fn build_metadata_replaces_no_version() {
    let remote = Remote::without_keys();
    let publish = |agent: &Agent| remote.orch(["publish", "--json"]).arg(agent.path()).run();
    let first = publish(&echo("acme/echo", "1.0.0", "First.")).expect(0).json();
    refused(publish(&echo("acme/echo", "1.0.0", "Second.")), 2, "version_exists");
    refused(publish(&echo("acme/echo", "1.0.0+second", "Second.")), 2, "bad_version");
    for asked in ["acme/echo", "acme/echo@1.0.0", "acme/echo@^1"] {
        let info = remote.orch(["info", asked, "--json"]).run().expect(0).json();
        assert_eq!((&info["digest"], &info["version"]), (&first["digest"], &json!("1.0.0")), "{asked}");
    }
}

/// A secret is stored for an agent of a name. Here its owner says which agent that is; on a server anybody may upload
/// one of that name.
#[test]
fn a_name_proves_nothing_on_a_server() {
    let remote = Remote::new();
    let secret =
        ["secrets", "set", "GITHUB_TOKEN", "-", "--host", "api.github.com", "--agent", "test/wanderer"];
    remote.here(secret).stdin("ghp_0123456789abcdef0123").run().expect(0);
    let wants = json!({ "secrets": [{ "name": "GITHUB_TOKEN", "hosts": ["api.github.com"] }] });
    let agent = guest("wanderer", &wants);
    let run = || remote.orch(["run", "--json", "--input", r#"{"requests":[]}"#]).arg(agent.path());
    let error = refused(run().run(), 4, "not_granted");
    assert!(error["details"]["wanted"].to_string().contains("GITHUB_TOKEN"), "{error:#}");
    assert_eq!(error["hints"][0], "--secret GITHUB_TOKEN@api.github.com", "{error:#}");
    run().args(["--secret", "GITHUB_TOKEN@api.github.com"]).run().expect(0);
    // A grant is for the content, and another agent of that name does not have it.
    let digest = error["details"]["digest"].as_str().expect("a digest");
    let grant = json!({ "agent": "test/wanderer", "capabilities": error["details"]["wanted"] });
    remote.server.ask("PUT", &format!("/v1/grants/{digest}"), Some(&grant)).expect(200);
    run().run().expect(0);
    let mut wants = wants;
    wants["description"] = json!("Another one of that name.");
    let namesake = guest("wanderer", &wants);
    let again = remote.orch(["run", "--json", "--input", r#"{"requests":[]}"#]).arg(namesake.path());
    refused(again.run(), 4, "not_granted");
    // An agent of another name is not asked about at all.
    let stranger = Agent::new("stranger", &guests::guest("wanderer"), &wants);
    let run = remote.orch(["run", "--json", "--input", r#"{"requests":[]}"#]).arg(stranger.path());
    refused(run.run(), 4, "secret_not_for_agent");
}

#[test]
fn on_this_machine_the_owner_says_which_agent_a_name_is() {
    let stage = crate::stage::Stage::new();
    stage.store(
        "GITHUB_TOKEN",
        "ghp_0123456789abcdef0123",
        &["--host", "api.github.com", "--agent", "test/wanderer"],
    );
    let wants = json!({ "secrets": [{ "name": "GITHUB_TOKEN", "hosts": ["api.github.com"] }] });
    let agent = guest("wanderer", &wants);
    with_keys(stage.run(&agent, r#"{"requests":[]}"#)).run().expect(0);
}
