//! The generated JSON Schema: the committed copy is current, and it says what the parser says.

use std::fmt::Write as _;

use orch_manifests::Manifest;
use serde_json::Value;

use crate::{SUMMARIZER, with, yaml};

#[test]
fn the_committed_copy_is_current() {
    let mut generated = serde_json::to_string_pretty(&Manifest::json_schema()).unwrap();
    generated.push('\n');
    assert!(
        generated == include_str!("../../orch.schema.json"),
        "manifests/orch.schema.json is out of date; regenerate it:\n\
         cargo run -p orch-manifests --example schema > manifests/orch.schema.json"
    );
}

fn validator() -> jsonschema::Validator {
    jsonschema::validator_for(&Manifest::json_schema()).unwrap()
}

fn value(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn good_manifests_are_valid() {
    let validator = validator();
    for text in [
        SUMMARIZER.to_owned(),
        with(""),
        with("supported_providers: any"),
        with("limits: {memory: 1024, tokens: 5, cost_usd: \"$1\"}"),
        with("egress: [{host: \"*.example.com\", port: 8443, scheme: http}]"),
        with("limits: {rate: 10/s, burst: 30, concurrent: 4, upload: 1MiB, download: 1GB}"),
        with("limits: {first_byte: 5s, idle: 1m, exchange: 1h, per_host: {requests: 2k, rate: 100/m}}"),
    ] {
        let errors: Vec<_> = validator.iter_errors(&value(&text)).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{text}\n{errors:?}");
        let canonical: Value = serde_json::from_slice(&yaml(&text).unwrap().canonical_json()).unwrap();
        assert!(validator.is_valid(&canonical), "{canonical}");
    }
}

#[test]
fn what_the_schema_refuses_the_parser_refuses() {
    let validator = validator();
    for lines in [
        "egres: []",
        "description: 1",
        "description:",
        "llm: {}",
        "llm: {primary: a b}",
        "llm: {primary: a, x: 1}",
        "llm: {primary: a, server_tools: true}",
        "llm: {primary: a, server_tools: []}",
        "llm: {primary: a, server_tools: [web]}",
        "llm: {primary: a, server_tools: [search, search]}",
        "llm: {primary: a, account: [{provider: openai, methods: [GET]}]}",
        "llm: {primary: a, account: [{provider: openai, methods: [], paths: [/v1/files]}]}",
        "llm: {primary: a, account: [{provider: openai, methods: [GET], paths: []}]}",
        "llm: {primary: a, account: [{provider: openai, host: api.openai.com, methods: [GET], paths: [/v1/files]}]}",
        "egress: {}",
        "egress: [{}]",
        "egress: [{host: a.example, methods: []}]",
        "egress: [{host: a.example, methods: [get]}]",
        "egress: [{host: a.example, paths: []}]",
        "egress: [{host: a.example, paths: [a]}]",
        "egress: [{host: a.example, port: 0}]",
        "egress: [{host: a.example, port: 65536}]",
        "egress: [{host: a.example, scheme: ftp}]",
        "secrets: [{name: A-B}]",
        "secrets: [{name: A, hosts: []}]",
        "calls: [a]",
        "files: [{path: a, access: read}]",
        "files: [{path: /a, access: rw}]",
        "files: [{path: /a}]",
        "limits: {memory: 1M}",
        "limits: {time: 5}",
        "limits: {cost_usd: -1}",
        "limits: {x: 1}",
        "limits: {rate: 10}",
        "limits: {rate: 10/d}",
        "limits: {per_host: {tokens: 1}}",
        "limits: {idle: 5}",
        "env: {A: 1}",
        "input: 1",
        "supported_providers: openai",
        "supported_providers: [a, a]",
    ] {
        let text = with(lines);
        assert!(!validator.is_valid(&value(&text)), "the schema takes {lines}");
        assert!(yaml(&text).is_err(), "the parser takes {lines}");
    }
    for (module, fine) in [
        ("./a.wasm", true),
        ("target/wasm32-wasip2/release/a.b.wasm", true),
        ("a/.b/x.wasm", false),
        (".git/x.wasm", false),
        (".wasm", false),
        ("../a.wasm", false),
        ("a//b.wasm", false),
        ("a.sh", false),
    ] {
        let text = with("").replace("module: a.wasm", &format!("module: {module}"));
        assert_eq!(validator.is_valid(&value(&text)), fine, "the schema, of {module}");
        assert_eq!(yaml(&text).is_ok(), fine, "the parser, of {module}");
    }
    for field in ["name", "version", "module"] {
        let text: String =
            with("").lines().filter(|line| !line.starts_with(field)).fold(String::new(), |mut text, line| {
                writeln!(text, "{line}").unwrap();
                text
            });
        assert!(!validator.is_valid(&value(&text)) && yaml(&text).is_err(), "{field}");
    }
}

/// The fields of every object of the schema and the parser's own lists, which it prints for an unknown field.
#[test]
fn schema_and_parser_know_the_same_fields() {
    let schema = Manifest::json_schema();
    let properties = |object: &Value| -> Vec<String> {
        let mut names: Vec<_> = object["properties"].as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    let asked = |lines: &str| -> Vec<String> {
        let error = yaml(&with(lines)).unwrap_err();
        let hint =
            error.problems.iter().find_map(|p| p.hint.as_deref().filter(|_| p.message.contains("`qqqqqq`")));
        let (_, list) = hint.unwrap_or_else(|| panic!("{error}")).rsplit_once(": ").unwrap();
        let mut names: Vec<_> = list.split(", ").map(str::to_owned).collect();
        names.sort();
        names
    };
    for (object, lines) in [
        (&schema, "qqqqqq: 1"),
        (&schema["$defs"]["Llm"], "llm: {qqqqqq: 1}"),
        (&schema["$defs"]["AccountWant"], "llm: {primary: a, account: [{qqqqqq: 1}]}"),
        (&schema["$defs"]["EgressWant"], "egress: [{qqqqqq: 1}]"),
        (&schema["$defs"]["SecretWant"], "secrets: [{qqqqqq: 1}]"),
        (&schema["$defs"]["FileWant"], "files: [{qqqqqq: 1}]"),
        (&schema["$defs"]["Limits"], "limits: {qqqqqq: 1}"),
    ] {
        assert_eq!(properties(object), asked(lines), "{lines}");
    }
}
