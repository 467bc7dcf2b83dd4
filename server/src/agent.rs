//! Finding and loading an agent: a folder, a manifest, a bare module, or one that comes with `orch`.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use orch_manifests::{AgentRef, Catalog, Digest, Digesting, Format, Manifest};
use serde_json::json;

use crate::failure::Failure;

mod builtin;

/// Largest module that is accepted, in bytes. A componentize-py component is 18 MB.
pub const MODULE_LIMIT: u64 = 128 * 1024 * 1024;

/// An agent, ready to be asked about and run.
#[derive(Debug, Clone)]
pub struct Agent {
    /// What it is and wants.
    pub manifest: Manifest,
    /// The manifest as its author wrote it.
    pub text: Arc<str>,
    /// What that is written in.
    pub format: Format,
    /// Its component or core module, unverified bytes.
    pub module: Bytes,
    /// Identity for grants: SHA-256(canonical manifest ‖ module).
    pub digest: Digest,
    /// Whether it had no manifest, so that the command line alone says what it may do.
    pub bare: bool,
}

impl Agent {
    /// Loads what `spec` names, checked against the providers that this installation has. What exists as a path is a
    /// path.
    ///
    /// # Errors
    /// When nothing is found, or what is found is not an agent; the failure says which file and why.
    pub fn load(spec: &str, catalog: &Catalog) -> Result<Self, Failure> {
        let path = Path::new(spec);
        if path.exists() { Self::from_path(path, Some(catalog)) } else { Self::installed(spec) }
    }

    /// Loads the folder, manifest or module at a path, for a server: which providers there are is for that one to say.
    ///
    /// # Errors
    /// When what lies there is not an agent; the failure says which file and why.
    pub fn at(path: &Path) -> Result<Self, Failure> {
        Self::from_path(path, None)
    }

    fn from_path(path: &Path, catalog: Option<&Catalog>) -> Result<Self, Failure> {
        if path.is_dir() {
            let manifest = Manifest::find(path).map_err(|error| {
                Failure::usage("manifest_missing", error.to_string())
                    .hint("an agent's folder holds orch.yaml and the module that it names")
            })?;
            return Self::from_manifest(&manifest, catalog);
        }
        match path.extension().and_then(|e| e.to_str()) {
            Some("wasm") => Self::from_module(path),
            Some("yaml" | "yml" | "json") => Self::from_manifest(path, catalog),
            _ => Err(Failure::usage(
                "agent_unknown",
                format!(
                    "{} is neither a folder, a manifest (.yaml, .yml, .json) nor a .wasm file",
                    path.display()
                ),
            )),
        }
    }

    /// An agent by name, `org/name[@version]`: one that comes with `orch`, so far.
    fn installed(spec: &str) -> Result<Self, Failure> {
        let reference = spec.parse::<AgentRef>().ok();
        let Some((asked, found)) =
            reference.and_then(|asked| builtin::find(&asked.name.to_string()).map(|found| (asked, found)))
        else {
            return Err(not_found(spec));
        };
        let agent = Self::from_builtin(found)?;
        let Manifest { name, version, .. } = &agent.manifest;
        if !asked.versions.matches(version) {
            return Err(Failure::usage(
                "agent_not_found",
                format!("{name} is here in version {version}, which is not {}", asked.versions),
            )
            .hint(format!("{name}@{version}")));
        }
        Ok(agent)
    }

    /// Whether an agent of this name comes with `orch`. What exists as a path goes before it, which is worth a word:
    /// whoever wrote the working directory decides then what runs.
    #[must_use]
    pub fn comes_with_orch(spec: &str) -> bool {
        builtin::find(spec).is_some()
    }

    fn from_manifest(path: &Path, catalog: Option<&Catalog>) -> Result<Self, Failure> {
        let (manifest, text, format) =
            Manifest::load_with_text(path).map_err(|error| manifest_failure(&error))?;
        if let Some(catalog) = catalog {
            check_providers(&manifest, path, catalog)?;
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let module = read_module(&folder.join(&manifest.module))
            .map_err(|failure| failure.hint(format!("{} names it as its `module`", path.display())))?;
        Ok(Self::new(manifest, (text.into(), format), module.into(), false))
    }

    /// A module without a manifest: it may think with any provider, and reach what the command line allows.
    fn from_module(path: &Path) -> Result<Self, Failure> {
        let module = read_module(path)?;
        let stem = path.file_stem().map(|s| s.to_string_lossy().to_lowercase()).unwrap_or_default();
        Self::bare(&stem, module.into())
    }

    /// A module without a manifest, named after `stem`: it may think with any provider, and reach what its caller
    /// allows.
    ///
    /// # Errors
    /// Only by a defect: its manifest is made here.
    pub(crate) fn bare(stem: &str, module: Bytes) -> Result<Self, Failure> {
        let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let name = match name.trim_matches('-') {
            "" => "agent",
            name => name,
        };
        let text = json!({
            "name": format!("local/{name}"), "version": "0.0.0", "module": "module.wasm", "supported_providers": ["any"],
        })
        .to_string();
        let manifest =
            Manifest::parse(&text, Format::Json, stem).map_err(|error| manifest_failure(&error))?;
        Ok(Self::new(manifest, (text.into(), Format::Json), module, true))
    }

    /// An agent whose manifest and module came from somewhere else than a folder: uploaded, or from the store.
    ///
    /// # Errors
    /// When the manifest is none, or contradicts the catalog; or the module is too large or no WebAssembly.
    pub(crate) fn from_parts(
        text: &str,
        format: Format,
        module: Bytes,
        catalog: &Catalog,
    ) -> Result<Self, Failure> {
        let manifest =
            Manifest::parse(text, format, "the manifest").map_err(|error| manifest_failure(&error))?;
        check_providers(&manifest, Path::new("the manifest"), catalog)?;
        check_module(&module, "the module")?;
        Ok(Self::new(manifest, (text.into(), format), module, false))
    }

    /// The agents that come with `orch`.
    pub(crate) fn builtins() -> impl Iterator<Item = Result<Self, Failure>> {
        builtin::all().iter().map(Self::from_builtin)
    }

    fn from_builtin(found: &builtin::Builtin) -> Result<Self, Failure> {
        let manifest = Manifest::parse(found.manifest, Format::Yaml, found.name)
            .map_err(|error| manifest_failure(&error))?;
        let text = (found.manifest.into(), Format::Yaml);
        Ok(Self::new(manifest, text, Bytes::from_static(found.module), false))
    }

    fn new(manifest: Manifest, (text, format): (Arc<str>, Format), module: Bytes, bare: bool) -> Self {
        let mut identity = Digesting::new();
        identity.update(&manifest.canonical_json());
        identity.update(&module);
        let digest = identity.finish();
        Self { manifest, text, format, module, digest, bare }
    }
}

/// What the operator's catalog contradicts or does not know.
fn check_providers(manifest: &Manifest, path: &Path, catalog: &Catalog) -> Result<(), Failure> {
    let problems = manifest.check_against(catalog);
    if problems.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.path, p.message)).collect();
    let failure = Failure::usage("manifest_invalid", format!("{}: {}", path.display(), lines.join("; ")));
    Err(problems.into_iter().filter_map(|problem| problem.hint).fold(failure, Failure::hint))
}

pub(crate) fn manifest_failure(error: &orch_manifests::ManifestError) -> Failure {
    Failure::usage("manifest_invalid", error.to_string())
}

fn not_found(spec: &str) -> Failure {
    let failure =
        Failure::usage("agent_not_found", format!("no agent {spec}: there is no such file or folder"));
    if spec.parse::<AgentRef>().is_ok() {
        failure.hint(format!("agents that come with orch: {}", builtin::names().join(", ")))
    } else {
        failure.hint("name a folder with orch.yaml, a manifest, a .wasm file, or org/name")
    }
}

/// Reads a module, at most [`MODULE_LIMIT`] bytes of it.
fn read_module(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable =
        |error: &std::io::Error| Failure::file("module_unreadable", "read the module", path, error);
    // Without blocking: what is named may be a pipe that nobody writes to.
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(|e| unreadable(&e))?;
    let meta = file.metadata().map_err(|e| unreadable(&e))?;
    if !meta.is_file() {
        return Err(Failure::usage("module_unreadable", format!("{} is not a file", path.display())));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len().min(MODULE_LIMIT)).unwrap_or(0));
    file.take(MODULE_LIMIT + 1).read_to_end(&mut bytes).map_err(|e| unreadable(&e))?;
    check_module(&bytes, &path.display().to_string())?;
    Ok(bytes)
}

/// What can be said of a module without parsing it, which only the compile jail does.
pub(crate) fn check_module(bytes: &[u8], label: &str) -> Result<(), Failure> {
    if bytes.len() as u64 > MODULE_LIMIT {
        return Err(Failure::usage(
            "module_too_large",
            format!("{label} is larger than {} MiB", MODULE_LIMIT >> 20),
        ));
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(Failure::usage(
            "module_invalid",
            format!("{label} is not WebAssembly: it does not begin with the bytes 00 61 73 6d"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const MANIFEST: &str = "name: acme/x\nversion: 1.0.0\nmodule: x.wasm\nsupported_providers: [any]\n";

    fn load(spec: &Path) -> Result<Agent, Failure> {
        Agent::load(&spec.display().to_string(), &Catalog::builtin())
    }

    fn code(spec: &Path) -> String {
        load(spec).expect_err("refused").code().to_owned()
    }

    #[test]
    fn a_folder_a_manifest_and_a_module_are_agents() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("orch.yaml"), MANIFEST).expect("written");
        fs::write(dir.path().join("x.wasm"), b"\0asm....").expect("written");
        let folder = load(dir.path()).expect("loads");
        let file = load(&dir.path().join("orch.yaml")).expect("loads");
        assert_eq!(folder.digest, file.digest);
        let bare = load(&dir.path().join("x.wasm")).expect("loads");
        assert!(bare.bare);
        assert_eq!(bare.manifest.name.to_string(), "local/x");
        assert_ne!(bare.digest, folder.digest, "another manifest is another agent");
    }

    #[test]
    fn each_mistake_has_its_code() {
        let dir = tempfile::tempdir().expect("a folder");
        assert_eq!(code(dir.path()), "manifest_missing");
        fs::write(dir.path().join("orch.yaml"), MANIFEST).expect("written");
        assert_eq!(code(dir.path()), "module_unreadable");
        fs::write(dir.path().join("x.wasm"), b"#!/bin/sh").expect("written");
        assert_eq!(code(dir.path()), "module_invalid");
        fs::write(dir.path().join("orch.yaml"), "name: [").expect("written");
        assert_eq!(code(dir.path()), "manifest_invalid");
        fs::write(dir.path().join("notes.txt"), "x").expect("written");
        assert_eq!(code(&dir.path().join("notes.txt")), "agent_unknown");
        assert_eq!(code(&dir.path().join("absent")), "agent_not_found");
        assert_eq!(code(Path::new("acme/absent")), "agent_not_found");
    }

    #[test]
    fn a_pipe_is_no_module_and_holds_nothing_up() {
        let dir = tempfile::tempdir().expect("a folder");
        let pipe = dir.path().join("x.wasm");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).expect("made");
        assert_eq!(code(&pipe), "module_unreadable");
    }

    #[test]
    fn every_builtin_agent_loads() {
        for name in builtin::names() {
            let agent = Agent::load(name, &Catalog::builtin()).expect("loads");
            assert_eq!(agent.manifest.name.to_string(), name);
        }
    }

    #[test]
    fn an_installed_agent_may_be_asked_for_by_version() {
        let catalog = Catalog::builtin();
        let version = Agent::load("orch/summarizer", &catalog).expect("loads").manifest.version;
        for spec in [format!("orch/summarizer@{version}"), format!("orch/summarizer@^{version}")] {
            assert_eq!(Agent::load(&spec, &catalog).expect("loads").manifest.version, version);
        }
        let failure = Agent::load("orch/summarizer@^99", &catalog).expect_err("no such version");
        assert_eq!(failure.code(), "agent_not_found");
        assert!(failure.message().contains(&version.to_string()), "{failure}");
    }

    #[test]
    fn two_manifests_in_one_folder_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("orch.yaml"), MANIFEST).expect("written");
        fs::write(dir.path().join("orch.json"), "{}").expect("written");
        fs::write(dir.path().join("x.wasm"), b"\0asm....").expect("written");
        assert_eq!(code(dir.path()), "manifest_missing");
    }
}
