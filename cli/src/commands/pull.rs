//! `orch pull`: a published agent becomes a folder that can be read, run and published again.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use orch_manifests::{AgentName, AgentRef, Digest, Format, MANIFEST_FILES, Manifest};
use orch_server::Failure;
use serde::Deserialize;
use serde_json::json;

use crate::agent_ref;
use crate::args::PullArgs;
use crate::client::Client;
use crate::printer::Printer;
use crate::wire::{Installation, broken_pipe, with_client};

/// A published version, as far as it becomes files.
#[derive(Deserialize)]
struct Version {
    name: AgentName,
    version: semver::Version,
    digest: Digest,
    module: Digest,
    manifest: String,
    format: String,
}

/// What lands in the folder.
struct Files {
    manifest: (PathBuf, String),
    module: (PathBuf, Vec<u8>),
}

pub(crate) fn run(args: &PullArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    let reference = agent_ref::parse(&args.agent)?;
    let folder = args.to.clone().unwrap_or_else(|| PathBuf::from(reference.name.name()));
    let (version, files) =
        with_client(&here, async |client| fetch(client, &reference, &folder, printer).await)?;
    write(&folder, &files, args.force)?;
    let Version { name, version, digest, .. } = version;
    let written = [&files.manifest.0, &files.module.0].map(|path| path.display().to_string());
    if printer.json() {
        return printer
            .result_json(&json!({
                "name": name.as_str(), "version": version.to_string(), "digest": digest.to_string(), "files": written,
            }))
            .or_else(broken_pipe)
            .map(|()| ExitCode::SUCCESS);
    }
    printer.note(&format!("{name} {version} ({digest})"));
    printer.result(&written.join("\n")).or_else(broken_pipe)?;
    Ok(ExitCode::SUCCESS)
}

/// The version and its files, checked against the digest that grants are given to.
async fn fetch(
    client: &Client,
    reference: &AgentRef,
    folder: &Path,
    printer: Printer,
) -> Result<(Version, Files), Failure> {
    let path = agent_ref::version_path(reference);
    let version: Version = client.get(&path).await?;
    let wrong = |what: &str| client.unexpected(&format!("GET {path}"), what);
    let format = match version.format.as_str() {
        "yaml" => Format::Yaml,
        "json" => Format::Json,
        _ => return Err(wrong("a manifest that is neither YAML nor JSON")),
    };
    let manifest = Manifest::parse(&version.manifest, format, &format!("the manifest of {reference}"))
        .map_err(|e| wrong(&format!("a manifest that is none: {e}")))?;
    if (&manifest.name, &manifest.version) != (&version.name, &version.version)
        || version.name != reference.name
    {
        return Err(wrong("another agent than its manifest names"));
    }
    printer.status("fetching the module");
    let module = client.get_blob(&version.module).await;
    printer.erase_status();
    let module = module?;
    if Digest::of(&[manifest.canonical_json().as_slice(), &module].concat()) != version.digest {
        return Err(wrong("content that does not have its digest"));
    }
    let name = match format {
        Format::Yaml => "orch.yaml",
        Format::Json => "orch.json",
    };
    // The manifest's check keeps it below the folder; it must not be the manifest itself.
    let place = folder.join(&manifest.module);
    if MANIFEST_FILES.iter().any(|file| place == folder.join(file)) {
        return Err(wrong("a module in the place of its manifest"));
    }
    let files = Files { manifest: (folder.join(name), version.manifest.clone()), module: (place, module) };
    Ok((version, files))
}

/// Writes the files; nothing that is there is touched unless that was asked for.
fn write(folder: &Path, files: &Files, force: bool) -> Result<(), Failure> {
    let manifests = MANIFEST_FILES.iter().map(|name| folder.join(name));
    let mut taken = manifests.chain([files.module.0.clone()]).filter(|path| path.symlink_metadata().is_ok());
    if let Some(path) = taken.next()
        && !force
    {
        return Err(Failure::usage("file_exists", format!("{} is there already", path.display()))
            .hint("another folder: --to DIR")
            .hint("write over it: --force"));
    }
    put(&files.module.0, &files.module.1, force)?;
    put(&files.manifest.0, files.manifest.1.as_bytes(), force)
}

fn put(path: &Path, bytes: &[u8], force: bool) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::file("file_unwritable", "write", path, &e);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut options = OpenOptions::new();
    options.write(true);
    // Without --force what appeared since the check stays as well.
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    options.open(path).and_then(|mut file| file.write_all(bytes)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path, text: &str) -> Files {
        Files {
            manifest: (folder.join("orch.yaml"), text.to_owned()),
            module: (folder.join("out/x.wasm"), b"\0asm".to_vec()),
        }
    }

    #[test]
    fn nothing_is_written_over_unless_that_was_asked_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("new");
        write(&folder, &files(&folder, "one"), false).expect("a new folder");
        assert_eq!(fs::read(folder.join("out/x.wasm")).expect("written"), b"\0asm");
        let failure = write(&folder, &files(&folder, "two"), false).expect_err("it is there");
        assert_eq!(failure.code(), "file_exists");
        assert_eq!(fs::read_to_string(folder.join("orch.yaml")).expect("there"), "one");
        write(&folder, &files(&folder, "two"), true).expect("asked for");
        assert_eq!(fs::read_to_string(folder.join("orch.yaml")).expect("there"), "two");
    }

    #[test]
    fn another_manifest_in_the_folder_is_in_the_way() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("orch.json"), "{}").expect("written");
        let failure = write(dir.path(), &files(dir.path(), "one"), false).expect_err("two manifests");
        assert!(failure.message().contains("orch.json"), "{failure}");
        assert!(!dir.path().join("orch.yaml").exists());
    }
}
