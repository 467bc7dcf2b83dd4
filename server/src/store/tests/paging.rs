//! Listings: complete, in order, and never a scan.

use std::collections::HashSet;

use super::*;

async fn all_pages(store: &Store, mut page: RunPage, between: impl AsyncFn()) -> Vec<RunId> {
    let mut found = Vec::new();
    loop {
        let (rows, next) = store.runs("default", &page).await.expect("listed");
        assert!(rows.len() <= page.limit as usize);
        found.extend(rows.into_iter().map(|row| row.run));
        between().await;
        match next {
            Some(next) => page.before = Some(next),
            None => return found,
        }
    }
}

#[tokio::test]
async fn pages_have_no_gaps_and_no_doubles_while_runs_are_added() {
    let stage = stage();
    let mut ids = Vec::new();
    for _ in 0..23 {
        ids.push(accepted(&stage.store, new_run("default")).await);
        accepted(&stage.store, new_run("other")).await;
    }
    ids.reverse();
    let page = RunPage { limit: 5, ..RunPage::default() };
    let found = all_pages(&stage.store, page, async || {
        accepted(&stage.store, new_run("default")).await;
    })
    .await;
    assert_eq!(found, ids, "newest first, and only what was there at the first page");
}

#[tokio::test]
async fn the_last_full_page_is_known_to_be_the_last() {
    let stage = stage();
    for _ in 0..10 {
        accepted(&stage.store, new_run("default")).await;
    }
    let page = RunPage { limit: 5, ..RunPage::default() };
    let (_, next) = stage.store.runs("default", &page).await.expect("listed");
    let page = RunPage { before: next, ..page };
    let (rows, next) = stage.store.runs("default", &page).await.expect("listed");
    assert_eq!((rows.len(), next), (5, None));
}

#[tokio::test]
async fn filters_combine_and_a_changed_status_moves_a_run() {
    let stage = stage();
    let mut ended = HashSet::new();
    for n in 0..12 {
        let agent = if n % 2 == 0 { "acme/even" } else { "acme/odd" };
        let run =
            accepted(&stage.store, NewRun { agent: agent.parse().expect("a name"), ..new_run("default") })
                .await;
        if n % 3 == 0 {
            stage.store.finish(&run, end(RunStatus::Failed)).await.expect("ended");
            if n % 2 == 0 {
                ended.insert(run);
            }
        }
    }
    let list = async |status, agent: Option<&str>| {
        let agent = agent.map(|name| name.parse().expect("a name"));
        let page = RunPage { limit: 1, before: None, status, agent };
        all_pages(&stage.store, page, async || {}).await
    };
    assert_eq!(list(None, None).await.len(), 12);
    assert_eq!(list(Some(RunStatus::Failed), None).await.len(), 4);
    assert_eq!(list(Some(RunStatus::Queued), None).await.len(), 8);
    assert_eq!(list(None, Some("acme/even")).await.len(), 6);
    let both = list(Some(RunStatus::Failed), Some("acme/even")).await;
    assert_eq!(both.into_iter().collect::<HashSet<_>>(), ended);
    assert!(list(Some(RunStatus::Running), Some("acme/even")).await.is_empty());
}

#[tokio::test]
async fn a_clock_that_goes_backwards_does_not_change_the_order() {
    let stage = stage();
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(accepted(&stage.store, NewRun { created: at(-n * 3600), ..new_run("default") }).await);
    }
    ids.reverse();
    assert_eq!(all_pages(&stage.store, RunPage::default(), async || {}).await, ids);
}

#[tokio::test]
async fn a_place_of_another_workspace_is_none() {
    let stage = stage();
    let other = accepted(&stage.store, new_run("other")).await;
    for before in [other.to_string(), "1".to_owned(), String::new()] {
        let page = RunPage { before: Some(before), ..RunPage::default() };
        let failure = stage.store.runs("default", &page).await.expect_err("no place of this workspace");
        assert_eq!(failure.code(), "cursor_invalid");
    }
}

#[tokio::test]
async fn a_listing_reads_no_documents() {
    let stage = stage();
    let run = accepted(&stage.store, new_run("default")).await;
    let report = Some(json!({"output": 1}));
    stage.store.finish(&run, RunEnd { report, ..end(RunStatus::Succeeded) }).await.expect("ended");
    let (rows, _) = stage.store.runs("default", &RunPage::default()).await.expect("listed");
    assert_eq!((&rows[0].request, &rows[0].report), (&Value::Null, &None));
}

/// The plan of a statement, one step a line.
fn plan(db: &Connection, sql: &str) -> String {
    let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
    let steps: Vec<String> =
        statement.raw_query().mapped(|row| row.get("detail")).collect::<Result<_, _>>().expect("a plan");
    steps.join("\n")
}

#[test]
fn no_listing_scans_or_sorts() {
    let stage = stage();
    let db = raw(stage.folder.path());
    for by_status in [false, true] {
        for by_agent in [false, true] {
            for from_place in [false, true] {
                let plan = plan(&db, &runs::listing(by_status, by_agent, from_place));
                let mut wanted = "(workspace=?".to_owned();
                for (there, column) in
                    [(by_agent, " AND agent=?"), (by_status, " AND status=?"), (from_place, " AND rowid<?")]
                {
                    wanted.push_str(if there { column } else { "" });
                }
                wanted.push(')');
                assert!(plan.starts_with("SEARCH runs USING INDEX runs_by_"), "{plan}");
                assert!(plan.contains(&wanted), "{plan}, not {wanted}");
                assert_eq!(plan.lines().count(), 1, "{plan}");
            }
        }
    }
}

#[test]
fn recovery_and_records_use_indexes() {
    let stage = stage();
    let db = raw(stage.folder.path());
    // The whole of this index is what is unfinished.
    assert_eq!(plan(&db, runs::OWNERS), "SCAN runs USING INDEX runs_unfinished");
    let unfinished = plan(&db, &runs::unfinished_of());
    assert_eq!(unfinished, "SEARCH runs USING INDEX runs_unfinished (instance=?)");
    let events = plan(&db, events::PAGE);
    assert!(events.contains("SEARCH events USING PRIMARY KEY (run=? AND seq>?)"), "{events}");
    assert_eq!(plan(&db, &usage::calls_of_run()), "SEARCH calls USING INDEX calls_of_run (run=?)");
    for by in [
        UsageBy::Day,
        UsageBy::Agent,
        UsageBy::Model,
        UsageBy::Provider,
        UsageBy::Credential,
        UsageBy::Billing,
        UsageBy::Member,
        UsageBy::Token,
        UsageBy::Total,
    ] {
        for of_one in [false, true] {
            let plan = plan(&db, &usage::sums(by, of_one));
            assert!(
                plan.contains(
                    "SEARCH calls USING COVERING INDEX calls_by_time (workspace=? AND time>? AND time<?)"
                ),
                "{plan}"
            );
            let moved = self::plan(&db, &usage::moved_sums(by, of_one));
            let wanted = "SEARCH moved USING INDEX moved_by_time (workspace=? AND time>? AND time<?)";
            assert!(moved.contains(wanted), "{moved}");
        }
    }
    assert_eq!(
        plan(&db, calls::LAST_CALL),
        "SEARCH calls USING COVERING INDEX calls_by_key (workspace=? AND credential=?)"
    );
}

#[tokio::test]
async fn decisions_come_in_pages_that_join_without_a_seam() {
    let stage = stage();
    let run = accepted(&stage.store, new_run("default")).await;
    let none = stage.store.decisions_page(&run, 0, 10).await.expect("read");
    assert_eq!(none, (Vec::new(), None));
    let decisions: Vec<Value> = (0..23).map(|n| json!({ "n": n })).collect();
    let ended = RunEnd { decisions: decisions.clone(), ..end(RunStatus::Succeeded) };
    stage.store.finish(&run, ended).await.expect("ended");
    for limit in [1, 5, 22, 23, 24, 1000] {
        let (mut found, mut after) = (Vec::new(), 0);
        loop {
            let (page, next) = stage.store.decisions_page(&run, after, limit).await.expect("read");
            assert!(page.len() <= limit as usize && !page.is_empty());
            found.extend(page);
            match next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(found, decisions, "{limit}");
    }
    assert_eq!(stage.store.decisions_page(&run, u64::MAX, 5).await.expect("read"), (Vec::new(), None));
}
