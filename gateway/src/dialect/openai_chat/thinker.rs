//! Which of OpenAI's models think, by their names, and what they take: they settle by themselves how they sample, and each
//! generation knows other words for how hard to think.

use serde_json::{Map, Value, json};

use super::super::{Style, effort};
use crate::ir::{ChatRequest, Dropped, ReasoningWish};

/// A generation of models that think before they answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::dialect) enum Thinker {
    /// `o1`, `o3`, `o4`.
    O,
    /// `gpt-5` and what came after it, by its version.
    Gpt {
        /// 5 of `gpt-5.2`.
        major: u32,
        /// 2 of `gpt-5.2`.
        minor: u32,
    },
}

/// From here on a model may be told not to think, and takes what bounds its sampling then.
const MAY_REST: Thinker = Thinker::Gpt { major: 5, minor: 1 };

/// From here on there is a word above `high`.
const ABOVE_HIGH: Thinker = Thinker::Gpt { major: 5, minor: 2 };

/// What those that think refuse, as chat completions call it; of a number, unless it is what they do anyway.
const REFUSED: [(&str, Option<f64>); 5] = [
    ("temperature", Some(1.0)),
    ("top_p", Some(1.0)),
    ("frequency_penalty", Some(0.0)),
    ("presence_penalty", Some(0.0)),
    ("stop", None),
];

impl Thinker {
    /// Reads `gpt-5.2-codex`, `o3-mini`, `openai/gpt-5`, `gpt-5-2025-08-07`. `None` for models of others, and for those that do
    /// not think: `gpt-4o`, `gpt-5-chat-latest`.
    pub(in crate::dialect) fn of(model: &str) -> Option<Thinker> {
        let name = model.rsplit('/').next().unwrap_or(model);
        let series = name.split('-').next().unwrap_or(name);
        if let Some(number) = series.strip_prefix('o') {
            return number.parse::<u32>().is_ok().then_some(Thinker::O);
        }
        let rest = name.strip_prefix("gpt-")?;
        let (version, variant) = rest.split_once('-').unwrap_or((rest, ""));
        let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
        let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
        let thinks = major >= 5 && !(minor == 0 && variant.starts_with("chat"));
        thinks.then_some(Thinker::Gpt { major, minor })
    }

    /// The word for how hard to think that this generation knows, nearest to the one that was asked for. Words of nobody's are
    /// the provider's to judge.
    fn word(self, asked: &str) -> &str {
        match asked {
            "none" if self >= MAY_REST => "none",
            "none" | "minimal" if self >= (Thinker::Gpt { major: 5, minor: 0 }) && self < MAY_REST => {
                "minimal"
            }
            "none" | "minimal" => "low",
            "xhigh" | "max" if self >= ABOVE_HIGH => "xhigh",
            "xhigh" | "max" => "high",
            other => other,
        }
    }
}

/// The word for how hard to think that is sent, if any.
pub(in crate::dialect) fn effort<'r>(
    request: &'r ChatRequest,
    style: &Style,
    dropped: &mut Vec<Dropped>,
) -> Option<&'r str> {
    let thinker = Thinker::of(&request.model);
    let thinks = thinker.is_some() || style.thinks == Some(true);
    match request.reasoning.as_ref()? {
        ReasoningWish::Effort(_) if style.thinks == Some(false) && thinker.is_none() => {
            dropped.push(Dropped::new("reasoning_effort", "this model does not think"));
            None
        }
        ReasoningWish::Effort(asked) => {
            let sent = match thinker {
                Some(thinker) => thinker.word(asked),
                // Claude's word alone.
                None if asked == "max" => "high",
                None => asked,
            };
            if sent != asked {
                dropped.push(Dropped::new(
                    "reasoning_effort",
                    format!("this model knows no {asked}; {sent} was sent"),
                ));
            }
            Some(sent)
        }
        ReasoningWish::Budget(budget) if thinks => {
            let sent = effort::word_for(*budget);
            dropped.push(Dropped::new(
                "thinking.budget_tokens",
                format!("this model is told in words how hard to think; {sent} was sent"),
            ));
            Some(sent)
        }
        ReasoningWish::Budget(_) => {
            dropped.push(Dropped::new("thinking", "a token budget for reasoning has no counterpart"));
            None
        }
        // Those that are made for one thing think about it whatever they are told.
        ReasoningWish::Off
            if thinker >= Some(MAY_REST)
                && !["-codex", "-pro"].iter().any(|kind| request.model.contains(kind)) =>
        {
            Some("none")
        }
        // It does not think.
        ReasoningWish::Off if !thinks && style.thinks == Some(false) => None,
        ReasoningWish::Off => {
            dropped.push(Dropped::new("thinking", "not every model takes that reasoning is off"));
            None
        }
    }
}

/// Takes out what a model that thinks refuses. `effort`: how hard it is told to think.
pub(in crate::dialect) fn fit_sampling(
    model: &str,
    effort: Option<&str>,
    body: &mut Map<String, Value>,
    dropped: &mut Vec<Dropped>,
) {
    if Thinker::of(model).is_none() || effort == Some("none") {
        return;
    }
    for (key, usual) in REFUSED {
        if let Some(value) = body.shift_remove(key)
            && (usual.is_none() || value.as_f64() != usual)
        {
            dropped.push(Dropped::new(key, "a model that thinks takes none"));
        }
    }
}

/// The longest name of an end user that is taken.
const LONGEST_USER: usize = 64;

/// Who the end user is, in a form that is taken: a longer name is told apart from others by its hash.
pub(in crate::dialect) fn user(name: &str, dropped: &mut Vec<Dropped>) -> Value {
    if name.chars().count() <= LONGEST_USER {
        return json!(name);
    }
    let hash = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    dropped.push(Dropped::new("user", format!("{LONGEST_USER} characters are taken; its SHA-256 was sent")));
    json!(data_encoding::HEXLOWER.encode(hash.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpt(major: u32, minor: u32) -> Option<Thinker> {
        Some(Thinker::Gpt { major, minor })
    }

    #[test]
    fn a_name_says_the_generation() {
        for (model, generation) in [
            ("o1", Some(Thinker::O)),
            ("o3-mini", Some(Thinker::O)),
            ("openai/o4-mini", Some(Thinker::O)),
            ("gpt-5", gpt(5, 0)),
            ("gpt-5-2025-08-07", gpt(5, 0)),
            ("gpt-5-mini", gpt(5, 0)),
            ("openai/gpt-5.2-codex", gpt(5, 2)),
            ("gpt-5.1-chat-latest", gpt(5, 1)),
            ("gpt-6", gpt(6, 0)),
            ("gpt-5-chat-latest", None),
            ("gpt-4o", None),
            ("gpt-4.1", None),
            ("gpt-oss-120b", None),
            ("olmo-3", None),
            ("claude-opus-4-8", None),
        ] {
            assert_eq!(Thinker::of(model), generation, "{model}");
        }
    }

    #[test]
    fn words_are_those_that_the_generation_knows() {
        for (model, asked, sent) in [
            ("o3", "none", "low"),
            ("o3", "minimal", "low"),
            ("o3", "max", "high"),
            ("gpt-5", "none", "minimal"),
            ("gpt-5", "minimal", "minimal"),
            ("gpt-5", "xhigh", "high"),
            ("gpt-5.1", "none", "none"),
            ("gpt-5.1", "minimal", "low"),
            ("gpt-5.1", "xhigh", "high"),
            ("gpt-5.4", "max", "xhigh"),
            ("gpt-5.4", "medium", "medium"),
            ("gpt-5.4", "enormous", "enormous"),
        ] {
            assert_eq!(Thinker::of(model).unwrap().word(asked), sent, "{model} {asked}");
        }
    }
}
