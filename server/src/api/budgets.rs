//! `/v1/budgets`: what a workspace may spend on models, and what of it is spent.

use http::Response;
use orch_proxy::Body;
use serde_json::json;

use super::call::{Call, DOCUMENT};
use super::reply;
use crate::budgets::BudgetDocument;
use crate::failure::Failure;

/// `GET /v1/budgets`: those of the configuration and those that were set here.
pub(super) async fn list(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let budgets = call.service().budgets().shown(call.workspace()).await?;
    Ok(reply::ok(&json!({ "budgets": budgets })))
}

/// `PUT /v1/budgets/{name}`: in the place of the one of this name. It holds from the next call on, and counts what was
/// spent in its window before.
pub(super) async fn put(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let document: BudgetDocument = call.json(DOCUMENT).await?;
    let (budgets, name) = (call.service().budgets(), call.segment(2));
    budgets.put(call.workspace(), name, &document).await?;
    let shown = budgets.shown(call.workspace()).await?;
    let set = shown.into_iter().find(|budget| budget["name"] == name);
    Ok(reply::ok(&json!(set)))
}

/// `DELETE /v1/budgets/{name}`.
pub(super) async fn remove(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    call.service().budgets().remove(call.workspace(), call.segment(2)).await?;
    Ok(reply::ok(&json!({ "removed": call.segment(2) })))
}
