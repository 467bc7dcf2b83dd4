//! Agents to run: the committed examples, the committed hostile guests, and folders made up by a test.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies below the root")
}

/// Names the folder with rebuilt guests that stand in for the committed ones: `<name>.wasm` each.
const REBUILT: &str = "ORCH_TEST_GUESTS";

/// The component of an example agent.
pub fn example(name: &str) -> PathBuf {
    committed_or_rebuilt(name, &repository().join("examples").join(name))
}

/// The component of a guest that exists for tests.
pub fn guest(name: &str) -> PathBuf {
    committed_or_rebuilt(name, &repository().join("tests/guests").join(name))
}

fn committed_or_rebuilt(name: &str, folder: &Path) -> PathBuf {
    let file = format!("{name}.wasm");
    let path = match std::env::var_os(REBUILT) {
        Some(rebuilt) => Path::new(&rebuilt).join(file),
        None => folder.join(file),
    };
    assert!(path.is_file(), "there is no guest {}", path.display());
    path
}

/// A folder with a manifest and a module, for as long as the test.
pub struct Agent {
    folder: TempDir,
}

impl Agent {
    /// An agent named `test/<name>` around a component, with further manifest fields (an object) laid over the least
    /// that a manifest must have.
    pub fn new(name: &str, module: &Path, fields: &Value) -> Self {
        let mut manifest = serde_json::json!({
            "name": format!("test/{name}"),
            "version": "1.0.0",
            "module": "agent.wasm",
            "supported_providers": ["any"],
        });
        for (field, value) in fields.as_object().expect("manifest fields are an object") {
            manifest[field] = value.clone();
        }
        let agent = Self::raw(&serde_json::to_string_pretty(&manifest).expect("plain values"));
        fs::copy(module, agent.folder.path().join("agent.wasm"))
            .unwrap_or_else(|e| panic!("cannot copy {}: {e}", module.display()));
        agent
    }

    /// A folder with this text as `orch.yaml` and no module.
    pub fn raw(manifest: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("orch-agent-").tempdir().expect("a temporary folder");
        fs::write(folder.path().join("orch.yaml"), manifest).expect("a file in an empty folder");
        Self { folder }
    }

    /// Writes a file beside the manifest.
    pub fn with(self, name: &str, bytes: &[u8]) -> Self {
        fs::write(self.folder.path().join(name), bytes).expect("a file in our own folder");
        self
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}
