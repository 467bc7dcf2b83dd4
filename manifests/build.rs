//! Joins the provider catalog's files into one JSON text: reading YAML costs much more, and it would be paid at each start.
//!
//! What stands in the entries is checked by the crate's own reader, in its tests; here only that they are YAML, and all there.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

fn main() -> ExitCode {
    match joined() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

fn joined() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=catalog.yaml");
    println!("cargo::rerun-if-changed=catalog");
    println!("cargo::rerun-if-changed=model-rules.yaml");
    let order = read("catalog.yaml".as_ref())?;
    let order = order["order"].as_array().ok_or("catalog.yaml: `order` is not a list")?;
    let mut entries = Vec::new();
    let mut listed = BTreeSet::new();
    for slug in order {
        let slug = slug.as_str().ok_or("catalog.yaml: `order` holds something that is no slug")?;
        if !listed.insert(slug.to_owned()) {
            return Err(format!("catalog.yaml: `order` has {slug} twice").into());
        }
        let path = format!("catalog/{slug}.yaml");
        let entry = read(path.as_ref())?;
        if entry["slug"] != *slug {
            return Err(format!("{path}: its slug is not {slug}").into());
        }
        entries.push(entry);
    }
    for file in fs::read_dir("catalog")? {
        let path = file?.path();
        let slug = path.file_stem().unwrap_or_default().to_string_lossy();
        if !listed.contains(slug.as_ref()) {
            return Err(format!("{}: catalog.yaml does not list it under `order`", path.display()).into());
        }
    }
    let out = std::env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("catalog.json"), serde_json::to_vec(&entries)?)?;
    let rules = read("model-rules.yaml".as_ref())?;
    fs::write(Path::new(&out).join("model-rules.json"), serde_json::to_vec(&rules)?)?;
    Ok(())
}

fn read(path: &Path) -> Result<Value, Box<dyn Error>> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_yaml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()).into())
}
