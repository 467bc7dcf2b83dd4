//! `GET /v1/usage`.

use http::Response;
use orch_proxy::Body;
use serde_json::{Value, json};

use super::call::Call;
use super::query;
use super::reply;
use crate::caller::Scope;
use crate::failure::Failure;
use crate::records;
use crate::store::{UsageBy, UsageQuery};

/// What usage is added up by, under its word.
const BY: [(&str, UsageBy); 8] = [
    ("day", UsageBy::Day),
    ("agent", UsageBy::Agent),
    ("model", UsageBy::Model),
    ("provider", UsageBy::Provider),
    ("key", UsageBy::Credential),
    ("billing", UsageBy::Billing),
    ("member", UsageBy::Member),
    ("token", UsageBy::Token),
];

/// `GET /v1/usage?since=&until=&by=&workspace=&format=`. The sums are those of everybody for admins, and of the caller's own
/// token for anybody else: a sum over a moment is a single request, and whoever may not see that may not see this.
pub(super) async fn read(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let query = call.query(&["since", "until", "by", "workspace", "format"])?;
    let (word, by) = match query.text("by") {
        None | Some("") => BY[0],
        Some(said) => *BY.iter().find(|(word, _)| *word == said).ok_or_else(|| {
            let words: Vec<&str> = BY.iter().map(|(word, _)| *word).collect();
            query::wrong("by", &format!("is one of {}", words.join(", ")))
        })?,
    };
    let csv = query.csv()?;
    let workspace = call.workspace_of(query.text("workspace"))?;
    let only_of = (!call.caller.may(Scope::Admin)).then(|| call.caller.id.to_string());
    let query = UsageQuery { only_of, since: query.time("since")?, until: query.time("until")?, by };
    let store = call.service().store();
    let (rows, total) = store.usage_and_total(&workspace, &query).await?;
    let rows: Vec<Value> = rows.iter().map(|row| records::usage(row, by)).collect();
    if csv {
        return Ok(reply::csv(&records::usage_csv(word, &rows)));
    }
    let total = total.map_or(Value::Null, |row| {
        let mut row = records::usage(&row, UsageBy::Total);
        if let Value::Object(fields) = &mut row {
            fields.shift_remove("key");
        }
        row
    });
    let budgets = call.service().budgets().shown(&workspace).await?;
    Ok(reply::ok(&json!({ "by": word, "rows": rows, "total": total, "budgets": budgets })))
}
