//! What was granted and stored is looked at again when the turn of a run that waited has come.

use orch_vault::AuditEvent;
use time::OffsetDateTime;

use super::*;
use crate::store::GrantRow;

const TALKER: &str =
    "supported_providers: [openai]\nllm: { primary: gpt-4o-mini }\negress: [{ host: api.example.com }]\n";

/// How a run ends that nothing refused: there is no program for its worker.
async fn nothing_refused(stage: &Stage, run: &RunId) {
    let (status, exit_code, code) = stage.end(run).await;
    assert_eq!(status, RunStatus::Failed);
    assert!(![2, 3, 4].contains(&exit_code), "{code} ({exit_code})");
    assert!(stage.row(run).await.started.is_some());
}

/// How many uses of secrets are on record for a run.
async fn uses_on_record(stage: &Stage, run: &RunId) -> usize {
    let run = run.to_string();
    let count = move |vault: &mut orch_vault::Vault| {
        let of_run =
            |event: &AuditEvent| matches!(event, AuditEvent::UsePlanned { run: of, .. } if *of == run);
        Ok(vault.audit()?.iter().filter(|record| of_run(&record.event)).count())
    };
    stage.service.keeper().with(WORKSPACE, count).await.expect("readable")
}

/// Why the vault's record says that a run was refused.
async fn refusals_on_record(stage: &Stage, run: &RunId) -> Vec<String> {
    let run = run.to_string();
    let reasons = move |vault: &mut orch_vault::Vault| {
        let reason = |event| match event {
            AuditEvent::Denied { run: of, reason, .. } if of == run => Some(reason),
            _ => None,
        };
        Ok(vault.audit()?.into_iter().filter_map(|record| reason(record.event)).collect())
    };
    stage.service.keeper().with(WORKSPACE, reasons).await.expect("readable")
}

async fn grant(stage: &Stage, agent: &Agent) {
    let row = GrantRow {
        workspace: WORKSPACE.to_owned(),
        agent: agent.manifest.name.clone(),
        digest: agent.digest,
        capabilities: vec!["talk to https://api.example.com (any method)".to_owned()],
        granted_at: OffsetDateTime::now_utc(),
        granted_by: "owner".to_owned(),
    };
    stage.service.store().put_grant(row).await.expect("granted");
}

#[tokio::test]
async fn a_grant_that_was_taken_back_does_not_reach_a_run_that_waited() {
    let stage = Stage::new().await;
    let talker = Arc::new(agent(TALKER));
    grant(&stage, &talker).await;
    let turn = stage.turn();
    let run = stage.submit(with_key(Arc::clone(&talker))).await;
    assert_eq!(stage.row(&run).await.status, RunStatus::Queued);
    stage.service.store().remove_grant(WORKSPACE, &talker.digest).await.expect("taken back");
    drop(turn);
    let (status, exit_code, code) = stage.end(&run).await;
    assert_eq!((status, exit_code, code.as_str()), (RunStatus::Failed, 4, "not_granted"));
    assert_eq!(stage.row(&run).await.started, None, "nothing of it happened");
    assert_eq!(refusals_on_record(&stage, &run).await, ["not_granted"]);

    grant(&stage, &talker).await;
    let turn = stage.turn();
    let run = stage.submit(with_key(talker)).await;
    drop(turn);
    nothing_refused(&stage, &run).await;
}

#[tokio::test]
async fn a_key_that_was_removed_does_not_reach_a_run_that_waited() {
    let stage = Stage::new().await;
    stage.set_secret("OPENAI_API_KEY", KEY).await;
    let turn = stage.turn();
    let run = stage.submit(RunRequest::new(agent(ONE_MODEL))).await;
    let remove = |vault: &mut orch_vault::Vault| {
        let name = "OPENAI_API_KEY".parse().expect("a name");
        vault.remove(&name)?;
        Ok(())
    };
    stage.service.keeper().with(WORKSPACE, remove).await.expect("removed");
    drop(turn);
    let (status, exit_code, code) = stage.end(&run).await;
    assert_eq!((status, exit_code, code.as_str()), (RunStatus::Failed, 3, "no_key"));
    assert_eq!(uses_on_record(&stage, &run).await, 0);
}

#[tokio::test]
async fn keys_that_came_with_a_run_are_there_when_its_turn_comes() {
    let stage = Stage::new().await;
    let mut sent = RunRequest::new(agent(ONE_MODEL));
    sent.env_keys.insert("OPENAI_API_KEY".to_owned(), secret(KEY));
    let turn = stage.turn();
    let runs = [stage.submit(with_key(agent(ONE_MODEL))).await, stage.submit(sent).await];
    drop(turn);
    for run in runs {
        nothing_refused(&stage, &run).await;
    }
}

#[tokio::test]
async fn a_use_is_put_on_record_once_when_the_turn_has_come() {
    let stage = Stage::new().await;
    stage.set_secret("OPENAI_API_KEY", KEY).await;
    let turn = stage.turn();
    let waited = stage.submit(RunRequest::new(agent(ONE_MODEL))).await;
    let cancelled = stage.submit(RunRequest::new(agent(ONE_MODEL))).await;
    assert_eq!(uses_on_record(&stage, &waited).await, 0, "it waits");
    assert!(stage.service.cancel(&cancelled));
    assert_eq!(stage.end(&cancelled).await.0, RunStatus::Cancelled);
    drop(turn);
    nothing_refused(&stage, &waited).await;
    let at_once = stage.submit(RunRequest::new(agent(ONE_MODEL))).await;
    nothing_refused(&stage, &at_once).await;
    for (run, uses) in [(waited, 1), (cancelled, 0), (at_once, 1)] {
        assert_eq!(uses_on_record(&stage, &run).await, uses);
    }
}

#[tokio::test]
async fn what_is_said_about_a_run_is_said_once_although_it_is_prepared_twice() {
    let stage = Stage::new().await;
    let turn = stage.turn();
    let mut request = RunRequest::new(agent(ONE_MODEL));
    request.simulate = Some(Simulate::Scenario("ok".to_owned()));
    let run = stage.submit(request).await;
    drop(turn);
    nothing_refused(&stage, &run).await;
    let told = stage.told(&run).await;
    let notes = told.iter().filter(|(kind, text)| *kind == EventKind::Note && text.contains("simulated"));
    assert_eq!(notes.count(), 1, "{told:?}");
    let statuses: Vec<&str> =
        told.iter().filter(|(kind, _)| *kind == EventKind::Status).map(|(_, text)| text.as_str()).collect();
    assert_eq!(statuses, ["queued", "running", "failed"]);
}

#[tokio::test]
async fn a_service_that_stops_leaves_a_run_that_waits_to_the_next_one() {
    let stage = Stage::new().await;
    let turn = stage.turn();
    let mut request = RunRequest::new(agent(ONE_MODEL));
    request.simulate = Some(Simulate::Scenario("ok".to_owned()));
    let left = stage.submit(request).await;
    let with_keys = stage.submit(with_key(agent(ONE_MODEL))).await;
    stage.service.drain(Duration::ZERO).await;
    assert_eq!(stage.row(&left).await.status, RunStatus::Queued);
    drop(turn);
    let Stage { service, folder } = stage;
    drop(service);

    let service = Service::open(parts(&folder), Mode::Serve).await.expect("the next one");
    let stage = Stage { service, folder };
    let (status, _, code) = stage.end(&with_keys).await;
    assert_eq!((status, code.as_str()), (RunStatus::Interrupted, "server_stopped"));
    while !stage.row(&left).await.status.is_final() {
        tokio::task::yield_now().await;
    }
    nothing_refused(&stage, &left).await;
}

#[tokio::test]
async fn a_run_that_waits_holds_no_module_and_finds_its_agent_again() {
    let stage = Stage::new().await;
    let turn = stage.turn();
    let agent = Arc::new(agent(ONE_MODEL));
    let (digest, held) = (agent.digest, Arc::downgrade(&agent));
    let runs = [stage.submit(with_key(Arc::clone(&agent))).await, stage.submit(with_key(agent)).await];
    // As when others were asked for since.
    stage.service.library().forget(&digest);
    assert!(held.upgrade().is_none(), "runs that wait hold it");
    drop(turn);
    for run in runs {
        nothing_refused(&stage, &run).await;
    }
}

#[tokio::test]
async fn all_that_a_run_was_asked_with_counts_while_it_waits() {
    let stage = Stage::new().await;
    let turn = stage.turn();
    let most = 512 << 20;
    let talks = || {
        let mut request = RunRequest::new(agent(ONE_MODEL));
        request.simulate = Some(Simulate::Scenario("ok".to_owned()));
        request.env.push(("LONG".to_owned(), "x".repeat(5000)));
        request
    };
    let left = stage.submit(talks()).await;
    let full = |service: &Arc<Service>| service.queue.enter(WORKSPACE, most - 5000).err().expect("no room");
    assert_eq!(full(&stage.service).code(), "queue_full");
    let others = stage.service.queue.enter("other", most - 10_000).expect("room for another");
    let refused = stage.service.submit(&Caller::owner(), talks()).await.expect_err("no room");
    assert_eq!(refused.code(), "queue_full");
    stage.service.drain(Duration::ZERO).await;
    drop((others, turn));
    drop(stage.service);

    // The next service has no turn to give.
    let mut parts = parts(&stage.folder);
    parts.config.max_running = 0;
    let service = Service::open(parts, Mode::Serve).await.expect("the next one");
    while service.gauges().queued == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(full(&service).code(), "queue_full");
    while !service.cancel(&left) {
        tokio::task::yield_now().await;
    }
    service.ended(&left).await;
}
