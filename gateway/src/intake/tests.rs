use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use orch_manifests::RunId;
use orch_proxy::{BodyError, Grant, Grants, full};

use super::*;
use crate::plan::Plan;
use crate::usage::Budget;

fn session() -> Session {
    let expires = Instant::now() + Duration::from_secs(3600);
    let (_, grant) = Grants::new().mint(Grant {
        run: RunId::random(),
        workspace: "default".into(),
        rules: Vec::new(),
        trials: Vec::new(),
        bindings: Vec::new(),
        limits: orch_proxy::Limits::of(100, 10),
        expires,
    });
    Session::new(grant, Arc::new(Plan::default()), expires, Budget::new(None, None))
}

/// A body that never comes.
fn endless() -> Body {
    StreamBody::new(stream::pending::<Result<Frame<Bytes>, _>>()).boxed_unsync()
}

/// A call of a server's client.
async fn of_client(body: Body, headers: HeaderMap) -> Result<ClientRequest, (StatusCode, String)> {
    let session = session().with_intake(Intake::of_clients(0));
    let received = receive(&session, Dialect::OpenAiChat, Task::Chat, None, headers, body).await;
    match received {
        Ok(request) => Ok(request),
        Err(refused) => {
            let status = refused.status();
            let body = refused.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            Err((status, String::from_utf8_lossy(&body).into_owned()))
        }
    }
}

/// The pieces of a body, each after so much time.
fn slowly(pieces: Vec<String>, each: Duration) -> Body {
    let pieces = stream::iter(pieces).then(move |piece| async move {
        tokio::time::sleep(each).await;
        Ok::<_, BodyError>(Frame::data(Bytes::from(piece)))
    });
    StreamBody::new(pieces).boxed_unsync()
}

fn with_values(count: u32) -> Body {
    full(format!(
        r#"{{"messages":[{{"role":"user","content":"hi"}}],"x":[{}]}}"#,
        vec!["{}"; count as usize].join(",")
    ))
}

type Receiving<'a> = BoxFuture<'a, Result<ClientRequest, Box<Response<Body>>>>;

fn receiving(session: &Session, body: Body) -> Receiving<'_> {
    // Polled hundreds of times in one turn of a test.
    tokio::task::unconstrained(receive(
        session,
        Dialect::OpenAiChat,
        Task::Chat,
        None,
        HeaderMap::new(),
        body,
    ))
    .boxed()
}

/// What a call has come to without any waiting.
fn poll<'a>(call: &mut Receiving<'a>) -> Option<<Receiving<'a> as Future>::Output> {
    call.now_or_never()
}

#[tokio::test]
async fn bodies_wait_unread_until_there_is_room() {
    let session = session();
    let mut reading: Vec<Receiving<'_>> = (0..2).map(|_| receiving(&session, endless())).collect();
    assert!(reading.iter_mut().all(|one| poll(one).is_none()));
    let mut late = receiving(&session, with_values(1));
    assert!(poll(&mut late).is_none(), "two bodies that may become the largest leave no room");
    reading.pop();
    assert!(late.await.is_ok());
}

#[tokio::test]
async fn a_body_counts_for_what_it_is_once_it_is_read() {
    let session = session();
    let unannounced = || {
        let pieces = stream::iter([Ok(Frame::data(Bytes::from_static(
            br#"{"messages":[{"role":"user","content":"hi"}]}"#,
        )))]);
        StreamBody::new(pieces).boxed_unsync()
    };
    let mut held = Vec::new();
    for _ in 0..CALLS {
        held.push(receiving(&session, unannounced()).now_or_never());
    }
    assert!(held.iter().all(|got| matches!(got, Some(Ok(_)))));
}

#[tokio::test]
async fn parsed_bodies_are_bounded_together() {
    let session = session();
    let first = receiving(&session, with_values(REQUEST_VALUES / 2)).await.ok();
    let mut second = receiving(&session, with_values(REQUEST_VALUES / 2));
    assert!(poll(&mut second).is_none(), "together they hold more values than one may");
    drop(first);
    assert!(second.await.is_ok());
}

#[tokio::test]
async fn a_call_too_many_is_refused() {
    let session = session();
    let mut waiting: Vec<Receiving<'_>> = (0..CALLS).map(|_| receiving(&session, endless())).collect();
    assert!(waiting.iter_mut().all(|one| poll(one).is_none()));
    let Err(refused) = receiving(&session, with_values(1)).await else { panic!("it was let in") };
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    waiting.pop();
    let mut next = receiving(&session, endless());
    assert!(poll(&mut next).is_none());
}

#[tokio::test]
async fn the_end_of_the_grant_ends_the_wait() {
    let session = session();
    let mut waiting: Vec<Receiving<'_>> = (0..6).map(|_| receiving(&session, endless())).collect();
    assert!(waiting.iter_mut().all(|one| poll(one).is_none()));
    session.grant.revoke();
    for one in waiting {
        let Err(refused) = one.await else { panic!("it was received") };
        let body = refused.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        assert!(String::from_utf8_lossy(&body).contains("orch_run_ended"), "{body:?}");
    }
}

#[tokio::test]
async fn arguments_are_bounded_though_they_are_text() {
    let session = session();
    let body = |count: u32| {
        let arguments = format!("[{}]", vec!["1"; count as usize].join(","));
        let call = serde_json::json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}});
        full(serde_json::json!({"messages": [{"role": "assistant", "tool_calls": [call]}]}).to_string())
    };
    assert!(receiving(&session, body(REQUEST_VALUES - 1)).await.is_ok());
    let Err(refused) = receiving(&session, body(REQUEST_VALUES)).await else { panic!("it was received") };
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn answers_of_vectors_take_room_until_nobody_holds_them() {
    let (run, clients) = (Intake::of_run(), Intake::of_clients(0));
    let largest = 96 << 20;
    let first = run.room(largest).await;
    let mut second = Box::pin(run.room(largest));
    assert!(second.as_mut().now_or_never().is_none(), "two of the largest are more than a run may hold");
    let small = run.room(1 << 20).now_or_never();
    assert!(small.is_none(), "who came later does not overtake");
    // Others are not held up by that.
    drop(clients.room(largest).now_or_never().expect("the room of somebody else"));

    // Once it is read an answer takes what it is long, and that as long as anybody has a piece of it.
    let bytes = first.with(Bytes::from(vec![0; 1 << 20]));
    let second = second.as_mut().now_or_never().expect("there is room");
    let held = |intake: &Intake| blocks(ANSWERS) - intake.answers.available_permits();
    assert_eq!(held(&run), blocks(1 << 20) + blocks(2 * largest));
    drop(second);
    let piece = bytes.slice(..1);
    drop(bytes);
    assert_eq!(held(&run), blocks(1 << 20));
    drop(piece);
    assert_eq!(held(&run), 0);
    assert_eq!(run.room(usize::MAX).await.own.num_permits(), blocks(ANSWERS), "whatever is said, it fits");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_or_slow_does_not_keep_the_room_of_others() {
    let begun = Instant::now();
    let Err((status, text)) = of_client(endless(), HeaderMap::new()).await else { panic!("it was received") };
    assert_eq!((status, begun.elapsed().as_secs()), (StatusCode::REQUEST_TIMEOUT, SILENCE.as_secs()));
    assert!(text.contains("orch_request_timeout"), "{text}");

    let pieces = |count: usize| {
        let text = format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]}}"#, "x".repeat(count));
        let chars: Vec<char> = text.chars().collect();
        chars.chunks(count).map(|piece| piece.iter().collect()).collect::<Vec<String>>()
    };
    let second = Duration::from_secs(1);
    let Err((status, _)) = of_client(slowly(pieces(2), second), HeaderMap::new()).await else {
        panic!("a few bytes each second took too long")
    };
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    // As fast as it has to be, and the pieces are one body.
    let steady = of_client(slowly(pieces(64 << 10), second), HeaderMap::new()).await;
    assert_eq!(steady.map(|request| request.body.len()).unwrap_or_default(), (64 << 10) + 43);

    // What belongs to a run has the run's time, and is in nobody else's way.
    let session = session();
    let mut own = receiving(&session, endless());
    assert!(timeout(4 * SILENCE, &mut own).await.is_err());
}

#[tokio::test]
async fn a_compressed_body_is_refused_as_that() {
    for (coding, status) in [
        ("gzip", Some(415)),
        ("zstd, gzip", Some(415)),
        ("Identity", None),
        // No coding at all, and sent as one by some.
        ("UTF-8", None),
        ("", None),
    ] {
        let headers = HeaderMap::from_iter([(CONTENT_ENCODING, coding.parse().unwrap())]);
        let refused = of_client(with_values(1), headers).await.err();
        assert_eq!(refused.as_ref().map(|(status, _)| status.as_u16()), status, "{coding}");
        assert!(refused.is_none_or(|(_, text)| text.contains("content-encoding")));
    }
}
