//! The fake providers as a program, for tests that are not written in Rust.
//!
//! `providers HOME` plays one model (`orch_tests::fakes::model`) behind the door of every dialect, on loopback under an authority
//! of its own. It writes the `config.yaml` that leads there into HOME, prints one line of JSON with the keys that they take,
//! what is behind each door and what the model says, and ends with its standard input. With `--tell` behind HOME, a line for each
//! request that arrives at a door follows.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use orch_tests::ca::Ca;
use orch_tests::fakes::anthropic::anthropic;
use orch_tests::fakes::bedrock::Converse;
use orch_tests::fakes::gemini::gemini;
use orch_tests::fakes::model::{self, Aloud, Form, Wings, behind, with_vectors};
use orch_tests::fakes::openai::openai;
use orch_tests::fakes::responses::responses;
use orch_tests::upstream::{Host, Upstream};
use orch_tests::wire::Received;
use serde_json::{Map, Value, json};

/// Keys, by their names in the vault.
const KEYS: [(&str, &str); 6] = [
    ("OPENAI_API_KEY", "sk-openai-0123456789abcdef0123456789"),
    ("COMPAT_API_KEY", "compat-0123456789abcdef0123456789abcd"),
    ("ANTHROPIC_API_KEY", "sk-ant-0123456789abcdef0123456789abcd"),
    ("GEMINI_API_KEY", "AIza0123456789abcdef0123456789abcdef012"),
    ("COHERE_API_KEY", "cohere0123456789abcdef0123456789abcdef01"),
    (
        "AWS_BEARER_TOKEN_BEDROCK",
        r#"{"accessKeyId":"AKIACLIENTSEXAMPLE00","secretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYCLIENTSKEY","region":"us-east-1"}"#,
    ),
];

const OPENAI_MODEL: &str = "gpt-5-mini";
const COMPAT_MODEL: &str = "compat-1";
const ANTHROPIC_MODEL: &str = "claude-next-1";
const COHERE_MODEL: &str = "command-a-plus-05-2026";
const OLLAMA_MODEL: &str = "qwen3:4b";

const BEDROCK: Converse = Converse {
    region: "us-east-1",
    access_key_id: "AKIACLIENTSEXAMPLE00",
    secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYCLIENTSKEY",
    session_token: None,
    bearer: "none",
    says: "",
};

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
    let wings = Wings::default();
    let key = |name: &str| KEYS.iter().find(|(known, _)| *known == name).map_or("", |(_, key)| *key);
    let completions = openai(key("OPENAI_API_KEY"), "").with_model(OPENAI_MODEL);
    let completions = behind(model::chat(completions, Aloud::No), &wings);
    let responses = responses(key("OPENAI_API_KEY"), OPENAI_MODEL);
    let responses = behind(model::responses(responses), &wings);
    let completions =
        with_vectors(completions, Form::OpenAi, key("OPENAI_API_KEY"), "text-embedding-3-small");
    let both = move |request: &Received| match request.path.as_str() {
        "/v1/responses" => responses.answer(request),
        _ => completions.answer(request),
    };
    let compat = openai(key("COMPAT_API_KEY"), "").with_model(COMPAT_MODEL);
    let compat = behind(model::chat(compat, Aloud::Yes), &wings);
    let compat = with_vectors(compat, Form::OpenAi, key("COMPAT_API_KEY"), "compat-embed");
    let claude = anthropic(key("ANTHROPIC_API_KEY"), "").with_model(ANTHROPIC_MODEL);
    let google = behind(model::generate(gemini(key("GEMINI_API_KEY"), "")), &wings);
    let google = with_vectors(google, Form::Gemini, key("GEMINI_API_KEY"), "gemini-embedding-001");
    let cohere = behind(model::cohere(key("COHERE_API_KEY"), COHERE_MODEL), &wings);
    let cohere = with_vectors(cohere, Form::Cohere, key("COHERE_API_KEY"), "embed-v4.0");
    let ollama = behind(model::ollama(OLLAMA_MODEL), &wings);
    let ollama = with_vectors(ollama, Form::Ollama, "", "nomic-embed-text");
    let https = |host| (host, &ca, tell);
    let upstreams = [
        at(https("api.openai.com"), both),
        at(https("api.compat.example"), compat),
        at(https("api.anthropic.com"), behind(model::messages(claude), &wings)),
        at(https("generativelanguage.googleapis.com"), google),
        at(https("bedrock-runtime.us-east-1.amazonaws.com"), behind(model::converse(BEDROCK), &wings)),
        at(https("api.cohere.com"), cohere),
        at(https("ollama.example"), ollama),
    ];
    let origins: Vec<_> = upstreams.iter().map(|(host, upstream)| (*host, upstream.address())).collect();
    configure(&home, &ca, &origins)?;
    let wings = Upstream::http(wings);
    let keys: Map<String, Value> = KEYS.iter().map(|(name, key)| ((*name).to_owned(), json!(key))).collect();
    let line = json!({
        "keys": keys, "wings": format!("http://{}", wings.address()),
        "says": model::SAYS, "plan": model::PLAN, "thoughts": model::THOUGHTS, "wait": model::WAIT,
        "usage": { "input": model::INPUT, "cached": model::CACHED, "output": model::OUTPUT, "reasoning": model::REASONING },
    });
    say(&line)?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let faults: Vec<String> = upstreams.iter().flat_map(|(_, upstream)| upstream.faults()).collect();
    match faults.is_empty() {
        true => Ok(()),
        false => Err(std::io::Error::other(format!("arrived, and was no request: {faults:?}"))),
    }
}

fn at<'a>((host, ca, tell): (&'a str, &Ca, bool), served: impl Host) -> (&'a str, Upstream) {
    (host, Upstream::https(ca, &[host], told(served, tell)))
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
fn configure(home: &Path, ca: &Ca, origins: &[(&str, SocketAddr)]) -> std::io::Result<()> {
    let connect_to: Map<_, _> =
        origins.iter().map(|(host, address)| (format!("{host}:443"), json!(address))).collect();
    private(&home.join("test-roots.pem"), &ca.pem())?;
    let config = json!({
        "egress": { "ca_file": "test-roots.pem", "connect_to": connect_to },
        "providers": {
            "compat": {
                "dialect": "openai", "base_url": "https://api.compat.example/v1", "env": "COMPAT_API_KEY",
                "models": ["compat-*"], "free": true,
            },
            // Nobody has its key.
            "keyless": {
                "dialect": "openai", "base_url": "https://api.keyless.example/v1", "env": "KEYLESS_API_KEY",
                "models": ["keyless-*"],
            },
            "ollama": { "dialect": "ollama", "base_url": "https://ollama.example", "models": ["qwen3:*", "nomic-*"] },
        },
    });
    private(&home.join("config.yaml"), &config.to_string())
}

fn private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
