//! Answers that are taken out of what was sent: summaries, answers to questions, and the choice between them.
//!
//! The summary is extractive. Words are weighted by how often the text uses them (stop words not at all); a sentence
//! scores the mean weight of its words, more near the start of the text and less when it is very short; the best
//! one is taken, its words then count for less, so that the next one says something else; and so on until enough are
//! taken. They are printed in their order in the text. All arithmetic is on integers.

use std::collections::{HashMap, HashSet};

use super::chat::{Ask, Role};
use super::text;
use super::translate;

mod task;

use task::{Kind, Task};

/// How much of a text is looked at, in sentences; what follows cannot be chosen.
const SENTENCES: usize = 2000;

/// The answer to a conversation, from its own words.
pub(super) fn answer(ask: &Ask) -> String {
    let message = ask.last_user_text();
    let task = Task::of(&ask.system, &message);
    match task.kind {
        Kind::Summary { sentences } => {
            let picked = summary(&task.source, sentences);
            if picked.is_empty() { echo(&message) } else { picked }
        }
        Kind::Translation { language } => translate::translate(&task.source, language.as_deref()),
        Kind::Question => question(ask, &message),
    }
}

/// The `count` sentences that say most about `source`, in their order.
pub(super) fn summary(source: &str, count: usize) -> String {
    let sentences = text::sentences(source, SENTENCES);
    let scored: Vec<Vec<String>> = sentences.iter().map(|sentence| content_words(sentence)).collect();
    let mut weights: HashMap<&str, u64> = HashMap::new();
    for word in scored.iter().flatten() {
        *weights.entry(word).or_default() += 1000;
    }
    let mut picked: Vec<usize> = Vec::new();
    while picked.len() < count.min(sentences.len()) {
        let best = (0..sentences.len())
            .filter(|index| !picked.contains(index))
            .max_by_key(|index| (score(&scored[*index], &weights, *index), usize::MAX - index));
        let Some(best) = best else { break };
        picked.push(best);
        // What was said once is worth a quarter the second time.
        for word in scored[best].iter().map(String::as_str).collect::<HashSet<_>>() {
            if let Some(weight) = weights.get_mut(word) {
                *weight /= 4;
            }
        }
    }
    picked.sort_unstable();
    picked.into_iter().map(|index| sentences[index].as_str()).collect::<Vec<_>>().join(" ")
}

/// The `count` words that `source` is most about, in their order of first use.
pub(super) fn keywords(source: &str, count: usize) -> Vec<String> {
    let mut order: Vec<(String, u64)> = Vec::new();
    let mut index: HashMap<String, usize> = HashMap::new();
    for word in content_words(source) {
        let at = *index.entry(word.clone()).or_insert_with(|| {
            order.push((word, 0));
            order.len() - 1
        });
        order[at].1 += 1;
    }
    let mut ranked: Vec<usize> = (0..order.len()).collect();
    ranked.sort_by_key(|at| (u64::MAX - order[*at].1, *at));
    ranked.truncate(count);
    ranked.sort_unstable();
    ranked.into_iter().map(|at| order[at].0.clone()).collect()
}

/// The mean weight of a sentence's words. The first sentence of a text counts half more, the following ones less and
/// less of that; one of fewer than four words is a heading or an interjection and counts a third.
fn score(words: &[String], weights: &HashMap<&str, u64>, index: usize) -> u64 {
    let Some(length) = u64::try_from(words.len()).ok().filter(|length| *length > 0) else { return 0 };
    let sum: u64 = words.iter().filter_map(|word| weights.get(word.as_str())).sum();
    // Long sentences hold more; dividing by a little more than their length evens that out without favouring tiny ones.
    let mean = sum * 100 / (length + 3);
    let place = 100 + 50 / (1 + index as u64);
    let brevity = if length < 4 { 33 } else { 100 };
    mean * place * brevity / 10_000
}

/// What the tools said since the question, when theirs is the last word; else the sentences of the conversation that
/// share most words with the question.
fn question(ask: &Ask, message: &str) -> String {
    if ask.turns.last().is_some_and(|turn| turn.role == Role::Tool) {
        let read_out = results(ask, message);
        return if read_out.is_empty() { echo(message) } else { read_out };
    }
    let own = text::sentences(message, SENTENCES);
    let (asked, told): (Vec<String>, Vec<String>) =
        own.into_iter().partition(|sentence| sentence.ends_with('?'));
    let asked = if asked.is_empty() { message.to_owned() } else { asked.join(" ") };
    let wanted: HashSet<String> = content_words(&asked).into_iter().collect();
    let mut context = Vec::new();
    for turn in &ask.turns {
        let source = match turn.role {
            Role::Tool => task::plain_text(&turn.text),
            Role::User if turn.text != message => turn.text.clone(),
            Role::User | Role::Assistant => continue,
        };
        context.extend(text::sentences(&source, SENTENCES));
    }
    // A long message brings its own context: what it tells, apart from what it asks.
    if told.len() > 1 || asked != message {
        context.extend(told);
    }
    let overlap = |sentence: &str| {
        content_words(sentence).into_iter().collect::<HashSet<_>>().intersection(&wanted).count()
    };
    let mut ranked: Vec<(usize, usize)> = context
        .iter()
        .enumerate()
        .map(|(index, sentence)| (overlap(sentence), index))
        .filter(|(overlap, _)| *overlap > 0)
        .collect();
    ranked.sort_by_key(|(overlap, index)| (usize::MAX - overlap, *index));
    ranked.truncate(task::DEFAULT_SENTENCES);
    ranked.sort_by_key(|(_, index)| *index);
    if ranked.is_empty() {
        return echo(message);
    }
    ranked.into_iter().map(|(_, index)| context[index].as_str()).collect::<Vec<_>>().join(" ")
}

/// The results since the question, each ended as a sentence. Of long ones, as many sentences as there are results (or
/// as a summary has) that share most words with the question.
fn results(ask: &Ask, message: &str) -> String {
    let since = ask.turns.iter().rev().take_while(|turn| turn.role != Role::User);
    let mut texts: Vec<String> =
        since.filter(|turn| turn.role == Role::Tool).map(|turn| task::plain_text(&turn.text)).collect();
    texts.reverse();
    let wanted: HashSet<String> = content_words(message).into_iter().collect();
    let sentences: Vec<String> = texts.iter().flat_map(|text| text::sentences(text, SENTENCES)).collect();
    let overlap = |sentence: &str| {
        content_words(sentence).into_iter().collect::<HashSet<_>>().intersection(&wanted).count()
    };
    let mut ranked: Vec<usize> = (0..sentences.len()).collect();
    ranked.sort_by_key(|index| (usize::MAX - overlap(&sentences[*index]), *index));
    ranked.truncate(texts.len().max(task::DEFAULT_SENTENCES));
    ranked.sort_unstable();
    let ended = |sentence: &String| {
        let open = sentence.ends_with(char::is_alphanumeric);
        format!("{sentence}{}", if open { "." } else { "" })
    };
    ranked.into_iter().map(|index| ended(&sentences[index])).collect::<Vec<_>>().join(" ")
}

/// What is said when there is nothing to extract: that this is a simulation, and what was understood.
fn echo(message: &str) -> String {
    const LONGEST: usize = 200;
    let first = text::sentences(message, 1).into_iter().next().unwrap_or_default();
    let mut heard: String = first.chars().take(LONGEST).collect();
    if heard.len() < first.len() {
        heard.push('…');
    }
    if heard.is_empty() {
        "This is a simulated answer to an empty message.".to_owned()
    } else {
        format!("This is a simulated answer. You wrote: {heard}")
    }
}

fn content_words(text: &str) -> Vec<String> {
    text::words(text).filter(|word| text::is_content(word)).collect()
}

#[cfg(test)]
mod tests;
