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

/// As a run gets a place.
fn enter(workers: &Workers, workspace: &str) -> InUse {
    workers.join(&key(workspace)).unwrap_or_else(|| {
        let permit = Arc::clone(&workers.in_use).try_acquire_owned().expect("there is one left");
        workers.enter(key(workspace), permit)
    })
}

fn key(workspace: &str) -> Key {
    Key { workspace: workspace.to_owned(), agent: Digest::of(b"agent"), memory: LEAST_MEMORY }
}

#[test]
fn runs_that_one_worker_cannot_hold_get_another_and_the_first_is_filled_up_again() {
    let (_folder, workers) = workers(2);
    let same = |a: &InUse, b: &InUse| Arc::ptr_eq(&a.0, &b.0);
    let (a, b, c) = (enter(&workers, "w"), enter(&workers, "w"), enter(&workers, "w"));
    assert!(same(&a, &b) && !same(&a, &c));
    assert_eq!(workers.kept(), 2);
    // Nobody else's worker is shared, however empty.
    let other = enter(&workers, "other");
    assert!(!same(&other, &a) && !same(&other, &c));
    drop(a);
    let d = enter(&workers, "w");
    assert!(same(&d, &b));
    assert_eq!(workers.kept(), 3);
}

#[tokio::test]
async fn only_workers_that_rest_are_stopped() {
    let (_folder, workers) = workers(1);
    let (a, b) = (enter(&workers, "w"), enter(&workers, "w"));
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
        (0..IDLE_WORKERS + 3).map(|number| enter(&workers, &number.to_string())).collect();
    for in_use in resting {
        drop(in_use);
    }
    workers.reap(Duration::from_secs(60)).await;
    assert_eq!(workers.kept(), IDLE_WORKERS);
    let kept = workers.lock();
    assert!(["0", "1", "2"].iter().all(|gone| !kept.contains_key(&key(gone))));
}

#[tokio::test]
async fn workers_in_use_are_counted_and_not_the_runs_in_them() {
    let (_folder, workers) = workers(2);
    let left = || workers.in_use.available_permits();
    assert_eq!(left(), 64, "as many as there are sandboxes");
    let own = workers.permit().await.expect("there is one");
    let (a, b, c) = (enter(&workers, "w"), enter(&workers, "w"), enter(&workers, "w"));
    assert_eq!(left(), 61);
    drop(a);
    assert_eq!(left(), 61, "somebody is in it still");
    drop(b);
    assert_eq!(left(), 62, "one that rests is not counted");
    let (a, b) = (enter(&workers, "w"), enter(&workers, "w"));
    assert_eq!((left(), workers.kept()), (61, 2), "the second worker is full, the first one is used again");
    drop((a, b, c, own));
    assert_eq!(left(), 64);
}
