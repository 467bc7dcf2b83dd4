//! Counts and indexes that no answer has.

use bytes::Bytes;
use orch_gateway::Outcome;
use orch_manifests::Dialect;

use super::server::{Play, Server};
use super::speech::{self, Speech};
use super::transport::{open, send};
use super::{MUCH, Then, Victim, judged};

/// Numbers in the place of a count, as JSON.
const COUNTS: [&str; 9] = [
    "-5",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
    "1e300",
    "0.5",
    "null",
    "\"7\"",
];

/// How the counts are called.
const NAMES: [&str; 10] = [
    "prompt_tokens",
    "completion_tokens",
    "input_tokens",
    "output_tokens",
    "promptTokenCount",
    "candidatesTokenCount",
    "inputTokens",
    "outputTokens",
    "prompt_eval_count",
    "eval_count",
];

/// The text with other counts.
fn counting(text: &[u8], count: &str) -> Vec<u8> {
    let mut text = String::from_utf8(text.to_vec()).unwrap();
    for name in NAMES {
        let key = format!("\"{name}\":");
        let mut from = 0;
        while let Some(at) = text[from..].find(&key) {
            let begin = from + at + key.len();
            let end = begin + text[begin..].find([',', '}']).unwrap();
            text.replace_range(begin..end, count);
            from = begin + count.len();
        }
    }
    text.into_bytes()
}

fn body(speech: &Speech, stream: bool, count: &str) -> Bytes {
    if !stream {
        return counting(&speech.whole, count).into();
    }
    let mut all = Vec::new();
    for frame in &speech.frames {
        match (speech.dialect, &frame.data) {
            (Dialect::BedrockConverse, Some(data)) => {
                let payload = &data[data.find(':').unwrap() + 1..data.len() - 1];
                all.extend(speech::binary(&frame.name, &counting(payload.as_bytes(), count)));
            }
            _ => all.extend(counting(&frame.raw, count)),
        }
    }
    all.into()
}

/// The answer is what it is, and what is booked for it stays within what numbers can hold.
#[tokio::test]
async fn counts_that_cannot_be_are_no_failure() {
    let mut wrong = Vec::new();
    for count in COUNTS {
        for spoken in Dialect::ALL {
            for stream in [false, true] {
                let speech = Speech::new(spoken);
                let bytes = body(&speech, stream, count);
                assert_ne!(bytes, speech.all(stream), "{spoken}: it has counts");
                let server = Server::start(Play::new([open(&speech, stream), send(bytes)])).await;
                let victim = Victim::new(spoken, &server, MUCH);
                let heard = victim.hears(spoken, speech::model(spoken), stream).await;
                let receipt = heard.2.clone();
                let kind = if stream { "streamed" } else { "whole" };
                match judged(&speech, spoken, stream, heard) {
                    Ok(Then::Right) => {}
                    other => wrong.push(format!("{count}, {spoken} {kind}: {other:?}")),
                }
                // What is no count is not believed, and neither is what stands beside it.
                let booked = victim.session.budget.spent();
                let doubted = count.starts_with('-') || count.contains(['.', 'e']) || count.len() > 20;
                if doubted && (!receipt.estimated || booked.input_tokens == 0) {
                    wrong.push(format!("{count}, {spoken} {kind}: {booked:?} {receipt:?}"));
                }
                if receipt.outcome != Outcome::Served {
                    wrong.push(format!("{count}, {spoken} {kind}: {receipt:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A provider that numbers its calls as it likes.
#[tokio::test]
async fn indexes_are_only_names() {
    const CALLS: [(Dialect, &str); 4] = [
        (
            Dialect::OpenAiChat,
            r#"data: {"id":"x","choices":[{"index":0,"delta":{"tool_calls":[{"index":INDEX,"id":"c","type":"function","function":{"name":"f","arguments":"{\"a\":"}}]}}]}

data: {"id":"x","choices":[{"index":0,"delta":{"tool_calls":[{"index":INDEX,"function":{"arguments":"1}"}}]}}]}

data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}

data: [DONE]

"#,
        ),
        (
            Dialect::AnthropicMessages,
            r#"data: {"type":"message_start","message":{"id":"x","model":"m","usage":{"input_tokens":1,"output_tokens":1}}}

data: {"type":"content_block_start","index":INDEX,"content_block":{"type":"tool_use","id":"c","name":"f","input":{}}}

data: {"type":"content_block_delta","index":INDEX,"delta":{"type":"input_json_delta","partial_json":"{\"a\":"}}

data: {"type":"content_block_delta","index":INDEX,"delta":{"type":"input_json_delta","partial_json":"1}"}}

data: {"type":"content_block_stop","index":INDEX}

data: {"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":5}}

data: {"type":"message_stop"}

"#,
        ),
        (
            Dialect::CohereChat,
            r#"data: {"type":"message-start","id":"x","delta":{"message":{"role":"assistant"}}}

data: {"type":"tool-call-start","index":INDEX,"delta":{"message":{"tool_calls":{"id":"c","type":"function","function":{"name":"f","arguments":""}}}}}

data: {"type":"tool-call-delta","index":INDEX,"delta":{"message":{"tool_calls":{"function":{"arguments":"{\"a\":"}}}}}

data: {"type":"tool-call-delta","index":INDEX,"delta":{"message":{"tool_calls":{"function":{"arguments":"1}"}}}}}

data: {"type":"tool-call-end","index":INDEX}

data: {"type":"message-end","delta":{"finish_reason":"TOOL_CALL","usage":{"tokens":{"input_tokens":1,"output_tokens":5}}}}

"#,
        ),
        (
            Dialect::OpenAiResponses,
            r#"data: {"type":"response.created","response":{"id":"x","object":"response","status":"in_progress","model":"m","output":[]}}

data: {"type":"response.output_item.added","output_index":INDEX,"item":{"type":"function_call","id":"i","call_id":"c","name":"f","arguments":"","status":"in_progress"}}

data: {"type":"response.function_call_arguments.delta","item_id":"i","output_index":INDEX,"delta":"{\"a\":"}

data: {"type":"response.function_call_arguments.delta","item_id":"i","output_index":INDEX,"delta":"1}"}

data: {"type":"response.function_call_arguments.done","item_id":"i","output_index":INDEX,"arguments":"{\"a\":1}"}

data: {"type":"response.output_item.done","output_index":INDEX,"item":{"type":"function_call","id":"i","call_id":"c","name":"f","arguments":"{\"a\":1}","status":"completed"}}

data: {"type":"response.completed","response":{"id":"x","object":"response","status":"completed","model":"m","output":[{"type":"function_call","id":"i","call_id":"c","name":"f","arguments":"{\"a\":1}","status":"completed"}],"usage":{"input_tokens":1,"output_tokens":5}}}

"#,
        ),
    ];
    for (spoken, text) in CALLS {
        for index in ["0", "7", "2147483648", "4294967296", "18446744073709551615"] {
            let speech = Speech::new(spoken);
            let text = text.replace("INDEX", index);
            let server = Server::start(Play::new([open(&speech, true), send(text)])).await;
            let victim = Victim::new(spoken, &server, MUCH);
            for client in
                [spoken, Dialect::GeminiGenerateContent, Dialect::OpenAiChat, Dialect::BedrockConverse]
            {
                let (status, body, receipt) = victim.hears(client, speech::model(spoken), true).await;
                let said = String::from_utf8_lossy(&body);
                assert_eq!(
                    (status.as_u16(), receipt.outcome),
                    (200, Outcome::Served),
                    "{spoken} {index} {client}: {said}"
                );
                let frames = speech::frames(orch_gateway::dialect::wire(client).framing(), &body);
                let mut parser = orch_gateway::dialect::wire(client).stream_parser();
                let events: Vec<_> = frames.iter().flat_map(|frame| parser.read(frame).unwrap()).collect();
                let calls: String = events
                    .iter()
                    .filter_map(|event| match event {
                        orch_gateway::ir::StreamEvent::ToolArguments { index: 0, fragment } => {
                            Some(fragment.as_str())
                        }
                        _ => None,
                    })
                    .collect();
                assert_eq!(calls, r#"{"a":1}"#, "{spoken} {index} {client}: {said}");
            }
        }
    }
}
