//! A proxy on the way that the operator put there: what it is asked, and what it can do to whom.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orch_manifests::Host;
use orch_proxy::{
    EgressError, Proxy, ProxyConfig, ProxyLogin, Resolution, TunnelError, UpstreamProxy as Config,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::listener::{Running, mine};
use crate::support::{Ca, HOST, OK, Told, Upstream, code, get, grant, live, open, request, rule, text};

const URL: &str = "https://api.example.com/x";
const PUBLIC: &str = "93.184.216.34";

/// What the fake proxy does with a CONNECT.
#[derive(Clone, Copy)]
enum Does {
    /// Leads to the origin, whatever was asked for.
    Tunnels,
    /// Answers this and waits.
    Says(&'static str),
    /// Answers this and closes.
    SaysAndCloses(&'static str),
    /// Never ends the head.
    Babbles,
    /// Answers 502 until it is asked for this.
    ReachesOnly(&'static str),
}

/// A CONNECT proxy on loopback, and the heads that it got.
struct Corporate {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Corporate {
    async fn new(origin: SocketAddr, does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, origin, does, Arc::clone(&seen)));
            }
        });
        Self { addr, heads, _tasks: tasks }
    }

    fn lines(&self) -> Vec<String> {
        self.heads.lock().unwrap().iter().map(|head| head.lines().next().unwrap().to_owned()).collect()
    }
}

async fn serve(mut stream: TcpStream, origin: SocketAddr, does: Does, seen: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    seen.lock().unwrap().push(head.clone());
    let mut gone = [0; 64];
    match does {
        Does::Says(text) => {
            stream.write_all(text.as_bytes()).await.unwrap();
            while stream.read(&mut gone).await.is_ok_and(|n| n > 0) {}
        }
        Does::SaysAndCloses(text) => stream.write_all(text.as_bytes()).await.unwrap(),
        Does::Babbles => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
            while stream.write_all(b"x-more: and more\r\n").await.is_ok() {}
        }
        Does::ReachesOnly(address) if !head.starts_with(&format!("CONNECT {address}:")) => {
            stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
        Does::ReachesOnly(_) | Does::Tunnels => {
            let mut origin = TcpStream::connect(origin).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut origin).await;
        }
    }
}

fn at(addr: SocketAddr) -> Config {
    Config {
        host: Host::Ip(addr.ip()),
        port: addr.port(),
        login: None,
        resolution: Resolution::Here,
        no_proxy: Vec::new(),
    }
}

/// An origin with TLS for [`HOST`], a proxy before it, and ours, whose names lead where `told` says.
async fn world(
    does: Does,
    told: Arc<Told>,
    change: impl FnOnce(&mut Config),
) -> (Upstream, Corporate, Arc<Proxy>) {
    let ca = Ca::new();
    let origin = Upstream::answering(Some(ca.server(&[HOST])), OK).await;
    let corporate = Corporate::new(origin.addr, does).await;
    let mut upstream = at(corporate.addr);
    change(&mut upstream);
    let config = ProxyConfig {
        extra_roots: vec![ca.root()],
        upstream: Some(Arc::new(upstream)),
        ..ProxyConfig::default()
    };
    let proxy = Proxy::new(config, told).unwrap();
    (origin, corporate, proxy)
}

fn public() -> Arc<Told> {
    Told::of(HOST, &[&[PUBLIC]])
}

#[tokio::test]
async fn it_is_asked_for_the_address_that_was_judged_and_tls_is_the_origin_s() {
    let (origin, corporate, proxy) = world(Does::Tunnels, public(), |upstream| {
        upstream.login = Some(ProxyLogin::basic("me", "secret").unwrap());
    })
    .await;
    let grant = open();
    assert_eq!(text(proxy.forward(&grant, get(URL)).await.unwrap()).await, "ok");
    let heads = corporate.heads.lock().unwrap().clone();
    let expected = format!(
        "CONNECT {PUBLIC}:443 HTTP/1.1\r\nHost: {PUBLIC}:443\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n"
    );
    assert_eq!(heads, [expected]);
    // The origin saw TLS for its name, and nothing of the login.
    let raw = &origin.requests()[0];
    assert_eq!((raw.line(), raw.fields("host")), ("GET /x HTTP/1.1", vec![HOST]));
    assert!(raw.fields("proxy-authorization").is_empty());
    assert_eq!(grant.ledger().decisions()[0].address, Some(PUBLIC.parse().unwrap()));
    // The tunnel is kept like any connection.
    assert_eq!(text(proxy.forward(&grant, get(URL)).await.unwrap()).await, "ok");
    assert_eq!((corporate.lines().len(), origin.accepted()), (1, 1));
}

#[tokio::test]
async fn plain_http_goes_through_a_tunnel_too() {
    let origin = Upstream::answering(None, OK).await;
    let corporate = Corporate::new(origin.addr, Does::Tunnels).await;
    let config = ProxyConfig { upstream: Some(Arc::new(at(corporate.addr))), ..ProxyConfig::default() };
    let proxy = Proxy::new(config, public()).unwrap();
    let grant = live(grant(vec![rule("http://api.example.com")]));
    assert_eq!(text(proxy.forward(&grant, get("http://api.example.com/y")).await.unwrap()).await, "ok");
    assert_eq!(corporate.lines(), [format!("CONNECT {PUBLIC}:80 HTTP/1.1")]);
    assert_eq!(origin.requests()[0].line(), "GET /y HTTP/1.1");
}

#[tokio::test]
async fn the_guard_comes_first() {
    for (answer, refused) in [
        (&["10.0.0.1"][..], "address_refused"),
        (&["169.254.169.254"], "address_refused"),
        (&["127.0.0.1"], "address_refused"),
        (&[PUBLIC, "192.168.1.1"], "address_refused"),
        (&["::ffff:10.0.0.1"], "address_refused"),
    ] {
        let (_origin, corporate, proxy) = world(Does::Tunnels, Told::of(HOST, &[answer]), |_| {}).await;
        assert_eq!(code(proxy.forward(&open(), get(URL)).await), refused, "{answer:?}");
        assert_eq!(corporate.lines(), Vec::<String>::new(), "{answer:?}");
    }
    let (_origin, corporate, proxy) = world(Does::Tunnels, Arc::default(), |_| {}).await;
    assert_eq!(code(proxy.forward(&open(), get(URL)).await), "dns_failed");
    assert!(corporate.lines().is_empty());
}

#[tokio::test]
async fn a_name_that_is_left_to_the_proxy_is_judged_as_a_name() {
    let told = public();
    let (_origin, corporate, proxy) =
        world(Does::Tunnels, Arc::clone(&told), |upstream| upstream.resolution = Resolution::Remote).await;
    let open = live(grant(vec![
        rule("https://api.example.com"),
        rule("https://db.internal"),
        rule("https://localhost"),
        rule("https://metadata.google.internal"),
    ]));
    assert_eq!(text(proxy.forward(&open, get(URL)).await.unwrap()).await, "ok");
    assert_eq!(corporate.lines(), ["CONNECT api.example.com:443 HTTP/1.1"]);
    for (url, refused) in [
        ("https://10.0.0.1/", "ip_literal_refused"),
        ("https://[::1]/", "ip_literal_refused"),
        ("https://169.254.169.254/", "ip_literal_refused"),
        ("https://2130706433/", "ip_literal_refused"),
        ("https://0x7f000001/", "ip_literal_refused"),
        ("https://db.internal/", "name_refused"),
        ("https://localhost/", "name_refused"),
        ("https://metadata.google.internal/", "name_refused"),
        ("https://evil.example/", "host_not_allowed"),
    ] {
        assert_eq!(code(proxy.forward(&open, get(url)).await), refused, "{url}");
    }
    assert_eq!((corporate.lines().len(), told.asked()), (1, Vec::new()));
}

#[tokio::test]
async fn what_it_does_wrong_is_said_and_its_name() {
    const EARLY: &str =
        "HTTP/1.1 200 OK\r\ncontent-length: 41\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    for (does, cause) in [
        (Does::Says("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), TunnelError::LoginWanted),
        (Does::Says("HTTP/1.1 403 Forbidden\r\n\r\n"), TunnelError::Refused(403)),
        (Does::Says("HTTP/1.1 502 Bad Gateway\r\n\r\n"), TunnelError::Refused(502)),
        (Does::Says("HTTP/1.1 302 Found\r\nlocation: http://10.0.0.1/\r\n\r\n"), TunnelError::Refused(302)),
        (Does::Says(EARLY), TunnelError::Garbage("it sent bytes of its own into the tunnel")),
        (Does::Babbles, TunnelError::Garbage("its answer has no end")),
        (Does::Says("SSH-2.0-OpenSSH_9.0\r\n"), TunnelError::Garbage("its answer is not HTTP/1.1")),
        (Does::Says("HTTP/1.1 100 Continue\r\n\r\n"), TunnelError::Garbage("its answer has no final status")),
        (
            Does::SaysAndCloses("HTTP/1.1 200 OK\r\n"),
            TunnelError::Garbage("it closed the connection before its answer was whole"),
        ),
        (Does::Says("HTTP/1.1 20"), TunnelError::Timeout),
    ] {
        let (origin, corporate, _) = world(does, public(), |_| {}).await;
        let mut config =
            ProxyConfig { upstream: Some(Arc::new(at(corporate.addr))), ..ProxyConfig::default() };
        config.timeouts.connect = Duration::from_millis(300);
        let proxy = Proxy::new(config, public()).unwrap();
        let error = proxy.forward(&open(), get(URL)).await.unwrap_err();
        let EgressError::UpstreamProxy { proxy: said, host, port, cause: why } = &error else {
            panic!("{error}");
        };
        assert_eq!((said.as_str(), host.as_str(), *port), (corporate.addr.to_string().as_str(), HOST, 443));
        assert_eq!(*why, cause);
        assert_eq!((error.code(), error.is_refusal()), ("upstream_proxy_failed", false));
        assert_eq!(origin.accepted(), 0);
    }
}

#[tokio::test]
async fn an_endless_head_of_few_fields_is_cut_too() {
    const LONG: &str = concat!(
        "HTTP/1.1 200 OK\r\nx-long: ",
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(LONG.as_bytes()).await.unwrap();
        while stream.write_all(&[b'x'; 1024]).await.is_ok() {}
    });
    let config = ProxyConfig { upstream: Some(Arc::new(at(addr))), ..ProxyConfig::default() };
    let proxy = Proxy::new(config, public()).unwrap();
    let error = proxy.forward(&open(), get(URL)).await.unwrap_err();
    assert!(error.to_string().ends_with("its answer has no end"), "{error}");
    // It is hung up on.
    server.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_login_that_is_not_accepted_is_told_apart_and_not_shown() {
    let does = Does::Says("HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n");
    let (_origin, corporate, proxy) = world(does, public(), |upstream| {
        upstream.login = Some(ProxyLogin::basic("me", "swordfish").unwrap());
    })
    .await;
    let grant = open();
    let error = proxy.forward(&grant, get(URL)).await.unwrap_err();
    assert!(matches!(error, EgressError::UpstreamProxy { cause: TunnelError::LoginRefused, .. }), "{error}");
    let told = format!("{error} {error:?} {:?}", grant.ledger().decisions());
    assert!(
        !told.contains("swordfish") && !told.contains("bWU6") && told.contains(&corporate.addr.to_string())
    );
}

#[tokio::test]
async fn another_checked_address_is_tried_where_one_cannot_be_reached() {
    let told = Told::of(HOST, &[&["93.184.216.34", "93.184.216.35", "2606:4700::1"]]);
    let (_origin, corporate, proxy) = world(Does::ReachesOnly("93.184.216.35"), told, |_| {}).await;
    assert_eq!(text(proxy.forward(&open(), get(URL)).await.unwrap()).await, "ok");
    let lines = corporate.lines();
    assert_eq!(lines[0], "CONNECT [2606:4700::1]:443 HTTP/1.1");
    assert_eq!(lines.last().unwrap(), "CONNECT 93.184.216.35:443 HTTP/1.1");
}

#[tokio::test]
async fn pins_connect_to_and_no_proxy_go_around_it() {
    let ca = Ca::new();
    let origin = Upstream::answering(Some(ca.server(&[HOST, "other.example.com"])), OK).await;
    let corporate = Corporate::new(origin.addr, Does::Tunnels).await;
    let told = Told::of("other.example.com", &[&["10.0.0.1"]]);
    let mut upstream = at(corporate.addr);
    upstream.no_proxy = vec!["other.example.com".parse().unwrap()];
    let config = ProxyConfig {
        connect_to: vec![((HOST.parse().unwrap(), 443), origin.addr)],
        extra_roots: vec![ca.root()],
        upstream: Some(Arc::new(upstream)),
        ..ProxyConfig::default()
    };
    let proxy = Proxy::new(config, told).unwrap();
    let grant = live(grant(vec![rule("https://api.example.com"), rule("https://other.example.com")]));
    assert_eq!(text(proxy.forward(&grant, get(URL)).await.unwrap()).await, "ok");
    // Straight to where it leads, which the guard refuses.
    assert_eq!(code(proxy.forward(&grant, get("https://other.example.com/")).await), "address_refused");
    let endpoint = format!("https://{}", origin.addr).parse().unwrap();
    let call = orch_proxy::ProviderCall {
        endpoint: &endpoint,
        pinned: true,
        request: request("GET", "/", orch_proxy::empty()),
        credential: None,
    };
    // Straight there, where the certificate is another name's.
    assert_eq!(code(proxy.send(&grant, call).await), "tls_failed");
    assert!(corporate.lines().is_empty());
}

#[tokio::test]
async fn it_may_be_at_a_private_place_and_not_at_every() {
    let told = public();
    for host in ["169.254.169.254", "0.0.0.0"] {
        let upstream = Config { host: Host::Ip(host.parse().unwrap()), ..at("127.0.0.1:1".parse().unwrap()) };
        let config = ProxyConfig { upstream: Some(Arc::new(upstream)), ..ProxyConfig::default() };
        let proxy = Proxy::new(config, Arc::clone(&told) as Arc<dyn orch_proxy::Resolve>).unwrap();
        let error = proxy.forward(&open(), get(URL)).await.unwrap_err();
        assert_eq!(error.code(), "upstream_proxy_failed");
        assert!(error.to_string().contains("refused"), "{error}");
    }
    let (_origin, corporate, _) = world(Does::Tunnels, public(), |_| {}).await;
    let config = ProxyConfig { upstream: Some(Arc::new(at(corporate.addr))), ..ProxyConfig::default() };
    let proxy = Proxy::new(config, public()).unwrap();
    // Where orch listens itself, it would ask itself.
    let _entry = proxy.guard().listeners().register(corporate.addr);
    let error = proxy.forward(&open(), get(URL)).await.unwrap_err();
    assert!(error.to_string().contains("orch itself listens there"), "{error}");
    assert!(corporate.lines().is_empty());
}

/// What a client of the listener gets for a CONNECT to [`HOST`], up to the end of the head, and the connection.
async fn tunnel(running: &Running) -> (TcpStream, String) {
    let mut stream = running.connect().await;
    let request = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n{}\r\n", mine());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (stream, String::from_utf8(head).unwrap())
}

#[tokio::test]
async fn a_client_s_tunnel_goes_through_it_to_the_address_that_was_judged() {
    let ca = Ca::new();
    let origin = Upstream::answering(Some(ca.server(&[HOST])), OK).await;
    let corporate = Corporate::new(origin.addr, Does::Tunnels).await;
    let mut upstream = at(corporate.addr);
    upstream.login = Some(ProxyLogin::basic("me", "secret").unwrap());
    let config = ProxyConfig { upstream: Some(Arc::new(upstream)), ..ProxyConfig::default() };
    let proxy = Proxy::new(config, public()).unwrap();
    let running = Running::over(proxy, grant(vec![rule("https://api.example.com")])).await;
    let (stream, head) = tunnel(&running).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    // The proxy on the way is asked for an address, and gets nothing of the client's but its bytes.
    let heads = corporate.heads.lock().unwrap().clone();
    let expected = format!(
        "CONNECT {PUBLIC}:443 HTTP/1.1\r\nHost: {PUBLIC}:443\r\nProxy-Authorization: Basic bWU6c2VjcmV0\r\n\r\n"
    );
    assert_eq!(heads, [expected]);
    // TLS is between the client and the origin, through both.
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.root()).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(HOST).unwrap();
    let mut inside = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    inside.write_all(b"GET /x HTTP/1.1\r\nhost: api.example.com\r\n\r\n").await.unwrap();
    let mut answer = vec![0; OK.len()];
    inside.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, OK);
    assert_eq!(origin.requests()[0].line(), "GET /x HTTP/1.1");
    assert_eq!(running.grant.ledger().decisions()[0].address, Some(PUBLIC.parse().unwrap()));
}

#[tokio::test]
async fn a_client_s_tunnel_is_judged_before_it_is_asked() {
    for (does, answers, status, code, asked) in [
        (Does::Tunnels, &["10.0.0.1"][..], "403", "address_refused", 0),
        (Does::Says("HTTP/1.1 403 Forbidden\r\n\r\n"), &[PUBLIC], "502", "upstream_proxy_failed", 1),
    ] {
        let (origin, corporate, proxy) = world(does, Told::of(HOST, &[answers]), |_| {}).await;
        let running = Running::over(proxy, grant(vec![rule("https://api.example.com")])).await;
        let (mut stream, head) = tunnel(&running).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{code}: {head}");
        let mut body = String::new();
        stream.read_to_string(&mut body).await.unwrap();
        assert!(body.contains(code), "{code}: {body}");
        assert_eq!(running.decisions(), [code]);
        assert_eq!((corporate.lines().len(), origin.accepted()), (asked, 0), "{code}");
    }
}
