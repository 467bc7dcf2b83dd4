//! Seeds for the corpora of the fuzz targets.

use std::fs;
use std::path::Path;

use orch_gateway::fuzzing::TARGETS;

/// Puts bytes that a target has much to do with into its corpus, before it is read.
pub fn plant(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    fs::create_dir_all(&folder).expect("the corpus can be made");
    let target = TARGETS.iter().find(|target| target.name == name).expect("it is one of the parsers");
    for (number, seed) in (target.seeds)().iter().enumerate() {
        fs::write(folder.join(format!("seed-{number}")), seed).expect("the corpus can be written");
    }
}
