use super::*;

const ON: OnError = OnError { context_too_long: After::Stop, refused_by_filter: After::Stop };

fn failing(class: Class) -> Failing {
    let left = Duration::from_secs(60);
    Failing { class, retry_after: None, tries: 1, left, another_key: false, last: false, on: ON }
}

#[test]
fn rule_2_each_class_leads_to_its_step() {
    use Class::*;
    let timing = Timing::default();
    let secs = Duration::from_secs;
    let backoff = timing.backoff;
    // Class, what the provider asks for, attempt, time left, what follows.
    let rows = [
        (BadRequest, None, 1, 60, Step::Stop),
        (ContextTooLong, None, 1, 60, Step::Stop),
        (RefusedByFilter, None, 1, 60, Step::Stop),
        (BadKey, None, 1, 60, Step::NextKey),
        (NoAccess, None, 1, 60, Step::NextKey),
        (NoModel, None, 1, 60, Step::NextKey),
        (OutOfMoney, Some(1), 1, 60, Step::NextKey),
        (Timeout, None, 1, 60, Step::NextModel),
        (RateLimited, Some(2), 1, 60, Step::Again(secs(2))),
        (RateLimited, Some(2), 2, 60, Step::NextKey),
        (RateLimited, Some(11), 1, 60, Step::NextKey),
        (RateLimited, Some(5), 1, 5, Step::NextKey),
        (RateLimited, None, 1, 60, Step::Again(backoff)),
        (Overloaded, None, 1, 60, Step::Again(backoff)),
        (Overloaded, Some(3), 1, 60, Step::Again(secs(3))),
        (Overloaded, Some(30), 1, 60, Step::NextModel),
        (Overloaded, None, 2, 60, Step::NextModel),
        (Server, None, 1, 60, Step::Again(backoff)),
        (Server, None, 2, 60, Step::NextModel),
        (Server, None, 1, 0, Step::NextModel),
        (Truncated, None, 1, 60, Step::Again(backoff)),
        (Network, None, 1, 60, Step::Again(backoff)),
        (Network, None, 2, 60, Step::NextModel),
    ];
    for (class, wait, tries, left, wanted) in rows {
        let failing = Failing { retry_after: wait.map(secs), tries, left: secs(left), ..failing(class) };
        let step = after(&failing, 0.5, &timing);
        assert_eq!(step, wanted, "{class:?}, wait {wait:?}, attempt {tries}, {left} s left");
    }
}

#[test]
fn rule_2_the_plan_says_whether_another_model_is_asked_for_what_is_the_requests_own_doing() {
    let timing = Timing::default();
    for class in Class::ALL {
        let on = OnError { context_too_long: After::Next, refused_by_filter: After::Next };
        let (without, with) = (failing(class), Failing { on, ..failing(class) });
        let [without, with] = [without, with].map(|failing| after(&failing, 0.5, &timing));
        match class {
            Class::ContextTooLong | Class::RefusedByFilter => {
                assert_eq!((without, with), (Step::Stop, Step::NextModel), "{class:?}");
            }
            _ => assert_eq!(without, with, "{class:?}"),
        }
    }
}

#[test]
fn rule_3_a_long_wait_is_begun_where_it_fits_and_nobody_else_is_to_be_asked() {
    let timing = Timing::default();
    let secs = Duration::from_secs;
    for class in [Class::RateLimited, Class::Overloaded] {
        let limited = Failing { retry_after: Some(secs(30)), ..failing(class) };
        assert!(!matches!(after(&limited, 0.5, &timing), Step::Again(_)), "{class:?}: there is another");
        let last = Failing { last: true, ..limited };
        assert_eq!(after(&last, 0.5, &timing), Step::Again(secs(30)), "{class:?}");
        let late = Failing { left: secs(30), ..last };
        assert!(!matches!(after(&late, 0.5, &timing), Step::Again(_)), "{class:?}: it does not fit");
    }
}

#[test]
fn another_key_is_asked_before_anybody_waits() {
    let limited = Failing { another_key: true, ..failing(Class::RateLimited) };
    assert_eq!(after(&limited, 0.5, &Timing::default()), Step::NextKey);
}

#[test]
fn backoff_is_spread() {
    let timing = Timing::default();
    let wait = |jitter| after(&failing(Class::Server), jitter, &timing);
    assert_eq!(wait(0.0), Step::Again(timing.backoff / 2));
    assert_eq!(wait(1.0), Step::Again(timing.backoff * 3 / 2));
    assert!((0.0..=1.0).contains(&jitter()));
    assert!((0..100).all(|_| dice(3) < 3));
}
