use super::*;

/// Those whose models nobody prices by the token alone, or not where the other prices are from.
const UNPRICED: [&str; 4] = ["perplexity", "qwen-code", "gemini-cli", "claude-code"];

#[test]
fn the_built_in_catalog_holds_its_promises() {
    let catalog = Catalog::builtin();
    assert_eq!(catalog.provider("google").unwrap().slug.as_str(), "gemini");
    assert!(catalog.provider("Google").is_none());
    let openai = catalog.provider("openai-responses").unwrap();
    assert_eq!((openai.slug.as_str(), openai.dialect), ("openai", Dialect::OpenAiChat));
    assert_eq!(openai.spoken_with(Dialect::OpenAiResponses), Dialect::OpenAiResponses);
    assert_eq!(openai.spoken_with(Dialect::AnthropicMessages), Dialect::OpenAiChat);

    let mut slugs = std::collections::BTreeSet::new();
    let mut keys = std::collections::BTreeSet::new();
    let mut names = std::collections::BTreeSet::new();
    for provider in catalog.everybody() {
        let variants = provider.variants.iter().map(|variant| &variant.slug);
        for slug in provider.aliases.iter().chain(variants).chain([&provider.slug]) {
            assert!(slugs.insert(slug.clone()), "{slug} names two");
        }
        for env in &provider.env {
            assert!(keys.insert(env.clone()), "{env} is the key of two");
            assert!(crate::identity::is_variable_name(env) && !env.starts_with("ORCH_"), "{env}");
        }
        assert_eq!(provider.env.is_empty(), provider.auth == Auth::None, "{}", provider.slug);
        assert!(!provider.pinned && provider.query.is_none());
        for call in &provider.calls {
            assert!(call.path.parse::<crate::PathGlob>().is_ok(), "{}", call.path);
        }
    }
    for provider in catalog.providers() {
        for stream in [false, true] {
            let path = provider.inference_path(stream).unwrap();
            assert!(path.path.starts_with(&provider.endpoint.base_path), "{}", provider.slug);
            for variant in &provider.variants {
                assert!(provider.inference_path_in(variant.dialect, stream).is_some(), "{}", variant.slug);
            }
        }
        assert_eq!(provider.local_only, provider.slug.as_str() == "ollama");
        let mut own = std::collections::BTreeSet::new();
        for model in provider.models.iter() {
            assert!(model.max_output <= model.context, "{}", model.id);
            for name in model.aliases.iter().chain([&model.id]) {
                assert!(own.insert(name.clone()), "{name} is listed twice");
                assert!(provider.hosts_others || names.insert(name.clone()), "{name} is listed twice");
            }
            let Some(price) = model.price else {
                assert!(UNPRICED.contains(&provider.slug.as_str()), "{}", model.id);
                continue;
            };
            match model.embedding {
                None => assert!(price.input_per_mtok <= price.output_per_mtok, "{}", model.id),
                Some(embedding) => {
                    assert!(embedding.dimensions > 0 && price.output_per_mtok == MicroUsd(0), "{}", model.id);
                    assert!(provider.embeds_with(provider.dialect).is_some(), "{}", model.id);
                    assert!(!model.tools && !model.vision && model.max_output == 0, "{}", model.id);
                }
            }
            assert!(
                price.cached_input_per_mtok.is_none_or(|cached| cached < price.input_per_mtok),
                "{}",
                model.id
            );
            assert!(price.as_of.is_some(), "{}", model.id);
        }
        assert!(provider.models.len() <= 60, "{} lists {}", provider.slug, provider.models.len());
    }
}

#[test]
fn the_facts_that_keys_hang_on() {
    let catalog = Catalog::builtin();
    let facts: Vec<_> = catalog
        .providers()
        .map(|p| {
            let path = p.inference_path(false).unwrap();
            let auth = match &p.auth {
                Auth::Header(name) => name.to_string(),
                other => format!("{other:?}"),
            };
            let url = format!("{}://{}{}", p.endpoint.scheme, p.endpoint.authority(), path.path);
            format!("{} {} {url} {} {auth} {}", p.slug, path.method, path.dialect, p.env.join(","))
        })
        .collect();
    let expected = "\
openai POST https://api.openai.com/v1/chat/completions openai-chat Bearer OPENAI_API_KEY
anthropic POST https://api.anthropic.com/v1/messages anthropic-messages x-api-key ANTHROPIC_API_KEY
gemini POST https://generativelanguage.googleapis.com/v1beta/models/*:generateContent gemini-generate-content x-goog-api-key GEMINI_API_KEY,GOOGLE_API_KEY,GOOGLE_GENERATIVE_AI_API_KEY
cohere POST https://api.cohere.com/v2/chat cohere-chat Bearer COHERE_API_KEY,CO_API_KEY
aws POST https://bedrock-runtime.us-east-1.amazonaws.com/model/*/converse bedrock-converse Aws AWS_BEARER_TOKEN_BEDROCK
azure POST https://azure-openai.invalid/openai/v1/chat/completions openai-chat Azure AZURE_API_KEY,AZURE_OPENAI_API_KEY
azure-anthropic-foundry POST https://azure-foundry.invalid/anthropic/v1/messages anthropic-messages AzureFoundry ANTHROPIC_FOUNDRY_API_KEY,AZURE_COGNITIVE_SERVICES_API_KEY
mistral POST https://api.mistral.ai/v1/chat/completions openai-chat Bearer MISTRAL_API_KEY
xai POST https://api.x.ai/v1/chat/completions openai-chat Bearer XAI_API_KEY
deepseek POST https://api.deepseek.com/chat/completions openai-chat Bearer DEEPSEEK_API_KEY
moonshot POST https://api.moonshot.ai/v1/chat/completions openai-chat Bearer MOONSHOT_API_KEY,KIMI_API_KEY
zai POST https://api.z.ai/api/paas/v4/chat/completions openai-chat Bearer ZAI_API_KEY,ZHIPU_API_KEY
perplexity POST https://api.perplexity.ai/chat/completions openai-chat Bearer PERPLEXITY_API_KEY,PERPLEXITYAI_API_KEY
groq POST https://api.groq.com/openai/v1/chat/completions openai-chat Bearer GROQ_API_KEY
cerebras POST https://api.cerebras.ai/v1/chat/completions openai-chat Bearer CEREBRAS_API_KEY
sambanova POST https://api.sambanova.ai/v1/chat/completions openai-chat Bearer SAMBANOVA_API_KEY
fireworks POST https://api.fireworks.ai/inference/v1/chat/completions openai-chat Bearer FIREWORKS_API_KEY,FIREWORKS_AI_API_KEY
together POST https://api.together.xyz/v1/chat/completions openai-chat Bearer TOGETHER_API_KEY,TOGETHERAI_API_KEY,TOGETHER_AI_API_KEY,TOGETHER_AI_TOKEN
deepinfra POST https://api.deepinfra.com/v1/openai/chat/completions openai-chat Bearer DEEPINFRA_API_KEY,DEEPINFRA_TOKEN,DEEPINFRA_API_TOKEN
nvidia POST https://integrate.api.nvidia.com/v1/chat/completions openai-chat Bearer NVIDIA_API_KEY,NVIDIA_NIM_API_KEY
novita POST https://api.novita.ai/openai/v1/chat/completions openai-chat Bearer NOVITA_API_KEY
siliconflow POST https://api.siliconflow.com/v1/chat/completions openai-chat Bearer SILICONFLOW_API_KEY
chutes POST https://llm.chutes.ai/v1/chat/completions openai-chat Bearer CHUTES_API_KEY,CHUTES_API_TOKEN,CHUTES_OAUTH_TOKEN
gmicloud POST https://api.gmi-serving.com/v1/chat/completions openai-chat Bearer GMICLOUD_API_KEY,GMI_API_KEY,GMI_CLOUD_API_KEY
meganova POST https://api.meganova.ai/v1/chat/completions openai-chat Bearer MEGANOVA_API_KEY
akash POST https://api.akashml.com/v1/chat/completions openai-chat Bearer AKASHML_API_KEY
openrouter POST https://openrouter.ai/api/v1/chat/completions openai-chat Bearer OPENROUTER_API_KEY,OR_API_KEY,OPEN_ROUTER_API_KEY
vercel POST https://ai-gateway.vercel.sh/v1/chat/completions openai-chat Bearer AI_GATEWAY_API_KEY,VERCEL_OIDC_TOKEN,VERCEL_AI_GATEWAY_API_KEY
nano-gpt POST https://nano-gpt.com/api/v1/chat/completions openai-chat Bearer NANO_GPT_API_KEY,NANOGPT_API_KEY
ollama POST http://localhost:11434/v1/chat/completions openai-chat None \n\
qwen-code POST https://portal.qwen.ai/v1/chat/completions openai-chat TokenFile(QwenCode) QWEN_CODE_OAUTH
gemini-cli POST https://cloudcode-pa.googleapis.com/v1internal:generateContent gemini-generate-content TokenFile(GeminiCli) GEMINI_CLI_OAUTH
claude-code POST https://api.anthropic.com/v1/messages anthropic-messages TokenFile(ClaudeCode) CLAUDE_CODE_OAUTH_TOKEN";
    assert_eq!(facts.join("\n"), expected);

    let calls: Vec<_> = catalog
        .searchers()
        .flat_map(|p| {
            let at = format!("{}://{}", p.endpoint.scheme, p.endpoint.authority());
            p.calls
                .iter()
                .map(move |call| format!("{} {} {at}{} {:?}", p.slug, call.method, call.path, p.auth))
        })
        .collect();
    let expected = "\
perplexity POST https://api.perplexity.ai/search Bearer
tavily POST https://api.tavily.com/search Bearer
tavily POST https://api.tavily.com/extract Bearer
tavily POST https://api.tavily.com/crawl Bearer
tavily POST https://api.tavily.com/map Bearer
exa POST https://api.exa.ai/search Header(\"x-api-key\")
exa POST https://api.exa.ai/contents Header(\"x-api-key\")
exa POST https://api.exa.ai/answer Header(\"x-api-key\")
kagi POST https://kagi.com/api/v1/search Bearer
kagi POST https://kagi.com/api/v1/extract Bearer
kagi GET https://kagi.com/api/v1/search Bearer
kagi GET https://kagi.com/api/v0/search Bearer
valyu POST https://api.valyu.ai/v1/search Header(\"x-api-key\")
valyu POST https://api.valyu.ai/v1/contents Header(\"x-api-key\")
valyu POST https://api.valyu.ai/v1/answer Header(\"x-api-key\")
valyu POST https://api.valyu.ai/v1/deepresearch/tasks Header(\"x-api-key\")
valyu GET https://api.valyu.ai/v1/deepresearch/tasks/*/status Header(\"x-api-key\")";
    assert_eq!(calls.join("\n"), expected);
    assert!(catalog.provider("tavily").is_none() && catalog.searcher("perplexity").is_some());
    assert_eq!(catalog.provider_of_key("TAVILY_API_KEY_2").unwrap().slug.as_str(), "tavily");

    let anthropic = catalog.provider("anthropic").unwrap();
    assert_eq!(anthropic.headers[0].0, "anthropic-version");
    assert_eq!(anthropic.model("claude-3-haiku").unwrap().id, "claude-3-haiku-20240307");
    assert_eq!(catalog.provider_of_key("GOOGLE_API_KEY").unwrap().slug.as_str(), "gemini");
    assert_eq!(catalog.provider("gemini").unwrap().key_name(), Some("GEMINI_API_KEY"));
    assert_eq!(catalog.provider_of_key("CO_API_KEY").unwrap().key_name(), Some("COHERE_API_KEY"));
    assert_eq!(catalog.provider("ollama").unwrap().price("anything"), Some(Price::FREE));
    assert_eq!(catalog.provider("openai").unwrap().price("gpt-unheard-of"), None);
    let lenient = catalog.providers().filter(|provider| provider.quirks.no_done);
    assert_eq!(lenient.map(|provider| provider.slug.as_str()).collect::<Vec<_>>(), ["perplexity"]);
}

#[test]
fn embeddings_are_asked_for_in_the_client_s_dialect_where_that_is_known() {
    let catalog = Catalog::builtin();
    let path = |slug: &str, client: Dialect, alone: bool| {
        let provider = catalog.provider(slug).unwrap();
        let dialect = provider.embeds_with(client)?;
        let path = provider.embeddings_path(dialect, alone).unwrap();
        assert_eq!((path.task, path.dialect), (Task::Embeddings, dialect));
        Some(path.path.clone())
    };
    for client in Dialect::ALL {
        assert_eq!(path("openai", client, false).unwrap(), "/v1/embeddings");
        assert_eq!(path("gemini", client, true).unwrap(), "/v1beta/models/*:embedContent");
        assert_eq!(path("gemini", client, false).unwrap(), "/v1beta/models/*:batchEmbedContents");
        assert_eq!(path("cohere", client, false).unwrap(), "/v2/embed");
        assert_eq!(path("ollama", client, false).unwrap(), "/v1/embeddings");
        assert_eq!(path("anthropic", client, false), None);
        assert_eq!(path("aws", client, false).unwrap(), "/model/*/invoke");
    }
    let price = catalog.provider("openai").unwrap().price("text-embedding-3-small").unwrap();
    assert_eq!(price.cost(1_000_000, 0, 0, 0).micros(), 20_000);
}

#[test]
fn a_path_that_names_the_model_covers_nothing_else() {
    let gemini = Catalog::builtin().provider("gemini").unwrap().clone();
    let covered = |path: &str| gemini.inference.iter().any(|inference| inference.covers(path));
    for path in [
        "/v1beta/models/gemini-2.5-flash:generateContent",
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        "/v1/models/gemini_x:generateContent",
        "/v1/models/gemma-3-27b-it:streamGenerateContent",
        "/v1beta/models/gemini-embedding-001:embedContent",
        "/v1beta/models/gemini-embedding-001:batchEmbedContents",
    ] {
        assert!(covered(path), "{path}");
    }
    for path in [
        "/v1beta/models/:generateContent",
        "/v1beta/models/gemini-2.5-flash",
        "/v1beta/models/gemini-2.5-flash:countTokens",
        "/v1beta/models/gemini-2.5-flash:generateContent/",
        "/v1beta/models/gemini-2.5-flash:countTokens:generateContent",
        "/v1beta/models/a/b:generateContent",
        "/v1beta/models/a%3A:generateContent",
        "/v1beta/tunedModels/x:generateContent",
        "/v1alpha/models/gemini-2.5-flash:generateContent",
        "/v1beta/files",
        "/v1beta/openai/chat/completions",
        "/x/v1beta/models/gemini-2.5-flash:generateContent",
    ] {
        assert!(!covered(path), "{path}");
    }
    let streams = gemini.inference_path(true).unwrap();
    assert_eq!(
        streams.for_model("gemini-2.5-pro").as_deref(),
        Some("/v1beta/models/gemini-2.5-pro:streamGenerateContent")
    );
    for model in ["", "a/b", "a:b", "a?b", "a b", "é", "*"] {
        assert_eq!(streams.for_model(model), None, "{model}");
    }
    // Where the body names the model, the path does not care.
    let openai = Catalog::builtin().provider("openai").unwrap().clone();
    let path = openai.inference_path(true).unwrap();
    assert_eq!(path.for_model("any/name at all").as_deref(), Some("/v1/chat/completions"));
    assert!(path.covers("/v1/chat/completions") && !path.covers("/v1/chat/completions/"));
}

#[test]
fn costs_are_rounded_up() {
    let price = Catalog::builtin().provider("openai").unwrap().price("gpt-4o-mini").unwrap();
    // 0.15 and 0.60 dollars per million.
    assert_eq!(price.cost(1_000_000, 0, 0, 1_000_000).micros(), 750_000);
    assert_eq!(price.cost(1_000_000, 1_000_000, 0, 0).micros(), 75_000);
    assert_eq!(price.cost(1, 0, 0, 0).micros(), 1);
    assert_eq!(price.cost(0, 0, 0, 0).micros(), 0);
    assert_eq!(price.cost(10, 99, 99, 0).micros(), 1, "parts never exceed the whole");
    assert_eq!(price.cost(u64::MAX, 0, 0, u64::MAX).micros(), 13_835_058_055_282_163_712);

    let price = Catalog::builtin().provider("gemini").unwrap().price("gemini-2.5-pro").unwrap();
    assert_eq!(price.cost(200_000, 0, 0, 0).micros(), 250_000);
    assert_eq!(price.cost(200_001, 0, 0, 0).micros(), 500_003);

    let price = Catalog::builtin().provider("anthropic").unwrap().price("claude-3-haiku").unwrap();
    assert_eq!(price.cost(1_000_000, 0, 1_000_000, 0).micros(), 300_000);
}
