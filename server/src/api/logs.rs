//! `GET /v1/logs`: what an agent wrote to its log.

use http::Response;
use orch_proxy::Body;
use serde_json::json;

use super::call::Call;
use super::query;
use super::reply;
use super::runs::{self, Told};
use crate::failure::Failure;
use crate::store::{EventKind, PAGE_LIMIT, RunPage};

/// `GET /v1/logs?run=ID|latest&after=&limit=`.
pub(super) async fn read(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let query = call.query(&["run", "after", "limit"])?;
    let limit = query.limit(PAGE_LIMIT, PAGE_LIMIT)?;
    let after = query.value("after")?.unwrap_or(0);
    let store = call.service().store();
    let row = match query.text("run") {
        None => return Err(query::wrong("run", "says whose log: a run's id, or latest")),
        Some("latest") => {
            let page = RunPage { limit: 1, ..RunPage::default() };
            let (rows, _) = store.runs(call.workspace(), &page).await?;
            rows.into_iter().next().ok_or_else(|| runs::not_found("latest"))?
        }
        Some(id) => {
            let run = id.parse().map_err(|_| runs::not_found(id))?;
            store.run(call.workspace(), &run).await?.ok_or_else(|| runs::not_found(id))?
        }
    };
    let run = row.run.to_string();
    let (mut events, next) = Told::new(call.service(), row).there(after, limit).await?;
    events.retain(|event| event.kind == EventKind::Log);
    Ok(reply::ok(&json!({ "run": run, "events": runs::documents(&events), "next": next })))
}
