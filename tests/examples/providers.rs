//! The fake providers as a program, for tests that are not written in Rust.
//!
//! `providers HOME` plays OpenAI and Anthropic on loopback under an authority of its own, and a model server of the LAN that
//! speaks chat completions only (`lan/lan-model`). It writes the `config.yaml` that leads there into HOME, prints one line of JSON with the keys that they take and what they answer, and ends with its
//! standard input. With `--tell` behind HOME, a line for each request that arrives follows.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use orch_tests::ca::Ca;
use orch_tests::fakes::anthropic::anthropic;
use orch_tests::fakes::openai::{ollama, openai};
use orch_tests::fakes::responses::with_responses;
use orch_tests::fakes::tools::calls_tool;
use orch_tests::upstream::{Host, Upstream};
use orch_tests::wire::Received;
use serde_json::{Value, json};

const OPENAI_KEY: &str = "sk-openai-0123456789abcdef0123456789";
const ANTHROPIC_KEY: &str = "sk-ant-0123456789abcdef0123456789abcd";
const SAYS: &str = "Keys stay with their owner, and café agents ask.";

fn main() -> std::io::Result<()> {
    let usage = || std::io::Error::other("providers HOME [--tell]");
    let mut args = std::env::args_os().skip(1);
    let home = args.next().map(PathBuf::from).ok_or_else(usage)?;
    let tell = match args.next() {
        None => false,
        Some(flag) if flag == "--tell" => true,
        Some(_) => return Err(usage()),
    };
    let ca = Ca::new();
    let arguments = json!({ "city": "Zürich", "days": 2 });
    let chat = calls_tool(openai(OPENAI_KEY, SAYS), arguments.clone());
    let chat = with_responses(chat, OPENAI_KEY, SAYS, arguments.clone());
    let chat = Upstream::https(&ca, &["api.openai.com"], told(chat, tell));
    let messages = calls_tool(anthropic(ANTHROPIC_KEY, SAYS), arguments.clone());
    let messages = Upstream::https(&ca, &["api.anthropic.com"], told(messages, tell));
    let lan = calls_tool(ollama("lan-model", SAYS), arguments.clone());
    let lan = Upstream::http(told(lan, tell));
    configure(
        &home,
        &ca,
        lan.address(),
        &[("api.openai.com:443", chat.address()), ("api.anthropic.com:443", messages.address())],
    )?;
    say(&json!({
        "keys": { "OPENAI_API_KEY": OPENAI_KEY, "ANTHROPIC_API_KEY": ANTHROPIC_KEY },
        "says": SAYS, "arguments": arguments,
    }))?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// The host, whose requests are told before they are answered if they are to be.
fn told(host: impl Host, tell: bool) -> impl Host {
    move |request: &Received| {
        if tell {
            let body = String::from_utf8_lossy(&request.body);
            let line = json!({ "path": request.path, "headers": request.headers, "body": body });
            // Whoever reads this may be gone already; then nobody counts.
            let _ = say(&line);
        }
        host.answer(request)
    }
}

fn say(line: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// JSON is YAML.
fn configure(home: &Path, ca: &Ca, lan: SocketAddr, origins: &[(&str, SocketAddr)]) -> std::io::Result<()> {
    let connect_to: serde_json::Map<_, _> =
        origins.iter().map(|(origin, address)| ((*origin).to_owned(), json!(address))).collect();
    private(&home.join("test-roots.pem"), &ca.pem())?;
    let lan = json!({ "dialect": "openai", "base_url": format!("http://{lan}/v1"), "models": ["lan-*"], "free": true });
    let config = json!({
        "egress": { "ca_file": "test-roots.pem", "connect_to": connect_to }, "providers": { "lan": lan },
    });
    private(&home.join("config.yaml"), &config.to_string())
}

fn private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
