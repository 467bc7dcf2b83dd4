//! `GET /v1/usage`.

use http::Response;
use orch_proxy::Body;
use serde_json::{Value, json};

use super::call::Call;
use super::query;
use super::reply;
use crate::failure::Failure;
use crate::run::dollars;
use crate::store::{UsageBy, UsageQuery, UsageRow};

/// `GET /v1/usage?since=&until=&by=`.
pub(super) async fn read(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let query = call.query(&["since", "until", "by"])?;
    let by = match query.text("by") {
        None | Some("" | "day") => UsageBy::Day,
        Some("agent") => UsageBy::Agent,
        Some("model") => UsageBy::Model,
        Some("provider") => UsageBy::Provider,
        Some(_) => return Err(query::wrong("by", "is day, agent, model or provider")),
    };
    let query = UsageQuery { since: query.time("since")?, until: query.time("until")?, by };
    let store = call.service().store();
    let rows = store.usage(call.workspace(), &query).await?;
    let total = store.usage(call.workspace(), &UsageQuery { by: UsageBy::Total, ..query }).await?;
    let total = total.first().map_or(Value::Null, |row| {
        let mut row = document(row);
        if let Value::Object(fields) = &mut row {
            fields.remove("key");
        }
        row
    });
    let rows: Vec<Value> = rows.iter().map(document).collect();
    let budgets = call.service().budgets().shown(call.workspace()).await?;
    Ok(reply::ok(&json!({ "rows": rows, "total": total, "budgets": budgets })))
}

fn document(row: &UsageRow) -> Value {
    json!({
        "key": row.key, "runs": row.runs, "calls": row.calls, "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens, "cost_usd": row.cost_micro_usd.map(dollars),
    })
}
