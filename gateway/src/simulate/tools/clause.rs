//! A piece of a question, and the values that stand in it.

use crate::simulate::text;

/// What parts two clauses of a sentence, and whether the second waits for the results of the first. Of two that begin
/// at the same place the first listed is meant.
const SEPARATORS: [(&str, bool); 5] =
    [(", and then ", true), (", then ", true), (" and then ", true), (", and ", false), ("; ", false)];
/// What a clause may begin with when it waits for the results before it.
const SEQUELS: [&str; 4] = ["then ", "then, ", "after that", "finally"];

/// One clause.
#[derive(Debug, PartialEq)]
pub(super) struct Clause {
    pub(super) text: String,
    /// Words as [`text::words`] gives them.
    pub(super) words: Vec<String>,
    /// `YYYY-MM-DD`, in their order.
    pub(super) dates: Vec<String>,
    /// Numbers that are no part of a date, in their order.
    pub(super) numbers: Vec<f64>,
    /// The longest arithmetic expression: at least one operator between two numbers.
    pub(super) expression: Option<String>,
}

impl Clause {
    pub(super) fn of(text: &str) -> Clause {
        let (dates, rest) = without_dates(text);
        // An identifier is one word, and none that a person would say.
        let said: Vec<&str> = text.split_whitespace().filter(|token| !token.contains('_')).collect();
        Clause {
            words: text::words(&said.join(" ")).collect(),
            dates,
            numbers: numbers(&rest),
            expression: expression(&rest),
            text: text.to_owned(),
        }
    }

    /// Those of `among` that the clause names: first what follows a number ("how many metres are 10 miles" is about
    /// miles), then in their order.
    pub(super) fn choose<'a>(&self, among: &[&'a str]) -> Vec<&'a str> {
        let mut found: Vec<(bool, usize, &str)> = Vec::new();
        for choice in among {
            let wanted: Vec<String> = text::words(choice).collect();
            let place = self.words.windows(wanted.len().max(1)).position(|window| window == wanted);
            if let Some(at) = place {
                let counted = at > 0 && self.words[at - 1].starts_with(|c: char| c.is_ascii_digit());
                found.push((!counted, at, choice));
            }
        }
        found.sort_unstable();
        found.into_iter().map(|(_, _, choice)| choice).collect()
    }
}

/// The clauses of a sentence, each with whether it waits for the results of what came before.
pub(super) fn split(sentence: &str) -> Vec<(bool, &str)> {
    // Of ASCII letters only, so that places in one are places in the other.
    let lower = sentence.to_ascii_lowercase();
    let mut clauses = Vec::new();
    let mut start = 0;
    let mut waits = SEQUELS.iter().any(|sequel| lower.starts_with(sequel));
    loop {
        let found =
            SEPARATORS.iter().filter_map(|(mark, then)| Some((lower[start..].find(mark)?, mark, then)));
        let Some((at, mark, then)) = found.min_by_key(|(at, ..)| *at) else { break };
        clauses.push((waits, &sentence[start..start + at]));
        start += at + mark.len();
        waits = *then;
    }
    clauses.push((waits, &sentence[start..]));
    clauses
}

/// The dates of a text, and the text with them blotted out.
fn without_dates(text: &str) -> (Vec<String>, String) {
    const SHAPE: &[u8] = b"dddd-dd-dd";
    let (mut dates, mut rest) = (Vec::new(), String::new());
    let mut left = text;
    while let Some(first) = left.chars().next() {
        let fits = left.len() >= SHAPE.len()
            && left.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
                b'd' => byte.is_ascii_digit(),
                _ => byte == *shape,
            });
        if fits && !rest.ends_with(|c: char| c.is_ascii_digit()) {
            dates.push(left[..SHAPE.len()].to_owned());
            rest.push('|');
            left = &left[SHAPE.len()..];
        } else {
            rest.push(first);
            left = &left[first.len_utf8()..];
        }
    }
    (dates, rest)
}

fn numbers(text: &str) -> Vec<f64> {
    let mut numbers = Vec::new();
    let number = |c: char| c.is_ascii_digit() || c == '.';
    for (at, run) in runs(text, number) {
        // A minus belongs to the number when nothing that it could be taken from stands before it.
        let before = text[..at].strip_suffix('-').map(str::trim_end);
        let negative = before.is_some_and(|b| !b.ends_with(|c: char| c.is_alphanumeric() || c == ')'));
        if let Ok(value) = run.trim_matches('.').parse::<f64>() {
            numbers.push(if negative { -value } else { value });
        }
    }
    numbers
}

fn expression(text: &str) -> Option<String> {
    let part = |c: char| c.is_ascii_digit() || "+-*/^%(). ".contains(c);
    let operator = |c: char| "+-*/^%".contains(c);
    let candidates = runs(text, part).into_iter().map(|(_, run)| {
        run.trim_matches(' ')
            .trim_end_matches(['.', ' ', '+', '-', '*', '/', '^'])
            .trim_start_matches(['.', ')', ' '])
    });
    let computes = |run: &&str| {
        let inner = run.trim_start_matches(['-', '(', ' ']);
        inner.split(operator).filter(|side| side.contains(|c: char| c.is_ascii_digit())).count() > 1
    };
    candidates.filter(computes).max_by_key(|run| run.len()).map(str::to_owned)
}

/// The longest runs of such characters, with the places where they begin.
fn runs(text: &str, wanted: impl Fn(char) -> bool) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), '\0')]) {
        match (start, wanted(c)) {
            (None, true) => start = Some(at),
            (Some(from), false) => {
                found.push((from, &text[from..at]));
                start = None;
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_apart() {
        let clause = Clause::of("From 2026-01-15 add 90 days, -4.5 and 12 * (7 + 5).");
        assert_eq!(clause.dates, ["2026-01-15"]);
        assert_eq!(clause.numbers, [90.0, -4.5, 12.0, 7.0, 5.0]);
        assert_eq!(clause.expression.as_deref(), Some("12 * (7 + 5)"));
        for (text, expression) in [
            ("What is 2+2?", Some("2+2")),
            ("What is 2^10 / 4.", Some("2^10 / 4")),
            ("It is -3.", None),
            ("See 3. and go", None),
            ("2026-01-15", None),
            ("(1 - 2) * -3", Some("(1 - 2) * -3")),
            ("no numbers at all - none", None),
        ] {
            assert_eq!(Clause::of(text).expression.as_deref(), expression, "{text}");
        }
    }

    #[test]
    fn what_is_counted_is_chosen_first() {
        let units = ["metres", "miles", "degrees celsius"];
        assert_eq!(Clause::of("How many metres are 10 miles?").choose(&units), ["miles", "metres"]);
        assert_eq!(Clause::of("Convert metres to miles").choose(&units), ["metres", "miles"]);
        assert_eq!(Clause::of("5 degrees Celsius").choose(&units), ["degrees celsius"]);
        assert_eq!(Clause::of("").choose(&units), Vec::<&str>::new());
    }

    #[test]
    fn clauses_are_cut_at_commas_and_wait_after_then() {
        assert_eq!(split("Add 1 and 2"), [(false, "Add 1 and 2")]);
        assert_eq!(
            split("Add 1 and 2, and double it; halve it, then stop and then go"),
            [(false, "Add 1 and 2"), (false, "double it"), (false, "halve it"), (true, "stop"), (true, "go")]
        );
        assert_eq!(split("Then Ünder it"), [(true, "Then Ünder it")]);
    }
}
