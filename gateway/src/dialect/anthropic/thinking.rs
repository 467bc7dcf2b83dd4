//! Whether Claude may think about a request that was made for another dialect: at Anthropic's own door and at Bedrock's.

use serde_json::{Map, Value, json};

use super::super::effort;
use super::generation::Generation;
use crate::ir::{ChatRequest, Dropped, Part, Role, ToolChoice};

/// The least budget that is taken.
const LEAST: u64 = 1024;

/// What is sent for a wish of `wanted` tokens of thoughts, where the whole answer may have `most`. What stands in the way,
/// and what is changed, is listed.
pub(in crate::dialect) fn asked(
    request: &ChatRequest,
    wanted: u64,
    most: u64,
    dropped: &mut Vec<Dropped>,
) -> Option<Value> {
    let by_itself = Generation::of(&request.model).is_some_and(Generation::settles_by_itself);
    let reason = if is_forced(request) {
        "a tool that is forced is called without thinking"
    } else if by_itself {
        // It goes on without its earlier thoughts as well.
        dropped
            .push(Dropped::new("thinking.budget_tokens", "this model settles by itself how long it thinks"));
        // Who sets a budget expects to see the thoughts.
        return Some(json!({ "type": "adaptive", "display": "summarized" }));
    } else if goes_on(request) {
        "the calls that are answered here come without the signed thoughts that led to them"
    } else if most <= LEAST {
        "the bound on the answer leaves no room: 1024 tokens of thoughts are the least"
    } else {
        // A budget that would leave nothing for the answer is half of all.
        let sent = if wanted < most { wanted } else { most / 2 }.max(LEAST);
        if sent != wanted {
            dropped.push(Dropped::new("thinking.budget_tokens", format!("{sent} were sent")));
        }
        return Some(json!({ "type": "enabled", "budget_tokens": sent }));
    };
    dropped.push(Dropped::new("thinking", reason));
    None
}

/// How a model is told to think and to work.
#[derive(Debug, Default, PartialEq)]
pub(in crate::dialect) struct Told {
    /// `thinking`.
    pub(in crate::dialect) thinking: Option<Value>,
    /// `output_config.effort`.
    pub(in crate::dialect) effort: Option<&'static str>,
}

/// What is sent for a wish in words, where the whole answer may have `most` tokens. What stands in the way, and what is
/// changed, is listed.
pub(in crate::dialect) fn told(
    request: &ChatRequest,
    wish: &str,
    most: u64,
    dropped: &mut Vec<Dropped>,
) -> Told {
    const FIELD: &str = "reasoning_effort";
    let mut lost = |reason: String| dropped.push(Dropped::new(FIELD, reason));
    let Some(generation) = Generation::of(&request.model) else {
        lost("it is not known how this model is told how hard to think".to_owned());
        return Told::default();
    };
    if wish == "none" {
        return Told { thinking: off_where_needed(&request.model, dropped), effort: None };
    }
    if generation.is_told_in_words() {
        let of_opus = request.model.contains("opus");
        let word = match wish {
            "minimal" | "low" => "low",
            "medium" => "medium",
            "high" => "high",
            "xhigh" if of_opus && generation.settles_by_itself() => "xhigh",
            "max" if of_opus => "max",
            "xhigh" | "max" => "high",
            _ => {
                lost("Claude knows low, medium, high, xhigh and max".to_owned());
                return Told::default();
            }
        };
        if word != wish {
            lost(format!("this model knows no {wish}; {word} was sent"));
        }
        let thinking = (!is_forced(request)).then(|| json!({ "type": "adaptive" }));
        return Told { thinking, effort: Some(word) };
    }
    match effort::budget_of(wish) {
        _ if !generation.can_think() => lost("this model does not think".to_owned()),
        None => lost("it stands for no number of tokens, which is what this model is told".to_owned()),
        Some(_) if wish == "minimal" => {
            lost("this model was not told to think: 1024 tokens are the least".to_owned());
        }
        Some(budget) => return Told { thinking: asked(request, budget, most, dropped), effort: None },
    }
    Told::default()
}

fn is_forced(request: &ChatRequest) -> bool {
    matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_)))
}

/// What tells a model not to think that would think if nothing was said: those before the fifth generation would not.
pub(in crate::dialect) fn off_where_needed(model: &str, dropped: &mut Vec<Dropped>) -> Option<Value> {
    let unasked = Generation::of(model).is_some_and(Generation::thinks_unasked);
    unasked.then(|| off(model, dropped)).flatten()
}

/// What tells the model not to think; `None`, which is listed, where it thinks whatever it is told.
pub(in crate::dialect) fn off(model: &str, dropped: &mut Vec<Dropped>) -> Option<Value> {
    let bound = Generation::of(model).is_some_and(Generation::is_bound_to_think);
    if model.contains("claude-fable") || model.contains("claude-mythos") || (bound && model.contains("opus"))
    {
        dropped.push(Dropped::new("thinking", "this model always thinks"));
        return None;
    }
    let kind = if bound && model.contains("sonnet") { "between_tools" } else { "disabled" };
    Some(json!({ "type": kind }))
}

/// Whether the last that the model said were calls: it has not finished its turn, and its thoughts have to come back.
fn goes_on(request: &ChatRequest) -> bool {
    let said = request.messages.iter().rfind(|message| message.role == Role::Assistant);
    said.is_some_and(|message| message.content.iter().any(|part| matches!(part, Part::ToolCall(_))))
}

/// Takes out what is refused beside thinking. `top_p`: the name of that bound here.
pub(in crate::dialect) fn alone(fields: &mut Map<String, Value>, top_p: &str, dropped: &mut Vec<Dropped>) {
    let number = |fields: &Map<String, Value>, key: &str| fields.get(key).and_then(Value::as_f64);
    let refused = [
        ("temperature", "temperature", number(fields, "temperature").is_some_and(|t| t < 1.0)),
        ("top_k", "top_k", fields.contains_key("top_k")),
        (top_p, "top_p", number(fields, top_p).is_some_and(|p| p < 0.95)),
    ];
    for (key, field, _) in refused.into_iter().filter(|(.., refused)| *refused) {
        fields.shift_remove(key);
        dropped.push(Dropped::new(field, "it is not taken beside thinking"));
    }
}
