//! What a prompt wants: the instruction told apart from the text that it is about.

/// How many sentences a summary has when nobody says.
pub(super) const DEFAULT_SENTENCES: usize = 3;
/// No summary is longer, whatever is asked for.
const MOST_SENTENCES: usize = 50;
/// A first line longer than this is no instruction.
const LONGEST_INSTRUCTION: usize = 600;

/// Stems that make a line or sentence an instruction.
const SUMMARY_STEMS: [&str; 8] =
    ["summar", "tl;dr", "tldr", "condense", "shorten", "key points", "main points", "in brief"];
const TRANSLATION_STEMS: [&str; 1] = ["translat"];

/// A prompt, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) kind: Kind,
    /// The text that the instruction is about.
    pub(super) source: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Summary {
        sentences: usize,
    },
    Translation {
        language: Option<String>,
    },
    /// Anything else.
    Question,
}

impl Task {
    /// Reads the system text and the last message of the user.
    ///
    /// A system text that begins with what to do ("Summarise the text that the user sends…") settles it, and the whole
    /// message is material. Otherwise the message's own instruction goes before whatever the system text mentions.
    pub(super) fn of(system: &str, message: &str) -> Task {
        let general = system.to_lowercase();
        let settled = opening(&general, 2);
        let (own, source) = if stems().any(|stem| settled.contains(stem)) {
            (String::new(), message.to_owned())
        } else {
            split(message)
        };
        let own = own.to_lowercase();
        let kind =
            kind(&own, &own, &general).or_else(|| kind(&general, &own, &general)).unwrap_or(Kind::Question);
        Task { kind, source: plain_text(&source) }
    }
}

/// Text as a person would read it: of a JSON document, its texts; anything else as it is.
pub(super) fn plain_text(text: &str) -> String {
    let trimmed = text.trim();
    if !trimmed.starts_with(['{', '[']) {
        return text.to_owned();
    }
    match serde_json::from_str::<serde_json::Value>(trimmed) {
        Ok(value) => {
            let mut texts = Vec::new();
            collect(&value, &mut texts);
            texts.join("\n\n")
        }
        Err(_) => text.to_owned(),
    }
}

fn collect(value: &serde_json::Value, texts: &mut Vec<String>) {
    use serde_json::Value;
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::Number(number) => texts.push(format!("{name}: {number}.")),
                    Value::Bool(flag) => texts.push(format!("{name}: {flag}.")),
                    other => collect(other, texts),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The kind that `instruction` asks for, by the stem that comes first; its details may stand in either text.
fn kind(instruction: &str, own: &str, general: &str) -> Option<Kind> {
    let first = |stems: &[&str]| stems.iter().filter_map(|stem| instruction.find(stem)).min();
    let either = match (first(&SUMMARY_STEMS), first(&TRANSLATION_STEMS)) {
        (None, None) => return None,
        (Some(summary), Some(translation)) => summary < translation,
        (summary, _) => summary.is_some(),
    };
    Some(if either {
        let sentences = sentence_count(own).or_else(|| sentence_count(general)).unwrap_or(DEFAULT_SENTENCES);
        Kind::Summary { sentences }
    } else {
        Kind::Translation { language: language(own).or_else(|| language(general)) }
    })
}

/// Instruction and text of a message, told apart by the first of these that fits: a quoted block (three backquotes or
/// quotes, or an XML-like tag); a first line, or first sentence, that ends with a colon; a first or last sentence or
/// paragraph that says what to do. Otherwise all is text.
fn split(message: &str) -> (String, String) {
    let message = message.trim();
    if let Some(parts) =
        quoted(message, "```").or_else(|| quoted(message, "\"\"\"")).or_else(|| tagged(message))
    {
        return parts;
    }
    let first_line = message.lines().next().unwrap_or_default();
    if first_line.len() <= LONGEST_INSTRUCTION {
        let rest = message[first_line.len()..].trim();
        if !rest.is_empty() && (first_line.trim_end().ends_with(':') || instructs(first_line)) {
            return (first_line.to_owned(), rest.to_owned());
        }
        if let Some((before, after)) = message.split_once(": ").filter(|(before, _)| instructs(before))
            && !before.contains('\n')
            && !after.trim().is_empty()
        {
            return (before.to_owned(), after.trim().to_owned());
        }
    }
    let sentences = super::text::sentences(message, super::SENTENCES);
    if let [first, rest @ ..] = &sentences[..]
        && !rest.is_empty()
        && instructs(first)
    {
        return (first.clone(), rest.join(" "));
    }
    if let Some((before, last)) = message.rsplit_once("\n\n")
        && instructs(last)
        && last.len() <= LONGEST_INSTRUCTION
    {
        return (last.to_owned(), before.trim().to_owned());
    }
    if instructs(first_line) && sentences.len() <= 1 {
        (message.to_owned(), message.to_owned())
    } else {
        (String::new(), message.to_owned())
    }
}

/// Whether a line or sentence says what to do: a stem within its first words, as in "Please summarise…".
fn instructs(text: &str) -> bool {
    let opening = opening(&text.to_lowercase(), 8);
    stems().any(|stem| opening.contains(stem))
}

fn stems() -> impl Iterator<Item = &'static str> {
    SUMMARY_STEMS.into_iter().chain(TRANSLATION_STEMS)
}

/// The first `count` words of a text.
fn opening(text: &str, count: usize) -> String {
    text.split_whitespace().take(count).collect::<Vec<_>>().join(" ")
}

fn quoted(message: &str, fence: &str) -> Option<(String, String)> {
    let (before, rest) = message.split_once(fence)?;
    let (inside, after) = rest.rsplit_once(fence)?;
    // ```text on the opening line names a language.
    let inside = match inside.split_once('\n') {
        Some((tag, body)) if !tag.trim().contains(' ') && tag.len() <= 20 => body,
        _ => inside,
    };
    let inside = inside.trim();
    (!inside.is_empty()).then(|| (format!("{before}\n{after}"), inside.to_owned()))
}

fn tagged(message: &str) -> Option<(String, String)> {
    let (before, rest) = message.split_once('<')?;
    let (tag, rest) = rest.split_once('>')?;
    let plain = !tag.is_empty() && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let (inside, after) = rest.split_once(&format!("</{tag}>")).filter(|_| plain)?;
    Some((format!("{before}\n{after}"), inside.trim().to_owned()))
}

/// The number in "in three sentences", "3-sentence", "2 bullet points", "one sentence".
fn sentence_count(instruction: &str) -> Option<usize> {
    const NUMBERS: [&str; 10] =
        ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let words: Vec<&str> =
        instruction.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let units = ["sentence", "sentences", "bullet", "bullets", "point", "points", "line", "lines"];
    let number = |word: &str| {
        let digits = word.parse::<usize>().ok();
        let spelt = NUMBERS.iter().position(|number| *number == word).map(|at| at + 1);
        let single = matches!(word, "a" | "single").then_some(1);
        digits.or(spelt).or(single).filter(|n| (1..=MOST_SENTENCES).contains(n))
    };
    words.iter().enumerate().filter(|(_, word)| units.contains(word)).find_map(|(at, _)| {
        // "three short sentences": one adjective may stand in between.
        let before = &words[at.saturating_sub(2)..at];
        before.iter().rev().find_map(|word| number(word))
    })
}

/// The language in "to French", "into German", "in Spanish": the word after it, with a capital first.
fn language(instruction: &str) -> Option<String> {
    let at = instruction.find("translat")?;
    let words: Vec<&str> =
        instruction[at..].split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let after = |preposition: &str| {
        words.windows(2).filter(|pair| pair[0] == preposition).map(|pair| pair[1]).find(|word| {
            !["the", "a", "an", "this", "that", "it", "its", "their", "your", "target", "language"]
                .contains(word)
        })
    };
    let word = after("into").or_else(|| after("to")).or_else(|| after("in"))?;
    let mut chars = word.chars();
    let first = chars.next()?;
    Some(first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruction_and_text_are_told_apart() {
        let summary =
            |sentences, source: &str| Task { kind: Kind::Summary { sentences }, source: source.to_owned() };
        let french = |source: &str| Task {
            kind: Kind::Translation { language: Some("French".to_owned()) },
            source: source.to_owned(),
        };
        let rows: [(&str, &str, Task); 13] = [
            ("", "Summarise the following in two sentences:\n\nA b. C d.", summary(2, "A b. C d.")),
            ("", "Please summarize this text: A b. C d.", summary(3, "A b. C d.")),
            ("", "Summarise in 1 sentence.\nA b.\nC d.", summary(1, "A b.\nC d.")),
            ("", "Give a 4-sentence summary of this. A b. C d.", summary(4, "A b. C d.")),
            ("", "Summarize:\n```text\nA b.\n```\nin five short sentences", summary(5, "A b.")),
            ("", "<document>A b. C d.</document>\nSummarize it.", summary(3, "A b. C d.")),
            ("", "A b. C d.\n\nTL;DR in one line", summary(1, "A b. C d.")),
            ("You summarise texts in three sentences.", "A b. C d.", summary(3, "A b. C d.")),
            ("Summarise.", r#"{"text": "A b. C d."}"#, summary(3, "A b. C d.")),
            (
                "Summarise the text in at most 2 sentences.",
                "To do:\nTranslate it.",
                summary(2, "To do:\nTranslate it."),
            ),
            ("", "Translate to French: Good day", french("Good day")),
            ("Translate the user's message into French.", "Good day", french("Good day")),
            ("You are a translator.", "Translate into French:\nA summary.", french("A summary.")),
        ];
        for (system, message, task) in rows {
            assert_eq!(Task::of(system, message), task, "{system} / {message}");
        }
    }

    #[test]
    fn words_within_the_text_are_no_instruction() {
        let long =
            "The committee met on Monday. A summary of its work was translated into French and sent around.";
        assert_eq!(Task::of("", long).kind, Kind::Question);
        assert_eq!(Task::of("Be brief.", "Where is Oslo?").kind, Kind::Question);
    }

    #[test]
    fn a_count_is_read_in_words_and_digits() {
        let rows = [
            ("in 2 sentences", Some(2)),
            ("three short sentences", Some(3)),
            ("a single sentence", Some(1)),
            ("a 4-sentence summary", Some(4)),
            ("five bullet points", Some(5)),
            ("in 900 sentences", None),
            ("in sentences", None),
            ("3 texts", None),
        ];
        for (instruction, count) in rows {
            assert_eq!(sentence_count(instruction), count, "{instruction}");
        }
    }
}
