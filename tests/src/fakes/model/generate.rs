//! Gemini's own dialect.

use serde_json::{Value, json};

use super::asked::Calls;
use super::{Asked, CACHED, Door, INPUT, OUTPUT, SIGNATURE, Said, Script, Tool};
use crate::fakes::gemini::Generate;
use crate::fakes::{Failure, pieces};
use crate::reply::{Piece, Reply};
use crate::wire::Received;

/// The door of `judge`, which knows what it takes.
pub fn generate(judge: Generate) -> impl Door {
    judge
}

impl Door for Generate {
    fn objection(&self, request: &Received) -> Option<Reply> {
        Generate::objection(self, request)
    }

    fn asked(&self, request: &Received) -> Result<Asked, String> {
        let body = camel(request.json());
        let mut asked = Asked { stream: request.query.is_some(), ..Asked::default() };
        let config = &body["generationConfig"];
        asked.aloud = config["thinkingConfig"]["includeThoughts"] == json!(true);
        let budget = config["thinkingConfig"]["thinkingBudget"].as_u64();
        asked.thinks = budget.map_or(asked.aloud, |budget| budget > 0);
        let mut calls = Calls::default();
        for (i, content) in body["contents"].as_array().into_iter().flatten().enumerate() {
            let at = |what: String| format!("contents[{i}]: {what}");
            turn(content, i, &mut asked, &mut calls).map_err(at)?;
        }
        asked.results = calls.results()?;
        let declared = body["tools"].as_array().into_iter().flatten();
        for tool in declared.filter_map(|tool| tool["functionDeclarations"].as_array()).flatten() {
            let name = tool["name"].as_str().unwrap_or_default().to_owned();
            let schema = ["parameters", "parametersJsonSchema"].map(|key| &tool[key]);
            let parameters = schema.into_iter().find(|schema| schema.is_object());
            // A function of nothing need not say so.
            let parameters = parameters.cloned().unwrap_or_else(|| json!({ "type": "OBJECT" }));
            asked.tools.push(Tool { name, parameters });
        }
        if config["responseMimeType"] == "application/json" {
            let schema = ["responseSchema", "responseJsonSchema"].map(|key| &config[key]);
            asked.schema = schema.into_iter().find(|schema| schema.is_object()).cloned();
        }
        Ok(asked)
    }

    fn invalid(&self, message: &str) -> Reply {
        super::super::gemini::error(400, message, &[])
    }

    fn failure(&self, failure: Failure) -> Reply {
        Generate::failure(self, failure)
    }

    fn whole(&self, request: &Received, said: &Said) -> Reply {
        let mut parts = Vec::new();
        parts.extend(said.thoughts.map(|thoughts| json!({ "text": thoughts, "thought": true })));
        parts.push(json!({ "text": said.text }));
        parts.extend(called(said));
        Reply::json(200, &chunk(request, said, &parts, true))
    }

    fn stream(&self, request: &Received, said: &Said) -> Script {
        let mut script = Script::default();
        let say = |part: Value| event(&chunk(request, said, &[part], false));
        for piece in said.thoughts.into_iter().flat_map(pieces) {
            script.push(say(json!({ "text": piece, "thought": true })));
        }
        pieces(&said.text).for_each(|piece| script.text(say(json!({ "text": piece }))));
        called(said).into_iter().for_each(|part| script.push(say(part)));
        script.push(event(&chunk(request, said, &[json!({ "text": "" })], true)));
        script
    }

    fn broken(&self) -> Piece {
        event(
            &json!({ "error": { "code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE" } }),
        )
    }
}

/// Google takes its fields in two spellings, of which this is the first. Schemas and arguments are not its own.
fn camel(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(camel).collect(),
        Value::Object(fields) => {
            let spelled = |(name, value): (String, Value)| {
                let mut words = name.split('_');
                let mut spelled = words.next().unwrap_or_default().to_owned();
                for word in words {
                    let (first, rest) = word.split_at(word.len().min(1));
                    spelled.push_str(&first.to_ascii_uppercase());
                    spelled.push_str(rest);
                }
                let foreign =
                    ["parameters", "args", "response"].contains(&&*spelled) || spelled.ends_with("Schema");
                (spelled, if foreign { value } else { camel(value) })
            };
            Value::Object(fields.into_iter().map(spelled).collect())
        }
        other => other,
    }
}

/// One turn. Calls have an id only where they were given one.
fn turn(content: &Value, i: usize, asked: &mut Asked, calls: &mut Calls) -> Result<(), String> {
    let parts = content["parts"].as_array().map_or(&[][..], Vec::as_slice);
    let answers = |part: &Value| part["functionResponse"].is_object();
    let results = parts.iter().filter(|part| answers(part)).count();
    if results > 0 && results < parts.len() {
        return Err("function responses stand by themselves in a turn".into());
    }
    if results == 0 {
        calls.over()?;
        if content["role"] == "user" {
            asked.turn();
        }
    }
    let (mut called, mut answered) = (0, 0);
    for part in parts {
        let id = |of: &Value, at: usize| {
            let given = of["id"].as_str().map(str::to_owned);
            given.unwrap_or_else(|| format!("{} {at}", of["name"].as_str().unwrap_or_default()))
        };
        let mine = content["role"] == "user";
        if let Some(text) = part["text"].as_str().filter(|text| !text.is_empty()) {
            if mine {
                asked.hear(text);
            }
        } else if let Some(image) = part.get("inlineData").filter(|_| mine) {
            let of = |name: &str| image[name].as_str().unwrap_or_default();
            // Google takes both alphabets of base64.
            asked.see(of("mimeType"), &of("data").replace('-', "+").replace('_', "/"))?;
        } else if let Some(call) = part.get("functionCall").filter(|_| !mine) {
            if part.get("thoughtSignature").is_some_and(|signature| signature != SIGNATURE) {
                return Err("Thought signature is not valid.".into());
            }
            calls.call(&id(call, called), call["name"].as_str().unwrap_or_default())?;
            called += 1;
        } else if let Some(result) = part.get("functionResponse").filter(|_| mine) {
            let response = &result["response"];
            let text = ["output", "result"].iter().find_map(|key| response[key].as_str());
            calls
                .result(&id(result, answered), text.ok_or_else(|| format!("{i}: no output: {response}"))?)?;
            answered += 1;
        } else {
            return Err(format!("no such part here: {part}"));
        }
    }
    Ok(())
}

/// Of the calls of one turn the first is signed.
fn called(said: &Said) -> Vec<Value> {
    let part = |(i, call): (usize, &super::Call)| {
        let mut part = json!({ "functionCall": { "name": call.name, "args": call.arguments } });
        if i == 0 {
            part["thoughtSignature"] = json!(SIGNATURE);
        }
        part
    };
    said.calls.iter().enumerate().map(part).collect()
}

fn chunk(request: &Received, said: &Said, parts: &[Value], last: bool) -> Value {
    let mut usage =
        json!({ "promptTokenCount": INPUT, "cachedContentTokenCount": CACHED, "totalTokenCount": INPUT });
    let mut candidate = json!({ "content": { "parts": parts, "role": "model" }, "index": 0 });
    if last {
        candidate["finishReason"] = json!("STOP");
        usage["candidatesTokenCount"] = json!(OUTPUT - said.reasoning());
        usage["totalTokenCount"] = json!(INPUT + OUTPUT);
        if said.thought {
            usage["thoughtsTokenCount"] = json!(said.reasoning());
        }
    }
    let model = request.path.rsplit('/').next().and_then(|rest| rest.split(':').next()).unwrap_or_default();
    json!({ "candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": "fake" })
}

/// Google ends its lines as HTTP does.
fn event(data: &Value) -> Piece {
    Piece::text(format!("data: {data}\r\n\r\n"))
}
