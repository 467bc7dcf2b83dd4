//! What a call may spend: the worst case, set aside before anything is sent.

use orch_manifests::{Dialect, Price};
use serde_json::{Map, Value, json};

use crate::dialect::{anthropic, kept_by_provider, paths};
use crate::embeddings::{self, EmbedRequest};
use crate::fields::alike;
use crate::ir::{ChatRequest, Tool};
use crate::plan::Candidate;
use crate::purse::{Ask, CacheWrites, LimitHit, Unreserved};
use crate::reach::{brings_tools, is_providers};
use crate::session::Session;
use crate::tab::Tab;
use crate::upstream::{Asked, ClientRequest, Prepared, Unfit, least_output, prepare};
use crate::usage::Payers;
use crate::worst::{any_input, cache_writes, worst_input};

/// Output tokens that every model in use can give.
const ANY_MODELS_OUTPUT: u64 = 4096;

/// Output tokens that every Claude from the fourth generation on can give.
const MUCH_OUTPUT: u64 = 32_000;

/// Why a candidate is not asked.
pub(super) enum Passed {
    /// A bound is in the way. The text says more than the bound where something of the request makes the price unknown.
    Limit(Box<LimitHit>, String),
    /// What is left cannot be known.
    Unavailable(String),
    /// What is left is less than the provider takes.
    Over(String),
    Unfit(Unfit),
}

/// What a request needs of a candidate at most.
struct Need {
    ask: Ask,
    /// The part of it that makes it dearer than listed.
    dearer: Option<String>,
    /// The bound on an answer where one has to be sent and the client named none.
    usual: u64,
    /// The least bound that the provider takes.
    least: u64,
}

/// Sets the worst case aside and writes the request for what is left.
pub(super) async fn reserve(
    session: &Session,
    client: &ClientRequest,
    candidate: &Candidate,
    fallback: bool,
    tab: &mut Tab,
) -> Result<Prepared, Passed> {
    let Need { ask, dearer, usual, least } = match &client.asked {
        Asked::Chat(chat) => of_chat(client, chat, candidate),
        Asked::Embeddings(embed) => of_embeddings(embed, candidate),
    };
    // What is dearer than listed costs nobody knows what, and is not booked as if it were known.
    let ask = Ask { price: ask.price.filter(|_| dearer.is_none()), ..ask };
    let payers = Payers::of(&session.budget, candidate.credential.as_ref(), session.treasury.as_ref());
    let reservation = payers.reserve(ask).await.map_err(|why| {
        let hit = match why {
            Unreserved::Limit(hit) => hit,
            Unreserved::Unavailable(why) => return Passed::Unavailable(why),
        };
        let said = match &dearer {
            Some(field) if hit.needed.is_none() => format!("{field}: its price is not known, and {hit}"),
            _ => hit.to_string(),
        };
        Passed::Limit(Box::new(hit), said)
    })?;
    if let Some(max) = reservation.max_output().filter(|max| *max < least) {
        let reason =
            format!("what is left pays for {max} tokens of answer, and it takes no bound below {least}");
        return Err(Passed::Over(reason));
    }
    let prepared = match &client.asked {
        Asked::Chat(chat) => prepare(client, chat, candidate, reservation.max_output(), usual, fallback),
        Asked::Embeddings(embed) => embeddings::prepare(client, embed, candidate),
    };
    let mut prepared = prepared.map_err(Passed::Unfit)?;
    tab.attempt(candidate, reservation, std::mem::take(&mut prepared.dropped));
    Ok(prepared)
}

fn of_chat(client: &ClientRequest, chat: &ChatRequest, candidate: &Candidate) -> Need {
    let known = candidate.known();
    // A beta may widen the context that the catalog knows.
    let beta = client.headers.contains_key("anthropic-beta") || names_beta(chat);
    let context = known.map(|model| model.context).filter(|_| !beta);
    let input = match kept_by_provider(client.dialect, chat).is_some() {
        // What the provider has kept may fill all there is room for.
        true => any_input(context),
        false => worst_input(chat, client.body.len(), context),
    };
    let usual = usual_output(candidate, input);
    let spoken = candidate.spoken_with(client.dialect);
    let mut wanted = chat.max_tokens.unwrap_or(usual);
    // More than the model gives is set aside for nobody; a beta may make it more than the catalog knows.
    if let Some(model) = known.filter(|_| !beta) {
        wanted = wanted.min(model.max_output);
    }
    if spoken != client.dialect {
        wanted = wanted.max(least_output(spoken));
    }
    let price = candidate.price();
    let mut writes = cache_writes(chat, &client.body);
    // OpenAI's newer models write their cache without being asked to, and charge for it.
    if matches!(spoken, Dialect::OpenAiChat | Dialect::OpenAiResponses)
        && price.is_some_and(|price| price.cache_write_per_mtok.is_some())
    {
        writes = writes.max(CacheWrites::Short);
    }
    let ask = Ask {
        input,
        max_output: Some(wanted),
        answers: chat.answers,
        price,
        cache_writes: writes,
        already: None,
    };
    let dearer = price.and_then(|price| dearer_than_listed(client, chat, &price, input));
    Need { ask, dearer, usual, least: least_output(spoken).min(wanted) }
}

/// Vectors cost what their input does.
fn of_embeddings(embed: &EmbedRequest, candidate: &Candidate) -> Need {
    let ask = Ask {
        input: embed.worst_input(candidate.known().map(|model| model.context)),
        max_output: Some(0),
        answers: 1,
        price: candidate.price(),
        cache_writes: CacheWrites::None,
        already: None,
    };
    // Of models that take more than text, the price of text is listed.
    let dearer = ask.price.filter(|price| *price != Price::FREE);
    let dearer = dearer.and_then(|_| embed.other_than_text().or_else(|| dearer_field(&embed.extras)));
    Need { ask, dearer: dearer.map(str::to_owned), usual: 0, least: 0 }
}

/// The bound on an answer where one has to be sent and the client named none: what the model can give and its context
/// has room for, or what every model in use can give.
fn usual_output(candidate: &Candidate, input: u64) -> u64 {
    match candidate.known() {
        Some(model) => {
            let room = model.context.saturating_sub(input).max(ANY_MODELS_OUTPUT);
            model.max_output.min(room)
        }
        None if anthropic::writes_much(candidate.sent()) => MUCH_OUTPUT,
        None => ANY_MODELS_OUTPUT,
    }
}

/// Input tokens above which Anthropic's long context costs more.
const LONG_CONTEXT: u64 = 200_000;

/// A part of the request that makes a call dearer than the catalog says: priority tiers, sound, tools that the provider
/// runs and charges for by the call, a context beyond the usual one.
fn dearer_than_listed(
    client: &ClientRequest,
    chat: &ChatRequest,
    price: &Price,
    input: u64,
) -> Option<String> {
    if *price == Price::FREE {
        return None;
    }
    let extras = &chat.extras;
    let named = |field: &str| Some(field.to_owned());
    let mut tiers = under(extras, "service_tier").filter_map(Value::as_str);
    if tiers.any(|tier| !matches!(tier, "default" | "flex" | "standard_only")) {
        return named("service_tier");
    }
    let mut tiers = under(extras, "serviceTier").filter_map(Value::as_str);
    if tiers.any(|tier| !matches!(&*tier.to_ascii_lowercase(), "standard" | "flex")) {
        return named("serviceTier");
    }
    // Bedrock's is an object.
    let mut tiers = under(extras, "serviceTier").filter_map(|tier| tier.get("type")?.as_str());
    if tiers.any(|tier| !matches!(tier, "default" | "flex")) {
        return named("serviceTier");
    }
    if let Some(field) = beyond_known(chat) {
        return Some(field);
    }
    // Of what Gemini can answer with, the prices of text are known.
    if extras.get(MODALITIES).is_some_and(|modalities| *modalities != json!(["TEXT"])) {
        return named(MODALITIES);
    }
    if let Some(field) = dearer_field(extras) {
        return named(field);
    }
    let tool = chat.tools.iter().position(|tool| match tool {
        Tool::Provider { kind, raw } => is_providers(kind, raw),
        Tool::Function { .. } => false,
    });
    if let Some(at) = tool {
        return Some(chat.tool_at(at));
    }
    if let Some(at) = chat.messages.iter().position(brings_tools) {
        return Some(format!("{}[{at}].tools", paths::list(client.dialect)));
    }
    let wider = names_beta(chat)
        || client.headers.get_all("anthropic-beta").iter().any(|value| {
            let wider = |betas: &str| betas.split(',').any(|beta| beta.trim().starts_with("context-"));
            value.to_str().is_ok_and(wider)
        });
    (wider && input > LONG_CONTEXT && price.tier.is_none()).then(|| "anthropic-beta".to_owned())
}

/// The first field that makes a call dearer, whatever is asked for.
fn dearer_field(extras: &Map<String, Value>) -> Option<&'static str> {
    let there = DEARER_FIELDS.into_iter().find(|&key| under(extras, key).next().is_some());
    let routed = || under(extras, ROUTING).any(routes_to_others).then_some(ROUTING);
    there.or_else(routed).or_else(|| under(extras, CONTEXT).any(compacts).then_some(CONTEXT))
}

/// What stands under a name, in whatever case of letters a server may read it.
fn under<'e>(extras: &'e Map<String, Value>, name: &'e str) -> impl Iterator<Item = &'e Value> {
    extras.iter().filter(move |(key, _)| alike(name, key)).map(|(_, value)| value)
}

const MODALITIES: &str = "generationConfig.responseModalities";

/// Which of those that have a model is to serve it (OpenRouter, NanoGPT). They differ in price.
const ROUTING: &str = "provider";

/// Wishes of routing that leave the choice among those that are not dearer.
const SAME_PRICE: [&str; 5] =
    ["allow_fallbacks", "require_parameters", "data_collection", "zdr", "max_price"];

fn routes_to_others(wishes: &Value) -> bool {
    let Value::Object(wishes) = wishes else { return true };
    let cheapest = |wish: &str, value: &Value| wish == "sort" && value == "price";
    wishes.iter().any(|(wish, value)| !SAME_PRICE.contains(&wish.as_str()) && !cheapest(wish, value))
}

/// What is to become of a long conversation.
const CONTEXT: &str = "context_management";

/// Whether the model is to summarise the conversation first, which takes a round more than the request's bounds speak of.
fn compacts(wishes: &Value) -> bool {
    // Anthropic's edits, and OpenAI's list.
    let wishes = wishes.get("edits").unwrap_or(wishes).as_array();
    let kind = |wish: &Value| {
        wish.get("type").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("compact"))
    };
    wishes.is_some_and(|wishes| wishes.iter().any(kind))
}

/// Sound; speed and place; searches, which cost by the call and bring in text that nobody sent; stored prompts; other models
/// than the one whose price is known; a summary of the conversation.
const DEARER_FIELDS: [&str; 23] = [
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
    "performanceConfig",
    "guardrailConfig",
    "enable_search",
    "search_settings",
    "search_options",
    "compound_custom",
    "data_sources",
    "preset",
    "models",
    "fallbacks",
    "providerOptions",
    "provider_options",
    "compaction",
];

/// Where Bedrock takes what only one maker's models know.
const ADDITIONAL: &str = "additionalModelRequestFields";

/// What is known of those fields to cost no more than listed.
const KNOWN_ADDITIONAL: &[&str] = &[
    "anthropic_beta",
    "thinking",
    "reasoning_config",
    "reasoning_effort",
    "top_k",
    "topK",
    "inferenceConfig",
];

fn additional(chat: &ChatRequest) -> Option<&Map<String, Value>> {
    chat.extras.get(ADDITIONAL)?.as_object()
}

/// Whether a beta is asked for in the body, as at Bedrock.
fn names_beta(chat: &ChatRequest) -> bool {
    additional(chat).is_some_and(|fields| fields.contains_key("anthropic_beta"))
}

/// A field of a maker's own about which nothing is known, which may be another bound of the answer as well.
fn beyond_known(chat: &ChatRequest) -> Option<String> {
    let fields = additional(chat)?;
    let inner = fields.get("inferenceConfig").and_then(Value::as_object);
    let bound = inner.is_some_and(|inner| inner.keys().any(|key| key != "topK"));
    let unknown = fields.keys().find(|key| !KNOWN_ADDITIONAL.contains(&key.as_str()));
    match (unknown, bound) {
        (Some(key), _) => Some(format!("{ADDITIONAL}.{key}")),
        (None, true) => Some(format!("{ADDITIONAL}.inferenceConfig")),
        (None, false) => None,
    }
}
