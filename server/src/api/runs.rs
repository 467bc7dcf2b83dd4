//! `/v1/runs`.

use std::time::Duration;

use http::header::LOCATION;
use http::{HeaderValue, Response, StatusCode};
use orch_manifests::{RunId, Whose};
use orch_proxy::Body;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::call::Call;
use super::query::{self, Query};
use super::reply;
use crate::caller::Scope;
use crate::failure::Failure;
use crate::service::Service;
use crate::store::{PAGE_LIMIT, RunPage, RunRow};
use crate::telemetry::TraceParent;

mod events;
mod request;

pub(super) use events::{Told, documents};
pub(super) use request::FormatWord;
use request::RunDocument;

/// Bytes of a run's request: its input has at most 64 MiB, and is written as JSON.
const REQUEST: u64 = 72 << 20;
/// Longest time that `?wait=SECONDS` may ask for.
const LONGEST_WAIT: u64 = 24 * 60 * 60;

/// `POST /v1/runs[?wait]`.
pub(super) async fn submit(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    let wait = Wait::of(&call.query(&["wait"])?)?;
    let document: RunDocument = call.json(REQUEST).await?;
    document.check(&call)?;
    let mut request = document.into_request(call.service()).await?;
    request.trace = TraceParent::of_request(&call.parts.headers);
    let service = call.service();
    // From here on the run is the server's: it goes on when whoever asked for it goes away.
    let submitted = service.submit(&call.caller, request).await;
    call.api.metrics.submitted(submitted.is_ok());
    let run = submitted?;
    let over = match wait {
        Wait::No => false,
        Wait::Until(time) => timeout(time, service.ended(&run)).await.is_ok(),
        Wait::Forever => {
            service.ended(&run).await;
            true
        }
    };
    let row = row(service, call.workspace(), &run).await?;
    let status = if over && row.status.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = reply::json(status, &resource(&row, sees_keys(&call, &row)));
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/runs/{run}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

/// How long the answer to a new run may wait for its end.
#[derive(Debug, PartialEq, Eq)]
enum Wait {
    No,
    Until(Duration),
    Forever,
}

impl Wait {
    fn of(query: &Query) -> Result<Self, Failure> {
        match (query.text("wait"), query.value::<u64>("wait")?) {
            (None, _) => Ok(Self::No),
            (Some(_), None) => Ok(Self::Forever),
            (Some(_), Some(seconds)) if seconds <= LONGEST_WAIT => {
                Ok(Self::Until(Duration::from_secs(seconds)))
            }
            (Some(_), Some(_)) => {
                Err(query::wrong("wait", &format!("is a number of seconds up to {LONGEST_WAIT}, or nothing")))
            }
        }
    }
}

/// `GET /v1/runs`.
pub(super) async fn list(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let query = call.query(&["limit", "before", "status", "agent"])?;
    let page = RunPage {
        limit: query.limit(50, PAGE_LIMIT)?,
        before: query.value("before")?,
        status: query.value("status")?,
        agent: query.value("agent")?,
    };
    let (rows, next) = call.service().store().runs(call.workspace(), &page).await?;
    let runs: Vec<Value> = rows
        .iter()
        .map(|row| {
            let mut run = resource(row, sees_keys(&call, row));
            if let Value::Object(fields) = &mut run {
                fields.shift_remove("report");
            }
            run
        })
        .collect();
    Ok(reply::ok(&json!({ "runs": runs, "next": next })))
}

/// `GET /v1/runs/{id}`.
pub(super) async fn get(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let row = asked_for(&call).await?;
    Ok(reply::ok(&resource(&row, sees_keys(&call, &row))))
}

/// `DELETE /v1/runs/{id}`: cancels it, and answers with how it ended.
pub(super) async fn cancel(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let before = asked_for(&call).await?;
    let service = call.service();
    if service.cancel(&before.run) {
        service.ended(&before.run).await;
    }
    let row = row(service, call.workspace(), &before.run).await?;
    if !row.status.is_final() {
        return Err(Failure::usage("conflict", format!("{} is executed by another process", row.run))
            .hint("stop the command that started it"));
    }
    Ok(reply::ok(&resource(&row, sees_keys(&call, &row))))
}

/// `GET /v1/runs/{id}/events`.
pub(super) async fn events(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let query = call.query(&["after", "limit"])?;
    let row = asked_for(&call).await?;
    let seen = call.parts.headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let after = query.value("after")?.or(seen).unwrap_or(0);
    let sees_keys = sees_keys(&call, &row);
    let told = Told::new(call.service(), row).seeing_keys(sees_keys);
    if call.wants_json() {
        return Ok(reply::ok(&told.page(after, query.limit(PAGE_LIMIT, PAGE_LIMIT)?).await?));
    }
    Ok(told.stream(after))
}

/// `GET /v1/runs/{id}/decisions?after=&limit=`: what the egress proxy decided, on record when the run has ended.
pub(super) async fn decisions(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let query = call.query(&["after", "limit"])?;
    let (after, limit) = (query.value("after")?.unwrap_or(0), query.limit(PAGE_LIMIT, PAGE_LIMIT)?);
    let row = asked_for(&call).await?;
    let (decisions, next) = call.service().store().decisions_page(&row.run, after, limit).await?;
    Ok(reply::ok(&json!({
        "run": row.run.as_str(), "status": row.status.as_str(), "decisions": decisions, "next": next,
    })))
}

/// The run that the path names.
///
/// # Errors
/// `run_not_found`, also for the run of another workspace.
async fn asked_for(call: &Call<'_>) -> Result<RunRow, Failure> {
    let id = call.segment(2);
    match id.parse() {
        Ok(run) => row(call.service(), call.workspace(), &run).await,
        Err(_) => Err(not_found(id)),
    }
}

async fn row(service: &Service, workspace: &str, run: &RunId) -> Result<RunRow, Failure> {
    service.store().run(workspace, run).await?.ok_or_else(|| not_found(run.as_str()))
}

pub(super) fn not_found(run: &str) -> Failure {
    let shown: String = run.chars().take(64).collect();
    Failure::usage("run_not_found", format!("there is no run {shown:?} in this workspace")).hint("orch logs")
}

/// Whether a caller is told how the keys end that a run's member brought along: themselves, and the workspace's admins, who
/// see it in the logs as well. To everybody else who may see the run it is another member's key.
fn sees_keys(call: &Call<'_>, row: &RunRow) -> bool {
    let member = row.member.as_deref().unwrap_or(&row.caller);
    *call.caller.name == *member || call.caller.may(Scope::Admin)
}

/// Takes the ends of members' own keys out of a document with receipts in it.
fn hide_ends(document: &mut Value) {
    match document {
        Value::Object(fields) => {
            if fields.get("whose").is_some_and(|whose| whose == Whose::Own.as_str()) {
                fields.shift_remove("mask");
            }
            fields.values_mut().for_each(hide_ends);
        }
        Value::Array(items) => items.iter_mut().for_each(hide_ends),
        _ => {}
    }
}

/// A run as the API shows it; without the ends of its member's own keys to whom they are nothing.
pub(super) fn resource(row: &RunRow, sees_keys: bool) -> Value {
    let mut shown = document(row);
    if !sees_keys {
        for field in ["report", "error"] {
            shown.get_mut(field).into_iter().for_each(hide_ends);
        }
    }
    shown
}

fn document(row: &RunRow) -> Value {
    json!({
        "id": row.run.as_str(),
        "agent": row.agent.as_str(),
        "version": row.version,
        "digest": row.digest.to_string(),
        "status": row.status.as_str(),
        "created_at": reply::time(row.created),
        "started_at": reply::time_or_null(row.started),
        "finished_at": reply::time_or_null(row.finished),
        "exit_code": row.exit_code,
        "error": row.error,
        "report": row.report,
        "caller": row.caller,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report, also where it is within the error of a run that failed.
    #[test]
    fn only_the_ends_of_members_own_keys_are_hidden() {
        let key = |whose: &str| json!({ "id": "OPENAI_API_KEY", "whose": whose, "mask": "wxyz" });
        let calls =
            json!([{ "credential": key("own") }, { "credential": key("team") }, { "credential": null }]);
        let mut shown = json!({ "calls": calls, "details": { "report": { "calls": calls } } });
        hide_ends(&mut shown);
        for calls in [&shown["calls"], &shown["details"]["report"]["calls"]] {
            assert_eq!(calls[0]["credential"], json!({ "id": "OPENAI_API_KEY", "whose": "own" }));
            assert_eq!(calls[1]["credential"], key("team"));
        }
    }

    #[test]
    fn waiting_is_bounded_where_it_is_said() {
        let wait = |text: &str| Wait::of(&Query::parse(text, &["wait"]).expect("a query"));
        assert_eq!(wait("").expect("fine"), Wait::No);
        assert_eq!(wait("wait").expect("fine"), Wait::Forever);
        assert_eq!(wait("wait=").expect("fine"), Wait::Forever);
        assert_eq!(wait("wait=0").expect("fine"), Wait::Until(Duration::ZERO));
        assert_eq!(wait("wait=90").expect("fine"), Wait::Until(Duration::from_secs(90)));
        for text in ["wait=-1", "wait=true", "wait=86401", "wait=1.5"] {
            assert_eq!(wait(text).expect_err(text).code(), "bad_query");
        }
    }
}
