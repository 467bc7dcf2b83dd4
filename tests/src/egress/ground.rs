//! Where the corpus is run: upstreams that remember every byte, hosts that nobody granted, addresses that must never be
//! reached, and a name server that lies.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::{Value, json};

use super::dns::NameServer;
use super::row::Row;
use crate::ca::Ca;
use crate::home::{Config, Home};
use crate::reply::{Piece, Reply};
use crate::upstream::Upstream;
use crate::wire::Received;

/// The secrets that rows know, by the name of the placeholder. The last one has line breaks.
pub const SECRETS: &[(&str, &str)] = &[
    ("TOKEN", "tok/e2e+Zq9\"Wx7 \\Lm5%Tn8~Vp3Hd6Bs1Gj0Cf"),
    ("QKEY", "qry-e2eR4w9Kx7Zq2Lm5Tn8Vp3Hd6Bs1Gj0Cf"),
    ("FKEY", "fld-e2eN5w8Rq2Mz7Kx4Lp9Vd1Hs6Fj3Gc0Ya"),
    ("BKEY", "bnd-e2eT6x9Sr3Na8Ly5Mq0We2It7Gk4Hd1Zb"),
    ("LINES", "lns-e2eU7y0Ts4Ob9Mz6\r\nx-injected: Nr1Xf3Ju8"),
];

/// What the owner of each secret says, as flags of `orch secrets set`.
pub fn owners_say(name: &str) -> &'static [&'static str] {
    match name {
        "TOKEN" => &["--host", "api.example.com"],
        "QKEY" => &["--host", "query.example.com", "--in", "query:key"],
        "FKEY" => &["--host", "field.example.com", "--in", "header:x-api-key"],
        "BKEY" => &["--host", "bound.example.com", "--method", "GET", "--path", "/repos/**"],
        "LINES" => &["--host", "lines.example.com", "--in", "query:key", "--multiline"],
        other => panic!("nobody owns {other}"),
    }
}

/// Hosts of rules, and those of the secrets' policy.
const HOSTS: &[&str] = &[
    "api.example.com",
    "narrow.example.com",
    "other.example.com",
    "query.example.com",
    "field.example.com",
    "bound.example.com",
    "lines.example.com",
    "ports.example.com",
    "xn--bcher-kva.example.com",
];

/// A host that is there for everybody, and granted to nobody.
const THIEF: &str = "thief.example.org";

/// Upstreams, canaries and names for one policy.
pub struct Ground {
    /// Whom the run trusts.
    pub ca: Ca,
    /// Every granted host over TLS.
    pub secure: Upstream,
    /// The granted host without.
    pub plain: Upstream,
    /// The host that nobody granted.
    pub thief: Upstream,
    /// Every address of this machine at one port.
    pub canary: Canary,
    /// Answers for names that are led nowhere else.
    pub names: NameServer,
    hosts: BTreeSet<String>,
}

impl Ground {
    /// Starts everything that these rows need.
    pub fn new(rows: &[Row]) -> Self {
        let ca = Ca::new();
        let mut hosts: BTreeSet<String> = HOSTS.iter().map(ToString::to_string).collect();
        for seen in rows.iter().filter_map(|row| row.expect.sees.as_ref()) {
            let host = seen.fields.iter().find(|(name, _)| name == "host").map(|(_, value)| value);
            let host = host.unwrap_or_else(|| panic!("{seen:?} has no host"));
            hosts.insert(host.split(':').next().unwrap_or_default().to_owned());
        }
        let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let secure = Upstream::https(&ca, &names, answer);
        let plain = Upstream::http(answer);
        let thief = Upstream::https(&ca, &[THIEF], |_: &Received| Reply::text(200, "loot"));
        let (canary, server) = (Canary::start(), NameServer::start());
        for row in rows {
            if let (Some(answers), Some(request)) = (&row.dns, &row.request) {
                server.tell(request.authority.split(':').next().unwrap_or_default(), answers);
            }
        }
        Self { ca, secure, plain, thief, canary, names: server, hosts }
    }

    /// The operator's configuration that leads here.
    pub fn config(&self, home: &Home) -> Config {
        let mut config = Config::trusting(&self.ca, home)
            .name_server(self.names.address())
            .connect("plain.example.com:80", self.plain.address())
            .connect("ports.example.com:8443", self.secure.address());
        for port in [80, 443] {
            config = config.connect(&format!("{THIEF}:{port}"), self.thief.address());
        }
        for host in self.hosts.iter().filter(|host| *host != "plain.example.com") {
            config = config.connect(&format!("{host}:443"), self.secure.address());
        }
        config
    }

    /// What reached a granted host.
    pub fn received(&self) -> Vec<Received> {
        let mut all = self.secure.received();
        all.extend(self.plain.received());
        all
    }

    /// What arrived and was no whole request. TLS that was tried and given up is none of it.
    pub fn faults(&self) -> Vec<String> {
        let mut all = self.secure.faults();
        all.extend(self.plain.faults());
        all
    }

    /// Fails unless nothing reached what must not be reached.
    #[track_caller]
    pub fn nothing_got_out(&self) {
        self.thief.untouched();
        let touched = self.canary.touched();
        assert!(touched.is_empty(), "somebody reached this machine: {touched:#?}");
        let strangers = self.names.strangers();
        assert!(strangers.is_empty(), "names were looked up that nobody granted: {strangers:?}");
    }

    /// The manifest's fields for a policy.
    pub fn manifest(&self, policy: &str) -> Value {
        let egress = match policy {
            "open" => json!([
                { "host": "api.example.com" },
                { "host": "plain.example.com", "scheme": "http" },
                { "host": "narrow.example.com", "methods": ["GET"], "paths": ["/repos/**"] },
                { "host": "ports.example.com", "port": 8443 },
                { "host": "*.wild.example.com" },
                { "host": "xn--bcher-kva.example.com" },
                { "host": "*.dns.example.com", "scheme": "http", "port": self.canary.port() },
                { "host": "loop.example.com", "scheme": "http" },
            ]),
            "secrets" => json!([
                { "host": "api.example.com" },
                { "host": "other.example.com" },
                { "host": "query.example.com" },
                { "host": "field.example.com" },
                { "host": "bound.example.com" },
                { "host": "lines.example.com" },
            ]),
            "empty" => json!([]),
            other => panic!("there is no policy {other}"),
        };
        let mut fields = json!({ "limits": { "requests": 100_000, "output": "256MiB", "memory": "1GiB", "time": "10m", "cpu": "10m" } });
        if egress != json!([]) {
            fields["egress"] = egress;
        }
        if policy == "secrets" {
            fields["secrets"] = SECRETS.iter().map(|(name, _)| json!({ "name": name })).collect();
        }
        fields
    }

    /// The flags that grant what the manifest wants.
    pub fn allowed(&self, policy: &str) -> Vec<String> {
        let manifest = self.manifest(policy);
        let wants = manifest["egress"].as_array().cloned().unwrap_or_default();
        let allow = |want: &Value| {
            let host = want["host"].as_str().expect("a rule has a host");
            let port = match (want["port"].as_u64(), want["scheme"].as_str()) {
                (Some(port), _) => port,
                (None, Some("http")) => 80,
                _ => 443,
            };
            ["--allow".to_owned(), format!("{host}:{port}")]
        };
        wants.iter().flat_map(allow).collect()
    }
}

/// Listens on every address of this machine and remembers who came.
pub struct Canary {
    port: u16,
    touched: Arc<Mutex<Vec<String>>>,
}

impl Canary {
    fn start() -> Self {
        // Both families on one port; where there is no IPv6, IPv4 alone is all there is to reach.
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))
            .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))
            .expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let touched = Arc::<Mutex<Vec<String>>>::default();
        let shared = Arc::clone(&touched);
        // It ends with the process, and holds nothing but its socket.
        let _accepting = thread::spawn(move || {
            while let Ok((stream, from)) = listener.accept() {
                let at: Option<SocketAddr> = stream.local_addr().ok();
                shared.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{from} at {at:?}"));
            }
        });
        Self { port, touched }
    }

    /// The port, the same on every address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who came.
    pub fn touched(&self) -> Vec<String> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What the granted hosts answer.
fn answer(request: &Received) -> Reply {
    if request.method == "HEAD" {
        return Reply::text(200, "");
    }
    let told =
        request.header("authorization").and_then(|line| line.strip_prefix("Bearer ")).unwrap_or("nobody");
    let steps: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
    match steps[..] {
        ["echo", form, place] => echo(told, form, place),
        ["coded", coding] => {
            Reply::text(200, told).with_header("content-encoding", &coding.replace('+', ", "))
        }
        // It remembers what it was told by requests before.
        ["remembered"] => Reply::text(200, &format!("you said {}", SECRETS[0].1)),
        ["redirect", status] => {
            Reply::redirect(status.parse().unwrap_or(302), request.query.as_deref().unwrap_or_default())
        }
        _ => Reply::text(200, "ok"),
    }
}

fn echo(value: &str, form: &str, place: &str) -> Reply {
    let spelled = super::fill::spelled(value, form);
    let sentence = format!("you said {spelled}, did you?");
    let chunks =
        |size: usize| sentence.as_bytes().chunks(size).map(|part| Piece::Bytes(part.to_vec())).collect();
    let stream = |pieces| Reply::Stream { status: 200, headers: Vec::new(), pieces };
    match place {
        "body" => Reply::text(200, &sentence),
        "bytes" => stream(chunks(1)),
        "sevens" => stream(chunks(7)),
        "field" => Reply::text(200, "ok").with_header("x-echo", &sentence),
        "error" => Reply::text(500, &sentence),
        "trailer" => Reply::Raw(
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-echo\r\n\r\n2\r\nok\r\n0\r\nx-echo: {sentence}\r\n\r\n")
                .into_bytes(),
        ),
        "cookie" => Reply::text(200, "ok").with_header("set-cookie", &format!("t={spelled}; Path=/")),
        "location" => Reply::redirect(302, &format!("https://api.example.com/?t={spelled}")),
        "challenge" => Reply::text(401, "no").with_header("www-authenticate", &format!("Bearer realm=\"{spelled}\"")),
        "events" => Reply::sse(vec![Piece::text(format!("data: {sentence}\n\n")), Piece::text("data: [DONE]\n\n")]),
        "json" => Reply::json(200, &json!({ "error": { "message": sentence } })),
        "html" => Reply::text(404, &format!("<html><body>{sentence}</body></html>")),
        "twice" => Reply::text(200, &format!("{spelled}{spelled} and {}{spelled}", &spelled[..8])),
        "deep" => Reply::text(200, &format!("{}{sentence}", "x".repeat(200_000))),
        "end" => Reply::text(200, &format!("you said {spelled}")),
        "start" => Reply::text(200, &format!("{spelled} is what you said")),
        "name" => {
            let name: String = value.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            Reply::text(200, "ok").with_header(&name, "v")
        }
        "reason" => Reply::Raw(format!("HTTP/1.1 200 {spelled}\r\ncontent-length: 2\r\n\r\nok").into_bytes()),
        other => panic!("no host echoes in {other}"),
    }
}
