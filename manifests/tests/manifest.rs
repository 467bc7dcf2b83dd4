//! Manifests as authors write them: good ones, broken ones, hostile ones, and the laws that hold for all.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod manifest {
    mod bounds;
    mod broken;
    mod files;
    mod good;
    mod laws;
    mod schema;
}

use orch_manifests::{Format, Manifest, ManifestError};

/// The documentation's example.
const SUMMARIZER: &str = r#"
name: acme/summarizer            # org/name, [a-z0-9-]
version: 1.2.0
description: Summarise a text in three sentences.
module: summarizer.wasm
supported_providers: [openai, anthropic]
llm:
  primary: gemini-2.5-flash
  fallbacks: [gpt-4o-mini, claude-3-haiku]
input: { type: object, required: [text], properties: { text: { type: string, minLength: 1 } } }
output: { type: object, properties: { score: { type: number, multipleOf: 0.5 } } }
egress:
  - host: api.github.com
    methods: [GET]
    paths: ["/repos/**"]
secrets:
  - name: GITHUB_TOKEN
    hosts: [api.github.com]
calls: [acme/translator@^2]
files: [{ path: /data, access: read }]
limits: { memory: 256MiB, time: 5m, cpu: 60s, output: 10MiB, requests: 500, tokens: 200k, cost_usd: 0.50 }
env: { TONE: dry }
"#;

fn yaml(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(text, Format::Yaml, "orch.yaml")
}

fn json(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(text, Format::Json, "orch.json")
}

/// A manifest with the required fields and these lines.
fn with(lines: &str) -> String {
    format!("name: a/b\nversion: 1.0.0\nmodule: a.wasm\n{lines}")
}

/// The error of a manifest that must not parse, as people see it.
fn error(text: &str) -> String {
    yaml(text).expect_err("this manifest is broken").to_string()
}
