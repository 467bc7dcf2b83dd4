//! A run that was accepted ends on record, whatever its execution does and however the disk is.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt;

use super::*;

#[tokio::test]
async fn a_run_whose_execution_panics_ends_as_a_defect_and_gives_its_turn_back() {
    let stage = Stage::new().await;
    for waits in [false, true] {
        let act: Box<dyn FnOnce() + Send> = Box::new(|| panic!("a test wants the execution to panic"));
        *stage.service.broker().in_next_execution.lock().expect("nobody panicked with it") = Some(act);
        let turn = waits.then(|| stage.turn());
        let run = stage.submit(with_key(agent(ONE_MODEL))).await;
        drop(turn);
        let (status, exit_code, code) = stage.end(&run).await;
        assert_eq!((status, exit_code, code.as_str()), (RunStatus::Failed, 70, "defect"), "waited: {waits}");
        assert!(said(&stage, &run).await.contains("panicked"));
        let told = stage.told(&run).await;
        assert_eq!(told.last(), Some(&(EventKind::Status, "failed".to_owned())));
        assert_eq!((stage.service.queue.running(), stage.service.queue.waiting()), (0, 0));
    }
    // The next one does not suffer from it.
    let run = stage.submit(with_key(agent(ONE_MODEL))).await;
    assert_eq!(stage.end(&run).await.0, RunStatus::Failed);
    assert!(!said(&stage, &run).await.contains("panicked"), "only its worker cannot be started");
}

/// Its uses were on record before it, and nobody knows any more how many there were.
#[tokio::test]
async fn a_run_that_panics_says_that_its_uses_were_not_counted() {
    let stage = Stage::new().await;
    stage.set_secret("OPENAI_API_KEY", KEY).await;
    let act: Box<dyn FnOnce() + Send> = Box::new(|| panic!("a test wants the execution to panic"));
    *stage.service.broker().in_next_execution.lock().expect("nobody panicked with it") = Some(act);
    let run = stage.submit(RunRequest::new(agent(ONE_MODEL))).await;
    assert_eq!(stage.end(&run).await.2, "defect");
    let log = stage.service.keeper().with(WORKSPACE, |vault| Ok(vault.audit()?)).await.expect("a log");
    let last = log.last().expect("records").event.clone();
    let AuditEvent::UseCounted { run: counted, uses, complete, .. } = last else { panic!("{last:?}") };
    assert_eq!((counted, uses, complete), (run.to_string(), 0, false));
    // One that ends by itself counts them, once.
    let run = stage.submit(RunRequest::new(agent(ONE_MODEL))).await;
    assert_eq!(stage.end(&run).await.0, RunStatus::Failed);
    let log = stage.service.keeper().with(WORKSPACE, |vault| Ok(vault.audit()?)).await.expect("a log");
    let counts = |event: &AuditEvent| matches!(event, AuditEvent::UseCounted { .. });
    assert_eq!(log.iter().filter(|record| counts(&record.event)).count(), 1, "it used none");
}

/// The message of a run's error.
async fn said(stage: &Stage, run: &RunId) -> String {
    let error = stage.row(run).await.error.expect("an error");
    error["message"].as_str().expect("a message").to_owned()
}

/// How often the store was told that somebody else writes.
static REFUSED: AtomicUsize = AtomicUsize::new(0);

fn refused(_: i32) -> bool {
    REFUSED.fetch_add(1, Ordering::SeqCst);
    false
}

#[tokio::test]
async fn an_end_that_cannot_be_stored_is_stored_when_it_can_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let parts = parts(&folder);
    let data = parts.home.data().to_owned();
    parts.home.ensure(&data).expect("a folder");
    // It does not wait for who writes, so each attempt fails at once.
    let store = Store::open_waiting(&data, refused).expect("a store");
    let instance = Instance::claim(&data).expect("an instance");
    let service = Service::over((store, instance), parts, Mode::Serve).await.expect("a service");
    let stage = Stage { service, folder };
    let turn = stage.turn();
    let run = stage.submit(with_key(agent(ONE_MODEL))).await;
    stage.service.store().flush().await.expect("nothing is under way");

    let other = rusqlite::Connection::open(data.join("orch.db")).expect("a second connection");
    other.execute_batch("BEGIN IMMEDIATE").expect("begun");
    let before = REFUSED.load(Ordering::SeqCst);
    assert!(stage.service.cancel(&run));
    while REFUSED.load(Ordering::SeqCst) < before + 3 {
        tokio::task::yield_now().await;
    }
    assert!(
        stage.service.ended(&run).now_or_never().is_none(),
        "nobody hears of an end that is not on record"
    );
    assert_eq!(stage.row(&run).await.status, RunStatus::Queued);
    other.execute_batch("COMMIT").expect("ended");

    let (status, exit_code, code) = stage.end(&run).await;
    assert_eq!((status, exit_code, code.as_str()), (RunStatus::Cancelled, 130, "interrupted"));
    let told = stage.told(&run).await;
    assert_eq!(told.last(), Some(&(EventKind::Status, "cancelled".to_owned())), "{told:?}");
    drop(turn);
}
