//! Calls are found by what is asked of them, in pages that join without a seam, and by an index.

use rusqlite::params_from_iter;

use super::*;

fn named(workspace: &str, request: &str, seconds: i64) -> CallRow {
    CallRow { request: Some(request.to_owned()), time: at(seconds), ..call(workspace, "gpt", Some(1)) }
}

async fn recorded(stage: &Stage, rows: impl IntoIterator<Item = CallRow>) {
    for row in rows {
        stage.store.record_call(&row);
    }
    stage.store.flush().await.expect("flushed");
}

async fn found(stage: &Stage, filter: &CallFilter) -> Vec<String> {
    let page = stage.store.call_page("default", filter, &CallPage::Newest, 100).await.expect("read");
    page.calls.into_iter().filter_map(|call| call.request).collect()
}

#[tokio::test]
async fn a_call_is_read_as_it_was_written() {
    let stage = stage();
    let row = CallRow {
        run: Some(RunId::random()),
        agent: Some("acme/writer".to_owned()),
        class: Some("rate_limited".to_owned()),
        outcome: Some("all_failed".to_owned()),
        billing: Some("platform".to_owned()),
        ..named("default", "req_a", 3)
    };
    recorded(&stage, [row.clone()]).await;
    assert_eq!(stage.store.call("default", "req_a").await.expect("read"), Some(row));
    assert_eq!(stage.store.call("other", "req_a").await.expect("read"), None, "another workspace's");
    assert_eq!(stage.store.call("default", "req_b").await.expect("read"), None);
}

#[tokio::test]
async fn each_filter_leaves_what_it_says() {
    let stage = stage();
    let run = RunId::random();
    let base = named("default", "req_base", 0);
    let text = |text: &str| Some(text.to_owned());
    let rows = [
        base.clone(),
        CallRow { token: text("tok_2"), caller: "laptop".to_owned(), ..named("default", "req_token", 1) },
        CallRow { member: text("bob"), ..named("default", "req_member", 2) },
        CallRow { agent: text("acme/w"), run: Some(run.clone()), ..named("default", "req_run", 3) },
        CallRow { provider: "groq".to_owned(), ..named("default", "req_provider", 4) },
        CallRow { model: "llama".to_owned(), ..named("default", "req_model", 5) },
        CallRow { credential: text("KEY_2"), ..named("default", "req_credential", 6) },
        CallRow { billing: text("platform"), ..named("default", "req_billing", 7) },
        CallRow { outcome: text("broken"), class: text("truncated"), ..named("default", "req_broken", 8) },
        named("other", "req_foreign", 9),
    ];
    recorded(&stage, rows).await;
    let none = CallFilter::default();
    for (filter, expected) in [
        (CallFilter { token: text("tok_2"), ..none.clone() }, &["req_token"][..]),
        (CallFilter { token: text("laptop"), ..none.clone() }, &["req_token"]),
        (CallFilter { only_of: text("tok_2"), ..none.clone() }, &["req_token"]),
        (CallFilter { only_of: text("tok_2"), token: text("tok_1"), ..none.clone() }, &[]),
        (CallFilter { only_of: text("laptop"), ..none.clone() }, &[]),
        (CallFilter { member: text("bob"), ..none.clone() }, &["req_member"]),
        (CallFilter { agent: text("acme/w"), ..none.clone() }, &["req_run"]),
        (CallFilter { run: text(run.as_str()), ..none.clone() }, &["req_run"]),
        (CallFilter { provider: text("groq"), ..none.clone() }, &["req_provider"]),
        (CallFilter { model: text("llama"), ..none.clone() }, &["req_model"]),
        (CallFilter { model: text("openai/llama"), ..none.clone() }, &["req_model"]),
        (CallFilter { model: text("groq/llama"), ..none.clone() }, &[]),
        (CallFilter { model: text("fast"), provider: text("groq"), ..none.clone() }, &["req_provider"]),
        (CallFilter { credential: text("KEY_2"), ..none.clone() }, &["req_credential"]),
        (CallFilter { billing: text("platform"), ..none.clone() }, &["req_billing"]),
        (CallFilter { outcome: text("broken"), ..none.clone() }, &["req_broken"]),
        (CallFilter { outcome: text("failed"), ..none.clone() }, &["req_broken"]),
        (CallFilter { class: text("truncated"), ..none.clone() }, &["req_broken"]),
        (CallFilter { since: Some(at(7)), ..none.clone() }, &["req_broken", "req_billing"]),
        (CallFilter { until: Some(at(1)), ..none.clone() }, &["req_base"]),
        (CallFilter { since: Some(at(3)), until: Some(at(5)), ..none.clone() }, &["req_provider", "req_run"]),
        (CallFilter { token: text("' OR 1 --"), ..none.clone() }, &[]),
    ] {
        assert_eq!(found(&stage, &filter).await, expected, "{filter:?}");
    }
    assert_eq!(found(&stage, &none).await.len(), 9, "and none of another workspace");
}

#[tokio::test]
async fn pages_join_without_a_seam_while_calls_are_added() {
    let stage = stage();
    // Three to a second, so that pages break among calls of the same time.
    recorded(&stage, (0..30).map(|n| named("default", &format!("req_{n:02}"), n / 3))).await;
    for limit in [1, 2, 4, 29, 30, 31] {
        let (mut seen, mut page) = (Vec::new(), CallPage::Newest);
        loop {
            let Calls { calls, next, .. } =
                stage.store.call_page("default", &CallFilter::default(), &page, limit).await.expect("read");
            assert!(calls.len() <= limit as usize);
            seen.extend(calls.into_iter().filter_map(|call| call.request));
            // What comes meanwhile is newer, and of other workspaces.
            recorded(&stage, [named("other", &format!("req_o{}", seen.len()), 5)]).await;
            match next {
                Some(next) => page = CallPage::Before(next),
                None => break,
            }
        }
        let expected: Vec<_> = (0..30).rev().map(|n| format!("req_{n:02}")).collect();
        assert_eq!(seen, expected, "{limit}");
    }
    let cursor = async |page: CallPage, only_of: Option<&str>| {
        let filter = CallFilter { only_of: only_of.map(str::to_owned), ..CallFilter::default() };
        stage.store.call_page("default", &filter, &page, 5).await.map(|page| page.calls.len())
    };
    for unknown in ["req_o1", "req_99", ""] {
        let failure = cursor(CallPage::Before(unknown.to_owned()), None).await.expect_err("nowhere");
        assert_eq!(failure.code(), "cursor_invalid", "{unknown}");
    }
    let foreign = cursor(CallPage::Before("req_07".to_owned()), Some("tok_2")).await;
    assert_eq!(foreign.expect_err("not theirs").code(), "cursor_invalid");
    assert_eq!(cursor(CallPage::Before("req_07".to_owned()), Some("tok_1")).await.expect("theirs"), 5);
}

#[tokio::test]
async fn what_comes_later_is_found_after_what_is_known() {
    let stage = stage();
    recorded(&stage, [named("default", "req_1", 9), named("default", "req_2", 3)]).await;
    let look = async |page: CallPage| {
        let Calls { calls, next, newest } =
            stage.store.call_page("default", &CallFilter::default(), &page, 10).await.expect("read");
        (calls.into_iter().filter_map(|call| call.request).collect::<Vec<_>>(), next, newest)
    };
    let (first, _, newest) = look(CallPage::Newest).await;
    // By time; but what follows is what was put on record later.
    assert_eq!((first, newest.as_deref()), (vec!["req_1".to_owned(), "req_2".to_owned()], Some("req_2")));
    let after = |request: &str| CallPage::After(request.to_owned());
    assert_eq!(look(after("req_2")).await, (Vec::new(), None, None));
    // A run's calls are told of when they are stored, and may have ended before others.
    recorded(
        &stage,
        [named("default", "req_3", 1), named("other", "req_x", 2), named("default", "req_4", 5)],
    )
    .await;
    let (later, next, newest) = look(after("req_2")).await;
    assert_eq!(
        (later, next, newest.as_deref()),
        (vec!["req_3".to_owned(), "req_4".to_owned()], None, Some("req_4"))
    );
}

/// A day's worth of calls, and what SQLite says of how it would find some of them.
#[test]
fn of_a_hundred_thousand_calls_no_row_is_read_that_is_not_shown() {
    let stage = stage();
    let mut db = raw(stage.folder.path());
    let transaction = db.transaction().expect("begun");
    transaction
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99999)
             INSERT INTO calls (workspace, time, caller, token, provider, model, input_tokens, output_tokens, cost, receipt,
                                request, credential, billing, outcome)
             SELECT 'w' || i % 3, 1800000000000000 + i, 'ci', 'tok_' || i % 50, 'openai', 'm' || i % 7, 10, 5, 1, '{}',
                    'req_' || i, 'KEY_' || i % 5, 'team', CASE i % 100 WHEN 0 THEN 'broken' ELSE 'served' END FROM n;
             ANALYZE;",
        )
        .expect("filled");
    transaction.commit().expect("kept");
    let text = |text: &str| Some(text.to_owned());
    let none = CallFilter::default();
    let searches = "SEARCH calls USING INDEX calls_by_time (workspace=? AND time>? AND time<?)";
    for (filter, from) in [
        (none.clone(), None),
        (none.clone(), Some((1_800_000_000_050_000, 50_000))),
        (CallFilter { token: text("tok_7"), model: text("m3"), ..none.clone() }, None),
        (
            CallFilter {
                credential: text("KEY_1"),
                outcome: text("failed"),
                since: Some(at(0)),
                ..none.clone()
            },
            None,
        ),
        (CallFilter { only_of: text("nobody"), ..none.clone() }, None),
    ] {
        let (sql, values) = calls::listing("w1", &filter, from, false, 51);
        assert_eq!(plan_of(&db, &sql, &values), searches, "{filter:?}");
    }
    let (sql, values) = calls::listing("w1", &none, Some((0, 99_990)), true, 51);
    assert_eq!(plan_of(&db, &sql, &values), "SEARCH calls USING INTEGER PRIMARY KEY (rowid>?)");
    // And what it says is what it does: for what nobody has, no row of the table is looked at.
    let (sql, values) =
        calls::listing("w1", &CallFilter { only_of: text("nobody"), ..none }, None, false, 51);
    let mut statement = db.prepare(&sql).expect("a statement");
    let rows = statement.query_map(params_from_iter(values.iter()), |_| Ok(())).expect("rows").count();
    let sorts = statement.get_status(rusqlite::StatementStatus::Sort);
    let scans = statement.get_status(rusqlite::StatementStatus::FullscanStep);
    assert_eq!((rows, sorts, scans), (0, 0, 0));
}

fn plan_of(db: &Connection, sql: &str, values: &[rusqlite::types::Value]) -> String {
    let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
    let lines = statement
        .query_map(params_from_iter(values.iter()), |row| row.get::<_, String>("detail"))
        .expect("a plan");
    lines.collect::<Result<Vec<_>, _>>().expect("lines").join("\n")
}

#[tokio::test]
async fn keys_say_when_they_were_used_and_what_they_spent() {
    let stage = stage();
    let key = |name: &str, seconds| CallRow {
        credential: Some(name.to_owned()),
        ..named("default", &format!("req_{name}{seconds}"), seconds)
    };
    recorded(&stage, [key("A", 1), key("A", 7), key("A", 4), key("B", 9)]).await;
    let instance = Instance::claim(stage.folder.path()).expect("an instance");
    let spend = |day: i64, cost: u64| {
        let of = SpendOf {
            workspace: "default".to_owned(),
            subjects: vec![("workspace", String::new()), ("key", "A".to_owned())],
            day,
            instance: instance.id().into(),
        };
        stage.store.spend(of, (10, cost), (0, 0));
    };
    // The 15th of a month: its first day is 14 days before.
    let now = time::macros::datetime!(2027-01-15 10:00 UTC);
    let today = now.unix_timestamp() / 86_400;
    for (day, cost) in [(today, 1), (today - 14, 10), (today - 15, 100)] {
        spend(day, cost);
    }
    stage.store.flush().await.expect("flushed");
    let names = ["A", "B", "C"].map(str::to_owned).to_vec();
    let uses = stage.store.key_uses("default", names.clone(), now).await.expect("read");
    assert_eq!(uses[0], KeyUse { last_call: Some(at(7)), micro_usd: [1, 11, 111], tokens: 30 });
    assert_eq!(uses[1], KeyUse { last_call: Some(at(9)), ..KeyUse::default() });
    assert_eq!(uses[2], KeyUse::default());
    let others = stage.store.key_uses("other", names, now).await.expect("read");
    assert!(others.iter().all(|used| *used == KeyUse::default()), "{others:?}");
}

#[tokio::test]
async fn usage_adds_up_by_key_token_member_and_who_is_billed() {
    let stage = stage();
    let text = |text: &str| Some(text.to_owned());
    recorded(
        &stage,
        [
            named("default", "req_1", 0),
            CallRow { token: text("tok_2"), caller: "laptop".to_owned(), ..named("default", "req_2", 1) },
            CallRow { billing: text("platform"), member: None, ..named("default", "req_3", 2) },
            CallRow {
                billing: None,
                credential: None,
                outcome: text("rejected"),
                ..named("default", "req_4", 3)
            },
            named("other", "req_5", 4),
        ],
    )
    .await;
    let add_up = async |by, only_of: Option<&str>| {
        let only_of = only_of.map(str::to_owned);
        let query = UsageQuery { only_of, since: None, until: None, by };
        let rows = stage.store.usage("default", &query).await.expect("added up");
        rows.into_iter()
            .map(|row| (row.key, row.name.unwrap_or_default(), row.calls, row.failed, row.platform_micro_usd))
            .collect::<Vec<_>>()
    };
    let row = |key: &str, name: &str, calls, failed, platform| {
        (key.to_owned(), name.to_owned(), calls, failed, platform)
    };
    assert_eq!(
        add_up(UsageBy::Credential, None).await,
        [row("", "", 1, 1, 0), row("OPENAI_API_KEY", "", 3, 0, 1)]
    );
    assert_eq!(
        add_up(UsageBy::Billing, None).await,
        [row("", "", 1, 1, 0), row("platform", "", 1, 0, 1), row("team", "", 2, 0, 0)]
    );
    assert_eq!(add_up(UsageBy::Member, None).await, [row("", "", 1, 0, 1), row("ada", "", 3, 1, 0)]);
    assert_eq!(
        add_up(UsageBy::Token, None).await,
        [row("tok_1", "ci", 3, 1, 1), row("tok_2", "laptop", 1, 0, 0)]
    );
    assert_eq!(add_up(UsageBy::Token, Some("tok_2")).await, [row("tok_2", "laptop", 1, 0, 0)]);
    assert_eq!(add_up(UsageBy::Total, Some("tok_2")).await, [row("", "", 1, 0, 0)]);
    assert_eq!(add_up(UsageBy::Total, Some("nobody")).await, [row("", "", 0, 0, 0)]);
}

/// One key timed out and may be charged for it, another answered: each has what is its own, and the whole is counted once.
#[tokio::test]
async fn what_a_failed_attempt_cost_counts_for_its_own_key() {
    let stage = stage();
    let text = |text: &str| Some(text.to_owned());
    let moved = Moved {
        provider: "anthropic".to_owned(),
        model: "claude".to_owned(),
        credential: text("own/ada/ANTHROPIC_API_KEY"),
        billing: text("own"),
        input_tokens: 100,
        output_tokens: 200,
        cost_micro_usd: Some(600),
    };
    let served = CallRow {
        billing: text("platform"),
        credential: text("platform/OPENAI_API_KEY"),
        input_tokens: 110,
        output_tokens: 205,
        moved: vec![moved.clone()],
        ..call("default", "gpt", Some(650))
    };
    let run = RunId::random();
    let of_run = CallRow { run: Some(run.clone()), request: text("req_2"), ..served.clone() };
    recorded(&stage, [served]).await;
    // Brought twice, stored once, and moved once.
    for _ in 0..2 {
        stage.store.record_calls(0, vec![of_run.clone()]);
    }
    stage.store.flush().await.expect("flushed");
    let query = |by, only_of: Option<&str>| UsageQuery {
        only_of: only_of.map(str::to_owned),
        since: Some(at(0)),
        until: Some(at(1)),
        by,
    };
    let add_up = async |query: UsageQuery| {
        let rows = stage.store.usage("default", &query).await.expect("added up");
        rows.into_iter()
            .map(|row| {
                (
                    row.key,
                    row.calls,
                    row.input_tokens,
                    row.output_tokens,
                    row.cost_micro_usd,
                    row.platform_micro_usd,
                )
            })
            .collect::<Vec<_>>()
    };
    let row = |key: &str, calls, input, output, cost, platform| {
        (key.to_owned(), calls, input, output, Some(cost), platform)
    };
    assert_eq!(
        add_up(query(UsageBy::Credential, None)).await,
        [
            row("own/ada/ANTHROPIC_API_KEY", 0, 200, 400, 1200, 0),
            row("platform/OPENAI_API_KEY", 2, 20, 10, 100, 100)
        ]
    );
    assert_eq!(
        add_up(query(UsageBy::Billing, None)).await,
        [row("own", 0, 200, 400, 1200, 0), row("platform", 2, 20, 10, 100, 100)]
    );
    assert_eq!(
        add_up(query(UsageBy::Model, None)).await,
        [row("anthropic/claude", 0, 200, 400, 1200, 0), row("openai/gpt", 2, 20, 10, 100, 100)]
    );
    // What is not about keys is the same as ever, but for what the operator paid.
    for (by, key) in [(UsageBy::Total, ""), (UsageBy::Member, "ada"), (UsageBy::Token, "tok_1")] {
        assert_eq!(add_up(query(by, None)).await, [row(key, 2, 220, 410, 1300, 100)], "{by:?}");
        let of_one = add_up(query(by, Some("tok_1"))).await;
        assert_eq!(of_one, [row(key, 2, 220, 410, 1300, 100)], "{by:?}");
    }
    let others = UsageQuery { since: Some(at(1)), until: None, ..query(UsageBy::Credential, None) };
    assert!(add_up(others).await.is_empty());
    assert!(add_up(query(UsageBy::Billing, Some("nobody"))).await.is_empty());

    // Where one price is not known, what it is part of is not known either, and nothing else.
    let unknown = CallRow {
        cost_micro_usd: None,
        time: at(100),
        moved: vec![Moved { cost_micro_usd: None, ..moved }],
        ..call("default", "gpt", None)
    };
    recorded(&stage, [unknown]).await;
    let later = UsageQuery { since: Some(at(50)), until: None, ..query(UsageBy::Billing, None) };
    let costs: Vec<_> = add_up(later).await.into_iter().map(|row| (row.0, row.4)).collect();
    assert_eq!(costs, [("own".to_owned(), None), ("team".to_owned(), None)]);
}

/// What one workspace lends is used in all others, under the name of a key of the platform.
#[tokio::test]
async fn a_key_that_is_lent_says_what_all_workspaces_spent_with_it() {
    let stage = stage();
    let key = |workspace: &str, name: &str, seconds| CallRow {
        credential: Some(name.to_owned()),
        ..named(workspace, &format!("req_{workspace}{seconds}"), seconds)
    };
    let lent = "platform/OPENAI_API_KEY";
    recorded(
        &stage,
        [key("acme", lent, 1), key("beta", lent, 7), key("acme", lent, 4), key("beta", "OTHER", 9)],
    )
    .await;
    let instance = Instance::claim(stage.folder.path()).expect("an instance");
    let now = time::macros::datetime!(2027-01-15 10:00 UTC);
    for (workspace, cost) in [("acme", 5), ("beta", 70), ("without-calls", 900)] {
        let of = SpendOf {
            workspace: workspace.to_owned(),
            subjects: vec![("key", lent.to_owned())],
            day: now.unix_timestamp() / 86_400,
            instance: instance.id().into(),
        };
        stage.store.spent(&of, (10, cost));
    }
    stage.store.flush().await.expect("flushed");
    let names = vec![lent.to_owned(), "platform/NOBODY".to_owned()];
    let uses = stage.store.lent_uses(names, now).await.expect("read");
    assert_eq!(uses[0], KeyUse { last_call: Some(at(7)), micro_usd: [75; 3], tokens: 20 });
    assert_eq!(uses[1], KeyUse::default());
}

/// However many calls are put on record meanwhile, the rows and the total are of the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_total_are_of_one_moment() {
    let stage = stage();
    let query = UsageQuery { only_of: None, since: None, until: None, by: UsageBy::Provider };
    let both = async || {
        let (rows, total) = stage.store.usage_and_total("default", &query).await.expect("added up");
        (rows.iter().map(|row| row.calls).sum::<u64>(), total.expect("a total").calls)
    };
    let mut seen = 0;
    for _ in 0..300 {
        for _ in 0..10 {
            stage.store.record_call(&call("default", "a", Some(1)));
        }
        let (rows, total) = both().await;
        assert_eq!(rows, total);
        seen = total;
    }
    stage.store.flush().await.expect("flushed");
    assert_eq!(both().await, (3000, 3000));
    assert!(seen > 0, "it was read while it was written");
}
