//! Hosts that are no model providers as a program, for tests that are not written in Rust.
//!
//! `origins HOME FOLDER` plays `api.example.com` and `other.example.com`, which send back what they got, and
//! `git.example.com`, which serves the files of FOLDER, on loopback under an authority of its own. It writes the
//! `config.yaml` that leads there into HOME, prints one line of JSON with the file of the authority, and then one for
//! each request that arrives, and ends with its standard input.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use orch_tests::ca::Ca;
use orch_tests::reply::Reply;
use orch_tests::upstream::Upstream;
use orch_tests::wire::Received;
use serde_json::json;

const ECHOES: [&str; 2] = ["api.example.com", "other.example.com"];
const FILES: &str = "git.example.com";

fn main() -> std::io::Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(home), Some(folder)) = (args.next(), args.next()) else {
        return Err(std::io::Error::other("origins HOME FOLDER"));
    };
    let ca = Ca::new();
    let echo = Upstream::https(&ca, &ECHOES, |request: &Received| {
        tell(request);
        Reply::echo(request)
    });
    let files = Upstream::https(&ca, &[FILES], move |request: &Received| {
        tell(request);
        file(&folder, &request.path)
    });
    let roots = home.join("test-roots.pem");
    private(&roots, &ca.pem())?;
    let mut connect_to = serde_json::Map::new();
    let mut connect =
        |host: &str, address: SocketAddr| connect_to.insert(format!("{host}:443"), json!(address));
    for host in ECHOES {
        connect(host, echo.address());
    }
    connect(FILES, files.address());
    // JSON is YAML.
    let config = json!({ "egress": { "ca_file": "test-roots.pem", "connect_to": connect_to } });
    private(&home.join("config.yaml"), &config.to_string())?;
    say(&json!({ "ca": roots }))?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// The file of this path, if it names one below the folder.
fn file(folder: &Path, path: &str) -> Reply {
    let below = Path::new(path.trim_start_matches('/'));
    let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
    match plain.then(|| std::fs::read(folder.join(below))) {
        Some(Ok(body)) => Reply::Full { status: 200, headers: Vec::new(), body },
        _ => Reply::text(404, "not found"),
    }
}

fn tell(request: &Received) {
    let line = json!({ "method": request.method, "path": request.path, "headers": request.headers });
    // Whoever reads this may be gone already; then nobody counts.
    let _ = say(&line);
}

fn say(line: &serde_json::Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}
