//! Which Claude a model is, by its name: the generations differ in what they take.

use serde_json::{Map, Value};

use crate::ir::Dropped;

/// The version that a name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::dialect) struct Generation {
    major: u32,
    minor: u32,
}

/// From here on a temperature and `top_p` are not taken together: Opus 4.1, and what came after it.
const ONE_OF_TWO: Generation = Generation { major: 4, minor: 1 };

/// From here on Bedrock keeps a cache for an hour when it is asked to: the 4.5 generation, and what came after it.
const KEEPS: Generation = Generation { major: 4, minor: 5 };

/// From here on the model can think: Sonnet 3.7.
const THINKS: Generation = Generation { major: 3, minor: 7 };

/// From here on an answer may be 32,000 tokens long: the fourth generation.
const MUCH: Generation = Generation { major: 4, minor: 0 };

/// From here on the model is told in words how hard to work, and settles for how long it thinks about it: the 4.6 generation.
const IN_WORDS: Generation = Generation { major: 4, minor: 6 };

/// From here on the model settles by itself how it samples and how long it thinks: Opus 4.7, and what came after it.
const BY_ITSELF: Generation = Generation { major: 4, minor: 7 };

/// From here on the model thinks unless it is told not to: the fifth generation.
const UNASKED: Generation = Generation { major: 5, minor: 0 };

/// From here on Opus thinks whatever it is told, and Sonnet is told in another word: 5.5.
const BOUND: Generation = Generation { major: 5, minor: 5 };

impl Generation {
    /// Reads `claude-opus-4-7`, `us.anthropic.claude-sonnet-4-5-20250929-v1:0`, `claude-3-5-haiku-20241022`. `None` for
    /// names that say no version.
    pub(in crate::dialect) fn of(model: &str) -> Option<Generation> {
        let (_, rest) = model.split_once("claude-")?;
        let words = rest.split(['-', '.', '@', ':']);
        // Dates are numbers as well.
        let mut numbers = words
            .map(|word| word.parse::<u32>().ok().filter(|number| *number < 100))
            .skip_while(Option::is_none);
        let major = numbers.next().flatten()?;
        Some(Generation { major, minor: numbers.next().flatten().unwrap_or(0) })
    }

    /// Whether its cache at Bedrock may be kept for an hour.
    pub(in crate::dialect) fn keeps_for_an_hour(self) -> bool {
        self >= KEEPS
    }

    /// Whether it can think.
    pub(in crate::dialect) fn can_think(self) -> bool {
        self >= THINKS
    }

    /// Whether all of its models give 32,000 tokens at least.
    pub(in crate::dialect) fn writes_much(self) -> bool {
        self >= MUCH
    }

    /// Whether it is told in words how hard to work.
    pub(in crate::dialect) fn is_told_in_words(self) -> bool {
        self >= IN_WORDS
    }

    /// Whether it refuses a budget for its thoughts, and bounds on how it samples.
    pub(in crate::dialect) fn settles_by_itself(self) -> bool {
        self >= BY_ITSELF
    }

    /// Whether it thinks where nothing is said of thoughts.
    pub(in crate::dialect) fn thinks_unasked(self) -> bool {
        self >= UNASKED
    }

    /// Whether the larger models of it cannot simply be told not to think.
    pub(in crate::dialect) fn is_bound_to_think(self) -> bool {
        self >= BOUND
    }
}

/// Takes out the bounds on sampling that the model refuses. `top_p`: the name of that bound here.
pub(in crate::dialect) fn fit_sampling(
    model: &str,
    fields: &mut Map<String, Value>,
    top_p: &str,
    dropped: &mut Vec<Dropped>,
) {
    let Some(generation) = Generation::of(model).filter(|generation| *generation >= ONE_OF_TWO) else {
        return;
    };
    if generation.settles_by_itself() {
        for (key, field) in [("temperature", "temperature"), (top_p, "top_p"), ("top_k", "top_k")] {
            leave_out(fields, key, field, "this model takes none", dropped);
        }
        return;
    }
    let number = |key: &str| fields.get(key).and_then(Value::as_f64);
    let (key, field, reason) = match (number("temperature"), number(top_p)) {
        (Some(1.0), Some(_)) => ("temperature", "temperature", "this model takes it or top_p"),
        (Some(_), Some(_)) => (top_p, "top_p", "this model takes it or a temperature, which was sent"),
        _ => return,
    };
    leave_out(fields, key, field, reason, dropped);
}

fn leave_out(
    fields: &mut Map<String, Value>,
    key: &str,
    field: &'static str,
    reason: &'static str,
    dropped: &mut Vec<Dropped>,
) {
    // One is how a model samples that is told nothing.
    let asked = fields.shift_remove(key).is_some_and(|value| field == "top_k" || value.as_f64() != Some(1.0));
    if asked {
        dropped.push(Dropped::new(field, reason));
    }
}

/// The sequences that are taken: of nothing but white space none is, whatever the generation.
pub(in crate::dialect) fn stop_sequences<'r>(stop: &'r [String], dropped: &mut Vec<Dropped>) -> Vec<&'r str> {
    let taken: Vec<&str> = stop.iter().map(String::as_str).filter(|text| !text.trim().is_empty()).collect();
    if taken.len() < stop.len() {
        dropped.push(Dropped::new("stop", "sequences of nothing but white space are not taken"));
    }
    taken
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_says_the_version() {
        for (model, version) in [
            ("claude-opus-4-7", Some((4, 7))),
            ("claude-opus-4-20250514", Some((4, 0))),
            ("claude-sonnet-4-5-20250929", Some((4, 5))),
            ("us.anthropic.claude-haiku-4-5-20251001-v1:0", Some((4, 5))),
            ("anthropic.claude-sonnet-4-v1:0", Some((4, 0))),
            ("claude-3-5-sonnet-20241022", Some((3, 5))),
            ("claude-3-haiku-20240307", Some((3, 0))),
            ("anthropic/claude-opus-4.8-fast", Some((4, 8))),
            ("claude-fable-5", Some((5, 0))),
            ("claude-latest", None),
            ("my-deployment", None),
        ] {
            let wanted = version.map(|(major, minor)| Generation { major, minor });
            assert_eq!(Generation::of(model), wanted, "{model}");
        }
    }

    #[test]
    fn bounds_on_sampling_are_those_that_the_model_takes() {
        let asked = json!({ "temperature": 0.2, "top_p": 0.9, "top_k": 1, "model": "m" });
        let neutral = json!({ "temperature": 1.0, "top_p": 1, "model": "m" });
        for (model, asked, sent, left_out) in [
            ("m", &asked, asked.clone(), vec![]),
            ("claude-3-5-sonnet-20241022", &asked, asked.clone(), vec![]),
            (
                "claude-sonnet-4-5",
                &asked,
                json!({ "temperature": 0.2, "top_k": 1, "model": "m" }),
                vec!["top_p"],
            ),
            ("claude-sonnet-4-5", &neutral, json!({ "top_p": 1, "model": "m" }), vec![]),
            ("claude-opus-4-8", &asked, json!({ "model": "m" }), vec!["temperature", "top_p", "top_k"]),
            ("claude-opus-4-8", &neutral, json!({ "model": "m" }), vec![]),
        ] {
            let mut fields = asked.as_object().unwrap().clone();
            let mut dropped = Vec::new();
            fit_sampling(model, &mut fields, "top_p", &mut dropped);
            assert_eq!(Value::Object(fields), sent, "{model}");
            let fields: Vec<_> = dropped.iter().map(|dropped| dropped.field.as_str()).collect();
            assert_eq!(fields, left_out, "{model}");
        }
    }
}
