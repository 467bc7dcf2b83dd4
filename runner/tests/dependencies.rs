//! The sandbox cannot reach the network because it has nothing to reach it with. This keeps it so.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not seen as tests")]

use std::collections::BTreeSet;
use std::process::Command;

/// Crates that could open a connection or secure one, or find out where to.
const FORBIDDEN: [&str; 15] = [
    "aws-lc-rs",
    "boring",
    "curl",
    "hickory-proto",
    "hickory-resolver",
    "hyper-rustls",
    "hyper-tls",
    "isahc",
    "native-tls",
    "openssl",
    "openssl-sys",
    "reqwest",
    "rustls",
    "tokio-rustls",
    "webpki-roots",
];

/// Features that would bring the same by another way: (crate, feature).
const FORBIDDEN_FEATURES: [(&str, &str); 6] = [
    ("wasmtime-wasi-http", "default-send-request"),
    ("wasmtime-wasi-http", "default"),
    ("hyper-util", "client"),
    ("hyper-util", "client-legacy"),
    ("hyper-util", "client-proxy"),
    ("hyper-util", "full"),
];

/// `cargo tree` of this crate's normal dependencies, one line per crate: name, then features.
fn tree() -> Vec<(String, BTreeSet<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "orch-runner", "--edges", "normal", "--prefix", "none", "--offline"])
        // For this platform: a fresh cargo home holds no crates of others.
        .args(["--format", "{p}|{f}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let crates: Vec<_> = text.lines().filter(|line| !line.is_empty()).map(parse).collect();
    assert!(crates.iter().any(|(name, _)| name == "wasmtime"), "this is not the runner's tree: {text}");
    crates
}

fn parse(line: &str) -> (String, BTreeSet<String>) {
    let (package, features) = line.split_once('|').unwrap();
    let name = package.split(' ').next().unwrap().to_owned();
    // A crate that was listed before ends in a mark.
    let features = features.trim_end_matches(" (*)").split(',').map(str::to_owned).collect();
    (name, features)
}

#[test]
fn nothing_in_the_sandbox_can_connect() {
    let crates = tree();
    let found: BTreeSet<_> =
        crates.iter().map(|(name, _)| name.as_str()).filter(|name| FORBIDDEN.contains(name)).collect();
    assert!(found.is_empty(), "orch-runner must not depend on {found:?}");
    for (name, features) in &crates {
        for (package, feature) in FORBIDDEN_FEATURES {
            assert!(
                name != package || !features.contains(feature),
                "orch-runner must not enable {feature} of {package}"
            );
        }
    }
}

#[test]
fn what_is_looked_for_would_be_found() {
    let (name, features) = parse("wasmtime-wasi-http v48.0.8|default-send-request,p2 (*)");
    assert_eq!(name, "wasmtime-wasi-http");
    assert!(features.contains("default-send-request") && features.contains("p2"));
    let crates = tree();
    let features = |wanted: &str| {
        crates
            .iter()
            .filter(|(name, _)| name == wanted)
            .flat_map(|(_, features)| features)
            .collect::<BTreeSet<_>>()
    };
    assert!(features("wasmtime-wasi-http").iter().any(|feature| *feature == "p2"));
    assert!(features("hyper-util").iter().any(|feature| *feature == "tokio"));
}
