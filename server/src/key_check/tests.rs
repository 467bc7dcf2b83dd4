use orch_manifests::Catalog;

use super::*;

fn secret(text: &str) -> Secret {
    Secret::new(text.as_bytes().to_vec())
}

fn shape(provider: &str, text: &str) -> Result<Vec<String>, Failure> {
    let catalog = Catalog::builtin();
    let provider = catalog.provider(provider).expect("a provider");
    let name = provider.key_name().expect("a key").to_owned();
    check_shape(&catalog, provider, &name, &secret(text))
}

#[test]
fn a_key_of_another_provider_is_told_and_not_refused() {
    let ant = "sk-ant-api03-0123456789abcdefghij0123456789";
    let said = shape("openai", ant).expect("it is taken");
    assert_eq!(said, ["OPENAI_API_KEY looks like a key of Anthropic, which goes by ANTHROPIC_API_KEY"]);
    assert_eq!(shape("anthropic", ant).expect("it is taken"), Vec::<String>::new());
    let said = shape("anthropic", "sk-proj-0123456789abcdefghij").expect("it is taken");
    assert_eq!(said, ["ANTHROPIC_API_KEY looks like a key of OpenAI, which goes by OPENAI_API_KEY"]);
    let said = shape("openai", "no-key-of-anybodys").expect("it is taken");
    assert!(
        said[0].contains("does not look like a key of OpenAI") && !said[0].contains("anybodys"),
        "{said:?}"
    );
    for odd in [
        "sk-proj 0123456789abcdefghij",
        "\u{feff}sk-proj-0123456789abcdefghij",
        "'sk-proj-0123456789abcdefghij'",
    ] {
        let failure = shape("openai", odd).expect_err("no key of anybody's");
        assert_eq!((failure.kind(), failure.code()), (Kind::Usage, "secret_refused"), "{odd}");
        assert!(!failure.message().contains("0123456789"), "{odd}: {}", failure.message());
    }
    let said = shape("openai", r#"{"apiKey":"x"}"#).expect("it is taken");
    assert!(said[0].contains("takes a plain key"), "{said:?}");
}

#[test]
fn whose_a_key_is_for_certain_is_said_of_whole_keys_alone() {
    let catalog = Catalog::builtin();
    let whose = |provider: &str, text: &str| {
        let provider = catalog.anybody(provider).expect("a provider");
        Misplaced::judge(provider, &secret(text)).map(|misplaced| match misplaced {
            Misplaced::Of(other) => other.slug.to_string(),
            Misplaced::Json => "JSON".to_owned(),
        })
    };
    let anthropic = "sk-ant-api03-0123456789abcdefghij0123456789";
    let groq = format!("gsk_{}", "a1".repeat(26));
    for (provider, text, other) in [
        ("openai", anthropic, Some("anthropic")),
        ("moonshot", anthropic, Some("anthropic")),
        ("cohere", anthropic, Some("anthropic")),
        ("tavily", anthropic, Some("anthropic")),
        ("openai", groq.as_str(), Some("groq")),
        ("groq", groq.as_str(), None),
        ("anthropic", anthropic, None),
        // `sk-` is many people's, half a key is nobody's, and a sign-in looks like its maker's keys.
        ("anthropic", "sk-proj-0123456789abcdefghij", None),
        ("deepseek", "sk-proj-0123456789abcdefghij", None),
        ("openai", "gsk_short", None),
        ("claude-code", "sk-ant-oat01-0123456789abcdefghij", None),
        // All of a JSON credential would travel as a bearer.
        ("openai", r#"{"apiKey":"sk-ant-api03-0123456789abcdefghij0123456789"}"#, Some("JSON")),
        ("azure", r#"{"endpoint":"https://acme.openai.azure.com","apiKey":"0123456789"}"#, None),
    ] {
        assert_eq!(whose(provider, text).as_deref(), other, "{provider} {text}");
    }
    let mut moved = catalog.provider("openai").expect("a provider").clone();
    moved.pinned = true;
    assert!(
        Misplaced::judge(&moved, &secret(anthropic)).is_none(),
        "an operator's server may take anybody's"
    );
}

#[test]
fn a_json_credential_that_is_none_is_refused_by_its_field() {
    let key = r#"{"accessKeyId":"AKIAIOSFODNN7EXAMPLE","secretAccessKey":"wJalrXUtnFEMIK7MDENG","region":"eu-west-1"}"#;
    assert!(shape("aws", key).expect("it is taken").is_empty());
    for (from, to, why) in [
        (r#","region":"eu-west-1""#, "", "its field `region` is missing"),
        ("eu-west-1", "Europe", "`region` is no name of a region"),
        ("secretAccessKey", "secret_access_key", "which is called `secretAccessKey`"),
        (r#""eu-west-1""#, "7", "its field `region` is a number"),
    ] {
        let failure = shape("aws", &key.replace(from, to)).expect_err(why);
        assert_eq!((failure.kind(), failure.code()), (Kind::Usage, "secret_refused"));
        assert!(failure.message().contains(why), "{}", failure.message());
        assert!(!failure.message().contains("wJalr") && !failure.hints().is_empty());
    }
}

#[test]
fn a_pretty_file_becomes_one_line() {
    let catalog = Catalog::builtin();
    let aws = catalog.provider("aws").expect("a provider");
    let pretty = "{\n  \"accessKeyId\": \"AKIA\",\n  \"region\": \"eu-west-1\"\n}";
    tidy(aws, secret(pretty))
        .expose(|text| assert_eq!(text, br#"{"accessKeyId":"AKIA","region":"eu-west-1"}"#));
    tidy(aws, secret("ABSK\n")).expose(|text| assert_eq!(text, b"ABSK\n"));
}

#[test]
fn each_verdict_says_what_to_do() {
    let catalog = Catalog::builtin();
    let openai = catalog.provider("openai").expect("a provider");
    let why = || "HTTP 401: no".to_owned();
    for (verdict, text, hint) in [
        (Verdict::Valid, "OpenAI accepts OPENAI_API_KEY", ""),
        (
            Verdict::Invalid { why: why() },
            "does not accept OPENAI_API_KEY (HTTP 401: no)",
            "orch secrets set OPENAI_API_KEY",
        ),
        (Verdict::Revoked { why: why() }, "taken back", "orch secrets set OPENAI_API_KEY"),
        (
            Verdict::OutOfMoney { why: why() },
            "nothing is left to spend",
            "https://platform.openai.com/settings",
        ),
        (Verdict::Restricted { why: why() }, "restricts it", "https://platform.openai.com/api-keys"),
        (Verdict::Offline { why: why() }, "could not be reached", ""),
    ] {
        let said = describe(openai, "OPENAI_API_KEY", &verdict);
        assert!(said.text.contains(text), "{said:?}");
        assert!(hint.is_empty() || said.hints.iter().any(|said| said.contains(hint)), "{said:?}");
    }
}

#[test]
fn a_key_goes_with_its_check_and_nothing_else() {
    let endpoint: Endpoint = "https://api.openai.com/v1".parse().expect("an endpoint");
    let inner = HeldCredential::given(
        "OPENAI_API_KEY".into(),
        Source::Env,
        orch_manifests::Auth::Bearer,
        secret("sk-0123456789abcdef0123456789abcdef"),
    );
    let bound = ForCheck {
        inner: Arc::new(inner),
        method: Method::GET,
        endpoint: endpoint.clone(),
        path: "/v1/models".into(),
    };
    let authorize = |method: &str, path: &str, to: &Endpoint| {
        let request = http::Request::builder().method(method).uri(path).body(()).expect("a request");
        let (mut parts, ()) = request.into_parts();
        bound.authorize(&mut parts, None, Use::Own { endpoint: to, pinned: false }).map(drop)
    };
    let other: Endpoint = "https://api.evil.example/v1".parse().expect("an endpoint");
    assert!(authorize("GET", "/v1/models?limit=1", &endpoint).is_ok());
    for (method, path, to) in [
        ("POST", "/v1/models", &endpoint),
        ("GET", "/v1/files", &endpoint),
        ("GET", "/v1/models/x", &endpoint),
        ("GET", "/v1/models", &other),
    ] {
        assert!(
            matches!(authorize(method, path, to), Err(AuthorizeError::NotPermitted(_))),
            "{method} {path}"
        );
    }
}
