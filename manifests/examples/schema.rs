//! Prints the JSON Schema of manifests:
//! `cargo run -p orch-manifests --example schema > manifests/orch.schema.json`.

use std::io::Write as _;

use orch_manifests::Manifest;

fn main() -> std::io::Result<()> {
    let mut text = serde_json::to_string_pretty(&Manifest::json_schema())?;
    text.push('\n');
    std::io::stdout().write_all(text.as_bytes())
}
