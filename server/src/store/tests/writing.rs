//! Groups of writes: durable, isolated, and whole or not at all.

use std::sync::mpsc;
use std::task::{Context, Waker};

use tokio::task::JoinSet;

use super::*;

/// Holds the writer inside one transaction until the sender is used or dropped, so that what is asked meanwhile is one
/// group.
fn hold(store: &Store) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel::<()>();
    let (started, running) = mpsc::channel();
    store.inner.writer.queue(1, move |_| {
        let _ = started.send(());
        let _ = held.recv();
        Ok(())
    });
    tokio::task::block_in_place(|| running.recv().expect("the writer has begun"));
    release
}

/// Starts these writes together and returns what came of each, in their order.
async fn together(store: &Store, runs: Vec<NewRun>) -> Vec<Result<(), Failure>> {
    let release = hold(store);
    let count = runs.len();
    let mut tasks = JoinSet::new();
    for (place, run) in runs.into_iter().enumerate() {
        let store = store.clone();
        tasks.spawn(async move { (place, store.accept(run).await) });
    }
    while store.inner.writer.awaited() < count {
        tokio::task::yield_now().await;
    }
    drop(release);
    let mut outcomes = tasks.join_all().await;
    outcomes.sort_by_key(|(place, _)| *place);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failed_write_does_not_fail_the_others_of_its_group() {
    let stage = stage();
    let runs: Vec<_> = (0..20).map(|_| new_run("default")).collect();
    let twice = runs[7].clone();
    let mut asked = runs.clone();
    asked.push(twice);
    let outcomes = together(&stage.store, asked).await;
    let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].code(), "conflict");
    let (rows, _) = stage.store.runs("default", &RunPage::default()).await.expect("listed");
    assert_eq!(rows.len(), 20);
}

#[tokio::test]
async fn what_nobody_waits_for_and_comes_to_nothing_is_counted() {
    let stage = stage();
    stage.store.record_call(&call("default", "gpt", Some(1)));
    stage.store.flush().await.expect("flushed");
    assert_eq!(stage.store.lost(), 0);
    // Somebody has taken away what calls are put into; whoever waits is told, and nobody else.
    raw(stage.folder.path()).execute_batch("DROP TABLE calls").expect("gone");
    for _ in 0..2 {
        stage.store.record_call(&call("default", "gpt", Some(1)));
    }
    stage.store.flush().await.expect("the rest goes on");
    assert_eq!(stage.store.lost(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_calls_came_to_is_added_up_and_found_by_whoever_asks_later() {
    let stage = stage();
    let of = |token: &str| SpendOf {
        workspace: "default".to_owned(),
        subjects: vec![("workspace", String::new()), ("token", token.to_owned())],
        day: 20_000,
        instance: "inst_1".into(),
    };
    let (mine, others) = (("token", "mine".to_owned()), ("workspace", String::new()));
    let release = hold(&stage.store);
    for _ in 0..300 {
        stage.store.spent(&of("mine"), (2, 3));
    }
    stage.store.spent(&of("another"), (5, 7));
    let (store, asked) = (stage.store.clone(), vec![(mine, 0..i64::MAX), (others, 0..i64::MAX)]);
    let mut later = JoinSet::new();
    later.spawn(async move { store.set_aside(of("mine"), asked, |sums| (sums.to_vec(), 0, 0)).await });
    while stage.store.inner.writer.awaited() < 1 {
        tokio::task::yield_now().await;
    }
    drop(release);
    let found = later.join_next().await.expect("a task").expect("no panic").expect("stored");
    let spent = |tokens, micro_usd| Sums { tokens, micro_usd, ..Sums::default() };
    assert_eq!(found, [spent(600, 900), spent(605, 907)]);

    // What comes after that is told to the writer again.
    stage.store.spent(&SpendOf { day: 20_001, ..of("mine") }, (u64::MAX, 1));
    stage.store.flush().await.expect("stored");
    let found = stage.store.spending("default", vec![(("token", "mine".to_owned()), 20_001..20_002)]).await;
    let found = found.expect("readable")[0];
    assert!(found.tokens > u64::from(u32::MAX) && found.micro_usd == 1, "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_the_whole_group_and_leaves_the_state_of_before() {
    let stage = stage();
    let before = accepted(&stage.store, new_run("default")).await;
    stage
        .store
        .inner
        .writer
        .write(|db| Ok(db.query_row("PRAGMA max_page_count = 1", [], |_| Ok(()))?))
        .await
        .expect("bounded");
    let large = || NewRun { request: json!("x".repeat(15_000)), ..new_run("default") };
    let outcomes = together(&stage.store, (0..10).map(|_| large()).collect()).await;
    for outcome in outcomes {
        let failure = outcome.expect_err("no space");
        assert_eq!(failure.code(), "store_full");
        assert!(failure.hints()[0].contains("free space"), "{:?}", failure.hints());
    }
    let (rows, _) = stage.store.runs("default", &RunPage::default()).await.expect("listed");
    assert_eq!(rows.iter().map(|row| &row.run).collect::<Vec<_>>(), [&before]);
    // With space, it goes on.
    stage
        .store
        .inner
        .writer
        .write(|db| Ok(db.query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(()))?))
        .await
        .expect("unbounded");
    stage.store.accept(large()).await.expect("accepted");
}

#[tokio::test]
async fn a_writer_that_waits_too_long_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open_waiting(folder.path(), |_| false).expect("a store");
    let other = raw(folder.path());
    other.execute_batch("BEGIN IMMEDIATE").expect("begun");
    let failure = store.accept(new_run("default")).await.expect_err("another one writes");
    assert_eq!(failure.code(), "store_busy");
    assert!(failure.message().contains("another process"), "{failure}");
    // Reading goes on meanwhile, and writing after it.
    assert!(store.runs("default", &RunPage::default()).await.expect("listed").0.is_empty());
    other.execute_batch("COMMIT").expect("ended");
    store.accept(new_run("default")).await.expect("accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_write_at_once_and_both_see_all() {
    let stage = stage();
    let other = Store::open(stage.folder.path()).expect("opened once more");
    let mut tasks = JoinSet::new();
    for store in [&stage.store, &other] {
        for _ in 0..50 {
            let store = store.clone();
            tasks.spawn(async move {
                let run = accepted(&store, new_run("default")).await;
                store.finish(&run, end(RunStatus::Succeeded)).await.expect("ended");
            });
        }
    }
    tasks.join_all().await;
    for store in [&stage.store, &other] {
        let page = RunPage { limit: 500, ..RunPage::default() };
        let (rows, next) = store.runs("default", &page).await.expect("listed");
        assert_eq!((rows.len(), next), (100, None));
        assert!(rows.iter().all(|row| row.status == RunStatus::Succeeded));
    }
}

#[tokio::test]
async fn one_handle_going_away_does_not_take_the_locks_of_another() {
    let stage = stage();
    drop(Store::open(stage.folder.path()).expect("opened once more"));
    let run = accepted(&stage.store, new_run("default")).await;
    let third = Store::open(stage.folder.path()).expect("opened again");
    third.finish(&run, end(RunStatus::Failed)).await.expect("ended");
    let row = stage.store.run("default", &run).await.expect("read").expect("there");
    assert_eq!(row.status, RunStatus::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_is_done_although_its_caller_went_away() {
    let stage = stage();
    let release = hold(&stage.store);
    let run = new_run("default");
    let id = run.run.clone();
    let mut asked = Box::pin(stage.store.accept(run));
    assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(asked);
    drop(release);
    stage.store.flush().await.expect("flushed");
    assert!(stage.store.run("default", &id).await.expect("read").is_some());
}

#[tokio::test]
async fn a_run_ends_once_and_with_everything_or_nothing() {
    let stage = stage();
    let run = accepted(&stage.store, new_run("default")).await;
    let full = |status| RunEnd {
        calls: vec![call("default", "gpt", Some(7))],
        decisions: vec![json!({"host": "a"}), json!({"host": "b"})],
        events: vec![event(1, "bye")],
        ..end(status)
    };
    let failure = stage.store.finish(&run, full(RunStatus::Running)).await.expect_err("that is no end");
    assert_eq!(failure.code(), "defect");
    stage.store.finish(&run, full(RunStatus::Failed)).await.expect("ended");
    let failure = stage.store.finish(&run, full(RunStatus::Succeeded)).await.expect_err("it has ended");
    assert_eq!(failure.code(), "run_ended");
    let failure = stage.store.started(&run, at(1)).await.expect_err("it has ended");
    assert_eq!(failure.code(), "run_ended");
    let row = stage.store.run("default", &run).await.expect("read").expect("there");
    assert_eq!(row.status, RunStatus::Failed);
    let query = UsageQuery { only_of: None, since: None, until: None, by: UsageBy::Total };
    assert_eq!(stage.store.usage("default", &query).await.expect("added up")[0].calls, 1);
    assert_eq!(
        stage.store.decisions(&run).await.expect("read"),
        [json!({"host": "a"}), json!({"host": "b"})]
    );
    let nobody = RunId::random();
    for failure in [
        stage.store.finish(&nobody, end(RunStatus::Failed)).await.expect_err("unknown"),
        stage.store.started(&nobody, at(1)).await.expect_err("unknown"),
    ] {
        assert_eq!(failure.code(), "run_not_found");
    }
}
