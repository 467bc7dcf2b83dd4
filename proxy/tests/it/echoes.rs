//! A host that got a secret may say it in any later answer; what it never got is nobody's secret there.

use std::sync::{Arc, Mutex};

use http::{HeaderMap, Request, Response, header};
use orch_manifests::Endpoint;
use orch_proxy::{Body, Credential, LiveGrant, Place, Placeholder, ProviderCall, Proxy, SCRUBBED, full};

use crate::http2::choosing_http2;
use crate::support::*;

const URL: &str = "https://api.example.com/log";
const OTHER: &str = "https://other.example.com/log";
const NEWER: &str = "sk-live/the-value-that-came-afterwards";

/// Servers for [`HOST`] and another host that answer everything with the same text, in head and body, and the proxy.
struct World {
    proxy: Arc<Proxy>,
    /// What the servers were sent.
    seen: Arc<Mutex<Vec<HeaderMap>>>,
    _upstream: Upstream,
}

async fn saying(http2: bool, text: String, coding: Option<&'static str>) -> World {
    let ca = Ca::new();
    let config = ca.server(&[HOST, "other.example.com"]);
    let config = if http2 { choosing_http2(&config) } else { config };
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let script = move |_, wire: Wire| {
        let (log, text) = (Arc::clone(&log), text.clone());
        async move {
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                log.lock().unwrap().push(request.headers().clone());
                let mut answer: Response<Body> = Response::new(full(text.clone()));
                answer.headers_mut().insert("x-log", text.parse().unwrap());
                if let Some(coding) = coding {
                    answer.headers_mut().insert(header::CONTENT_ENCODING, coding.parse().unwrap());
                }
                async move { Ok::<_, std::convert::Infallible>(answer) }
            });
            let io = hyper_util::rt::TokioIo::new(wire.into_io());
            if http2 {
                let executor = hyper_util::rt::TokioExecutor::new();
                let server = hyper::server::conn::http2::Builder::new(executor);
                let _ = server.serve_connection(io, service).await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            }
        }
    };
    let upstream = Upstream::scripted(Some(config), script).await;
    let proxy = proxy_with(&ca, &upstream, |config| {
        config.connect_to.push((("other.example.com".parse().unwrap(), 443), upstream.addr));
    });
    World { proxy, seen, _upstream: upstream }
}

/// A run that may go to both hosts, with a secret for [`HOST`].
fn run(credential: Arc<dyn Credential>) -> (Arc<LiveGrant>, Placeholder) {
    let binding = bind_in(Place::Header("x-api-key".parse().unwrap()), credential);
    let placeholder = binding.placeholder.clone();
    let mut grant = grant(vec![rule("https://api.example.com"), rule("https://other.example.com")]);
    grant.bindings = vec![binding];
    (live(grant), placeholder)
}

impl World {
    /// What a request is answered with, in head and body.
    async fn ask(&self, grant: &Arc<LiveGrant>, url: &str, key: Option<&Placeholder>) -> String {
        let mut request = with(with(get(url), "range", "bytes=3-9"), "accept-encoding", "gzip");
        if let Some(key) = key {
            request = with(request, "x-api-key", key.as_str());
        }
        let response = self.proxy.forward(grant, request).await.unwrap();
        let head = response.headers()["x-log"].to_str().unwrap().to_owned();
        let body = text(response).await;
        assert_eq!(head, body);
        body
    }

    /// Whether the last request may have been answered with what cannot be searched.
    fn searchable(&self) -> bool {
        let seen = self.seen.lock().unwrap();
        let last = seen.last().unwrap();
        let identity = last[header::ACCEPT_ENCODING] == "identity";
        assert_eq!(identity, !last.contains_key(header::RANGE));
        identity
    }
}

#[tokio::test]
async fn a_later_answer_of_the_same_origin_is_searched() {
    let (said, clean) = (format!("got {SECRET} before"), format!("got {SCRUBBED} before"));
    for http2 in [false, true] {
        let world = saying(http2, said.clone(), None).await;
        let (grant, key) = run(Arc::new(Held(SECRET)));
        // Before the host got it, it is only a text that the host knows by itself.
        assert_eq!(world.ask(&grant, URL, None).await, said);
        assert!(!world.searchable());
        for key in [Some(&key), None, None] {
            assert_eq!(world.ask(&grant, URL, key).await, clean, "{http2}");
            assert!(world.searchable());
        }
        // Another host did not get it, nor did this one from another run.
        assert_eq!(world.ask(&grant, OTHER, None).await, said);
        assert!(!world.searchable());
        let (other, _) = run(Arc::new(Held(SECRET)));
        assert_eq!(world.ask(&other, URL, None).await, said);
        assert!(!world.searchable());
    }
}

#[tokio::test]
async fn a_value_that_was_replaced_is_found_as_before() {
    for http2 in [false, true] {
        let world = saying(http2, format!("{SECRET} and {NEWER}"), None).await;
        let owned = Owned::new("TEST_KEY", SECRET);
        let (grant, key) = run(Arc::clone(&owned) as Arc<dyn Credential>);
        assert_eq!(world.ask(&grant, URL, Some(&key)).await, format!("{SCRUBBED} and {NEWER}"));
        owned.set(Ok(NEWER));
        // The host has not got the new one yet.
        assert_eq!(world.ask(&grant, URL, None).await, format!("{SCRUBBED} and {NEWER}"));
        for key in [Some(&key), None] {
            assert_eq!(world.ask(&grant, URL, key).await, format!("{SCRUBBED} and {SCRUBBED}"));
        }
        // Taken back for good it is a secret as before.
        owned.set(Err("it was removed"));
        assert_eq!(world.ask(&grant, URL, None).await, format!("{SCRUBBED} and {SCRUBBED}"));
        // A run that began afterwards gave the host the new one only.
        owned.set(Ok(NEWER));
        let (later, key) = run(owned);
        assert_eq!(world.ask(&later, URL, Some(&key)).await, format!("{SECRET} and {SCRUBBED}"));
    }
}

#[tokio::test]
async fn what_the_gateway_sent_is_found_in_answers_to_the_guest_and_the_other_way_round() {
    let (said, clean) = (format!("got {SECRET} before"), format!("got {SCRUBBED} before"));
    for gateway_first in [false, true] {
        let world = saying(false, said.clone(), None).await;
        let (grant, key) = run(Arc::new(Held(SECRET)));
        let credential: Arc<dyn Credential> = Arc::new(Held(SECRET));
        let endpoint: Endpoint = "https://api.example.com".parse().unwrap();
        let send = |credential| {
            let call = ProviderCall { endpoint: &endpoint, pinned: false, request: get("/"), credential };
            world.proxy.send(&grant, call)
        };
        if gateway_first {
            assert_eq!(text(send(Some(&credential)).await.unwrap()).await, clean);
            assert_eq!(world.ask(&grant, URL, None).await, clean);
        } else {
            assert_eq!(world.ask(&grant, URL, Some(&key)).await, clean);
            assert_eq!(text(send(None).await.unwrap()).await, clean);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_unpacked_is_refused_only_where_a_secret_went() {
    for http2 in [false, true] {
        let world = saying(http2, "ok".to_owned(), Some("zstd")).await;
        let (grant, key) = run(Arc::new(Held(SECRET)));
        assert_eq!(world.ask(&grant, URL, None).await, "ok");
        let injected = with(get(URL), "x-api-key", key.as_str());
        assert_eq!(code(world.proxy.forward(&grant, injected).await), "protocol_error");
        let error = world.proxy.forward(&grant, get(URL)).await.unwrap_err();
        assert!(error.to_string().contains("it compressed an answer that has to be searched"), "{error}");
        assert_eq!(world.ask(&grant, OTHER, None).await, "ok");
    }
}
