//! `orch publish`, `pull`, `list` and `info`: in this home's own registry, and on a server.

use orch_tests::guests::{self, Agent};
use orch_tests::home::Home;
use serde_json::{Value, json};

use crate::remote::Remote;
use crate::stage::{orch, text};

/// An agent that says back what it is told, in a version and with wishes.
fn echo(version: &str, fields: &Value) -> Agent {
    let mut all = json!({ "name": "acme/echo", "version": version, "description": "Says it back." });
    for (name, value) in fields.as_object().expect("fields") {
        all[name] = value.clone();
    }
    Agent::new("echo", &guests::guest("echo"), &all)
}

fn wants(host: &str) -> Value {
    json!({ "egress": [{ "host": host, "methods": ["GET"] }] })
}

#[test]
fn a_published_agent_runs_by_name() {
    let home = Home::new();
    let agent = echo("1.0.0", &json!({}));
    let run = |name: &str| orch(&home).args(["run", name, "--simulate", "--input", "[7]", "--json"]).run();
    run("acme/echo").expect(2).silent();
    let published = orch(&home).args(["publish", "--json"]).arg(agent.path()).run().expect(0).json();
    assert_eq!((&published["name"], &published["new"]), (&json!("acme/echo"), &json!(true)), "{published:#}");
    assert_eq!(run("acme/echo").expect(0).json()["output"], json!([7]));
    run("acme/echo@1.0.0").expect(0);
    run("acme/echo@^1").expect(0);
    let missing = run("acme/echo@2.0.0").expect(2).silent();
    assert_eq!(missing.error()["code"], "version_not_found", "{missing}");

    let list = orch(&home).args(["list"]).run().expect(0);
    assert!(list.stdout().contains("acme/echo") && list.stdout().contains("orch/summarizer"), "{list}");
    let info = orch(&home).args(["info", "acme/echo"]).run().expect(0);
    for part in [
        "acme/echo 1.0.0\nSays it back.\n",
        published["digest"].as_str().expect("a digest"),
        "nothing beyond models",
    ] {
        assert!(info.stdout().contains(part), "{part:?} is missing in {info}");
    }
}

#[test]
fn a_version_is_taken_for_good() {
    let remote = Remote::without_keys();
    let publish = |agent: &Agent| remote.orch(["publish", "--json"]).arg(agent.path()).run();
    publish(&echo("1.0.0", &wants("a.example.com"))).expect(0);
    // The same content again is fine.
    let again = publish(&echo("1.0.0", &wants("a.example.com"))).expect(0).json();
    assert_eq!(again["new"], false, "{again:#}");
    let other = publish(&echo("1.0.0", &wants("b.example.com"))).expect(2).silent();
    assert_eq!(other.error()["code"], "version_exists", "{other}");
    assert!(other.error()["hints"].to_string().contains("raise `version`"), "{other}");
    // A higher one says what is new in it.
    let said = remote.orch(["publish"]).arg(echo("1.1.0", &wants("b.example.com")).path()).run().expect(0);
    let words = said.stdout();
    assert!(words.contains("published acme/echo 1.1.0") && words.contains("since 1.0.0:"), "{said}");
    assert!(words.contains("  + talk to https://b.example.com (GET)"), "{said}");
    assert!(words.contains("  - talk to https://a.example.com (GET)"), "{said}");
    let info = remote.orch(["info", "acme/echo", "--json"]).run().expect(0).json();
    assert_eq!(
        (&info["version"], info["versions"].as_array().map(Vec::len)),
        (&json!("1.1.0"), Some(2)),
        "{info:#}"
    );
    let old = remote.orch(["info", "acme/echo@1.0.0", "--json"]).run().expect(0).json();
    assert_eq!(old["version"], "1.0.0");
}

#[test]
fn what_is_pulled_is_what_was_published() {
    let remote = Remote::without_keys();
    let agent = echo("1.0.0", &json!({}));
    let published = remote.orch(["publish", "--json"]).arg(agent.path()).run().expect(0).json();
    let to = remote.client.work().join("echo");
    let pulled = remote.orch(["pull", "acme/echo", "--json"]).run().expect(0).json();
    assert_eq!(pulled["digest"], published["digest"], "{pulled:#}");
    for name in ["orch.yaml", "agent.wasm"] {
        let (there, here) = (std::fs::read(agent.path().join(name)), std::fs::read(to.join(name)));
        assert_eq!(there.expect("published"), here.expect("pulled"), "{name}");
    }
    // It runs from there, and can be published elsewhere.
    let run =
        orch(&remote.client).args(["run", "--local", "./echo", "--simulate", "--input", "1"]).run().expect(0);
    assert_eq!(run.json(), json!(1));
    // Nothing is written over unless that was asked for.
    let taken = remote.orch(["pull", "acme/echo", "--json"]).run().expect(2).silent();
    assert_eq!(taken.error()["code"], "file_exists", "{taken}");
    remote.orch(["pull", "acme/echo", "--force"]).run().expect(0);
    let elsewhere = text(remote.client.work().join("deep/er"));
    remote.orch(["pull", "acme/echo@1.0.0", "--to", &elsewhere]).run().expect(0);
    let summarizer = remote.orch(["pull", "orch/summarizer"]).run().expect(0);
    assert!(summarizer.stdout().contains("summarizer/orch.yaml"), "{summarizer}");
}

#[test]
fn what_cannot_be_published_is_said_before_anything_is_sent() {
    let home = Home::new();
    let publish = |path: &str| orch(&home).args(["publish", path, "--json"]).run().expect(2).silent();
    assert_eq!(publish("./absent").error()["code"], "agent_not_found");
    assert_eq!(publish(".").error()["code"], "manifest_missing");
    let broken = Agent::raw("name: acme/x\nversion: one\n");
    assert_eq!(publish(&text(broken.path())).error()["code"], "manifest_invalid");
    let bare = echo("1.0.0", &json!({}));
    assert_eq!(publish(&text(bare.path().join("agent.wasm"))).error()["code"], "manifest_missing");
    let reserved = Agent::new("echo", &guests::guest("echo"), &json!({ "name": "orch/mine" }));
    assert_eq!(publish(&text(reserved.path())).error()["code"], "org_reserved");
    let outcome = orch(&home).args(["info", "acme/absent", "--json"]).run().expect(2).silent();
    assert_eq!(outcome.error()["code"], "agent_not_found", "{outcome}");
    let outcome = orch(&home).args(["pull", "no name", "--json"]).run().expect(2).silent();
    assert_eq!(outcome.error()["code"], "bad_usage", "{outcome}");
}
