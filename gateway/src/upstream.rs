//! The request that goes to a candidate: the client's own bytes where both speak the same dialect, a translation
//! where they do not.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use orch_manifests::{Dialect, Price, Quirks};
use orch_proxy::{Body, full};
use serde_json::{Value, json};

use crate::byok::Ask;
use crate::dialect::names::Renamed;
use crate::dialect::openai_responses::{self, LEAST_OUTPUT};
use crate::dialect::{self, Style, documents, gemini, paths, quirks, signatures};
use crate::edit::Document;
use crate::embeddings::{EmbedRequest, More};
use crate::envelope;
use crate::intake::Held;
use crate::ir::{ApiError, ChatRequest, Class, Dropped};
use crate::plan::Candidate;
use crate::tab::DROPPED_KEPT;

/// What is sent as the bound on an answer where the provider counts it against a quota beforehand and the client named none.
const MODERATE_OUTPUT: u64 = 8192;

/// Headers of a client that mean something to a provider of the same dialect. All others stay behind.
const PASSED_HEADERS: &[&str] = &["anthropic-version", "anthropic-beta", "openai-beta"];

/// Those of them that ask for something: a wider context, thoughts between calls. The version is the form alone.
const ASKING_HEADERS: [&str; 2] = ["anthropic-beta", "openai-beta"];

/// What a client sent.
pub(crate) struct ClientRequest {
    pub(crate) dialect: Dialect,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) asked: Asked,
    /// What it says of whose key is to serve it. It is not in `body` any more.
    pub(crate) byok: Ask,
    /// Whether the provider may keep the answer in its account.
    pub(crate) keeps: bool,
    /// Its places among what the run may hold.
    pub(crate) _held: Held,
}

/// What a client asks for.
pub(crate) enum Asked {
    Chat(Box<ChatRequest>),
    Embeddings(Box<EmbedRequest>),
}

impl ClientRequest {
    /// The model as the client names it.
    pub(crate) fn model(&self) -> &str {
        match &self.asked {
            Asked::Chat(chat) => &chat.model,
            Asked::Embeddings(embed) => &embed.model,
        }
    }

    /// Whether a stream is asked for.
    pub(crate) fn streams(&self) -> bool {
        matches!(&self.asked, Asked::Chat(chat) if chat.stream)
    }
}

/// A request for one candidate.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) body: Bytes,
    /// For what is not in it, where the candidate takes but some of the inputs at once.
    pub(crate) more: Vec<More>,
    pub(crate) dropped: Vec<Dropped>,
    /// What is spoken to the candidate.
    pub(crate) spoken: Dialect,
    /// What the provider knows by other names than the client.
    pub(crate) renamed: Renamed,
    /// Whether the answer's bytes go to the client as they come.
    pub(crate) same_dialect: bool,
    /// Whether the usage event was asked for on our account only.
    pub(crate) hide_usage: bool,
}

/// Why a request cannot be made for a candidate at all.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Unfit {
    pub(crate) reason: String,
    /// The field at fault, if one is.
    pub(crate) field: Option<String>,
}

impl Unfit {
    pub(crate) fn new(reason: impl Into<String>) -> Unfit {
        Unfit { reason: reason.into(), field: None }
    }

    /// A field of the request, and what is wrong with it.
    pub(crate) fn at(field: impl Into<String>, reason: &str) -> Unfit {
        let field = field.into();
        Unfit { reason: format!("{field}: {reason}"), field: Some(field) }
    }

    /// As an error for the client.
    pub(crate) fn into_error(self) -> ApiError {
        ApiError { param: self.field, ..ApiError::new(Class::BadRequest, self.reason) }
    }
}

/// The least bound on an answer that is taken in a dialect.
pub(crate) fn least_output(spoken: Dialect) -> u64 {
    if spoken == Dialect::OpenAiResponses { LEAST_OUTPUT } else { 1 }
}

impl Prepared {
    /// Bytes that an event of the answer may hold because it repeats the request, in whatever spelling.
    pub(crate) fn repeated(&self) -> usize {
        if self.spoken == Dialect::OpenAiResponses { 2 * self.body.len() } else { 0 }
    }
}

/// Writes the body for a candidate. `bound`: the most output tokens that the budget can pay for, where it is
/// bounded. `usual`: the bound for dialects that want one, where the client named none. `fallback`: whether the client asked for another model, so that its bound may be too high for this one.
pub(crate) fn prepare(
    client: &ClientRequest,
    chat: &ChatRequest,
    candidate: &Candidate,
    bound: Option<u64>,
    usual: u64,
    fallback: bool,
) -> Result<Prepared, Unfit> {
    let spoken = candidate.spoken_with(client.dialect);
    let same = client.dialect == spoken;
    let mut dropped = Vec::new();
    let mut max_tokens = chat.max_tokens;
    if let (Some(wanted), Some(model)) = (max_tokens, candidate.known())
        && wanted > model.max_output
        // No more was set aside than the model gives.
        && (fallback || !same || bound == Some(model.max_output))
    {
        dropped.push(Dropped::new(
            "max_tokens",
            format!("this model takes {}, which was sent", model.max_output),
        ));
        max_tokens = Some(model.max_output);
    }
    let least = least_output(spoken);
    if !same && max_tokens.is_some_and(|max| max < least) {
        dropped
            .push(Dropped::new("max_tokens", format!("the provider takes {least} at least, which was sent")));
        max_tokens = Some(least);
    }
    if let Some(bound) = bound {
        max_tokens = Some(max_tokens.map_or(bound, |wanted| wanted.min(bound)));
    }
    refuse_ignored(client, chat, candidate)?;
    let wants = &candidate.provider.quirks;
    // Where none is named, the most that the model can write is counted against the quota before it has written anything.
    if same && spoken == Dialect::OpenAiChat && wants.max_tokens_required && max_tokens.is_none() {
        let field = if wants.max_completion_tokens { "max_completion_tokens" } else { "max_tokens" };
        let moderate = usual.min(MODERATE_OUTPUT);
        dropped.push(Dropped::new(field, format!("none was named, and {moderate} were sent")));
        max_tokens = Some(moderate);
    }
    if same {
        let (body, hide_usage) = edited(client, chat, candidate, max_tokens, &mut dropped)
            .map_err(|e| Unfit::new(format!("the request cannot be rewritten: {e}")))?;
        return Ok(Prepared {
            body,
            more: Vec::new(),
            dropped,
            spoken,
            renamed: Renamed::default(),
            same_dialect: true,
            hide_usage,
        });
    }
    if let Some(field) = dialect::kept_by_provider(client.dialect, chat) {
        let reason = "stands for what another provider has kept, which cannot be carried to this one; send the \
                      conversation itself";
        return Err(Unfit::at(field, reason));
    }
    for header in ASKING_HEADERS.into_iter().filter(|header| client.headers.contains_key(*header)) {
        dropped.push(Dropped::new(header, "what it asks for is a feature of its own provider's"));
    }
    let style = Style {
        max_completion_tokens: wants.max_completion_tokens,
        no_stream_options: !wants.stream_options,
        no_json_schema: candidate.known().is_some_and(|model| !model.json_schema),
        reasoning: wants.reasoning,
        thinks: candidate.known().map(|model| model.reasoning),
        files: wants.files.contains(&spoken),
        caches: caches_unasked(client.dialect) && knows_writes(candidate),
    };
    let needed = wants.max_tokens_required.then_some(usual);
    let mut request =
        ChatRequest { model: candidate.sent().to_owned(), max_tokens: max_tokens.or(needed), ..chat.clone() };
    dialect::drop_empty_choice(&mut request, &mut dropped);
    documents::as_text(&mut request);
    let renamed = Renamed::apply(&mut request, spoken);
    let request = match client.dialect {
        Dialect::OpenAiResponses => openai_responses::in_turns(request),
        _ => request,
    };
    let mut written = dialect::wire(spoken).write_request(&request, &style);
    // A receipt has no more of them, and each is looked for in the whole request.
    written.dropped.truncate(DROPPED_KEPT);
    paths::respell(client.dialect, chat, &mut written.dropped);
    dropped.extend(written.dropped);
    let body = adapted(written.body, spoken, chat, candidate, &mut dropped)?;
    Ok(Prepared { body, more: Vec::new(), dropped, spoken, renamed, same_dialect: false, hide_usage: false })
}

/// Whether what a write to the cache costs is known, where anything is.
fn knows_writes(candidate: &Candidate) -> bool {
    let knows = |price: Price| price.cache_write_per_mtok.is_some() || price == Price::FREE;
    candidate.price().is_none_or(knows)
}

/// Whether the providers of this dialect cache what they have read without being asked, so that its clients do not ask.
fn caches_unasked(client: Dialect) -> bool {
    match client {
        Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::GeminiGenerateContent => true,
        Dialect::AnthropicMessages | Dialect::BedrockConverse | Dialect::CohereChat | Dialect::OllamaChat => {
            false
        }
    }
}

/// A translation in the form that the provider wants.
fn adapted(
    body: Bytes,
    spoken: Dialect,
    chat: &ChatRequest,
    candidate: &Candidate,
    dropped: &mut Vec<Dropped>,
) -> Result<Bytes, Unfit> {
    if candidate.provider.quirks == Quirks::default() {
        return Ok(body);
    }
    let mut adapt = || {
        let mut doc = Document::parse(&body)?;
        let changed = quirks::adapt(&mut doc, spoken, &candidate.provider, thinks(chat, candidate), dropped)?;
        if changed { doc.to_bytes() } else { Ok(body.clone()) }
    };
    adapt().map_err(|e: serde_json::Error| Unfit::new(format!("the request cannot be written: {e}")))
}

/// Whether the model thinks before it answers, as far as that can be known. A request of OpenAI's dialect may say
/// `thinking: {type: disabled}` to those that have a switch.
pub(crate) fn thinks(chat: &ChatRequest, candidate: &Candidate) -> bool {
    let off = chat.extras.get("thinking").and_then(|thinking| thinking.get("type"));
    candidate.known().is_none_or(|model| model.reasoning) && off.is_none_or(|kind| kind != "disabled")
}

/// What a provider would ignore, so that a run would silently get another answer than it asked for: Ollama's OpenAI endpoint
/// knows no context length, which only its native one honours.
fn refuse_ignored(client: &ClientRequest, chat: &ChatRequest, candidate: &Candidate) -> Result<(), Unfit> {
    let ignores = &candidate.provider.quirks.ignores;
    if ignores.is_empty() || candidate.spoken_with(client.dialect) != Dialect::OpenAiChat {
        return Ok(());
    }
    // Of Ollama's own clients, `options.NAME`.
    let ignored = |field: &&String| {
        let top = field.split_once('.').map_or(field.as_str(), |(top, _)| top);
        ignores.iter().any(|ignored| ignored == top)
    };
    match chat.extras.keys().find(ignored) {
        None => Ok(()),
        Some(field) => Err(Unfit::at(
            field.clone(),
            "this endpoint would ignore it; set it in the model instead, or let the operator's configuration name the \
             dialect of the provider that honours it, such as `dialect: ollama`",
        )),
    }
}

/// The client's bytes with the model, the bound on output and, for streams, the wish for usage changed.
fn edited(
    client: &ClientRequest,
    chat: &ChatRequest,
    candidate: &Candidate,
    max_tokens: Option<u64>,
    dropped: &mut Vec<Dropped>,
) -> Result<(Bytes, bool), serde_json::Error> {
    let mut doc = Document::parse(&client.body)?;
    let mut changed = false;
    let model_in_body = !matches!(client.dialect, Dialect::GeminiGenerateContent | Dialect::BedrockConverse);
    if chat.model != candidate.sent() && model_in_body {
        doc.set("model", &json!(candidate.sent()))?;
        changed = true;
    }
    let mut hide_usage = false;
    match client.dialect {
        Dialect::AnthropicMessages | Dialect::CohereChat => {
            if max_tokens != chat.max_tokens {
                doc.set("max_tokens", &json!(max_tokens))?;
                changed = true;
            }
        }
        Dialect::OpenAiResponses => {
            if max_tokens != chat.max_tokens {
                doc.set("max_output_tokens", &json!(max_tokens))?;
                changed = true;
            }
            if !client.keeps {
                keep_nothing(&mut doc, candidate, dropped)?;
                changed = true;
            }
        }
        Dialect::OpenAiChat => {
            let (name, other) = match candidate.provider.quirks.max_completion_tokens {
                true => ("max_completion_tokens", "max_tokens"),
                false => ("max_tokens", "max_completion_tokens"),
            };
            // Of two bounds the newer name's counts, here as at OpenAI.
            if doc.has(name) && doc.has(other) && doc.get(name) != doc.get(other) {
                let reason = "`max_completion_tokens` is there as well, and counts";
                dropped.push(Dropped::new("max_tokens", reason));
            }
            // Each provider knows one of the two names, and one that ignores the bound would run on.
            if let Some(max) = max_tokens
                && (doc.has(other) || max_tokens != chat.max_tokens)
            {
                doc.remove(other);
                doc.set(name, &json!(max))?;
                changed = true;
            }
            if chat.stream && !chat.include_usage && candidate.provider.quirks.stream_options {
                let mut options = doc.get("stream_options").unwrap_or_else(|| json!({}));
                if !options.is_object() {
                    options = json!({});
                }
                options["include_usage"] = json!(true);
                doc.set("stream_options", &options)?;
                changed = true;
                hide_usage = true;
            }
        }
        Dialect::OllamaChat => {
            if max_tokens != chat.max_tokens {
                let mut options = doc.object("options").unwrap_or_default();
                options.set("num_predict", &max_tokens)?;
                doc.set("options", &options)?;
                changed = true;
            }
        }
        Dialect::GeminiGenerateContent => {
            // The model is the path's; a body that names it as well would contradict it after a fallback.
            if doc.has("model") {
                doc.remove("model");
                changed = true;
            }
            if max_tokens != chat.max_tokens {
                // Either spelling may be there, and the parser has seen to it that not both are.
                let spelled =
                    |doc: &Document, one: &'static str, other| if doc.has(other) { other } else { one };
                let at = spelled(&doc, "generationConfig", "generation_config");
                let mut config = doc.object(at).unwrap_or_default();
                config.set(spelled(&config, "maxOutputTokens", "max_output_tokens"), &max_tokens)?;
                doc.set(at, &config)?;
                changed = true;
            }
            changed |= gemini::let_pass(&mut doc, chat, candidate.sent())?;
        }
        Dialect::BedrockConverse => {
            if max_tokens != chat.max_tokens {
                let mut config = doc.object("inferenceConfig").unwrap_or_default();
                config.set("maxTokens", &max_tokens)?;
                doc.set("inferenceConfig", &config)?;
                changed = true;
            }
        }
    }
    let of_claude = matches!(client.dialect, Dialect::AnthropicMessages | Dialect::BedrockConverse);
    if of_claude && candidate.sent().contains("claude") {
        changed |= signatures::drop_unsigned(&mut doc, chat, dropped)?;
    }
    let spoken = client.dialect;
    changed |= quirks::adapt(&mut doc, spoken, &candidate.provider, thinks(chat, candidate), dropped)?;
    let body = if changed { doc.to_bytes()? } else { client.body.clone() };
    Ok((body, hide_usage))
}

/// What is left of an answer after a call with `store: false` is with the client alone: thoughts come along sealed, and those
/// that stand for stored ones are not sent.
fn keep_nothing(
    doc: &mut Document,
    candidate: &Candidate,
    dropped: &mut Vec<Dropped>,
) -> Result<(), serde_json::Error> {
    const SEALED: &str = "encrypted_content";
    doc.set("store", &json!(false))?;
    let asked = || json!(format!("reasoning.{SEALED}"));
    let refused = candidate.provider.quirks.drops_in(Dialect::OpenAiResponses);
    let takes_it = !refused.iter().any(|field| field == "include");
    if takes_it && candidate.known().is_some_and(|model| model.reasoning) {
        let mut include =
            doc.get("include").and_then(|include| include.as_array().cloned()).unwrap_or_default();
        if !include.contains(&asked()) {
            include.push(asked());
            doc.set("include", &include)?;
        }
    }
    let Some(Value::Array(mut items)) = doc.get("input") else { return Ok(()) };
    let stands_for_stored =
        |item: &Value| item["type"] == "reasoning" && item.get(SEALED).is_none_or(Value::is_null);
    let all = items.len();
    for (at, _) in items.iter().enumerate().filter(|(_, item)| stands_for_stored(item)) {
        let reason = "it stands for thoughts that the provider would have stored";
        dropped.push(Dropped::new(format!("input[{at}]"), reason));
    }
    items.retain(|item| !stands_for_stored(item));
    if items.len() < all { doc.set("input", &items) } else { Ok(()) }
}

/// The HTTP request for a prepared body. The credential is put in by the proxy.
pub(crate) fn http_request(
    client: &ClientRequest,
    candidate: &Candidate,
    prepared: &Prepared,
) -> Result<Request<Body>, Unfit> {
    let stream = client.streams();
    let inference = match &client.asked {
        Asked::Chat(_) => candidate.provider.inference_path_in(prepared.spoken, stream),
        // What was written anew is a list wherever there is more than one.
        Asked::Embeddings(embed) => {
            let alone = if prepared.same_dialect { embed.alone } else { embed.inputs.len() == 1 };
            candidate.provider.embeddings_path(prepared.spoken, alone)
        }
    };
    let inference = inference.ok_or_else(|| {
        Unfit::new(format!("the catalog has no inference path for {}", candidate.provider.slug))
    })?;
    let mut target = inference.for_model(candidate.sent()).ok_or_else(|| {
        Unfit::new(format!("{} is no model name of {}", candidate.sent(), candidate.provider.slug))
    })?;
    if stream && prepared.spoken == Dialect::GeminiGenerateContent {
        target.push_str("?alt=sse");
    }
    if let Some(query) = &candidate.provider.query {
        target.push(if target.contains('?') { '&' } else { '?' });
        target.push_str(query);
    }
    let accept = match stream {
        true => dialect::wire(prepared.spoken).framing().media_type(),
        false => "application/json",
    };
    let body = match candidate.provider.quirks.code_assist {
        true => envelope::wrapped(&prepared.body, candidate.sent(), candidate.provider.project.as_deref()),
        false => prepared.body.clone(),
    };
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(target)
        .body(full(body))
        .map_err(|e| Unfit::new(format!("the provider's path is not usable: {e}")))?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("orch/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in &candidate.provider.headers {
        headers.insert(name.clone(), value.clone());
    }
    if prepared.same_dialect {
        for name in PASSED_HEADERS {
            let name = HeaderName::from_static(name);
            let mut values = client.headers.get_all(&name).iter();
            // What the provider is always sent of a list stays, whatever the client adds to it.
            let listed = name == "anthropic-beta" && headers.contains_key(&name);
            if let Some(first) = values.next() {
                match listed {
                    true => _ = headers.append(name.clone(), first.clone()),
                    false => _ = headers.insert(name.clone(), first.clone()),
                }
            }
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
    }
    Ok(request)
}
