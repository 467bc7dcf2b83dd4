use orch_manifests::Catalog;

use super::*;

/// What an answer of a provider of the catalog is read as.
fn read(provider: &str, status: u16, body: &str) -> Verdict {
    let catalog = Catalog::builtin();
    let provider = catalog.provider(provider).expect("a provider");
    let Check::Asks(check) = &provider.check else { panic!("{} has no check", provider.slug) };
    let status = StatusCode::from_u16(status).expect("a status");
    Answer { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body.as_bytes()), whole: true }
        .read(check)
}

fn word(provider: &str, status: u16, body: &str) -> &'static str {
    read(provider, status, body).word()
}

#[test]
fn each_provider_is_read_in_its_own_way() {
    let openai =
        |code: &str, message: &str| format!(r#"{{"error":{{"message":"{message}","code":"{code}"}}}}"#);
    let google = |status: &str, reason: &str| {
        format!(
            r#"{{"error":{{"code":400,"message":"no","status":"{status}","details":[{{"reason":"{reason}"}}]}}}}"#
        )
    };
    for (provider, status, body, expected) in [
        ("openai", 200, r#"{"object":"list","data":[]}"#.to_owned(), "valid"),
        ("openai", 401, openai("invalid_api_key", "Incorrect API key provided"), "invalid"),
        ("openai", 403, openai("", "Missing scopes: api.model.read"), "restricted"),
        ("openai", 401, openai("account_deactivated", "deactivated"), "revoked"),
        ("openai", 429, openai("insufficient_quota", "check your plan and billing details"), "out_of_money"),
        ("openai", 429, openai("rate_limit_exceeded", "slow down"), "rate_limited"),
        ("openai", 500, String::new(), "unchecked"),
        ("openai", 302, String::new(), "unchecked"),
        ("openai", 200, "<html>welcome to the hotel</html>".to_owned(), "unchecked"),
        ("anthropic", 401, r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#.to_owned(), "invalid"),
        ("anthropic", 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low"}}"#.to_owned(), "out_of_money"),
        ("anthropic", 403, r#"{"type":"error","error":{"type":"permission_error","message":"no"}}"#.to_owned(), "restricted"),
        ("google", 400, google("INVALID_ARGUMENT", "API_KEY_INVALID"), "invalid"),
        ("google", 400, r#"{"error":{"code":400,"message":"API key expired. Please renew the API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#.to_owned(), "revoked"),
        ("google", 403, google("PERMISSION_DENIED", "API_KEY_HTTP_REFERRER_BLOCKED"), "restricted"),
        ("google", 403, google("PERMISSION_DENIED", "API_KEY_IP_ADDRESS_BLOCKED"), "restricted"),
        ("google", 403, google("PERMISSION_DENIED", "API_KEY_SERVICE_BLOCKED"), "restricted"),
        ("google", 400, google("FAILED_PRECONDITION", ""), "restricted"),
        ("openrouter", 200, r#"{"data":{"label":"sk-or-v1-abc...def"}}"#.to_owned(), "valid"),
        ("openrouter", 401, r#"{"error":{"code":401,"message":"No auth credentials found"}}"#.to_owned(), "invalid"),
        ("xai", 200, r#"{"api_key_blocked":false,"api_key_disabled":false,"team_blocked":false}"#.to_owned(), "valid"),
        ("xai", 200, r#"{"api_key_blocked":true,"api_key_disabled":false,"team_blocked":false}"#.to_owned(), "revoked"),
        ("xai", 200, r#"{"team_blocked":true}"#.to_owned(), "revoked"),
        ("xai", 400, r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xa***"}"#.to_owned(), "invalid"),
        ("perplexity", 400, r#"{"error":{"code":400,"message":"Invalid model","type":"invalid_model"}}"#.to_owned(), "valid"),
        ("perplexity", 403, "{}".to_owned(), "invalid"),
        ("perplexity", 401, "<html>401</html>".to_owned(), "invalid"),
        ("zai", 429, r#"{"error":{"code":"1113","message":"Insufficient balance"}}"#.to_owned(), "out_of_money"),
        ("zai", 401, r#"{"error":{"code":"1002","message":"no"}}"#.to_owned(), "invalid"),
        ("vercel", 403, "{}".to_owned(), "restricted"),
        ("deepseek", 402, r#"{"error":{"message":"Insufficient Balance"}}"#.to_owned(), "out_of_money"),
        ("aws", 403, r#"{"message":"User: x is not authorized to perform: bedrock:ListFoundationModels","__type":"AccessDeniedException"}"#.to_owned(), "restricted"),
        ("aws", 403, r#"{"message":"The security token included in the request is expired","__type":"ExpiredTokenException"}"#.to_owned(), "revoked"),
        ("aws", 403, r#"{"message":"The security token included in the request is invalid.","__type":"UnrecognizedClientException"}"#.to_owned(), "invalid"),
        // A bearer key that is none, under the code of a key that may not list models.
        ("aws", 403, r#"{"Message":"Authentication failed: Please make sure your API Key is valid.","__type":"AccessDeniedException"}"#.to_owned(), "invalid"),
        ("siliconflow", 200, r#"{"code":20000,"message":"OK","status":true,"data":{"id":"u","balance":"0.88"}}"#.to_owned(), "valid"),
        ("siliconflow", 200, r#"{"code":20012,"message":"no","data":null}"#.to_owned(), "unchecked"),
        ("siliconflow", 401, r#""Invalid token""#.to_owned(), "invalid"),
        ("vercel", 401, r#"{"error":{"message":"Invalid API key","type":"authentication_error"}}"#.to_owned(), "invalid"),
        ("vercel", 200, r#"{"balance":"95.50","total_used":"4.50"}"#.to_owned(), "valid"),
        ("nano-gpt", 403, r#"{"error":{"message":"no","code":"api_key_origin_not_allowed"}}"#.to_owned(), "restricted"),
        // What is closed may be the key or the account, and may be a network or a model.
        ("anthropic", 403, r#"{"type":"error","error":{"type":"permission_error","message":"This organization has been disabled."}}"#.to_owned(), "revoked"),
        ("anthropic", 403, r#"{"type":"error","error":{"type":"permission_error","message":"The model is disabled for your organization."}}"#.to_owned(), "restricted"),
        ("azure", 403, r#"{"error":{"code":"403","message":"Public access is disabled. Please configure private endpoint."}}"#.to_owned(), "restricted"),
        ("azure", 401, r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint."}}"#.to_owned(), "invalid"),
        ("ollama", 200, r#"{"models":[]}"#.to_owned(), "valid"),
    ] {
        assert_eq!(word(provider, status, &body), expected, "{provider} {status} {body}");
    }
}

#[test]
fn a_good_key_is_never_said_to_be_none() {
    for verdict in ["valid", "restricted", "out_of_money", "rate_limited", "no_access", "no_model"] {
        let why = String::new;
        let all = [
            Verdict::Valid,
            Verdict::Restricted { why: why() },
            Verdict::OutOfMoney { why: why() },
            Verdict::RateLimited { why: why() },
            Verdict::NoAccess { why: why() },
            Verdict::NoModel { why: why() },
        ];
        let found = all.iter().find(|one| one.word() == verdict).expect("each has a word");
        assert!(found.proves_key() && !found.rejects_key(), "{verdict}");
    }
    for verdict in [Verdict::unchecked("x"), Verdict::Offline { why: "x".into() }] {
        assert!(!verdict.proves_key() && !verdict.rejects_key());
    }
}
