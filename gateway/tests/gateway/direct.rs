use http::{Method, Request};
use orch_gateway::{Direct, Outcome};
use orch_manifests::Scheme;
use orch_proxy::full;
use serde_json::{Value, json};

use crate::upstream::{says, whole};
use crate::world::{ANTHROPIC_KEY, Answer, OPENAI_KEY, World, world};

const PATH: &str = "/v1/chat/completions";

fn openai(world: &World) -> Direct {
    world.gateway.inference(Scheme::Https, "api.openai.com", 443, &Method::POST, PATH).unwrap()
}

async fn direct(world: &World, auth: Option<&str>, body: &Value) -> Answer {
    let mut request = Request::post(PATH).body(full(body.to_string())).unwrap();
    if let Some(auth) = auth {
        request.headers_mut().insert("authorization", auth.parse().unwrap());
    }
    Answer::read(world.gateway.passthrough(&world.session, &openai(world), request).await).await
}

fn body() -> Value {
    json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]})
}

#[tokio::test]
async fn only_a_providers_own_inference_path_is_carried() {
    let world = world().await;
    let at = |scheme, host: &str, port, method: Method, path: &str| {
        world.gateway.inference(scheme, host, port, &method, path).map(|direct| direct.provider.to_string())
    };
    assert_eq!(at(Scheme::Https, "api.openai.com", 443, Method::POST, PATH).as_deref(), Some("openai"));
    let anthropic = at(Scheme::Https, "api.anthropic.com", 443, Method::POST, "/v1/messages");
    assert_eq!(anthropic.as_deref(), Some("anthropic"));
    assert_eq!(at(Scheme::Http, "api.openai.com", 443, Method::POST, PATH), None);
    assert_eq!(at(Scheme::Https, "api.openai.com", 8443, Method::POST, PATH), None);
    assert_eq!(at(Scheme::Https, "api.openai.com", 443, Method::GET, PATH), None);
    assert_eq!(at(Scheme::Https, "api.openai.com", 443, Method::POST, "/v1/files"), None);
    // What a server would read as that path is that path, whatever else a grant covers.
    assert_eq!(
        at(Scheme::Https, "api.openai.com", 443, Method::POST, &format!("{PATH}/")).as_deref(),
        Some("openai")
    );
    let gemini = "generativelanguage.googleapis.com";
    for path in
        ["/v1beta/models/gemini-2.5-pro%3AgenerateContent", "/v1beta/models/gemini-2.5-pro:generateContent/"]
    {
        assert_eq!(at(Scheme::Https, gemini, 443, Method::POST, path).as_deref(), Some("gemini"), "{path}");
    }
    // Nor does a name that no model has make it another path, for which the proxy would take the key.
    for path in [
        "/v1beta/models/gemini-2.5-pro%20:generateContent",
        "/v1beta/models/gemini-2.5-pro~1:generateContent",
        "/v1beta/models/:generateContent",
        "/v1beta/models/gemini-2.5-pro:countTokens:generateContent",
    ] {
        assert_eq!(at(Scheme::Https, gemini, 443, Method::POST, path).as_deref(), Some("gemini"), "{path}");
    }
    let (host, path) = ("bedrock-runtime.us-east-1.amazonaws.com", "/model/amazon.nova-lite-v1:0;x/converse");
    assert_eq!(at(Scheme::Https, host, 443, Method::POST, path).as_deref(), Some("aws"));
    assert_eq!(at(Scheme::Https, gemini, 443, Method::POST, "/v1beta/models/a/b:generateContent"), None);
    assert_eq!(at(Scheme::Https, "api.openai.com.evil.example", 443, Method::POST, PATH), None);
    // Neither a pin nor this machine is a guest's to address.
    assert_eq!(at(Scheme::Http, "127.0.0.1", world.openai.address.port(), Method::POST, PATH), None);
    assert_eq!(at(Scheme::Http, "localhost", 11434, Method::POST, PATH), None);
}

#[tokio::test]
async fn the_placeholder_opens_the_way_and_stays_behind() {
    let world = world().await;
    world.openai.script([says("hi")]);
    let answer = direct(&world, Some(&format!("Bearer {}", world.placeholder)), &body()).await;
    assert_eq!((answer.status.as_u16(), answer.said().as_str()), (200, "hi"));
    let asked = world.openai.asked();
    assert_eq!(asked[0].headers["authorization"], format!("Bearer {OPENAI_KEY}"));
    assert!(!asked[0].headers.values().any(|v| v.to_str().unwrap().contains(world.placeholder.as_str())));
    let receipt = world.receipt();
    assert_eq!((receipt.outcome, receipt.output_tokens), (Outcome::Served, 7));
}

#[tokio::test]
async fn without_the_placeholder_nothing_leaves() {
    let world = world().await;
    let placeholder = world.placeholder.to_string();
    let wrong =
        [None, Some("Bearer sk-guessed"), Some("Bearer "), Some(placeholder.as_str()), Some("Basic eDp5")];
    for auth in wrong {
        let answer = direct(&world, auth, &body()).await;
        assert_eq!(answer.status, 401, "{auth:?}");
        let error = &answer.json()["error"];
        assert!(error["message"].as_str().unwrap().contains("OPENAI_API_KEY"), "{error}");
    }
    assert!(world.openai.asked().is_empty());
}

/// Anthropic's client libraries sent a key in `x-api-key` at first, and send it as everybody's since.
#[tokio::test]
async fn anthropics_clients_show_the_placeholder_in_either_header() {
    let world = world().await;
    let place =
        world.gateway.inference(Scheme::Https, "api.anthropic.com", 443, &Method::POST, "/v1/messages");
    let place = place.unwrap();
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-3-haiku-20240307",
        "content": [{ "type": "text", "text": "hi" }], "stop_reason": "end_turn", "stop_sequence": null,
        "usage": { "input_tokens": 20, "output_tokens": 7 },
    });
    let body = json!({ "model": "claude-3-haiku-20240307", "max_tokens": 9, "messages": body()["messages"] });
    let own = world.anthropic_placeholder.to_string();
    let (bearer, other) = (format!("Bearer {own}"), format!("Bearer {}", world.placeholder));
    let (own, bearer, other) = (own.as_str(), bearer.as_str(), other.as_str());
    for (headers, status) in [
        (vec![("x-api-key", own)], 200),
        (vec![("authorization", bearer)], 200),
        (vec![("authorization", "Bearer of-something-else"), ("x-api-key", own)], 200),
        (vec![("authorization", bearer), ("x-api-key", "sk-ant-mine")], 401),
        (vec![("authorization", own)], 401),
        (vec![("authorization", other)], 401),
        (Vec::new(), 401),
    ] {
        world.anthropic.script([whole(200, &message)]);
        let mut request = Request::post("/v1/messages");
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        let request = request.body(full(body.to_string())).unwrap();
        let answer = Answer::read(world.gateway.passthrough(&world.session, &place, request).await).await;
        assert_eq!(answer.status.as_u16(), status, "{headers:?}: {}", answer.text());
        let asked = world.anthropic.asked();
        assert_eq!(asked.len(), usize::from(status == 200), "{headers:?}");
        for asked in asked {
            assert_eq!(asked.headers["x-api-key"], ANTHROPIC_KEY);
            assert!(!asked.headers.contains_key("authorization"), "what was shown stays behind");
        }
    }
}

#[tokio::test]
async fn no_other_provider_is_asked() {
    let world = world().await;
    let error =
        json!({"error": {"message": "no", "type": "insufficient_quota", "code": "insufficient_quota"}});
    world.openai.script([whole(429, &error)]);
    let answer = direct(&world, Some(&format!("Bearer {}", world.placeholder)), &body()).await;
    assert_eq!(answer.status, 429);
    assert!(world.anthropic.asked().is_empty());
    assert_eq!(world.receipt().outcome, Outcome::AllFailed);
}

#[tokio::test]
async fn a_direct_call_names_its_model() {
    let world = world().await;
    let body = json!({"messages": [{"role": "user", "content": "hello"}]});
    let answer = direct(&world, Some(&format!("Bearer {}", world.placeholder)), &body).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"]["param"].clone()), (400, json!("model")));
}
