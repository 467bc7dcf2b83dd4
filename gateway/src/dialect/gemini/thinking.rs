//! How hard a model should think: the generations are told in different ways.

use serde_json::{Value, json};

use super::super::effort;
use crate::ir::{Dropped, ReasoningWish};

/// The largest budget that every thinking model of the 2.5 generation takes.
const MOST: u64 = 24_576;

/// How a model is told.
#[derive(Clone, Copy, PartialEq)]
enum Told {
    /// It does not think.
    Not,
    /// By a number of tokens.
    Budget,
    /// By a level; it always thinks.
    Level,
}

/// 2 of `gemini-2.5-pro`; `None` of names that move.
fn generation(model: &str) -> Option<u32> {
    model.strip_prefix("gemini-")?.split(['-', '.']).next()?.parse().ok()
}

fn told(model: &str) -> Told {
    match generation(model) {
        Some(..=1) => Told::Not,
        Some(2) if model.starts_with("gemini-2.0") => Told::Not,
        Some(3..) => Told::Level,
        None if model.starts_with("gemma") => Told::Not,
        // 2.5, and names that move: budgets are taken by every generation that thinks.
        Some(_) | None => Told::Budget,
    }
}

/// Whether the model refuses its own earlier tool calls when they come back without a signature.
pub(super) fn wants_signatures(model: &str) -> bool {
    told(model) == Told::Level
}

/// Whether the model calls functions while its answer has to be JSON: those before the third generation refuse to be told both.
pub(in crate::dialect) fn calls_beside_json(model: &str) -> bool {
    generation(model).is_none_or(|generation| generation >= 3)
}

/// A `thinkingConfig` for the wish, as far as the model can be told.
pub(super) fn config(model: &str, wish: &ReasoningWish, dropped: &mut Vec<Dropped>) -> Option<Value> {
    match (wish, told(model)) {
        (ReasoningWish::Off, Told::Not) => None,
        (ReasoningWish::Effort(_), Told::Not) => {
            dropped.push(Dropped::new("reasoning_effort", "this model does not think"));
            None
        }
        (ReasoningWish::Budget(_), Told::Not) => {
            dropped.push(Dropped::new("thinking", "this model does not think"));
            None
        }
        (ReasoningWish::Off, Told::Budget) if !model.starts_with("gemini-2.5-pro") => {
            Some(json!({ "thinkingBudget": 0 }))
        }
        (ReasoningWish::Off, _) => {
            dropped.push(Dropped::new("thinking", "this model always thinks"));
            None
        }
        (ReasoningWish::Budget(budget), _) => {
            if *budget > MOST {
                dropped.push(Dropped::new("thinking.budget_tokens", format!("{MOST} were sent")));
            }
            // Who sets a budget in this way expects to see the thoughts.
            Some(json!({ "thinkingBudget": budget.min(&MOST), "includeThoughts": true }))
        }
        (ReasoningWish::Effort(effort), told) => by_effort(model, effort, told, dropped),
    }
}

/// OpenAI's words, as Google's own OpenAI-compatible endpoint understands them.
fn by_effort(model: &str, effort: &str, told: Told, dropped: &mut Vec<Dropped>) -> Option<Value> {
    let level = |level: &str| Some(json!({ "thinkingLevel": level }));
    let budget = |budget: u64| Some(json!({ "thinkingBudget": budget }));
    match (effort, told) {
        ("none", Told::Budget) => return config(model, &ReasoningWish::Off, dropped),
        ("none", _) => dropped.push(Dropped::new("reasoning_effort", "this model always thinks")),
        ("minimal", Told::Level) if model.contains("flash") => return level("minimal"),
        ("minimal" | "low", Told::Level) => return level("low"),
        ("medium", Told::Level) if model.starts_with("gemini-3-pro") => return level("high"),
        ("medium", Told::Level) => return level("medium"),
        ("high" | "xhigh" | "max", Told::Level) => return level("high"),
        (word, Told::Budget) if effort::budget_of(word).is_some() => {
            return effort::budget_of(word).and_then(|tokens| budget(tokens.min(MOST)));
        }
        _ => {
            dropped
                .push(Dropped::new("reasoning_effort", "Gemini knows none, minimal, low, medium and high"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_generation_is_told_in_its_own_way() {
        let effort = |word: &str| ReasoningWish::Effort(word.into());
        let rows = [
            ("gemini-2.0-flash", effort("high"), None, 1),
            ("gemini-2.0-flash", ReasoningWish::Off, None, 0),
            ("gemini-1.5-pro", ReasoningWish::Budget(5), None, 1),
            ("gemma-3-27b-it", effort("low"), None, 1),
            ("gemini-2.5-flash", effort("minimal"), Some(json!({"thinkingBudget": 1024})), 0),
            ("gemini-2.5-flash", effort("high"), Some(json!({"thinkingBudget": 24576})), 0),
            ("gemini-2.5-flash", effort("none"), Some(json!({"thinkingBudget": 0})), 0),
            ("gemini-2.5-pro", effort("none"), None, 1),
            ("gemini-2.5-flash", effort("enormous"), None, 1),
            (
                "gemini-2.5-flash",
                ReasoningWish::Budget(100_000),
                Some(json!({"thinkingBudget": 24576, "includeThoughts": true})),
                1,
            ),
            ("gemini-flash-latest", effort("medium"), Some(json!({"thinkingBudget": 8192})), 0),
            ("gemini-3-flash-preview", effort("minimal"), Some(json!({"thinkingLevel": "minimal"})), 0),
            ("gemini-3-pro-preview", effort("medium"), Some(json!({"thinkingLevel": "high"})), 0),
            ("gemini-3.1-pro-preview", effort("medium"), Some(json!({"thinkingLevel": "medium"})), 0),
            ("gemini-3.5-flash", ReasoningWish::Off, None, 1),
            (
                "gemini-3.5-flash",
                ReasoningWish::Budget(512),
                Some(json!({"thinkingBudget": 512, "includeThoughts": true})),
                0,
            ),
        ];
        for (model, wish, wanted, left_out) in rows {
            let mut dropped = Vec::new();
            assert_eq!(config(model, &wish, &mut dropped), wanted, "{model} {wish:?}");
            assert_eq!(dropped.len(), left_out, "{model} {wish:?}: {dropped:?}");
        }
        assert!(wants_signatures("gemini-3-pro-preview") && !wants_signatures("gemini-2.5-pro"));
    }
}
