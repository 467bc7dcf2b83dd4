//! Tool results, and the calls that they answer.

use std::collections::HashSet;

use orch_manifests::Dialect;

use super::RequestError;
use crate::ir::{Message, Part};

/// Checks that every tool result of a request answers a call before it: providers refuse it otherwise, each in words of its
/// own. Responses are checked where they are read, because a call may have stayed with the provider.
///
/// # Errors
/// Names the field of the client's dialect in which the call is named.
pub(crate) fn check(client: Dialect, messages: &[Message]) -> Result<(), RequestError> {
    if client == Dialect::OpenAiResponses {
        return Ok(());
    }
    let mut called = HashSet::new();
    for (i, message) in messages.iter().enumerate() {
        for (j, part) in message.content.iter().enumerate() {
            match part {
                Part::ToolCall(call) => _ = called.insert(call.id.as_str()),
                // Of a kind that is not known here.
                Part::Opaque(part) => called.extend(part["id"].as_str()),
                Part::ToolResult(result) if !called.contains(result.call.as_str()) => {
                    let said = match client {
                        // The id may have been made here.
                        Dialect::GeminiGenerateContent => "answers no function call before it".to_owned(),
                        _ => format!("no tool call with the id {:?} stands before it", result.call),
                    };
                    return Err(RequestError { path: path(client, i, &message.content[..j]), message: said });
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Where the result behind these parts of the message with this number names its call.
fn path(client: Dialect, message: usize, before: &[Part]) -> String {
    let place = before.len();
    match client {
        Dialect::AnthropicMessages => format!("messages[{message}].content[{place}].tool_use_id"),
        Dialect::GeminiGenerateContent => format!("contents[{message}].parts[{place}].functionResponse"),
        Dialect::BedrockConverse => {
            // A block that marks the end of what is cached is part of the one before it.
            let place = place + before.iter().filter(|part| ends_a_cache(part)).count();
            format!("messages[{message}].content[{place}].toolResult.toolUseId")
        }
        Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::CohereChat | Dialect::OllamaChat => {
            format!("messages[{message}].tool_call_id")
        }
    }
}

fn ends_a_cache(part: &Part) -> bool {
    let extras = match part {
        Part::Text { extras, .. } => extras,
        Part::Image(image) => &image.extras,
        Part::ToolResult(result) => &result.extras,
        Part::ToolCall(_) | Part::Reasoning { .. } | Part::Refusal(_) | Part::Opaque(_) => return false,
    };
    extras.contains_key("cache_control")
}
