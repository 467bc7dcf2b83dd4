//! Each provider of the catalog is asked at its address, with its headers and its key, for what it understands.
//!
//! What is right stands here, written down from the providers' own documentation and not from the catalog. A client of a
//! server asks in OpenAI's dialect, whole, as a stream and with a tool; what arrives is compared to the letter.

use orch_tests::ca::Ca;
use orch_tests::fakes::bedrock::Converse;
use orch_tests::fakes::provider::{Mood, Provider, Spoken, TOKENS};
use orch_tests::home::{Config, Home};
use orch_tests::server::Server;
use orch_tests::upstream::Upstream;
use serde_json::{Value, json};

use crate::stage::{PROGRAM, orch};

const SAYS: &str = "Ships wait for rain.";
const PROMPT: &str = "Do ships wait?";

/// How a provider wants to be asked.
#[derive(Clone)]
struct Row {
    /// Before the model, in what the client asks for.
    slug: &'static str,
    host: &'static str,
    /// For whole answers, and for streams.
    paths: [&'static str; 2],
    /// The header of the key, and what stands before it.
    auth: (&'static str, &'static str),
    /// The key's name.
    env: &'static str,
    /// What the client asks for, and what the provider is asked for.
    models: [&'static str; 2],
    spoken: Spoken,
    /// Fields of the plain dialect, and what stands there instead; null where nothing does.
    changed: Vec<(&'static str, Value)>,
    /// The same, of streams alone.
    streamed: Vec<(&'static str, Value)>,
    tools: bool,
    /// `providers.SLUG` of the configuration.
    config: Option<Value>,
}

impl Row {
    /// A provider that is compatible with OpenAI, whose every field it knows.
    fn chat(
        slug: &'static str,
        host: &'static str,
        path: &'static str,
        env: &'static str,
        model: &'static str,
    ) -> Row {
        Row {
            slug,
            host,
            paths: [path, path],
            auth: ("authorization", "Bearer "),
            env,
            models: [model, model],
            spoken: Spoken::Chat,
            changed: Vec::new(),
            streamed: vec![("stream_options", json!({ "include_usage": true }))],
            tools: true,
            config: None,
        }
    }

    /// One that has another name for the bound on output.
    fn bounded_by_completion(mut self) -> Row {
        self.changed.extend([("max_tokens", Value::Null), ("max_completion_tokens", json!(50))]);
        self
    }

    fn key(&self) -> String {
        format!("key-of-{}-0123456789abcdef", self.slug)
    }

    fn provider(&self) -> Provider {
        let (header, scheme) = self.auth;
        Provider {
            spoken: self.spoken,
            paths: self.paths.map(str::to_owned),
            auth: (header.to_owned(), format!("{scheme}{}", self.key())),
            model: self.models[1].to_owned(),
            says: SAYS.to_owned(),
            tool: "clock".to_owned(),
            mood: Mood::Good,
        }
    }

    /// What the client sends.
    fn asked(&self, stream: bool, tool: bool) -> Value {
        let mut body = json!({
            "model": format!("{}/{}", self.slug, self.models[0]),
            "messages": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": PROMPT }],
            "max_tokens": 50, "temperature": 0.5, "seed": 7,
        });
        if stream {
            body["stream"] = json!(true);
        }
        if tool {
            let parameters = json!({ "type": "object", "properties": {} });
            let function = json!({ "name": "clock", "description": "The time.", "parameters": parameters });
            body["tools"] = json!([{ "type": "function", "function": function }]);
        }
        body
    }

    /// What the provider is sent.
    fn sent(&self, stream: bool, tool: bool) -> Value {
        let asked = self.asked(stream, tool);
        let mut body = match self.spoken {
            Spoken::Chat | Spoken::Cohere => asked,
            Spoken::Responses => responses(&asked),
            Spoken::Messages => messages(&asked),
            Spoken::Gemini => contents(&asked),
        };
        if self.spoken != Spoken::Gemini {
            body["model"] = json!(self.models[1]);
        }
        let changes = self.changed.iter().chain(self.streamed.iter().filter(|_| stream));
        for (field, value) in changes {
            match value {
                Value::Null => _ = body.as_object_mut().and_then(|body| body.remove(*field)),
                value => body[*field] = value.clone(),
            }
        }
        body
    }

    #[track_caller]
    fn conforms(&self) {
        let (home, ca) = (Home::new(), Ca::new());
        let upstream = Upstream::https(&ca, &[self.host], self.provider());
        let mut config =
            Config::trusting(&ca, &home).connect(&format!("{}:443", self.host), upstream.address());
        if let Some(entry) = &self.config {
            config = config.provider(self.slug, entry.clone());
        }
        home.configure(&config);
        orch(&home).args(["secrets", "set", self.env, "-"]).stdin(self.key()).run().expect(0);
        let server = Server::start(PROGRAM, &home);
        self.asks(&server, &upstream, self.host);
        for request in upstream.received() {
            let (header, scheme) = self.auth;
            assert_eq!(request.header(header), Some(format!("{scheme}{}", self.key()).as_str()));
        }
    }

    /// All that a client asks, what arrives for it, and what comes back.
    #[track_caller]
    fn asks(&self, server: &Server, upstream: &Upstream, host: &str) {
        let path = "/v1/chat/completions";
        for (stream, tool) in [(false, false), (true, false), (false, self.tools), (true, self.tools)] {
            let before = upstream.received().len();
            let answer = server.ask("POST", path, Some(&self.asked(stream, tool))).expect(200);
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let received = upstream.received();
            assert_eq!(received.len(), before + 1, "asked once: {received:?}");
            let request = &received[before];
            let target = match &request.query {
                Some(query) => format!("{}?{query}", request.path),
                None => request.path.clone(),
            };
            assert_eq!((request.method.as_str(), target.as_str()), ("POST", self.paths[usize::from(stream)]));
            assert_eq!(request.header("host"), Some(host));
            assert_eq!(request.json(), self.sent(stream, tool), "stream: {stream}, tool: {tool}");
            assert_eq!(request.header("content-type"), Some("application/json"));

            let expected = if tool { "clock" } else { SAYS };
            assert!(text.contains(expected), "{text}");
            let finish = if tool { "tool_calls" } else { "stop" };
            assert!(text.replace(' ', "").contains(&format!("\"finish_reason\":\"{finish}\"")), "{text}");
            assert_eq!(text.trim_end().ends_with("data: [DONE]"), stream, "{text}");
            if !stream {
                let receipt: Value =
                    serde_json::from_str(answer.header("x-orch-receipt").expect("a receipt")).expect("JSON");
                assert_eq!(
                    (receipt["input_tokens"].as_u64(), receipt["output_tokens"].as_u64()),
                    (Some(TOKENS.0), Some(TOKENS.1))
                );
            }
        }
        assert_eq!(upstream.faults(), Vec::<String>::new());
        // The provider's own word for a model that it does not have.
        let mut unknown = self.asked(false, false);
        if self.spoken != Spoken::Gemini {
            unknown["model"] = json!(format!("{}/no-such-model", self.slug));
            let answer = server.ask("POST", path, Some(&unknown)).expect(404);
            let attempt = &answer.json()["error"]["orch"]["attempts"][0];
            assert_eq!(
                (&attempt["class"], &attempt["status"]),
                (&json!("no_model"), &json!(404)),
                "{attempt}"
            );
        }
    }
}

/// In OpenAI's responses.
fn responses(asked: &Value) -> Value {
    let mut body = json!({
        "store": false, "max_output_tokens": 50, "temperature": 0.5,
        "input": [{ "role": "system", "content": "Be brief." }, { "role": "user", "content": PROMPT }],
    });
    if asked["stream"] == json!(true) {
        body["stream"] = json!(true);
    }
    if asked["tools"].is_array() {
        let parameters = json!({ "type": "object", "properties": {} });
        body["tools"] = json!([{
            "type": "function", "name": "clock", "description": "The time.", "parameters": parameters, "strict": false,
        }]);
    }
    body
}

/// In Anthropic's messages.
fn messages(asked: &Value) -> Value {
    let mut body = json!({
        "system": [{ "type": "text", "text": "Be brief." }], "max_tokens": 50, "temperature": 0.5,
        "messages": [{ "role": "user", "content": [{ "type": "text", "text": PROMPT }] }],
    });
    if asked["stream"] == json!(true) {
        body["stream"] = json!(true);
    }
    if asked["tools"].is_array() {
        let schema = json!({ "type": "object", "properties": {} });
        body["tools"] = json!([{ "name": "clock", "description": "The time.", "input_schema": schema }]);
    }
    body
}

/// In Google's contents.
fn contents(asked: &Value) -> Value {
    let mut body = json!({
        "systemInstruction": { "parts": [{ "text": "Be brief." }] },
        "contents": [{ "role": "user", "parts": [{ "text": PROMPT }] }],
        "generationConfig": { "maxOutputTokens": 50, "temperature": 0.5, "seed": 7 },
    });
    if asked["tools"].is_array() {
        // A tool without parameters has none there.
        let clock = json!({ "name": "clock", "description": "The time." });
        body["tools"] = json!([{ "functionDeclarations": [clock] }]);
    }
    body
}

macro_rules! conforms {
    ($($name:ident: $row:expr;)*) => {
        $(#[test]
        fn $name() {
            $row.conforms();
        })*
    };
}

const CHAT: &str = "/v1/chat/completions";

conforms! {
    openai: Row::chat("openai", "api.openai.com", CHAT, "OPENAI_API_KEY", "gpt-4o-mini").bounded_by_completion();
    openai_responses: Row {
        spoken: Spoken::Responses,
        paths: ["/v1/responses"; 2],
        streamed: Vec::new(),
        ..Row::chat("openai-responses", "api.openai.com", CHAT, "OPENAI_API_KEY", "gpt-4o-mini")
    };
    anthropic: Row {
        spoken: Spoken::Messages,
        paths: ["/v1/messages"; 2],
        auth: ("x-api-key", ""),
        streamed: Vec::new(),
        models: ["claude-haiku-4-5", "claude-haiku-4-5-20251001"],
        ..Row::chat("anthropic", "api.anthropic.com", CHAT, "ANTHROPIC_API_KEY", "")
    };
    google: Row { slug: "google", ..gemini_row() };
    gemini: gemini_row();
    cohere_in_its_own_dialect: Row {
        spoken: Spoken::Cohere,
        paths: ["/v2/chat"; 2],
        streamed: Vec::new(),
        ..Row::chat("cohere", "api.cohere.com", CHAT, "COHERE_API_KEY", "command-a-03-2025")
    };
    mistral: Row {
        streamed: Vec::new(),
        changed: vec![("seed", Value::Null), ("random_seed", json!(7))],
        ..Row::chat("mistral", "api.mistral.ai", CHAT, "MISTRAL_API_KEY", "mistral-large-2512")
    };
    xai: Row::chat("xai", "api.x.ai", CHAT, "XAI_API_KEY", "grok-4.3");
    xai_responses: Row {
        spoken: Spoken::Responses,
        paths: ["/v1/responses"; 2],
        streamed: Vec::new(),
        ..Row::chat("xai-responses", "api.x.ai", CHAT, "XAI_API_KEY", "grok-4.3")
    };
    deepseek: Row::chat("deepseek", "api.deepseek.com", "/chat/completions", "DEEPSEEK_API_KEY", "deepseek-chat");
    moonshot: Row::chat("moonshot", "api.moonshot.ai", CHAT, "MOONSHOT_API_KEY", "kimi-k2.6");
    zai: Row::chat("zai", "api.z.ai", "/api/paas/v4/chat/completions", "ZAI_API_KEY", "glm-4.6");
    perplexity: Row {
        streamed: Vec::new(),
        tools: false,
        ..Row::chat("perplexity", "api.perplexity.ai", "/chat/completions", "PERPLEXITY_API_KEY", "sonar")
    };
    groq: Row::chat("groq", "api.groq.com", "/openai/v1/chat/completions", "GROQ_API_KEY", "llama-3.3-70b-versatile")
        .bounded_by_completion();
    groq_responses: Row {
        spoken: Spoken::Responses,
        paths: ["/openai/v1/responses"; 2],
        streamed: Vec::new(),
        ..Row::chat("groq-responses", "api.groq.com", CHAT, "GROQ_API_KEY", "openai/gpt-oss-20b")
    };
    cerebras: Row::chat("cerebras", "api.cerebras.ai", CHAT, "CEREBRAS_API_KEY", "gpt-oss-120b")
        .bounded_by_completion();
    sambanova: Row::chat("sambanova", "api.sambanova.ai", CHAT, "SAMBANOVA_API_KEY", "Meta-Llama-3.3-70B-Instruct");
    fireworks: Row {
        models: ["glm-5p2", "accounts/fireworks/models/glm-5p2"],
        ..Row::chat(
            "fireworks", "api.fireworks.ai", "/inference/v1/chat/completions", "FIREWORKS_API_KEY", "",
        )
    };
    together: Row::chat("together", "api.together.xyz", CHAT, "TOGETHER_API_KEY", "openai/gpt-oss-120b");
    deepinfra: Row::chat(
        "deepinfra", "api.deepinfra.com", "/v1/openai/chat/completions", "DEEPINFRA_API_KEY", "openai/gpt-oss-120b",
    );
    nvidia: Row::chat("nvidia", "integrate.api.nvidia.com", CHAT, "NVIDIA_API_KEY", "any/model-of-theirs");
    novita: Row::chat("novita", "api.novita.ai", "/openai/v1/chat/completions", "NOVITA_API_KEY", "zai-org/glm-5.1");
    siliconflow: Row::chat(
        "siliconflow", "api.siliconflow.com", CHAT, "SILICONFLOW_API_KEY", "deepseek-ai/DeepSeek-V3.2",
    );
    chutes: Row::chat("chutes", "llm.chutes.ai", CHAT, "CHUTES_API_KEY", "Qwen/Qwen3-32B-TEE");
    gmicloud: Row::chat("gmicloud", "api.gmi-serving.com", CHAT, "GMICLOUD_API_KEY", "zai-org/GLM-5.1-FP8");
    meganova: Row::chat("meganova", "api.meganova.ai", CHAT, "MEGANOVA_API_KEY", "zai-org/GLM-4.6");
    akash: Row::chat("akash", "api.akashml.com", CHAT, "AKASHML_API_KEY", "any/model-of-theirs");
    openrouter: Row::chat(
        "openrouter", "openrouter.ai", "/api/v1/chat/completions", "OPENROUTER_API_KEY", "vendor/some-model",
    );
    openrouter_responses: Row {
        spoken: Spoken::Responses,
        paths: ["/api/v1/responses"; 2],
        streamed: Vec::new(),
        ..Row::chat("openrouter-responses", "openrouter.ai", CHAT, "OPENROUTER_API_KEY", "vendor/some-model")
    };
    vercel: Row::chat("vercel", "ai-gateway.vercel.sh", CHAT, "AI_GATEWAY_API_KEY", "vendor/some-model");
    nano_gpt: Row::chat("nano-gpt", "nano-gpt.com", "/api/v1/chat/completions", "NANO_GPT_API_KEY", "vendor/some-model");
    an_operator_s_own_openai_compatible_one: Row {
        config: Some(json!({
            "dialect": "openai", "base_url": "https://llm.example.com/serving/v1", "env": "LAN_LLM_KEY", "models": ["llama-*"],
        })),
        ..Row::chat("lan-llm", "llm.example.com", "/serving/v1/chat/completions", "LAN_LLM_KEY", "llama-9")
    };
    an_operator_s_own_anthropic_compatible_one: Row {
        spoken: Spoken::Messages,
        auth: ("x-api-key", ""),
        streamed: Vec::new(),
        config: Some(json!({
            "dialect": "anthropic", "base_url": "https://llm.example.com/claude", "env": "LAN_CLAUDE_KEY",
        })),
        ..Row::chat("lan-claude", "llm.example.com", "/claude/v1/messages", "LAN_CLAUDE_KEY", "claude-of-ours")
    };
    vercel_responses: Row {
        spoken: Spoken::Responses,
        paths: ["/v1/responses"; 2],
        streamed: Vec::new(),
        ..Row::chat("vercel-responses", "ai-gateway.vercel.sh", CHAT, "AI_GATEWAY_API_KEY", "vendor/some-model")
    };
    azure_responses_where_an_operator_pinned_it: Row {
        spoken: Spoken::Responses,
        paths: ["/openai/v1/responses"; 2],
        auth: ("api-key", ""),
        streamed: Vec::new(),
        config: Some(json!({ "base_url": "https://acme.openai.azure.com/openai/v1" })),
        ..Row::chat("azure-responses", "acme.openai.azure.com", CHAT, "AZURE_API_KEY", "my-deployment")
    };
    claude_in_foundry_where_an_operator_pinned_it: Row {
        spoken: Spoken::Messages,
        paths: ["/anthropic/v1/messages"; 2],
        auth: ("api-key", ""),
        streamed: Vec::new(),
        config: Some(json!({ "base_url": "https://acme.services.ai.azure.com/anthropic" })),
        ..Row::chat(
            "azure-anthropic-foundry", "acme.services.ai.azure.com", CHAT, "ANTHROPIC_FOUNDRY_API_KEY",
            "claude-sonnet-4-5",
        )
    };
    azure_where_an_operator_pinned_it: Row {
        auth: ("api-key", ""),
        config: Some(json!({ "base_url": "https://acme.openai.azure.com/openai/v1" })),
        ..Row::chat("azure", "acme.openai.azure.com", "/openai/v1/chat/completions", "AZURE_API_KEY", "my-deployment")
            .bounded_by_completion()
    };
}

fn gemini_row() -> Row {
    Row {
        spoken: Spoken::Gemini,
        paths: [
            "/v1beta/models/gemini-2.5-flash:generateContent",
            "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        ],
        auth: ("x-goog-api-key", ""),
        streamed: Vec::new(),
        ..Row::chat("gemini", "generativelanguage.googleapis.com", CHAT, "GEMINI_API_KEY", "gemini-2.5-flash")
    }
}

#[test]
fn ollama_on_the_operator_s_own_machine() {
    let home = Home::new();
    let row = Row { auth: ("", ""), ..Row::chat("ollama", "", CHAT, "", "llama3.2:3b") };
    let upstream = Upstream::http(row.provider());
    let address = upstream.address().to_string();
    home.configure(&Config::default().pin("ollama", &format!("http://{address}/v1")));
    let server = Server::start(PROGRAM, &home);
    row.asks(&server, &upstream, &address);
    assert!(upstream.received().iter().all(|request| request.header("authorization").is_none()));
}

/// As people have it: a JSON credential whose `endpoint` is the customer's host, of which `apiKey` alone travels.
#[test]
fn azure_at_the_resource_that_the_key_names() {
    let (openai, foundry) = ("acme.openai.azure.com", "acme.services.ai.azure.com");
    for row in [
        Row::chat("azure", openai, "/openai/v1/chat/completions", "AZURE_API_KEY", "gpt-4o-mini")
            .bounded_by_completion(),
        Row {
            spoken: Spoken::Responses,
            paths: ["/openai/v1/responses"; 2],
            streamed: Vec::new(),
            ..Row::chat("azure-responses", openai, CHAT, "AZURE_API_KEY", "gpt-4o-mini")
        },
        Row {
            spoken: Spoken::Messages,
            paths: ["/anthropic/v1/messages"; 2],
            streamed: Vec::new(),
            ..Row::chat(
                "azure-anthropic-foundry",
                foundry,
                CHAT,
                "ANTHROPIC_FOUNDRY_API_KEY",
                "claude-sonnet-4-5",
            )
        },
    ] {
        let row = Row { auth: ("api-key", ""), ..row };
        let (home, ca) = (Home::new(), Ca::new());
        let upstream = Upstream::https(&ca, &[row.host], row.provider());
        let config = Config::trusting(&ca, &home);
        home.configure(&config.connect(&format!("{}:443", row.host), upstream.address()));
        let key = json!({ "endpoint": format!("https://{}", row.host), "apiKey": row.key() }).to_string();
        orch(&home).args(["secrets", "set", row.env, "-"]).stdin(key).run().expect(0);
        let server = Server::start(PROGRAM, &home);
        row.asks(&server, &upstream, row.host);
        upstream.never_saw(b"apiKey");
    }
}

/// Its own fake checks what is sent, signatures included; see `bedrock`.
#[test]
fn aws_with_a_key_that_travels() {
    const HOST: &str = "bedrock-runtime.us-east-1.amazonaws.com";
    const KEY: &str = "ABSKQmVkcm9ja0FQSUtleS1lMmVRdzdacEx4NFZuOFJ0MlkyeTZIZDFLZjlCbTNHYzVKdjBYYVExMjM0NTY3ODkwYWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXo=";
    let (home, ca) = (Home::new(), Ca::new());
    let bedrock = Converse {
        region: "us-east-1",
        access_key_id: "",
        secret_access_key: "",
        session_token: None,
        bearer: KEY,
        says: SAYS,
    };
    let upstream = Upstream::https(&ca, &[HOST], bedrock);
    home.configure(&Config::trusting(&ca, &home).connect(&format!("{HOST}:443"), upstream.address()));
    orch(&home).args(["secrets", "set", "AWS_BEARER_TOKEN_BEDROCK", "-"]).stdin(KEY).run().expect(0);
    let server = Server::start(PROGRAM, &home);
    let row = Row::chat("aws", HOST, "", "", "amazon.nova-lite-v1:0");
    for (stream, path) in [(false, "converse"), (true, "converse-stream")] {
        let answer = server.ask("POST", CHAT, Some(&row.asked(stream, false))).expect(200);
        assert!(String::from_utf8_lossy(&answer.body).contains("stop"));
        let request = upstream.received().pop().expect("asked");
        assert_eq!(request.path, format!("/model/amazon.nova-lite-v1%3A0/{path}"));
        assert_eq!((request.method.as_str(), request.query.as_deref()), ("POST", None));
        let mut names: Vec<String> =
            request.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept",
                "accept-encoding",
                "authorization",
                "content-length",
                "content-type",
                "host",
                "user-agent"
            ]
        );
        assert_eq!(request.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
        assert_eq!(
            request.json(),
            json!({
                "system": [{ "text": "Be brief." }],
                "messages": [{ "role": "user", "content": [{ "text": PROMPT }] }],
                "inferenceConfig": { "maxTokens": 50, "temperature": 0.5 },
            })
        );
    }
}
