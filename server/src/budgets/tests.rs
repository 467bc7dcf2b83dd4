//! Budgets over a store, and the gateway's calls on them.

use std::sync::Mutex;

use orch_gateway::ir::Usage;
use orch_gateway::{Ask, BoundOf, CacheWrites, Granted, LimitHit, Unreserved};
use orch_manifests::Price;
use tempfile::TempDir;
use time::macros::datetime;

use super::*;

/// Budgets on a clock that stands still until it is set.
struct Stage {
    budgets: Arc<Budgets>,
    now: Arc<Mutex<OffsetDateTime>>,
    /// Its process, which has died when this is dropped.
    instance: Instance,
    folder: TempDir,
}

impl Stage {
    fn new(config: &str) -> Self {
        Self::over(tempfile::tempdir().expect("a folder"), config)
    }

    fn over(folder: TempDir, config: &str) -> Self {
        let store = Store::open(folder.path()).expect("a store");
        let instance = Instance::claim(folder.path()).expect("an instance");
        let config = Config::parse(config, "config.yaml", folder.path()).expect("a configuration");
        let now = Arc::new(Mutex::new(datetime!(2026-11-30 23:59:58 UTC)));
        let clock = Arc::clone(&now);
        let clock: Clock = Arc::new(move || *clock.lock().expect("whole"));
        let budgets = Budgets::by(store, &instance, Arc::new(config), clock);
        Self { budgets, now, instance, folder }
    }

    fn set(&self, now: OffsetDateTime) {
        *self.now.lock().expect("whole") = now;
    }

    /// A call of the token `ci` for so many input tokens and at most so many of output.
    async fn call(&self, input: u64, output: u64) -> Result<Granted, LimitHit> {
        self.call_of(None, None, input, output).await
    }

    async fn call_of(
        &self,
        agent: Option<&str>,
        key: Option<&str>,
        input: u64,
        output: u64,
    ) -> Result<Granted, LimitHit> {
        let ask = Ask {
            input,
            max_output: Some(output),
            answers: 1,
            price: Some(Price {
                input_per_mtok: MicroUsd(1_000_000),
                output_per_mtok: MicroUsd(2_000_000),
                ..Price::FREE
            }),
            cache_writes: CacheWrites::None,
            already: None,
        };
        self.budgets.account("default", "ci", agent).reserve(key, ask).await.map_err(|why| match why {
            Unreserved::Limit(hit) => hit,
            Unreserved::Unavailable(why) => panic!("{why}"),
        })
    }

    async fn used(&self) -> Vec<(u64, u64)> {
        self.budgets.store.flush().await.expect("stored");
        let shown = self.budgets.shown("default").await.expect("readable");
        let number = |budget: &Value, at: &str| budget[at]["tokens"].as_u64().expect("a number");
        shown.iter().map(|budget| (number(budget, "used"), number(budget, "held"))).collect()
    }
}

fn spend(granted: Granted, input: u64, output: u64) {
    let usage = Usage { input, output, ..Usage::default() };
    granted.held.spend(&usage, input + 2 * output);
    drop(granted);
}

#[tokio::test]
async fn a_call_is_clamped_to_the_scarcest_and_refused_by_name() {
    let stage = Stage::new(
        "budgets:\n  team: { window: day, tokens: 1000 }\n  cents: { window: total, cost_usd: 0.0005 }\n  \
         other: { window: day, tokens: 1, agent: acme/other }",
    );
    let first = stage.call(100, 10_000).await.expect("paid");
    assert_eq!((first.output, first.bounded), (Some(200), true), "500 micro-dollars pay for 200 more tokens");
    let hit = stage.call(100, 1).await.err().expect("nothing is left");
    assert_eq!((hit.name, hit.used, hit.limit, hit.needed), ("cost_usd", 500, 500, Some(102)));
    let BoundOf::Budget { budget, renews_at: None, set_by } = &hit.of else { panic!("{hit:?}") };
    assert_eq!((&**budget, &**set_by), ("cents", "`budgets.cents` in config.yaml"));
    spend(first, 100, 50);
    assert_eq!(stage.used().await, [(150, 0), (0, 0), (150, 0)], "cents, other, team");
    assert!(stage.call(100, 1).await.is_ok(), "what was not spent is there again");
    stage.budgets.store.flush().await.expect("stored");

    // All or nothing: a budget that refuses leaves nothing held in another.
    assert!(stage.call(600, 300).await.is_err());
    assert_eq!(stage.used().await[0], (150, 0));
    let hit = stage.call_of(Some("acme/other"), None, 5, 1).await.err().expect("refused");
    assert!(hit.to_string().contains("`other`"), "{hit}");
}

#[tokio::test]
async fn each_scope_counts_its_own() {
    let stage = Stage::new(
        "budgets:\n  a: { agent: acme/a, window: month, tokens: 100 }\n  k: { key: OPENAI_API_KEY, window: month, tokens: 1000 }\n  \
         t: { token: ci, window: month, tokens: 10000 }\n  w: { workspace: elsewhere, window: day, tokens: 1 }",
    );
    let key = Some("OPENAI_API_KEY");
    spend(stage.call_of(Some("acme/a"), key, 50, 10).await.expect("paid"), 50, 10);
    spend(stage.call_of(None, key, 50, 10).await.expect("paid"), 50, 10);
    spend(stage.call_of(Some("acme/b"), None, 50, 10).await.expect("paid"), 50, 10);
    // The configuration's are in the order of their names, and another workspace's is not shown.
    assert_eq!(stage.used().await, [(60, 0), (120, 0), (180, 0)]);
    assert!(stage.call_of(Some("acme/a"), None, 50, 10).await.is_err());
    assert!(stage.call_of(Some("acme/b"), None, 50, 10).await.is_ok());
}

#[tokio::test]
async fn a_day_and_a_month_begin_anew_at_midnight_utc() {
    let stage =
        Stage::new("budgets:\n  day: { window: day, tokens: 100 }\n  month: { window: month, tokens: 150 }");
    let over_midnight = stage.call(10, 10).await.expect("paid");
    spend(stage.call(50, 10).await.expect("paid"), 50, 10);
    let hit = stage.call(90, 1).await.err().expect("refused");
    assert_eq!(hit.renews_at(), Some(datetime!(2026-12-01 0:00 UTC)));

    stage.set(datetime!(2026-12-01 0:00 UTC));
    spend(stage.call(90, 1).await.expect("a new day, and a new month"), 90, 1);
    // A call counts for the day on which it began.
    spend(over_midnight, 10, 10);
    assert_eq!(stage.used().await, [(91, 0), (91, 0)]);
    stage.set(datetime!(2026-12-02 0:00 UTC));
    let granted = stage.call(10, 100).await.expect("paid");
    assert_eq!(granted.output, Some(49), "the month's 150 less what yesterday took");
    assert_eq!(Window::Month.at(datetime!(2026-12-31 23:59 -1)).1, Some(datetime!(2027-02-01 0:00 UTC)));
    assert_eq!(Window::Total.at(*stage.now.lock().expect("whole")), (i64::MIN, None));
}

#[tokio::test]
async fn what_a_clock_that_was_ahead_has_booked_is_not_taken_from_every_day_until_then() {
    let stage = Stage::new(
        "budgets:\n  day: { window: day, tokens: 100 }\n  ever: { window: total, tokens: 1000 }\n  \
         month: { window: month, tokens: 100 }",
    );
    stage.set(datetime!(2036-01-01 12:00 UTC));
    spend(stage.call(50, 50).await.expect("paid"), 50, 50);
    assert_eq!(stage.used().await, [(100, 0), (100, 0), (100, 0)], "day, ever, month");
    // The clock is put right.
    stage.set(datetime!(2026-12-31 23:59:59 UTC));
    assert_eq!(stage.used().await, [(0, 0), (100, 0), (0, 0)]);
    spend(stage.call(50, 50).await.expect("paid"), 50, 50);
    assert!(stage.call(1, 1).await.is_err(), "this day's own is spent");
    stage.set(datetime!(2027-01-01 0:00 UTC));
    spend(stage.call(50, 50).await.expect("a new day, and a new month"), 50, 50);
    stage.set(datetime!(2036-01-01 23:59 UTC));
    assert!(stage.call(1, 1).await.is_err(), "it is spent when the day comes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_callers_never_go_over_together_and_none_is_stuck() {
    let stage = Arc::new(Stage::new("budgets: { team: { window: day, tokens: 5000, cost_usd: 0.009 } }"));
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..50_u64 {
        let stage = Arc::clone(&stage);
        callers.spawn(async move {
            for turn in 0..4 {
                let granted = match n % 5 {
                    // Hangs up while the store is asked.
                    0 => {
                        let asking = stage.call(37, 80);
                        let _ = tokio::time::timeout(std::time::Duration::from_micros(50 * n), asking).await;
                        continue;
                    }
                    _ => stage.call(37, 80).await,
                };
                match granted {
                    // Fails, and costs nothing.
                    Ok(granted) if turn == 1 => drop(granted),
                    Ok(granted) => {
                        let output = granted.output.expect("bounded");
                        spend(granted, 37, output);
                    }
                    Err(hit) => assert!(hit.used <= hit.limit, "{hit}"),
                }
            }
        });
    }
    callers.join_all().await;
    let shown = stage.budgets.shown("default").await.expect("readable");
    let settled = stage.used().await[0];
    assert!(settled.0 <= 5_000 && shown[0]["used"]["cost_usd"].as_f64() <= Some(0.009), "{shown:?}");
    assert!(settled.0 > 3_000, "the budget is used: {settled:?}");
    assert_eq!(settled.1, 0, "nothing stays held by callers that went away");
}

#[tokio::test]
async fn what_a_dead_process_had_set_aside_is_spent() {
    let config = "budgets: { team: { window: total, tokens: 100 } }";
    let stage = Stage::new(config);
    let under_way = stage.call(10, 50).await.expect("paid");
    // It dies: nothing of it is ever told.
    Box::leak(Box::new(under_way));
    let Stage { folder, .. } = stage;
    let stage = Stage::over(folder, config);
    assert_eq!(stage.used().await, [(0, 60)]);
    let hit = stage.call(40, 1).await.err().expect("refused");
    assert_eq!((hit.used, hit.limit), (60, 100));
    assert_eq!(stage.call(10, 50).await.expect("paid").output, Some(30));
}

#[tokio::test]
async fn a_budget_set_over_the_api_counts_what_was_spent_before_it() {
    let stage = Stage::new("budgets: { ops: { window: day, tokens: 1000 } }");
    spend(stage.call(50, 10).await.expect("paid"), 50, 10);
    let document = |text: &str| serde_json::from_str::<BudgetDocument>(text).expect(text);
    let day = document(r#"{"window": "day", "tokens": 100}"#);
    stage.budgets.put("default", "mine", &day).await.expect("set");
    assert_eq!(stage.used().await, [(60, 0), (60, 0)]);
    let hit = stage.call(50, 1).await.err().expect("refused");
    assert!(matches!(&hit.of, BoundOf::Budget { set_by, .. } if set_by == "PUT /v1/budgets/mine"), "{hit:?}");

    let refused = async |name: &str, text: &str| {
        stage.budgets.put("default", name, &document(text)).await.expect_err(text).message().to_owned()
    };
    assert!(refused("ops", r#"{"window": "day", "tokens": 1}"#).await.contains("operator's"));
    assert!(refused("x", r#"{"window": "day"}"#).await.contains("bounds nothing"));
    assert!(
        refused("x", r#"{"window": "day", "tokens": 1, "agent": "a/b", "key": "K"}"#)
            .await
            .contains("one of")
    );
    assert!(
        refused("x", r#"{"window": "day", "tokens": 1, "workspace": "w"}"#).await.contains("config.yaml")
    );
    assert!(refused("x", r#"{"window": "day", "cost_usd": -1}"#).await.contains("cost_usd"));
    assert!(refused("a b", r#"{"window": "day", "tokens": 1}"#).await.contains("name"));
    assert_eq!(stage.budgets.remove("default", "ops").await.expect_err("refused").code(), "conflict");
    assert_eq!(stage.budgets.remove("default", "none").await.expect_err("refused").code(), "not_found");
    stage.budgets.remove("default", "mine").await.expect("removed");
    assert!(stage.call(50, 1).await.is_ok());
}

#[tokio::test]
async fn what_a_dead_process_held_is_released_and_what_calls_under_way_hold_is_not() {
    let config =
        "budgets:\n  all: { window: total, tokens: 1000 }\n  ci: { token: ci, window: total, tokens: 1000 }";
    let before = Stage::new(config);
    Box::leak(Box::new(before.call(300, 100).await.expect("paid")));
    let Stage { folder, budgets, instance, .. } = before;
    budgets.store.flush().await.expect("stored");
    drop((budgets, instance));

    let stage = Stage::over(folder, config);
    assert_eq!(stage.used().await, [(0, 400), (0, 400)], "for all that is known, it is spent");
    let under_way = stage.call(50, 50).await.expect("paid");
    let freed = stage.budgets.release("default", "all").await.expect("released");
    assert_eq!((freed.held_tokens, freed.held_micro_usd), (400, 500));
    assert_eq!(stage.used().await, [(0, 100), (0, 500)], "of the one that was named");
    spend(under_way, 50, 20);
    assert_eq!(stage.used().await, [(70, 0), (70, 400)]);
    assert_eq!(stage.budgets.release("default", "all").await.expect("nothing").held_tokens, 0);
    assert_eq!(stage.budgets.release("default", "none").await.expect_err("unknown").code(), "not_found");
    assert!(stage.budgets.is_operators("default", "all").await.expect("there"));
}

#[tokio::test]
async fn what_another_process_holds_is_not_released_while_it_lives() {
    let config = "budgets: { all: { window: total, tokens: 1000, cost_usd: 1 } }";
    let one = Stage::new(config);
    // The same store, as three processes have it: this one, one that lives and one that dies.
    let of = |instance: &Instance| {
        let config = Config::parse(config, "config.yaml", one.folder.path()).expect("a configuration");
        let store = Store::open(one.folder.path()).expect("opened once more");
        Budgets::by(store, instance, Arc::new(config), Arc::clone(&one.budgets.clock))
    };
    let claim = || Instance::claim(one.folder.path()).expect("an instance");
    let stage = |instance: Instance| Stage {
        budgets: of(&instance),
        now: Arc::clone(&one.now),
        instance,
        folder: tempfile::tempdir().expect("a folder"),
    };
    let (other, dead) = (stage(claim()), stage(claim()));

    let (own, others) = (one.call(10, 40).await.expect("paid"), other.call(100, 100).await.expect("paid"));
    Box::leak(Box::new(dead.call(300, 100).await.expect("paid")));
    drop(dead.instance);
    assert_eq!(one.used().await, [(0, 650)]);
    let freed = one.budgets.release("default", "all").await.expect("released");
    assert_eq!((freed.held_tokens, freed.held_micro_usd), (400, 500), "of the one that died");
    assert_eq!(one.used().await, [(0, 250)]);
    let hit = one.call(760, 1).await.err().expect("what the other holds is not there to be spent");
    assert_eq!((hit.used, hit.limit), (250, 1000));

    spend(others, 100, 50);
    other.budgets.store.flush().await.expect("stored");
    assert_eq!(one.used().await, [(150, 50)]);
    spend(own, 10, 10);
    assert_eq!(one.used().await, [(170, 0)]);
    assert_eq!(one.budgets.release("default", "all").await.expect("nothing"), Sums::default());
}
