//! What is opened, and what is not.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use super::leftovers::holding;
use super::*;

fn refused(folder: &Path) -> Failure {
    Store::open(folder).err().expect("it is not opened")
}

#[tokio::test]
async fn what_was_awaited_survives_without_a_close() {
    let stage = stage();
    let run = accepted(&stage.store, new_run("default")).await;
    stage.store.append(&run, vec![event(1, "hello")]);
    stage.store.started(&run, at(1)).await.expect("started");
    // What a killed process leaves: its files as they are, with nothing closed.
    let left = tempfile::tempdir().expect("a folder");
    for file in ["orch.db", "orch.db-wal"] {
        fs::copy(stage.folder.path().join(file), left.path().join(file)).expect("copied");
    }
    let store = Store::open(left.path()).expect("opened");
    let row = store.run("default", &run).await.expect("read").expect("there");
    assert_eq!((row.status, row.started), (RunStatus::Running, Some(at(1))));
    let events = store.events(&run, 0, 10).await.expect("read");
    assert_eq!(events, [event(1, "hello")], "what was queued before an awaited write is with it");
}

#[tokio::test]
async fn a_torn_end_of_the_log_loses_nothing_else() {
    let stage = stage();
    let run = accepted(&stage.store, new_run("default")).await;
    let left = tempfile::tempdir().expect("a folder");
    for file in ["orch.db", "orch.db-wal"] {
        fs::copy(stage.folder.path().join(file), left.path().join(file)).expect("copied");
    }
    let mut log = fs::read(left.path().join("orch.db-wal")).expect("read");
    log.extend_from_slice(&[0x5a; 5000]);
    fs::write(left.path().join("orch.db-wal"), log).expect("written");
    let store = Store::open(left.path()).expect("opened");
    assert!(store.run("default", &run).await.expect("read").is_some());
}

#[tokio::test]
async fn dropping_the_store_commits_what_is_queued() {
    let stage = stage();
    let run = accepted(&stage.store, new_run("default")).await;
    stage.store.append(&run, vec![event(1, "last words")]);
    drop(stage.store);
    let store = Store::open(stage.folder.path()).expect("opened");
    assert_eq!(store.last_event(&run).await.expect("read"), 1);
}

#[test]
fn everything_is_private() {
    let stage = stage();
    for (name, mode) in [
        ("orch.db", 0o600),
        ("orch.db-wal", 0o600),
        ("orch.db-shm", 0o600),
        ("blobs", 0o700),
        ("documents", 0o700),
    ] {
        let meta = fs::metadata(stage.folder.path().join(name)).expect(name);
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{name}");
    }
    let left: Vec<_> = fs::read_dir(stage.folder.path())
        .expect("read")
        .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
        .filter(|name| name.ends_with(".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_database_of_the_first_version_is_brought_to_this_one_with_all_it_has() {
    const CANARY: &str = "canary-3e85a0f6d1";
    let folder = tempfile::tempdir().expect("a folder");
    let db = raw(folder.path());
    db.execute_batch(include_str!("../schema.sql")).expect("made");
    db.execute_batch(
        "INSERT INTO calls VALUES (1, 'default', 0, 'run_x', 'me', 'a/b', 'openai', 'gpt', 1, 2, 3, '{}'),
                                  (2, 'default', 0, 'run_x', 'me', 'a/b', 'openai', 'gpt', 1, 2, 3, '{}'),
                                  (3, 'default', 0, NULL, 'me', NULL, 'openai', 'gpt', 1, 2, 3, '{}')",
    )
    .expect("filled");
    // Runs of which two have ended, one with a long request, and one waits.
    let (asked, file) = (json!({ "env": CANARY }).to_string(), Digest::of(CANARY.as_bytes()));
    let (ended, long, waits) = (RunId::random(), RunId::random(), RunId::random());
    for (run, finished, request) in [
        (&ended, Some(9), rusqlite::types::Value::from(asked.clone())),
        (&long, Some(9), file.as_bytes().to_vec().into()),
        (&waits, None, json!({ "input": "waits" }).to_string().into()),
    ] {
        db.execute(
            "INSERT INTO runs (id, workspace, agent, version, digest, caller, instance, status, created, finished, request)
             VALUES (?1, 'default', 'a/b', '1.0.0', zeroblob(32), 'me', 'inst_gone', ?2, 0, ?3, ?4)",
            rusqlite::params![run.as_str(), if finished.is_some() { "failed" } else { "queued" }, finished, request],
        )
        .expect("filled");
    }
    let hex = file.to_hex();
    let shard = folder.path().join("documents").join(&hex[..2]);
    for made in [&folder.path().join("documents"), &shard] {
        fs::create_dir(made).expect("made");
        fs::set_permissions(made, fs::Permissions::from_mode(0o700)).expect("private");
    }
    fs::write(shard.join(&hex), CANARY).expect("written");
    let written = fs::File::options().write(true).open(shard.join(&hex)).expect("a file");
    written.set_modified(SystemTime::now() - Duration::from_secs(7200)).expect("aged");
    db.pragma_update(None, "application_id", 0x6f72_6368).expect("orch's");
    db.pragma_update(None, "user_version", 1).expect("the first");
    drop(db);
    fs::set_permissions(folder.path().join(DATABASE), fs::Permissions::from_mode(0o600)).expect("private");
    let store = Store::open(folder.path()).expect("opened");
    let query = UsageQuery { only_of: None, since: None, until: None, by: UsageBy::Total };
    assert_eq!(store.usage("default", &query).await.expect("added up")[0].calls, 3);
    let run = accepted(&store, new_run("default")).await;
    let calls = vec![CallRow { run: Some(run.clone()), ..call("default", "gpt", None) }];
    store.finish(&run, RunEnd { calls: calls.clone(), ..end(RunStatus::Failed) }).await.expect("ended");
    assert_eq!(store.calls(&run).await.expect("read"), calls);
    assert!(!holding(folder.path(), CANARY.as_bytes()).is_empty());
    store.empty_log().await.expect("nobody else is there");
    assert_eq!(store.sweep().await.expect("swept"), 1);
    assert_eq!(holding(folder.path(), CANARY.as_bytes()), Vec::<std::path::PathBuf>::new());
    for (run, request) in [(&ended, Value::Null), (&long, Value::Null), (&waits, json!({ "input": "waits" }))]
    {
        assert_eq!(store.run("default", run).await.expect("read").expect("there").request, request);
    }
    let version: i64 =
        raw(folder.path()).pragma_query_value(None, "user_version", |row| row.get(0)).expect("a version");
    assert_eq!(version, 7);
}

#[test]
fn a_newer_version_is_left_alone() {
    let stage = stage();
    drop(stage.store);
    raw(stage.folder.path()).pragma_update(None, "user_version", 99).expect("changed");
    let failure = refused(stage.folder.path());
    assert_eq!((failure.code(), failure.kind()), ("store_version", Kind::Server));
    assert!(failure.message().contains("version 99"), "{failure}");
    assert!(failure.hints()[0].contains("newer"), "{:?}", failure.hints());
}

#[test]
fn a_version_that_never_was_is_damage() {
    let stage = stage();
    drop(stage.store);
    raw(stage.folder.path()).pragma_update(None, "user_version", -1).expect("changed");
    assert_eq!(refused(stage.folder.path()).code(), "store_unusable");
}

#[test]
fn a_database_of_something_else_is_not_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    raw(folder.path()).execute_batch("CREATE TABLE notes (text TEXT)").expect("made");
    fs::set_permissions(folder.path().join(DATABASE), fs::Permissions::from_mode(0o600)).expect("private");
    let before = fs::read(folder.path().join(DATABASE)).expect("read");
    let failure = refused(folder.path());
    assert_eq!(failure.code(), "store_unusable");
    assert!(failure.message().contains("not a database of orch"), "{failure}");
    assert_eq!(fs::read(folder.path().join(DATABASE)).expect("read"), before);
}

#[test]
fn a_file_that_is_no_database_is_not_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "x".repeat(4096);
    fs::write(folder.path().join(DATABASE), &text).expect("written");
    fs::set_permissions(folder.path().join(DATABASE), fs::Permissions::from_mode(0o600)).expect("private");
    let failure = refused(folder.path());
    assert_eq!(failure.code(), "store_unusable");
    assert!(failure.hints()[0].contains("move it away"), "{:?}", failure.hints());
    assert_eq!(fs::read_to_string(folder.path().join(DATABASE)).expect("read"), text);
}

#[tokio::test]
async fn a_damaged_page_is_said_and_nothing_panics() {
    let stage = stage();
    let run = accepted(&stage.store, new_run("default")).await;
    drop(stage.store);
    let path = stage.folder.path().join(DATABASE);
    let roots: Vec<u32> = {
        let db = raw(stage.folder.path());
        let mut pages = db
            .prepare("SELECT rootpage FROM sqlite_schema WHERE tbl_name = 'runs' AND rootpage > 0")
            .expect("a statement");
        let pages = pages.query_map([], |row| row.get(0)).expect("pages");
        pages.collect::<Result<_, _>>().expect("numbers")
    };
    let mut bytes = fs::read(&path).expect("read");
    // Header and schema stay; what holds runs is made of nonsense.
    for root in &roots {
        let end = *root as usize * 4096;
        bytes[end - 4096..end].fill(0xa5);
    }
    fs::write(&path, bytes).expect("written");
    let store = Store::open(stage.folder.path()).expect("the schema is whole");
    let failure = store.run("default", &run).await.expect_err("damaged");
    assert_eq!(failure.code(), "store_unusable");
    assert!(failure.hints()[0].contains("backup"), "{:?}", failure.hints());
    let failure = store.accept(new_run("default")).await.expect_err("damaged");
    assert_eq!(failure.code(), "store_unusable");
}

#[tokio::test]
async fn a_row_that_nobody_wrote_is_said() {
    let stage = stage();
    let run = accepted(&stage.store, new_run("default")).await;
    raw(stage.folder.path()).execute("UPDATE runs SET status = 'done'", []).expect("changed");
    let failure = stage.store.run("default", &run).await.expect_err("no such status");
    assert_eq!(failure.code(), "store_unusable");
    assert!(failure.message().contains("`status`"), "{failure}");
}

#[test]
fn links_and_files_of_others_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let elsewhere = tempfile::tempdir().expect("a folder");
    drop(Store::open(elsewhere.path()).expect("a store"));
    for name in ["orch.db", "orch.db-wal", "orch.db-shm"] {
        let inside = folder.path().join("data");
        fs::create_dir(&inside).expect("made");
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o700)).expect("private");
        symlink(elsewhere.path().join("orch.db"), inside.join(name)).expect("linked");
        let failure = refused(&inside);
        assert_eq!(failure.code(), "home_unsafe", "{name}");
        assert!(failure.message().contains("symbolic link"), "{failure}");
        fs::remove_dir_all(&inside).expect("removed");
    }
    symlink(elsewhere.path(), folder.path().join("link")).expect("linked");
    assert_eq!(refused(&folder.path().join("link")).code(), "home_unsafe");
}

#[test]
fn what_others_can_write_to_is_refused() {
    let stage = stage();
    drop(stage.store);
    let file = stage.folder.path().join(DATABASE);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("opened to all");
    assert_eq!(refused(stage.folder.path()).code(), "home_unsafe");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("private");
    fs::set_permissions(stage.folder.path(), fs::Permissions::from_mode(0o777)).expect("opened to all");
    assert_eq!(refused(stage.folder.path()).code(), "home_unsafe");
}

#[test]
fn a_folder_in_the_place_of_the_database_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join(DATABASE)).expect("made");
    assert_eq!(refused(folder.path()).code(), "home_unsafe");
}

#[test]
fn an_empty_file_of_a_crash_at_the_first_start_is_a_new_database() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join(DATABASE), "").expect("written");
    fs::set_permissions(folder.path().join(DATABASE), fs::Permissions::from_mode(0o600)).expect("private");
    Store::open(folder.path()).expect("opened");
}

#[test]
fn several_open_it_for_the_first_time_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    std::thread::scope(|scope| {
        let opened: Vec<_> = (0..8).map(|_| scope.spawn(|| Store::open(folder.path()))).collect();
        for store in opened {
            store.join().expect("no panic").expect("opened");
        }
    });
}
