//! `/v1/providers`: who may be asked, with which keys, and how those fare.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Response;
use orch_gateway::{AtHand, KeyHealth, Plan};
use orch_manifests::Provider;
use orch_proxy::{Body, Credential};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::call::Call;
use super::reply;
use crate::failure::Failure;
use crate::keeper::{Ring, name_of};

/// `GET /v1/providers`.
pub(super) async fn list(call: Call<'_>) -> Result<Response<Body>, Failure> {
    call.query(&[])?;
    let standing = Standing::of(&call).await?;
    let health =
        call.service().routings().of(call.workspace(), &call.service().config().routes).await?.health.all();
    // The team's plan has every provider of the catalog that a server's clients may ask.
    let at_hand = standing.team.at_hand.iter().map(|at_hand| (&*at_hand.provider, None));
    let lacking = standing.team.lacking().map(|(provider, reason)| (provider, Some(reason)));
    let all = at_hand.chain(lacking).map(|(provider, missing)| standing.document(provider, missing, &health));
    // Those first that somebody has a key for.
    let (with_key, without): (Vec<Value>, Vec<Value>) = all.partition(|entry| entry["missing"].is_null());
    let providers: Vec<Value> = with_key.into_iter().chain(without).collect();
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
    let own = Ring::own(call.workspace(), &call.caller.name);
    let mut reset: Vec<String> = health.all().into_keys().collect();
    // What another member has registered is not theirs to know of.
    reset.retain(|key| !key.starts_with("own/") || *key == own.id(name_of(key)));
    reset.retain(|key| {
        let meant = of_provider.map_or(*key == name, |provider| provider.takes_key(name_of(key)));
        meant && health.reset(key)
    });
    // What is said to be forgotten is, after a crash as well.
    call.service().store().flush().await?;
    Ok(reply::ok(&json!({ "reset": reset })))
}

/// The keys that the calls of a member may be made with, whosever they are.
struct Standing {
    own: Arc<Plan>,
    team: Arc<Plan>,
    platform: Option<Arc<Plan>>,
}

impl Standing {
    async fn of(call: &Call<'_>) -> Result<Self, Failure> {
        let (service, workspace) = (call.service(), Arc::<str>::from(call.workspace()));
        let keeper = service.keeper();
        let own = keeper.keys_of(&Ring::own(&workspace, &call.caller.name)).await?;
        let team = keeper.keys_of(&Ring::team(&workspace)).await?;
        let platform = service.platform_plan(&workspace).await?;
        Ok(Self { own: Arc::clone(&own.plan), team: Arc::clone(&team.plan), platform })
    }

    /// A provider with all of its keys; `missing` says why the team has none.
    fn document(
        &self,
        provider: &Provider,
        missing: Option<&str>,
        health: &BTreeMap<String, KeyHealth>,
    ) -> Value {
        let plans = [Some(&self.own), Some(&self.team), self.platform.as_ref()];
        let found: Vec<Result<&AtHand, &str>> =
            plans.into_iter().flatten().filter_map(|plan| plan.key_for(&provider.slug)).collect();
        let keys = found.iter().flatten().flat_map(|at_hand| &at_hand.keys);
        let keys: Vec<Value> = keys.map(|key| document(&**key, health.get(key.id()))).collect();
        // One that is there and cannot be used is said, also beside others that can.
        let unusable: Vec<&str> = found.iter().filter_map(|found| found.as_ref().err().copied()).collect();
        let mut entry = json!({ "provider": provider.slug, "name": provider.name, "keys": keys });
        if let Some(missing) = missing.filter(|_| keys.is_empty()) {
            entry["missing"] = json!(unusable.first().unwrap_or(&missing));
        } else if !unusable.is_empty() {
            entry["unusable"] = json!(unusable);
        }
        entry
    }
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
        "key": key.id(), "whose": key.whose(), "source": key.source(), "version": key.version(), "state": state,
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
