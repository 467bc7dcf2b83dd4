//! What is left of an answer that was heard to its end: the connection that it came on serves again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt as _;
use orch_proxy::{Body, LiveGrant, Proxy};
use tokio::time::{Instant, sleep, timeout};

use crate::http2::{DATA, END_STREAM, RESET, by_frames};
use crate::support::*;

const URL: &str = "https://api.example.com/";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const LAST: &str = "data: [DONE]\n\n";
const MOMENT: Duration = Duration::from_millis(50);

/// An answer that was read up to what it said last.
async fn heard(proxy: &Proxy, grant: &Arc<LiveGrant>) -> Body {
    let mut body = proxy.forward(grant, get(URL)).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), LAST);
    body
}

async fn left(grant: &LiveGrant) {
    let leaving = async {
        while grant.running() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(10), leaving).await.unwrap();
}

#[tokio::test]
async fn what_is_there_already_is_read_at_once() {
    let (upstream, proxy) = scripted(
        |_, mut wire| async move {
            while wire.request().await.is_some() {
                wire.send(format!("{CHUNKED}{:x}\r\n{LAST}\r\n3\r\n: x\r\n0\r\n\r\n", LAST.len())).await;
            }
        },
        |_| {},
    )
    .await;
    let grant = open();
    for _ in 0..20 {
        proxy.drain(heard(&proxy, &grant).await);
        assert_eq!(grant.running(), 0, "nothing is left to be done");
    }
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn what_comes_a_moment_later_is_read_apart() {
    let (upstream, proxy) = scripted(
        |_, mut wire| async move {
            while wire.request().await.is_some() {
                wire.send(CHUNKED).await;
                wire.chunk(LAST.as_bytes()).await;
                sleep(MOMENT).await;
                wire.chunk(b": x").await;
                sleep(MOMENT).await;
                wire.send("0\r\n\r\n").await;
            }
        },
        |_| {},
    )
    .await;
    let grant = open();
    for _ in 0..3 {
        let body = heard(&proxy, &grant).await;
        let began = Instant::now();
        proxy.drain(body);
        assert!(began.elapsed() < MOMENT, "it is not waited for");
        left(&grant).await;
    }
    assert_eq!(upstream.accepted(), 1);
}

/// A server that says it has said all, and then does something else than to end. It notes when it was cut off.
async fn goes_on<F, T>(after: F) -> (Upstream, Arc<Proxy>, Arc<Mutex<Vec<Instant>>>)
where
    F: Fn(Wire) -> T + Clone + Send + 'static,
    T: Future<Output = Wire> + Send + 'static,
{
    let cut = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&cut);
    let script = move |_, mut wire: Wire| {
        let (after, seen) = (after.clone(), Arc::clone(&seen));
        async move {
            wire.request().await;
            wire.send(CHUNKED).await;
            wire.chunk(LAST.as_bytes()).await;
            let mut wire = after(wire).await;
            wire.closed().await;
            seen.lock().unwrap().push(Instant::now());
        }
    };
    let (upstream, proxy) = scripted(script, |_| {}).await;
    (upstream, proxy, cut)
}

/// How long after an answer was given up to be drained it was cut off; `meanwhile` happens in between.
async fn cut_off(
    proxy: &Proxy,
    grant: &Arc<LiveGrant>,
    cut: &Mutex<Vec<Instant>>,
    meanwhile: impl Future<Output = ()>,
) -> Duration {
    let body = heard(proxy, grant).await;
    let began = Instant::now();
    proxy.drain(body);
    meanwhile.await;
    left(grant).await;
    loop {
        if let Some(when) = cut.lock().unwrap().pop() {
            return when - began;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_does_not_end_is_cut_off_soon() {
    let (upstream, proxy, cut) = goes_on(|wire| async { wire }).await;
    let grant = open();
    let took = cut_off(&proxy, &grant, &cut, async {}).await;
    assert!(Duration::from_millis(900) < took && took < Duration::from_secs(9), "{took:?}");
    heard(&proxy, &grant).await;
    assert_eq!(upstream.accepted(), 2);
}

#[tokio::test]
async fn what_goes_on_is_cut_off_before_it_is_much() {
    let (_upstream, proxy, cut) = goes_on(|mut wire| async {
        for _ in 0..64 {
            wire.chunk(&[b'x'; 1 << 10]).await;
        }
        wire
    })
    .await;
    let grant = open();
    let took = cut_off(&proxy, &grant, &cut, async {}).await;
    assert!(took < Duration::from_millis(900), "long before its time is up: {took:?}");
}

#[tokio::test]
async fn a_run_that_ends_meanwhile_ends_it() {
    let (_upstream, proxy, cut) = goes_on(|wire| async { wire }).await;
    let grant = open();
    let meanwhile = async {
        sleep(MOMENT).await;
        grant.revoke();
    };
    let took = cut_off(&proxy, &grant, &cut, meanwhile).await;
    assert!(took < Duration::from_millis(900), "{took:?}");
    assert_eq!(grant.running(), 0);
}

#[tokio::test]
async fn over_http_2_the_stream_ends_and_is_not_reset() {
    let resets = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&resets);
    let script = move |_, mut frames: crate::http2::Frames| {
        let seen = Arc::clone(&seen);
        async move {
            while let Some(stream) = frames.request().await {
                frames.head(stream, 0, &[]).await;
                frames.send(DATA, 0, stream, LAST.as_bytes()).await;
                sleep(MOMENT).await;
                frames.send(DATA, END_STREAM, stream, b"").await;
                // A second request comes on the same connection, and no word of the first's having been given up.
                if stream > 1 {
                    while frames.next_of(RESET).await.is_some() {
                        *seen.lock().unwrap() += 1;
                    }
                }
            }
        }
    };
    let (upstream, proxy) = by_frames(script, |_| {}).await;
    let grant = open();
    for _ in 0..2 {
        proxy.drain(heard(&proxy, &grant).await);
        left(&grant).await;
    }
    sleep(MOMENT).await;
    assert_eq!((upstream.accepted(), *resets.lock().unwrap()), (1, 0));
}

/// Frames of nothing are no end either, however many there are.
#[tokio::test]
async fn over_http_2_frames_of_nothing_are_cut_off_as_well() {
    let resets = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&resets);
    let script = move |_, mut frames: crate::http2::Frames| {
        let seen = Arc::clone(&seen);
        async move {
            while let Some(stream) = frames.request().await {
                frames.head(stream, 0, &[]).await;
                frames.send(DATA, 0, stream, LAST.as_bytes()).await;
                sleep(MOMENT).await;
                frames.nothings(stream, 20 << 10).await;
                // Its stream is reset, or the whole connection ends for such a peer.
                frames.next_of(RESET).await;
                seen.lock().unwrap().push(Instant::now());
            }
        }
    };
    let (_upstream, proxy) = by_frames(script, |_| {}).await;
    let grant = open();
    let took = cut_off(&proxy, &grant, &resets, async {}).await;
    assert!(took < Duration::from_millis(900), "long before its time is up: {took:?}");
}
