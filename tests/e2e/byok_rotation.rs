//! A key is replaced and removed while hundreds of answers are under way with it.

use std::thread::{self, JoinHandle};

use orch_tests::fakes::openai::openai;
use orch_tests::gate::Gate;
use orch_tests::home::Home;
use orch_tests::reply::{Piece, Reply};
use orch_tests::server::{Answer, request_with};
use orch_tests::wire::Received;
use serde_json::json;

use crate::byok_requests::lending;
use crate::members::{ALICES, ALICES_NEW, ASKS, CHAT, KEYS, Members, TEAMS, key_of};
use crate::stage::{INPUT, OPENAI_SAYS, summarizer};

const HALF: usize = 100;

/// Streams that have begun, and wait in their middle for the gate.
fn begin(members: &Members, token: &str, count: usize) -> Vec<JoinHandle<std::io::Result<Answer>>> {
    let (address, body) = (
        members.server.address(),
        json!({ "model": "gpt-4o-mini", "stream": true, "messages": [{ "role": "user", "content": "Hi" }] }),
    );
    let one = |_| {
        let (token, body) = (token.to_owned(), body.to_string());
        thread::spawn(move || request_with(address, Some(&token), ("POST", CHAT), &[ASKS], body.as_bytes()))
    };
    (0..count).map(one).collect()
}

/// The pieces of an answer, with a pause after the first of its words.
fn paused(gate: &Gate) -> Reply {
    let asked = json!({ "model": "gpt-4o-mini", "stream_options": { "include_usage": true } });
    let mut pieces = openai(ALICES, OPENAI_SAYS).stream(&asked);
    pieces.insert(2, Piece::Wait(gate.clone()));
    Reply::sse(pieces)
}

/// The whole text of a stream that ended as its provider ends it.
#[track_caller]
fn text(answer: &Answer) -> String {
    assert_eq!(answer.status, 200);
    let body = String::from_utf8(answer.body.clone()).expect("UTF-8");
    assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
    let events = body.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let delta = |data: &str| {
        let event: serde_json::Value = serde_json::from_str(data).expect("JSON");
        assert!(event.get("error").is_none(), "{event:#}");
        event["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned()
    };
    events.map(delta).collect()
}

fn keys(received: &[Received]) -> Vec<String> {
    received.iter().map(key_of).collect()
}

#[test]
fn two_hundred_streams_end_whole_while_their_key_is_replaced_and_removed() {
    let members = Members::new();
    members.team_has(members.server.token(), "OPENAI_API_KEY", TEAMS);
    let alice = members.member("alice");
    members.register(&alice, ALICES);
    let gate = Gate::closed();
    members.openai.script((0..2 * HALF).map(|_| paused(&gate)));

    let mut streams = begin(&members, &alice, HALF);
    members.openai.wait_for(HALF);
    members.register(&alice, ALICES_NEW);
    // From the next request on, with the old ones in their middle.
    streams.extend(begin(&members, &alice, HALF));
    members.openai.wait_for(2 * HALF);
    let arrived = keys(&members.openai.received());
    assert!(arrived[..HALF].iter().all(|key| key == ALICES), "the first half came before the change");
    assert!(arrived[HALF..].iter().all(|key| key == ALICES_NEW), "and the second after it");

    // Removed while all of them are under way: the next request is somebody else's, and these go on.
    let path = format!("{KEYS}?provider=openai");
    members.server.ask_as(Some(&alice), "DELETE", &path, None).expect(200);
    members.served(&alice, &[ASKS], json!({}), TEAMS, "team");
    assert!(streams.iter().all(|stream| !stream.is_finished()), "they wait in their middle");

    gate.open();
    for stream in streams {
        let answer = stream.join().expect("no panic").expect("an answer");
        assert_eq!(text(&answer), OPENAI_SAYS);
        assert_eq!(answer.header("x-orch-key-owner"), Some("own"));
    }
    assert_eq!(members.openai.received().len(), 2 * HALF + 1, "none was tried twice");
    assert_eq!(members.openai.faults(), Vec::<String>::new());
}

#[test]
fn removing_it_now_ends_what_is_under_way_with_it_and_nothing_else() {
    let members = Members::new();
    let (alice, bob) = (members.member("alice"), members.member("bob"));
    members.register(&alice, ALICES);
    members.register(&bob, crate::members::BOBS);
    let gate = Gate::closed();
    members.openai.script((0..2).map(|_| paused(&gate)));
    let hers = begin(&members, &alice, 1);
    members.openai.wait_for(1);
    let his = begin(&members, &bob, 1);
    members.openai.wait_for(2);
    let path = format!("{KEYS}?provider=openai&now=true");
    let gone = members.server.ask_as(Some(&alice), "DELETE", &path, None).expect(200).json();
    assert_eq!(gone["cut"], 1, "{gone:#}");
    for stream in hers {
        let answer = stream.join().expect("no panic").expect("an answer");
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(!body.contains("[DONE]"), "it broke off, and says so: {body}");
    }
    gate.open();
    for stream in his {
        assert_eq!(text(&stream.join().expect("no panic").expect("an answer")), OPENAI_SAYS);
    }
}

/// Whatever the key is, runs that are in the middle of a call with it end with it as clients do.
#[test]
fn removing_it_now_ends_runs_that_carry_it_also_those_of_other_workspaces() {
    let (members, ops) = lending();
    let agent = summarizer(&["gpt-4o-mini"]);
    let client = Home::new();
    let token = members.token("alice", "default", &["run", "llm"]);
    let run = |token: &str| {
        members.elsewhere(&client, token, ["run", "--json", "--input", INPUT]).arg(agent.path())
    };
    let lent = "/v1/secrets/OPENAI_API_KEY?now=true".to_owned();
    let own = format!("{KEYS}?provider=openai&now=true");
    for (registers, remover, path) in [(true, &token, own), (false, &ops, lent)] {
        if registers {
            members.register(&token, ALICES);
            members.policy(members.server.token(), "prefer_own");
        }
        let gate = Gate::closed();
        members.openai.script([Reply::text(200, "{}").held(&gate)]);
        let before = members.openai.received().len();
        let running = run(&token).start();
        members.openai.wait_for(before + 1);
        let gone = members.server.ask_as(Some(remover), "DELETE", &path, None).expect(200).json();
        assert_eq!(gone["cut"], 1, "{path}: {gone:#}");
        let outcome = running.finish();
        assert_ne!(outcome.code(), Some(0), "{path}: {outcome}");
        gate.open();
    }
}

/// Rotation of the workspace's own secret, which was there before, holds for clients in the same way.
#[test]
fn the_team_s_key_is_replaced_from_the_next_request_on() {
    let members = Members::new();
    let alice = members.member("alice");
    members.team_has(members.server.token(), "OPENAI_API_KEY", ALICES);
    members.served(&alice, &[], json!({}), ALICES, "team");
    members.team_has(members.server.token(), "OPENAI_API_KEY", TEAMS);
    members.served(&alice, &[], json!({}), TEAMS, "team");
    members.server.ask("DELETE", "/v1/secrets/OPENAI_API_KEY", None).expect(200);
    members.refused(&alice, &[], json!({}), (422, "orch_no_key"));
}
