use std::sync::{Arc, Mutex};

use orch_proxy::{AuthorizeError, Scrubber, Use};

use super::*;

struct Key(&'static str, Option<u64>);

impl Credential for Key {
    fn id(&self) -> &str {
        self.0
    }
    fn source(&self) -> &str {
        "vault"
    }
    fn version(&self) -> Option<u64> {
        self.1
    }
    fn authorize(
        &self,
        _: &mut http::request::Parts,
        _: Option<&[u8; 32]>,
        _: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        Ok(None)
    }
    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        None
    }
}

const SAID: Option<StatusCode> = Some(StatusCode::UNAUTHORIZED);
const ONE: Key = Key("OPENAI_API_KEY", Some(1));

fn failure(class: Class, retry_after: Option<u64>) -> Failure {
    Failure { retry_after: retry_after.map(Duration::from_secs), ..Failure::new(class, "no") }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
}

#[test]
fn each_class_says_something_of_the_key_or_nothing() {
    let rest = |class, seconds, said| State::Rests(Rest { class, until: at(seconds), said });
    for class in Class::ALL {
        // What is known of the model that failed, and of another.
        let (of_model, of_others) = match class {
            Class::BadKey => (State::Rejected(at(600)), State::Rejected(at(600))),
            Class::OutOfMoney => (rest(class, 300, false), rest(class, 300, false)),
            Class::RateLimited => (rest(class, 20, true), State::Fine),
            Class::NoAccess | Class::NoModel => (rest(class, 900, false), State::Fine),
            _ => (State::Fine, State::Fine),
        };
        let health = Health::unknown();
        health.failed(&ONE, "m", &failure(class, Some(20)), SAID, at(0));
        assert_eq!(health.state(&ONE, "m", at(1)), of_model, "{class:?}");
        assert_eq!(health.state(&ONE, "other", at(1)), of_others, "{class:?}");
        let later = if class == Class::BadKey { rest(class, 600, false) } else { State::Fine };
        assert_eq!(health.state(&ONE, "m", at(901)), later, "{class:?}: it passes");

        let unsent = Health::unknown();
        unsent.failed(&ONE, "m", &failure(class, None), None, at(0));
        assert_eq!(unsent.state(&ONE, "m", at(0)), State::Fine, "{class:?}: the provider never said so");
    }
}

#[test]
fn a_rejection_counts_where_the_provider_means_it() {
    let refused = Some(StatusCode::BAD_REQUEST);
    let coded = Failure { code: Some("API_KEY_INVALID".to_owned()), ..failure(Class::BadKey, None) };
    // A model that is called "invalid api key" comes back in the provider's words.
    let echoed = Failure::new(Class::BadKey, "the model `invalid api key` does not exist");
    for (failure, status, state) in [
        (&coded, refused, State::Rejected(at(600))),
        (&echoed, SAID, State::Rejected(at(600))),
        (&echoed, refused, State::Fine),
    ] {
        let health = Health::unknown();
        health.failed(&ONE, "m", failure, status, at(0));
        assert_eq!(health.state(&ONE, "m", at(0)), state, "{failure:?} {status:?}");
    }
}

#[test]
fn a_rate_limit_without_an_end_is_short_and_forbids_nothing() {
    let health = Health::unknown();
    health.failed(&ONE, "m", &failure(Class::RateLimited, None), SAID, at(0));
    let State::Rests(rest) = health.state(&ONE, "m", at(0)) else { panic!("it rests") };
    assert_eq!((rest.until, rest.said), (at(5), false));
}

#[test]
fn a_new_version_is_a_new_key_and_late_news_of_the_old_one_is_none() {
    let (old, new) = (Key("K", Some(1)), Key("K", Some(2)));
    let health = Health::unknown();
    health.failed(&old, "m", &failure(Class::BadKey, None), SAID, at(0));
    assert_eq!(health.state(&new, "m", at(0)), State::Fine);
    health.failed(&new, "m", &failure(Class::RateLimited, None), SAID, at(0));
    health.failed(&old, "m", &failure(Class::BadKey, None), SAID, at(1));
    assert!(!matches!(health.state(&new, "m", at(1)), State::Rejected(_)));
}

#[test]
fn a_callers_own_key_leaves_no_trace() {
    let health = Health::unknown();
    for source in [Key("OPENAI_API_KEY", None), Key("OTHER", None)] {
        health.failed(&source, "m", &failure(Class::BadKey, None), SAID, at(0));
        assert_eq!(health.state(&source, "m", at(0)), State::Fine);
    }
    assert_eq!(health.state(&ONE, "m", at(0)), State::Fine, "the workspace's key of the same name");
    assert!(health.all().is_empty());
}

#[test]
fn an_answer_and_a_reset_clear_what_stands_against_a_key() {
    let health = Health::unknown();
    health.failed(&ONE, "m", &failure(Class::NoAccess, None), SAID, at(0));
    health.failed(&ONE, "n", &failure(Class::NoAccess, None), SAID, at(0));
    health.served(&ONE, "m");
    assert_eq!(health.state(&ONE, "m", at(0)), State::Fine);
    assert_ne!(health.state(&ONE, "n", at(0)), State::Fine, "that is another model");
    health.failed(&ONE, "m", &failure(Class::BadKey, None), SAID, at(0));
    assert!(health.reset("OPENAI_API_KEY") && !health.reset("OPENAI_API_KEY") && !health.reset("OTHER"));
    assert!(health.all()["OPENAI_API_KEY"].is_fine(at(0)));
    assert_eq!(health.state(&ONE, "m", at(0)), State::Fine);
}

#[test]
fn what_is_told_can_be_gone_on_from() {
    let told: Arc<Mutex<Vec<(String, KeyHealth)>>> = Arc::default();
    let sink = Arc::clone(&told);
    let health =
        Health::kept([], move |name, health| sink.lock().unwrap().push((name.to_owned(), health.clone())));
    for second in [0, 0, 0] {
        health.failed(&ONE, "m", &failure(Class::RateLimited, Some(20)), SAID, at(second));
    }
    assert_eq!(told.lock().unwrap().len(), 1, "the same news is told once");
    health.failed(&ONE, "m", &failure(Class::BadKey, None), SAID, at(2));
    let last = told.lock().unwrap().last().cloned().unwrap();
    let json = serde_json::to_string(&last.1).unwrap();
    let again = Health::kept([(last.0, serde_json::from_str(&json).unwrap())], |_, _| {});
    assert!(matches!(again.state(&ONE, "m", at(3)), State::Rejected(_)));
}

#[test]
fn made_up_models_fill_no_memory() {
    let health = Health::unknown();
    for n in 0..1000 {
        health.failed(&ONE, &format!("m{n}"), &failure(Class::NoModel, None), SAID, at(n));
    }
    assert_eq!(health.all()["OPENAI_API_KEY"].models.len(), MODELS);
    assert_ne!(health.state(&ONE, "m999", at(1000)), State::Fine, "the newest stay");
}

#[test]
fn a_rejected_key_is_tried_again_after_a_while_that_doubles() {
    let health = Health::unknown();
    let reject = |seconds| health.failed(&ONE, "m", &failure(Class::BadKey, None), SAID, at(seconds));
    reject(0);
    // Calls that were under way when it was rejected say nothing new.
    reject(1);
    assert_eq!(health.state(&ONE, "m", at(599)), State::Rejected(at(600)));
    let trial = State::Rests(Rest { class: Class::BadKey, until: at(600), said: false });
    assert_eq!(health.state(&ONE, "m", at(600)), trial, "it is asked, after all others");
    reject(700);
    assert_eq!(health.state(&ONE, "m", at(701)), State::Rejected(at(700 + 1200)));
    let mut now = 700;
    for _ in 0..40 {
        now += 24 * 60 * 60;
        reject(now);
    }
    assert_eq!(health.state(&ONE, "m", at(now)), State::Rejected(at(now + 24 * 60 * 60)), "a day at most");
    // One good answer, and the next rejection is the first again.
    health.served(&ONE, "m");
    assert_eq!(health.state(&ONE, "m", at(now)), State::Fine);
    reject(now);
    assert_eq!(health.state(&ONE, "m", at(now)), State::Rejected(at(now + 600)));
    // What was stored before rejections were counted is a first one.
    let old: KeyHealth = serde_json::from_str(r#"{"version":1,"rejected":1000}"#).expect("a row");
    assert_eq!(old.tried_again_at(), Some(601_000));
}

#[test]
fn a_clock_that_was_ahead_keeps_no_key_from_its_calls() {
    const YEAR: u64 = 365 * 24 * 60 * 60;
    for class in [Class::RateLimited, Class::OutOfMoney, Class::NoAccess] {
        let health = Health::unknown();
        health.failed(&ONE, "m", &failure(class, Some(20)), SAID, at(YEAR));
        assert_ne!(health.state(&ONE, "m", at(YEAR)), State::Fine, "{class:?}");
        assert_eq!(health.state(&ONE, "m", at(0)), State::Fine, "{class:?}");
        assert!(health.all()["OPENAI_API_KEY"].is_fine(at(0)), "{class:?}");
        health.failed(&ONE, "m", &failure(class, Some(20)), SAID, at(0));
        assert_ne!(
            health.state(&ONE, "m", at(1)),
            State::Fine,
            "{class:?}: what is learnt by the right one counts"
        );
    }
    let health = Health::unknown();
    let reject = |seconds| health.failed(&ONE, "m", &failure(Class::BadKey, None), SAID, at(seconds));
    reject(YEAR);
    let trial = State::Rests(Rest { class: Class::BadKey, until: at(YEAR + 600), said: false });
    assert_eq!(health.state(&ONE, "m", at(0)), trial, "it is asked, after all others");
    reject(0);
    assert_eq!(health.state(&ONE, "m", at(1)), State::Rejected(at(1200)), "and left alone from then on");
}
