use std::collections::BTreeMap;

use super::*;
use crate::environment::Environment;

/// Workers of which each holds so many runs. None is ever started.
fn workers(in_one_worker: u32) -> (tempfile::TempDir, Workers) {
    let folder = tempfile::tempdir().expect("a folder");
    let set = BTreeMap::from([("ORCH_HOME".to_owned(), folder.path().display().to_string())]);
    let home = Home::locate(&Environment::Fixed(set)).expect("a home");
    let capacity = Capacity { in_one_worker, ..orch_runner::Machine::read().capacity(64) };
    let workers = Workers::new(home, Path::new("/nonexistent"), Arc::new(Router::new()), capacity);
    (folder, workers)
}

fn key(workspace: &str) -> Key {
    Key { workspace: workspace.to_owned(), agent: Digest::of(b"agent"), memory: LEAST_MEMORY }
}

#[test]
fn runs_that_one_worker_cannot_hold_get_another_and_the_first_is_filled_up_again() {
    let (_folder, workers) = workers(2);
    let same = |a: &InUse, b: &InUse| Arc::ptr_eq(&a.0, &b.0);
    let (a, b, c) = (workers.enter(key("w")), workers.enter(key("w")), workers.enter(key("w")));
    assert!(same(&a, &b) && !same(&a, &c));
    assert_eq!(workers.kept(), 2);
    // Nobody else's worker is shared, however empty.
    let other = workers.enter(key("other"));
    assert!(!same(&other, &a) && !same(&other, &c));
    drop(a);
    let d = workers.enter(key("w"));
    assert!(same(&d, &b));
    assert_eq!(workers.kept(), 3);
}

#[tokio::test]
async fn only_workers_that_rest_are_stopped() {
    let (_folder, workers) = workers(1);
    let (a, b) = (workers.enter(key("w")), workers.enter(key("w")));
    drop(a);
    workers.reap(Duration::from_secs(60)).await;
    assert_eq!(workers.kept(), 2, "it has not rested for long");
    workers.reap(Duration::ZERO).await;
    assert_eq!(workers.kept(), 1);
    drop(b);
    workers.reap(Duration::ZERO).await;
    assert_eq!((workers.kept(), workers.lock().len()), (0, 0));
}

#[tokio::test]
async fn of_too_many_that_rest_those_that_rest_longest_are_stopped() {
    let (_folder, workers) = workers(1);
    let resting: Vec<InUse> =
        (0..IDLE_WORKERS + 3).map(|number| workers.enter(key(&number.to_string()))).collect();
    for in_use in resting {
        drop(in_use);
    }
    workers.reap(Duration::from_secs(60)).await;
    assert_eq!(workers.kept(), IDLE_WORKERS);
    let kept = workers.lock();
    assert!(["0", "1", "2"].iter().all(|gone| !kept.contains_key(&key(gone))));
}

#[tokio::test]
async fn workers_for_one_run_are_counted() {
    let (_folder, workers) = workers(1);
    let held = Arc::clone(&workers.own).acquire_many_owned(64).await.expect("all of them");
    assert!(Arc::clone(&workers.own).try_acquire_owned().is_err(), "as many as there are sandboxes");
    drop(held);
}
