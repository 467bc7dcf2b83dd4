//! `/v1/grants`: what a workspace's owner granted to exactly one content of an agent.

use http::Response;
use orch_manifests::{AgentName, Digest};
use orch_proxy::Body;
use orch_vault::AuditEvent;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::call::{Call, DOCUMENT};
use super::reply;
use crate::failure::Failure;
use crate::store::GrantRow;

/// Capabilities of one grant, and bytes of each.
const CAPABILITIES: usize = 256;
const CAPABILITY: usize = 4 << 10;

/// `GET /v1/grants`.
pub(super) async fn list(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let rows = call.service().store().grants(call.workspace()).await?;
    let grants: Vec<Value> = rows.iter().map(document).collect();
    Ok(reply::ok(&json!({ "grants": grants })))
}

fn document(row: &GrantRow) -> Value {
    json!({
        "agent": row.agent.as_str(), "digest": row.digest.to_string(), "capabilities": row.capabilities,
        "granted_at": reply::time(row.granted_at), "granted_by": row.granted_by,
    })
}

/// The body of `PUT /v1/grants/{digest}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantDocument {
    agent: AgentName,
    capabilities: Vec<String>,
}

/// `PUT /v1/grants/{digest}`: exactly these from now on, in the place of what was granted before.
pub(super) async fn put(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    let digest = digest(&call)?;
    let GrantDocument { agent, capabilities } = call.json(DOCUMENT).await?;
    let fits = |text: &String| !text.is_empty() && text.len() <= CAPABILITY;
    if capabilities.is_empty() || capabilities.len() > CAPABILITIES || !capabilities.iter().all(fits) {
        return Err(Failure::usage(
            "bad_grant",
            format!("`capabilities` are 1 to {CAPABILITIES} texts of up to {CAPABILITY} bytes"),
        )
        .hint("they are the texts in the details of `not_granted`, and of the agent itself"));
    }
    let row = GrantRow {
        workspace: call.workspace().to_owned(),
        agent,
        digest,
        capabilities,
        granted_at: OffsetDateTime::now_utc(),
        granted_by: call.caller.name.to_string(),
    };
    let said = document(&row);
    let granted = AuditEvent::Granted {
        agent: row.agent.to_string(),
        digest: digest.to_string(),
        capabilities: row.capabilities.len() as u64,
    };
    // On record first: what is not, does not hold.
    record(&call, granted).await?;
    call.service().store().put_grant(row).await?;
    Ok(reply::ok(&said))
}

/// `DELETE /v1/grants/{digest}`.
pub(super) async fn remove(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let digest = digest(&call)?;
    let missing =
        || Failure::usage("not_found", format!("nothing is granted to {digest}")).hint("GET /v1/grants");
    let store = call.service().store();
    if !store.has_grant(call.workspace(), &digest).await? {
        return Err(missing());
    }
    // On record first, as it was when it was granted: what cannot be told of is not done.
    let removed = AuditEvent::GrantRemoved { digest: digest.to_string() };
    record(&call, removed).await?;
    if !store.remove_grant(call.workspace(), &digest).await? {
        // Somebody else was quicker, and is on record, too.
        return Err(missing());
    }
    Ok(reply::ok(&json!({ "digest": digest.to_string() })))
}

/// Puts it on record in the vault, which is made for that where there is none.
async fn record(call: &Call<'_>, event: AuditEvent) -> Result<(), Failure> {
    call.service().keeper().with_new(call.workspace(), move |vault| Ok(vault.record(vec![event])?)).await
}

fn digest(call: &Call<'_>) -> Result<Digest, Failure> {
    call.query(&[])?;
    call.segment(2).parse().map_err(|e| Failure::usage("bad_digest", format!("{e}")))
}
