//! `orch pull`: a published agent becomes a folder that can be read, run and published again.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use orch_manifests::{AgentName, AgentRef, Digest, Digesting, Format, MANIFEST_FILES, Manifest};
use orch_server::Failure;
use serde::Deserialize;
use serde_json::json;

use crate::agent_ref;
use crate::args::PullArgs;
use crate::client::Client;
use crate::printer::Printer;
use crate::wire::{Installation, broken_pipe, with_client};

mod place;

use place::Folder;

/// How every module begins.
const MAGIC: &[u8] = b"\0asm";

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

/// Where the version's files belong.
struct Places {
    manifest: PathBuf,
    module: PathBuf,
}

pub(crate) fn run(args: &PullArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    let reference = agent_ref::parse(&args.agent)?;
    let folder = args.to.clone().unwrap_or_else(|| PathBuf::from(reference.name.name()));
    let (version, places) =
        with_client(&here, async |client| pull(client, &reference, &folder, args.force, printer).await)?;
    let Version { name, version, digest, .. } = version;
    let written = [&places.manifest, &places.module].map(|path| path.display().to_string());
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

/// Writes the version's files, checked against the digest that grants are given to. The manifest comes last: a folder
/// without it is no agent.
async fn pull(
    client: &Client,
    reference: &AgentRef,
    folder: &Path,
    force: bool,
    printer: Printer,
) -> Result<(Version, Places), Failure> {
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
    let name = match format {
        Format::Yaml => "orch.yaml",
        Format::Json => "orch.json",
    };
    // The manifest's check keeps it below the folder; it must not be the manifest itself.
    let places = Places { manifest: folder.join(name), module: folder.join(&manifest.module) };
    if MANIFEST_FILES.iter().any(|file| places.module == folder.join(file)) {
        return Err(wrong("a module in the place of its manifest"));
    }
    check_free(folder, &places, force)?;

    let below = Folder::open(folder)?;
    let mut new = below.create(&manifest.module, force)?;
    let no_module = || wrong("a module that is no WebAssembly");
    let mut head = Vec::with_capacity(MAGIC.len());
    let mut content = Digesting::new();
    content.update(&manifest.canonical_json());
    printer.status("fetching the module");
    let fetched = client.get_blob(&version.module, |piece| {
        head.extend(piece.iter().take(MAGIC.len() - head.len()));
        if !MAGIC.starts_with(&head) {
            return Err(no_module());
        }
        content.update(piece);
        new.write(piece)
    });
    let fetched = fetched.await;
    printer.erase_status();
    fetched?;
    if head != MAGIC {
        return Err(no_module());
    }
    if content.finish() != version.digest {
        return Err(wrong("content that does not have its digest"));
    }
    new.keep()?;
    let mut new = below.create(Path::new(name), force)?;
    new.write(version.manifest.as_bytes())?;
    new.keep()?;
    Ok((version, places))
}

/// Nothing that is there is touched unless that was asked for.
fn check_free(folder: &Path, places: &Places, force: bool) -> Result<(), Failure> {
    let manifests = MANIFEST_FILES.iter().map(|name| folder.join(name));
    let mut taken = manifests.chain([places.module.clone()]).filter(|path| path.symlink_metadata().is_ok());
    match taken.next() {
        Some(path) if !force => {
            Err(Failure::usage("file_exists", format!("{} is there already", path.display()))
                .hint("another folder: --to DIR")
                .hint("write over it: --force"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
