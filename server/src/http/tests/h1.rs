//! HTTP/1.1, byte by byte.

use tokio::time::{Instant, sleep};

use super::*;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

#[tokio::test(start_paused = true)]
async fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
    for slow in [
        "GET /known HTTP/1.1\r\nhost: localhost\r\nx-slow: aaaaaaaaaaaaaaaaaaaaaaaa",
        "PRI * HTTP/2.0\r\n",
        "",
    ] {
        let mut wire = Wire::with(b"").await;
        let begun = Instant::now();
        let mut bytes = slow.bytes();
        let rest = loop {
            tokio::select! {
                rest = wire.rest() => break rest,
                () = sleep(seconds(1)), if bytes.len() > 0 => {
                    let byte = bytes.next().expect("one more");
                    // The server may have closed it in the meantime.
                    let _ = wire.client.write_all(&[byte]).await;
                }
            }
        };
        assert_eq!(rest, b"", "{slow}");
        let took = begun.elapsed();
        assert!(took >= seconds(10) && took <= seconds(12), "{slow}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_for_a_while() {
    let mut wire = Wire::with(get("/known").as_bytes()).await;
    let answer = wire.until("/known nobody tcp tls=false").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let begun = Instant::now();
    sleep(seconds(70)).await;
    wire.send(get("/known/again").as_bytes()).await;
    wire.until("/known/again nobody tcp tls=false").await;
    assert_eq!(wire.rest().await, b"");
    assert!(begun.elapsed() >= seconds(145) && begun.elapsed() <= seconds(147), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_somebody_known_may_take_its_time() {
    let mut wire = Wire::with(get("/known/forever").as_bytes()).await;
    let waited = tokio::time::timeout(seconds(100_000), wire.rest()).await;
    assert!(waited.is_err(), "still open");
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_their_order() {
    let three = [get("/known/1"), get("/x"), get("/known/3")].concat();
    let mut wire = Wire::with(three.as_bytes()).await;
    let answers = wire.until("/known/3 nobody tcp tls=false").await;
    let at = |text: &str| answers.find(text).unwrap_or_else(|| panic!("{text} is not in {answers}"));
    assert!(at("200 OK") < at("/known/1 ") && at("/known/1 ") < at("401 ") && at("/x ") < at("/known/3 "));
}

#[tokio::test]
async fn a_head_has_its_bounds() {
    let many: String = (0..100).map(|n| format!("x-{n}: 1\r\n")).collect();
    let large = format!("x-large: {}\r\n", "a".repeat(20 << 10));
    let huge = format!("x-huge: {}\r\n", "a".repeat(1 << 19));
    let target = format!("GET /known?{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "a".repeat(20 << 10));
    let with = |fields: &str| format!("GET /known HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n");
    for (request, said) in [
        (with(&many), "431 "),
        (with(&large), "head_too_large"),
        (with(&huge), "431 "),
        (target, "head_too_large"),
        (with("x-fine: 1\r\n"), "/known nobody tcp tls=false"),
    ] {
        let mut wire = Wire::with(request.as_bytes()).await;
        let answer = wire.until(said).await;
        assert!(answer.len() < 1000, "{answer}");
    }
}

#[tokio::test]
async fn a_request_for_another_server_is_refused() {
    for (host, said) in [
        ("host: localhost:80\r\n", "/known nobody"),
        ("host: 127.0.0.1\r\n", "/known nobody"),
        ("host: evil.example\r\n", "host_unknown"),
        ("host: localhost\r\nhost: localhost\r\n", "host_unknown"),
        ("", "host_unknown"),
    ] {
        let mut wire = Wire::with(format!("GET /known HTTP/1.1\r\n{host}\r\n").as_bytes()).await;
        wire.until(said).await;
    }
    let mut wire = Wire::with(b"GET http://evil.example/known HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    wire.until("host_unknown").await;
}

#[tokio::test]
async fn what_is_no_http_gets_no_answer_that_means_anything() {
    for noise in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"\0\0\0\0\r\n\r\n",
        b"HELO x\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let mut wire = Wire::with(noise).await;
        wire.client.shutdown().await.expect("done");
        let answer = String::from_utf8_lossy(&wire.rest().await).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
    // Two lengths, or a length and chunks, are two readings of where the next request begins.
    for framing in [
        "content-length: 1\r\ncontent-length: 2\r\n",
        "content-length: 1, 2\r\n",
        "transfer-encoding: chunked, identity\r\n",
    ] {
        let request = format!("POST /known HTTP/1.1\r\nhost: localhost\r\n{framing}\r\n0\r\n\r\n");
        let mut wire = Wire::with(request.as_bytes()).await;
        let answer = String::from_utf8_lossy(&wire.rest().await).into_owned();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{framing}: {answer}");
    }
}

#[tokio::test]
async fn a_connection_that_is_told_to_close_answers_first() {
    let mut wire = Wire::with(get("/known").as_bytes()).await;
    wire.until("/known nobody tcp tls=false").await;
    wire._close.send_replace(true);
    assert_eq!(wire.rest().await, b"");
}
