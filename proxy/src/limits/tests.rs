use std::sync::Arc;

use bytes::Bytes;
use orch_manifests::RunId;

use super::*;
use crate::{BodyError, Grant, LiveGrant, TimeoutKind, Timeouts};

fn live(limits: Limits) -> Arc<LiveGrant> {
    LiveGrant::without_token(Grant {
        run: RunId::random(),
        workspace: "default".to_owned(),
        rules: Vec::new(),
        trials: Vec::new(),
        bindings: Vec::new(),
        limits,
        expires: Instant::now() + Duration::from_secs(60),
    })
}

fn run(shares: Shares) -> Limits {
    Limits { run: shares, ..Limits::default() }
}

#[test]
fn the_last_byte_passes_and_the_next_does_not() {
    let live = live(run(Shares { download: 10, ..Shares::default() }));
    let meter = Meter::new(&live, None);
    let mut first = Bytes::from_static(b"123456");
    assert_eq!(meter.pass(Way::Down, &mut first), Ok(()));
    let mut rest = Bytes::from_static(b"7890");
    assert_eq!(meter.pass(Way::Down, &mut rest), Ok(()));
    assert!(live.limit_hit().is_none());
    // Nothing is not too much.
    assert_eq!(meter.pass(Way::Down, &mut Bytes::new()), Ok(()));
    let mut more = Bytes::from_static(b"x");
    let hit = meter.pass(Way::Down, &mut more).unwrap_err();
    assert_eq!((hit, more.len()), (LimitHit { name: "download", used: 10, limit: 10 }, 0));
    assert_eq!((live.limit_hit(), live.downloaded(), live.uploaded()), (Some(hit), 10, 0));
    // The other way is its own.
    assert_eq!(meter.pass(Way::Up, &mut Bytes::from_static(b"x")), Ok(()));
}

#[test]
fn a_piece_that_crosses_the_limit_is_cut_at_it() {
    let live = live(run(Shares { upload: 4, ..Shares::default() }));
    let mut bytes = Bytes::from_static(b"123456");
    Meter::new(&live, None).pass(Way::Up, &mut bytes).unwrap_err();
    assert_eq!((&bytes[..], live.uploaded()), (&b"1234"[..], 4));
}

#[test]
fn a_host_that_is_used_up_never_holds_what_the_run_has_for_others() {
    const BYTES: usize = 100_000;
    let mut limits = run(Shares { download: BYTES as u64, ..Shares::default() });
    limits.host.download = BYTES as u64;
    let live = live(limits);
    let used_up = Arc::new(Usage::of_host(Shares { download: 0, ..limits.host }));
    let (full, free) = (Meter::new(&live, Some(used_up)), Meter::new(&live, None));
    let over = std::sync::atomic::AtomicBool::new(false);
    let lost = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let (none, hit) = full.take(Way::Down, BYTES);
                assert_eq!((none, hit.unwrap().name), (0, "per_host.download"));
            }
        });
        let lost = (0..BYTES).filter(|_| free.take(Way::Down, 1) != (1, None)).count();
        over.store(true, Ordering::Relaxed);
        lost
    });
    assert_eq!((lost, live.downloaded()), (0, BYTES as u64));
}

#[test]
fn what_the_run_does_not_have_goes_back_to_the_host() {
    let mut limits = run(Shares { upload: 4, ..Shares::default() });
    limits.host.upload = 100;
    let live = live(limits);
    let host = Arc::new(Usage::of_host(limits.host));
    let (granted, hit) = Meter::new(&live, Some(Arc::clone(&host))).take(Way::Up, 10);
    assert_eq!((granted, hit.unwrap().name), (4, "upload"));
    assert_eq!((host.bytes(Way::Up), live.uploaded()), (4, 4));
}

#[test]
fn what_a_host_does_not_take_the_run_keeps() {
    let mut limits = run(Shares { upload: 100, ..Shares::default() });
    limits.host.upload = 5;
    let live = live(limits);
    let host = Arc::new(Usage::of_host(limits.host));
    let mut bytes = Bytes::from_static(b"123456");
    let hit = Meter::new(&live, Some(Arc::clone(&host))).pass(Way::Up, &mut bytes).unwrap_err();
    assert_eq!(hit, LimitHit { name: "per_host.upload", used: 5, limit: 5 });
    assert_eq!((bytes.len(), live.uploaded(), host.bytes(Way::Up)), (5, 5, 5));
}

#[test]
fn bytes_are_exact_under_contention() {
    let live = live(run(Shares { download: 100_003, ..Shares::default() }));
    let passed: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=8)
            .map(|size| {
                let meter = Meter::new(&live, None);
                scope.spawn(move || {
                    let mut passed = 0;
                    loop {
                        let mut bytes = Bytes::from(vec![0; 7 * size]);
                        let more = meter.pass(Way::Down, &mut bytes).is_ok();
                        passed += bytes.len();
                        if !more {
                            return passed;
                        }
                    }
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((passed, live.downloaded()), (100_003, 100_003));
}

#[test]
fn a_body_that_has_no_room_is_known_beforehand() {
    let mut limits = run(Shares { upload: 10, ..Shares::default() });
    limits.host.upload = 8;
    let live = live(limits);
    let meter = Meter::new(&live, Some(Arc::new(Usage::of_host(limits.host))));
    assert_eq!(meter.check_room(Way::Up, 8), Ok(()));
    assert_eq!(meter.check_room(Way::Up, 9).unwrap_err().name, "per_host.upload");
    assert_eq!(meter.check_room(Way::Up, 11).unwrap_err().name, "upload");
    assert_eq!(meter.check_room(Way::Up, u64::MAX).unwrap_err().used, 0);
}

#[tokio::test(start_paused = true)]
async fn a_rate_lets_its_burst_through_and_then_waits() {
    let rate = Rate { requests: 2, per: Duration::from_secs(1), burst: 3 };
    let live = live(run(Shares { rate: Some(rate), ..Shares::default() }));
    let admitted = || (0..10).filter(|_| live.admit().is_ok()).count();
    assert_eq!(admitted(), 3);
    let hit = live.limit_hit().unwrap();
    assert_eq!((hit, hit.is_lasting()), (LimitHit { name: "rate", used: 2, limit: 2 }, false));
    tokio::time::advance(Duration::from_millis(499)).await;
    assert_eq!(admitted(), 0);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(admitted(), 1);
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!((admitted(), live.running()), (3, 0));
}

#[test]
fn each_host_has_its_own_shares() {
    let limits = Limits { host: Shares { requests: 2, ..Shares::default() }, ..Limits::default() };
    let live = live(limits);
    let ask = |host: &str| live.admit().unwrap().at(host).map(drop).map_err(|error| error.to_string());
    assert_eq!((ask("a.example.com"), ask("b.example.com")), (Ok(()), Ok(())));
    assert_eq!(ask("a.example.com"), Ok(()));
    assert_eq!(ask("a.example.com"), Err("limit reached: per_host.requests (2 of 2)".to_owned()));
    assert_eq!((ask("b.example.com"), live.requests_used()), (Ok(()), 5));
}

#[test]
fn a_place_at_a_host_is_given_back() {
    let limits = Limits { host: Shares { concurrent: 1, ..Shares::default() }, ..Limits::default() };
    let live = live(limits);
    let mut first = live.admit().unwrap();
    first.at("a.example.com").unwrap();
    let mut second = live.admit().unwrap();
    assert_eq!(
        second.at("a.example.com").unwrap_err().to_string(),
        "limit reached: per_host.concurrent (1 of 1)"
    );
    drop((first, second));
    let mut third = live.admit().unwrap();
    third.at("a.example.com").unwrap();
    third.leave();
    live.admit().unwrap().at("a.example.com").unwrap();
    assert_eq!(live.running(), 0);
}

#[test]
fn the_lasting_hit_is_the_one_that_is_told() {
    let hits = Hits::default();
    let hit = |name| LimitHit { name, used: 1, limit: 1 };
    hits.note(hit("concurrent"));
    hits.note(hit("per_host.rate"));
    assert_eq!(hits.first(), Some(hit("concurrent")));
    hits.note(hit("per_host.download"));
    hits.note(hit("requests"));
    assert_eq!(hits.first(), Some(hit("per_host.download")));
}

#[test]
fn waiting_makes_a_debt_and_bytes_pay_for_it() {
    let pace = Pace { rate: 100, patience: Duration::from_secs(10) };
    assert!(Debt::of(pace, None).is_none() && Debt::of(pace, Some(0)).is_none());
    assert!(Debt::of(Pace { rate: 0, ..pace }, Some(5)).is_none());
    let mut debt = Debt::of(pace, Some(1 << 20)).unwrap();
    // At the rate it may go on for ever.
    for _ in 0..1000 {
        debt.paid(Duration::from_secs(1), 100);
    }
    assert_eq!(debt.left(), Duration::from_secs(10));
    // What came fast is not saved up.
    debt.paid(Duration::ZERO, 1 << 20);
    for second in 1..=10 {
        debt.paid(Duration::from_secs(1), 1);
        assert_eq!(debt.left(), Duration::from_secs(10 - second) + Duration::from_millis(10 * second));
    }
    debt.paid(Duration::from_secs(3600), usize::MAX);
    assert_eq!(debt.left(), Duration::from_secs(10));
}

#[test]
fn the_shorter_of_two_times_counts_and_is_named() {
    let limits = Limits {
        first_byte: Some(Duration::from_secs(3)),
        idle: Some(Duration::from_secs(100_000)),
        ..Limits::default()
    };
    let live = live(limits);
    let patience = Patience::new(Timeouts::default(), &live);
    let default = Timeouts::default();
    assert_eq!((patience.first_byte, patience.idle), (Duration::from_secs(3), default.idle));
    assert_eq!(patience.total, default.total);
    assert!(matches!(patience.ran_out(TimeoutKind::Idle), BodyError::Timeout(TimeoutKind::Idle)));
    assert!(live.limit_hit().is_none());
    let error = patience.ran_out(TimeoutKind::FirstByte).to_string();
    assert_eq!(error, "limit reached: first_byte (3000 of 3000)");
    assert_eq!(live.limit_hit().map(|hit| hit.name), Some("first_byte"));
}
