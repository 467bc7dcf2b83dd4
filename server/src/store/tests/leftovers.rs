//! Nothing stays of what nobody needs any more.

use super::*;

/// Files below a folder that hold these bytes.
fn holding(folder: &Path, needle: &[u8]) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                return holding(&path, needle);
            }
            let bytes = fs::read(&path).expect("a file");
            let found = bytes.windows(needle.len()).any(|window| window == needle);
            if found { vec![path] } else { Vec::new() }
        })
        .collect()
}

#[tokio::test]
async fn what_was_asked_is_in_no_file_once_the_run_has_ended_and_the_log_is_empty() {
    const CANARY: &str = "canary-4f1c9a7be2";
    let stage = stage();
    let asked = |number: usize| {
        // In its row, on pages of its own beside that, and in a file.
        let padding = "x".repeat([10, 3_000, 12_000, 40_000][number % 4]);
        json!({ "run": number, "env": [["TOKEN", CANARY]], "input": padding, "again": CANARY })
    };
    let mut runs = Vec::new();
    for number in 0..60 {
        runs.push(accepted(&stage.store, NewRun { request: asked(number), ..new_run("default") }).await);
    }
    assert!(!holding(stage.folder.path(), CANARY.as_bytes()).is_empty());
    let kept = runs.remove(7);
    // Not in the order of their rows, so that pages are emptied and filled anew.
    for step in 0..runs.len() {
        let run = &runs[(step * 17) % runs.len()];
        let report = Some(json!({ "output": "y".repeat(step * 90) }));
        stage.store.finish(run, RunEnd { report, ..end(RunStatus::Succeeded) }).await.expect("ended");
    }
    let row = stage.store.run("default", &kept).await.expect("read").expect("there");
    assert_eq!(row.request, asked(7), "one that goes on has its request");
    stage.store.finish(&kept, end(RunStatus::Cancelled)).await.expect("ended");
    stage.store.empty_log().await.expect("nobody else is there");
    assert_eq!(holding(stage.folder.path(), CANARY.as_bytes()), Vec::<std::path::PathBuf>::new());
    assert_eq!(stage.store.run("default", &kept).await.expect("read").expect("there").request, Value::Null);
}

#[tokio::test]
async fn what_a_process_that_died_left_in_the_log_is_gone_once_the_next_has_emptied_it() {
    const CANARY: &str = "canary-91c7d05be4";
    let stage = stage();
    let run =
        accepted(&stage.store, NewRun { request: json!({ "env": CANARY }), ..new_run("default") }).await;
    stage.store.finish(&run, end(RunStatus::Succeeded)).await.expect("ended");
    // What a killed process leaves: its files as they are, with nothing closed.
    let left = tempfile::tempdir().expect("a folder");
    for file in ["orch.db", "orch.db-wal"] {
        fs::copy(stage.folder.path().join(file), left.path().join(file)).expect("copied");
    }
    assert!(!holding(left.path(), CANARY.as_bytes()).is_empty());
    let store = Store::open(left.path()).expect("opened");
    store.empty_log().await.expect("nobody else is there");
    assert_eq!(holding(left.path(), CANARY.as_bytes()), Vec::<std::path::PathBuf>::new());
    assert!(store.run("default", &run).await.expect("read").is_some());
}

#[tokio::test]
async fn a_run_that_was_not_accepted_leaves_no_request() {
    let stage = stage();
    let other = raw(stage.folder.path());
    other.execute_batch("DROP TABLE runs").expect("broken");
    let request = json!({ "env": "canary-4f1c9a7be2", "input": "x".repeat(40_000) });
    stage.store.accept(NewRun { request, ..new_run("default") }).await.expect_err("it cannot be");
    assert!(holding(&stage.folder.path().join("documents"), b"canary-4f1c9a7be2").is_empty());
}

#[tokio::test]
async fn a_store_that_is_closed_leaves_no_log() {
    let stage = stage();
    let run = accepted(&stage.store, new_run("default")).await;
    // There is a connection that reads, too.
    assert!(stage.store.run("default", &run).await.expect("read").is_some());
    let log = stage.folder.path().join("orch.db-wal");
    assert!(log.exists());
    drop(stage.store);
    assert!(!log.exists());
}
