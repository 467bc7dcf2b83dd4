//! What is changed in a request's body for a provider that differs from others of its dialect, as the catalog says of it.
//!
//! It is done to the client's own bytes and to a translation alike. What is left out is listed; what the request cannot do
//! without has made the provider no candidate before.

mod messages;

use orch_manifests::{Dialect, Provider};
use serde_json::{Value, json};

use crate::edit::Document;
use crate::ir::Dropped;

/// Changes the body. `thinks`: whether the model thinks before it answers. Says whether anything was changed.
pub(crate) fn adapt(
    body: &mut Document,
    spoken: Dialect,
    provider: &Provider,
    thinks: bool,
    dropped: &mut Vec<Dropped>,
) -> Result<bool, serde_json::Error> {
    let quirks = &provider.quirks;
    let mut changed = false;
    for field in quirks.drops_in(spoken) {
        if body.has(field) {
            dropped.push(Dropped::new(field.clone(), format!("{} does not take it", provider.name)));
        }
        changed |= !body.take(field).is_empty();
    }
    if spoken == Dialect::OpenAiResponses && quirks.system_as_input {
        changed |= instructions_as_input(body)?;
    }
    if spoken != Dialect::OpenAiChat {
        return Ok(changed);
    }
    for (from, to) in &quirks.renames {
        for value in body.take(from) {
            changed = true;
            if !body.has(to) {
                body.add(to.clone(), value);
            } else if value.get() != "null" {
                dropped.push(Dropped::new(from.clone(), format!("`{to}` is there as well, and was sent")));
            }
        }
    }
    let fits = quirks.reasoning.is_none() && !quirks.strict_messages;
    if let (false, Some(Value::Array(mut all))) = (fits, body.get("messages")) {
        let before = all.clone();
        if let Some(field) = quirks.reasoning {
            messages::thoughts(&mut all, field, thinks, &provider.name, dropped);
        }
        if quirks.strict_messages {
            messages::strict(&mut all, &provider.name, dropped);
        }
        if all != before {
            body.set("messages", &all)?;
            changed = true;
        }
    }
    Ok(changed)
}

/// Instructions as the first message of the input.
fn instructions_as_input(body: &mut Document) -> Result<bool, serde_json::Error> {
    let Some(Value::String(instructions)) = body.get("instructions") else { return Ok(false) };
    let mut input = match body.get("input") {
        Some(Value::Array(items)) => items,
        Some(Value::String(text)) => vec![json!({ "type": "message", "role": "user", "content": text })],
        _ => Vec::new(),
    };
    input.insert(0, json!({ "type": "message", "role": "system", "content": instructions }));
    body.remove("instructions");
    body.set("input", &input)?;
    Ok(true)
}

#[cfg(test)]
mod tests;
