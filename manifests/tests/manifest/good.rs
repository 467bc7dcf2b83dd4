use std::time::Duration;

use orch_manifests::{Access, ByteSize, Catalog, Manifest, MicroUsd, Scheme, ServerTool, Supported};

use crate::{SUMMARIZER, json, with, yaml};

fn canonical(manifest: &Manifest) -> String {
    String::from_utf8(manifest.canonical_json()).unwrap()
}

#[test]
fn the_documented_example_means_what_it_says() {
    let m = yaml(SUMMARIZER).unwrap();
    assert_eq!(
        (m.name.org(), m.name.name(), m.version.to_string().as_str()),
        ("acme", "summarizer", "1.2.0")
    );
    assert_eq!(m.module.to_str(), Some("summarizer.wasm"));
    let llm = m.llm.as_ref().unwrap();
    assert_eq!(llm.primary.as_str(), "gemini-2.5-flash");
    assert_eq!(
        llm.fallbacks.iter().map(|f| f.as_str()).collect::<Vec<_>>(),
        ["gpt-4o-mini", "claude-3-haiku"]
    );

    let catalog = Catalog::builtin();
    let allowed: Vec<_> =
        catalog.providers().filter(|p| m.supported_providers.allows(p)).map(|p| p.slug.as_str()).collect();
    assert_eq!(allowed, ["openai", "anthropic"]);
    assert!(m.check_against(&catalog).is_empty());

    let want = &m.egress[0];
    assert_eq!((want.scheme, want.port, want.effective_port()), (Scheme::Https, None, 443));
    assert!(want.paths[0].matches(&"/repos/a/b".parse().unwrap()));
    assert_eq!(m.secrets[0].name.as_str(), "GITHUB_TOKEN");
    assert_eq!(m.calls[0].to_string(), "acme/translator@^2");
    assert_eq!((m.files[0].path.as_str(), m.files[0].access), ("/data", Access::Read));
    assert_eq!(m.limits.memory, Some(ByteSize(256 << 20)));
    assert_eq!(
        (m.limits.time, m.limits.cpu),
        (Some(Duration::from_secs(300)), Some(Duration::from_secs(60)))
    );
    assert_eq!((m.limits.requests, m.limits.tokens), (Some(500), Some(200_000)));
    assert_eq!(m.limits.cost_usd, Some(MicroUsd(500_000)));
    assert_eq!(m.env["TONE"], "dry");
}

#[test]
fn what_providers_do_by_themselves_and_their_accounts_are_asked_for_one_by_one() {
    let asks = "server_tools: [stored, search], account: [{provider: OPENAI, methods: [GET, DELETE], paths: [/v1/files, \"/v1/files/*\"]}]";
    let text = format!(
        "supported_providers: [openai]\nllm: {{primary: gpt-4o, {}}}",
        asks.replace("OPENAI", "openai")
    );
    let m = yaml(&with(&text)).unwrap();
    let llm = m.llm.as_ref().unwrap();
    assert_eq!(llm.server_tools, [ServerTool::Search, ServerTool::Stored].into_iter().collect());
    assert_eq!((llm.account[0].provider.as_str(), llm.account[0].methods.len()), ("openai", 2));
    assert!(canonical(&m).contains(r#""server_tools":["search","stored"]"#), "{}", canonical(&m));
    assert!(m.check_against(&Catalog::builtin()).is_empty());

    for (provider, says) in [
        ("nobody", "no provider `nobody` is in the catalog"),
        ("ollama", "`ollama` is reached where its operator pinned it, by the gateway alone"),
        ("cohere", "`cohere` is not one of `supported_providers`"),
    ] {
        let text = text.replace("provider: openai", &format!("provider: {provider}"));
        let problems = yaml(&with(&text)).unwrap().check_against(&Catalog::builtin());
        assert_eq!(problems[0].to_string(), format!("llm.account[0].provider: {says}"), "{provider}");
    }
    let all = text.replace(
        "methods: [GET, DELETE], paths: [/v1/files, \"/v1/files/*\"]",
        "methods: [POST], paths: [\"/v1/**\"]",
    );
    let problems = yaml(&with(&all)).unwrap().check_against(&Catalog::builtin());
    assert!(problems[0].to_string().contains("covers POST /v1/chat/completions"), "{problems:?}");
    for path in ["/v1/images/*", "/v1/batches", "/v1/completions"] {
        let text = all.replace("/v1/**", path);
        let problems = yaml(&with(&text)).unwrap().check_against(&Catalog::builtin());
        assert!(problems[0].to_string().contains("no budget would count"), "{path}: {problems:?}");
    }
    let asking = |provider: &str, path: &str| {
        let text = all.replace("supported_providers: [openai]", "supported_providers: [any]");
        let text = text.replace("provider: openai", &format!("provider: {provider}")).replace("/v1/**", path);
        yaml(&with(&text)).unwrap().check_against(&Catalog::builtin())
    };
    // One model's path is a path of models, and so is a pattern that fits one; each provider has its own base.
    for (provider, path, says) in [
        ("gemini", "/v1beta/models/gemini-2.5-pro:generateContent", "which the gateway carries"),
        ("gemini", "/v1beta/models/imagen-*", "which the gateway carries"),
        ("gemini", "/v1beta/models/imagen-4:predict", "no budget would count"),
        ("gemini", "/v1beta/models/imagen-4%3Apredict", "no budget would count"),
        ("gemini", "/v1beta/tunedModels/x:generateContent", "no budget would count"),
        ("aws", "/model/anthropic.claude-3-haiku-20240307-v1:0/invoke", "no budget would count"),
        ("groq", "/openai/v1/audio/speech", "no budget would count"),
        ("deepseek", "/beta/chat/completions", "no budget would count"),
        ("anthropic", "/v1/chat/completions", "no budget would count"),
    ] {
        let problems = asking(provider, path);
        assert!(problems.iter().any(|p| p.to_string().contains(says)), "{path}: {problems:?}");
    }
    for (provider, path) in [
        ("openai", "/v1/files/**"),
        ("openai", "/v1/chat/completions/*"),
        ("gemini", "/v1beta/models/*:countTokens"),
        ("anthropic", "/v1/messages/count_tokens"),
    ] {
        assert!(asking(provider, path).is_empty(), "{path}");
    }
}

#[test]
fn the_canonical_bytes() {
    let m = yaml(SUMMARIZER).unwrap();
    insta::assert_snapshot!(canonical(&m).replace(",\"", ",\n\""), @r#"
    {"calls":["acme/translator@^2"],
    "description":"Summarise a text in three sentences.",
    "egress":[{"host":"api.github.com",
    "methods":["GET"],
    "paths":["/repos/**"]}],
    "env":{"TONE":"dry"},
    "files":[{"access":"read",
    "path":"/data"}],
    "input":{"properties":{"text":{"minLength":1,
    "type":"string"}},
    "required":["text"],
    "type":"object"},
    "limits":{"cost_usd":"0.50",
    "cpu":"1m",
    "memory":268435456,
    "output":10485760,
    "requests":500,
    "time":"5m",
    "tokens":200000},
    "llm":{"fallbacks":["gpt-4o-mini",
    "claude-3-haiku"],
    "primary":"gemini-2.5-flash"},
    "module":"summarizer.wasm",
    "name":"acme/summarizer",
    "output":{"properties":{"score":{"multipleOf":0.5,
    "type":"number"}},
    "type":"object"},
    "secrets":[{"hosts":["api.github.com"],
    "name":"GITHUB_TOKEN"}],
    "supported_providers":["anthropic",
    "openai"],
    "version":"1.2.0"}
    "#);
    assert_eq!(json(&canonical(&m)).unwrap(), m);
}

#[test]
fn the_same_content_has_the_same_bytes() {
    let one = r#"
env: {B: "2", A: "1"}
module: ./a.wasm
input: {properties: {z: {minimum: 1.0}, a: {maximum: 1e2}}, type: object, default: {n: 0.1, big: 18446744073709551616}}
egress: [{paths: ["/%61/**"], host: API.Example.com.}]
limits: {time: 300s, memory: 268435456, cost_usd: "0.5", tokens: 1.5k}
version: "1.0.0"
files: [{access: write, path: /data/}]
supported_providers: [openai, gemini]
name: a/b
"#;
    let two = r#"{
      "name": "a/b", "version": "1.0.0", "module": "a.wasm",
      "supported_providers": ["gemini", "openai"],
      "input": {"type": "object", "default": {"big": 18446744073709551616, "n": 0.10},
                "properties": {"a": {"maximum": 100}, "z": {"minimum": 1}}},
      "egress": [{"host": "api.example.com", "scheme": "https", "paths": ["/a/**"]}],
      "files": [{"path": "/data", "access": "write"}],
      "limits": {"cost_usd": 0.50, "memory": "256MiB", "time": "5m", "tokens": 1500},
      "env": {"A": "1", "B": "2"}
    }"#;
    assert_eq!(canonical(&yaml(one).unwrap()), canonical(&json(two).unwrap()));
    assert_eq!(yaml(one).unwrap(), json(two).unwrap());
}

#[test]
fn what_is_different_has_different_bytes() {
    let base = canonical(&yaml(SUMMARIZER).unwrap());
    for (from, to) in [
        ("summarizer.wasm", "other.wasm"),
        ("[GET]", "[GET, POST]"),
        ("    methods: [GET]\n", ""),
        ("host: api.github.com", "host: \"*.github.com\""),
        ("[gpt-4o-mini, claude-3-haiku]", "[claude-3-haiku, gpt-4o-mini]"),
        ("access: read", "access: write"),
        ("cost_usd: 0.50", "cost_usd: 0.500001"),
        ("minLength: 1", "minLength: 2"),
        ("TONE: dry", "TONE: Dry"),
    ] {
        let text = SUMMARIZER.replacen(from, to, 1);
        assert_ne!(text, SUMMARIZER, "{from}");
        assert_ne!(canonical(&yaml(&text).unwrap()), base, "{from} -> {to}");
    }
}

#[test]
fn providers_default_to_what_llm_says() {
    assert!(yaml(&with("")).unwrap().supported_providers.is_empty());
    assert_eq!(yaml(&with("llm: {primary: gpt-4o}")).unwrap().supported_providers, Supported::Any);
    for text in ["supported_providers: any", "supported_providers: [any]"] {
        assert_eq!(yaml(&with(text)).unwrap().supported_providers, Supported::Any);
    }
    let google = yaml(&with("supported_providers: [google]")).unwrap();
    assert!(google.supported_providers.allows(Catalog::builtin().provider("gemini").unwrap()));
    assert!(!google.supported_providers.allows(Catalog::builtin().provider("openai").unwrap()));
}

#[test]
fn a_catalog_can_contradict_a_manifest() {
    let m = yaml(&with("supported_providers: [opnai, lan-llm]\nsecrets: [{name: LAN_LLM_KEY}]")).unwrap();
    let text = |catalog: &Catalog| {
        m.check_against(catalog)
            .iter()
            .map(|p| format!("{p} ({})", p.hint.as_deref().unwrap_or("-")))
            .collect::<Vec<_>>()
            .join("\n")
    };
    insta::assert_snapshot!(text(&Catalog::builtin()), @"
    supported_providers: no provider `lan-llm` is in the catalog (known providers: openai, anthropic, gemini, cohere, aws, azure, azure-anthropic-foundry, mistral, xai, deepseek, moonshot, zai, perplexity, groq, cerebras, sambanova, fireworks, together, deepinfra, nvidia, novita, siliconflow, chutes, gmicloud, meganova, akash, openrouter, vercel, nano-gpt, ollama, qwen-code, gemini-cli, claude-code)
    supported_providers: no provider `opnai` is in the catalog (did you mean `openai`?)
    ");
    let catalog = Catalog::builtin()
        .with_operator(vec![orch_manifests::OperatorProvider {
            slug: "lan-llm".parse().unwrap(),
            dialect: Some(orch_manifests::Dialect::OpenAiChat),
            base_url: Some("http://10.0.0.5:8000/v1".parse().unwrap()),
            env: vec!["LAN_LLM_KEY".into()],
            models: Vec::new(),
            free: true,
            prices: std::collections::BTreeMap::new(),
        }])
        .unwrap();
    insta::assert_snapshot!(text(&catalog), @"
    supported_providers: no provider `opnai` is in the catalog (did you mean `openai`?)
    secrets[0].name: `LAN_LLM_KEY` is the key of the provider `lan-llm` and comes with it (-)
    ");
}

#[test]
fn anchors_and_multiple_styles_are_ordinary_yaml() {
    let m = yaml(&with(
        "egress:\n- &github\n  host: api.github.com\n- host: uploads.github.com\n- *github\ndescription: |\n  two\n  lines\n",
    ))
    .unwrap();
    assert_eq!(m.egress.len(), 3);
    assert_eq!(m.egress[0], m.egress[2]);
    assert_eq!(m.description.as_deref(), Some("two\nlines\n"));
    assert!(yaml(&format!("\u{feff}{}", with(""))).is_ok(), "a byte order mark means nothing");
    assert!(yaml(&with("").replace('\n', "\r\n")).is_ok());
}

#[test]
fn web_search_is_asked_for_by_provider() {
    let m = yaml(&with("search: [tavily, perplexity]\n")).unwrap();
    assert_eq!(m.search.iter().map(|slug| slug.as_str()).collect::<Vec<_>>(), ["tavily", "perplexity"]);
    assert!(m.check_against(&Catalog::builtin()).is_empty());
    let said = |m: &Manifest| {
        let problems = m.check_against(&Catalog::builtin());
        problems.iter().map(|p| format!("{p} ({})", p.hint.as_deref().unwrap_or("-"))).collect::<Vec<_>>()
    };
    // A provider of models searches nothing for agents themselves.
    assert_eq!(
        said(&yaml(&with("search: [tavely, openai]\n")).unwrap()),
        [
            "search[0]: `tavely` is no provider of web search that the catalog has (did you mean `tavily`?)",
            "search[1]: `openai` is no provider of web search that the catalog has (known: perplexity, tavily, exa, kagi, valyu)",
        ]
    );
    for bad in ["search: []\n", "search: tavily\n", "search: [tavily, tavily]\n"] {
        assert!(yaml(&with(bad)).is_err(), "{bad}");
    }
}
