//! `/readyz` when what the server stands on has failed for good.

use std::time::Duration as StdDuration;

use super::*;

/// The answer of `/readyz`, once it is not that all is well. The thread that failed ends a moment after it said so.
async fn unready(stage: &Stage) -> Answer {
    let asking = async {
        loop {
            // Over the socket, where nobody asks too often.
            let answer = stage.send(None, Peer::Unix, request("GET", "/readyz", "", None)).await;
            if answer.status != StatusCode::OK {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(StdDuration::from_secs(30), asking).await.expect("it notices")
}

async fn said_of(stage: &Stage) -> Value {
    let answer = unready(stage).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    // It lives, and a supervisor that restarts what is not ready has to see the difference.
    assert_eq!(stage.send(None, LOCAL, request("GET", "/healthz", "", None)).await.status, 200);
    answer.json()
}

#[tokio::test]
async fn a_vault_that_has_failed_is_a_reason_not_to_be_ready() {
    let stage = Stage::new().await;
    let failed = stage.service.keeper().look::<()>("default", |_| panic!("a test wants it to panic")).await;
    assert_eq!(failed.expect_err("nobody answers").code(), "vault_closed");
    assert_eq!(said_of(&stage).await, json!({ "status": "failed", "code": "vault_closed" }));
}

#[tokio::test]
async fn a_store_that_nobody_writes_any_more_is_a_reason_not_to_be_ready() {
    let stage = Stage::new().await;
    stage.service.store().break_writer().await;
    assert_eq!(said_of(&stage).await, json!({ "status": "failed", "code": "store_closed" }));
}
