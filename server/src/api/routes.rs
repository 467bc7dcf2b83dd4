//! `/v1/routes`: logical model names of the server and of a workspace.

use http::Response;
use orch_manifests::{Route, RouteName, Routes};
use orch_proxy::Body;
use serde_json::{Value, json};

use super::call::{Call, DOCUMENT};
use super::reply;
use crate::failure::Failure;

/// `GET /v1/routes`.
pub(super) async fn list(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let operators = call.service().config().routes.clone();
    let routing = call.service().routings().of(call.workspace(), &operators).await?;
    let routes: Vec<Value> =
        routing.routes.iter().map(|(name, route)| document(name, route, &operators)).collect();
    Ok(reply::ok(&json!({ "routes": routes })))
}

/// `GET /v1/routes/{name}`.
pub(super) async fn get(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let name = name(&call)?;
    let operators = call.service().config().routes.clone();
    let routing = call.service().routings().of(call.workspace(), &operators).await?;
    let route = routing.routes.get(name.as_str()).ok_or_else(|| missing(&name))?;
    Ok(reply::ok(&document(&name, route, &operators)))
}

/// `PUT /v1/routes/{name}`: the next call goes by it.
pub(super) async fn put(mut call: Call<'_>) -> Result<Response<Body>, Failure> {
    let name = name(&call)?;
    let route: Route = call.json(DOCUMENT).await?;
    let operators = call.service().config().routes.clone();
    let said = document(&name, &route, &operators);
    call.service().routings().put(call.workspace(), &operators, name, route).await?;
    Ok(reply::ok(&said))
}

/// `DELETE /v1/routes/{name}`.
pub(super) async fn remove(call: Call<'_>) -> Result<Response<Body>, Failure> {
    let name = name(&call)?;
    let operators = call.service().config().routes.clone();
    match call.service().routings().remove(call.workspace(), &operators, &name).await? {
        true => Ok(reply::ok(&json!({ "name": name }))),
        false => Err(missing(&name)),
    }
}

fn document(name: &RouteName, route: &Route, operators: &Routes) -> Value {
    let owner = if operators.get(name.as_str()).is_some() { "server" } else { "workspace" };
    json!({ "name": name, "owner": owner, "targets": route.targets, "on": route.on })
}

fn name(call: &Call<'_>) -> Result<RouteName, Failure> {
    call.query(&[])?;
    call.segment(2).parse().map_err(|e| Failure::usage("route_invalid", format!("{e}")))
}

fn missing(name: &RouteName) -> Failure {
    Failure::usage("not_found", format!("there is no route {name}")).hint("GET /v1/routes")
}
