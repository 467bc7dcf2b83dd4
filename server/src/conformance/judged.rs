//! What an answer of the gateway says about the provider behind it.

use orch_gateway::ir::Class;
use serde_json::Value;

use super::{Check, Finding, Heard, Verdict, asked};

/// A class by its name.
pub(super) fn word(class: Class) -> String {
    serde_json::to_value(class).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

fn finding(check: Check, heard: &Heard, judged: Result<String, String>) -> Finding {
    let (result, detail) = match judged {
        Ok(detail) => (Verdict::Passed, detail),
        Err(detail) => (Verdict::Failed, detail),
    };
    Finding { check, result, detail, latency_ms: heard.latency_ms }
}

/// Why a request was not served.
fn failed(heard: &Heard) -> Option<String> {
    if (200..300).contains(&heard.status) && heard.class.is_none() {
        return None;
    }
    let class = heard.class.map_or_else(|| format!("HTTP {}", heard.status), word);
    Some(match heard.said.is_empty() {
        true => class,
        false => format!("{class}: {}", heard.said),
    })
}

pub(super) fn whole(heard: &Heard) -> Finding {
    finding(Check::Plain, heard, answer(heard).and_then(|answer| said(&answer["choices"][0]["message"])))
}

fn answer(heard: &Heard) -> Result<Value, String> {
    if let Some(why) = failed(heard) {
        return Err(why);
    }
    let answer: Value = serde_json::from_str(&heard.text).map_err(|_| "no answer in one piece".to_owned())?;
    match answer["choices"][0]["finish_reason"].as_str() {
        Some(_) => Ok(answer),
        None => Err("it does not say why it ended".to_owned()),
    }
}

/// That a model said something, or thought so long that it came to nothing.
fn said(message: &Value) -> Result<String, String> {
    let length = |name: &str| message[name].as_str().map_or(0, |text| text.chars().count());
    match (length("content"), length("reasoning_content") + length("reasoning")) {
        (0, 0) => Err("an answer without text".to_owned()),
        (0, thoughts) => Ok(format!("{thoughts} characters of thoughts")),
        (text, _) => Ok(format!("{text} characters")),
    }
}

pub(super) fn stream(heard: &Heard) -> Finding {
    finding(Check::Stream, heard, streamed(heard))
}

fn streamed(heard: &Heard) -> Result<String, String> {
    if let Some(why) = failed(heard) {
        return Err(why);
    }
    let events = events(&heard.text);
    if let Some(error) = events.iter().find_map(|event| event["error"]["message"].as_str()) {
        return Err(error.chars().take(200).collect());
    }
    if !heard.text.trim_end().ends_with("data: [DONE]") {
        return Err("the stream has no end".to_owned());
    }
    let deltas = || events.iter().map(|event| &event["choices"][0]["delta"]);
    let pieces = deltas().filter(|delta| said(delta).is_ok()).count();
    match pieces {
        0 => Err("a stream without text".to_owned()),
        1 => Ok("1 piece".to_owned()),
        pieces => Ok(format!("{pieces} pieces")),
    }
}

fn events(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data:"));
    data.filter_map(|data| serde_json::from_str(data.trim()).ok()).collect()
}

pub(super) fn tools(heard: &Heard) -> Finding {
    let judged = answer(heard).and_then(|answer| {
        let message = &answer["choices"][0]["message"];
        let call = &message["tool_calls"][0]["function"];
        let Some(name) = call["name"].as_str() else {
            return Err("it called no tool".to_owned());
        };
        if name != asked::TOOL {
            return Err("it called a tool that nobody offered".to_owned());
        }
        let arguments = call["arguments"].as_str().unwrap_or_default();
        match serde_json::from_str::<Value>(arguments) {
            Ok(Value::Object(_)) => Ok("called, with arguments that can be read".to_owned()),
            _ => Err("its arguments are no JSON object".to_owned()),
        }
    });
    finding(Check::Tools, heard, judged)
}

/// Whoever does not count is paid by estimates.
pub(super) fn usage(whole: &Heard, stream: &Heard) -> Finding {
    let judged = match (whole.estimated, stream.estimated) {
        (false, false) => Ok("in whole answers and in streams".to_owned()),
        (false, true) => Err("not in streams".to_owned()),
        (true, false) => Err("not in whole answers".to_owned()),
        (true, true) => Err("neither in whole answers nor in streams".to_owned()),
    };
    Finding { latency_ms: 0, ..finding(Check::Usage, whole, judged) }
}

pub(super) fn unknown(heard: &Heard) -> Finding {
    let judged = match heard.class {
        Some(Class::NoModel) => Ok(format!("HTTP {}", heard.status)),
        Some(class) => Err(format!("told apart as {}: {}", word(class), heard.said)),
        None if (200..300).contains(&heard.status) => Err("it was answered".to_owned()),
        None => Err(format!("HTTP {}", heard.status)),
    };
    finding(Check::UnknownModel, heard, judged)
}
