//! `orch proxy`: programs that know nothing of `orch`, under a policy of its own.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use orch_tests::fakes::api::api;
use orch_tests::home::{Config, Home};
use orch_tests::needle::{self, Needle};
use orch_tests::orch::{Orch, Running};
use orch_tests::process;
use orch_tests::reply::Reply;
use orch_tests::server::Server;
use orch_tests::upstream::Upstream;
use orch_tests::wire::Received;
use serde_json::{Value, json};

use crate::stage::{PROGRAM, Stage, orch};

const SECRET: &str = "ghp_e2eR4w9Kx7Zq2Lm5Tn8Vp3Hd6Bs1Gj0Cf";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A proxy that runs, and what its client was handed.
struct Proxy {
    running: Running,
    ready: Value,
    environment: Vec<(String, String)>,
}

impl Proxy {
    #[track_caller]
    fn start(home: &Home, args: &[&str]) -> Self {
        let file = home.work().join("proxy.env");
        let running = listening(home, &["--json"]).arg("--env-file").arg(&file).args(args).start();
        let ready = serde_json::from_str(&running.first_line()).expect("JSON");
        Self { running, ready, environment: environment(&file) }
    }

    fn address(&self) -> &str {
        self.ready["listening"].as_str().expect("an address")
    }

    fn variable(&self, name: &str) -> &str {
        let found = self.environment.iter().find(|(known, _)| known == name);
        found.map_or_else(|| panic!("no {name} in {:?}", self.environment), |(_, value)| value)
    }

    /// The client's credentials, as its library takes them from the URL.
    fn credentials(&self) -> String {
        let url = self.variable("HTTPS_PROXY");
        let (user, address) = url.strip_prefix("http://").and_then(|url| url.split_once('@')).expect("a URL");
        assert_eq!(address, self.address());
        user.to_owned()
    }

    /// Asks for a URL in absolute form.
    fn get(&self, url: &str, more: &str) -> (u16, String) {
        let host = url.split('/').nth(2).expect("a host");
        let head = format!("GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}");
        self.ask(&head, &self.credentials())
    }

    fn ask(&self, head: &str, credentials: &str) -> (u16, String) {
        ask(self.address(), head, credentials)
    }
}

fn ask(address: &str, head: &str, credentials: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let credentials = data_encoding::BASE64.encode(credentials.as_bytes());
    write!(stream, "{head}Proxy-Authorization: Basic {credentials}\r\n\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    (status.unwrap_or_else(|| panic!("no status in {answer:?}")), answer)
}

/// The first line of an answer that goes on.
fn head(address: &str, head: &str, credentials: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let credentials = data_encoding::BASE64.encode(credentials.as_bytes());
    write!(stream, "{head}Proxy-Authorization: Basic {credentials}\r\n\r\n").expect("written");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("an answer");
    line.trim_end().to_owned()
}

fn listening(home: &Home, args: &[&str]) -> Orch {
    orch(home).args(["proxy", "--listen", "127.0.0.1:0"]).args(args)
}

fn environment(file: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(file).expect("an environment");
    let pair = |line: &str| line.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()));
    text.lines().map(|line| pair(line).unwrap_or_else(|| panic!("{line:?} sets nothing"))).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

/// `api.github.com` wants the token and `other.example.org` takes anything; both are on loopback.
fn hosts() -> (Stage, Upstream, Upstream) {
    let mut stage = Stage::cold();
    let wanted = Upstream::https(&stage.ca, &["api.github.com"], api(SECRET));
    let other = Upstream::https(&stage.ca, &["other.example.org"], |request: &Received| Reply::echo(request));
    let (a, o) = (wanted.address(), other.address());
    stage.configure(|config: Config| {
        config.connect("api.github.com:443", a).connect("other.example.org:443", o)
    });
    (stage, wanted, other)
}

/// The lines of a log in JSON.
fn events(stderr: &str) -> Vec<Value> {
    stderr
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

#[test]
fn a_client_reaches_what_is_allowed_and_nothing_else() {
    let (stage, _api, other) = hosts();
    let proxy = Proxy::start(&stage.home, &["--allow", "other.example.org"]);
    assert_eq!(proxy.ready["allowed"], json!(["https://other.example.org"]));
    assert_eq!(proxy.ready["pid"], proxy.running.pid());
    assert_eq!(proxy.ready["clients"][0]["name"], "default");
    let (status, answer) = proxy.get("http://other.example.org/x?y=1", "");
    assert_eq!(status, 200, "{answer}");
    assert_eq!(other.received()[0].path, "/x");
    let (status, answer) = proxy.get("http://api.github.com/repos/a/b", "");
    assert_eq!(status, 403, "{answer}");
    assert!(answer.contains("host_not_allowed") && answer.contains("rule_missing"), "{answer}");
    let tunnel = "CONNECT api.github.com:443 HTTP/1.1\r\nHost: api.github.com:443\r\n";
    assert_eq!(proxy.ask(tunnel, &proxy.credentials()).0, 403);
    assert_eq!(proxy.ask(tunnel, "default:wrong").0, 407);
    let token = Needle::new(proxy.credentials().split_once(':').expect("a token").1);
    let shown = process::command_line(proxy.running.pid()).expect("it runs");
    needle::none(&token.in_bytes("the command line", shown.as_bytes()));

    proxy.running.terminate();
    let outcome = proxy.running.finish().expect(0);
    needle::none(&outcome.search(&token));
    let events = events(outcome.stderr());
    let said: Vec<(&str, &str, &str)> = events
        .iter()
        .filter(|event| event["event"] == "decision")
        .map(|event| {
            let text = |name: &str| event[name].as_str().unwrap_or_default();
            (text("client"), text("method"), text("verdict"))
        })
        .collect();
    let expected =
        [("default", "GET", "allowed"), ("default", "GET", "denied"), ("default", "CONNECT", "denied")];
    assert_eq!(said, expected, "{outcome}");
    let refused: Vec<&Value> = events.iter().filter(|event| event["event"] == "refused").collect();
    assert_eq!(refused.len(), 1, "{outcome}");
    assert_eq!(refused[0]["code"], "proxy_authentication_required");
}

#[test]
fn a_policy_is_learned_from_the_log() {
    let (stage, _api, other) = hosts();
    let proxy = Proxy::start(&stage.home, &["--allow", "other.example.org", "--log-decisions"]);
    let urls = [
        "http://api.github.com/users/101",
        "http://api.github.com/users/102",
        "http://api.github.com/users/103",
    ];
    for url in urls {
        assert_eq!(proxy.get(url, "").0, 403);
    }
    assert_eq!(proxy.get("http://other.example.org/x", "").0, 200);
    let tunnel = "CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com:443\r\n";
    assert_eq!(proxy.ask(tunnel, &proxy.credentials()).0, 403);
    assert_eq!(proxy.ask(tunnel, "default:wrong").0, 407);
    proxy.running.terminate();
    let outcome = proxy.running.finish().expect(0);
    let log = stage.home.file("proxy.log", outcome.stderr());
    let learned = stage.orch(["policy", "learn", "--log", &log.display().to_string()]).run().expect(0);
    for part in [
        "  # /users/* stands for 3 paths that were seen: /users/101, /users/102, /users/103\n  - host: api.github.com\n    \
         methods: [GET]\n    paths: [\"/users/*\"]\n",
        "  # A tunnel: anything may go through it. Requests to http://api.openai.com/ are judged one by one, and sent over \
         TLS.\n  - host: api.openai.com\n",
        "  - host: other.example.org\n    methods: [GET]\n    paths: [\"/x\"]\n",
    ] {
        assert!(learned.stdout().contains(part), "{part:?} is missing in {learned}");
    }
    // The refusal of a stranger, and what is said at the end.
    assert!(learned.stderr().contains("of the log were passed over"), "{learned}");
    assert!(!learned.stderr().contains("not complete"), "{learned}");
    // What was learned is a policy of the proxy's, and allows it.
    let manifest = stage.home.file("learned.yaml", learned.stdout()).display().to_string();
    let proxy = Proxy::start(&stage.home, &["--manifest", &manifest]);
    for url in [urls[0], "http://other.example.org/x"] {
        assert_ne!(proxy.get(url, "").0, 403, "{url}");
    }
    assert_eq!(head(proxy.address(), tunnel, &proxy.credentials()), "HTTP/1.1 200 OK");
    assert_eq!(proxy.get("http://other.example.org/y", "").0, 403);
    assert_eq!(other.received().len(), 2);

    // From standard input, and for a program.
    let learn = stage.orch(["policy", "learn", "--log", "-", "--json"]).stdin(outcome.stderr());
    let json = learn.run().expect(0).json();
    assert_eq!(
        (&json["requests"], &json["complete"], &json["log"]),
        (&json!(5), &json!(true), &json!("-")),
        "{json:#}"
    );
    assert_eq!(json["egress"][1], json!({ "host": "api.openai.com" }), "{json:#}");
    let skipped = outcome.stderr().lines().count() - 5;
    assert_eq!(json["skipped"], json!(skipped), "{json:#}");
    let other = stage.home.file("other.log", "x\ny\n").display().to_string();
    let outcome = stage.orch(["policy", "learn", "--log", &other, "--json"]).run().expect(2).silent();
    assert_eq!(outcome.error()["code"], "log_without_decisions", "{outcome}");
    stage.orch(["policy", "learn"]).run().expect(2).silent();
}

#[test]
fn the_environment_file_is_its_user_s_alone_and_leaves_nothing_out() {
    let (stage, _api, _other) = hosts();
    let work = stage.home.work();
    // A link in its place is replaced, and what it led to stays as it was.
    let elsewhere = stage.home.file("elsewhere", "mine");
    std::os::unix::fs::symlink(&elsewhere, work.join("proxy.env")).expect("linked");
    let proxy = Proxy::start(&stage.home, &["--allow", "other.example.org"]);
    let file = work.join("proxy.env");
    assert_eq!(mode(&file), 0o600);
    assert!(!fs::symlink_metadata(&file).expect("there").is_symlink());
    assert_eq!(fs::read_to_string(elsewhere).expect("there"), "mine");
    let url = proxy.variable("HTTP_PROXY").to_owned();
    for name in ["HTTPS_PROXY", "http_proxy", "https_proxy"] {
        assert_eq!(proxy.variable(name), url);
    }
    assert_eq!((proxy.variable("NO_PROXY"), proxy.variable("no_proxy")), ("", ""));
    assert_eq!(
        proxy.credentials().split_once(':').map(|(name, token)| (name.to_owned(), token.len())),
        Some(("default".to_owned(), 64))
    );
    let again = Proxy::start(&stage.home, &["--allow", "other.example.org"]);
    assert_ne!(again.credentials(), proxy.credentials(), "tokens are fresh at each start");

    // One file for each of several clients.
    let running =
        listening(&stage.home, &["--client", "ci", "--client", "dev", "--json", "--env-file", "many.env"])
            .start();
    let ready: Value = serde_json::from_str(&running.first_line()).expect("JSON");
    let files: Vec<PathBuf> =
        ["ci", "dev"].iter().map(|name| work.join(format!("many.env.{name}"))).collect();
    let urls: Vec<String> = files.iter().map(|file| environment(file)[0].1.clone()).collect();
    assert_ne!(urls[0], urls[1]);
    assert!(urls[0].starts_with("http://ci:") && urls[1].starts_with("http://dev:"));
    assert_eq!(ready["clients"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_secret_of_the_vault_is_used_and_never_seen() {
    let (stage, api, other) = hosts();
    stage.store("GITHUB_TOKEN", SECRET, &["--host", "api.github.com"]);
    let args = [
        "--allow",
        "api.github.com",
        "--allow",
        "other.example.org",
        "--secret",
        "GITHUB_TOKEN@api.github.com",
    ];
    let proxy = Proxy::start(&stage.home, &args);
    let placeholder = proxy.variable("GITHUB_TOKEN").to_owned();
    assert!(placeholder.starts_with("orch_ph_"));
    let bearer = format!("Authorization: Bearer {placeholder}\r\n");
    let (status, answer) = proxy.get("http://api.github.com/echo", &bearer);
    assert_eq!(status, 200, "{answer}");
    api.took_key(SECRET);
    needle::none(&Needle::new(SECRET).in_bytes("the answer", answer.as_bytes()));
    // To another host that is allowed it goes as it is.
    assert_eq!(proxy.get("http://other.example.org/", &bearer).0, 200);
    assert_eq!(other.received()[0].header("authorization"), Some(&*format!("Bearer {placeholder}")));
    proxy.running.terminate();
    let outcome = proxy.running.finish().expect(0);
    needle::none(&outcome.search(&Needle::new(SECRET)));
    let events = events(outcome.stderr());
    assert_eq!(events[0]["injected"], json!(["GITHUB_TOKEN"]), "{outcome}");
    assert_eq!(events[1]["inert_placeholders"], 1, "{outcome}");
    // That it may be used was put on record before.
    let audit = orch(&stage.home).args(["vault", "audit", "--json"]).run().expect(0);
    assert!(audit.stdout().contains("GITHUB_TOKEN") && audit.stdout().contains("api.github.com"), "{audit}");
    // And how often it was, when the proxy stopped.
    let log = audit.json()["records"].clone();
    let counted: Vec<&Value> =
        log.as_array().into_iter().flatten().filter(|record| record["event"] == "use_counted").collect();
    assert_eq!(counted.len(), 1, "{audit}");
    let Value::Object(fields) = counted[0] else { panic!("{audit}") };
    let said = ["secret", "host", "uses", "complete"].map(|name| fields[name].clone());
    assert_eq!(said, [json!("GITHUB_TOKEN"), json!("api.github.com"), json!(1), json!(true)], "{audit}");
}

/// Asks for the same again and again on one connection, and says how often it was answered with this status.
fn ask_often(address: &str, credentials: &str, (url, more): (&str, &str), times: usize) -> usize {
    let host = url.split('/').nth(2).expect("a host");
    let credentials = data_encoding::BASE64.encode(credentials.as_bytes());
    let request = format!(
        "GET {url} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic {credentials}\r\n{more}\r\n"
    );
    let mut stream = BufReader::new(TcpStream::connect(address).expect("it listens"));
    let line = |stream: &mut BufReader<TcpStream>| {
        let mut line = String::new();
        stream.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    };
    let answered = |_: &usize| {
        stream.get_mut().write_all(request.as_bytes()).expect("written");
        let status = line(&mut stream);
        let (mut length, mut chunked) = (0, false);
        loop {
            let field = line(&mut stream).to_ascii_lowercase();
            match field.split_once(": ") {
                None => break,
                Some(("content-length", value)) => length = value.parse().expect("a number"),
                Some(("transfer-encoding", value)) => chunked = value == "chunked",
                Some(_) => {}
            }
        }
        let skip = |stream: &mut BufReader<TcpStream>, length: u64| {
            std::io::copy(&mut stream.take(length), &mut std::io::sink()).expect("a body")
        };
        skip(&mut stream, length);
        while chunked {
            let size = u64::from_str_radix(&line(&mut stream), 16).expect("a size");
            skip(&mut stream, size + 2);
            chunked = size > 0;
        }
        status.split(' ').nth(1) == Some("200")
    };
    (0..times).filter(answered).count()
}

#[test]
fn however_often_a_secret_is_used_the_count_is_exact() {
    let (stage, api, _other) = hosts();
    stage.store("GITHUB_TOKEN", SECRET, &["--host", "api.github.com"]);
    let secret = ["--secret", "GITHUB_TOKEN@api.github.com", "--client", "ci", "--client", "dev"];
    let tokens = stage.home.file("tokens", &format!("ci:{TOKEN}\ndev:{TOKEN}x\n")).display().to_string();
    let allow = ["--json", "--allow", "api.github.com", "--tokens", &tokens, "--env-file", "proxy.env"];
    let running = listening(&stage.home, &allow).args(secret).start();
    let ready: Value = serde_json::from_str(&running.first_line()).expect("JSON");
    let address = ready["listening"].as_str().expect("an address");
    // More than a ledger keeps, from two clients at once.
    let (often, now_and_then) = (2_100, 30);
    std::thread::scope(|scope| {
        for (client, token, times) in
            [("ci", TOKEN.to_owned(), often), ("dev", format!("{TOKEN}x"), now_and_then)]
        {
            let file = stage.home.work().join(format!("proxy.env.{client}"));
            scope.spawn(move || {
                let found = environment(&file).into_iter().find(|(name, _)| name == "GITHUB_TOKEN");
                let bearer = format!("Authorization: Bearer {}\r\n", found.expect("a placeholder").1);
                let credentials = format!("{client}:{token}");
                let asked = ask_often(address, &credentials, ("http://api.github.com/echo", &bearer), times);
                assert_eq!(asked, times, "{client}");
                let refused = ask_often(address, &credentials, ("http://no.example.org/", &bearer), 600);
                assert_eq!(refused, 0, "{client}");
            });
        }
    });
    assert_eq!(api.received().len(), often + now_and_then);
    running.terminate();
    running.finish().expect(0);
    let audit = orch(&stage.home).args(["vault", "audit", "--json"]).run().expect(0).json();
    let records = audit["records"].as_array().expect("records");
    let mut counted: Vec<(u64, bool)> = records
        .iter()
        .filter(|record| record["event"] == "use_counted" && record["host"] == "api.github.com")
        .map(|record| (record["uses"].as_u64().expect("a count"), record["complete"] == true))
        .collect();
    counted.sort_unstable();
    assert_eq!(counted, [(now_and_then as u64, true), (often as u64, true)], "{audit:#}");
    let denied: Vec<&Value> = records.iter().filter(|record| record["event"] == "denied").collect();
    assert_eq!(denied.len(), 2, "one host of each client, however often: {audit:#}");
    assert!(denied.iter().all(|record| record["host"] == "no.example.org"), "{audit:#}");
}

#[test]
fn a_value_that_a_client_asks_for_is_in_no_log() {
    let (stage, _api, _other) = hosts();
    let value = "e2e4w9kx7zq2lm5tn8vp3hd6bs1gj0cf";
    stage.store("GITHUB_TOKEN", value, &["--host", "api.github.com"]);
    let proxy =
        Proxy::start(&stage.home, &["--allow", "api.github.com", "--secret", "GITHUB_TOKEN@api.github.com"]);
    for url in [format!("http://{value}/{value}"), format!("http://denied.example.org/{value}")] {
        assert_eq!(proxy.get(&url, "").0, 403, "{url}");
    }
    proxy.running.terminate();
    let outcome = proxy.running.finish().expect(0);
    let denied = events(outcome.stderr()).iter().filter(|event| event["verdict"] == "denied").count();
    assert_eq!(denied, 2, "{outcome}");
    let audit = orch(&stage.home).args(["vault", "audit", "--json"]).run().expect(0);
    let needle = Needle::new(value);
    needle::none(&[outcome.search(&needle), audit.search(&needle), stage.home.search(&needle)].concat());
}

#[test]
fn a_manifest_s_egress_counts_as_well() {
    let (stage, _api, _other) = hosts();
    let manifest = "name: local/job\nversion: 1.0.0\nmodule: job.wasm\negress:\n  - { host: other.example.org, methods: \
                    [GET], paths: [\"/v1/*\"] }\n";
    let file = stage.home.file("job.yaml", manifest);
    let proxy = Proxy::start(&stage.home, &["--manifest", &file.display().to_string()]);
    assert_eq!(proxy.ready["allowed"], json!(["https://other.example.org GET /v1/*"]));
    assert_eq!(proxy.get("http://other.example.org/v1/x", "").0, 200);
    let (status, answer) = proxy.get("http://other.example.org/v2/x", "");
    assert!(status == 403 && answer.contains("path_not_allowed"), "{answer}");
    // What cannot be looked into cannot be narrowed.
    let tunnel = "CONNECT other.example.org:443 HTTP/1.1\r\nHost: other.example.org:443\r\n";
    let (status, answer) = proxy.ask(tunnel, &proxy.credentials());
    assert!(status == 403 && answer.contains("connect_narrowed"), "{answer}");
}

#[test]
fn a_manifest_is_read_again_without_a_restart() {
    let (stage, _api, other) = hosts();
    let text = |host: &str| {
        format!(
            "name: local/job\nversion: 1.0.0\nmodule: job.wasm\negress:\n  - {{ host: {host}, methods: [GET] }}\n"
        )
    };
    let file = stage.home.file("job.yaml", &text("api.github.com"));
    let proxy = Proxy::start(&stage.home, &["--manifest", &file.display().to_string()]);
    let url = "http://other.example.org/x";
    assert_eq!(proxy.get(url, "").0, 403);
    fs::write(&file, text("other.example.org")).expect("written");
    assert_eq!(proxy.get(url, "").0, 403, "not before it is told to");
    proxy.running.hang_up();
    proxy.running.wait_says("allowed: https://other.example.org GET");
    assert_eq!(proxy.get(url, "").0, 200);
    assert_eq!(proxy.get("http://api.github.com/repos/a/b", "").0, 403);
    // What makes no sense changes nothing.
    fs::write(&file, "name: [").expect("written");
    proxy.running.hang_up();
    proxy.running.wait_says("nothing has changed");
    assert_eq!(proxy.get(url, "").0, 200);
    assert_eq!(other.received().len(), 2);
    proxy.running.terminate();
    proxy.running.finish().expect(0);
}

#[test]
fn the_configuration_is_read_again_without_a_restart() {
    let (mut stage, _api, first) = hosts();
    let second =
        Upstream::https(&stage.ca, &["other.example.org"], |request: &Received| Reply::echo(request));
    let proxy = Proxy::start(&stage.home, &["--allow", "other.example.org"]);
    let url = "http://other.example.org/x";
    assert_eq!(proxy.get(url, "").0, 200);
    let address = second.address();
    stage.configure(|config| config.connect("other.example.org:443", address));
    assert_eq!(proxy.get(url, "").0, 200);
    assert_eq!((first.received().len(), second.received().len()), (2, 0), "not before it is told to");
    proxy.running.hang_up();
    proxy.running.wait_says("read again");
    assert_eq!(proxy.get(url, "").0, 200);
    assert_eq!((first.received().len(), second.received().len()), (2, 1));
    // What makes no sense changes nothing.
    fs::write(stage.home.orch().join("config.yaml"), "egress: { alow: [] }\n").expect("written");
    proxy.running.hang_up();
    proxy.running.wait_says("nothing has changed");
    assert_eq!(proxy.get(url, "").0, 200);
    assert_eq!((first.received().len(), second.received().len()), (2, 2));
    proxy.running.terminate();
    let outcome = proxy.running.finish().expect(0);
    assert!(outcome.stderr().contains("alow"), "{outcome}");
}

#[test]
fn a_secret_that_is_rotated_or_removed_reaches_a_running_proxy() {
    const NEW: &str = "ghp_rotatedQ7wE9rT2yU4iO6pA8sD1fG3hJ5kL";
    let (stage, _api, other) = hosts();
    stage.store("GITHUB_TOKEN", SECRET, &["--host", "other.example.org"]);
    let policy =
        stage.home.file("job.yaml", "egress: [{ host: second.example.org }]\n").display().to_string();
    let secret = "GITHUB_TOKEN@other.example.org";
    let proxy = Proxy::start(
        &stage.home,
        &["--allow", "other.example.org", "--secret", secret, "--manifest", &policy],
    );
    let bearer = format!("Authorization: Bearer {}\r\n", proxy.variable("GITHUB_TOKEN"));
    let url = "http://other.example.org/x";
    assert_eq!(proxy.get(url, &bearer).0, 200);
    stage.orch(["secrets", "rotate", "GITHUB_TOKEN", "-"]).stdin(NEW).run().expect(0);
    assert_eq!(proxy.get(url, &bearer).0, 200);
    proxy.running.hang_up();
    proxy.running.wait_says("read again");
    let (status, answer) = proxy.get(url, &bearer);
    assert_eq!(status, 200);
    let sent: Vec<_> = other
        .received()
        .iter()
        .map(|request| request.header("authorization").unwrap_or_default().to_owned())
        .collect();
    let old = format!("Bearer {SECRET}");
    assert_eq!(sent, [old.clone(), old, format!("Bearer {NEW}")]);
    needle::none(&Needle::new(NEW).in_bytes("the answer", answer.as_bytes()));
    // What is said of a request is searched for the new value, too.
    assert_eq!(proxy.get(&format!("{url}/{NEW}"), "").0, 200);
    stage.orch(["secrets", "rm", "GITHUB_TOKEN", "--yes"]).run().expect(0);
    fs::write(&policy, "egress: [{ host: third.example.org }]\n").expect("written");
    proxy.running.hang_up();
    // Said once everything has taken effect.
    proxy.running.wait_says("allowed: https://third.example.org");
    let (status, answer) = proxy.get(url, &bearer);
    assert!(status == 403 && answer.contains("removed"), "{answer}");
    assert_eq!(other.received().len(), 4);
    proxy.running.terminate();
    let outcome = proxy.running.finish().expect(0);
    needle::none(&outcome.search(&Needle::new(SECRET)));
    needle::none(&outcome.search(&Needle::new(NEW)));
}

#[test]
fn a_vault_that_a_server_holds_is_named_with_who_holds_it() {
    let (stage, _api, _other) = hosts();
    stage.store("GITHUB_TOKEN", SECRET, &["--host", "api.github.com"]);
    let server = Server::start(PROGRAM, &stage.home);
    let secret = ["--allow", "api.github.com", "--secret", "GITHUB_TOKEN@api.github.com"];
    let proxy = || listening(&stage.home, &["--json", "--env-file", "e"]);
    let outcome = proxy().args(secret).run().expect(7).silent();
    let error = outcome.error();
    assert_eq!(error["code"], "vault_locked", "{outcome}");
    let hints = error["hints"].to_string();
    assert!(hints.contains("the server of this home holds the vault: stop it"), "{outcome}");
    // Without a secret nobody needs the vault.
    let running = proxy().args(["--allow", "api.github.com"]).start();
    running.first_line();
    running.terminate();
    running.finish().expect(0);
    server.terminate().expect(0);
    let running = proxy().args(secret).start();
    running.first_line();
    running.terminate();
    running.finish().expect(0);
}

#[test]
fn a_policy_file_is_enough() {
    let (stage, _api, other) = hosts();
    let text = "egress: [{ host: other.example.org, methods: [GET] }]\nlimits: { requests: 2 }\n";
    let file = stage.home.file("policy.yaml", text).display().to_string();
    let proxy = Proxy::start(&stage.home, &["--manifest", &file]);
    assert_eq!(proxy.ready["allowed"], json!(["https://other.example.org GET"]));
    let statuses: Vec<u16> = (0..3).map(|_| proxy.get("http://other.example.org/", "").0).collect();
    assert_eq!((statuses, other.received().len()), (vec![200, 200, 429], 2));
    // The same file is judged by.
    let urls = stage.home.file("urls", "\"https://other.example.org/\"\n").display().to_string();
    let checked = stage.orch(["policy", "check", "--manifest", &file, "--urls", &urls]).run().expect(0);
    assert!(checked.stdout().contains("\"allow\""), "{checked}");
    for (text, says) in [
        ("egress: []\nlimits: { memory: 1MiB }\n", "policy.yaml:2:19: limits.memory: is a limit of a run"),
        ("egress: []\nsecrets: []\n", "policy.yaml:2:1: secrets: unknown field"),
        ("limits: { requests: 2 }\n", "has no `egress` list"),
    ] {
        let file = stage.home.file("policy.yaml", text).display().to_string();
        let args = ["--json", "--env-file", "e", "--manifest", &file];
        let error = listening(&stage.home, &args).run().expect(2).silent().error();
        assert_eq!(error["code"], "manifest_invalid", "{error:#}");
        assert!(error["message"].as_str().is_some_and(|text| text.contains(says)), "{says}: {error:#}");
    }
}

#[test]
fn tokens_of_a_file_are_taken_and_not_shown() {
    let (stage, _api, _other) = hosts();
    let file = stage.home.file("tokens", &format!("ci:{TOKEN}\n"));
    let running = listening(&stage.home, &["--tokens", "tokens", "--allow", "other.example.org"]).start();
    running.wait_says("listening on http://");
    running.terminate();
    let outcome = running.finish().expect(0);
    needle::none(&outcome.search(&Needle::new(TOKEN)));

    let running =
        listening(&stage.home, &["--tokens", "tokens", "--allow", "other.example.org", "--json"]).start();
    let ready: Value = serde_json::from_str(&running.first_line()).expect("JSON");
    let address = ready["listening"].as_str().expect("an address");
    let head = "GET http://other.example.org/ HTTP/1.1\r\nHost: other.example.org\r\nConnection: close\r\n";
    assert_eq!(ask(address, head, &format!("ci:{TOKEN}")).0, 200);
    drop(running);

    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("opened");
    let outcome = listening(&stage.home, &["--tokens", "tokens", "--json"]).run().expect(2).silent();
    assert_eq!(outcome.error()["code"], "file_unsafe", "{outcome}");
}

#[test]
fn what_makes_no_sense_is_said_before_it_listens() {
    let (stage, _api, _other) = hosts();
    let env = ["--json", "--env-file", "e"];
    for (args, code) in [
        (&["--json"][..], "tokens_unseen"),
        (&["--json", "--allow", "other.example.org"], "tokens_unseen"),
        (&[&env[..], &["--allow", "10.0.0.1"]].concat(), "bad_usage"),
        (&[&env[..], &["--allow-opaque", "other.example.org"]].concat(), "opaque_not_allowed"),
        (&[&env[..], &["--secret", "GITHUB_TOKEN@api.github.com"]].concat(), "secret_unreachable"),
        (&[&env[..], &["--client", "a b"]].concat(), "bad_usage"),
        (&[&env[..], &["--manifest", "absent.yaml"]].concat(), "manifest_invalid"),
        (&[&env[..], &["--drain", "soon"]].concat(), "bad_usage"),
        (&[&env[..], &["--tokens", "absent"]].concat(), "file_not_found"),
        (&["--json", "--env-file", "absent/e"], "env_file_failed"),
    ] {
        let outcome = listening(&stage.home, args).run().expect(2).silent();
        assert_eq!(outcome.error()["code"], code, "{args:?}: {outcome}");
    }
    let args = ["proxy", "--json", "--env-file", "e", "--listen", "0.0.0.0:0"];
    let outcome = orch(&stage.home).args(args).run().expect(2).silent();
    assert_eq!(outcome.error()["code"], "listen_insecure", "{outcome}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let args = ["proxy", "--json", "--env-file", "e", "--listen", &address];
    let outcome = orch(&stage.home).args(args).run().expect(2).silent();
    assert_eq!(outcome.error()["code"], "listen_failed", "{outcome}");
    let secret = ["--allow", "api.github.com", "--secret", "GITHUB_TOKEN@api.github.com"];
    let outcome = listening(&stage.home, &env).args(secret).run().expect(3).silent();
    assert_eq!(outcome.error()["code"], "secret_missing", "{outcome}");
}

#[test]
fn nothing_named_is_nothing_allowed_and_said() {
    let (stage, _api, other) = hosts();
    let running = listening(&stage.home, &["--env-file", "e"]).start();
    running.wait_says("nothing is allowed: every request will be refused");
    running.wait_says("listening on http://");
    running.interrupt();
    running.finish().expect(0);
    assert!(other.received().is_empty());
}
