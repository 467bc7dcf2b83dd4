use super::super::chat::{Choice, Format, Turn};
use super::*;

/// Written for this test.
const HARBOUR: &str = "The harbour of Vesterby was built in 1821 for the herring fleet. For a century herring paid for \
    everything in the town: the school, the church and the long stone mole that keeps the harbour calm. It rains a \
    lot. In 1923 the herring went elsewhere, and within ten years half the fleet was sold. Dr. Lund, who kept the \
    town's books, wrote that the mole would outlast the people. He was wrong about the people. Sailors found the calm \
    harbour, and today the town lives on visitors who moor behind the same stone mole. The herring came back in 1998, \
    but there is no fleet left to catch them.";

fn ask(turns: &[(Role, &str)]) -> Ask {
    let turn = |(role, text): &(Role, &str)| Turn { role: *role, text: (*text).to_owned() };
    Ask {
        model: "m".to_owned(),
        system: String::new(),
        turns: turns.iter().map(turn).collect(),
        tools: Vec::new(),
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

/// The golden sample: what the arithmetic picks from a fixed text, and that it is the same through a prompt.
#[test]
fn a_summary_of_a_fixed_text() {
    let expected = "The harbour of Vesterby was built in 1821 for the herring fleet. For a century herring paid for \
        everything in the town: the school, the church and the long stone mole that keeps the harbour calm. Dr. Lund, \
        who kept the town's books, wrote that the mole would outlast the people.";
    assert_eq!(summary(HARBOUR, 3), expected);
    let prompt = format!("Summarise this text in three sentences:\n\n{HARBOUR}");
    assert_eq!(answer(&ask(&[(Role::User, &prompt)])), expected);
}

#[test]
fn a_summary_keeps_whole_sentences_in_their_order() {
    let sentences = text::sentences(HARBOUR, 100);
    for count in 0..=sentences.len() + 2 {
        let picked = text::sentences(&summary(HARBOUR, count), 100);
        assert_eq!(picked.len(), count.min(sentences.len()));
        let places: Vec<usize> =
            picked.iter().map(|one| sentences.iter().position(|other| other == one).unwrap()).collect();
        assert!(places.is_sorted(), "{places:?}");
    }
}

#[test]
fn a_repeated_sentence_is_not_taken_twice() {
    let text = "Herring fleets sail north in spring. Herring fleets sail north in spring. Cod stays near the coast \
                all year. Nobody asked the whales.";
    let picked = summary(text, 2);
    assert_eq!(picked.matches("Herring").count(), 1, "{picked}");
}

#[test]
fn nothing_to_summarise_is_said() {
    assert_eq!(
        answer(&ask(&[(Role::User, "Summarise:")])),
        "Summarise:".to_owned(),
        "an instruction alone is its own text"
    );
    assert_eq!(answer(&ask(&[(Role::User, "…")])), "This is a simulated answer to an empty message.");
    assert_eq!(
        answer(&ask(&[(Role::User, "Hello there!")])),
        "This is a simulated answer. You wrote: Hello there!"
    );
}

#[test]
fn a_question_is_answered_from_the_conversation() {
    let answered = answer(&ask(&[
        (Role::User, HARBOUR),
        (Role::Assistant, "The harbour is old."),
        (Role::User, "When did the herring come back?"),
    ]));
    assert!(answered.contains("The herring came back in 1998"), "{answered}");
    assert!(!answered.contains("It rains a lot."), "{answered}");
    let own = format!("{HARBOUR} Who was Dr. Lund?");
    assert!(answer(&ask(&[(Role::User, &own)])).contains("Dr. Lund, who kept the town's books"));
}

#[test]
fn a_tool_result_is_read_out() {
    let answered = answer(&ask(&[
        (Role::User, "Weather in Oslo?"),
        (Role::Tool, r#"{"summary": "Light rain.", "degrees": 4}"#),
    ]));
    assert!(answered.contains("Light rain.") && answered.contains("degrees: 4."), "{answered}");
}

#[test]
fn keywords_are_the_most_used_words_in_order() {
    assert_eq!(
        keywords("The fleet, the mole and the harbour: fleet after fleet, mole by mole.", 2),
        ["fleet", "mole"]
    );
    assert_eq!(keywords("to be or not", 3), Vec::<String>::new());
}

#[test]
fn huge_texts_are_cut_not_refused() {
    let text = "Alpha beta gamma delta. ".repeat(SENTENCES * 2);
    assert_eq!(summary(&text, 1), "Alpha beta gamma delta.");
}
