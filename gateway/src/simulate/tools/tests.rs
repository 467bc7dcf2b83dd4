use serde_json::json;

use super::super::chat::{Answer, Choice, Format, Turn};
use super::*;

fn tools() -> Vec<Tool> {
    let units = json!({"enum": ["miles", "kilometres", "celsius", "fahrenheit"]});
    let tool = |name: &str, schema: Value| Tool { name: name.to_owned(), schema };
    vec![
        tool(
            "calculate",
            json!({"properties": {"expression": {"type": "string"}}, "required": ["expression"]}),
        ),
        tool(
            "convert_unit",
            json!({"properties": {"from": units, "to": units, "value": {"type": "number"}},
                "required": ["value", "from", "to"]}),
        ),
        tool(
            "add_days",
            json!({"properties": {"date": {"type": "string", "format": "date"}, "days": {"type": "integer"}},
                "required": ["date", "days"]}),
        ),
        tool(
            "get_weather",
            json!({"properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
                "required": ["city", "unit"]}),
        ),
    ]
}

fn ask(question: &str) -> Ask {
    Ask {
        model: "m".to_owned(),
        system: String::new(),
        turns: vec![Turn { role: Role::User, text: question.to_owned() }],
        tools: tools(),
        choice: Choice::Auto,
        parallel: true,
        max_tokens: None,
        stops: Vec::new(),
        format: Format::Text,
        stream: false,
        include_usage: false,
        alternatives: 1,
        input_tokens: 0,
    }
}

fn called(answer: &Answer) -> Vec<(&str, Value)> {
    let call = |call: &'_ Call| serde_json::from_str(&call.arguments).expect("JSON");
    answer.calls.iter().map(|c| (c.name.as_str(), call(c))).collect()
}

/// Answers every call with "NAME said so." and asks again, until there is text.
fn conversation(mut ask: Ask) -> (Vec<Vec<String>>, String) {
    let mut turns = Vec::new();
    loop {
        let answer = ask.answer(None);
        if answer.calls.is_empty() {
            return (turns, answer.text);
        }
        ask.turns.push(Turn { role: Role::Assistant, text: String::new() });
        for call in &answer.calls {
            ask.turns.push(Turn { role: Role::Tool, text: format!("{} said so", call.name) });
        }
        turns.push(answer.calls.into_iter().map(|call| call.name).collect());
        assert!(turns.len() < 10, "{turns:?}");
    }
}

#[test]
fn a_question_picks_its_tool_and_fills_the_arguments() {
    for (question, name, arguments) in [
        ("What is 12 * (7 + 5)?", "calculate", json!({"expression": "12 * (7 + 5)"})),
        (
            "How many kilometres are 26.2 miles?",
            "convert_unit",
            json!({"value": 26.2, "from": "miles", "to": "kilometres"}),
        ),
        ("What date is 90 days after 2026-01-15?", "add_days", json!({"date": "2026-01-15", "days": 90})),
        ("How is the weather in Oslo?", "get_weather", json!({"city": "weather oslo", "unit": "celsius"})),
    ] {
        assert_eq!(called(&ask(question).answer(None)), [(name, arguments)], "{question}");
    }
}

#[test]
fn a_question_without_a_tool_is_answered_with_text() {
    for question in ["Who was Dr. Lund?", "I have 3 apples.", "Thanks!", ""] {
        assert!(ask(question).answer(None).calls.is_empty(), "{question}");
    }
}

#[test]
fn clauses_share_a_turn_and_what_comes_then_takes_another() {
    let question = "What is 2 + 2, and how many kilometres are 3 miles? Then what is 5 * 5?";
    let (turns, answer) = conversation(ask(question));
    assert_eq!(turns, [vec!["calculate", "convert_unit"], vec!["calculate"]]);
    assert_eq!(answer, "calculate said so. convert_unit said so. calculate said so.");

    let (turns, _) = conversation(Ask { parallel: false, ..ask(question) });
    assert_eq!(turns, [["calculate"], ["convert_unit"], ["calculate"]]);
}

#[test]
fn more_results_than_a_summary_has_sentences_are_all_read_out() {
    let question = "What is 1+1? What is 2+2? What is 3+3? What is 4+4? What is 5+5?";
    let (turns, answer) = conversation(ask(question));
    assert_eq!(turns, [vec!["calculate"; 5]]);
    assert_eq!(answer.matches("said so.").count(), 5, "{answer}");
}

#[test]
fn a_named_tool_is_called_with_what_the_message_holds() {
    let answer = ask("Use add_days with 2026-01-15 and 3.").answer(None);
    assert_eq!(called(&answer), [("add_days", json!({"date": "2026-01-15", "days": 3}))]);
}
