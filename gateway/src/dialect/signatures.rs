//! Signatures of thoughts, which mean something to the provider that made them and to nobody else. A conversation may go from
//! one provider to another, though, and back.

use orch_manifests::Dialect;
use serde_json::{Value, json};

use crate::edit::Document;
use crate::ir::{ChatRequest, ChatResponse, Dropped, Part};

/// Whether providers of the client's dialect, to whom it sends everything back, know the signatures of an answer: Claude's are
/// the same at Anthropic's door and at Bedrock's.
pub(crate) fn are_known(client: Dialect, spoken: Dialect) -> bool {
    let claudes = |dialect: Dialect| matches!(dialect, Dialect::AnthropicMessages | Dialect::BedrockConverse);
    client == spoken || (claudes(client) && claudes(spoken))
}

/// Takes the signatures of its thoughts out of an answer, and thoughts that are nothing else. Whether there were any.
pub(crate) fn take(answer: &mut ChatResponse) -> bool {
    let mut any = false;
    answer.content.retain_mut(|part| match part {
        Part::Reasoning { text, signature } => {
            any |= signature.take().is_some();
            !text.is_empty()
        }
        _ => true,
    });
    any
}

/// A signature as a piece of an answer that does not reach the client.
pub(crate) fn lost() -> Value {
    json!({ "type": "signature" })
}

/// Takes thoughts without a signature out of a request that goes to Claude as the client wrote it: they are of another
/// provider, which answered before, and Claude refuses them, with the whole conversation. Says whether there were any.
pub(crate) fn drop_unsigned(
    body: &mut Document,
    request: &ChatRequest,
    dropped: &mut Vec<Dropped>,
) -> Result<bool, serde_json::Error> {
    let unsigned = |part: &Part| match part {
        Part::Reasoning { signature, .. } => signature.as_ref().is_none_or(String::is_empty),
        _ => false,
    };
    if !request.messages.iter().any(|message| message.content.iter().any(unsigned)) {
        return Ok(false);
    }
    let Some(Value::Array(mut messages)) = body.get("messages") else { return Ok(false) };
    let last = messages.iter().rposition(is_models);
    let mut goes_on = false;
    for (i, message) in messages.iter_mut().enumerate() {
        let Some(Value::Array(blocks)) = message.get_mut("content") else { continue };
        let mut places = 0_usize..;
        let before = blocks.len();
        blocks.retain(|block| {
            let place = places.next().unwrap_or_default();
            let unsigned = is_unsigned(block);
            if unsigned {
                let reason =
                    "these thoughts are of another provider: Claude takes its own only, which are signed";
                dropped.push(Dropped::new(format!("messages[{i}].content[{place}]"), reason));
            }
            !unsigned
        });
        let calls = || blocks.iter().any(is_call);
        goes_on |= blocks.len() < before && last == Some(i) && calls();
    }
    // Nothing is left of a turn of thoughts alone.
    let is_empty = |message: &Value| message["content"].as_array().is_some_and(Vec::is_empty);
    messages.retain(|message| !(is_models(message) && is_empty(message)));
    body.set("messages", &messages)?;
    if goes_on && take_budget(body)? {
        let reason = "the calls that are answered here come without the signed thoughts that led to them";
        dropped.push(Dropped::new("thinking", reason));
    }
    Ok(true)
}

/// Takes a budget for thoughts out, at Bedrock of the fields that are the model's own. Whether there was one.
fn take_budget(body: &mut Document) -> Result<bool, serde_json::Error> {
    const OWN: &str = "additionalModelRequestFields";
    if is_budgeted(body) {
        body.remove("thinking");
        return Ok(true);
    }
    let Some(mut own) = body.object(OWN).filter(is_budgeted) else { return Ok(false) };
    own.remove("thinking");
    match own.is_empty() {
        true => body.remove(OWN),
        false => body.set(OWN, &own)?,
    }
    Ok(true)
}

fn is_budgeted(body: &Document) -> bool {
    body.get("thinking").is_some_and(|thinking| thinking["type"] == "enabled")
}

fn is_models(message: &Value) -> bool {
    message["role"] == "assistant"
}

fn is_call(block: &Value) -> bool {
    block["type"] == "tool_use" || block.get("toolUse").is_some()
}

fn is_unsigned(block: &Value) -> bool {
    let thought = match block.get("reasoningContent") {
        // Bedrock's.
        Some(thought) => thought.get("reasoningText"),
        None => Some(block).filter(|block| block["type"] == "thinking"),
    };
    thought.is_some_and(|thought| thought["signature"].as_str().is_none_or(str::is_empty))
}

#[cfg(test)]
mod tests {
    use super::super::wire;
    use super::*;
    use crate::ir::StopReason;

    /// What is sent of a conversation to Claude, and the fields that were left out; `None` where it is as it was.
    fn sent(body: &Value) -> Option<(Value, Vec<String>)> {
        sent_in(Dialect::AnthropicMessages, body)
    }

    fn sent_in(dialect: Dialect, body: &Value) -> Option<(Value, Vec<String>)> {
        let text = body.to_string();
        let request = wire(dialect).parse_request(text.as_bytes()).unwrap();
        let mut document = Document::parse(text.as_bytes()).unwrap();
        let mut dropped = Vec::new();
        let changed = drop_unsigned(&mut document, &request, &mut dropped).unwrap();
        let body = serde_json::from_slice(&document.to_bytes().unwrap()).unwrap();
        changed.then(|| (body, dropped.into_iter().map(|dropped| dropped.field).collect()))
    }

    fn talk(said: &Value, thinking: &Value) -> Value {
        json!({ "model": "m", "max_tokens": 9, "thinking": thinking, "messages": [
            { "role": "user", "content": "x" },
            { "role": "assistant", "content": said },
            { "role": "user", "content": "y" },
        ] })
    }

    #[test]
    fn a_conversation_that_another_provider_went_on_with_comes_back_to_claude() {
        let on = json!({ "type": "enabled", "budget_tokens": 1024 });
        let thought =
            |signature: &str| json!({ "type": "thinking", "thinking": "Hm.", "signature": signature });
        let text = json!({ "type": "text", "text": "z" });
        let call = json!({ "type": "tool_use", "id": "a", "name": "f", "input": {} });
        assert_eq!(sent(&talk(&json!([thought("c2ln"), text]), &on)), None);
        let (body, left_out) = sent(&talk(&json!([thought("c2ln"), thought(""), text]), &on)).unwrap();
        assert_eq!(
            (body, left_out),
            (talk(&json!([thought("c2ln"), text]), &on), vec!["messages[1].content[1]".into()])
        );
        // Of a call that is answered here the thoughts would have to come along.
        let (body, left_out) = sent(&talk(&json!([thought(""), call]), &on)).unwrap();
        assert_eq!((&body["messages"][1]["content"], body.get("thinking")), (&json!([call]), None));
        assert_eq!(left_out, ["messages[1].content[0]", "thinking"]);
        let adaptive = json!({ "type": "adaptive" });
        let (body, _) = sent(&talk(&json!([thought(""), call]), &adaptive)).unwrap();
        assert_eq!(body["thinking"], adaptive);
        let (body, _) = sent(&talk(&json!([thought("")]), &on)).unwrap();
        assert_eq!(body["messages"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn a_conversation_comes_back_to_claude_at_bedrock_as_well() {
        let thought = |text: &Value| json!({ "reasoningContent": { "reasoningText": text } });
        let talk = |said: &Value, own: &Value| {
            json!({ "additionalModelRequestFields": own, "messages": [
                { "role": "user", "content": [{ "text": "x" }] },
                { "role": "assistant", "content": said },
                { "role": "user", "content": [{ "toolResult": { "toolUseId": "a", "content": [{ "text": "y" }] } }] },
            ] })
        };
        let call = json!({ "toolUse": { "toolUseId": "a", "name": "f", "input": {} } });
        let on = json!({ "top_k": 5, "thinking": { "type": "enabled", "budget_tokens": 1024 } });
        let signed = json!([thought(&json!({ "text": "Hm.", "signature": "c2ln" })), call]);
        assert_eq!(sent_in(Dialect::BedrockConverse, &talk(&signed, &on)), None);
        let unsigned = json!([thought(&json!({ "text": "Hm." })), call]);
        let (body, left_out) = sent_in(Dialect::BedrockConverse, &talk(&unsigned, &on)).unwrap();
        assert_eq!(body, talk(&json!([call]), &json!({ "top_k": 5 })));
        assert_eq!(left_out, ["messages[1].content[0]", "thinking"]);
    }

    #[test]
    fn signatures_go_to_clients_whose_providers_know_them() {
        use Dialect::{AnthropicMessages, BedrockConverse, GeminiGenerateContent, OpenAiResponses};
        assert!(are_known(AnthropicMessages, BedrockConverse) && are_known(OpenAiResponses, OpenAiResponses));
        assert!(!are_known(AnthropicMessages, GeminiGenerateContent));
        assert!(!are_known(OpenAiResponses, AnthropicMessages));
        let thought = |text: &str| Part::Reasoning { text: text.into(), signature: Some("c2ln".into()) };
        let mut answer = ChatResponse {
            id: String::new(),
            model: String::new(),
            created: 0,
            content: vec![thought("Hm."), thought(""), Part::text("x")],
            stop: StopReason::Stop,
            stop_sequence: None,
            usage: None,
        };
        assert!(take(&mut answer));
        let left = [Part::Reasoning { text: "Hm.".into(), signature: None }, Part::text("x")];
        assert_eq!(answer.content, left);
        assert!(!take(&mut answer));
    }
}
