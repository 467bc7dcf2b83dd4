//! What a call may spend: the worst case, set aside before anything is sent.

use orch_manifests::{Model, Price};
use serde_json::{Value, json};

use crate::ir::Tool;
use crate::plan::Candidate;
use crate::purse::{Ask, LimitHit};
use crate::reach::is_clients;
use crate::session::Session;
use crate::tab::Tab;
use crate::upstream::{ClientRequest, Prepared, prepare};
use crate::usage::Payers;
use crate::worst::{cache_writes, worst_input};

/// Output tokens that every model in use can give.
const ANY_MODELS_OUTPUT: u64 = 4096;

/// Why a candidate is not asked.
pub(super) enum Passed {
    /// A bound is in the way. The text says more than the bound where something of the request makes the price unknown.
    Limit(Box<LimitHit>, String),
    Unfit(String),
}

/// Sets the worst case aside and writes the request for what is left.
pub(super) async fn reserve(
    session: &Session,
    client: &ClientRequest,
    candidate: &Candidate,
    fallback: bool,
    tab: &mut Tab,
) -> Result<Prepared, Passed> {
    let known = candidate.known();
    // A beta may widen the context that the catalog knows.
    let beta = client.headers.contains_key("anthropic-beta");
    let context = known.map(|model| model.context).filter(|_| !beta);
    let input = worst_input(&client.parsed, client.body.len(), context);
    let usual = usual_output(known, input);
    let price = candidate.price();
    let dearer = price.and_then(|price| dearer_than_listed(client, &price, input));
    let ask = Ask {
        input,
        max_output: Some(client.parsed.max_tokens.unwrap_or(usual)),
        answers: client.parsed.answers,
        // What is dearer than listed costs nobody knows what, and is not booked as if it were known.
        price: price.filter(|_| dearer.is_none()),
        cache_writes: cache_writes(&client.parsed, &client.body),
        already: None,
    };
    let payers = Payers::of(&session.budget, candidate.credential.as_ref(), session.treasury.as_ref());
    let reservation = payers.reserve(ask).await.map_err(|hit| {
        let said = match &dearer {
            Some(field) if hit.needed.is_none() => format!("{field}: its price is not known, and {hit}"),
            _ => hit.to_string(),
        };
        Passed::Limit(Box::new(hit), said)
    })?;
    let mut prepared = prepare(client, candidate, reservation.max_output(), usual, fallback)
        .map_err(|unfit| Passed::Unfit(unfit.0))?;
    tab.attempt(candidate, reservation, std::mem::take(&mut prepared.dropped));
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

/// Input tokens above which Anthropic's long context costs more.
const LONG_CONTEXT: u64 = 200_000;

/// A part of the request that makes a call dearer than the catalog says: priority tiers, sound, tools that the provider
/// runs and charges for by the call, a context beyond the usual one.
fn dearer_than_listed(client: &ClientRequest, price: &Price, input: u64) -> Option<String> {
    if *price == Price::FREE {
        return None;
    }
    let extras = &client.parsed.extras;
    let text = |key: &str| extras.get(key).and_then(Value::as_str);
    let named = |field: &str| Some(field.to_owned());
    if text("service_tier").is_some_and(|tier| !matches!(tier, "default" | "flex" | "standard_only")) {
        return named("service_tier");
    }
    if text("serviceTier").is_some_and(|tier| !matches!(&*tier.to_ascii_lowercase(), "standard" | "flex")) {
        return named("serviceTier");
    }
    // Of what Gemini can answer with, the prices of text are known.
    if extras.get(MODALITIES).is_some_and(|modalities| *modalities != json!(["TEXT"])) {
        return named(MODALITIES);
    }
    if let Some(field) = DEARER_FIELDS.iter().find(|key| extras.contains_key(**key)) {
        return named(field);
    }
    let tool = client.parsed.tools.iter().position(|tool| match tool {
        Tool::Provider { kind, .. } => !is_clients(kind),
        Tool::Function { .. } => false,
    });
    if let Some(at) = tool {
        return Some(format!("tools[{at}]"));
    }
    let wider = client.headers.get_all("anthropic-beta").iter().any(|value| {
        value.to_str().is_ok_and(|betas| betas.split(',').any(|beta| beta.trim().starts_with("context-")))
    });
    (wider && input > LONG_CONTEXT && price.tier.is_none()).then(|| "anthropic-beta".to_owned())
}

const MODALITIES: &str = "generationConfig.responseModalities";

/// Sound; speed and place; searches, which cost by the call and bring in text that nobody sent; stored prompts.
const DEARER_FIELDS: [&str; 10] = [
    "audio",
    "modalities",
    "speed",
    "inference_geo",
    "web_search_options",
    "search_parameters",
    "mcp_servers",
    "plugins",
    "container",
    "web_search",
];
