//! What a call may spend: the worst case, set aside before anything is sent.

use orch_manifests::Model;
use serde_json::json;

use crate::plan::Candidate;
use crate::session::Session;
use crate::tab::Tab;
use crate::upstream::{ClientRequest, Prepared, prepare};
use crate::usage::{Ask, LimitHit, ReserveError, asks_for_cache_writes, worst_input};

/// Output tokens that every model in use can give.
const ANY_MODELS_OUTPUT: u64 = 4096;

/// Why a candidate is not asked.
pub(super) enum Passed {
    Limit(LimitHit),
    Over(String),
    Unfit(String),
}

/// Sets the worst case aside and writes the request for what is left.
pub(super) fn reserve(
    session: &Session,
    client: &ClientRequest,
    candidate: &Candidate,
    fallback: bool,
    tab: &mut Tab,
) -> Result<Prepared, Passed> {
    let known = candidate.known();
    // What the owner of the key has left for it bounds the call as the run's own limit does.
    let owners = candidate.credential.as_ref().and_then(|credential| credential.money_left());
    if (session.budget.bounds_cost() || owners.is_some())
        && let Some(field) = dearer_than_listed(client)
    {
        return Err(Passed::Unfit(format!("{field}: its price is not known, and the run has a cost limit")));
    }
    // A beta may widen the context that the catalog knows.
    let beta = client.headers.contains_key("anthropic-beta");
    let context = known.map(|model| model.context).filter(|_| !beta);
    let input = worst_input(&client.parsed, client.body.len(), context);
    let usual = usual_output(known, input);
    let ask = Ask {
        input,
        max_output: Some(client.parsed.max_tokens.unwrap_or(usual)),
        answers: client.parsed.answers,
        price: candidate.price(),
        cache_writes: asks_for_cache_writes(&client.parsed),
        owners_micro_usd: owners,
    };
    let reservation = session.budget.reserve(&ask).map_err(|error| match error {
        ReserveError::Limit(hit) => Passed::Limit(hit),
        ReserveError::UnknownPrice | ReserveError::Owner => Passed::Over(error.to_string()),
    })?;
    let held = candidate.credential.as_ref().map(|credential| credential.hold(reservation.micro_usd()));
    let held = match held {
        // Others were quicker.
        Some(None) => return Err(Passed::Over(ReserveError::Owner.to_string())),
        Some(held) => held,
        None => None,
    };
    let mut prepared = prepare(client, candidate, reservation.max_output(), usual, fallback)
        .map_err(|unfit| Passed::Unfit(unfit.0))?;
    tab.attempt(candidate, (reservation, held), std::mem::take(&mut prepared.dropped));
    Ok(prepared)
}

/// The bound on an answer where one has to be sent and the client named none: what the model can give and its context
/// has room for, or what every model in use can give.
fn usual_output(known: Option<&Model>, input: u64) -> u64 {
    known.map_or(ANY_MODELS_OUTPUT, |model| {
        let room = model.context.saturating_sub(input).max(ANY_MODELS_OUTPUT);
        model.max_output.min(room)
    })
}

/// A field that makes a call dearer than the catalog says: priority tiers, audio.
fn dearer_than_listed(client: &ClientRequest) -> Option<&'static str> {
    let extras = &client.parsed.extras;
    let text = |key: &str| extras.get(key).and_then(serde_json::Value::as_str);
    if text("service_tier").is_some_and(|tier| !matches!(tier, "default" | "flex" | "standard_only")) {
        return Some("service_tier");
    }
    if text("serviceTier").is_some_and(|tier| !matches!(&*tier.to_ascii_lowercase(), "standard" | "flex")) {
        return Some("serviceTier");
    }
    // Of what Gemini can answer with, the prices of text are known.
    if extras.get(MODALITIES).is_some_and(|modalities| *modalities != json!(["TEXT"])) {
        return Some(MODALITIES);
    }
    ["audio", "modalities", "speed", "inference_geo"].into_iter().find(|key| extras.contains_key(*key))
}

const MODALITIES: &str = "generationConfig.responseModalities";
