//! Bodies and connections over time: streaming, stalling, ending early, being kept and being reused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use orch_proxy::{BodyError, Ended, TimeoutKind, full};
use tokio::time::Instant;

use crate::support::*;

const URL: &str = "https://api.example.com/";
const SHORT: Duration = Duration::from_millis(60);

#[tokio::test]
async fn answers_without_a_body_leave_the_connection_good() {
    let answers: [(&str, &str, u16); 6] = [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", 200),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 1000\r\n\r\n", 304),
        (
            "GET",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            200,
        ),
        ("POST", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 200),
        ("GET", "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", 500),
    ];
    let (upstream, proxy) = scripted(
        move |_, mut wire| async move {
            for (_, answer, _) in answers {
                wire.request().await;
                wire.send(answer).await;
            }
        },
        |_| {},
    )
    .await;
    let grant = open();
    for (method, _, status) in answers {
        let response = proxy.forward(&grant, request(method, URL, orch_proxy::empty())).await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers().get("link"), None);
        assert_eq!(whole(response).await.unwrap(), "");
    }
    assert_eq!((upstream.accepted(), upstream.requests().len()), (1, 6));
}

#[tokio::test]
async fn connections_are_reused_one_exchange_at_a_time() {
    let (upstream, proxy) = answering(OK).await;
    let grant = open();
    for _ in 0..20 {
        assert_eq!(text(proxy.forward(&grant, get(URL)).await.unwrap()).await, "ok");
    }
    assert_eq!(upstream.accepted(), 1);
    // While one answer is unread its connection is busy.
    let first = proxy.forward(&grant, get(URL)).await.unwrap();
    let second = proxy.forward(&grant, get(URL)).await.unwrap();
    assert_eq!(upstream.accepted(), 2);
    assert_eq!((text(first).await, text(second).await), ("ok".into(), "ok".into()));
}

#[tokio::test]
async fn an_answer_that_is_not_read_to_its_end_costs_the_connection() {
    let (upstream, proxy) = scripted(
        |_, mut wire| async move {
            while wire.request().await.is_some() {
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome").await;
            }
        },
        |_| {},
    )
    .await;
    let grant = open();
    for _ in 0..2 {
        let mut body = proxy.forward(&grant, get(URL)).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "some");
    }
    assert_eq!(upstream.accepted(), 2);
    assert_eq!(grant.running(), 0);
}

/// A server that answers once on each of its first connections and then closes it as the next request arrives.
async fn going_stale() -> (Upstream, Arc<orch_proxy::Proxy>) {
    scripted(
        |count, mut wire| async move {
            wire.request().await;
            wire.send(OK).await;
            if count == 0 {
                wire.head().await;
                wire.close().await;
            } else {
                while wire.request().await.is_some() {
                    wire.send(OK).await;
                }
            }
        },
        |_| {},
    )
    .await
}

#[tokio::test]
async fn a_stale_connection_is_replaced_when_nothing_is_lost_by_it() {
    let (upstream, proxy) = going_stale().await;
    let grant = open();
    for _ in 0..2 {
        assert_eq!(text(proxy.forward(&grant, get(URL)).await.unwrap()).await, "ok");
    }
    assert_eq!(upstream.accepted(), 2);
    assert_eq!(upstream.requests().len(), 3);

    // What may have had an effect is not sent twice.
    let (upstream, proxy) = going_stale().await;
    text(proxy.forward(&grant, get(URL)).await.unwrap()).await;
    let post = request("POST", URL, full("order"));
    assert_eq!(code(proxy.forward(&grant, post).await), "protocol_error");
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_noticed() {
    let (upstream, proxy) = scripted(
        |_, mut wire| async move {
            wire.request().await;
            wire.send(OK).await;
            wire.close().await;
        },
        |_| {},
    )
    .await;
    let grant = open();
    for n in 1..=5 {
        // A request with a body: were it put on the dead connection, it could not be repeated.
        let post = request("POST", URL, full("order"));
        match proxy.forward(&grant, post).await {
            Ok(response) => assert_eq!(text(response).await, "ok"),
            // The close raced the request.
            Err(error) => assert_eq!(error.code(), "protocol_error"),
        }
        assert!(upstream.accepted() <= n);
    }
    assert!(upstream.requests().len() >= 3);
}

#[tokio::test]
async fn idle_connections_are_dropped_in_time() {
    let gone = Arc::new(AtomicUsize::new(0));
    let gone_there = Arc::clone(&gone);
    let (_upstream, proxy) = scripted(
        move |_, mut wire| {
            let gone = Arc::clone(&gone_there);
            async move {
                wire.request().await;
                wire.send(OK).await;
                wire.closed().await;
                gone.fetch_add(1, Ordering::SeqCst);
            }
        },
        |config| config.pool.idle_for = SHORT,
    )
    .await;
    text(proxy.forward(&open(), get(URL)).await.unwrap()).await;
    // Nobody asks again: the pool closes it on its own.
    tokio::time::timeout(Duration::from_secs(10), async {
        while gone.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the idle connection is closed");
}

#[tokio::test]
async fn early_ends_are_errors_and_not_ends() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let (_upstream, proxy) = scripted(
            move |_, mut wire| async move {
                wire.request().await;
                wire.send(answer).await;
                wire.close().await;
            },
            |_| {},
        )
        .await;
        let mut body = proxy.forward(&open(), get(URL)).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(matches!(error, BodyError::Upstream(_)), "{error}");
        assert!(body.frame().await.is_none());
    }
}

#[tokio::test]
async fn broken_answers_are_protocol_errors() {
    let huge = format!("HTTP/1.1 200 OK\r\nx-big: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(70 << 10));
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: 1\r\n".repeat(200));
    for answer in [
        "",
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        huge.leak(),
        many.leak(),
    ] {
        let answer: &'static str = answer;
        let (_upstream, proxy) = scripted(
            move |_, mut wire| async move {
                wire.request().await;
                wire.send(answer).await;
                wire.close().await;
            },
            |_| {},
        )
        .await;
        let shown = &answer[..answer.len().min(60)];
        assert_eq!(code(proxy.forward(&open(), get(URL)).await), "protocol_error", "{shown:?}");
    }
}

#[tokio::test]
async fn answers_lose_what_is_about_the_connection() {
    let answer = b"HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=9\r\n\
        orch-refusal: fake\r\nproxy-authenticate: Basic\r\nalt-svc: h3=\":443\"\r\nx-kept: 1\r\n\
        set-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 2\r\n\r\nok";
    let (_upstream, proxy) = answering(answer).await;
    let response = proxy.forward(&open(), get(URL)).await.unwrap();
    let mut names: Vec<&str> = response.headers().keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "set-cookie", "x-kept"]);
    assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
}

#[tokio::test]
async fn trailers_come_down() {
    let answer = b"HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\
        orch-token: x\r\ncontent-length: 9\r\n\r\n";
    let (_upstream, proxy) = answering(answer).await;
    let collected = proxy.forward(&open(), get(URL)).await.unwrap().into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap();
    assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &"1".parse().unwrap()));
}

/// Answers the head, then one byte of a body that never ends.
async fn dripping(change: impl FnOnce(&mut orch_proxy::ProxyConfig)) -> (Upstream, Arc<orch_proxy::Proxy>) {
    scripted(
        |_, mut wire| async move {
            wire.request().await;
            wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            wire.chunk(b"x").await;
            wire.closed().await;
        },
        change,
    )
    .await
}

#[tokio::test]
async fn an_upstream_that_stalls_is_given_up() {
    // Before the head.
    let (_upstream, proxy) = scripted(
        |_, mut wire| async move { wire.closed().await },
        |config| config.timeouts.first_byte = SHORT,
    )
    .await;
    let error = proxy.forward(&open(), get(URL)).await.unwrap_err();
    assert!(matches!(error, orch_proxy::EgressError::Timeout(TimeoutKind::FirstByte)), "{error}");
    // Inside the body.
    let (_upstream, proxy) = dripping(|config| config.timeouts.idle = SHORT).await;
    let error = whole(proxy.forward(&open(), get(URL)).await.unwrap()).await.unwrap_err();
    assert!(matches!(error, BodyError::Timeout(TimeoutKind::Idle)), "{error}");
    // In time, but for ever.
    let (_upstream, proxy) = scripted(
        |_, mut wire| async move {
            wire.request().await;
            wire.send("HTTP/1.1 200 OK\r\n\r\n").await;
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            for _ in 0..2000 {
                ticks.tick().await;
                wire.send("x").await;
            }
        },
        |config| config.timeouts.total = 2 * SHORT,
    )
    .await;
    let error = whole(proxy.forward(&open(), get(URL)).await.unwrap()).await.unwrap_err();
    assert!(matches!(error, BodyError::Timeout(TimeoutKind::Total)), "{error}");
}

#[tokio::test]
async fn a_reader_may_take_its_time() {
    let (go, gate) = tokio::sync::watch::channel(false);
    let (_upstream, proxy) = scripted(
        move |_, mut wire| {
            let mut gate = gate.clone();
            async move {
                wire.request().await;
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na").await;
                gate.wait_for(|go| *go).await.unwrap();
                wire.send("b").await;
            }
        },
        |config| config.timeouts.idle = SHORT,
    )
    .await;
    let mut body = proxy.forward(&open(), get(URL)).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
    let mut clock = tokio::time::interval(2 * SHORT);
    clock.tick().await;
    clock.tick().await;
    // Only from here on is the upstream waited for.
    let (frame, sent) = tokio::join!(body.frame(), async { go.send(true) });
    sent.unwrap();
    assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), "b");
}

#[tokio::test]
async fn a_guest_that_stalls_its_upload_is_given_up() {
    let (upstream, proxy) = scripted(
        |_, mut wire| async move {
            wire.request().await;
        },
        |config| config.timeouts.idle = SHORT,
    )
    .await;
    let frames =
        futures_util::stream::once(std::future::ready(Ok::<_, BodyError>(Frame::data(Bytes::from("x")))));
    let stalled = futures_util::StreamExt::chain(frames, futures_util::stream::pending());
    let post = request("POST", URL, StreamBody::new(stalled).boxed_unsync());
    let error = proxy.forward(&open(), post).await.unwrap_err();
    assert!(matches!(error, orch_proxy::EgressError::Timeout(TimeoutKind::Idle)), "{error}");
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn streams_are_cut_when_the_grant_ends() {
    // By its deadline.
    let (_upstream, proxy) = dripping(|_| {}).await;
    let mut short = grant(vec![rule("https://api.example.com")]);
    short.expires = Instant::now() + 5 * SHORT;
    let error = whole(proxy.forward(&live(short), get(URL)).await.unwrap()).await.unwrap_err();
    assert!(matches!(error, BodyError::Ended(Ended::Expired)), "{error}");
    // By revocation, while it is read.
    let (_upstream, proxy) = dripping(|_| {}).await;
    let grant = open();
    let mut body = proxy.forward(&grant, get(URL)).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
    let (frame, ()) = tokio::join!(body.frame(), async { grant.revoke() });
    let error = frame.unwrap().unwrap_err();
    assert!(matches!(error, BodyError::Ended(Ended::Revoked)), "{error}");
    // While its head is waited for.
    let (upstream, proxy) = scripted(|_, mut wire| async move { wire.closed().await }, |_| {}).await;
    let grant = open();
    let (result, ()) = tokio::join!(proxy.forward(&grant, get(URL)), async {
        while upstream.accepted() == 0 {
            tokio::task::yield_now().await;
        }
        grant.revoke();
    });
    assert_eq!(code(result), "grant_revoked");
}

#[tokio::test]
async fn revocation_closes_connections_that_nobody_reads_from() {
    let gone = Arc::new(AtomicUsize::new(0));
    let gone_there = Arc::clone(&gone);
    let (_upstream, proxy) = scripted(
        move |_, mut wire| {
            let gone = Arc::clone(&gone_there);
            async move {
                wire.request().await;
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx").await;
                wire.closed().await;
                gone.fetch_add(1, Ordering::SeqCst);
            }
        },
        |_| {},
    )
    .await;
    let grant = open();
    let unread = proxy.forward(&grant, get(URL)).await.unwrap();
    grant.revoke();
    tokio::time::timeout(Duration::from_secs(10), async {
        while gone.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the connection is closed although its body is not polled");
    assert!(whole(unread).await.is_err());
}

#[tokio::test]
async fn an_early_answer_that_nobody_reads_does_not_hold_the_request_up() {
    let (report, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    let (upstream, proxy) = scripted(
        move |_, mut wire| {
            let report = report.clone();
            async move {
                wire.head().await;
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await;
                report.send(wire.take(EARLY_UPLOAD).await.map(|body| body.len())).unwrap();
                wire.send("ok").await;
                // The connection is good for another request.
                while wire.request().await.is_some() {
                    wire.send(OK).await;
                }
            }
        },
        |_| {},
    )
    .await;
    let (mut sender, body) = http_body_util::channel::Channel::<Bytes, BodyError>::new(1);
    let post = with(request("POST", URL, body.boxed_unsync()), "content-length", &EARLY_UPLOAD.to_string());
    let grant = open();
    let unread = proxy.forward(&grant, post).await.unwrap();
    for piece in 0..4 {
        sender.send_data(vec![piece; EARLY_UPLOAD / 4].into()).await.unwrap();
    }
    drop(sender);
    assert_eq!(
        arrived.recv().await.unwrap(),
        Some(EARLY_UPLOAD),
        "it arrives although the answer is not polled"
    );
    assert_eq!(text(unread).await, "ok");
    assert_eq!(text(proxy.forward(&grant, get(URL)).await.unwrap()).await, "ok");
    assert_eq!(upstream.accepted(), 1);
}

/// More than the buffers on the way hold.
const EARLY_UPLOAD: usize = 16 << 20;

#[tokio::test]
async fn a_slow_reader_slows_the_upstream_down() {
    const PIECE: usize = 64 << 10;
    const PIECES: usize = 1024;
    let (report, mut stood_still) = tokio::sync::mpsc::unbounded_channel();
    let (_upstream, proxy) = scripted(
        move |_, mut wire| {
            let report = report.clone();
            async move {
                wire.request().await;
                wire.send("HTTP/1.1 200 OK\r\n\r\n").await;
                let piece = vec![b'x'; PIECE];
                for sent in 0..PIECES {
                    let sending = wire.send(&piece);
                    tokio::pin!(sending);
                    // Every buffer on the way is full once nothing was taken for so long.
                    if tokio::time::timeout(5 * SHORT, &mut sending).await.is_err() {
                        report.send(sent * PIECE).unwrap();
                        sending.await;
                    }
                }
                report.send(PIECES * PIECE).unwrap();
                wire.close().await;
            }
        },
        |_| {},
    )
    .await;
    let mut body = proxy.forward(&open(), get(URL)).await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    let taken = stood_still.recv().await.unwrap();
    assert!(taken < PIECES * PIECE / 2, "{taken} bytes were taken from the upstream although nobody reads");
    let rest = body.collect().await.unwrap().to_bytes().len();
    assert_eq!(first + rest, PIECES * PIECE);
}

#[tokio::test]
async fn a_slow_upstream_slows_the_guest_down() {
    let (upstream, proxy) = scripted(
        |_, mut wire| async move {
            // The head, and nothing of the body.
            wire.head().await;
            std::future::pending::<()>().await;
        },
        |config| config.timeouts.first_byte = 10 * SHORT,
    )
    .await;
    let pulled = Arc::new(AtomicUsize::new(0));
    let pulled_there = Arc::clone(&pulled);
    let endless = futures_util::stream::repeat_with(move || {
        pulled_there.fetch_add(64 << 10, Ordering::SeqCst);
        Ok::<_, BodyError>(Frame::data(Bytes::from_static(&[b'x'; 64 << 10])))
    });
    let post = request("POST", URL, StreamBody::new(endless).boxed_unsync());
    let error = proxy.forward(&open(), post).await.unwrap_err();
    assert!(matches!(error, orch_proxy::EgressError::Timeout(TimeoutKind::FirstByte)), "{error}");
    assert_eq!(upstream.accepted(), 1);
    let pulled = pulled.load(Ordering::SeqCst);
    assert!(pulled < 24 << 20, "{pulled} bytes were taken from the guest although nobody reads");
}

#[tokio::test]
async fn a_known_length_is_passed_on() {
    let (_upstream, proxy) = answering(OK).await;
    let response = proxy.forward(&open(), get(URL)).await.unwrap();
    assert_eq!(response.body().size_hint().exact(), Some(2));
    assert_eq!(response.headers()["content-length"], "2");
}
