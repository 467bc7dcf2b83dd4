//! Servers that answer too much, too slowly, or never.

use std::time::Duration;

use futures_util::stream;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use orch_proxy::{Body, BodyError};
use orch_server::MODULE_LIMIT;
use tokio::time::{Instant, sleep};

use super::*;
use crate::client::REPORT_LIMIT;
use crate::client::exchange::DOCUMENT_LIMIT;

const MINUTE: Duration = Duration::from_secs(60);

/// These pieces, and then so many of a MiB, which are made when they are read.
fn large(first: &'static str, pieces: usize) -> Body {
    let piece = Bytes::from(vec![b' '; 1 << 20]);
    let first = std::iter::once(Bytes::from_static(first.as_bytes()));
    let all = first.chain(std::iter::repeat_n(piece, pieces));
    StreamBody::new(stream::iter(all.map(|piece| Ok(Frame::data(piece))))).boxed_unsync()
}

/// So many bytes, each of which takes so long.
fn slow(bytes: usize, each: Duration) -> Body {
    let bytes = stream::unfold(0, move |n| async move {
        sleep(each).await;
        (n < bytes).then(|| (Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"1"))), n + 1))
    });
    StreamBody::new(bytes).boxed_unsync()
}

/// A server in this process, so that the paused clock of a test is its clock as well.
fn here<F>(answer: impl Fn(Request<Body>) -> F + Send + Sync + 'static) -> Client
where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    Client::trusted(Channel::InProcess(Arc::new(move |request| Box::pin(answer(request)))), "the server")
}

fn fine(body: Body) -> Response<Body> {
    told(200, "").map(|_| body)
}

#[tokio::test]
async fn each_kind_of_answer_has_its_bound() {
    let server = Served::tcp(None, |asked| {
        let mut response = fine(large("", 1000));
        if asked.path.starts_with("/v1/refused") {
            *response.status_mut() = http::StatusCode::BAD_REQUEST;
        }
        response
    })
    .await;
    let client = server.client(None);
    let digest = Digest::of(b"x");
    for (failure, limit) in [
        (get(&client).await.err(), DOCUMENT_LIMIT),
        (client.get::<Value>("/v1/refused").await.err(), DOCUMENT_LIMIT),
        (client.events("/v1/refused", None).await.err(), DOCUMENT_LIMIT),
        (client.put_blob(&digest, &Bytes::from_static(b"x"), &|_| {}).await.err(), DOCUMENT_LIMIT),
        (client.get_run::<Value>("/v1/runs/x").await.err(), REPORT_LIMIT),
        (blob(&client, &digest).await.err(), usize::try_from(MODULE_LIMIT).expect("small")),
    ] {
        let failure = failure.expect("too much");
        assert_eq!((failure.kind(), failure.code()), (Kind::Server, "server_unexpected"));
        let said = format!("with more than {} MiB", limit >> 20);
        assert!(failure.message().contains(&said), "{failure}");
    }
}

#[tokio::test]
async fn an_answer_within_its_bound_is_read() {
    let server = Served::tcp(None, |asked| {
        let limit = if asked.path == "/v1/whoami" { DOCUMENT_LIMIT } else { REPORT_LIMIT };
        fine(large("{}", (limit >> 20) - 1))
    })
    .await;
    let client = server.client(None);
    assert_eq!(get(&client).await.expect("read"), json!({}));
    assert_eq!(client.get_run::<Value>("/v1/runs/x").await.expect("read"), json!({}));
}

#[tokio::test(start_paused = true)]
async fn an_upload_takes_as_long_as_it_takes() {
    let client = here(|request| async move {
        let mut body = request.into_body();
        while let Some(piece) = body.frame().await {
            piece.expect("whole");
            sleep(MINUTE).await;
        }
        fine(orch_proxy::full("{}"))
    });
    let bytes = Bytes::from(vec![b' '; 20 * 64 * 1024]);
    let begun = Instant::now();
    client.post::<Value>("/v1/runs", bytes.clone()).await.expect("sent");
    client.put_blob(&Digest::of(&bytes), &bytes, &|_| {}).await.expect("sent");
    assert!(begun.elapsed() >= 40 * MINUTE, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stands_still_is_given_up() {
    let client = here(|request| async move {
        let mut body = request.into_body();
        body.frame().await.expect("a piece").expect("whole");
        std::future::pending().await
    });
    let bytes = Bytes::from(vec![b' '; 20 * 64 * 1024]);
    for module in [true, false] {
        let begun = Instant::now();
        let failure = match module {
            true => client.put_blob(&Digest::of(&bytes), &bytes, &|_| {}).await.expect_err("stuck"),
            false => client.post::<Value>("/v1/runs", bytes.clone()).await.expect_err("stuck"),
        };
        assert_eq!(failure.code(), "server_unreachable");
        assert!(failure.message().contains("nothing moved for 120 s"), "{failure}");
        assert!(begun.elapsed() > 2 * MINUTE && begun.elapsed() < 3 * MINUTE, "{:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stands_still_is_given_up_and_a_slow_one_is_not() {
    let begun = Instant::now();
    let failure = get(&here(|_| async { fine(slow(9, 3 * MINUTE)) })).await.expect_err("stuck");
    assert_eq!(failure.code(), "server_unreachable");
    assert!(failure.message().contains("nothing moved for 120 s at GET /v1/whoami"), "{failure}");
    assert_eq!(begun.elapsed().as_secs(), 120);
    let failure = get(&here(|_| std::future::pending())).await.expect_err("stuck");
    assert_eq!(failure.code(), "server_unreachable");
    assert_eq!(get(&here(|_| async { fine(slow(9, MINUTE)) })).await.expect("read"), json!(111_111_111));
}
