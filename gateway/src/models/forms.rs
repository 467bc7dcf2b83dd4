//! Models in the forms of the dialects.

use orch_manifests::{Dialect, Model, Price, PriceTier, Whose};
use serde_json::{Map, Value, json};

use super::{Key, Kind, Listed};

/// All of them.
pub(super) fn list(spoken: Dialect, listed: &[Listed<'_>]) -> Value {
    let write = form(spoken);
    let data: Vec<Value> = listed.iter().map(|model| written(write, model, &model.id)).collect();
    match spoken {
        // Bedrock lists models at another host.
        Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::BedrockConverse => {
            json!({ "object": "list", "data": data })
        }
        Dialect::AnthropicMessages => json!({
            "data": data, "has_more": false,
            "first_id": listed.first().map(|model| &model.id), "last_id": listed.last().map(|model| &model.id),
        }),
        Dialect::GeminiGenerateContent | Dialect::CohereChat | Dialect::OllamaChat => {
            json!({ "models": data })
        }
    }
}

/// One of them, by the name that it was asked for by.
pub(super) fn one(spoken: Dialect, model: &Listed<'_>, asked: &str) -> Value {
    written(form(spoken), model, asked)
}

type Form = fn(&Listed<'_>, &str) -> Value;

fn form(spoken: Dialect) -> Form {
    match spoken {
        Dialect::OpenAiChat | Dialect::OpenAiResponses | Dialect::BedrockConverse => openai,
        Dialect::AnthropicMessages => anthropic,
        Dialect::GeminiGenerateContent => gemini,
        Dialect::CohereChat => cohere,
        Dialect::OllamaChat => ollama,
    }
}

/// A model in a form, with what is our own.
fn written(form: Form, model: &Listed<'_>, name: &str) -> Value {
    let mut value = form(model, name);
    value["provider"] = json!(model.provider);
    value["key"] = json!(match &model.key {
        Key::Present(_) => "present",
        Key::Platform => "platform",
        Key::NotNeeded => "not_needed",
        Key::OnRequest(_) => "on_request",
        Key::Missing(_) => "missing",
    });
    match &model.key {
        Key::Missing(reason) => value["key_missing"] = json!(reason),
        Key::Present(whose) => value["key_owner"] = json!(whose),
        Key::OnRequest(whose) => {
            value["key_owner"] = json!(whose);
            value["key_asked_by"] = json!("x-use-byok: true");
        }
        Key::Platform => value["key_owner"] = json!(Whose::Platform),
        Key::NotNeeded => {}
    }
    value["orch"] = ours(model);
    value
}

/// What the catalog knows.
fn ours(model: &Listed<'_>) -> Value {
    let mut ours = Map::new();
    let mut set = |name: &str, value: Value| _ = ours.insert(name.to_owned(), value);
    set("id", json!(model.id));
    match model.kind {
        Kind::Model => set("kind", json!("model")),
        Kind::Pattern => set("kind", json!("pattern")),
        Kind::Route(targets) => {
            set("kind", json!("route"));
            set("targets", targets.iter().map(|target| json!(target.model.to_string())).collect());
        }
    }
    if let Some(known) = model.known {
        set("context", json!(known.context));
        match known.embedding {
            None => set("max_output", json!(known.max_output)),
            Some(embedding) => {
                set("dimensions", json!(embedding.dimensions));
                set("dimensions_can_be_fewer", json!(embedding.shortens));
            }
        }
        set("capabilities", json!(capabilities(known)));
        if !known.aliases.is_empty() {
            set("aliases", json!(known.aliases));
        }
    }
    if let Some(price) = &model.price {
        set("price", priced(price));
    }
    Value::Object(ours)
}

/// What a model can do, as the catalog spells it.
fn capabilities(model: &Model) -> Vec<&'static str> {
    let can = [
        (model.embedding.is_none(), "chat"),
        (model.embedding.is_some(), "embeddings"),
        (model.tools, "tools"),
        (model.vision, "vision"),
        (model.json_schema, "json_schema"),
        (model.reasoning, "reasoning"),
    ];
    can.into_iter().filter_map(|(can, name)| can.then_some(name)).collect()
}

/// Dollars for a million tokens, and the day on which they were published.
fn priced(price: &Price) -> Value {
    let dollars = |amount: orch_manifests::MicroUsd| amount.micros() as f64 / 1e6;
    let mut value = json!({
        "unit": "usd_per_million_tokens",
        "input": dollars(price.input_per_mtok), "output": dollars(price.output_per_mtok),
    });
    if let Some(cached) = price.cached_input_per_mtok {
        value["cached_input"] = json!(dollars(cached));
    }
    if let Some(write) = price.cache_write_per_mtok {
        value["cache_write"] = json!(dollars(write));
    }
    if let Some(PriceTier { above_input_tokens, input_per_mtok, output_per_mtok, cached_input_per_mtok }) =
        price.tier
    {
        value["tier"] = json!({
            "above_input_tokens": above_input_tokens,
            "input": dollars(input_per_mtok), "output": dollars(output_per_mtok),
            "cached_input": cached_input_per_mtok.map(dollars),
        });
    }
    if let Some(as_of) = price.as_of {
        value["as_of"] = json!(as_of.to_string());
    }
    value
}

fn embeds(model: &Listed<'_>) -> bool {
    model.known.is_some_and(|known| known.embedding.is_some())
}

fn openai(model: &Listed<'_>, name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": model.provider })
}

fn anthropic(model: &Listed<'_>, name: &str) -> Value {
    let mut value = json!({
        "type": "model", "id": name, "display_name": model.id, "created_at": "1970-01-01T00:00:00Z",
    });
    if let Some(known) = model.known {
        value["max_input_tokens"] = json!(known.context);
        value["max_tokens"] = json!(known.max_output);
    }
    value
}

fn gemini(model: &Listed<'_>, name: &str) -> Value {
    let methods = match embeds(model) {
        false => ["generateContent", "streamGenerateContent"],
        true => ["embedContent", "batchEmbedContents"],
    };
    let mut value = json!({
        "name": format!("models/{name}"), "displayName": model.id, "supportedGenerationMethods": methods,
    });
    if let Some(known) = model.known {
        value["inputTokenLimit"] = json!(known.context);
        value["outputTokenLimit"] = json!(known.max_output);
    }
    value
}

fn cohere(model: &Listed<'_>, name: &str) -> Value {
    let endpoint = if embeds(model) { "embed" } else { "chat" };
    let mut value = json!({ "name": name, "endpoints": [endpoint], "finetuned": false });
    if let Some(known) = model.known {
        value["context_length"] = json!(known.context);
    }
    value
}

fn ollama(model: &Listed<'_>, name: &str) -> Value {
    json!({
        "name": name, "model": name, "modified_at": "1970-01-01T00:00:00Z", "size": 0, "digest": "",
        "details": {
            "format": "", "family": model.provider, "parameter_size": "", "quantization_level": "",
        },
    })
}
