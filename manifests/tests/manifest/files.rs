//! Manifests on disk.

use std::fs;
use std::path::{Path, PathBuf};

use orch_manifests::Manifest;

use crate::{SUMMARIZER, with};

/// A folder of the test's own below the build's scratch folder, empty at the start.
fn folder(name: &str) -> PathBuf {
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("manifests-{name}-{}", std::process::id()));
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn message(path: &Path, base: &Path) -> String {
    Manifest::load(path).unwrap_err().to_string().replace(base.to_str().unwrap(), "~")
}

#[test]
fn a_folder_or_a_file() {
    let base = folder("good");
    for name in ["orch.yaml", "orch.yml"] {
        let file = base.join(name);
        fs::write(&file, SUMMARIZER).unwrap();
        assert_eq!(Manifest::load(&base).unwrap(), Manifest::load(&file).unwrap());
        fs::remove_file(&file).unwrap();
    }
    let manifest = Manifest::parse(SUMMARIZER, orch_manifests::Format::Yaml, "x").unwrap();
    fs::write(base.join("orch.json"), manifest.canonical_json()).unwrap();
    assert_eq!(Manifest::load(&base).unwrap(), manifest);
    fs::remove_dir_all(&base).unwrap();
}

#[test]
fn what_cannot_be_loaded() {
    let base = folder("bad");
    let file = base.join("orch.yaml");
    insta::assert_snapshot!(message(&base, &base), @"~: holds no manifest: orch.yaml or orch.yml or orch.json is expected");
    insta::assert_snapshot!(message(&file, &base), @"~/orch.yaml: does not exist");
    fs::write(&file, b"name: a/b\nversion: \xff\n").unwrap();
    insta::assert_snapshot!(message(&file, &base), @"~/orch.yaml:2:10: is not UTF-8 text");
    fs::write(&file, with("egres: []")).unwrap();
    insta::assert_snapshot!(message(&base, &base), @"
    ~/orch.yaml:4:1: egres: unknown field `egres`
      hint: did you mean `egress`? The fields here are: name, version, description, module, supported_providers, llm, input, output, egress, search, secrets, calls, files, limits, env
    ");
    fs::write(base.join("orch.json"), "{}").unwrap();
    insta::assert_snapshot!(message(&base, &base), @"~: holds both orch.yaml and orch.json: keep one");
    fs::write(base.join("orch.toml"), "").unwrap();
    insta::assert_snapshot!(message(&base.join("orch.toml"), &base), @"~/orch.toml: a manifest is a .yaml, .yml or .json file");
    fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    insta::assert_snapshot!(message(&file, &base), @"~/orch.yaml: is larger than 1 MiB");
    fs::create_dir(base.join("dir.yaml")).unwrap();
    insta::assert_snapshot!(message(&base.join("dir.yaml"), &base), @"~/dir.yaml: holds no manifest: orch.yaml or orch.yml or orch.json is expected");
    fs::remove_dir_all(&base).unwrap();
}

#[cfg(unix)]
#[test]
fn a_device_is_no_manifest() {
    let base = folder("device");
    let link = base.join("orch.yaml");
    std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
    assert!(message(&link, &base).ends_with("is not a regular file"));
    fs::remove_dir_all(&base).unwrap();
}
