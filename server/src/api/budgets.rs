//! `/v1/budgets`: what a workspace may spend on models, and what of it is spent.

use http::Response;
use orch_proxy::Body;
use orch_vault::AuditEvent;
use serde_json::json;

use super::call::{Call, DOCUMENT};
use super::reply;
use crate::budgets::BudgetDocument;
use crate::caller::DEFAULT_WORKSPACE;
use crate::failure::{Failure, Kind};
use crate::run::dollars;

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

/// `POST /v1/budgets/{name}/release[?workspace=NAME]`: frees what is held for calls of processes that died. A budget of the
/// operator's, and one that shares what is held with such a one, is the operator's to release, of any workspace.
pub(super) async fn release(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let query = call.query(&["workspace"])?;
    let workspace = query.text("workspace").unwrap_or(call.workspace()).to_owned();
    let (budgets, name) = (call.service().budgets(), call.segment(2));
    let operators = workspace != call.workspace() || budgets.is_operators(&workspace, name).await?;
    if operators && *call.caller.workspace != *DEFAULT_WORKSPACE {
        let text = format!("the budget {name:?} is the operator's to release");
        return Err(Failure::new(Kind::Server, "forbidden", text)
            .hint(format!("an admin of the workspace {DEFAULT_WORKSPACE} can: orch budgets release {name} --workspace {workspace}")));
    }
    if operators {
        // That there is one is said before anything is put on record.
        budgets.is_operators(&workspace, name).await?;
    }
    let event = AuditEvent::BudgetReleased { budget: name.to_owned(), by: call.caller.id.to_string() };
    // On record first: what cannot be told of is not done.
    call.service().keeper().with_new(&workspace, move |vault| Ok(vault.record(vec![event])?)).await?;
    let freed = budgets.release(&workspace, name).await?;
    Ok(reply::ok(&json!({
        "name": name, "workspace": workspace,
        "released": { "tokens": freed.held_tokens, "cost_usd": dollars(freed.held_micro_usd) },
    })))
}

/// `DELETE /v1/budgets/{name}`.
pub(super) async fn remove(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    call.service().budgets().remove(call.workspace(), call.segment(2)).await?;
    Ok(reply::ok(&json!({ "removed": call.segment(2) })))
}
