//! Nothing stays of what nobody needs any more.

use std::time::{Duration, SystemTime};

use super::*;

/// Files below a folder that hold these bytes.
pub(super) fn holding(folder: &Path, needle: &[u8]) -> Vec<std::path::PathBuf> {
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

/// The file of a document, `age` seconds after it was last written.
fn aged(stage: &Stage, document: &Value, age: u64) -> std::path::PathBuf {
    let hex = Digest::of(document.to_string().as_bytes()).to_hex();
    let path = stage.folder.path().join("documents").join(&hex[..2]).join(&hex);
    let file = fs::File::options().write(true).open(&path).expect("a file");
    file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("aged");
    path
}

#[tokio::test]
async fn documents_that_no_row_names_are_removed_when_they_are_old() {
    let stage = stage();
    let long = |what: &str| json!({ "what": what, "padding": "x".repeat(20_000) });
    // In more rows than are looked at in one go.
    for _ in 0..3 {
        accepted(&stage.store, new_run("default")).await;
    }
    let waits = accepted(&stage.store, NewRun { request: long("request"), ..new_run("default") }).await;
    let ended = accepted(&stage.store, new_run("default")).await;
    let report = Some(long("report"));
    stage.store.finish(&ended, RunEnd { report, ..end(RunStatus::Succeeded) }).await.expect("ended");
    // What a process leaves that dies between its document and its row.
    for what in ["orphan", "young"] {
        Document::keep(&stage.store.inner.documents, &long(what)).await.expect("kept");
    }
    let [request, report, orphan, young] =
        [("request", 7200), ("report", 7200), ("orphan", 7200), ("young", 60)]
            .map(|(what, age)| aged(&stage, &long(what), age));
    let other = orphan.with_file_name("notes.txt");
    fs::write(&other, "not a document").expect("written");

    assert_eq!(stage.store.sweep_by(2).await.expect("swept"), 1);
    assert!(!orphan.exists());
    assert!(request.exists() && report.exists() && young.exists() && other.exists());
    for (run, what) in [(&waits, "request"), (&ended, "report")] {
        let row = stage.store.run("default", run).await.expect("read").expect("there");
        assert!(row.request == long(what) || row.report == Some(long(what)));
    }
    assert_eq!(stage.store.sweep().await.expect("swept"), 0);
}

#[tokio::test]
async fn a_document_that_is_kept_once_more_is_young_again() {
    let stage = stage();
    let document = json!({ "padding": "x".repeat(20_000) });
    let documents = &stage.store.inner.documents;
    Document::keep(documents, &document).await.expect("kept");
    let path = aged(&stage, &document, 7200);
    // Whoever keeps it is about to name it in a row.
    Document::keep(documents, &document).await.expect("kept again");
    assert_eq!(stage.store.sweep().await.expect("swept"), 0);
    assert!(path.exists());
}
