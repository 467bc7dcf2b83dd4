//! `/v1/tokens`.

use http::{Response, StatusCode};
use orch_manifests::Slug;
use orch_proxy::Body;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::call::{Call, DOCUMENT};
use super::reply;
use crate::caller::{Caller, DEFAULT_WORKSPACE, NewToken, Scope, is_owner};
use crate::failure::{Failure, Kind};
use crate::store::TokenRow;

/// Bytes of a token's name.
const NAME: usize = 128;

/// The body of `POST /v1/tokens`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenDocument {
    name: String,
    scopes: Vec<String>,
    expires: Option<String>,
    workspace: Option<Slug>,
}

/// `POST /v1/tokens`. Its answer is the only place where the token's text is ever said.
pub(super) async fn make(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let document: TokenDocument = call.json(DOCUMENT).await?;
    let workspace = document.workspace.map_or_else(|| call.workspace().to_owned(), |slug| slug.to_string());
    if workspace != call.workspace() && !is_operator(&call.caller) {
        return Err(Failure::new(
            Kind::Server,
            "forbidden",
            format!("tokens of other workspaces are made by an admin of {DEFAULT_WORKSPACE}"),
        ));
    }
    let wrong = |field: &str, why: String| {
        Failure::usage("bad_token", format!("`{field}` {why}")).detail("field", field)
    };
    if document.name.is_empty() || document.name.len() > NAME || document.name.chars().any(char::is_control) {
        return Err(wrong("name", format!("is 1 to {NAME} bytes without control characters")));
    }
    if is_owner(&workspace, &document.name) {
        let why = format!("is `{}`, who owns this server's machine and needs no token", document.name);
        return Err(wrong("name", why)
            .hint("give it another name: what is a member's, keys of their own first of all, goes by it"));
    }
    if document.scopes.is_empty() {
        return Err(wrong("scopes", "names none: such a token may do nothing".to_owned()));
    }
    let mut scopes = Vec::with_capacity(document.scopes.len());
    for word in &document.scopes {
        let scope: Scope = word.parse().map_err(|e| wrong("scopes", format!("{word:?} {e}")))?;
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    let now = OffsetDateTime::now_utc();
    let expires = document
        .expires
        .map(|text| {
            OffsetDateTime::parse(&text, &Rfc3339)
                .map_err(|_| wrong("expires", format!("{text:?} is not a time such as 2027-01-31T00:00:00Z")))
        })
        .transpose()?;
    if expires.is_some_and(|end| end <= now) {
        // Whoever asked may have taken it from a clock that is not this one.
        return Err(wrong("expires", format!("is over already: it is {} here", reply::time(now)))
            .hint("compare the clocks of both machines"));
    }
    let NewToken { id, text, hash } = NewToken::random()?;
    let row = TokenRow {
        id,
        workspace,
        name: document.name,
        hash,
        scopes: scopes.iter().map(Scope::to_string).collect(),
        created: now,
        expires,
        revoked: None,
        last_used: None,
    };
    let mut said = shown(&row);
    call.service().store().add_token(row).await?;
    call.api.gate.tokens().changed().await?;
    said["token"] = text.expose(|text| String::from_utf8_lossy(text).into_owned()).into();
    Ok(reply::json(StatusCode::CREATED, &said))
}

/// `GET /v1/tokens`.
pub(super) async fn list(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let rows = visible(&call).await?;
    let tokens: Vec<Value> = rows.iter().map(shown).collect();
    Ok(reply::ok(&json!({ "tokens": tokens })))
}

/// `DELETE /v1/tokens/{id}`. It ends at once.
pub(super) async fn revoke(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let id = call.segment(2);
    let not_found = || {
        let shown: String = id.chars().take(64).collect();
        Failure::usage("token_not_found", format!("there is no token {shown:?}")).hint("orch tokens list")
    };
    let row = visible(&call).await?.into_iter().find(|row| row.id == id).ok_or_else(not_found)?;
    let revoked = call.service().store().revoke_token(&row.workspace, id, OffsetDateTime::now_utc()).await?;
    // In any case: another process may have been first, and then this one has to hear of it.
    call.api.gate.tokens().changed().await?;
    if !revoked && row.revoked.is_none() {
        return Err(not_found());
    }
    let rows = visible(&call).await?;
    Ok(reply::ok(&shown(rows.iter().find(|row| row.id == id).unwrap_or(&row))))
}

/// The tokens that the caller may see: those of their workspace, or all.
async fn visible(call: &Call<'_>) -> Result<Vec<TokenRow>, Failure> {
    let mut rows = call.service().store().tokens().await?;
    if !is_operator(&call.caller) {
        rows.retain(|row| row.workspace == *call.workspace());
    }
    Ok(rows)
}

fn is_operator(caller: &Caller) -> bool {
    caller.may(Scope::Admin) && *caller.workspace == *DEFAULT_WORKSPACE
}

/// A token as it is shown: never its text, which nobody has, nor its digest.
fn shown(row: &TokenRow) -> Value {
    json!({
        "id": row.id, "workspace": row.workspace, "name": row.name, "scopes": row.scopes,
        "created_at": reply::time(row.created), "expires": reply::time_or_null(row.expires),
        "revoked_at": reply::time_or_null(row.revoked), "last_used_at": reply::time_or_null(row.last_used),
    })
}
