//! `orch serve`: how it starts, who it lets in, and how it ends.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;

use orch_tests::gate::Gate;
use orch_tests::home::Home;
use orch_tests::orch::Orch;
use orch_tests::reply::Reply;
use orch_tests::server::Server;
use serde_json::{Value, json};

use crate::stage::{OPENAI_KEY, OPENAI_SAYS, PROGRAM, Stage, fake_openai, orch};

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

/// A server with a run whose agent waits for the model until the gate opens.
fn waiting(stage: &Stage, gate: &Gate, more: &[&str]) -> (Server, String) {
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let asked = json!({ "model": "gpt-4o-mini", "stream_options": { "include_usage": true } });
    stage.openai.script([Reply::sse(fake_openai().stream(&asked)).held(gate)]);
    let server = Server::begin(Orch::new(PROGRAM, &stage.home), &stage.home, more);
    let body =
        json!({ "agent": "orch/summarizer", "model": "gpt-4o-mini", "input": { "text": "Ships came." } });
    let run = server.ask("POST", "/v1/runs", Some(&body)).expect(202).json();
    stage.openai.wait_for(1);
    (server, run["id"].as_str().expect("an id").to_owned())
}

fn end_of(stage: &Stage, run: &str) -> Value {
    let server = Server::start(PROGRAM, &stage.home);
    server.ask("GET", &format!("/v1/runs/{run}"), None).expect(200).json()
}

#[test]
fn it_says_where_it_listens_and_tells_its_token_to_nobody_else() {
    let home = Home::new();
    let running = orch(&home).args(["serve", "--json", "--listen", "127.0.0.1:0"]).start();
    let ready: Value = serde_json::from_str(&running.first_line()).expect("JSON");
    assert_eq!(ready["pid"], running.pid());
    let listening = ready["listening"].as_str().expect("an address");
    assert_eq!(ready["url"], format!("http://{listening}"));
    let data = home.orch().join("data");
    let socket = data.join("server.sock");
    assert_eq!(ready["socket"], socket.display().to_string());
    assert_eq!((mode(&socket), mode(&data.join("admin-token")), mode(&data)), (0o600, 0o600, 0o700));
    let token = fs::read_to_string(data.join("admin-token")).expect("a token");

    let second = orch(&home).args(["serve", "--json", "--listen", "127.0.0.1:0"]).run().expect(7).silent();
    assert_eq!(second.error()["code"], "vault_locked", "{second}");

    running.terminate();
    let outcome = running.finish().expect(0);
    assert!(
        !outcome.stderr().contains(token.trim()) && !outcome.stdout().contains(token.trim()),
        "{outcome}"
    );
    assert!(!socket.exists(), "nothing is left of it");

    // A second start has the token of the first.
    let server = Server::start(PROGRAM, &home);
    assert_eq!(server.token(), token.trim());
    assert_eq!(server.ask("GET", "/v1/whoami", None).expect(200).json()["scopes"], json!(["admin"]));
    assert_eq!(server.ask_as(None, "GET", "/v1/whoami", None).status, 401);
}

#[test]
fn where_others_could_read_along_it_does_not_listen() {
    let home = Home::cold();
    let refused = orch(&home).args(["serve", "--json", "--listen", "0.0.0.0:0"]).run().expect(2).silent();
    assert_eq!(refused.error()["code"], "listen_insecure", "{refused}");
    assert!(!home.orch().join("data").exists(), "nothing was begun");
    let drain = orch(&home).args(["serve", "--json", "--drain", "soon"]).run().expect(2).silent();
    assert_eq!(drain.error()["code"], "bad_usage");
}

#[test]
fn a_run_under_way_ends_before_the_server_does() {
    let stage = Stage::new();
    let gate = Gate::closed();
    let (server, run) = waiting(&stage, &gate, &[]);
    let address = server.address();
    server.process().terminate();
    server.process().wait_says("stopping");
    // What listens is let go right after that was said.
    while TcpStream::connect(address).is_ok() {}
    gate.open();
    server.wait().expect(0);
    let ended = end_of(&stage, &run);
    assert_eq!((&ended["status"], &ended["exit_code"]), (&json!("succeeded"), &json!(0)), "{ended}");
    assert_eq!(ended["report"]["output"]["summary"], OPENAI_SAYS);
}

#[test]
fn a_run_that_takes_longer_than_the_drain_is_stopped_and_says_why() {
    let stage = Stage::new();
    let gate = Gate::closed();
    let (server, run) = waiting(&stage, &gate, &["--drain", "1ms"]);
    server.terminate().expect(0);
    stage.openai.wait_closed();
    let ended = end_of(&stage, &run);
    assert_eq!(
        (&ended["status"], &ended["error"]["code"]),
        (&json!("interrupted"), &json!("server_stopped")),
        "{ended}"
    );
}

#[test]
fn who_says_so_twice_does_not_wait() {
    let stage = Stage::new();
    let gate = Gate::closed();
    let (server, run) = waiting(&stage, &gate, &["--drain", "1h"]);
    server.process().terminate();
    server.process().wait_says("stopping");
    let outcome = server.terminate().expect(130);
    assert_eq!(outcome.error()["code"], "interrupted", "{outcome}");
    stage.openai.wait_closed();
    let ended = end_of(&stage, &run);
    assert_eq!(
        (&ended["status"], &ended["error"]["code"]),
        (&json!("interrupted"), &json!("server_stopped")),
        "{ended}"
    );
}

#[test]
fn a_token_is_asked_for_and_a_name_is_checked_over_a_real_connection() {
    use std::io::{Read as _, Write as _};

    let home = Home::new();
    let server = Server::start(PROGRAM, &home);
    let raw = |text: String| {
        let mut stream = TcpStream::connect(server.address()).expect("connected");
        stream.write_all(text.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        answer
    };
    let token = server.token();
    let get = |host: &str, token: &str| {
        raw(format!(
            "GET /v1/whoami HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        ))
    };
    assert!(get("localhost", token).starts_with("HTTP/1.1 200 "));
    let rebound = get("evil.example", token);
    assert!(rebound.starts_with("HTTP/1.1 421 ") && rebound.contains("host_unknown"), "{rebound}");
    assert!(get("localhost", "orch_x").starts_with("HTTP/1.1 401 "));
    // A body of somebody unknown is not waited for.
    let refused = raw(format!(
        "PUT /v1/blobs/sha256:{} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000000\r\n\r\n",
        "0".repeat(64)
    ));
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
}

/// A key comes over TLS or does not leave the machine. Behind a proxy that is for the proxy to say, and anybody else's
/// word for it counts for nothing.
#[test]
fn keys_come_through_a_trusted_proxy_that_took_them_over_tls() {
    let body = json!({ "agent": "orch/summarizer", "input": { "text": "Ships came." },
        "keys": [{ "provider": "openai", "key": OPENAI_KEY }] });
    let ask = |server: &Server, fields: &str| {
        let body = body.to_string();
        let mut stream = TcpStream::connect(server.address()).expect("it listens");
        let head = format!(
            "POST /v1/runs HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nauthorization: Bearer {}\r\n{fields}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            server.address(),
            server.token(),
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    for (proxy, forwarded, taken) in [
        // Nobody knows how it came to the proxy.
        ("127.0.0.1", "", false),
        ("127.0.0.1", "x-forwarded-for: 192.0.2.1\r\n", false),
        ("127.0.0.1", "x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: http\r\n", false),
        ("127.0.0.1", "x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: https\r\n", true),
        ("127.0.0.1", "forwarded: for=192.0.2.1;proto=https\r\n", true),
        // To this server, whoever asks is a neighbour with odd headers.
        ("192.0.2.9", "x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: http\r\n", true),
    ] {
        let mut stage = Stage::new();
        stage.configure(|config| config.server(json!({ "trusted_proxies": [proxy] })));
        let server = Server::start(PROGRAM, &stage.home);
        let answer = ask(&server, forwarded);
        let status = if taken { "HTTP/1.1 202 " } else { "HTTP/1.1 403 " };
        assert!(answer.starts_with(status), "{proxy} {forwarded}: {answer}");
        assert_eq!(answer.contains("keys_need_tls"), !taken, "{answer}");
        assert!(!answer.contains(OPENAI_KEY), "{answer}");
    }
}

#[test]
fn a_proxy_that_is_no_network_is_named_with_its_place() {
    let mut stage = Stage::new();
    stage.configure(|config| config.server(json!({ "trusted_proxies": ["10.0.0.1", "0.0.0.0/0"] })));
    let outcome = stage.orch(["serve", "--json", "--listen", "127.0.0.1:0"]).run().expect(2).silent();
    let error = outcome.error();
    assert_eq!(error["code"], "config_invalid", "{outcome}");
    assert!(
        error["message"].as_str().is_some_and(|said| said.contains("server.trusted_proxies[1]")),
        "{outcome}"
    );
}
