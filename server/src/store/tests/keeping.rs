//! Bodies are kept for a while, and no more than so many.

use std::time::Duration;

use super::*;

/// Much longer than anything here is kept.
const LONG: Duration = Duration::from_secs(1_000_000_000);

fn bodies(workspace: &str, request: &str, expires: i64) -> Bodies {
    let kept = |text: &str| Kept { bytes: text.as_bytes().to_vec(), of: 100, cut: true };
    Bodies {
        workspace: workspace.to_owned(),
        request: request.to_owned(),
        expires: at(expires),
        asked: kept("asked, and found by nobody else"),
        answered: kept("answered"),
    }
}

#[tokio::test]
async fn bodies_are_read_as_they_were_written_until_their_time_is_over() {
    let stage = stage();
    let kept = bodies("default", "req_1", 10);
    stage.store.keep_bodies(kept.clone());
    stage.store.keep_bodies(Bodies { expires: at(99), ..kept.clone() });
    stage.store.flush().await.expect("flushed");
    let read = async |workspace: &str, request: &str, seconds| {
        stage.store.bodies(workspace, request, at(seconds)).await.expect("read")
    };
    assert!(read("default", "req_1", 9).await == Some(kept), "the first stays");
    assert!(read("default", "req_1", 10).await.is_none(), "its time is over");
    assert!(read("other", "req_1", 9).await.is_none() && read("default", "req_2", 9).await.is_none());
}

#[tokio::test]
async fn what_is_forgotten_is_on_no_page_any_more() {
    let stage = stage();
    for (workspace, request, expires) in
        [("default", "req_1", 10), ("default", "req_2", 20), ("gone", "req_3", 20)]
    {
        stage.store.keep_bodies(bodies(workspace, request, expires));
    }
    stage.store.flush().await.expect("flushed");
    let wanted = || vec![("default".to_owned(), LONG)];
    assert_eq!(stage.store.forget_bodies(wanted(), at(15)).await.expect("forgotten"), 2);
    assert_eq!(stage.store.forget_bodies(wanted(), at(15)).await.expect("nothing"), 0);
    assert!(stage.store.bodies("default", "req_2", at(15)).await.expect("read").is_some());
    assert_eq!(stage.store.forget_bodies(Vec::new(), at(15)).await.expect("forgotten"), 1);
    stage.store.empty_log().await.expect("nobody else is there");
    let left = leftovers::holding(stage.folder.path(), b"found by nobody else");
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
    assert_eq!(stage.store.forget_bodies(Vec::new(), at(99)).await.expect("none"), 0);
}

#[tokio::test]
async fn less_time_holds_for_what_is_there_already() {
    let stage = stage();
    stage.store.keep_bodies(bodies("default", "req_1", 90));
    stage.store.keep_bodies(bodies("default", "req_2", 10));
    stage.store.flush().await.expect("flushed");
    let wanted = |seconds| vec![("default".to_owned(), Duration::from_secs(seconds))];
    let ends = async |request: &str| {
        let found = stage.store.bodies("default", request, at(0)).await.expect("read");
        found.map(|bodies| bodies.expires)
    };
    assert_eq!(stage.store.forget_bodies(wanted(90), at(0)).await.expect("nothing"), 0);
    assert_eq!(ends("req_1").await, Some(at(90)));
    // Twenty seconds from now on, and what would have ended before that ends when it would have.
    assert_eq!(stage.store.forget_bodies(wanted(20), at(5)).await.expect("nothing"), 0);
    assert_eq!((ends("req_1").await, ends("req_2").await), (Some(at(25)), Some(at(10))));
    // More time later gives nothing back.
    assert_eq!(stage.store.forget_bodies(wanted(90), at(24)).await.expect("forgotten"), 1);
    assert_eq!(stage.store.forget_bodies(wanted(90), at(25)).await.expect("forgotten"), 1);
}

#[tokio::test]
async fn of_too_many_the_oldest_go() {
    let stage = stage();
    let most = i64::from(bodies::KEPT);
    raw(stage.folder.path())
        .execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1 + 5)
             INSERT INTO bodies (workspace, request, expires, asked, asked_bytes, asked_cut, answered, answered_bytes,
                                 answered_cut)
             SELECT 'default', 'req_' || i, ?2, x'', 0, 0, x'', 0, 0 FROM n",
            rusqlite::params![most, 3_000_000_000_000_000_i64],
        )
        .expect("filled");
    assert_eq!(
        stage.store.forget_bodies(vec![("default".to_owned(), LONG)], at(0)).await.expect("forgotten"),
        5
    );
    let there = async |n: i64| {
        stage.store.bodies("default", &format!("req_{n}"), at(0)).await.expect("read").is_some()
    };
    assert!(!there(5).await && there(6).await && there(most + 5).await);
}
