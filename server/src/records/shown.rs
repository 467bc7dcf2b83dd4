//! Calls and what they add up to, as they are shown: JSON over HTTP, CSV there and on the command line.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Csv;
use crate::redact::{Said, redact};
use crate::run::dollars;
use crate::store::{Bodies, CallRow, Kept, UsageBy, UsageRow};

/// A call in a list.
pub(crate) fn one(call: &CallRow) -> Value {
    let receipt: Value = serde_json::from_str(&call.receipt).unwrap_or_default();
    let attempts: Vec<Value> =
        receipt["attempts"].as_array().map(|all| all.iter().map(attempt).collect()).unwrap_or_default();
    json!({
        "request_id": call.request,
        "time": time(call.time),
        "run": call.run,
        "agent": call.agent,
        "token": { "id": call.token, "name": call.caller },
        "member": call.member,
        "credential": call.credential.as_ref().map(|name| json!({
            "id": name, "source": call.source, "mask": call.mask, "billing": call.billing,
        })),
        "provider_asked": call.provider_asked,
        "model_asked": call.model_asked,
        "provider": call.provider,
        "model": call.model,
        "model_served": receipt["model_served"],
        "status": call.outcome,
        "class": call.class,
        "attempts": attempts,
        "input_tokens": call.input_tokens,
        "output_tokens": call.output_tokens,
        "estimated": receipt["estimated"] == true,
        "cost_usd": call.cost_micro_usd.map(dollars),
        "latency_ms": call.latency_ms,
        "first_token_ms": call.first_token_ms,
        "simulated": receipt["simulated"] == true,
    })
}

/// An attempt without its provider's words: those are for whoever looks at the one call.
fn attempt(attempt: &Value) -> Value {
    let fields = ["provider", "model", "credential", "class", "status", "latency_ms"];
    fields
        .iter()
        .map(|field| ((*field).to_owned(), attempt[*field].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// All that is on record of one call, with what was asked and answered where that was kept.
pub(crate) fn detail(call: &CallRow, bodies: Option<&Bodies>) -> Value {
    let mut shown = one(call);
    shown["receipt"] = serde_json::from_str(&call.receipt).unwrap_or_default();
    shown["bodies"] = bodies.map_or(Value::Null, |bodies| {
        json!({
            "expires": time(bodies.expires),
            "request": body(&bodies.asked),
            "answer": body(&bodies.answered),
        })
    });
    shown
}

fn body(kept: &Kept) -> Value {
    // What is no text stands there as far as it is one. Keys were taken out before it was stored; this is for those that
    // begin to look like some since.
    let text = String::from_utf8_lossy(&kept.bytes);
    json!({ "text": redact(&text, Said::Anything), "bytes": kept.of, "cut": kept.cut })
}

/// What calls add up to.
pub(crate) fn usage(row: &UsageRow, by: UsageBy) -> Value {
    let mut shown = json!({
        "key": row.key, "runs": row.runs, "calls": row.calls, "failed": row.failed,
        "input_tokens": row.input_tokens, "output_tokens": row.output_tokens,
        "cost_usd": row.cost_micro_usd.map(dollars), "platform_cost_usd": dollars(row.platform_micro_usd),
    });
    if by == UsageBy::Token {
        shown["name"] = json!(row.name);
    }
    shown
}

/// The columns of calls in CSV. New ones are added at the end.
const CALL_COLUMNS: [&str; 27] = [
    "time",
    "request_id",
    "run",
    "agent",
    "token_id",
    "token",
    "member",
    "credential",
    "credential_source",
    "credential_mask",
    "billing",
    "provider_asked",
    "model_asked",
    "provider",
    "model",
    "model_served",
    "status",
    "class",
    "attempts",
    "attempt_classes",
    "input_tokens",
    "output_tokens",
    "estimated",
    "cost_usd",
    "latency_ms",
    "first_token_ms",
    "simulated",
];

/// Calls, as `GET /v1/logs` lists them, in CSV.
#[must_use]
pub fn calls_csv(calls: &[Value]) -> Csv {
    let mut csv = Csv::new(&CALL_COLUMNS);
    for call in calls {
        let at = |path: &str| call.pointer(path).map(cell).unwrap_or_default();
        let attempts = call["attempts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let classes: Vec<&str> =
            attempts.iter().map(|attempt| attempt["class"].as_str().unwrap_or("served")).collect();
        let cells = [
            at("/time"),
            at("/request_id"),
            at("/run"),
            at("/agent"),
            at("/token/id"),
            at("/token/name"),
            at("/member"),
            at("/credential/id"),
            at("/credential/source"),
            at("/credential/mask"),
            at("/credential/billing"),
            at("/provider_asked"),
            at("/model_asked"),
            at("/provider"),
            at("/model"),
            at("/model_served"),
            at("/status"),
            at("/class"),
            attempts.len().to_string(),
            classes.join(" "),
            at("/input_tokens"),
            at("/output_tokens"),
            at("/estimated"),
            at("/cost_usd"),
            at("/latency_ms"),
            at("/first_token_ms"),
            at("/simulated"),
        ];
        csv.row(cells.iter().map(String::as_str));
    }
    csv
}

/// Usage, as `GET /v1/usage` lists it, in CSV: the rows without the total, which a spreadsheet would count twice.
#[must_use]
pub fn usage_csv(by: &str, rows: &[Value]) -> Csv {
    let numbers =
        ["runs", "calls", "failed", "input_tokens", "output_tokens", "cost_usd", "platform_cost_usd"];
    let mut columns = vec![by, "name"];
    columns.extend(numbers);
    let mut csv = Csv::new(&columns);
    for row in rows {
        let cells: Vec<String> =
            ["key", "name"].iter().chain(&numbers).map(|field| cell(&row[*field])).collect();
        csv.row(cells.iter().map(String::as_str));
    }
    csv
}

/// A value as a cell; what is not there is an empty one.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn time(at: OffsetDateTime) -> Option<String> {
    at.to_offset(time::UtcOffset::UTC).format(&Rfc3339).ok()
}
