//! Every cell of the failure matrix, driven through the gateway; and the table in the documentation.

use std::time::Duration;

use orch_gateway::ir::Class;
use orch_gateway::matrix::{Cell, Moment, Place, Then as Becomes, cells, table};
use orch_gateway::{Outcome, Timing};
use orch_manifests::{After, OnError};
use serde_json::{Value, json};

use crate::upstream::{Reply, Then, messages, pieces, says, stream_of, whole};
use crate::world::{Setup, World, hello, hello_stream};

const TEXT: &str = include_str!("../../src/dialect/fixtures/openai_text.sse");
const ANTHROPIC_TEXT: &str = include_str!("../../src/dialect/fixtures/anthropic_text.sse");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/failures.md");

/// The code where every model was tried.
const CODE: &str = "orch_all_candidates_failed";

const PLAIN: OnError = OnError { context_too_long: After::Stop, refused_by_filter: After::Stop };
const NEXT: OnError = OnError { context_too_long: After::Next, refused_by_filter: After::Next };

/// Status and code by which a provider says that a call failed in this way.
fn spelled(class: Class) -> (u16, &'static str) {
    match class {
        Class::BadRequest => (400, "invalid_prompt"),
        Class::BadKey => (401, "invalid_api_key"),
        Class::NoAccess => (403, "permission_denied"),
        Class::NoModel => (404, "model_not_found"),
        Class::RateLimited => (429, "rate_limit_exceeded"),
        Class::OutOfMoney => (429, "insufficient_quota"),
        Class::Overloaded => (503, "overloaded"),
        Class::Server => (500, "server_error"),
        Class::ContextTooLong => (400, "context_length_exceeded"),
        Class::RefusedByFilter => (400, "content_filter"),
        Class::Timeout => (504, "timeout_error"),
        Class::Truncated => (502, "stream_truncated"),
        Class::Network => (502, "upstream_unreachable"),
    }
}

/// The failure, as the answer or after its first words.
fn failure(class: Class, moment: Moment) -> Reply {
    let (status, code) = spelled(class);
    let error = json!({"error": {"message": "no", "type": "x", "param": null, "code": code}});
    match moment {
        Moment::Before => whole(status, &error),
        // The provider just stops.
        Moment::After if class == Class::Truncated => {
            Reply::Stream { pieces: pieces(TEXT)[..3].to_vec(), then: Then::End }
        }
        Moment::After => {
            let mut sent = pieces(TEXT)[..3].to_vec();
            sent.push(format!("data: {error}\n\n"));
            Reply::Stream { pieces: sent, then: Then::End }
        }
    }
}

const ROUTES: &[(&str, &str)] = &[
    ("only-plain", "{targets: [{model: gpt-4o-mini}]}"),
    ("only-next", "{targets: [{model: gpt-4o-mini}], on: {context_too_long: next, refused_by_filter: next}}"),
    ("first-plain", "{targets: [{model: gpt-4o-mini}, {model: claude-3-haiku}]}"),
    (
        "first-next",
        "{targets: [{model: gpt-4o-mini}, {model: claude-3-haiku}], on: {context_too_long: next, refused_by_filter: next}}",
    ),
    ("last-plain", "{targets: [{model: claude-3-haiku}, {model: gpt-4o-mini}]}"),
    (
        "last-next",
        "{targets: [{model: claude-3-haiku}, {model: gpt-4o-mini}], on: {context_too_long: next, refused_by_filter: next}}",
    ),
];

async fn drive(cell: &Cell, stream: bool) {
    let name = format!("{cell:?}, stream: {stream}");
    let openai_keys = if cell.place == Place::BeforeAnotherKey { 2 } else { 1 };
    let timing = Timing { backoff: Duration::from_millis(1), ..Timing::default() };
    let world = World::new(Setup {
        models: &["gpt-4o-mini"],
        openai_keys,
        version: Some(1),
        routes: ROUTES,
        timing,
        ..Setup::default()
    })
    .await;
    let place = match cell.place {
        Place::Only => "only",
        Place::First | Place::BeforeAnotherKey => "first",
        Place::Last => "last",
    };
    let said = |text: &str| if stream { stream_of(TEXT) } else { says(text) };
    world.openai.script(vec![failure(cell.class, cell.moment); cell.asked as usize]);
    match cell.place {
        Place::Last => world.anthropic.script([whole(
            401,
            &json!({"type": "error", "error": {"type": "authentication_error", "message": "no"}}),
        )]),
        _ if stream => world.anthropic.script([stream_of(ANTHROPIC_TEXT)]),
        _ => world.anthropic.script([messages("the other model")]),
    }
    // Only who is asked may answer.
    world.openai.script([said("the other key")]);
    let mut body = if stream { hello_stream() } else { hello() };
    body["model"] = json!(format!("{place}-{}", if cell.on == NEXT { "next" } else { "plain" }));
    let answer = world.chat(&body).await;
    let receipt = world.receipt();

    let to_openai = world.openai.asked().len();
    let to_anthropic = world.anthropic.asked().len();
    let other_key = usize::from(cell.then == Becomes::AnotherKey);
    let other_model = usize::from(cell.then == Becomes::AnotherModel || cell.place == Place::Last);
    assert_eq!((to_openai, to_anthropic), (cell.asked as usize + other_key, other_model), "{name}");
    let failed: Vec<Class> = receipt.attempts.iter().filter_map(|attempt| attempt.class).collect();
    let before: &[Class] = if cell.place == Place::Last { &[Class::BadKey] } else { &[] };
    let own = if cell.moment == Moment::Before { cell.asked as usize } else { 0 };
    assert_eq!(failed, [before, &vec![cell.class; own]].concat(), "{name}");

    let (_, code) = spelled(cell.class);
    match cell.then {
        Becomes::AnotherKey | Becomes::AnotherModel => {
            assert_eq!((answer.status.as_u16(), receipt.outcome), (200, Outcome::Served), "{name}");
            let wanted = if other_key == 1 { "openai" } else { "anthropic" };
            assert_eq!(receipt.provider_served.as_deref(), Some(wanted), "{name}");
        }
        Becomes::Refused => {
            assert_eq!(receipt.outcome, Outcome::Rejected, "{name}");
            assert_eq!(answer.json()["error"]["code"], code, "{name}: {}", answer.text());
            assert_eq!(answer.status.as_u16(), spelled(cell.class).0, "{name}");
        }
        Becomes::AllFailed => {
            assert_eq!(receipt.outcome, Outcome::AllFailed, "{name}");
            let error = &answer.json()["error"];
            let own =
                if cell.class == Class::ContextTooLong && cell.place != Place::Last { code } else { CODE };
            assert_eq!((&error["code"], &error["orch"]["code"]), (&json!(own), &json!(CODE)), "{name}");
            let mixed = cell.place == Place::Last && cell.class != Class::BadKey;
            let status = if mixed || cell.class == Class::Server { 502 } else { spelled(cell.class).0 };
            assert_eq!(answer.status.as_u16(), status, "{name}: {}", answer.text());
        }
        Becomes::Broken => {
            assert_eq!((answer.status.as_u16(), receipt.outcome), (200, Outcome::Broken), "{name}");
            let last = answer.text().trim_end().rsplit("data: ").next().unwrap();
            let last: Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{name}: {e}: {last}"));
            assert_eq!(last["error"]["orch"]["class"], cell.class.as_str(), "{name}");
            assert!(
                !answer.text().contains("[DONE]") && !answer.text().contains("finish_reason\":\"stop"),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn every_cell_is_what_the_table_says() {
    let mut driven = 0;
    for on in [PLAIN, NEXT] {
        for cell in cells(on) {
            for stream in [false, true] {
                // A whole answer is heard at once or not at all.
                if cell.moment == Moment::After && !stream {
                    continue;
                }
                drive(&cell, stream).await;
                driven += 1;
            }
        }
    }
    assert_eq!(
        driven,
        2 * Class::ALL.len() * Place::ALL.len() * 3,
        "every cell, once for each kind of answer"
    );
}

/// `ORCH_UPDATE_DOCS=1` writes the table anew.
#[test]
fn the_documentation_has_this_table() {
    let text = std::fs::read_to_string(DOCUMENT).expect("docs/failures.md");
    let (begin, end) = ("<!-- matrix -->\n", "<!-- /matrix -->");
    let (before, rest) = text.split_once(begin).expect("where the table begins");
    let (written, after) = rest.split_once(end).expect("where it ends");
    if std::env::var_os("ORCH_UPDATE_DOCS").is_some() {
        std::fs::write(DOCUMENT, format!("{before}{begin}{}{end}{after}", table())).expect("written");
        return;
    }
    assert!(
        written == table(),
        "docs/failures.md is not what happens: ORCH_UPDATE_DOCS=1 cargo test -p orch-gateway"
    );
}
