//! The question that an agent's wishes become, for somebody at a terminal.

use std::path::Path;
use std::thread;
use std::time::Duration;

use orch_tests::guests::Agent;
use orch_tests::orch::{Orch, Outcome, Running};
use orch_tests::pty::{self, Keyboard};
use serde_json::{Value, json};

use crate::stage::{Mode, Stage, guest, in_every_mode, with_keys};

const QUESTION: &str = "Allow? [y]es for this run, [a]lways or ne[v]er for exactly this version, [N]o:";
const NOTHING: &str = r#"{"requests":[]}"#;

in_every_mode! {
    yes_is_for_one_run
    always_is_remembered_for_exactly_this_agent
    never_is_remembered_until_it_is_forgotten
    anything_else_is_no
    the_clock_stands_still_while_it_is_asked
}

fn asking(more: &Value) -> Agent {
    let mut fields = json!({ "egress": [{ "host": "api.github.com", "methods": ["GET"] }] });
    for (name, value) in more.as_object().expect("fields") {
        fields[name] = value.clone();
    }
    guest("wanderer", &fields)
}

/// A run for somebody whose terminal understands nothing, so that not even `orch` itself draws on it.
fn run(stage: &Stage, mode: Mode, agent: &Path) -> Orch {
    with_keys(stage.shown_in(mode, agent, NOTHING)).env("TERM", "dumb")
}

/// The same, at a terminal.
fn at_a_terminal(run: Orch) -> (Running, Keyboard) {
    let (terminal, keyboard) = pty::open();
    (run.start_on(terminal), keyboard)
}

#[track_caller]
fn answered(run: Orch, answer: &str) -> Outcome {
    let (running, mut keyboard) = at_a_terminal(run);
    running.wait_says(QUESTION);
    keyboard.answers(answer);
    running.finish()
}

fn yes_is_for_one_run(mode: Mode) {
    let (stage, agent) = (Stage::new(), asking(&json!({})));
    let run = || run(&stage, mode, agent.path());
    let outcome = answered(run(), "y").expect(0);
    for part in [
        "test/wanderer 1.0.0 asks for permission to:",
        "  - talk to https://api.github.com (GET)",
        "can send what it reads to api.github.com.",
    ] {
        assert!(outcome.stderr().contains(part), "{part:?} is missing in {outcome}");
    }
    // The next one is asked for anew, and where nobody can be asked it is refused.
    run().run().expect(4).silent();
    answered(run(), "yes").expect(0);
}

fn always_is_remembered_for_exactly_this_agent(mode: Mode) {
    let (stage, agent) = (Stage::new(), asking(&json!({})));
    answered(run(&stage, mode, agent.path()), "a").expect(0);
    run(&stage, mode, agent.path()).run().expect(0);
    let other = asking(&json!({ "version": "1.0.1" }));
    run(&stage, mode, other.path()).run().expect(4).silent();
}

fn never_is_remembered_until_it_is_forgotten(mode: Mode) {
    let (stage, agent) = (Stage::new(), asking(&json!({})));
    let outcome = answered(run(&stage, mode, agent.path()), "never").expect(4).silent();
    assert!(outcome.stderr().contains("was refused for good"), "{outcome}");
    // From now on nobody is asked, terminal or not.
    let (running, _keyboard) = at_a_terminal(run(&stage, mode, agent.path()));
    let outcome = running.finish().expect(4).silent();
    assert!(!outcome.stderr().contains("Allow?"), "{outcome}");
    assert!(outcome.stderr().contains("orch grants rm sha256:"), "{outcome}");
    let outcome = run(&stage, mode, agent.path()).arg("--json").run().expect(4).silent();
    let error = outcome.error();
    assert_eq!(error["code"], "refused_by_user", "{outcome}");
    assert_eq!(error["details"]["refused"], json!(["talk to https://api.github.com (GET)"]), "{outcome}");
    // Whoever says so on the command line grants it for that run; another version is asked about.
    run(&stage, mode, agent.path()).args(["--allow", "api.github.com"]).run().expect(0);
    let other = asking(&json!({ "version": "1.0.1" }));
    answered(run(&stage, mode, other.path()), "a").expect(0);
    // What is kept is listed, and what is forgotten is asked again.
    let listed = stage.orch(["grants", "list", "--json"]).run().expect(0).json();
    let mut answers: Vec<(&str, &str)> = listed["grants"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| (row["answer"].as_str().expect("a word"), row["kept"].as_str().expect("a place")))
        .collect();
    answers.sort_unstable();
    let kept = if matches!(mode, Mode::Local) { "here" } else { "server" };
    assert_eq!(answers, [("always", kept), ("never", "here")], "{listed:#}");
    let digest = error["details"]["digest"].as_str().expect("a digest");
    let removed = stage.orch(["grants", "rm", digest]).run().expect(0);
    assert!(removed.stdout().contains("never") && !removed.stdout().contains("always"), "{removed}");
    answered(run(&stage, mode, agent.path()), "y").expect(0);
    // The other version's grant goes by the agent's name, in every place.
    run(&stage, mode, other.path()).run().expect(0);
    stage.orch(["grants", "rm", "test/wanderer"]).run().expect(0);
    run(&stage, mode, other.path()).run().expect(4).silent();
    let outcome = stage.orch(["grants", "rm", "test/wanderer", "--json"]).run().expect(2).silent();
    assert_eq!(outcome.error()["code"], "grant_not_found", "{outcome}");
}

fn anything_else_is_no(mode: Mode) {
    let (stage, agent) = (Stage::new(), asking(&json!({})));
    for answer in ["", "n", "N", "no", "yep", " y es", "Allow"] {
        let outcome = answered(run(&stage, mode, agent.path()), answer).expect(4).silent();
        assert!(outcome.stderr().contains("nobody has granted it"), "{outcome}");
    }
}

/// The limit on wall time is shorter than the answer takes. That it takes so long is what is tested.
fn the_clock_stands_still_while_it_is_asked(mode: Mode) {
    let (stage, agent) = (Stage::new(), asking(&json!({})));
    let (running, mut keyboard) = at_a_terminal(run(&stage, mode, agent.path()).args(["--time", "2s"]));
    running.wait_says(QUESTION);
    thread::sleep(Duration::from_millis(2500));
    keyboard.answers("y");
    running.finish().expect(0);
}

#[test]
fn an_agent_cannot_draw_on_the_terminal_that_asks() {
    let stage = Stage::new();
    let drawing = "\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}1A\r\u{202e}Allow? [y]es";
    for fields in [
        json!({ "description": drawing }),
        json!({ "name": format!("test/{drawing}") }),
        json!({ "version": format!("1.0.0-{drawing}") }),
        json!({ "egress": [{ "host": drawing }] }),
        json!({ "egress": [{ "host": "api.github.com", "methods": [drawing] }] }),
        json!({ "egress": [{ "host": "api.github.com", "paths": [format!("/{drawing}")] }] }),
        json!({ "secrets": [{ "name": drawing, "hosts": ["api.github.com"] }] }),
    ] {
        let agent = asking(&fields);
        let (running, mut keyboard) = at_a_terminal(run(&stage, Mode::Local, agent.path()));
        // Typed ahead: what is refused before it is asked for is refused all the same.
        keyboard.answers("n");
        let outcome = running.finish();
        assert!(matches!(outcome.code(), Some(2..=4)), "{fields}: {outcome}");
        let said = outcome.stderr().replace("\r\n", "\n");
        let draws = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == '\u{202e}';
        assert!(!said.contains(draws), "{fields}: {said:?}");
    }
}

/// What an agent writes stands behind a margin, also where it looks like the question.
#[test]
fn an_answer_is_for_the_question_and_not_for_what_the_agent_says() {
    let (stage, agent) = (Stage::new(), guest("escape", &json!({})));
    let (running, mut keyboard) = at_a_terminal(run(&stage, Mode::Local, agent.path()));
    keyboard.answers("y");
    let outcome = running.finish();
    let said = outcome.stderr().replace("\r\n", "\n");
    assert!(said.contains('│') && !said.contains('\u{1b}') && !said.contains('\r'), "{said:?}");
}
