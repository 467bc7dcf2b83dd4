//! HTTP/2 upstreams that refuse, leave, cheat and fall silent.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use orch_proxy::{BodyError, EgressError, Ended, SCRUBBED, TimeoutKind, full};

use crate::http2::*;
use crate::support::*;

const URL: &str = "https://api.example.com/";
const SHORT: Duration = Duration::from_millis(60);

fn post() -> http::Request<orch_proxy::Body> {
    request("POST", URL, full("order"))
}

#[tokio::test]
async fn what_was_not_looked_at_is_sent_once_more() {
    for refuse in [true, false] {
        let (body, mut bodies) = tokio::sync::mpsc::unbounded_channel();
        let (upstream, proxy) = by_frames(
            move |connection, mut frames| {
                let body = body.clone();
                async move {
                    let stream = frames.next_of(HEADERS).await.unwrap().stream;
                    let data = frames.next_of(DATA).await.unwrap();
                    body.send((data.payload, data.flags & END_STREAM)).unwrap();
                    match (connection, refuse) {
                        (0, true) => frames.reset(stream, REFUSED_STREAM).await,
                        (0, false) => frames.go_away(0, NO_ERROR, "").await,
                        _ => frames.answer(stream, "taken").await,
                    }
                    frames.closed().await;
                }
            },
            |_| {},
        )
        .await;
        assert_eq!(text(proxy.forward(&open(), post()).await.unwrap()).await, "taken");
        assert_eq!(upstream.accepted(), 2);
        for _ in 0..2 {
            assert_eq!(bodies.recv().await.unwrap(), (b"order".to_vec(), END_STREAM));
        }
    }
}

#[tokio::test]
async fn a_refusal_is_final_the_second_time() {
    let (upstream, proxy) = by_frames(
        |_, mut frames| async move {
            while let Some(stream) = frames.request().await {
                frames.reset(stream, REFUSED_STREAM).await;
            }
        },
        |_| {},
    )
    .await;
    assert_eq!(code(proxy.forward(&open(), get(URL)).await), "protocol_error");
    assert_eq!(upstream.accepted(), 2);
}

#[tokio::test]
async fn what_may_have_had_an_effect_is_not_sent_twice() {
    // A reset for another reason; a connection that goes away but counts the stream, and then closes.
    for reset in [true, false] {
        let (upstream, proxy) = by_frames(
            move |_, mut frames| async move {
                let stream = frames.request().await.unwrap();
                if reset {
                    frames.reset(stream, INTERNAL_ERROR).await;
                    let next = frames.request().await.unwrap();
                    frames.answer(next, "ok").await;
                    frames.closed().await;
                } else {
                    frames.go_away(stream, NO_ERROR, "").await;
                    frames.close().await;
                }
            },
            |_| {},
        )
        .await;
        let grant = open();
        assert_eq!(code(proxy.forward(&grant, post()).await), "protocol_error");
        assert_eq!(upstream.accepted(), 1);
        if reset {
            // The connection is as good as before.
            assert_eq!(text(proxy.forward(&grant, get(URL)).await.unwrap()).await, "ok");
            assert_eq!(upstream.accepted(), 1);
        }
    }
}

#[tokio::test]
async fn streams_that_a_goaway_counts_go_on() {
    let (upstream, proxy) = by_frames(
        |connection, mut frames| async move {
            let stream = frames.request().await.unwrap();
            if connection == 0 {
                frames.head(stream, 0, &[]).await;
                frames.go_away(stream, NO_ERROR, "").await;
                frames.send(DATA, END_STREAM, stream, b"first").await;
            } else {
                frames.answer(stream, "second").await;
            }
            frames.closed().await;
        },
        |_| {},
    )
    .await;
    let grant = open();
    assert_eq!(text(proxy.forward(&grant, get(URL)).await.unwrap()).await, "first");
    assert_eq!(text(proxy.forward(&grant, get(URL)).await.unwrap()).await, "second");
    assert_eq!(upstream.accepted(), 2);
}

#[tokio::test]
async fn an_error_holds_nothing_of_what_the_peer_wrote() {
    let (_upstream, proxy) = by_frames(
        |_, mut frames| async move {
            frames.request().await;
            frames.go_away(0, INTERNAL_ERROR, SECRET).await;
            frames.close().await;
        },
        |_| {},
    )
    .await;
    let error = proxy.forward(&open(), get(URL)).await.unwrap_err();
    assert_eq!(error.code(), "protocol_error");
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
}

/// Two runs of one policy with an answer under way each, on one connection; `end` ends the first.
async fn one_ends_and_the_other_goes_on(
    end: impl FnOnce(Arc<orch_proxy::LiveGrant>, orch_proxy::Body) -> Option<orch_proxy::Body>,
) {
    let (upstream, proxy) = by_frames(
        |_, mut frames| async move {
            for _ in 0..2 {
                let stream = frames.request().await.unwrap();
                frames.head(stream, 0, &[]).await;
                frames.send(DATA, 0, stream, b"some").await;
            }
            let reset = frames.next_of(RESET).await.unwrap();
            assert_eq!((reset.stream, reset.payload), (1, CANCEL.to_be_bytes().to_vec()));
            frames.send(DATA, END_STREAM, 3, b" more").await;
            let next = frames.request().await.unwrap();
            frames.answer(next, "ok").await;
            frames.closed().await;
        },
        |_| {},
    )
    .await;
    let (one, other) = (open(), open());
    let unread = proxy.forward(&one, get(URL)).await.unwrap().into_body();
    let read = proxy.forward(&other, get(URL)).await.unwrap();
    let left = end(one, unread);
    assert_eq!(text(read).await, "some more");
    assert_eq!(text(proxy.forward(&other, get(URL)).await.unwrap()).await, "ok");
    assert_eq!(upstream.accepted(), 1);
    if let Some(mut body) = left {
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(matches!(error, BodyError::Ended(Ended::Revoked)), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_is_dropped_costs_its_stream_only() {
    one_ends_and_the_other_goes_on(|_, body| {
        drop(body);
        None
    })
    .await;
}

#[tokio::test]
async fn revoking_a_run_ends_its_streams_only_and_read_or_not() {
    one_ends_and_the_other_goes_on(|grant, body| {
        grant.revoke();
        Some(body)
    })
    .await;
}

#[tokio::test]
async fn heads_that_break_the_rules_are_protocol_errors() {
    let many: Vec<(&str, &str)> = vec![("x", "1"); 200];
    let long = "x".repeat(100);
    let large: Vec<(&str, &str)> = vec![("x", long.leak()); 90];
    let cases: [&[(&str, &str)]; 8] = [
        &[("connection", "close")],
        &[("transfer-encoding", "chunked")],
        &[("keep-alive", "timeout=5")],
        &[("upgrade", "websocket")],
        &[("X-Upper", "1")],
        &[("content-length", "2"), ("content-length", "3")],
        many.leak(),
        large.leak(),
    ];
    for fields in cases {
        let (_upstream, proxy) = by_frames(
            move |_, mut frames| async move {
                let stream = frames.request().await.unwrap();
                frames.head(stream, END_STREAM, fields).await;
                frames.closed().await;
            },
            |config| config.caps.header_bytes = 8 << 10,
        )
        .await;
        let result = proxy.forward(&open(), get(URL)).await;
        assert_eq!(code(result), "protocol_error", "{:?}", &fields[0]);
    }
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_announced_is_an_error() {
    for body in ["four", "far too much"] {
        let (_upstream, proxy) = by_frames(
            move |_, mut frames| async move {
                let stream = frames.request().await.unwrap();
                frames.head(stream, 0, &[("content-length", "10")]).await;
                frames.send(DATA, END_STREAM, stream, body.as_bytes()).await;
                frames.closed().await;
            },
            |_| {},
        )
        .await;
        let failed = match proxy.forward(&open(), get(URL)).await {
            Ok(response) => matches!(whole(response).await, Err(BodyError::Upstream(_))),
            Err(error) => error.code() == "protocol_error",
        };
        assert!(failed, "{body}");
    }
}

#[tokio::test]
async fn interim_heads_are_passed_over() {
    let (_upstream, proxy) = by_frames(
        |_, mut frames| async move {
            let stream = frames.request().await.unwrap();
            // `:status: 103` and `link: x`, as literals.
            let hints = b"\x08\x03103\x00\x04link\x01x";
            frames.send(HEADERS, END_HEADERS, stream, hints).await;
            frames.answer(stream, "ok").await;
            frames.closed().await;
        },
        |_| {},
    )
    .await;
    let response = proxy.forward(&open(), get(URL)).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().get("link")), (200, None));
    assert_eq!(text(response).await, "ok");
}

#[tokio::test]
async fn an_early_answer_is_whole_though_the_rest_of_the_request_is_not_wanted() {
    let (_upstream, proxy) = by_frames(
        |_, mut frames| async move {
            let stream = frames.next_of(HEADERS).await.unwrap().stream;
            frames.answer(stream, "enough").await;
            frames.reset(stream, NO_ERROR).await;
            frames.closed().await;
        },
        |_| {},
    )
    .await;
    let endless = futures_util::stream::pending::<Result<http_body::Frame<bytes::Bytes>, BodyError>>();
    let body = http_body_util::StreamBody::new(endless).boxed_unsync();
    let response = proxy.forward(&open(), request("POST", URL, body)).await.unwrap();
    assert_eq!(text(response).await, "enough");
}

#[tokio::test]
async fn frames_of_nothing_are_no_progress() {
    let (_upstream, proxy) = by_frames(
        |_, mut frames| async move {
            let stream = frames.request().await.unwrap();
            frames.head(stream, 0, &[]).await;
            let mut ticks = tokio::time::interval(SHORT / 6);
            for _ in 0..90 {
                ticks.tick().await;
                frames.send(DATA, 0, stream, b"").await;
            }
            frames.closed().await;
        },
        |config| config.timeouts.idle = SHORT,
    )
    .await;
    let error = whole(proxy.forward(&open(), get(URL)).await.unwrap()).await.unwrap_err();
    assert!(matches!(error, BodyError::Timeout(TimeoutKind::Idle)), "{error}");
}

#[tokio::test]
async fn a_connection_without_a_sign_of_life_is_given_up() {
    // One that never says a word, and one that stops answering.
    for settings in [true, false] {
        let (_upstream, proxy) = by_frames_with(
            move |_, mut wire| async move {
                if settings {
                    wire.send(b"\0\0\0\x04\0\0\0\0\0").await;
                }
                wire.closed().await;
            },
            |config| (config.pool.ping_every, config.pool.ping_patience) = (SHORT, SHORT),
        )
        .await;
        let grant = open();
        let (one, two) = tokio::join!(proxy.forward(&grant, get(URL)), proxy.forward(&grant, get(URL)));
        for result in [one, two] {
            let error = result.unwrap_err();
            assert!(
                matches!(&error, EgressError::Protocol { what, .. } if what.contains("sign of life")),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_secret_is_taken_out_across_frames_and_in_trailers() {
    let (_upstream, proxy) = by_frames(
        |_, mut frames| async move {
            let stream = frames.request().await.unwrap();
            frames.head(stream, 0, &[("x-echo", SECRET), ("trailer", "x-end")]).await;
            for byte in format!("key {SECRET}.").bytes() {
                frames.send(DATA, 0, stream, &[byte]).await;
            }
            let mut trailers = b"\x00\x05x-end".to_vec();
            trailers.push(u8::try_from(SECRET.len()).unwrap());
            trailers.extend(SECRET.as_bytes());
            frames.send(HEADERS, END_HEADERS | END_STREAM, stream, &trailers).await;
            frames.closed().await;
        },
        |_| {},
    )
    .await;
    let binding = bind("authorization", vec![target("https://api.example.com")]);
    let bearer = format!("Bearer {}", binding.placeholder);
    let mut grant = grant(vec![rule("https://api.example.com")]);
    grant.bindings = vec![binding];
    let response = proxy.forward(&live(grant), with(get(URL), "authorization", &bearer)).await.unwrap();
    assert_eq!(response.headers()["x-echo"], SCRUBBED);
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-end"], SCRUBBED);
    assert_eq!(collected.to_bytes(), format!("key {SCRUBBED}."));
}
