//! Pulling, from servers that are what they should be and from others.

use std::fs;

use super::*;
use crate::client::testing::{Served, answer, json as told};
use http::Response;
use orch_server::Environment;

const MANIFEST: &str = "name: acme/x\nversion: 1.0.0\nmodule: out/x.wasm\n";
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

fn places(folder: &Path) -> Places {
    Places { manifest: folder.join("orch.yaml"), module: folder.join("out/x.wasm") }
}

/// A server that has `acme/x`, and gives `module` for what it says is [`MODULE`].
async fn server(module: &'static [u8]) -> Served {
    server_of(MODULE, module).await
}

/// A server whose `acme/x` is published with the module `said`.
async fn server_of(said: &'static [u8], module: &'static [u8]) -> Served {
    let manifest = Manifest::parse(MANIFEST, Format::Yaml, "x").expect("a manifest");
    let digest = Digest::of(&[manifest.canonical_json().as_slice(), said].concat());
    let version = json!({
        "name": "acme/x", "version": "1.0.0", "digest": digest.to_string(),
        "module": Digest::of(said).to_string(), "manifest": MANIFEST, "format": "yaml",
    });
    Served::tcp(None, move |asked| match asked.path.contains("/blobs/") {
        true => Response::new(orch_proxy::full(module)),
        false => told(200, &version.to_string()),
    })
    .await
}

async fn pull_from(server: &Served, folder: &Path, force: bool) -> Result<(Version, Places), Failure> {
    let reference = "acme/x@1.0.0".parse().expect("a reference");
    let printer = Printer::new(true, &Environment::Fixed(std::collections::BTreeMap::new()));
    pull(&server.client(None), &reference, folder, force, printer).await
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path.file_name().expect("a name").to_string_lossy().into_owned());
        }
    }
    all.sort();
    all
}

#[tokio::test]
async fn what_is_there_is_written_over_only_when_that_was_asked_for() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("new");
    let server = server(MODULE).await;
    pull_from(&server, &folder, false).await.expect("a new folder");
    assert_eq!(files(&folder), ["orch.yaml", "x.wasm"], "and nothing beside them");
    assert_eq!(fs::read(folder.join("out/x.wasm")).expect("written"), MODULE);
    fs::write(folder.join("orch.yaml"), "mine").expect("written");
    let asked = server.asked(|_| ()).len();
    let failure = pull_from(&server, &folder, false).await.err().expect("it is there");
    assert_eq!(failure.code(), "file_exists");
    assert_eq!(server.asked(|_| ()).len(), asked + 1, "the module is not even asked for");
    assert_eq!(fs::read_to_string(folder.join("orch.yaml")).expect("there"), "mine");
    pull_from(&server, &folder, true).await.expect("asked for");
    assert_eq!(fs::read_to_string(folder.join("orch.yaml")).expect("there"), MANIFEST);
}

#[tokio::test]
async fn a_module_that_is_another_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = server(b"\0asm other").await;
    let failure = pull_from(&server, dir.path(), false).await.err().expect("other bytes");
    assert_eq!(failure.code(), "server_unexpected");
    assert_eq!(files(dir.path()), [""; 0]);
    // With --force what was there stays.
    fs::create_dir_all(dir.path().join("out")).expect("made");
    fs::write(dir.path().join("out/x.wasm"), "mine").expect("written");
    pull_from(&server, dir.path(), true).await.err().expect("other bytes");
    assert_eq!(files(dir.path()), ["x.wasm"]);
    assert_eq!(fs::read_to_string(dir.path().join("out/x.wasm")).expect("there"), "mine");
}

#[tokio::test]
async fn another_agent_than_was_asked_for_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Served::tcp(None, |_| answer(200, "application/json", "{\"name\":\"acme/y\"}")).await;
    assert_eq!(pull_from(&server, dir.path(), false).await.err().expect("no").code(), "server_unexpected");
}

#[test]
fn another_manifest_in_the_folder_is_in_the_way() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("orch.json"), "{}").expect("written");
    let failure = check_free(dir.path(), &places(dir.path()), false).expect_err("two manifests");
    assert!(failure.message().contains("orch.json"), "{failure}");
}

#[test]
fn a_file_that_appeared_meanwhile_stays() {
    let dir = tempfile::tempdir().expect("a folder");
    let place = dir.path().join("x.wasm");
    fs::write(&place, "mine").expect("written");
    assert!(Folder::open(dir.path()).expect("there").create(Path::new("x.wasm"), false).is_err());
    assert_eq!(files(dir.path()), ["x.wasm"]);
    assert_eq!(fs::read_to_string(&place).expect("there"), "mine");
}

#[tokio::test]
async fn a_module_that_is_no_webassembly_is_not_written() {
    for module in [&b"#!/bin/sh\nrm -rf ~\n"[..], b"\0as", b""] {
        let dir = tempfile::tempdir().expect("a folder");
        let server = server_of(module, module).await;
        let failure = pull_from(&server, dir.path(), false).await.err().expect("no module");
        assert!(failure.message().contains("no WebAssembly"), "{failure}");
        assert_eq!(files(dir.path()), [""; 0]);
    }
}

#[tokio::test]
async fn a_module_s_place_that_is_no_module_s_is_refused_by_name() {
    for place in [".git/hooks/pre-commit", ".git/hooks/x.wasm", "out/run.sh", "Makefile"] {
        let dir = tempfile::tempdir().expect("a folder");
        let manifest = MANIFEST.replace("out/x.wasm", place);
        let version = json!({
            "name": "acme/x", "version": "1.0.0", "digest": Digest::of(b"x").to_string(),
            "module": Digest::of(MODULE).to_string(), "manifest": manifest, "format": "yaml",
        });
        let server = Served::tcp(None, move |_| told(200, &version.to_string())).await;
        let failure = pull_from(&server, dir.path(), true).await.err().expect("no place for a module");
        assert_eq!(failure.code(), "server_unexpected");
        assert!(failure.message().contains(":3:9: module: "), "{failure}");
        assert_eq!(files(dir.path()), [""; 0]);
    }
}

#[tokio::test]
async fn nothing_is_written_through_a_link() {
    let dir = tempfile::tempdir().expect("a folder");
    let (folder, elsewhere) = (dir.path().join("new"), dir.path().join("elsewhere"));
    for made in [&folder, &elsewhere] {
        fs::create_dir(made).expect("made");
    }
    std::os::unix::fs::symlink(&elsewhere, folder.join("out")).expect("linked");
    let server = server(MODULE).await;
    for force in [false, true] {
        let failure = pull_from(&server, &folder, force).await.err().expect("a link");
        assert_eq!(failure.code(), "file_unwritable");
        assert!(failure.hints().iter().any(|hint| hint.contains("symbolic link")), "{failure}");
        assert_eq!(files(&elsewhere), [""; 0]);
    }
    // The file itself is replaced, not what it leads to.
    fs::remove_file(folder.join("out")).expect("removed");
    fs::create_dir(folder.join("out")).expect("made");
    fs::write(elsewhere.join("mine"), "mine").expect("written");
    std::os::unix::fs::symlink(elsewhere.join("mine"), folder.join("out/x.wasm")).expect("linked");
    pull_from(&server, &folder, false).await.err().expect("it is there");
    pull_from(&server, &folder, true).await.expect("asked for");
    assert_eq!(fs::read(folder.join("out/x.wasm")).expect("written"), MODULE);
    assert_eq!(fs::read_to_string(elsewhere.join("mine")).expect("there"), "mine");
    // The folder that was named may be a link.
    std::os::unix::fs::symlink(&elsewhere, dir.path().join("link")).expect("linked");
    pull_from(&server, &dir.path().join("link"), false).await.expect("what was named");
    assert_eq!(files(&elsewhere), ["mine", "orch.yaml", "x.wasm"]);
}
