//! `GET /v1/models`, Gemini's `GET /v1beta/models` and Ollama's `GET /api/tags`.

use http::{Response, StatusCode};
use orch_manifests::{Catalog, Dialect, Model, Provider, Target, resolve_model};
use orch_proxy::Body;
use serde_json::{Value, json};

use crate::route::json_reply;
use crate::session::Session;

/// A model as it is listed.
struct Listed<'p> {
    /// `provider/model`: the name that always leads to this one.
    id: String,
    provider: &'p str,
    known: Option<&'p Model>,
    /// Whether its provider can be asked; said where models are listed that cannot.
    usable: Option<bool>,
}

/// Who routes are listed as owned by.
const ROUTES: &str = "orch";

/// The plan's models; for clients, every model that the catalog knows, those first that can be asked. Then the routes.
pub(crate) fn list(spoken: Dialect, session: &Session, catalog: &Catalog) -> Response<Body> {
    let plan = &*session.plan;
    let mut listed: Vec<Listed<'_>> = match &plan.clients {
        None => plan
            .candidates
            .iter()
            .map(|c| Listed {
                id: c.name(),
                provider: c.provider.slug.as_str(),
                known: c.known(),
                usable: None,
            })
            .fold(Vec::new(), |mut listed, model| {
                // The same model may be there with other keys.
                if !listed.iter().any(|known: &Listed<'_>| known.id == model.id) {
                    listed.push(model);
                }
                listed
            }),
        Some(clients) => {
            let usable = plan.at_hand.iter().map(|at_hand| (&*at_hand.provider, true));
            let lacking = clients.lacking.iter().map(|lacking| (&*lacking.provider, false));
            usable.chain(lacking).flat_map(|(provider, usable)| known(provider, usable)).collect::<Vec<_>>()
        }
    };
    listed.extend(session.routes.iter().map(|(name, route)| {
        let leads = |target: &Target| {
            resolve_model(catalog, &target.model).is_ok_and(|model| plan.provider(&model.provider).is_some())
        };
        let usable = plan.clients.is_some().then(|| route.targets.iter().any(leads));
        Listed { id: name.to_string(), provider: ROUTES, known: None, usable }
    }));
    let body = match spoken {
        // Bedrock lists models at another host.
        Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::BedrockConverse => {
            json!({ "object": "list", "data": data(&listed, openai) })
        }
        Dialect::AnthropicMessages => json!({
            "data": data(&listed, anthropic), "has_more": false,
            "first_id": listed.first().map(|model| &model.id), "last_id": listed.last().map(|model| &model.id),
        }),
        Dialect::GeminiGenerateContent => json!({ "models": data(&listed, gemini) }),
        Dialect::CohereChat => json!({ "models": data(&listed, cohere) }),
        Dialect::OllamaChat => json!({ "models": data(&listed, ollama) }),
    };
    json_reply(StatusCode::OK, body.to_string().into(), None)
}

fn known(provider: &Provider, usable: bool) -> impl Iterator<Item = Listed<'_>> {
    let slug = provider.slug.as_str();
    provider.models.iter().map(move |model| Listed {
        id: format!("{slug}/{}", model.id),
        provider: slug,
        known: Some(model),
        usable: Some(usable),
    })
}

fn data(listed: &[Listed<'_>], write: fn(&Listed<'_>) -> Value) -> Vec<Value> {
    let with_key = |model: &Listed<'_>| {
        let mut value = write(model);
        if let Some(usable) = model.usable {
            value["provider"] = json!(model.provider);
            value["key"] = json!(if usable { "present" } else { "missing" });
        }
        value
    };
    listed.iter().map(with_key).collect()
}

fn openai(model: &Listed<'_>) -> Value {
    json!({ "id": model.id, "object": "model", "created": 0, "owned_by": model.provider })
}

fn anthropic(model: &Listed<'_>) -> Value {
    json!({
        "type": "model", "id": model.id, "display_name": model.id, "created_at": "1970-01-01T00:00:00Z",
    })
}

fn gemini(model: &Listed<'_>) -> Value {
    let mut value = json!({
        "name": format!("models/{}", model.id), "displayName": model.id,
        "supportedGenerationMethods": ["generateContent", "streamGenerateContent"],
    });
    if let Some(known) = model.known {
        value["inputTokenLimit"] = json!(known.context);
        value["outputTokenLimit"] = json!(known.max_output);
    }
    value
}

fn cohere(model: &Listed<'_>) -> Value {
    let mut value = json!({ "name": model.id, "endpoints": ["chat"], "finetuned": false });
    if let Some(known) = model.known {
        value["context_length"] = json!(known.context);
    }
    value
}

fn ollama(model: &Listed<'_>) -> Value {
    json!({
        "name": model.id, "model": model.id, "modified_at": "1970-01-01T00:00:00Z", "size": 0, "digest": "",
        "details": { "format": "", "family": model.provider, "parameter_size": "", "quantization_level": "" },
    })
}
