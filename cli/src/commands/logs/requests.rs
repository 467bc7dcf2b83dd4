//! `orch logs`: requests as a table, as JSON, as CSV, and while they come.

use std::time::Duration;

use orch_server::Failure;
use orch_server::records::calls_csv;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use url::form_urlencoded::Serializer;

use crate::args::RequestsArgs;
use crate::client::{Client, REPORT_LIMIT};
use crate::moment::{ago, written};
use crate::printer::{Printer, harmless};
use crate::table::{Side, Table};
use crate::wire::broken_pipe;

/// Requests that are asked for at once: as many as a server gives.
const PAGE: u32 = 1000;
/// How long is waited between two looks for new ones.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Deserialize)]
struct Page {
    requests: Vec<Value>,
    #[serde(default)]
    next: Option<String>,
    #[serde(default)]
    newest: Option<String>,
    /// That bodies are kept, in words.
    #[serde(default)]
    bodies: Option<String>,
}

/// How requests are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Table,
    Json,
    Csv,
}

/// Lists requests, newest first; with `follow` oldest first, and then those that come.
///
/// # Errors
/// What was asked wrongly, or the server's.
pub(super) async fn list(
    client: &Client,
    args: &RequestsArgs,
    follow: bool,
    printer: Printer,
) -> Result<(), Failure> {
    let query = query(args, OffsetDateTime::now_utc())?;
    let form = match (printer.json(), args.csv) {
        (true, _) => Form::Json,
        (_, true) => Form::Csv,
        _ => Form::Table,
    };
    let (mut found, page) = newest(client, &query, args.limit).await?;
    if form == Form::Table
        && let Some(said) = &page.bodies
    {
        printer.note(&format!("in this workspace {said}: orch logs REQUEST shows it"));
    }
    if !follow {
        return show(&found, page.next.as_deref(), form, printer);
    }
    found.reverse();
    let mut lines = Lines { form, printer, begun: false };
    lines.add(&found)?;
    let mut after = page.newest;
    loop {
        tokio::time::sleep(PAUSE).await;
        let page: Page = match &after {
            Some(after) => ask(client, &query, &[("after", after), ("limit", &PAGE.to_string())]).await?,
            None => ask(client, &query, &[("limit", &PAGE.to_string())]).await?,
        };
        let mut found = page.requests;
        if after.is_none() {
            found.reverse();
        }
        lines.add(&found)?;
        after = page.newest.or(after);
    }
}

/// All that is on record of one request.
///
/// # Errors
/// When there is none of this name, or the server says what it should not.
pub(super) async fn one(
    client: &Client,
    request: &str,
    args: &RequestsArgs,
    printer: Printer,
) -> Result<(), Failure> {
    let mut query = Serializer::new(String::new());
    if let Some(workspace) = &args.workspace {
        query.append_pair("workspace", workspace);
    }
    let found: Value = client.get_run(&format!("/v1/logs/{request}?{}", query.finish())).await?;
    if printer.json() {
        return printer.result_json(&found).or_else(broken_pipe);
    }
    printer.result(&harmless(&told(&found))).or_else(broken_pipe)
}

/// So many of the newest, and the first page of them.
async fn newest(client: &Client, query: &str, limit: u32) -> Result<(Vec<Value>, Page), Failure> {
    let (mut found, mut first): (Vec<Value>, Option<Page>) = (Vec::new(), None);
    let mut bytes = 0;
    loop {
        let missing = limit - u32::try_from(found.len()).unwrap_or(limit).min(limit);
        let wanted = missing.min(PAGE).to_string();
        let before = first.as_ref().and_then(|page| page.next.clone());
        let mut page: Page = match &before {
            Some(before) => ask(client, query, &[("before", before), ("limit", &wanted)]).await?,
            None => ask(client, query, &[("limit", &wanted)]).await?,
        };
        let wrong = |what: &str| client.unexpected("GET /v1/logs", what);
        let came = std::mem::take(&mut page.requests);
        if came.is_empty() && page.next.is_some() {
            return Err(wrong("an empty page that others follow"));
        }
        bytes += came.iter().map(|request| request.to_string().len()).sum::<usize>();
        if bytes > REPORT_LIMIT {
            return Err(wrong(&format!("more than {} MiB of requests", REPORT_LIMIT >> 20)));
        }
        found.extend(came);
        let enough = found.len() >= limit as usize || page.next.is_none();
        match &mut first {
            Some(first) => first.next = page.next,
            None => first = Some(page),
        }
        if enough && let Some(first) = first.take() {
            found.truncate(limit as usize);
            return Ok((found, first));
        }
    }
}

async fn ask(client: &Client, query: &str, more: &[(&str, &str)]) -> Result<Page, Failure> {
    let mut query = Serializer::new(query.to_owned());
    query.extend_pairs(more);
    client.get_run(&format!("/v1/logs?{}", query.finish())).await
}

/// What is asked for, without the page.
fn query(args: &RequestsArgs, now: OffsetDateTime) -> Result<String, Failure> {
    let mut query = Serializer::new(String::new());
    for (name, said) in [("since", &args.since), ("until", &args.until)] {
        if let Some(text) = said {
            query.append_pair(name, &written(ago(name, text, now)?));
        }
    }
    let words = [
        ("token", args.token.as_deref()),
        ("member", args.member.as_deref()),
        ("agent", args.agent.as_deref()),
        ("of_run", args.of_run.as_deref()),
        ("provider", args.provider.as_deref()),
        ("model", args.model.as_deref()),
        ("credential", args.credential.as_deref()),
        ("billing", args.billing.map(crate::args::Billing::word)),
        ("status", args.status.map(crate::args::RequestStatus::word)),
        ("class", args.class.as_deref()),
        ("workspace", args.workspace.as_deref()),
    ];
    for (name, said) in words {
        if let Some(said) = said {
            query.append_pair(name, said);
        }
    }
    Ok(query.finish())
}

fn show(found: &[Value], next: Option<&str>, form: Form, printer: Printer) -> Result<(), Failure> {
    match form {
        Form::Json => printer.result_json(&json!({ "requests": found, "next": next })).or_else(broken_pipe),
        Form::Csv => printer.table(calls_csv(found).text()).or_else(broken_pipe),
        Form::Table if found.is_empty() => {
            printer.note("there is no such request on record; the log of a run: orch logs RUN");
            Ok(())
        }
        Form::Table => {
            printer.result(&harmless(&table(found).text())).or_else(broken_pipe)?;
            if next.is_some() {
                printer.note("there are more: --limit N, or --since and --until");
            }
            Ok(())
        }
    }
}

/// Requests while they come.
struct Lines {
    form: Form,
    printer: Printer,
    begun: bool,
}

impl Lines {
    fn add(&mut self, found: &[Value]) -> Result<(), Failure> {
        match self.form {
            Form::Json => {
                found.iter().try_for_each(|request| self.printer.result_json(request).or_else(broken_pipe))
            }
            Form::Csv => {
                let csv = calls_csv(found);
                let text = if self.begun { csv.rows() } else { csv.text() };
                self.begun = true;
                self.printer.table(text).or_else(broken_pipe)
            }
            // Columns cannot be as wide as what has not come yet.
            Form::Table => found
                .iter()
                .try_for_each(|request| self.printer.result(&harmless(&line(request))).or_else(broken_pipe)),
        }
    }
}

/// A request on a line of its own, whatever is in it.
fn line(request: &Value) -> String {
    cells(request).map(|cell| cell.replace(['\n', '\r', '\t'], " ")).join("  ")
}

fn table(found: &[Value]) -> Table {
    let mut table = Table::new(&[
        ("time", Side::Left),
        ("request", Side::Left),
        ("token", Side::Left),
        ("model", Side::Left),
        ("key", Side::Left),
        ("status", Side::Left),
        ("tokens", Side::Right),
        ("cost in USD", Side::Right),
        ("ms", Side::Right),
    ]);
    for request in found {
        table.row(cells(request));
    }
    table
}

fn cells(request: &Value) -> [String; 9] {
    let text = |path: &str| request.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let number = |path: &str| request.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    let who = match text("/agent") {
        agent if agent.is_empty() => text("/token/name"),
        agent => format!("{} ({agent})", text("/token/name")),
    };
    let key = match (text("/credential/id"), text("/credential/mask")) {
        (key, _) if key.is_empty() => "–".to_owned(),
        (key, mask) if mask.is_empty() => key,
        (key, mask) => format!("{key} …{mask}"),
    };
    let attempts = request["attempts"].as_array().map_or(0, Vec::len);
    let status = match (text("/status"), text("/class")) {
        (status, class) if class.is_empty() => status,
        (status, class) => format!("{status}: {class}"),
    };
    let status = if attempts > 1 { format!("{status} ({attempts} attempts)") } else { status };
    [
        text("/time").chars().take(19).collect(),
        text("/request_id"),
        who,
        format!("{}/{}", text("/provider"), text("/model")),
        key,
        status,
        format!("{}+{}", number("/input_tokens"), number("/output_tokens")),
        // One request may cost a hundredth of a cent, and no less than a millionth of a dollar.
        request["cost_usd"].as_f64().map_or_else(|| "unknown".to_owned(), |cost| format!("{cost:.6}")),
        number("/latency_ms").to_string(),
    ]
}

/// What an attempt that failed is charged all the same, or may be.
fn charged(charged: &Value) -> String {
    match (charged, charged["cost_usd"].as_f64()) {
        (Value::Null, _) => String::new(),
        (_, Some(cost)) => format!("charged ${cost:.6}"),
        (_, None) => "charged".to_owned(),
    }
}

/// One request in words.
fn told(request: &Value) -> String {
    let mut table = Table::new(&[("request", Side::Left), ("", Side::Left)]);
    let text = |path: &str| match request.pointer(path) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    };
    let mut row = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            table.row([name.to_owned(), value]);
        }
    };
    let joined = |paths: &[&str], between: &str| {
        let parts: Vec<String> = paths.iter().filter_map(|path| text(path)).collect();
        (!parts.is_empty()).then(|| parts.join(between))
    };
    row("id", text("/request_id"));
    row("time", text("/time"));
    row("run", text("/run"));
    row("agent", text("/agent"));
    row("token", joined(&["/token/name", "/token/id"], "  "));
    row("member", text("/member"));
    row("key", joined(&["/credential/id", "/credential/source", "/credential/billing"], "  "));
    row("ends in", text("/credential/mask").map(|mask| format!("…{mask}")));
    row("asked for", joined(&["/provider_asked", "/model_asked"], "/"));
    row("answered by", joined(&["/provider", "/model"], "/"));
    row("calls itself", text("/model_served").filter(|served| Some(served) != text("/model").as_ref()));
    row("status", joined(&["/status", "/class"], ": "));
    for attempt in request["receipt"]["attempts"].as_array().into_iter().flatten() {
        let part = |field: &str| match &attempt[field] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let class =
            Some(part("class")).filter(|class| !class.is_empty()).unwrap_or_else(|| "served".to_owned());
        let words = [
            format!("{}/{}", part("provider"), part("model")),
            part("credential"),
            class,
            part("status"),
            format!("{} ms", part("latency_ms")),
            charged(&attempt["charged"]),
            part("message"),
        ];
        let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
        row("attempt", Some(words.join("  ")));
    }
    row("tokens", joined(&["/input_tokens", "/output_tokens"], " in, ").map(|text| format!("{text} out")));
    row("cost in USD", text("/cost_usd"));
    row("took", text("/latency_ms").map(|ms| format!("{ms} ms")));
    row("first token", text("/first_token_ms").map(|ms| format!("after {ms} ms")));
    let mut told = table.text();
    for (name, path) in [("asked", "/bodies/request"), ("answered", "/bodies/answer")] {
        if let Some(body) = request.pointer(path) {
            let cut = if body["cut"] == true { ", of which this is the beginning" } else { "" };
            let bytes = body["bytes"].as_u64().unwrap_or_default();
            told.push_str(&format!("\n\n{name} ({bytes} bytes{cut}):\n"));
            told.push_str(body["text"].as_str().unwrap_or_default());
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Value {
        json!({
            "request_id": "req_abc", "time": "2026-01-31T12:00:00.5Z", "agent": null, "run": null,
            "token": { "id": "tok_1", "name": "ci" }, "member": null,
            "credential": { "id": "OPENAI_API_KEY", "source": "vault", "mask": "cdef", "billing": "team" },
            "provider_asked": "openai", "model_asked": "smart", "provider": "openai", "model": "gpt-4o-mini",
            "status": "all_failed", "class": "rate_limited",
            "attempts": [{ "class": "rate_limited" }, { "class": "server" }],
            "input_tokens": 12, "output_tokens": 3, "cost_usd": null, "latency_ms": 87,
            "receipt": { "attempts": [{
                "provider": "openai", "model": "gpt-4o-mini", "class": "rate_limited", "status": 429, "latency_ms": 80,
                "message": "slow down",
            }] },
            "bodies": { "request": { "text": "{}", "bytes": 70_000, "cut": true },
                        "answer": { "text": "no", "bytes": 2, "cut": false } },
        })
    }

    #[test]
    fn requests_are_a_table() {
        insta::assert_snapshot!(table(&[request()]).text(), @r"
        time                 request  token  model               key                   status                                 tokens  cost in USD  ms
        2026-01-31T12:00:00  req_abc  ci     openai/gpt-4o-mini  OPENAI_API_KEY …cdef  all_failed: rate_limited (2 attempts)    12+3      unknown  87
        ");
    }

    #[test]
    fn an_attempt_that_failed_says_what_it_is_charged_all_the_same() {
        let mut request = request();
        request["receipt"]["attempts"][0]["charged"] = json!({ "cost_usd": 0.0006 });
        assert!(told(&request).contains("80 ms  charged $0.000600  slow down"), "{}", told(&request));
        request["receipt"]["attempts"][0]["charged"] = json!({ "cost_usd": null });
        assert!(told(&request).contains("80 ms  charged  slow down"), "{}", told(&request));
    }

    #[test]
    fn what_is_cheap_is_not_free() {
        let mut request = request();
        request["cost_usd"] = json!(0.000_008);
        assert_eq!(cells(&request)[7], "0.000008");
    }

    #[test]
    fn a_request_stays_on_its_line_while_it_is_followed() {
        let mut request = request();
        request["model"] = json!("x\n2026-01-31T12:00:00  req_def  boss  openai/x");
        request["token"]["name"] = json!("a\rb\tc");
        let line = line(&request);
        assert!(!line.contains(['\n', '\r', '\t']) && line.contains("a b c"), "{line}");
    }

    #[test]
    fn a_request_says_what_the_model_calls_itself() {
        let mut request = request();
        request["model_served"] = json!("gpt-4o-mini");
        assert!(!told(&request).contains("calls itself"));
        request["model_served"] = json!("gpt-4o-mini-2024-07-18");
        assert!(told(&request).contains("\ncalls itself  gpt-4o-mini-2024-07-18\n"), "{}", told(&request));
    }

    #[test]
    fn a_request_is_told_whole() {
        insta::assert_snapshot!(told(&request()), @r"
        request
        id           req_abc
        time         2026-01-31T12:00:00.5Z
        token        ci  tok_1
        key          OPENAI_API_KEY  vault  team
        ends in      …cdef
        asked for    openai/smart
        answered by  openai/gpt-4o-mini
        status       all_failed: rate_limited
        attempt      openai/gpt-4o-mini  rate_limited  429  80 ms  slow down
        tokens       12 in, 3 out
        took         87 ms

        asked (70000 bytes, of which this is the beginning):
        {}

        answered (2 bytes):
        no
        ");
    }
}
