//! Which tools a question asks for, and with which arguments.
//!
//! A tool that the message names is called. When none is named, the question is cut into clauses, and each clause goes
//! to the tool that it fits best: by the words of the tool's name and parameters, and by whether the clause holds the
//! dates, numbers, expressions and choices that its schema demands. Clauses after a "then" wait for the results of
//! those before, so that a question can be made to take several turns. Equal questions get equal calls.

use serde_json::{Number, Value};

use super::chat::{Ask, Call, Role, Tool};
use super::extract;
use super::schema;
use super::text;

mod clause;

use clause::Clause;

/// How much of a question is looked at, in sentences.
const SENTENCES: usize = 50;
/// What a clause has to score before a tool is called that nobody named.
const LEAST: i32 = 1;

/// The calls that the conversation waits for now: those of the first step that has no results yet. None when every
/// step has its results, and none when the last word is the model's own.
pub(super) fn wanted(ask: &Ask) -> Vec<Call> {
    if ask.turns.last().is_none_or(|turn| turn.role == Role::Assistant) {
        return Vec::new();
    }
    let question = ask.last_user_text();
    let named: Vec<Call> = ask
        .tools
        .iter()
        .filter(|tool| names(&question, &tool.name))
        .map(|tool| call(tool, &question))
        .collect();
    let mut steps = if named.is_empty() { steps(&question, &ask.tools) } else { vec![named] };
    if !ask.parallel {
        steps = steps.into_iter().flatten().map(|call| vec![call]).collect();
    }
    let since = ask.turns.iter().rev().take_while(|turn| turn.role != Role::User);
    let done = since.filter(|turn| turn.role == Role::Assistant).count();
    steps.into_iter().nth(done).unwrap_or_default()
}

/// A call of this tool whose arguments fit its schema and come from `question` where it has them.
pub(super) fn call(tool: &Tool, question: &str) -> Call {
    Call { name: tool.name.clone(), arguments: Fit::of(tool, &Clause::of(question)).arguments.to_string() }
}

/// Whether `text` holds `name` as a word of its own.
fn names(text: &str, name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(word) && !text[at + name.len()..].starts_with(word))
}

/// The calls of each step; steps without any are left out.
fn steps(question: &str, tools: &[Tool]) -> Vec<Vec<Call>> {
    let mut steps: Vec<Vec<Call>> = Vec::new();
    let mut next = true;
    for sentence in text::sentences(question, SENTENCES) {
        for (waits, part) in clause::split(&sentence) {
            next |= waits;
            let clause = Clause::of(part);
            let fits = tools.iter().map(|tool| (tool, Fit::of(tool, &clause)));
            // The first of equals: `max_by_key` takes the last.
            let Some((tool, fit)) =
                fits.rev().max_by_key(|(_, fit)| fit.score).filter(|(_, fit)| fit.score >= LEAST)
            else {
                continue;
            };
            let call = Call { name: tool.name.clone(), arguments: fit.arguments.to_string() };
            match steps.last_mut() {
                Some(step) if !next => step.push(call),
                _ => steps.push(vec![call]),
            }
            next = false;
        }
    }
    steps
}

/// How well a clause fits a tool, and the arguments that it would give.
struct Fit {
    score: i32,
    arguments: Value,
}

impl Fit {
    fn of(tool: &Tool, clause: &Clause) -> Fit {
        let seed = extract::keywords(&clause.text, 3).join(" ");
        let mut fit = Fit { score: 0, arguments: schema::example(&tool.schema, &seed) };
        let properties = tool.schema.get("properties").and_then(Value::as_object);
        let mut known: Vec<String> = content(&tool.name);
        let (mut dates, mut numbers) = (clause.dates.iter(), clause.numbers.iter());
        let mut chosen: Vec<&str> = Vec::new();
        for name in demanded(&tool.schema) {
            let Some(property) = properties.and_then(|all| all.get(name)) else { continue };
            known.extend(content(name));
            let (found, worth) = match Want::of(name, property) {
                Want::Date => (dates.next().map(|date| Value::from(date.as_str())), 2),
                Want::Expression => (clause.expression.clone().map(Value::from), 2),
                Want::Number => (numbers.next().and_then(|number| plain(*number, property)), 1),
                Want::Choice(among) => {
                    let said = clause.choose(&among).into_iter().find(|said| !chosen.contains(said));
                    chosen.extend(said);
                    (said.map(Value::from), 2)
                }
                Want::Text => continue,
            };
            fit.score += if found.is_some() { worth } else { -1 };
            if let Some(found) = found {
                fit.arguments[name] = found;
            }
        }
        known.sort_unstable();
        known.dedup();
        let shared = known.iter().filter(|word| clause.words.contains(word)).count();
        fit.score += 2 * i32::try_from(shared).unwrap_or(i32::MAX / 2);
        fit
    }
}

/// The parameters that a call fills: the required ones in their order, or all when none is required.
fn demanded(schema: &Value) -> Vec<&str> {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let required: Vec<&str> = required.filter_map(Value::as_str).collect();
    if !required.is_empty() {
        return required;
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// What a clause has to hold for a parameter.
enum Want<'a> {
    /// `YYYY-MM-DD`.
    Date,
    /// Arithmetic.
    Expression,
    Number,
    /// One of these words.
    Choice(Vec<&'a str>),
    /// Anything: the clause's keywords do.
    Text,
}

impl<'a> Want<'a> {
    fn of(name: &str, property: &'a Value) -> Want<'a> {
        if let Some(among) = property.get("enum").and_then(Value::as_array) {
            return Want::Choice(among.iter().filter_map(Value::as_str).collect());
        }
        match property.as_object().and_then(schema::kind) {
            Some("integer" | "number") => Want::Number,
            Some("string") if property.get("format").and_then(Value::as_str) == Some("date") => Want::Date,
            Some("string") if name.contains("expression") || name.contains("formula") => Want::Expression,
            _ => Want::Text,
        }
    }
}

/// A number as the schema's type has it; a fraction is no integer.
fn plain(number: f64, property: &Value) -> Option<Value> {
    #[allow(clippy::cast_possible_truncation)] // saturates, and is compared
    let whole = number as i64;
    if (whole as f64 - number).abs() < f64::EPSILON {
        return Some(whole.into());
    }
    let integer = property.as_object().and_then(schema::kind) == Some("integer");
    Number::from_f64(number).filter(|_| !integer).map(Value::Number)
}

/// The words of a name like `days_between` that carry meaning.
fn content(name: &str) -> Vec<String> {
    text::words(&name.replace(['_', '-'], " ")).filter(|word| text::is_content(word)).collect()
}

#[cfg(test)]
mod tests;
