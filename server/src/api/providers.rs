//! `/v1/providers`: who may be asked, with which keys, and how those fare.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Response;
use orch_gateway::{AtHand, KeyHealth, Plan};
use orch_proxy::{Body, Credential};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::call::Call;
use super::reply;
use crate::failure::Failure;
use crate::keeper::name_of;

/// `GET /v1/providers`.
pub(super) async fn list(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let plan = plan(&call).await?;
    let health =
        call.service().routings().of(call.workspace(), &call.service().config().routes).await?.health.all();
    let at_hand = plan.at_hand.iter().map(|at_hand| usable(at_hand, &health));
    let lacking = plan.lacking().map(|(provider, reason)| {
        json!({ "provider": provider.slug, "name": provider.name, "keys": [], "missing": reason })
    });
    let providers: Vec<Value> = at_hand.chain(lacking).collect();
    Ok(reply::ok(&json!({ "providers": providers })))
}

/// `POST /v1/providers/{name}/reset`: forgets what is known of the keys of a provider, or of the key of this name.
pub(super) async fn reset(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let name = call.segment(2).to_owned();
    let catalog = call.service().catalog();
    let of_provider = catalog.provider(&name);
    if of_provider.or_else(|| catalog.provider_of_key(name_of(&name))).is_none() {
        return Err(Failure::usage("not_found", "there is no provider of this name, nor a key of one")
            .hint("GET /v1/providers"));
    }
    let health =
        call.service().routings().of(call.workspace(), &call.service().config().routes).await?.health;
    let mut reset: Vec<String> = health.all().into_keys().collect();
    reset.retain(|key| {
        let meant = of_provider.map_or(*key == name, |provider| provider.takes_key(name_of(key)));
        meant && health.reset(key)
    });
    // What is said to be forgotten is, after a crash as well.
    call.service().store().flush().await?;
    Ok(reply::ok(&json!({ "reset": reset })))
}

async fn plan(call: &Call<'_>) -> Result<std::sync::Arc<Plan>, Failure> {
    let workspace = std::sync::Arc::from(call.workspace());
    Ok(std::sync::Arc::clone(&call.service().keeper().providers(&workspace).await?.plan))
}

fn usable(at_hand: &AtHand, health: &BTreeMap<String, KeyHealth>) -> Value {
    let keys: Vec<Value> = at_hand.keys.iter().map(|key| document(&**key, health.get(key.id()))).collect();
    json!({ "provider": at_hand.provider.slug, "name": at_hand.provider.name, "keys": keys })
}

/// A key and how it fares. What was said of another version is about another key.
fn document(key: &dyn Credential, health: Option<&KeyHealth>) -> Value {
    let now = SystemTime::now();
    let fresh = KeyHealth::default();
    let health = health.filter(|health| Some(health.version) == key.version()).unwrap_or(&fresh);
    let later = |until: &u64| *until > millis(now);
    let models: Vec<Value> = health
        .models
        .iter()
        .filter(|(_, back)| later(&back.until))
        .map(|(model, back)| json!({ "model": model, "class": back.class, "until": moment(back.until) }))
        .collect();
    let unpaid = health.unpaid.filter(later);
    let state = match (health.rejected, unpaid, models.is_empty()) {
        (Some(_), ..) => "rejected",
        (None, Some(_), _) => "out_of_money",
        (None, None, false) => "limited",
        (None, None, true) => "fine",
    };
    json!({
        "key": key.id(), "source": key.source(), "version": key.version(), "state": state,
        "since": health.rejected.map(moment), "tried_again": health.tried_again_at().map(moment),
        "until": unpaid.map(moment), "models": models,
    })
}

fn millis(at: SystemTime) -> u64 {
    u64::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn moment(millis: u64) -> Value {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH);
    reply::time(OffsetDateTime::from(at))
}
