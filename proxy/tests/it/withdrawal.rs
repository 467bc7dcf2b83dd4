//! A credential that is taken back ends what carries it, wherever that is, and nothing else.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use http::{HeaderName, Request, Response};
use http_body::Frame;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use orch_manifests::{Endpoint, HostName};
use orch_proxy::{
    Body, BodyError, CapabilityToken, Credential, DnsError, EgressError, Grant, Grants, LiveGrant, Outcome,
    Place, ProviderCall, Proxy, ProxyConfig, Resolve,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::http2::{answer, choosing_http2};
use crate::support::*;

const URL: &str = "https://api.example.com/";
const PATIENCE: Duration = Duration::from_secs(10);

/// Fails instead of waiting for ever for what was not cut.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it was not cut")
}

/// A server for [`HOST`] that speaks this version, and a proxy that leads there.
async fn serving<F, T>(http2: bool, handler: F) -> (Upstream, Arc<Proxy>)
where
    F: Fn(Request<Incoming>) -> T + Clone + Send + Sync + 'static,
    T: Future<Output = Response<Body>> + Send + 'static,
{
    let ca = Ca::new();
    let config = ca.server(&[HOST]);
    let config = if http2 { choosing_http2(&config) } else { config };
    let script = move |_, wire: Wire| {
        let handler = handler.clone();
        async move {
            let service = service_fn(move |request| handler(request).map(Ok::<_, std::convert::Infallible>));
            let io = TokioIo::new(wire.into_io());
            // Ends with the client's connection, or badly with a cut one.
            if http2 {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(io, service).await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
            }
        }
    };
    let upstream = Upstream::scripted(Some(config), script).await;
    let proxy = proxy_to(&ca, &upstream);
    (upstream, proxy)
}

/// Tells when it is dropped, by its name.
struct Gone(&'static str, UnboundedSender<&'static str>);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = self.1.send(self.0);
    }
}

/// What is carried: one of two keys, or neither.
const CARRIED: [&str; 3] = ["one", "two", "none"];

/// A run with two keys, and what it asks with each or none of them.
struct Run {
    grants: Arc<Grants>,
    _token: CapabilityToken,
    live: Arc<LiveGrant>,
    keys: [Arc<Owned>; 2],
    placeholders: [String; 2],
}

impl Run {
    fn new() -> Self {
        Self::within(&Arc::default(), |_| {})
    }

    fn within(grants: &Arc<Grants>, change: impl FnOnce(&mut Grant)) -> Self {
        let keys = [Owned::new("one", SECRET), Owned::new("two", SECRET)];
        let mut grant = grant(vec![rule("https://api.example.com")]);
        grant.bindings = vec![
            bind_in(Place::Header(HeaderName::from_static("x-one")), Arc::clone(&keys[0]) as _),
            bind_in(Place::Query("two".to_owned()), Arc::clone(&keys[1]) as _),
        ];
        let placeholders = [0, 1].map(|n: usize| grant.bindings[n].placeholder.to_string());
        change(&mut grant);
        let (token, live) = grants.mint(grant);
        Self { grants: Arc::clone(grants), _token: token, live, keys, placeholders }
    }

    fn carrying(&self, what: &str, body: Body) -> Request<Body> {
        let [one, two] = &self.placeholders;
        match what {
            "one" => with(request("POST", URL, body), "x-one", one),
            "two" => request("POST", &format!("{URL}?two={two}"), body),
            _ => request("POST", URL, body),
        }
    }
}

/// Which of [`CARRIED`] arrived.
fn arrived(request: &Request<Incoming>) -> &'static str {
    match (request.headers().contains_key("x-one"), request.uri().query()) {
        (true, _) => CARRIED[0],
        (false, Some(_)) => CARRIED[1],
        (false, None) => CARRIED[2],
    }
}

/// Some bytes at once, and the rest once the gate is open.
fn in_two(name: &'static str, gone: &UnboundedSender<&'static str>, gate: &watch::Receiver<bool>) -> Body {
    let (gone, mut gate) = (Gone(name, gone.clone()), gate.clone());
    let first = futures_util::stream::once(std::future::ready("some"));
    let rest = futures_util::stream::once(async move {
        let _ = gate.wait_for(|open| *open).await;
        drop(gone);
        " more"
    });
    let frames = first.chain(rest).map(|text| Ok(Frame::data(Bytes::from(text))));
    StreamBody::new(frames).boxed_unsync()
}

fn withdrawn_body(error: &BodyError) -> bool {
    matches!(error, BodyError::Withdrawn { credential } if credential == "one")
}

#[tokio::test]
async fn answers_that_carry_it_are_cut_read_or_not_and_others_go_on() {
    for http2 in [false, true] {
        let (gone, mut gone_there) = unbounded_channel();
        let (open, gate) = watch::channel(false);
        let (_upstream, proxy) = serving(http2, move |request| {
            let body = in_two(arrived(&request), &gone, &gate);
            std::future::ready(Response::new(body))
        })
        .await;
        let run = Run::new();
        let mut bodies = Vec::new();
        for what in ["one", "two", "none", "one"] {
            let response = proxy.forward(&run.live, run.carrying(what, orch_proxy::empty())).await.unwrap();
            bodies.push(response.into_body());
        }
        let mut read = bodies.pop().unwrap();
        assert_eq!(read.frame().await.unwrap().unwrap().into_data().unwrap(), "some");
        assert_eq!(run.grants.cut_carrying("another", "one"), 0);
        assert_eq!(run.grants.cut_carrying("default", "on"), 0);
        let (frame, count) =
            tokio::join!(soon(read.frame()), async { run.grants.cut_carrying("default", "one") });
        assert_eq!(count, 2);
        assert!(withdrawn_body(&frame.unwrap().unwrap_err()));
        // The server notices although nobody polls the other.
        for _ in 0..2 {
            assert_eq!(soon(gone_there.recv()).await, Some("one"));
        }
        let error = soon(bodies.remove(0).collect()).await.unwrap_err();
        assert!(withdrawn_body(&error), "{error}");
        // They are over, and the others are not.
        assert_eq!(run.grants.cut_carrying("default", "one"), 0);
        open.send(true).unwrap();
        for body in bodies {
            assert_eq!(soon(body.collect()).await.unwrap().to_bytes(), "some more");
        }
        // The grant goes on, with the credential too.
        let again = proxy.forward(&run.live, run.carrying("one", orch_proxy::empty())).await.unwrap();
        assert_eq!(text(again).await, "some more");
        assert_eq!(run.live.running(), 0);
    }
}

#[tokio::test]
async fn requests_that_wait_for_their_answer_fail_and_others_go_on() {
    for http2 in [false, true] {
        let (here, mut there) = unbounded_channel();
        let (open, gate) = watch::channel(false);
        let (_upstream, proxy) = serving(http2, move |request| {
            here.send(arrived(&request)).unwrap();
            let mut gate = gate.clone();
            async move {
                gate.wait_for(|open| *open).await.unwrap();
                answer("ok")
            }
        })
        .await;
        let run = Run::new();
        let asked = |what| proxy.forward(&run.live, run.carrying(what, orch_proxy::empty()));
        let (one, two, none, ()) = tokio::join!(soon(asked("one")), asked("two"), asked("none"), async {
            for _ in CARRIED {
                there.recv().await.unwrap();
            }
            assert_eq!(run.live.cut_carrying("one"), 1);
            // It was cut: nothing is left to be cut, and the others do not wait for it.
            assert_eq!(run.live.cut_carrying("one"), 0);
            open.send(true).unwrap();
        });
        let error = one.unwrap_err();
        assert!(matches!(&error, EgressError::Withdrawn { credential } if credential == "one"), "{error}");
        assert_eq!(error.to_string(), "the credential one was withdrawn while the exchange was under way");
        assert!(!error.is_refusal());
        assert_eq!((text(two.unwrap()).await, text(none.unwrap()).await), ("ok".into(), "ok".into()));
        let decisions = run.live.ledger().decisions();
        let failed: Vec<_> = decisions.iter().filter(|d| d.verdict == Outcome::Failed).collect();
        assert_eq!(failed.len(), 1);
        assert_eq!(failed[0].reason.as_ref().unwrap().code, "credential_withdrawn");
        assert_eq!(failed[0].injected, ["one"]);
    }
}

/// Reads a request's body and tells how it ended.
async fn drained(request: Request<Incoming>) -> Result<usize, &'static str> {
    request.into_body().collect().await.map(|body| body.to_bytes().len()).map_err(|_| "cut")
}

#[tokio::test]
async fn uploads_are_cut_before_the_answer_and_after_it_began() {
    for (http2, early) in [(false, false), (false, true), (true, false), (true, true)] {
        let (here, there) = unbounded_channel();
        let (started, mut starts) = unbounded_channel();
        let tasks = Arc::new(Mutex::new(JoinSet::new()));
        let (_upstream, proxy) = serving(http2, move |request| {
            let (here, started, tasks) = (here.clone(), started.clone(), Arc::clone(&tasks));
            async move {
                let what = arrived(&request);
                started.send(()).unwrap();
                let reading = async move { here.send((what, drained(request).await)).unwrap() };
                if early {
                    tasks.lock().unwrap().spawn(reading);
                } else {
                    reading.await;
                }
                let body = futures_util::stream::once(std::future::ready(Ok(Frame::data(Bytes::from("x")))));
                let endless = futures_util::stream::pending();
                Response::new(if early {
                    StreamBody::new(body.chain(endless)).boxed_unsync()
                } else {
                    orch_proxy::full("ok")
                })
            }
        })
        .await;
        upload_is_cut(&proxy, early, &mut starts, there).await;
    }
}

async fn upload_is_cut(
    proxy: &Proxy,
    early: bool,
    starts: &mut UnboundedReceiver<()>,
    mut there: UnboundedReceiver<(&'static str, Result<usize, &'static str>)>,
) {
    let run = Run::new();
    let (mut first, one) = Channel::<Bytes, BodyError>::new(4);
    let (mut second, two) = Channel::<Bytes, BodyError>::new(4);
    for sender in [&mut first, &mut second] {
        sender.send_data(Bytes::from("piece")).await.unwrap();
    }
    let one = proxy.forward(&run.live, run.carrying("one", one.boxed_unsync()));
    let two = proxy.forward(&run.live, run.carrying("two", two.boxed_unsync()));
    let begun = async {
        for _ in 0..2 {
            starts.recv().await.unwrap();
        }
    };
    if early {
        let (one, two, ()) = tokio::join!(one, two, begun);
        let (one, two) = (one.unwrap().into_body(), two.unwrap().into_body());
        assert_eq!(run.live.cut_carrying("one"), 1);
        assert_eq!(soon(there.recv()).await, Some(("one", Err("cut"))));
        assert!(withdrawn_body(&soon(one.collect()).await.unwrap_err()));
        second.send_data(Bytes::from("piece")).await.unwrap();
        drop(second);
        assert_eq!(soon(there.recv()).await, Some(("two", Ok(10))));
        drop(two);
    } else {
        let (one, two, ()) = tokio::join!(soon(one), soon(two), async {
            begun.await;
            assert_eq!(run.live.cut_carrying("one"), 1);
            assert_eq!(soon(there.recv()).await, Some(("one", Err("cut"))));
            second.send_data(Bytes::from("piece")).await.unwrap();
            drop(second);
            assert_eq!(soon(there.recv()).await, Some(("two", Ok(10))));
        });
        assert_eq!(one.unwrap_err().code(), "credential_withdrawn");
        assert_eq!(text(two.unwrap()).await, "ok");
    }
    drop(first);
}

#[tokio::test]
async fn what_was_let_through_just_before_is_found_wherever_it_is() {
    for http2 in [false, true] {
        let (upstream, proxy) = serving(http2, |_| async { answer("ok") }).await;
        let endpoint: Endpoint = "https://api.example.com".parse().unwrap();
        for by_gateway in [false, true] {
            let run = Run::new();
            let [one, _] = &run.keys;
            // The credential has made up its mind, and is taken back before the proxy hears of that.
            let (owned, grants) = (Arc::clone(one), Arc::clone(&run.grants));
            let (count, counted) = std::sync::mpsc::channel();
            one.meanwhile(move || {
                owned.set(Err("it was removed"));
                count.send(grants.cut_carrying("default", "one")).unwrap();
            });
            let credential: Arc<dyn Credential> = Arc::clone(one) as _;
            let ask = || async {
                if by_gateway {
                    let request = get("/");
                    let credential = Some(&credential);
                    let call = ProviderCall { endpoint: &endpoint, pinned: false, request, credential };
                    proxy.send(&run.live, call).await
                } else {
                    proxy.forward(&run.live, run.carrying("one", orch_proxy::empty())).await
                }
            };
            assert_eq!(code(ask().await), "credential_withdrawn");
            assert_eq!(counted.recv().unwrap(), 1);
            // From here on the credential itself says no.
            assert_eq!(code(ask().await), "credential_not_permitted");
            assert_eq!(run.live.running(), 0);
        }
        // Nobody was even dialled.
        assert_eq!(upstream.accepted(), 0);
    }
}

/// Takes for ever.
struct Slow;

impl Resolve for Slow {
    fn resolve<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn what_still_waits_for_a_connection_fails_at_once() {
    let mut config = ProxyConfig::default();
    config.timeouts.dns = 10 * PATIENCE;
    let proxy = Proxy::new(config, Arc::new(Slow)).unwrap();
    let run = Run::new();
    let mut asked = Box::pin(proxy.forward(&run.live, run.carrying("one", orch_proxy::empty())));
    assert!((&mut asked).now_or_never().is_none());
    assert_eq!(run.live.cut_carrying("two"), 0);
    assert!((&mut asked).now_or_never().is_none());
    assert_eq!(run.live.cut_carrying("one"), 1);
    assert_eq!(code(soon(asked).await), "credential_withdrawn");
}

#[tokio::test]
async fn only_grants_of_the_workspace_are_touched_and_all_of_them() {
    let (_upstream, proxy) = serving(true, |_| async {
        Response::new(StreamBody::new(futures_util::stream::pending()).boxed_unsync())
    })
    .await;
    let grants = Arc::new(Grants::new());
    let runs =
        ["a", "a", "b"].map(|workspace| Run::within(&grants, |g| workspace.clone_into(&mut g.workspace)));
    let mut bodies = Vec::new();
    for run in &runs {
        let response = proxy.forward(&run.live, run.carrying("one", orch_proxy::empty())).await.unwrap();
        bodies.push(response.into_body());
    }
    assert_eq!(grants.cut_carrying("a", "one"), 2);
    let mut last = bodies.pop().unwrap();
    for body in bodies {
        assert!(withdrawn_body(&soon(body.collect()).await.unwrap_err()));
    }
    assert!(last.frame().now_or_never().is_none());
    // What is lent to all workspaces by one id is taken back in all of them.
    assert_eq!(grants.cut_carrying_everywhere("one"), 1);
    assert!(withdrawn_body(&soon(last.collect()).await.unwrap_err()));
    assert!(runs.iter().all(|run| run.live.check_live().is_ok()));
}

#[tokio::test]
async fn a_cut_does_not_end_the_wait_for_the_grants_end() {
    let run = Run::new();
    let (upstream, proxy) = serving(true, |_| std::future::pending()).await;
    let mut asked = Box::pin(proxy.forward(&run.live, run.carrying("one", orch_proxy::empty())));
    let mut ended = Box::pin(run.live.ended());
    assert!((&mut ended).now_or_never().is_none());
    assert!((&mut asked).now_or_never().is_none());
    assert_eq!(run.live.cut_carrying("one"), 1);
    assert!((&mut ended).now_or_never().is_none());
    assert_eq!(code(soon(asked).await), "credential_withdrawn");
    run.live.revoke();
    soon(ended).await;
    drop(upstream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_escapes_a_race() {
    const AT_ONCE: usize = 8;
    for http2 in [false, true] {
        let (here, mut there) = unbounded_channel();
        let (_upstream, proxy) = serving(http2, move |_| {
            here.send(()).unwrap();
            let first = futures_util::stream::once(std::future::ready(Ok(Frame::data(Bytes::from("x")))));
            // Never ends by itself: what is not cut is waited for in vain.
            let body = StreamBody::new(first.chain(futures_util::stream::pending())).boxed_unsync();
            std::future::ready(Response::new(body))
        })
        .await;
        let run = Arc::new(Run::new());
        let mut ends = HashMap::new();
        for round in 0..6 * AT_ONCE {
            run.keys[0].set(Ok(SECRET));
            let mut asking = JoinSet::new();
            for _ in 0..AT_ONCE {
                let (proxy, run) = (Arc::clone(&proxy), Arc::clone(&run));
                asking.spawn(async move {
                    match proxy.forward(&run.live, run.carrying("one", orch_proxy::empty())).await {
                        Ok(response) => {
                            let error = whole(response).await.unwrap_err();
                            assert!(withdrawn_body(&error), "{error}");
                            "body"
                        }
                        Err(error) => error.code(),
                    }
                });
            }
            // Taken back when so many of them have arrived, give or take those of the round before.
            for _ in 0..round % AT_ONCE {
                soon(there.recv()).await.unwrap();
            }
            run.keys[0].set(Err("it was removed"));
            run.grants.cut_carrying("default", "one");
            for end in soon(asking.join_all()).await {
                *ends.entry(end).or_insert(0) += 1;
            }
            assert_eq!(run.live.running(), 0);
        }
        let mut ways: Vec<&str> = ends.keys().copied().collect();
        ways.sort_unstable();
        assert_eq!(ways, ["body", "credential_not_permitted", "credential_withdrawn"], "{ends:?}");
    }
}
