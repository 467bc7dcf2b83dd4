//! Events are in order, and there is an end to what a run can put on record.

use super::*;

#[tokio::test]
async fn events_are_in_order_and_each_is_kept_once() {
    let stage = stage();
    let run = accepted(&stage.store, new_run("default")).await;
    stage.store.append(&run, vec![event(3, "three")]);
    stage.store.append(&run, vec![event(1, "one"), event(2, "two")]);
    stage.store.append(&run, vec![event(2, "two again")]);
    stage.store.flush().await.expect("flushed");
    let texts = async |after, limit| {
        let events = stage.store.events(&run, after, limit).await.expect("read");
        events.into_iter().map(|event| event.text).collect::<Vec<_>>()
    };
    assert_eq!(texts(0, 10).await, ["one", "two", "three"]);
    assert_eq!(texts(1, 1).await, ["two"]);
    assert!(texts(3, 10).await.is_empty());
    assert!(texts(u64::MAX, 10).await.is_empty());
    assert_eq!(stage.store.last_event(&run).await.expect("read"), 3);
    assert_eq!(stage.store.last_event(&RunId::random()).await.expect("read"), 0);
}

#[tokio::test]
async fn events_of_no_run_are_nobodys_trouble() {
    let stage = stage();
    let nobody = RunId::random();
    stage.store.append(&nobody, vec![event(1, "hello?")]);
    stage.store.flush().await.expect("flushed");
    assert!(stage.store.events(&nobody, 0, 10).await.expect("read").is_empty());
}

#[tokio::test]
async fn a_long_text_is_cut_between_characters() {
    let stage = stage();
    let run = accepted(&stage.store, new_run("default")).await;
    let long = format!("x{}", "é".repeat(EVENT_TEXT_LIMIT));
    stage.store.append(&run, vec![event(1, &long)]);
    let last = RunEnd { events: vec![event(2, &long)], ..end(RunStatus::Succeeded) };
    stage.store.finish(&run, last).await.expect("ended");
    for event in stage.store.events(&run, 0, 10).await.expect("read") {
        assert_eq!(event.text, long[..EVENT_TEXT_LIMIT - 1]);
    }
}

#[tokio::test]
async fn a_page_of_long_events_ends_early_and_goes_on() {
    let stage = stage();
    let run = accepted(&stage.store, new_run("default")).await;
    let text = "x".repeat(EVENT_TEXT_LIMIT);
    stage.store.append(&run, (1..=40).map(|seq| event(seq, &text)).collect());
    stage.store.flush().await.expect("flushed");
    let (mut after, mut pages) = (0, Vec::new());
    loop {
        let page = stage.store.events(&run, after, 1000).await.expect("read");
        let Some(last) = page.last() else { break };
        after = last.seq;
        pages.push(page.len());
    }
    assert_eq!(pages, [16, 16, 8]);
}

#[tokio::test]
async fn what_a_full_record_leaves_out_is_said_and_its_end_is_kept() {
    let stage = stage();
    let run = accepted(&stage.store, new_run("default")).await;
    stage.store.append(&run, (1..=10_002).map(|seq| event(seq, "line")).collect());
    stage.store.append(&run, vec![event(10_003, "line")]);
    let last = RunEnd { events: vec![event(10_004, "the end")], ..end(RunStatus::Succeeded) };
    stage.store.finish(&run, last).await.expect("ended");
    let tail = stage.store.events(&run, 9_999, 10).await.expect("read");
    let tail: Vec<_> = tail.iter().map(|event| (event.seq, event.kind, event.text.as_str())).collect();
    assert_eq!(
        tail,
        [
            (10_000, EventKind::Log, "line"),
            (
                10_001,
                EventKind::Warning,
                "the record of this run is full: what it tells from here on is not kept"
            ),
            (10_004, EventKind::Log, "the end"),
        ]
    );
}

#[test]
fn what_a_slow_disk_leaves_out_is_said_once_and_ends_with_it() {
    let mut ledger = events::Ledger::default();
    let run = RunId::random();
    let mut admit = |seq, room| {
        let kept = ledger.admit(&run, vec![event(seq, "line")], room);
        kept.into_iter().map(|event| (event.seq, event.kind)).collect::<Vec<_>>()
    };
    assert_eq!(admit(1, true), [(1, EventKind::Log)]);
    assert_eq!(admit(2, false), [(2, EventKind::Warning)]);
    assert!(admit(3, false).is_empty());
    assert_eq!(admit(4, true), [(4, EventKind::Log)]);
    assert_eq!(admit(5, false), [(5, EventKind::Warning)]);
}

#[tokio::test]
async fn decisions_are_kept_up_to_their_limit() {
    let stage = stage();
    let run = accepted(&stage.store, new_run("default")).await;
    let decisions = (0..DECISIONS_LIMIT + 5).map(|n| json!({ "n": n })).collect();
    stage.store.finish(&run, RunEnd { decisions, ..end(RunStatus::Succeeded) }).await.expect("ended");
    let kept = stage.store.decisions(&run).await.expect("read");
    assert_eq!(
        (kept.len(), &kept[DECISIONS_LIMIT - 1]),
        (DECISIONS_LIMIT, &json!({"n": DECISIONS_LIMIT - 1}))
    );
}
