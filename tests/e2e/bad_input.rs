//! Broken manifests, modules, configurations, inputs and homes: the error names what, where and the fix.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use orch_tests::guests::{self, Agent};
use orch_tests::home::Home;
use orch_tests::orch::Outcome;
use serde_json::json;

use crate::stage::{INPUT, OPENAI_KEY, Stage, guest, orch, text};

const MANIFEST: &str = "name: test/x\nversion: 1.0.0\nmodule: agent.wasm\nsupported_providers: [openai]\n";

/// Runs an agent that must be refused before anything starts; the whole error, as text.
#[track_caller]
fn refused(agent: &Path) -> String {
    let home = Home::new();
    let outcome = orch(&home)
        .args(["run", "--local", "--json"])
        .arg(agent)
        .args(["--input", "{}"])
        .env("OPENAI_API_KEY", OPENAI_KEY)
        .run()
        .expect(2)
        .silent();
    complete(&outcome)
}

/// Every error has a code, a message and, in this file, something to do next or a place to look.
#[track_caller]
fn complete(outcome: &Outcome) -> String {
    let error = outcome.error();
    assert!(error["code"].as_str().is_some_and(|c| !c.is_empty()), "{outcome}");
    assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{outcome}");
    assert!(error["hints"].is_array() && error["details"].is_object(), "{outcome}");
    assert!(!outcome.stderr().contains("panicked"), "{outcome}");
    error.to_string()
}

#[test]
fn a_misspelled_field_is_named_with_its_line_and_its_neighbour() {
    let agent = Agent::raw(&format!("{MANIFEST}suported_providers: [openai]\n"));
    let error = refused(agent.path());
    for part in ["orch.yaml", "suported_providers", "supported_providers", "5"] {
        assert!(error.contains(part), "no {part} in {error}");
    }
}

#[test]
fn each_broken_manifest_names_its_field() {
    for (extra, field) in [
        ("egress: [{ host: \"*\" }]", "egress"),
        ("egress: [{ host: \"127.0.0.1\" }]", "egress"),
        ("egress: [{ host: \"*.co.uk\" }]", "egress"),
        ("secrets: [{ name: OPENAI_API_KEY, hosts: [evil.example.org] }]", "secrets"),
        ("limits: { memory: lots }", "memory"),
        ("limits: { tme: 5m }", "time"),
        ("llm: { fallbacks: [gpt-4o-mini] }", "primary"),
        ("files: [{ path: ../etc, access: read }]", "files"),
        ("input: 3", "input"),
    ] {
        let agent = Agent::raw(&format!("{MANIFEST}{extra}\n")).with("agent.wasm", b"\0asm");
        let error = refused(agent.path());
        assert!(error.contains(field), "{extra}: no {field} in {error}");
    }
    for (manifest, part) in [
        ("name: [", "orch.yaml"),
        ("", "name"),
        ("name: Test/X\nversion: 1.0.0\nmodule: agent.wasm\nsupported_providers: [openai]\n", "name"),
        ("name: test/x\nversion: one\nmodule: agent.wasm\nsupported_providers: [openai]\n", "version"),
        ("name: test/x\nversion: 1.0.0\nmodule: ../../etc/passwd\nsupported_providers: [openai]\n", "module"),
        ("name: test/x\nversion: 1.0.0\nmodule: /etc/passwd\nsupported_providers: [openai]\n", "module"),
    ] {
        let error = refused(Agent::raw(manifest).with("agent.wasm", b"\0asm").path());
        assert!(error.contains(part), "{manifest}: no {part} in {error}");
    }
}

#[test]
fn a_model_that_nobody_knows_is_an_error_with_candidates() {
    let agent = guest("echo", &json!({ "llm": { "primary": "frobnicate-9b" } }));
    let error = refused(agent.path());
    assert!(error.contains("frobnicate-9b") && error.contains("provider/model"), "{error}");
}

#[test]
fn a_provider_that_nobody_knows_is_an_error_and_not_passed_over() {
    let agent = guest("echo", &json!({ "supported_providers": ["opnai"] }));
    let error = refused(agent.path());
    assert!(error.contains("supported_providers") && error.contains("opnai"), "{error}");
}

#[test]
fn each_broken_module_is_refused() {
    let component = fs::read(guests::guest("echo")).expect("a guest");
    let core = fs::read(guests::guest("echo-core")).expect("a guest");
    let mut flipped = component.clone();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 64].fill(0xff);
    for (name, bytes) in [
        ("empty", Vec::new()),
        ("a script", b"#!/bin/sh\necho hello\n".to_vec()),
        ("only a header", b"\0asm\x0d\0\x01\0".to_vec()),
        ("half a component", component[..component.len() / 2].to_vec()),
        ("half a core module", core[..core.len() / 2].to_vec()),
        ("noise inside", flipped),
        ("an unknown version", b"\0asm\x63\0\0\0".to_vec()),
    ] {
        let agent = Agent::raw(MANIFEST).with("agent.wasm", &bytes);
        let error = refused(agent.path());
        assert!(
            error.contains("agent.wasm") || error.contains("test/x") || error.contains("module"),
            "{name}: {error}"
        );
    }
}

#[test]
fn what_is_not_there_is_named() {
    let outside = crate::stage::Outside::new();
    let absent = outside.file("x", "").with_file_name("absent");
    for spec in
        [absent.as_path(), Path::new("acme/absent"), Path::new("orch/absent"), Path::new("not a name")]
    {
        let error = refused(spec);
        assert!(error.contains(&text(spec)), "{error}");
    }
    assert!(refused(Path::new("orch/absent")).contains("orch/summarizer"), "the ones there are, are listed");
    assert!(refused(Agent::raw(MANIFEST).path()).contains("agent.wasm"));
    assert!(refused(outside.file("x", "").parent().expect("a folder")).contains("orch.yaml"));
}

#[test]
fn input_that_is_no_json_or_does_not_match_is_refused_before_the_run() {
    let stage = Stage::new();
    let schema = json!({ "input": { "type": "object", "required": ["text"], "properties": { "text": { "type": "string" } } } });
    let agent = guest("echo", &schema);
    for (input, part) in [
        ("{\"text\":", "line"),
        ("text", "JSON"),
        ("", "JSON"),
        ("{}", "text"),
        ("{\"text\":3}", "/text"),
        ("@/no/such/file", "/no/such/file"),
    ] {
        let outcome = stage.run_with_keys(&agent, input).run().expect(2).silent();
        let error = complete(&outcome);
        assert!(error.contains(part), "{input:?}: no {part} in {outcome}");
    }
    stage.openai.untouched();
}

#[test]
fn input_comes_from_a_file_or_from_standard_input_as_well() {
    let stage = Stage::new();
    let agent = guest("echo", &json!({}));
    let file = stage.home.file("input.json", "{\"from\": \"a file\"}\n");
    let run = |input: &str| stage.run_with_keys(&agent, input);
    let outcome = run(&format!("@{}", text(file))).run().expect(0);
    assert_eq!(outcome.json()["output"]["from"], "a file");
    let outcome = run("-").stdin("{\"from\": \"stdin\"}").run().expect(0);
    assert_eq!(outcome.json()["output"]["from"], "stdin");
    // The alias.
    let outcome = stage
        .orch(["run", "--local", "--json"])
        .arg(agent.path())
        .args(["--data", "{\"from\":\"data\"}"])
        .env("OPENAI_API_KEY", OPENAI_KEY)
        .run()
        .expect(0);
    assert_eq!(outcome.json()["output"]["from"], "data");
}

#[test]
fn a_broken_configuration_is_named_with_its_line() {
    for (config, parts) in [
        ("egress:\n  alow: [x.org]\n", ["config.yaml", "alow"]),
        ("egress:\n  allow: [\n", ["config.yaml", ":3:1:"]),
        ("egress: { ca_file: absent.pem }\n", ["config.yaml", "absent.pem"]),
        ("egress: { connect_to: { \"api.openai.com\": \"127.0.0.1:1\" } }\n", ["config.yaml", "connect_to"]),
        (
            "egress: { connect_to: { \"api.openai.com:443\": \"localhost\" } }\n",
            ["config.yaml", "connect_to"],
        ),
        ("providers: { openai: { base_url: \"ftp://x/\" } }\n", ["config.yaml", "providers.openai"]),
        ("providers: { mine: { base_url: \"https://x.example.org/v1\" } }\n", ["config.yaml", "mine"]),
        ("vault: { key: sesame }\n", ["config.yaml", "sesame"]),
    ] {
        let home = Home::new();
        home.write("config.yaml", config);
        let run =
            orch(&home).args(["run", "--local", "--json", "orch/summarizer", "--simulate", "--input", INPUT]);
        let outcome = run.run().expect(2).silent();
        let error = complete(&outcome);
        for part in parts {
            assert!(error.contains(part), "{config:?}: no {part} in {error}");
        }
    }
}

#[test]
fn a_configuration_that_others_may_write_is_refused() {
    let home = Home::new();
    let path = home.write("config.yaml", "egress: { allow: [] }\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("our own file");
    let outcome = orch(&home)
        .args(["run", "--local", "--json", "orch/summarizer", "--simulate", "--input", INPUT])
        .run();
    let error = complete(&outcome.expect(2).silent());
    assert!(error.contains("config.yaml"), "{error}");
}

#[test]
fn a_home_that_cannot_be_written_is_named() {
    let home = Home::new();
    // A file where the folder should be: no permission bit stops root.
    let blocked = home.file("blocked", "");
    let outcome = orch(&home)
        .args(["secrets", "set", "OPENAI_API_KEY", "-", "--json"])
        .env("ORCH_HOME", &blocked)
        .stdin(OPENAI_KEY)
        .run()
        .silent();
    assert!(matches!(outcome.code(), Some(2 | 7)), "{outcome}");
    let error = complete(&outcome);
    assert!(error.contains("blocked") && !error.contains(OPENAI_KEY), "{error}");
    let outcome = orch(&home)
        .args(["run", "--local", "--json", "orch/summarizer", "--simulate", "--input", INPUT])
        .env("ORCH_HOME", &blocked)
        .run()
        .expect(2)
        .silent();
    assert!(complete(&outcome).contains("blocked"), "{outcome}");
    assert_eq!(fs::read(&blocked).expect("still there"), b"", "something was written to it");
}

#[test]
fn a_home_that_is_a_link_is_refused() {
    let home = Home::cold();
    let elsewhere = home.work().join("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    std::os::unix::fs::symlink(&elsewhere, home.orch().join("data")).expect("linked");
    let outcome = orch(&home)
        .args(["secrets", "set", "OPENAI_API_KEY", "-", "--json"])
        .stdin(OPENAI_KEY)
        .run()
        .silent();
    assert!(matches!(outcome.code(), Some(2 | 7)), "{outcome}");
    complete(&outcome);
    assert_eq!(
        fs::read_dir(&elsewhere).expect("listed").count(),
        0,
        "something was written through the link"
    );
}

#[test]
fn broken_flags_are_usage_errors() {
    let home = Home::new();
    let agent = guest("echo", &json!({}));
    let lines: [&[&str]; 9] = [
        &["--no-such-flag"],
        &["--time", "soon"],
        &["--memory", "lots"],
        &["--max-cost", "-1"],
        &["--allow", "127.0.0.1"],
        &["--secret", "TOKEN"],
        &["--env", "no-equals-sign"],
        &["--mount", "/tmp"],
        &["--simulate=no-such-scenario"],
    ];
    for flags in lines {
        let outcome = orch(&home)
            .args(["run", "--local", "--json"])
            .arg(agent.path())
            .args(["--input", "{}"])
            .args(flags)
            .env("OPENAI_API_KEY", OPENAI_KEY)
            .run()
            .expect(2)
            .silent();
        complete(&outcome);
    }
}

#[test]
fn without_json_an_error_is_words_with_a_hint() {
    let home = Home::new();
    let outcome = orch(&home).args(["run", "--local", "orch/sumarizer"]).run().expect(2).silent();
    let lines: Vec<&str> = outcome.stderr().lines().collect();
    assert!(lines.iter().any(|line| line.starts_with("error: ")), "{outcome}");
    assert!(lines.iter().any(|line| line.starts_with("hint: ")), "{outcome}");
    assert!(!outcome.stderr().contains('\u{1b}'), "colour without a terminal: {outcome}");
}
