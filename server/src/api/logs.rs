//! `GET /v1/logs`: the requests that models were asked, and what agents wrote to their logs.

use http::Response;
use orch_gateway::ir::Class;
use orch_proxy::Body;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::call::Call;
use super::gate;
use super::query::{self, Query};
use super::reply;
use super::runs::{self, Told};
use crate::caller::Scope;
use crate::failure::Failure;
use crate::records;
use crate::store::{CallFilter, CallPage, Calls, EventKind, PAGE_LIMIT, RunPage};

/// Requests in a page where nothing is said.
const PAGE: u32 = 50;
/// How a request may have ended, and a word for all that were not served.
const ENDS: [&str; 7] = ["served", "failed", "all_failed", "rejected", "limit", "broken", "cancelled"];
/// Whose key it was.
const BILLED: [&str; 3] = ["own", "team", "platform"];

/// `GET /v1/logs`: with `run` what its agent wrote, without it requests.
pub(super) async fn read(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let of_run = url::form_urlencoded::parse(call.parts.uri.query().unwrap_or_default().as_bytes())
        .any(|(name, _)| name == "run");
    if of_run { log(call).await } else { requests(call).await }
}

/// `GET /v1/logs?run=ID|latest&after=&limit=`.
async fn log(call: Call<'_>) -> Result<Response<Body>, Failure> {
    gate::permit_also(&call.caller, Scope::Run, "the logs of runs")?;
    let query = call.query(&["run", "after", "limit"])?;
    let limit = query.limit(PAGE_LIMIT, PAGE_LIMIT)?;
    let after = query.value("after")?.unwrap_or(0);
    let store = call.service().store();
    let row = match query.text("run").unwrap_or_default() {
        "" => return Err(query::wrong("run", "says whose log: a run's id, or latest")),
        "latest" => {
            let page = RunPage { limit: 1, ..RunPage::default() };
            let (rows, _) = store.runs(call.workspace(), &page).await?;
            rows.into_iter().next().ok_or_else(|| runs::not_found("latest"))?
        }
        id => {
            let run = id.parse().map_err(|_| runs::not_found(id))?;
            store.run(call.workspace(), &run).await?.ok_or_else(|| runs::not_found(id))?
        }
    };
    let run = row.run.to_string();
    let (mut events, next) = Told::new(call.service(), row).there(after, limit).await?;
    events.retain(|event| event.kind == EventKind::Log);
    Ok(reply::ok(&json!({ "run": run, "events": runs::documents(&events), "next": next })))
}

/// `GET /v1/logs?token=&member=&agent=&of_run=&provider=&model=&credential=&billing=&status=&class=&since=&until=&workspace=
/// &before=&after=&limit=&format=`. Admins see the requests of all tokens of their workspace, anybody else those of their
/// own.
async fn requests(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let query = call.query(&[
        "token",
        "member",
        "agent",
        "of_run",
        "provider",
        "model",
        "credential",
        "billing",
        "status",
        "class",
        "since",
        "until",
        "workspace",
        "before",
        "after",
        "limit",
        "format",
    ])?;
    let limit = query.limit(PAGE, PAGE_LIMIT)?;
    let csv = query.csv()?;
    let workspace = call.workspace_of(query.text("workspace"))?;
    let filter = filter(&query, only_of(&call))?;
    let place = |name: &str| query.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let page = match (place("before"), place("after")) {
        (None, None) => CallPage::Newest,
        (Some(before), None) => CallPage::Before(before),
        (None, Some(after)) => CallPage::After(after),
        (Some(_), Some(_)) => return Err(query::wrong("after", "is said beside `before`")),
    };
    let store = call.service().store();
    let Calls { calls, next, newest } = store.call_page(&workspace, &filter, &page, limit).await?;
    let shown: Vec<Value> = calls.iter().map(records::one).collect();
    if csv {
        let mut response = reply::csv(&records::calls_csv(&shown));
        reply::next(&mut response, next.as_deref());
        return Ok(response);
    }
    let bodies = call.service().body_keeper(&workspace).map(|keeper| keeper.kept.said());
    Ok(reply::ok(&json!({ "requests": shown, "next": next, "newest": newest, "bodies": bodies })))
}

/// `GET /v1/logs/{request}[?workspace=]`: all that is on record of one request, with what was asked and answered where that
/// was kept.
pub(super) async fn request(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let query = call.query(&["workspace"])?;
    let workspace = call.workspace_of(query.text("workspace"))?;
    let (store, name) = (call.service().store(), call.segment(2));
    let only_of = only_of(&call);
    let found = store.call(&workspace, name).await?;
    // Of what somebody may not see, they are not told that it is there.
    let theirs = found.filter(|found| only_of.is_none() || found.token == only_of);
    let found = theirs.ok_or_else(|| {
        Failure::usage("request_not_found", "there is no request of this name")
            .hint("orch logs lists requests")
    })?;
    // What is not wanted any more is read by nobody, though it may not be removed yet.
    let bodies = match call.service().body_keeper(&workspace) {
        Some(_) => store.bodies(&workspace, name, OffsetDateTime::now_utc()).await?,
        None => None,
    };
    Ok(reply::ok(&records::detail(&found, bodies.as_ref())))
}

/// The token whose requests alone a caller may see; none for admins, who see their workspace's.
fn only_of(call: &Call<'_>) -> Option<String> {
    (!call.caller.may(Scope::Admin)).then(|| call.caller.id.to_string())
}

fn filter(query: &Query, only_of: Option<String>) -> Result<CallFilter, Failure> {
    let text = |name: &str| query.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let among = |name: &str, words: &[&str]| match text(name) {
        Some(word) if !words.contains(&word.as_str()) => {
            Err(query::wrong(name, &format!("is one of {}", words.join(", "))))
        }
        word => Ok(word),
    };
    Ok(CallFilter {
        since: query.time("since")?,
        until: query.time("until")?,
        only_of,
        token: text("token"),
        member: text("member"),
        run: text("of_run"),
        agent: text("agent"),
        provider: text("provider"),
        model: text("model"),
        credential: text("credential"),
        billing: among("billing", &BILLED)?,
        outcome: among("status", &ENDS)?,
        class: among("class", &Class::ALL.map(Class::as_str))?,
    })
}
