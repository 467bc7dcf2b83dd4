//! Machines whose clocks differ. A token ends by the clock of its server; what a client takes from its own is checked
//! there, and the refusal says what time it is.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use orch_tests::server::Answer;
use serde_json::{Value, json};

use crate::remote::Remote;

/// How long a token of two seconds may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// RFC 3339, in UTC. Days are counted from 1970; the civil date is Howard Hinnant's `civil_from_days`.
fn written(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn token(remote: &Remote, expires: SystemTime) -> Answer {
    let body = json!({ "name": "ci", "scopes": ["run"], "expires": written(expires) });
    remote.server.ask("POST", "/v1/tokens", Some(&body))
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str, exit: u8) -> Value {
    let said = answer.json();
    assert_eq!(answer.status, status, "{said:#}");
    assert_eq!((&said["error"]["code"], &said["exit_code"]), (&json!(code), &json!(exit)), "{said:#}");
    assert_eq!(said["request_id"], answer.header("x-request-id").expect("a request id"), "{said:#}");
    said["error"].clone()
}

#[test]
fn times_are_written_as_people_do() {
    assert_eq!(written(UNIX_EPOCH), "1970-01-01T00:00:00Z");
    assert_eq!(written(UNIX_EPOCH + Duration::from_secs(951_827_696)), "2000-02-29T12:34:56Z");
    assert_eq!(written(UNIX_EPOCH + Duration::from_secs(4_102_444_799)), "2099-12-31T23:59:59Z");
}

/// A client whose clock is a month behind asks for a token of a week.
#[test]
fn an_end_that_is_over_by_the_server_s_clock_is_refused_with_its_time() {
    let remote = Remote::without_keys();
    let week_from_a_month_ago = SystemTime::now() - Duration::from_secs(23 * 86_400);
    let error = refused(&token(&remote, week_from_a_month_ago), 400, "bad_token", 2);
    let year = &written(SystemTime::now())[..4];
    assert!(error["message"].as_str().is_some_and(|said| said.contains(year)), "{error:#}");
    assert!(error["hints"].to_string().contains("clock"), "{error:#}");
    // One that is ahead gets a token that ends later than it meant, by the server's clock.
    let ahead = token(&remote, SystemTime::now() + Duration::from_secs(37 * 86_400)).expect(201).json();
    let listed = remote.server.ask("GET", "/v1/tokens", None).expect(200).json();
    assert!(listed.to_string().contains(ahead["expires"].as_str().expect("an end")), "{listed:#}");
}

#[test]
fn a_token_ends_by_the_server_s_clock_whatever_its_holder_s_says() {
    let remote = Remote::without_keys();
    let made = token(&remote, SystemTime::now() + Duration::from_secs(2)).expect(201).json();
    let text = made["token"].as_str().expect("a token");
    let deadline = Instant::now() + PATIENCE;
    let ended = loop {
        let answer = remote.server.ask_as(Some(text), "GET", "/v1/runs", None);
        if answer.status != 200 {
            break answer;
        }
        assert!(Instant::now() < deadline, "it does not end");
        thread::yield_now();
    };
    let error = refused(&ended, 401, "not_authenticated", 8);
    assert!(error["details"]["server_time"].is_string(), "{error:#}");
    let outcome = remote.anybody(["whoami", "--json"]).env("ORCH_TOKEN", text).run().expect(8).silent();
    let error = outcome.error();
    assert_eq!(error["code"], "not_authenticated", "{outcome}");
    assert!(error["details"]["request_id"].is_string() && error["details"]["server_time"].is_string());
}
