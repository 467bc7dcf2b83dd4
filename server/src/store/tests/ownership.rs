//! Whose runs are whose, when processes die.

use super::*;

#[tokio::test]
async fn runs_of_the_dead_are_found_and_those_of_the_living_are_not() {
    let stage = stage();
    let folder = stage.folder.path();
    let (living, dying) =
        (Instance::claim(folder).expect("an instance"), Instance::claim(folder).expect("an instance"));
    assert_ne!(living.id(), dying.id());
    let of = |owner: &Instance| NewRun { instance: owner.id().to_owned(), ..new_run("default") };
    accepted(&stage.store, of(&living)).await;
    let first = accepted(&stage.store, of(&dying)).await;
    let ended = accepted(&stage.store, of(&dying)).await;
    let second = accepted(&stage.store, of(&dying)).await;
    stage.store.started(&second, at(1)).await.expect("started");
    stage.store.finish(&ended, end(RunStatus::Succeeded)).await.expect("ended");
    assert!(stage.store.unfinished().await.expect("read").is_empty(), "both live");
    drop(dying);
    let rows = stage.store.unfinished().await.expect("read");
    assert_eq!(rows.iter().map(|row| &row.run).collect::<Vec<_>>(), [&first, &second]);
    assert_eq!(rows[0].request, json!({"input": {"n": 1}}), "with what is needed to go on");
}

#[tokio::test]
async fn a_lock_file_that_a_killed_process_left_is_free_and_is_removed() {
    let stage = stage();
    let folder = stage.folder.path();
    let instance = Instance::claim(folder).expect("an instance");
    let run = NewRun { instance: instance.id().to_owned(), ..new_run("default") };
    accepted(&stage.store, run).await;
    // A killed process leaves its file; the lock goes with the process.
    let left = folder.join("instances/inst_killed.lock");
    fs::write(&left, "").expect("written");
    let killed = NewRun { instance: "inst_killed".to_owned(), ..new_run("default") };
    let killed = accepted(&stage.store, killed).await;
    let found = stage.store.unfinished().await.expect("read");
    assert_eq!(found.iter().map(|row| &row.run).collect::<Vec<_>>(), [&killed]);
    let again = Store::open(folder).expect("opened once more");
    assert!(!left.exists());
    let held = folder.join("instances").join(format!("{}.lock", instance.id()));
    assert!(held.exists(), "the living keep theirs");
    assert_eq!(again.unfinished().await.expect("read").len(), 1);
}

#[tokio::test]
async fn an_owner_that_is_no_instance_is_dead_and_names_no_file() {
    let stage = stage();
    for owner in ["", "../orch", "inst_../../orch.db"] {
        accepted(&stage.store, NewRun { instance: owner.to_owned(), ..new_run("default") }).await;
    }
    assert_eq!(stage.store.unfinished().await.expect("read").len(), 3);
}

#[tokio::test]
async fn of_all_who_would_take_over_a_run_one_does() {
    let stage = stage();
    let other = Store::open(stage.folder.path()).expect("opened once more");
    let run = accepted(&stage.store, new_run("default")).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..16 {
        let store = if n % 2 == 0 { stage.store.clone() } else { other.clone() };
        let run = run.clone();
        tasks
            .spawn(async move { store.adopt(&run, "inst_gone", &format!("inst_{n}")).await.expect("asked") });
    }
    let taken = tasks.join_all().await.into_iter().filter(|taken| *taken).count();
    assert_eq!(taken, 1);
}

#[tokio::test]
async fn a_run_that_has_ended_is_not_taken_over() {
    let stage = stage();
    let run = accepted(&stage.store, new_run("default")).await;
    stage.store.finish(&run, end(RunStatus::Cancelled)).await.expect("ended");
    assert!(!stage.store.adopt(&run, "inst_gone", "inst_1").await.expect("asked"));
    assert!(!stage.store.adopt(&RunId::random(), "inst_gone", "inst_1").await.expect("asked"));
}

#[tokio::test]
async fn a_lost_request_does_not_keep_other_runs_from_being_found() {
    let stage = stage();
    let long = json!("y".repeat(documents::INLINE));
    let lost = accepted(&stage.store, NewRun { request: long, ..new_run("default") }).await;
    let whole = accepted(&stage.store, new_run("default")).await;
    fs::remove_dir_all(stage.folder.path().join("documents")).expect("removed");
    let rows = stage.store.unfinished().await.expect("read");
    let found: Vec<_> = rows.iter().map(|row| (&row.run, row.request.is_null())).collect();
    assert_eq!(found, [(&lost, true), (&whole, false)]);
}
