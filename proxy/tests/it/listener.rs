//! The listener for other workloads, as raw bytes: who may use it, what it makes of requests, and what it refuses.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orch_proxy::{
    Client, ClientName, ClientToken, Grant, Limits, Listener, ListenerLimits, LiveGrant, Outcome, Proxy,
    Reason, SCRUBBED, TunnelEnd, Witness,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::*;

pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// What a witness heard.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) refused: Mutex<Vec<(Option<String>, &'static str)>>,
    pub(crate) tunnels: Mutex<Vec<TunnelEnd>>,
}

impl Witness for Heard {
    fn refused(&self, _: SocketAddr, client: Option<&ClientName>, reason: &Reason) {
        self.refused.lock().unwrap().push((client.map(ToString::to_string), reason.code));
    }

    fn tunnel_ended(&self, _: &ClientName, end: &TunnelEnd) {
        self.tunnels.lock().unwrap().push(end.clone());
    }
}

/// A listener that runs as long as a test, with one client, `me`.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) grant: Arc<LiveGrant>,
    pub(crate) heard: Arc<Heard>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinSet<()>,
}

impl Running {
    pub(crate) async fn over(proxy: Arc<Proxy>, grant: Grant) -> Self {
        Self::with(proxy, grant, &[], ListenerLimits::default()).await
    }

    pub(crate) async fn with(
        proxy: Arc<Proxy>,
        grant: Grant,
        opaque: &[&str],
        limits: ListenerLimits,
    ) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), proxy, limits).await.unwrap();
        let (address, grant) = (listener.address(), live(grant));
        let client = Client {
            name: "me".parse().unwrap(),
            token: ClientToken::parse(TOKEN).unwrap(),
            grant: Arc::clone(&grant),
            opaque: opaque.iter().map(|host| host.parse().unwrap()).collect(),
        };
        let heard = Arc::new(Heard::default());
        let witness: Arc<dyn Witness> = heard.clone();
        let (stop, stopped) = oneshot::channel();
        let mut serving = JoinSet::new();
        serving.spawn(listener.serve(
            vec![client],
            witness,
            async move { drop(stopped.await) },
            Duration::from_millis(300),
        ));
        Self { address, grant, heard, stop: Some(stop), serving }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends these bytes on a connection of their own and reads until it is closed, or nothing comes for a while.
    pub(crate) async fn says(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        rest(&mut stream).await
    }

    /// The codes of all decisions.
    pub(crate) fn decisions(&self) -> Vec<&'static str> {
        let decisions = self.grant.ledger().decisions();
        decisions.iter().map(|decision| decision.reason.as_ref().map_or("", |reason| reason.code)).collect()
    }

    pub(crate) async fn stop(&mut self) {
        drop(self.stop.take());
        while self.serving.join_next().await.is_some() {}
    }
}

pub(crate) async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(Ok(count @ 1..)) = timeout(Duration::from_millis(400), stream.read(&mut piece)).await {
        bytes.extend_from_slice(&piece[..count]);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn credentials(name: &str, token: &str) -> String {
    let text = data_encoding::BASE64.encode(format!("{name}:{token}").as_bytes());
    format!("Proxy-Authorization: Basic {text}\r\n")
}

pub(crate) fn mine() -> String {
    credentials("me", TOKEN)
}

/// A request with the client's credentials and these lines.
fn ask(line: &str, more: &str) -> String {
    format!("{line}\r\n{}{more}\r\n", mine())
}

fn plain(url: &str) -> String {
    ask(&format!("GET {url} HTTP/1.1"), "Host: api.example.com\r\n")
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

/// The `code` of an answer's body.
fn code_of(answer: &str) -> String {
    let (_, body) = answer.rsplit_once("\r\n\r\n").unwrap_or_else(|| panic!("no body in {answer:?}"));
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer:?}"));
    body["error"]["code"].as_str().unwrap().to_owned()
}

/// A listener over a server that always says the same, for everything on its host over TLS.
async fn answering_listener() -> (Upstream, Running) {
    let (upstream, proxy) = answering(OK).await;
    let running = Running::over(proxy, grant(vec![rule("https://api.example.com")])).await;
    (upstream, running)
}

#[tokio::test]
async fn nobody_passes_without_a_token() {
    let (upstream, running) = answering_listener().await;
    let url = "GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n";
    let tunnel = "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n";
    for wrong in [
        String::new(),
        credentials("me", "x"),
        credentials("other", TOKEN),
        credentials("ME", TOKEN),
        credentials("", TOKEN),
        format!("Proxy-Authorization: Bearer {TOKEN}\r\n"),
        format!(
            "Authorization: Basic {}\r\n",
            data_encoding::BASE64.encode(format!("me:{TOKEN}").as_bytes())
        ),
        mine() + &mine(),
    ] {
        for line in [url, tunnel] {
            let answer = running.says(format!("{line}{wrong}\r\n")).await;
            assert_eq!(status(&answer), "407", "{wrong:?}");
            assert!(answer.contains("proxy-authenticate: Basic realm=\"orch\""), "{answer}");
            assert!(!answer.contains(TOKEN));
        }
    }
    assert!(running.grant.ledger().decisions().is_empty());
    assert_eq!((running.grant.requests_used(), upstream.accepted()), (0, 0));
    let heard = running.heard.refused.lock().unwrap();
    assert!(heard.iter().all(|refused| *refused == (None, "proxy_authentication_required")), "{heard:?}");
}

#[tokio::test]
async fn an_unknown_client_costs_no_lookup() {
    let told = Told::of(HOST, &[&["127.0.0.1"]]);
    let proxy = Proxy::new(orch_proxy::ProxyConfig::default(), Arc::clone(&told) as _).unwrap();
    let running = Running::over(proxy, grant(vec![rule("https://api.example.com")])).await;
    running.says("GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n").await;
    running.says("CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n").await;
    // Neither does a host that is not allowed, whoever asks.
    running.says(ask("CONNECT evil.example:443 HTTP/1.1", "Host: evil.example:443\r\n")).await;
    assert_eq!(told.asked(), Vec::<String>::new());
    // The one that is allowed does, once, and its address is judged.
    let answer =
        running.says(ask("CONNECT api.example.com:443 HTTP/1.1", "Host: api.example.com:443\r\n")).await;
    assert_eq!((status(&answer), code_of(&answer).as_str()), ("403", "address_refused"));
    assert_eq!(told.asked(), [HOST]);
}

#[tokio::test]
async fn a_connection_is_not_kept_for_guesses() {
    let (_upstream, running) = answering_listener().await;
    let guess = "GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    let answers = running.says(guess.repeat(10)).await;
    assert_eq!(answers.matches("HTTP/1.1 407").count(), 3);
}

#[tokio::test]
async fn plain_http_to_a_host_that_is_granted_over_tls_goes_over_tls() {
    let (upstream, running) = answering_listener().await;
    let request = ask(
        "GET http://API.example.com/a/../b?c HTTP/1.1",
        "Host: api.example.com\r\nX-Forwarded-For: 10.0.0.1\r\nProxy-Connection: keep-alive\r\nX-Mine: 1\r\n",
    );
    let answer = running.says(request).await;
    assert_eq!(status(&answer), "200");
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    let arrived = upstream.requests();
    assert_eq!(arrived[0].line(), "GET /b?c HTTP/1.1");
    for (name, values) in [
        ("host", vec![HOST]),
        ("x-mine", vec!["1"]),
        ("x-forwarded-for", vec![]),
        ("proxy-connection", vec![]),
        ("proxy-authorization", vec![]),
        ("connection", vec![]),
    ] {
        assert_eq!(arrived[0].fields(name), values, "{name}");
    }
    assert_eq!(arrived[0].fields("via").len(), 1);
    let decision = running.grant.ledger().decisions().pop().unwrap();
    assert_eq!((decision.scheme, decision.port), (Some(orch_manifests::Scheme::Https), 443));
}

/// An answer that is larger than all buffers between the upstream and a client together.
const ENDLESS: usize = 64 << 20;

/// A server whose answers have [`ENDLESS`] bytes, and say when their connection is over.
async fn endless() -> (Upstream, Arc<Proxy>, tokio::sync::mpsc::UnboundedReceiver<()>) {
    let (over, told) = tokio::sync::mpsc::unbounded_channel();
    let (upstream, proxy) = scripted(
        move |_, mut wire| {
            let over = over.clone();
            async move {
                if wire.request().await.is_some() {
                    wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {ENDLESS}\r\n\r\n")).await;
                    let mut io = wire.into_io();
                    let piece = vec![b'x'; 64 << 10];
                    while io.write_all(&piece).await.is_ok() {}
                    let _ = over.send(());
                }
            }
        },
        |_| {},
    )
    .await;
    (upstream, proxy, told)
}

#[tokio::test]
async fn a_client_that_takes_no_byte_of_an_answer_is_cut() {
    let (_upstream, proxy, mut over) = endless().await;
    let limits = ListenerLimits { write_idle: Duration::from_millis(400), ..ListenerLimits::default() };
    let running = Running::with(proxy, grant(vec![rule("https://api.example.com")]), &[], limits).await;
    let mut idle = running.connect().await;
    idle.write_all(plain("http://api.example.com/").as_bytes()).await.unwrap();
    // One that takes a little from time to time is none of them.
    let mut slow = running.connect().await;
    slow.write_all(plain("http://api.example.com/").as_bytes()).await.unwrap();
    let mut piece = vec![0; 1 << 20];
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_millis(1500) {
        assert!(slow.read(&mut piece).await.unwrap() > 0, "cut after {:?}", began.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The one that took nothing is gone, and so is what was fetched for it.
    timeout(Duration::from_secs(5), over.recv()).await.expect("its upstream is let go").unwrap();
    let mut taken = 0;
    let cut = timeout(Duration::from_secs(5), async {
        while let Ok(count @ 1..) = idle.read(&mut piece).await {
            taken += count;
        }
    });
    cut.await.expect("its connection ends");
    assert!(taken < ENDLESS / 2, "{taken} bytes of the answer were waiting");
    assert_eq!(running.grant.running(), 1, "the other one goes on");
}

#[tokio::test]
async fn a_client_that_holds_all_it_may_have_holds_up_nobody_else() {
    let (_upstream, proxy, _over) = endless().await;
    // Places for both, as `orch proxy` shares them out.
    let limits = ListenerLimits { connections: 16, connections_per_client: 8, ..ListenerLimits::default() };
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), proxy, limits).await.unwrap();
    let address = listener.address();
    let of = |workspace: &str, concurrent| {
        let grant = grant(vec![rule("https://api.example.com")]);
        let run = orch_proxy::Shares { concurrent, ..grant.limits.run };
        live(Grant { workspace: workspace.to_owned(), limits: Limits { run, ..grant.limits }, ..grant })
    };
    let (greedy, modest) = (of("client greedy", 8), of("client modest", 8));
    let client = |name: &str, grant: &Arc<LiveGrant>| Client {
        name: name.parse().unwrap(),
        token: ClientToken::parse(&format!("{TOKEN}{name}")).unwrap(),
        grant: Arc::clone(grant),
        opaque: Vec::new(),
    };
    let clients = vec![client("greedy", &greedy), client("modest", &modest)];
    let (stop, stopped) = oneshot::channel::<()>();
    let mut serving = JoinSet::new();
    let stopped = async move { drop(stopped.await) };
    serving.spawn(listener.serve(clients, Arc::new(()), stopped, Duration::from_millis(300)));

    let ask = |name: &str| {
        let credentials = credentials(name, &format!("{TOKEN}{name}"));
        format!("GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n{credentials}\r\n")
    };
    // As many answers as it may have, none of which it reads; what it wants beyond that is refused.
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(ask("greedy").as_bytes()).await.unwrap();
        stream.peek(&mut [0]).await.unwrap();
        held.push(stream);
    }
    let mut more = TcpStream::connect(address).await.unwrap();
    more.write_all(ask("greedy").as_bytes()).await.unwrap();
    let refused = rest(&mut more).await;
    assert_eq!((status(&refused), code_of(&refused).as_str()), ("503", "too_many_connections"));
    // The other one is served as if nobody else was there, again and again.
    for round in 0..20 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let began = std::time::Instant::now();
        stream.write_all(ask("modest").as_bytes()).await.unwrap();
        let mut head = vec![0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(head, b"HTTP/1.1 200", "round {round}");
        assert!(began.elapsed() < Duration::from_secs(2), "round {round}: {:?}", began.elapsed());
        drop(stream);
        let gone = timeout(Duration::from_secs(5), async {
            while modest.running() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        gone.await.expect("what nobody reads is let go");
    }
    assert_eq!((greedy.requests_used(), modest.requests_used()), (8, 20));
    drop((held, stop));
    while serving.join_next().await.is_some() {}
}

#[tokio::test]
async fn a_plain_rule_keeps_plain_http_plain() {
    let ca = Ca::new();
    let tls = Upstream::answering(Some(ca.server(&[HOST])), OK).await;
    let open = Upstream::answering(None, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain").await;
    let proxy =
        proxy_with(&ca, &tls, |config| config.connect_to.push(((HOST.parse().unwrap(), 80), open.addr)));
    let rules = vec![rule("https://api.example.com"), rule("http://api.example.com")];
    let running = Running::over(proxy, grant(rules)).await;
    assert!(running.says(plain("http://api.example.com/")).await.ends_with("plain"));
    assert!(running.says(plain("https://api.example.com/")).await.ends_with("ok"));
    assert_eq!((tls.accepted(), open.accepted()), (1, 1));
}

#[tokio::test]
async fn a_secret_gets_in_on_the_way_and_out_of_the_answer() {
    let (upstream, proxy) = scripted(
        |_, mut wire| async move {
            while let Some(request) = wire.request().await {
                let echo = request.fields("authorization").join(",");
                wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{echo}", echo.len())).await;
            }
        },
        |_| {},
    )
    .await;
    let binding = bind("authorization", vec![target("https://api.example.com")]);
    let placeholder = binding.placeholder.to_string();
    let mut grant = grant(vec![rule("https://api.example.com")]);
    grant.bindings = vec![binding];
    let running = Running::over(proxy, grant).await;
    let more = format!("Host: api.example.com\r\nAuthorization: Bearer {placeholder}\r\n");
    let answer = running.says(ask("GET http://api.example.com/ HTTP/1.1", &more)).await;
    assert_eq!(status(&answer), "200");
    assert!(answer.contains(&format!("Bearer {SCRUBBED}")), "{answer}");
    assert!(!answer.contains(SECRET));
    assert_eq!(upstream.requests()[0].fields("authorization"), [format!("Bearer {SECRET}")]);
    assert_eq!(running.grant.ledger().decisions()[0].injected, ["TEST_KEY"]);
}

#[tokio::test]
async fn what_is_not_allowed_is_said_in_json() {
    let (upstream, running) = answering_listener().await;
    let answer = running.says(ask("DELETE http://evil.example/x HTTP/1.1", "Host: evil.example\r\n")).await;
    assert_eq!(status(&answer), "403");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let error = &body["error"];
    assert_eq!((&error["type"], &error["code"]), (&"egress_denied".into(), &"host_not_allowed".into()));
    assert_eq!(error["host"], "evil.example");
    let missing = serde_json::json!({
        "scheme": "https", "host": "evil.example", "port": 443, "method": "DELETE", "path": "/x",
    });
    assert_eq!(error["rule_missing"], missing);
    let line = "- { host: evil.example, methods: [DELETE], paths: [\"/x\"] }";
    assert!(error["next_steps"][0].as_str().unwrap().contains(line));
    assert_eq!(running.decisions(), ["host_not_allowed"]);
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn what_is_not_clearly_one_request_is_refused() {
    let (upstream, running) = answering_listener().await;
    let url = "POST http://api.example.com/ HTTP/1.1";
    let host = "Host: api.example.com\r\n";
    for (request, expected) in [
        // Where does it end?
        (
            ask(url, &format!("{host}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n")) + "0\r\n\r\n",
            "framing_refused",
        ),
        (
            ask(url, &format!("{host}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n")) + "0\r\n\r\n",
            "framing_refused",
        ),
        (ask(url, &format!("{host}Content-Length: 4\r\nContent-Length: 4\r\n")) + "abcd", "framing_refused"),
        (ask(url, &format!("{host}Content-Length: 4\r\nContent-Length: 5\r\n")) + "abcd", "framing_refused"),
        (
            ask(url, &format!("{host}Transfer-Encoding: chunked, chunked\r\n")) + "0\r\n\r\n",
            "framing_refused",
        ),
        (ask(url, &format!("{host}Transfer-Encoding:\x0bchunked\r\n")) + "0\r\n\r\n", "malformed_request"),
        (ask(url, &format!("{host}Transfer-Encoding : chunked\r\n")) + "0\r\n\r\n", "malformed_request"),
        // Where does it go?
        (ask(url, "Host: api.example.com\r\nHost: api.example.com\r\n"), "authority_conflict"),
        (ask(url, "Host: evil.example\r\n"), "authority_conflict"),
        (ask(url, "Host: api.example.com:8443\r\n"), "authority_conflict"),
        (ask(url, ""), "authority_conflict"),
        (ask("GET http://me@api.example.com/ HTTP/1.1", host), "target_refused"),
        (ask("GET http://api.example.com/#x HTTP/1.1", host), "malformed_request"),
        // How do its lines end?
        (ask(url, &format!("{host}X: a\r\n b\r\n")), "malformed_request"),
        (ask(url, host).replace("\r\n", "\n"), "malformed_request"),
        (ask(url, &format!("{host}X: a\nY: b\r\n")), "malformed_request"),
        (ask(url, &format!("{host}X: a\rY: b\r\n")), "malformed_request"),
        (ask(url, &format!("{host}X: a\0b\r\n")), "malformed_request"),
        // What is it?
        (ask("GET / HTTP/1.1", host), "target_refused"),
        (ask("OPTIONS * HTTP/1.1", host), "target_refused"),
        (ask("GET ftp://api.example.com/ HTTP/1.1", host), "scheme_refused"),
        (ask("GET http://10.0.0.1/ HTTP/1.1", "Host: 10.0.0.1\r\n"), "ip_literal_refused"),
        (ask("TRACE http://api.example.com/ HTTP/1.1", host), "method_refused"),
        (ask("CONNECT api.example.com HTTP/1.1", host), "target_refused"),
        (ask("CONNECT api.example.com:443 HTTP/1.1", "Host: evil.example:443\r\n"), "authority_conflict"),
        (ask("CONNECT 10.0.0.1:443 HTTP/1.1", "Host: 10.0.0.1:443\r\n"), "ip_literal_refused"),
        (
            ask(
                "GET http://api.example.com/ HTTP/1.1",
                &format!("{host}Connection: upgrade\r\nUpgrade: websocket\r\n"),
            ),
            "upgrade_refused",
        ),
        (ask("GET http://api.example.com/ HTTP/2.0", host), "version_refused"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), "version_refused"),
        (ask(url, &format!("{host}X: {}\r\n", "x".repeat(70 << 10))), "headers_too_large"),
        (ask(url, &format!("{host}{}", "X: y\r\n".repeat(100))), "headers_too_large"),
        (plain(&format!("http://api.example.com/{}", "x".repeat(17 << 10))), "url_too_long"),
        ("x".repeat(100 << 10), "headers_too_large"),
    ] {
        let answer = running.says(&request).await;
        let shown: String = request.chars().take(200).collect();
        assert!(answer.starts_with("HTTP/1.1 "), "{shown:?} got {answer:?}");
        assert_eq!(code_of(&answer), expected, "{shown:?}");
        assert_eq!(answer.matches("content-length: ").count(), 1, "{shown:?} got {answer:?}");
    }
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn what_follows_a_request_is_one_of_its_own_or_nothing() {
    let (upstream, running) = answering_listener().await;
    // Two that stand together get two answers, in order.
    let two = plain("http://api.example.com/1") + &plain("http://api.example.com/2");
    let answers = running.says(two).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    // One without credentials is nobody's, whatever stood before it.
    let nobody = "GET http://api.example.com/3 HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    let answers = running.says(plain("http://api.example.com/4") + nobody).await;
    assert_eq!((answers.matches("HTTP/1.1 200").count(), answers.matches("HTTP/1.1 407").count()), (1, 1));
    // What looks like a request inside a body is a body.
    let inner = plain("http://api.example.com/inner");
    let outer = ask(
        "POST http://api.example.com/5 HTTP/1.1",
        &format!("Host: api.example.com\r\nContent-Length: {}\r\n", inner.len()),
    );
    let answers = running.says(outer + &inner + &plain("http://api.example.com/6")).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    let chunked = ask(
        "POST http://api.example.com/7 HTTP/1.1",
        "Host: api.example.com\r\nTransfer-Encoding: chunked\r\n",
    ) + &format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    let answers = running.says(chunked + &plain("http://api.example.com/8")).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    let lines: Vec<String> = upstream.requests().iter().map(|raw| raw.line().to_owned()).collect();
    let paths: Vec<&str> = lines.iter().map(|line| line.split(' ').nth(1).unwrap()).collect();
    assert_eq!(paths, ["/1", "/2", "/4", "/5", "/6", "/7", "/8"]);
    // After a broken one there is nothing any more, and after broken chunks neither.
    let broken = ask("GET http://api.example.com/ HTTP/1.1", "Host: api.example.com\r\nHost: b\r\n");
    let answers = running.says(broken + &plain("http://api.example.com/9")).await;
    assert_eq!((answers.matches("HTTP/1.1").count(), status(&answers)), (1, "400"));
    let chunks = ask(
        "POST http://api.example.com/10 HTTP/1.1",
        "Host: api.example.com\r\nTransfer-Encoding: chunked\r\n",
    ) + "3\r\nabcX\r\n0\r\n\r\n";
    running.says(chunks + &plain("http://api.example.com/11")).await;
    let lines: Vec<String> = upstream.requests().iter().map(|raw| raw.line().to_owned()).collect();
    assert!(!lines.iter().any(|line| line.contains("/9") || line.contains("/11")), "{lines:?}");
}

#[tokio::test]
async fn a_head_may_come_byte_by_byte_but_not_for_ever() {
    let (_upstream, proxy) = answering(OK).await;
    let limits = ListenerLimits { header_read: Duration::from_millis(500), ..ListenerLimits::default() };
    let grant = grant(vec![rule("https://api.example.com")]);
    let running = Running::with(proxy, grant, &[], limits).await;
    let mut stream = running.connect().await;
    for byte in plain("http://api.example.com/").bytes() {
        stream.write_all(&[byte]).await.unwrap();
    }
    assert_eq!(status(&rest(&mut stream).await), "200");
    for begun in
        ["", "GET http://api.exa", "GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n"]
    {
        let mut stream = running.connect().await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        let mut end = Vec::new();
        let read = timeout(Duration::from_secs(5), stream.read_to_end(&mut end)).await;
        assert!(read.is_ok(), "{begun:?} stands");
        assert!(!String::from_utf8_lossy(&end).contains(" 200 "));
    }
}

#[tokio::test]
async fn connections_are_bounded() {
    let (_upstream, proxy) = answering(OK).await;
    let limits = ListenerLimits { connections: 3, connections_per_client: 2, ..ListenerLimits::default() };
    let grant = grant(vec![rule("https://api.example.com")]);
    let running = Running::with(proxy, grant, &[], limits).await;
    let request = plain("http://api.example.com/");
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = running.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(status(&rest(&mut stream).await), "200");
        kept.push(stream);
    }
    // The third of one client is one too many; it is nobody's, and there is room for one of nobody's.
    let answer = running.says(&request).await;
    assert_eq!((status(&answer), code_of(&answer).as_str()), ("503", "too_many_connections"));
    let nobody = running.connect().await;
    // Now three stand, and the next one waits until one goes.
    let mut waiting = running.connect().await;
    waiting.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(rest(&mut waiting).await, "");
    drop(kept);
    assert_eq!(status(&rest(&mut waiting).await), "200");
    drop(nobody);
}

#[tokio::test]
async fn those_who_say_nothing_keep_nobody_out() {
    let (_upstream, proxy) = answering(OK).await;
    let limits = ListenerLimits { connections: 32, ..ListenerLimits::default() };
    let running = Running::with(proxy, grant(vec![rule("https://api.example.com")]), &[], limits).await;
    let request = plain("http://api.example.com/");
    let mut kept = running.connect().await;
    kept.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(status(&rest(&mut kept).await), "200");
    let mut silent = Vec::new();
    for _ in 0..60 {
        silent.push(running.connect().await);
    }
    assert_eq!(status(&running.says(&request).await), "200");
    // The oldest were closed for the others; who had shown its token was not.
    assert!(matches!(timeout(Duration::from_secs(5), silent[0].read(&mut [0])).await, Ok(Ok(0) | Err(_))));
    let newest = silent.last_mut().unwrap();
    assert!(timeout(Duration::from_millis(100), newest.read(&mut [0])).await.is_err());
    kept.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(status(&rest(&mut kept).await), "200");
}

#[tokio::test]
async fn what_passed_here_does_not_pass_again() {
    let (upstream, running) = answering_listener().await;
    running.says(plain("http://api.example.com/")).await;
    let via = upstream.requests()[0].fields("via").join("");
    for line in [via.clone(), format!("1.0 other, {via}"), format!("1.1 other,{via} (comment)")] {
        let more = format!("Host: api.example.com\r\nVia: {line}\r\n");
        let answer = running.says(ask("GET http://api.example.com/ HTTP/1.1", &more)).await;
        assert_eq!((status(&answer), code_of(&answer).as_str()), ("508", "loop_detected"), "{line}");
    }
    let other = ask("GET http://api.example.com/ HTTP/1.1", "Host: api.example.com\r\nVia: 1.1 other\r\n");
    assert_eq!(status(&running.says(other).await), "200");
    assert_eq!(upstream.requests().len(), 2);
    assert_eq!(upstream.requests()[1].fields("via"), [via]);
}

#[tokio::test]
async fn it_does_not_lead_to_itself() {
    let ca = Ca::new();
    let upstream = Upstream::answering(Some(ca.server(&[HOST])), OK).await;
    // The port is free again by the time that the listener takes it.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = proxy_with(&ca, &upstream, |config| {
        config.connect_to = vec![((HOST.parse().unwrap(), 443), address)];
    });
    let listener = Listener::bind(address, Arc::clone(&proxy), ListenerLimits::default()).await.unwrap();
    assert_eq!(code(proxy.forward(&open(), get("https://api.example.com/")).await), "address_refused");
    drop(listener);
    assert_eq!(code(proxy.forward(&open(), get("https://api.example.com/")).await), "connect_failed");
}

#[tokio::test]
async fn limits_and_the_end_of_a_grant_are_said() {
    let (_upstream, proxy) = answering(OK).await;
    let grant = Grant { limits: Limits::of(2, 1024), ..grant(vec![rule("https://api.example.com")]) };
    let running = Running::over(proxy, grant).await;
    let request = plain("http://api.example.com/");
    assert_eq!(status(&running.says(&request).await), "200");
    assert_eq!(status(&running.says(&request).await), "200");
    let answer = running.says(&request).await;
    assert_eq!((status(&answer), code_of(&answer).as_str()), ("429", "limit_reached"));
    running.grant.revoke();
    let answer = running.says(&request).await;
    assert_eq!((status(&answer), code_of(&answer).as_str()), ("403", "grant_revoked"));
    let outcomes: Vec<Outcome> = running.grant.ledger().decisions().iter().map(|d| d.verdict).collect();
    assert_eq!(outcomes, [Outcome::Allowed, Outcome::Allowed, Outcome::Denied, Outcome::Denied]);
}

#[tokio::test]
async fn it_stops_when_what_is_under_way_is_done() {
    let (upstream, proxy) = scripted(
        |_, mut wire| async move {
            wire.request().await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            wire.send(OK).await;
            wire.closed().await;
        },
        |_| {},
    )
    .await;
    let mut running = Running::over(proxy, grant(vec![rule("https://api.example.com")])).await;
    let mut stream = running.connect().await;
    stream.write_all(plain("http://api.example.com/").as_bytes()).await.unwrap();
    while upstream.requests().is_empty() {
        tokio::task::yield_now().await;
    }
    let address = running.address;
    running.stop().await;
    assert_eq!(status(&rest(&mut stream).await), "200");
    assert!(TcpStream::connect(address).await.is_err());
}
