//! Rows through a real guest: one run of the `wanderer` asks them all.

use serde_json::{Value, json};

use super::fill::fill;
use super::ground::{Ground, SECRETS};
use super::judge::{Outcome, ROW_FIELD};
use super::row::{Request, Row, Way};
use crate::guests::{self, Agent};
use crate::orch;

/// Rows that a guest can try, in order.
pub fn rows(all: &[Row]) -> Vec<&Row> {
    all.iter().filter(|row| row.expected(Way::Guest).is_some()).collect()
}

/// The agent that asks under this policy.
pub fn agent(ground: &Ground, policy: &str) -> Agent {
    Agent::new("prober", &guests::guest("wanderer"), &ground.manifest(policy))
}

/// Its input.
pub fn input(ground: &Ground, rows: &[&Row]) -> String {
    let known = |name: &str| match name {
        "port" => Some(ground.canary.port().to_string()),
        // The guest's own environment has it.
        secret if SECRETS.iter().any(|(known, _)| *known == secret) => Some(format!("${{{secret}}}")),
        _ => None,
    };
    let request = |row: &&Row| {
        let Request { method, scheme, authority, path, headers, body } =
            row.request.as_ref().unwrap_or_else(|| panic!("{} has no request for a guest", row.id));
        let mut fields = vec![json!([ROW_FIELD, row.id])];
        fields.extend(headers.iter().map(|(name, value)| json!([fill(name, &known), fill(value, &known)])));
        json!({
            "method": method,
            "url": fill(&format!("{scheme}://{authority}{path}"), &known),
            "headers": fields,
            "body": fill(body, &known),
            "keep": 300_000,
        })
    };
    json!({ "requests": rows.iter().map(request).collect::<Vec<_>>() }).to_string()
}

/// What came of each row, from the run's report.
#[track_caller]
pub fn outcomes(report: &orch::Outcome) -> Vec<Vec<Outcome>> {
    let output = report.json();
    let results = output["output"]["results"].as_array().unwrap_or_else(|| panic!("no results: {report}"));
    results.iter().map(|result| vec![outcome(result)]).collect()
}

fn outcome(result: &Value) -> Outcome {
    if let Some(error) = result["error"].as_str() {
        return Outcome::Refused(code(error));
    }
    let body = result["body"].as_str().unwrap_or_default();
    let said: Value = serde_json::from_str(body).unwrap_or_default();
    if result["status"] == 403 && body.is_empty() {
        // To HEAD a refusal says no more than that.
        return Outcome::Refused("denied".into());
    }
    match said["error"]["code"].as_str().filter(|_| said["error"]["type"] == "egress_denied") {
        Some(code) => Outcome::Refused(code.to_owned()),
        None => Outcome::Answer {
            status: result["status"].as_u64().and_then(|status| status.try_into().ok()).unwrap_or_default(),
            text: format!("{}\n{body}", result["headers"]),
        },
    }
}

/// What the guest's library saw, as the code that stands behind it.
fn code(error: &str) -> String {
    if let Some((_, what)) = error.rsplit_once("the host does not accept this ") {
        return format!("sandbox:{what}");
    }
    // A code may have details, in parentheses and with colons of their own.
    let word = error.split('(').next().unwrap_or_default().rsplit(": ").next().unwrap_or_default();
    match word {
        "DestinationIpProhibited" => "address_refused",
        "DnsError" | "DnsTimeout" => "dns_failed",
        "ConnectionRefused" | "ConnectionTimeout" => "connect_failed",
        "HttpProtocolError" => "protocol_error",
        "HttpRequestDenied" => "denied",
        other => other,
    }
    .to_owned()
}
