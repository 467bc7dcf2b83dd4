//! What a listener hears of calls, and what it does not.

use std::sync::{Arc, Mutex};

use orch_gateway::ir::Class;
use orch_gateway::{CallEnd, CallListener, CallStart, Candidate, Listener, Operation};
use serde_json::json;

use crate::upstream::{Reply, Then, messages, pieces, says, stream_of, whole};
use crate::world::{Setup, World, hello, hello_stream, world};

const STREAM: &str = include_str!("../../src/dialect/fixtures/openai_text.sse");

/// Writes down all that it hears.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn note(&self, note: String) {
        self.0.lock().unwrap().push(note);
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Listener for Notes {
    fn call(&self) -> Box<dyn CallListener> {
        self.note("call".to_owned());
        Box::new(self.clone())
    }
}

impl CallListener for Notes {
    fn asked(&mut self, asked: &CallStart) {
        assert_eq!(asked.operation, Operation::Chat);
        self.note(format!("asked stream={} max={:?}", asked.stream, asked.max_tokens));
    }

    fn attempt_began(&mut self, candidate: &Candidate) {
        self.note(format!("began {}", candidate.name()));
    }

    fn first_token(&mut self) {
        self.note("first token".to_owned());
    }

    fn attempt_failed(&mut self, class: Class, status: Option<u16>) {
        self.note(format!("failed {} {status:?}", class.as_str()));
    }

    fn ended(&mut self, end: &CallEnd<'_>) {
        let CallEnd { receipt, class, hit, id, stop, usage } = end;
        let hit = hit.map(|hit| hit.name);
        let usage = usage.map(|usage| (usage.input, usage.output));
        let class = class.map(Class::as_str);
        self.note(format!(
            "ended {:?} class={class:?} hit={hit:?} id={id:?} stop={stop:?} usage={usage:?}",
            receipt.outcome
        ));
    }
}

async fn heard(setup: Setup) -> (World, Notes) {
    let mut world = World::new(setup).await;
    let notes = Notes::default();
    world.session = world.session.clone().with_listener(Some(Arc::new(notes.clone())));
    (world, notes)
}

#[tokio::test]
async fn a_call_is_heard_from_its_attempts_to_its_end() {
    let (world, notes) = heard(Setup::default()).await;
    let busy = whole(503, &json!({ "error": { "message": "busy" } }));
    world.openai.script([busy.clone(), busy]);
    world.anthropic.script([messages("hi")]);
    let mut body = hello();
    body["max_completion_tokens"] = json!(50);
    assert_eq!(world.chat(&body).await.status, 200);
    let expected = [
        "call",
        "asked stream=false max=Some(50)",
        "began openai/gpt-4o-mini",
        "failed server Some(503)",
        "began openai/gpt-4o-mini",
        "failed server Some(503)",
        "began anthropic/claude-3-haiku-20240307",
        "ended Served class=None hit=None id=Some(\"msg_1\") stop=Some(Stop) usage=Some((20, 7))",
    ];
    let taken = notes.taken();
    // Whether a busy provider is overloaded or broken is for others to say.
    let taken: Vec<String> = taken.iter().map(|note| note.replace("overloaded", "server")).collect();
    assert_eq!(taken, expected);
}

#[tokio::test]
async fn a_stream_s_first_token_is_heard_and_its_break() {
    let (world, notes) = heard(Setup::default()).await;
    world.openai.script([stream_of(STREAM)]);
    world.chat(&hello_stream()).await;
    let taken = notes.taken();
    assert_eq!(taken[2..4], ["began openai/gpt-4o-mini", "first token"], "{taken:?}");
    assert!(taken[4].starts_with("ended Served class=None hit=None id=Some(\"chatcmpl-"), "{taken:?}");
    assert!(taken[4].contains("stop=Some(Stop)"), "{taken:?}");

    let all = pieces(STREAM);
    world.openai.script([Reply::Stream { pieces: all[..4].to_vec(), then: Then::Cut }]);
    world.chat(&hello_stream()).await;
    let taken = notes.taken();
    assert_eq!(taken[3], "first token", "{taken:?}");
    assert!(taken[4].starts_with("ended Broken class=Some(\"truncated\")"), "{taken:?}");
}

#[tokio::test]
async fn bounds_refusals_and_whoever_goes_away_are_heard() {
    let (world, notes) = heard(Setup { max_tokens: Some(10), ..Setup::default() }).await;
    assert_eq!(world.chat(&hello()).await.status, 429);
    let taken = notes.taken();
    assert_eq!(taken.len(), 3, "nothing was sent: {taken:?}");
    assert!(
        taken[2].starts_with("ended Limit class=Some(\"out_of_money\") hit=Some(\"tokens\")"),
        "{taken:?}"
    );

    let (world, notes) = heard(Setup::default()).await;
    world.openai.script([whole(400, &json!({ "error": { "message": "no" } }))]);
    assert_eq!(world.chat(&hello()).await.status, 400);
    let taken = notes.taken();
    assert_eq!(taken[3], "failed bad_request Some(400)");
    assert!(taken[4].starts_with("ended Rejected class=Some(\"bad_request\")"), "{taken:?}");

    world.openai.script([Reply::Silence]);
    let body = hello();
    tokio::select! {
        _ = world.chat(&body) => panic!("it is silent"),
        () = tokio::time::sleep(std::time::Duration::from_millis(300)) => {}
    }
    let taken = notes.taken();
    assert_eq!(taken[2], "began openai/gpt-4o-mini");
    assert!(taken[3].starts_with("ended Cancelled class=None"), "{taken:?}");
}

#[tokio::test]
async fn nothing_that_was_said_and_no_trace_context_goes_where_it_should_not() {
    let (world, notes) = heard(Setup::default()).await;
    world.openai.script([says("a word that nobody else says")]);
    let mut body = hello();
    body["messages"][0]["content"] = json!("a question that nobody else asks");
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("traceparent", parent), ("tracestate", "a=b"), ("baggage", "c=d")];
    world.post_with("/v1/chat/completions", &headers, &body).await;
    let heard = notes.taken().join("\n");
    assert!(!heard.contains("nobody else"), "{heard}");
    let asked = world.openai.asked();
    for name in ["traceparent", "tracestate", "baggage"] {
        assert!(!asked[0].headers.contains_key(name), "{name} went to the provider");
    }
}

#[tokio::test]
async fn nobody_has_to_listen() {
    let world = world().await;
    assert!(world.session.listener.is_none());
    world.openai.script([says("hi")]);
    assert_eq!(world.chat(&hello()).await.status, 200);
}
