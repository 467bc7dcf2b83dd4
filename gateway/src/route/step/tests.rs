use super::*;

#[test]
fn each_class_leads_to_its_step() {
    use Class::*;
    let timing = Timing::default();
    let secs = Duration::from_secs;
    let backoff = timing.backoff;
    // Class, what the provider asks for, attempt, time left, what follows.
    let rows = [
        (BadRequest, None, 1, 60, Step::Stop),
        (ContextTooLong, None, 1, 60, Step::Stop),
        (RefusedByFilter, None, 1, 60, Step::Stop),
        (BadKey, None, 1, 60, Step::Next),
        (NoAccess, None, 1, 60, Step::Next),
        (NoModel, None, 1, 60, Step::Next),
        (OutOfMoney, Some(1), 1, 60, Step::Next),
        (Timeout, None, 1, 60, Step::Next),
        (RateLimited, Some(2), 1, 60, Step::Again(secs(2))),
        (RateLimited, Some(2), 2, 60, Step::Next),
        (RateLimited, Some(11), 1, 60, Step::Next),
        (RateLimited, Some(5), 1, 5, Step::Next),
        (RateLimited, None, 1, 60, Step::Again(backoff)),
        (Overloaded, None, 1, 60, Step::Again(backoff)),
        (Overloaded, Some(3), 1, 60, Step::Again(secs(3))),
        (Overloaded, None, 2, 60, Step::Next),
        (Server, None, 1, 60, Step::Again(backoff)),
        (Server, None, 2, 60, Step::Next),
        (Server, None, 1, 0, Step::Next),
        (Truncated, None, 1, 60, Step::Again(backoff)),
        (Network, None, 1, 60, Step::Again(backoff)),
        (Network, None, 2, 60, Step::Next),
    ];
    for (class, wait, tries, left, wanted) in rows {
        let step = after(class, wait.map(secs), tries, secs(left), 0.5, &timing);
        assert_eq!(step, wanted, "{class:?}, wait {wait:?}, attempt {tries}, {left} s left");
    }
}

#[test]
fn backoff_is_spread() {
    let timing = Timing::default();
    let wait = |jitter| after(Class::Server, None, 1, Duration::from_secs(60), jitter, &timing);
    assert_eq!(wait(0.0), Step::Again(timing.backoff / 2));
    assert_eq!(wait(1.0), Step::Again(timing.backoff * 3 / 2));
    assert!((0.0..=1.0).contains(&jitter()));
}
