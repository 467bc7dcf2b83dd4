//! Databases of every earlier version, filled as the programs of then filled them, are brought to this one: each call is
//! found again by all that it is found by now, and the sums are right.

use std::os::unix::fs::PermissionsExt as _;

use rusqlite::types::Value as Sql;

use super::*;

/// What made each version of the one before.
const STEPS: [&str; 6] = [
    include_str!("../schema.sql"),
    include_str!("../schema/calls_of_runs.sql"),
    include_str!("../schema/spend.sql"),
    include_str!("../schema/routing.sql"),
    include_str!("../schema/requests.sql"),
    include_str!("../schema/byok.sql"),
];

/// The version that named the request, its key and the day of its prices in columns.
const NAMED: usize = 5;

/// A call as it was put on record by then: its row, and the receipt in it.
struct Old {
    workspace: &'static str,
    seconds: i64,
    run: Option<RunId>,
    caller: &'static str,
    agent: Option<&'static str>,
    by: (&'static str, &'static str),
    tokens: (i64, i64),
    cost: Option<i64>,
    receipt: Value,
}

/// A receipt with the fields that it had when databases had version 5.
#[expect(clippy::needless_pass_by_value, reason = "for `json!` in its callers")]
fn old_receipt(request: &str, fields: Value) -> Value {
    let mut receipt = json!({
        "request_id": request, "credential": null, "provider_asked": "openai", "model_asked": "smart",
        "provider_served": null, "model_served": null, "attempts": [], "skipped": [], "input_tokens": 0,
        "output_tokens": 0, "cost_usd": null, "latency_ms": 87, "dropped": [], "simulated": false, "outcome": "served",
    });
    for (name, value) in fields.as_object().expect("fields") {
        receipt[name] = value.clone();
    }
    receipt
}

fn attempt(provider: &str, credential: &str, class: Option<&str>) -> Value {
    let mut attempt = json!({ "provider": provider, "model": "m", "credential": credential, "status": 200, "latency_ms": 80 });
    if let Some(class) = class {
        attempt["class"] = json!(class);
        attempt["message"] = json!("no");
    }
    attempt
}

fn old_calls(run: &RunId) -> Vec<Old> {
    let base = || Old {
        workspace: "default",
        seconds: 0,
        run: None,
        caller: "ci",
        agent: None,
        by: ("openai", "m"),
        tokens: (12, 3),
        cost: Some(1_500),
        receipt: Value::Null,
    };
    let key = |id: &str, source: &str| json!({ "id": id, "source": source });
    vec![
        Old {
            receipt: old_receipt(
                "req_aaaaaaaaaaaaaaaa",
                json!({
                    "credential": key("OPENAI_API_KEY", "vault"), "provider_served": "openai", "model_served": "m-2026",
                    "attempts": [attempt("openai", "OPENAI_API_KEY", None)], "input_tokens": 12, "output_tokens": 3,
                    "cost_usd": 0.0015, "price_as_of": "2026-07-02",
                }),
            ),
            ..base()
        },
        // Of a run, by its second candidate, with the caller's own key.
        Old {
            seconds: 90_000,
            run: Some(run.clone()),
            caller: "owner",
            agent: Some("acme/writer"),
            cost: Some(7),
            receipt: old_receipt(
                "req_bbbbbbbbbbbbbbbb",
                json!({
                    "credential": key("OPENAI_API_KEY", "env"), "provider_asked": "groq", "provider_served": "openai",
                    "attempts": [attempt("groq", "GROQ_API_KEY", Some("rate_limited")), attempt("openai", "OPENAI_API_KEY", None)],
                }),
            ),
            ..base()
        },
        // The client went away after one candidate had failed and before the next said anything.
        Old {
            seconds: 2,
            caller: "laptop",
            by: ("groq", "m"),
            tokens: (40, 60),
            cost: None,
            receipt: old_receipt(
                "req_cccccccccccccccc",
                json!({
                    "credential": key("FROM_A_FLAG", "flag"), "outcome": "cancelled", "estimated": true,
                    "attempts": [attempt("groq", "FROM_A_FLAG", Some("server"))],
                }),
            ),
            ..base()
        },
        Old {
            seconds: 3,
            by: ("groq", "m"),
            tokens: (0, 0),
            cost: None,
            receipt: old_receipt(
                "req_dddddddddddddddd",
                json!({
                    "credential": key("GROQ_API_KEY", "vault"), "provider_asked": "groq", "outcome": "all_failed",
                    "attempts": [attempt("groq", "GROQ_API_KEY", Some("bad_key"))],
                }),
            ),
            ..base()
        },
        // Refused before anybody was asked.
        Old {
            seconds: 4,
            by: ("none", "nobody-has-it"),
            tokens: (0, 0),
            cost: None,
            receipt: old_receipt(
                "req_eeeeeeeeeeeeeeee",
                json!({
                    "provider_asked": "", "model_asked": "nobody-has-it", "outcome": "rejected", "latency_ms": 0,
                    "refused": { "class": "no_model", "code": "model_not_found" },
                }),
            ),
            ..base()
        },
        Old {
            seconds: 5,
            cost: Some(0),
            receipt: old_receipt(
                "req_ffffffffffffffff",
                json!({ "credential": key("simulated", "simulated"), "simulated": true, "provider_served": "openai" }),
            ),
            ..base()
        },
        Old {
            workspace: "other",
            seconds: 6,
            receipt: old_receipt("req_gggggggggggggggg", json!({})),
            ..base()
        },
    ]
}

/// A database of this version with these calls.
fn old_store(version: usize, calls: &[Old]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let db = raw(folder.path());
    for step in &STEPS[..version] {
        db.execute_batch(step).expect("made");
    }
    for (place, call) in calls.iter().enumerate() {
        let text = |text: &str| Sql::from(text.to_owned());
        let maybe = |text: Option<&str>| text.map_or(Sql::Null, |text| Sql::from(text.to_owned()));
        let mut columns = vec![
            ("workspace", text(call.workspace)),
            ("time", columns::micros(at(call.seconds)).into()),
            ("run", maybe(call.run.as_ref().map(RunId::as_str))),
            ("caller", text(call.caller)),
            ("agent", maybe(call.agent)),
            ("provider", text(call.by.0)),
            ("model", text(call.by.1)),
            ("input_tokens", call.tokens.0.into()),
            ("output_tokens", call.tokens.1.into()),
            ("cost", call.cost.map_or(Sql::Null, Sql::from)),
            ("receipt", text(&call.receipt.to_string())),
        ];
        if version >= 2 {
            columns.push(("place", call.run.as_ref().map_or(Sql::Null, |_| (place as i64).into())));
        }
        if version >= NAMED {
            columns.push(("request", maybe(call.receipt["request_id"].as_str())));
            columns.push(("credential", maybe(call.receipt["credential"]["id"].as_str())));
            columns.push(("price_date", maybe(call.receipt["price_as_of"].as_str())));
        }
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let places: Vec<String> = (1..=columns.len()).map(|place| format!("?{place}")).collect();
        let sql = format!("INSERT INTO calls ({}) VALUES ({})", names.join(", "), places.join(", "));
        db.execute(&sql, rusqlite::params_from_iter(columns.iter().map(|(_, value)| value))).expect("filled");
    }
    db.pragma_update(None, "application_id", 0x6f72_6368).expect("orch's");
    db.pragma_update(None, "user_version", version as i64).expect("that version");
    drop(db);
    fs::set_permissions(folder.path().join(DATABASE), fs::Permissions::from_mode(0o600)).expect("private");
    folder
}

#[tokio::test]
async fn calls_of_every_earlier_version_are_found_by_all_that_calls_are_found_by() {
    let run = RunId::random();
    for version in 1..=STEPS.len() {
        let folder = old_store(version, &old_calls(&run));
        let store = Store::open(folder.path()).expect("opened");
        let found = async |filter: CallFilter| -> String {
            let page = store.call_page("default", &filter, &CallPage::Newest, 100).await.expect("read");
            // By the letter that its name is made of.
            page.calls
                .iter()
                .map(|call| call.request.as_deref().expect("a name").chars().last().expect("a letter"))
                .collect()
        };
        let text = |text: &str| Some(text.to_owned());
        let none = CallFilter::default;
        for (filter, expected) in [
            (none(), "bfedca"),
            (CallFilter { token: text("ci"), ..none() }, "feda"),
            (CallFilter { member: text("laptop"), ..none() }, "c"),
            (CallFilter { agent: text("acme/writer"), ..none() }, "b"),
            (CallFilter { run: text(run.as_str()), ..none() }, "b"),
            (CallFilter { provider: text("groq"), ..none() }, "dc"),
            (CallFilter { model: text("smart"), ..none() }, "bfdca"),
            (CallFilter { model: text("nobody-has-it"), ..none() }, "e"),
            (CallFilter { model: text("groq/m"), ..none() }, "dc"),
            (CallFilter { credential: text("OPENAI_API_KEY"), ..none() }, "ba"),
            (CallFilter { credential: text("GROQ_API_KEY"), ..none() }, "d"),
            (CallFilter { billing: text("team"), ..none() }, "da"),
            (CallFilter { billing: text("own"), ..none() }, "bc"),
            (CallFilter { billing: text("platform"), ..none() }, ""),
            (CallFilter { outcome: text("failed"), ..none() }, "edc"),
            (CallFilter { class: text("bad_key"), ..none() }, "d"),
            (CallFilter { class: text("no_model"), ..none() }, "e"),
            // Whoever went away did not fail.
            (CallFilter { class: text("server"), ..none() }, ""),
            (CallFilter { since: Some(at(3)), until: Some(at(5)), ..none() }, "ed"),
        ] {
            assert_eq!(found(filter.clone()).await, expected, "version {version}: {filter:?}");
        }
        // To a token that may see its own alone they are nobody's: whose id it was is on no record.
        assert_eq!(found(CallFilter { only_of: text("ci"), ..none() }).await, "", "version {version}");
        let one = store.call("default", "req_aaaaaaaaaaaaaaaa").await.expect("read").expect("there");
        assert_eq!(
            (one.source.as_deref(), one.latency_ms, one.price_date.as_deref(), one.cost_micro_usd),
            (Some("vault"), Some(87), Some("2026-07-02"), Some(1_500)),
            "version {version}"
        );
        assert_eq!((one.token, one.mask, one.first_token_ms), (None, None, None), "version {version}");

        let sums = async |by: UsageBy| {
            let query = UsageQuery { only_of: None, since: None, until: None, by };
            let rows = store.usage("default", &query).await.expect("added up");
            rows.into_iter()
                .map(|row| (row.key, row.calls, row.failed, row.input_tokens, row.cost_micro_usd))
                .collect::<Vec<_>>()
        };
        let row = |key: &str, calls, failed, input, cost| (key.to_owned(), calls, failed, input, cost);
        // One call's price is not known, and only where it counts is the sum's not.
        assert_eq!(sums(UsageBy::Total).await, [row("", 6, 3, 76, None)], "version {version}");
        assert_eq!(
            sums(UsageBy::Credential).await,
            [
                row("", 1, 1, 0, Some(0)),
                row("FROM_A_FLAG", 1, 1, 40, None),
                row("GROQ_API_KEY", 1, 1, 0, Some(0)),
                row("OPENAI_API_KEY", 2, 0, 24, Some(1_507)),
                row("simulated", 1, 0, 12, Some(0)),
            ],
            "version {version}"
        );
        assert_eq!(
            sums(UsageBy::Member).await,
            [
                row("ci", 4, 2, 24, Some(1_500)),
                row("laptop", 1, 1, 40, None),
                row("owner", 1, 0, 12, Some(7))
            ],
            "version {version}"
        );
        assert_eq!(
            sums(UsageBy::Billing).await,
            [row("", 2, 1, 12, Some(0)), row("own", 2, 1, 52, None), row("team", 2, 1, 12, Some(1_500))],
            "version {version}"
        );
        assert_eq!(
            sums(UsageBy::Agent).await,
            [row("", 5, 3, 64, None), row("acme/writer", 1, 0, 12, Some(7))],
            "version {version}"
        );
        assert_eq!(sums(UsageBy::Model).await.len(), 3, "version {version}");
        let days = sums(UsageBy::Day).await;
        assert_eq!(days.iter().map(|day| day.1).collect::<Vec<_>>(), [5, 1], "version {version}: {days:?}");

        // What is recorded from now on stands beside it, and the runs' calls are still known by their places.
        store.record_calls(1, vec![CallRow { run: Some(run.clone()), ..call("default", "again", None) }]);
        store.flush().await.expect("flushed");
        let of_run = store.calls(&run).await.expect("read").len();
        // Version 1 had no places: there is nothing to know it by.
        assert_eq!(of_run, if version == 1 { 2 } else { 1 }, "version {version}");
        drop(store);
        // A second opening changes nothing.
        let store = Store::open(folder.path()).expect("opened again");
        assert!(store.call("other", "req_gggggggggggggggg").await.expect("read").is_some());
    }
}

/// What was no receipt then is a call all the same.
#[tokio::test]
async fn a_damaged_receipt_keeps_no_store_from_being_opened() {
    let damaged =
        |text: &str| Old { receipt: Value::String(text.to_owned()), ..old_calls(&RunId::random()).remove(0) };
    let calls = [damaged(""), damaged("[]")];
    let folder = old_store(NAMED, &calls);
    let db = raw(folder.path());
    for (seq, text) in [
        (1, "no JSON"),
        (
            2,
            r#"{"request_id":7,"credential":"K","latency_ms":"long","outcome":{},"attempts":{},"simulated":"x"}"#,
        ),
    ] {
        db.execute("UPDATE calls SET receipt = ?2 WHERE seq = ?1", rusqlite::params![seq, text])
            .expect("changed");
    }
    drop(db);
    let store = Store::open(folder.path()).expect("opened");
    let page = store.call_page("default", &CallFilter::default(), &CallPage::Newest, 9).await.expect("read");
    assert_eq!(page.calls.len(), 2);
    assert!(page.calls.iter().all(|call| call.latency_ms.is_none() && call.request.is_some()));
}

/// A migration that fails leaves the database as it was, in its version.
#[test]
fn a_migration_that_fails_changes_nothing() {
    let folder = old_store(NAMED, &old_calls(&RunId::random()));
    // Somebody has made a table of the name of one that is to come.
    raw(folder.path()).execute_batch("CREATE TABLE bodies (text TEXT)").expect("made");
    let failure = Store::open(folder.path()).err().expect("it is not opened");
    assert_eq!((failure.code(), failure.kind()), ("store_unusable", Kind::Server), "{failure}");
    assert!(failure.message().contains(DATABASE), "{failure}");
    let db = raw(folder.path());
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).expect("a version");
    assert_eq!(version, NAMED as i64);
    let columns: i64 = db
        .query_row("SELECT count(*) FROM pragma_table_info('calls') WHERE name = 'billing'", [], |row| {
            row.get(0)
        })
        .expect("a number");
    assert_eq!(columns, 0, "nothing of it is half done");
}
