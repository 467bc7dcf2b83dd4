//! `llm.orch.internal`, and the same for a server's clients: models behind the dialects that clients speak.

use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use orch_manifests::{Dialect, ModelRoute, Provider, Task};
use orch_proxy::Body;
use serde_json::json;

use crate::byok::{Ask, narrowed};
use crate::clients;
use crate::dialect::{bedrock, gemini};
use crate::gateway::{
    Begun, ClientOf, Gateway, bad_request, check_method, check_upgrade, error_reply, family_at, spoken_at,
};
use crate::intake::{Called, Manner, receive};
use crate::ir::{ApiError, Class};
use crate::models;
use crate::plan::{Plan, Planned, Preference, no_key_of, outside, route_of, targets};
use crate::receipt::Skipped;
use crate::request_id::RequestId;
use crate::route::{self, Call, RECEIPT_HEADER};
use crate::session::Session;

impl Gateway {
    /// Answers a request to `http://llm.orch.internal`: `POST /v1/chat/completions` and `POST
    /// /v1/responses` (OpenAI), `POST /v1/messages`
    /// (Anthropic), `POST /v1beta/models/MODEL:generateContent` and `…:streamGenerateContent?alt=sse` (Gemini, also below
    /// `/v1`), `POST /v2/chat` (Cohere), `POST /api/chat` (Ollama), `POST /model/MODEL/converse` and `…/converse-stream`
    /// (Bedrock); for embeddings `POST /v1/embeddings` (OpenAI), `…:embedContent` and `…:batchEmbedContents` (Gemini), `POST
    /// /v2/embed` (Cohere), `POST /api/embed` (Ollama) and `POST /model/MODEL/invoke` of models that make vectors (Bedrock);
    /// `GET /v1/models` and `GET /v1/models/MODEL` (in the dialect of the client), the same below `/v1beta`
    /// (Gemini), and `GET /api/tags` (Ollama).
    pub async fn serve(&self, session: &Session, request: Request<Body>) -> Response<Body> {
        let (id, mut begun) = (RequestId::of(&request), Begun::default());
        let answered = self.route(session, &id, &mut begun, request).await;
        Gateway::named(session, &id, begun, answered)
    }

    async fn route(
        &self,
        session: &Session,
        id: &RequestId,
        begun: &mut Begun,
        request: Request<Body>,
    ) -> Result<Response<Body>, Box<Response<Body>>> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let client = ClientOf::request(&parts);
        let Some(spoken) = spoken_at(path, client) else {
            return Err(nothing_at(family_at(path, client).unwrap_or(client.0), NOTHING_HERE));
        };
        let about = about(path);
        if let Some(about) = about
            // Below /v1beta all that is posted calls a method, whether or not there is one of this name.
            && (parts.method == Method::GET || spoken != Dialect::GeminiGenerateContent)
        {
            check_method(spoken, &parts.method, &Method::GET)?;
            if spoken == Dialect::GeminiGenerateContent {
                check_query(&parts.uri, false)?;
            }
            return Ok(match about {
                About::All => models::list(spoken, session, &self.catalog),
                About::One(model) => models::one(spoken, session, &self.catalog, &model),
            });
        }
        check_upgrade(spoken, &parts.headers)?;
        check_method(spoken, &parts.method, &Method::POST)?;
        let called = called(spoken, &parts.uri)?;
        let task = task_at(path, called.as_ref());
        if let (Dialect::BedrockConverse, Task::Embeddings, Some(Called { model, .. })) =
            (spoken, task, &called)
            && !self.embeds(session, model)
        {
            return Err(nothing_at(spoken, OFFERED));
        }
        begun.is_call = true;
        begun.model = called.as_ref().map(|called| called.model.clone()).unwrap_or_default();
        let client = receive(session, spoken, task, called, parts.headers, body).await?;
        begun.model = client.model().to_owned();
        // What is thought with makes no vectors.
        let preferred = session.preferred.as_ref().filter(|_| task == Task::Chat);
        let chosen = self
            .chosen(session, client.model(), &client.byok, preferred)
            .map_err(|error| Box::new(error_reply(spoken, &error)))?;
        let first = &chosen.planned[0];
        let asked = match is_unnamed(client.model()) {
            true => first.model.clone(),
            false => client.model().to_owned(),
        };
        let asked = (first.provider.slug.to_string(), asked);
        let call = Call::new(client, session, chosen, asked, id.clone());
        Ok(Box::pin(route::answer(&self.proxy, &self.timing, session, call)).await)
    }

    /// Whether a name may be that of a model that makes vectors: one that the catalog knows as such, with its provider before
    /// it or not, or a route. At Bedrock's path for them others are asked in words that are not known here.
    fn embeds(&self, session: &Session, name: &str) -> bool {
        let behind = name.split_once('/').filter(|(provider, _)| self.catalog.provider(provider).is_some());
        let model = behind.map_or(name, |(_, model)| model);
        let known =
            |provider: &Provider| provider.model(model).is_some_and(|known| known.embedding.is_some());
        route_of(&session.routes, name).is_some() || self.catalog.providers().any(known)
    }

    /// Where a request starts: at the plan's first model when it names none, at the one that it names, at a route, or at a
    /// model outside the plan whose provider is at hand.
    fn chosen(
        &self,
        session: &Session,
        asked: &str,
        ask: &Ask,
        preferred: Option<&Preference>,
    ) -> Result<Chosen, ApiError> {
        if session.plan.clients.is_some() {
            return clients::chosen(session, &self.catalog, asked, ask, preferred);
        }
        let Chosen { planned, skipped } = self.of_run(session, asked)?;
        Ok(Chosen { planned: narrowed(ask, &self.catalog, planned)?, skipped })
    }

    /// The same for a run, whose keys are given.
    fn of_run(&self, session: &Session, asked: &str) -> Result<Chosen, ApiError> {
        let plan = &*session.plan;
        if is_unnamed(asked) {
            return match plan.candidates.is_empty() {
                false => Ok(plan.candidates.clone().into()),
                true => Err(no_model(plan, "the agent names no model, and neither does the request")),
            };
        }
        if let Some(at) = plan.candidates.iter().position(|planned| goes_by(planned, asked)) {
            return Ok(plan.candidates[at..].to_vec().into());
        }
        if let Some(skipped) = plan.skipped.iter().find(|skipped| skipped.model == asked) {
            // A model of the plan that was left out, for want of a key or by the caller's choice: the plan's others
            // are there for that. What was left out was said before the run.
            return match plan.candidates.is_empty() {
                false => Ok(plan.candidates.clone().into()),
                true => Err(no_model(plan, &format!("{asked} cannot serve this run: {}", skipped.reason))),
            };
        }
        if let Some(route) = route_of(&session.routes, asked) {
            let mut lacking = |model: &ModelRoute| no_key_of(&model.provider);
            let (planned, skipped) = targets(plan, &self.catalog, route, 0, &mut lacking);
            return match planned.is_empty() {
                false => Ok(Chosen { planned, skipped }),
                true => Err(no_model(plan, &leads_nowhere(asked, &skipped))),
            };
        }
        match outside(plan, &self.catalog, asked) {
            Ok(planned) => Ok(vec![planned].into()),
            Err(reason) => Err(no_model(plan, &reason)),
        }
    }
}

/// The models of the plan that a request may be answered by, and those that were left out. There is one at least.
pub(crate) struct Chosen {
    pub(crate) planned: Vec<Planned>,
    pub(crate) skipped: Vec<Skipped>,
}

impl From<Vec<Planned>> for Chosen {
    fn from(planned: Vec<Planned>) -> Chosen {
        Chosen { planned, skipped: Vec::new() }
    }
}

/// That none of a route's models can serve, and why.
pub(crate) fn leads_nowhere(route: &str, skipped: &[Skipped]) -> String {
    let reasons: Vec<String> = skipped.iter().map(|s| format!("{}: {}", s.model, s.reason)).collect();
    format!("the route {route} leads nowhere from here: {}", reasons.join("; "))
}

/// What a request wants to know of models.
enum About {
    All,
    One(String),
}

/// What a path is about, where it is about models and calls none.
fn about(path: &str) -> Option<About> {
    if matches!(path, "/v1/models" | "/v1beta/models" | "/api/tags") {
        return Some(About::All);
    }
    let calls = gemini::path::method(path).and_then(|method| method.manner()).is_some();
    models::asked_about(path).filter(|_| !calls).map(About::One)
}

const NOTHING_HERE: &str = "there is nothing at this path; use /v1/chat/completions, /v1/responses, /v1/messages, \
     /v1beta/models/MODEL:generateContent, /v2/chat, /api/chat, /model/MODEL/converse, /v1/embeddings, \
     /v1beta/models/MODEL:embedContent, /v2/embed, /api/embed, /model/MODEL/invoke or /v1/models";

/// What there is of Bedrock's.
const OFFERED: &str = "this is not offered here; use /model/MODEL/converse or /model/MODEL/converse-stream, or for vectors \
     /model/MODEL/invoke";

fn nothing_at(spoken: Dialect, message: &str) -> Box<Response<Body>> {
    let error = ApiError {
        status: Some(StatusCode::NOT_FOUND.as_u16()),
        code: Some("unknown_path".to_owned()),
        ..ApiError::new(Class::BadRequest, message)
    };
    Box::new(error_reply(spoken, &error))
}

/// What a path is for. `called`: what it says of its model.
pub(crate) fn task_at(path: &str, called: Option<&Called>) -> Task {
    match called.map(|called| called.manner) {
        Some(Manner::Embeddings { .. }) => Task::Embeddings,
        Some(Manner::Chat { .. }) => Task::Chat,
        None if matches!(path, "/v1/embeddings" | "/v2/embed" | "/api/embed") => Task::Embeddings,
        None => Task::Chat,
    }
}

/// What a request's address says of its model, in dialects that say it there.
pub(crate) fn called(spoken: Dialect, uri: &Uri) -> Result<Option<Called>, Box<Response<Body>>> {
    match spoken {
        Dialect::GeminiGenerateContent => {}
        Dialect::BedrockConverse => return operation(uri.path()).map(Some),
        Dialect::OpenAiChat
        | Dialect::OpenAiResponses
        | Dialect::AnthropicMessages
        | Dialect::CohereChat
        | Dialect::OllamaChat => return Ok(None),
    }
    let Some(method) = gemini::path::method(uri.path()) else { return Err(nothing_at(spoken, NOTHING_HERE)) };
    let Some(manner) = method.manner() else { return Err(nothing_at(spoken, &method.offered())) };
    check_query(uri, manner == Manner::Chat { stream: true })?;
    Ok(Some(Called { model: method.model, manner }))
}

fn operation(path: &str) -> Result<Called, Box<Response<Body>>> {
    let Some(operation) = bedrock::path::operation(path) else {
        return Err(nothing_at(Dialect::BedrockConverse, NOTHING_HERE));
    };
    let manner = match (operation.stream, operation.invoked) {
        (Some(stream), _) => Manner::Chat { stream },
        // How many vectors are asked for is the body's to say.
        (None, true) => Manner::Embeddings { alone: false },
        (None, false) => return Err(nothing_at(Dialect::BedrockConverse, OFFERED)),
    };
    Ok(Called { model: operation.model, manner })
}

fn check_query(uri: &Uri, stream: bool) -> Result<(), Box<Response<Body>>> {
    gemini::path::check_query(uri.query(), stream)
        .map_err(|error| Box::new(bad_request(Dialect::GeminiGenerateContent, &error)))
}

pub(crate) fn wants_receipt(headers: &HeaderMap) -> bool {
    headers.get(RECEIPT_HEADER).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"))
}

pub(crate) fn is_unnamed(model: &str) -> bool {
    matches!(model, "" | "default" | "auto")
}

/// Whether a plan's model is meant: by its name, an alias of it, or either with the provider in front; or by the route
/// that it comes from.
fn goes_by(candidate: &Planned, asked: &str) -> bool {
    if candidate.route.as_ref().is_some_and(|route| route.as_str() == asked) {
        return true;
    }
    let named = |name: &str| {
        name == candidate.model
            || candidate.known().is_some_and(|model| model.aliases.iter().any(|alias| alias == name))
    };
    named(asked)
        || asked.split_once('/').is_some_and(|(prefix, name)| {
            // A variant's name asks for its dialect, so that only a candidate of the same dialect is meant.
            let dialect = candidate.provider.named_dialect(prefix);
            candidate.provider.goes_by(prefix)
                && named(name)
                && (dialect.is_none() || dialect == candidate.dialect)
        })
}

fn no_model(plan: &Plan, reason: &str) -> ApiError {
    let names: Vec<String> = plan.candidates.iter().map(Planned::name).collect();
    let offer = match names.is_empty() {
        true => "this run's plan has no models".to_owned(),
        false => format!("this run's models: {}", names.join(", ")),
    };
    ApiError {
        param: Some("model".to_owned()),
        details: Some(Box::new(json!({ "models": names }))),
        ..ApiError::new(Class::NoModel, format!("{reason}; {offer}"))
    }
}
