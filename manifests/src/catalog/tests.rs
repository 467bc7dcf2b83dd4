use super::*;

#[test]
fn the_built_in_catalog_holds_its_promises() {
    let catalog = Catalog::builtin();
    let slugs: Vec<_> = catalog.providers().map(|provider| provider.slug.as_str()).collect();
    assert_eq!(slugs, ["openai", "anthropic", "gemini", "cohere", "aws", "perplexity", "ollama"]);
    assert_eq!(catalog.provider("google").unwrap().slug.as_str(), "gemini");
    assert!(catalog.provider("Google").is_none());
    let openai = catalog.provider("openai-responses").unwrap();
    assert_eq!((openai.slug.as_str(), openai.dialect), ("openai", Dialect::OpenAiChat));
    assert_eq!(openai.spoken_with(Dialect::OpenAiResponses), Dialect::OpenAiResponses);
    assert_eq!(openai.spoken_with(Dialect::AnthropicMessages), Dialect::OpenAiChat);

    let mut names = std::collections::BTreeSet::new();
    for provider in catalog.providers() {
        for stream in [false, true] {
            let path = provider.inference_path(stream).unwrap();
            assert!(path.path.starts_with(&provider.endpoint.base_path), "{}", provider.slug);
            for variant in &provider.variants {
                assert!(provider.inference_path_in(variant.dialect, stream).is_some(), "{}", variant.slug);
            }
        }
        assert_eq!(provider.env.is_empty(), provider.auth == Auth::None, "{}", provider.slug);
        assert_eq!(provider.local_only, provider.slug.as_str() == "ollama");
        assert!(!provider.pinned);
        for model in &provider.models {
            assert!(model.max_output <= model.context, "{}", model.id);
            for name in model.aliases.iter().chain([&model.id]) {
                assert!(names.insert(name.clone()), "{name} is listed twice");
            }
            let Some(price) = model.price else {
                assert_eq!(provider.slug.as_str(), "perplexity", "{}", model.id);
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
    }
}

#[test]
fn the_facts_that_keys_hang_on() {
    let catalog = Catalog::builtin();
    let facts: Vec<_> = catalog
        .providers()
        .map(|p| {
            let path = p.inference_path(false).unwrap();
            format!(
                "{} {} {} {} {} {:?}",
                p.slug,
                path.method,
                p.endpoint.authority(),
                path.path,
                path.dialect,
                p.auth
            )
        })
        .collect();
    assert_eq!(
        facts,
        [
            "openai POST api.openai.com /v1/chat/completions openai-chat Bearer",
            "anthropic POST api.anthropic.com /v1/messages anthropic-messages Header(\"x-api-key\")",
            "gemini POST generativelanguage.googleapis.com /v1beta/models/*:generateContent gemini-generate-content Header(\"x-goog-api-key\")",
            "cohere POST api.cohere.com /v2/chat cohere-chat Bearer",
            "aws POST bedrock-runtime.us-east-1.amazonaws.com /model/*/converse bedrock-converse Aws",
            "perplexity POST api.perplexity.ai /chat/completions openai-chat Bearer",
            "ollama POST localhost:11434 /v1/chat/completions openai-chat None",
        ]
    );
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
        assert_eq!(path("aws", client, false), None);
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
