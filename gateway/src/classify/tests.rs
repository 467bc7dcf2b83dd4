//! Error bodies as providers really send them (ids and account names changed).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::{classify, error_inside};
use crate::dialect::Wire;
use crate::dialect::anthropic::Anthropic;
use crate::dialect::cohere::Cohere;
use crate::dialect::gemini::Gemini;
use crate::dialect::ollama::Ollama;
use crate::dialect::openai_chat::OpenAiChat;
use crate::ir::{ApiError, Class};

fn class_of(status: u16, body: &str) -> Class {
    classify(
        StatusCode::from_u16(status).unwrap(),
        &HeaderMap::new(),
        body.as_bytes(),
        SystemTime::UNIX_EPOCH,
    )
    .class
}

#[rustfmt::skip]
const BODIES: &[(&str, u16, &str, Class)] = &[
    // OpenAI
    ("openai bad key", 401, r#"{"error":{"message":"Incorrect API key provided: sk-abc***xyz. You can find your API key at https://platform.openai.com/account/api-keys.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#, Class::BadKey),
    ("openai quota", 429, r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#, Class::OutOfMoney),
    ("openai rate", 429, r#"{"error":{"message":"Rate limit reached for gpt-4o-mini in organization org-x on requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in 20s.","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#, Class::RateLimited),
    ("openai no model", 404, r#"{"error":{"message":"The model `gpt-9` does not exist or you do not have access to it.","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#, Class::NoModel),
    ("openai context", 400, r#"{"error":{"message":"This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#, Class::ContextTooLong),
    ("openai param", 400, r#"{"error":{"message":"Unsupported parameter: 'max_tokens' is not supported with this model.","type":"invalid_request_error","param":"max_tokens","code":"unsupported_parameter"}}"#, Class::BadRequest),
    ("openai country", 403, r#"{"error":{"code":"unsupported_country_region_territory","message":"Country, region, or territory not supported","param":null,"type":"request_forbidden"}}"#, Class::NoAccess),
    ("openai server", 500, r#"{"error":{"message":"The server had an error while processing your request. Sorry about that!","type":"server_error","param":null,"code":null}}"#, Class::Server),
    ("openai overloaded", 503, r#"{"error":{"message":"That model is currently overloaded with other requests.","type":"server_error","param":null,"code":null}}"#, Class::Overloaded),
    ("openai spend cap", 429, r#"{"error":{"message":"Project spend limit reached.","type":"invalid_request_error","code":"enforced_spend_limit_reached"}}"#, Class::OutOfMoney),
    ("openai previous response", 400, r#"{"error":{"message":"Previous response with id 'resp_1' not found.","type":"invalid_request_error","param":"previous_response_id","code":"previous_response_not_found"}}"#, Class::BadRequest),
    ("openai image", 400, r#"{"error":{"message":"The image data you provided does not represent a valid image.","type":"image_generation_user_error","param":"input","code":"invalid_base64_image"}}"#, Class::BadRequest),
    ("openai bound", 400, r#"{"error":{"message":"Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 5 instead.","type":"invalid_request_error","param":"max_output_tokens","code":"integer_below_min_value"}}"#, Class::BadRequest),
    // Anthropic
    ("anthropic bad key", 401, r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"},"request_id":"req_1"}"#, Class::BadKey),
    ("anthropic credit", 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."}}"#, Class::OutOfMoney),
    ("anthropic billing", 402, r#"{"type":"error","error":{"type":"billing_error","message":"Payment required"}}"#, Class::OutOfMoney),
    ("anthropic rate", 429, r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization's rate limit of 50,000 input tokens per minute."}}"#, Class::RateLimited),
    ("anthropic overloaded", 529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#, Class::Overloaded),
    ("anthropic context", 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 215000 tokens > 200000 maximum"}}"#, Class::ContextTooLong),
    ("anthropic model", 404, r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-9"}}"#, Class::NoModel),
    ("anthropic permission", 403, r#"{"type":"error","error":{"type":"permission_error","message":"Your API key does not have permission to use the specified resource."}}"#, Class::NoAccess),
    ("anthropic size", 413, r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#, Class::ContextTooLong),
    ("anthropic invalid", 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"messages.0.content: Field required"}}"#, Class::BadRequest),
    ("anthropic filter", 400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"}}"#, Class::RefusedByFilter),
    ("anthropic server", 500, r#"{"type":"error","error":{"type":"api_error","message":"Internal server error"}}"#, Class::Server),
    ("anthropic timeout", 504, r#"{"type":"error","error":{"type":"timeout_error","message":"Request timed out"}}"#, Class::Timeout),
    // Gemini, natively and through its OpenAI endpoint
    ("gemini minute", 429, r#"{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"46s"}]}}"#, Class::RateLimited),
    ("gemini day", 429, r#"[{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}]}}]"#, Class::OutOfMoney),
    ("gemini none", 429, r#"{"error":{"code":429,"message":"Quota exceeded for metric: generate_content_free_tier_requests, limit: 0","status":"RESOURCE_EXHAUSTED"}}"#, Class::OutOfMoney),
    ("gemini some", 429, r#"{"error":{"code":429,"message":"Quota exceeded, limit: 0.5 a second","status":"RESOURCE_EXHAUSTED"}}"#, Class::RateLimited),
    ("no gemini", 429, r#"{"error":{"message":"rate limit: 0.5/s","code":"rate_limit_exceeded"}}"#, Class::RateLimited),
    ("a field's limit", 400, r#"{"error":{"message":"temperature is out of its limit: 0..2","type":"invalid_request_error"}}"#, Class::BadRequest),
    ("a limit of none elsewhere", 400, r#"{"error":{"message":"tools: over the limit: 0","type":"invalid_request_error"}}"#, Class::BadRequest),
    ("gemini bad key", 400, r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}]"#, Class::BadKey),
    ("gemini place", 400, r#"{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}"#, Class::NoAccess),
    ("gemini overloaded", 503, r#"{"error":{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}}"#, Class::Overloaded),
    ("gemini denied", 403, r#"{"error":{"code":403,"message":"Generative Language API has not been used in project 1 before or it is disabled.","status":"PERMISSION_DENIED"}}"#, Class::NoAccess),
    ("gemini day beside minute", 429, r#"{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details. Please retry in 38.4s.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"quotaId":"GenerateContentInputTokensPerModelPerMinute-FreeTier"},{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"38s"}]}}"#, Class::OutOfMoney),
    ("gemini unexplained", 429, r#"{"error":{"code":429,"message":"Resource has been exhausted (e.g. check quota).","status":"RESOURCE_EXHAUSTED"}}"#, Class::RateLimited),
    ("gemini bad key itself", 400, r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"},{"@type":"type.googleapis.com/google.rpc.LocalizedMessage","locale":"en-US","message":"API key not valid. Please pass a valid API key."}]}}"#, Class::BadKey),
    ("gemini expired", 400, r#"{"error":{"code":400,"message":"API key expired. Please renew the API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#, Class::BadKey),
    ("gemini blocked service", 403, r#"{"error":{"code":403,"message":"Requests to this API generativelanguage.googleapis.com method are blocked.","status":"PERMISSION_DENIED","details":[{"reason":"API_KEY_SERVICE_BLOCKED"}]}}"#, Class::NoAccess),
    ("gemini no caller", 403, r#"{"error":{"code":403,"message":"Method doesn't allow unregistered callers.","status":"PERMISSION_DENIED"}}"#, Class::NoAccess),
    ("gemini country", 400, r#"{"error":{"code":400,"message":"Gemini API free tier is not available in your country. Please enable billing on your project in Google AI Studio.","status":"FAILED_PRECONDITION"}}"#, Class::NoAccess),
    ("gemini no model", 404, r#"{"error":{"code":404,"message":"models/gemini-9 is not found for API version v1beta, or is not supported for generateContent.","status":"NOT_FOUND"}}"#, Class::NoModel),
    ("gemini context", 400, r#"{"error":{"code":400,"message":"The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}"#, Class::ContextTooLong),
    ("gemini field", 400, r#"{"error":{"code":400,"message":"Invalid JSON payload received. Unknown name \"x\": Cannot find field.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.BadRequest","fieldViolations":[{"description":"x"}]}]}}"#, Class::BadRequest),
    ("gemini server", 500, r#"{"error":{"code":500,"message":"An internal error has occurred.","status":"INTERNAL"}}"#, Class::Server),
    ("gemini deadline", 504, r#"{"error":{"code":504,"message":"Deadline expired before operation could complete.","status":"DEADLINE_EXCEEDED"}}"#, Class::Timeout),
    ("gemini cancelled", 499, r#"{"error":{"code":499,"message":"The operation was cancelled.","status":"CANCELLED"}}"#, Class::Server),
    // Compatible providers
    ("azure filter", 400, r#"{"error":{"message":"The response was filtered","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#, Class::RefusedByFilter),
    ("mistral flat", 401, r#"{"object":"error","message":"Unauthorized","type":"invalid_request_error","param":null,"code":null}"#, Class::BadKey),
    ("mistral detail", 422, r#"{"detail":[{"type":"missing","loc":["body","messages"],"msg":"Field required"}]}"#, Class::BadRequest),
    ("groq flex", 498, r#"{"error":{"message":"Flex tier capacity exceeded","type":"capacity_exceeded","code":"capacity_exceeded"}}"#, Class::Overloaded),
    ("cerebras", 402, r#"{"message":"Payment required","type":"payment_required_error","param":"quota","code":"payment_required"}"#, Class::OutOfMoney),
    ("deepseek", 402, r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#, Class::OutOfMoney),
    ("zai balance", 429, r#"{"error":{"code":"1113","message":"Insufficient balance or no resource package. Please recharge."}}"#, Class::OutOfMoney),
    ("zai busy", 429, r#"{"error":{"code":"1302","message":"High concurrency usage of this API"}}"#, Class::RateLimited),
    ("zai quota", 429, r#"{"error":{"code":"1310","message":"Weekly limit exhausted"}}"#, Class::OutOfMoney),
    ("moonshot quota", 429, r#"{"error":{"message":"Your account is suspended","type":"exceeded_current_quota_error"}}"#, Class::OutOfMoney),
    ("moonshot busy", 429, r#"{"error":{"message":"The engine is currently overloaded","type":"engine_overloaded_error"}}"#, Class::Overloaded),
    ("openrouter credits", 402, r#"{"error":{"message":"This request requires more credits, or fewer max_tokens.","code":402}}"#, Class::OutOfMoney),
    ("openrouter moderation", 403, r#"{"error":{"message":"Your chosen model requires moderation and your input was flagged","code":403,"metadata":{"reasons":["violence"]}}}"#, Class::RefusedByFilter),
    ("openrouter upstream", 502, r#"{"error":{"message":"Provider returned error","code":502}}"#, Class::Server),
    ("fireworks text", 500, r#"{"error":"internal"}"#, Class::Server),
    ("ollama model", 404, r#"{"error":{"message":"model \"llama9\" not found, try pulling it first","type":"api_error","param":null,"code":null}}"#, Class::NoModel),
    ("ollama text", 404, r#"{"error":"model 'x' not found"}"#, Class::NoModel),
    ("ollama busy", 503, r#"{"error":"server busy, please try again.  maximum pending requests exceeded"}"#, Class::Overloaded),
    ("ollama crash", 500, r#"{"error":"llama runner process has terminated: exit status 2"}"#, Class::Server),
    ("ollama tools", 400, r#"{"error":"registry.ollama.ai/library/gemma:2b does not support tools"}"#, Class::NoModel),
    ("ollama thinking", 400, r#"{"error":"\"llama3.2\" does not support thinking"}"#, Class::NoModel),
    ("ollama context", 400, r#"{"error":"the input length exceeds the context length"}"#, Class::ContextTooLong),
    ("ollama field", 400, r#"{"error":"json: cannot unmarshal string into Go struct field ChatRequest.messages of type []api.Message"}"#, Class::BadRequest),
    ("ollama cloud key", 401, r#"{"error":"unauthorized","signin_url":"https://ollama.com/connect"}"#, Class::BadKey),
    ("ollama cloud hour", 429, r#"{"error":"you've reached your hourly usage limit, please upgrade to continue"}"#, Class::RateLimited),
    ("ollama cloud week", 429, r#"{"error":"you've reached your weekly usage limit, please upgrade to continue"}"#, Class::OutOfMoney),
    ("cohere", 429, r#"{"id":"a","message":"You are using a Trial key, which is limited to 10 API calls / minute."}"#, Class::RateLimited),
    ("cohere month", 429, r#"{"message":"You are using a Trial key, which is limited to 1000 API calls / month. You can continue to use the Trial key for free or upgrade to a Production key"}"#, Class::OutOfMoney),
    ("cohere minute", 429, r#"{"message":"You are past the per minute request limit, please wait and try again later."}"#, Class::RateLimited),
    ("cohere bad key", 401, r#"{"id":"1","message":"invalid api token"}"#, Class::BadKey),
    ("cohere no key", 401, r#"{"message":"no api key supplied"}"#, Class::BadKey),
    ("cohere billing", 402, r#"{"message":"Please add or update your payment method at https://dashboard.cohere.com/billing?tab=payment to continue"}"#, Class::OutOfMoney),
    ("cohere model", 404, r#"{"message":"model 'command-z' not found, make sure the correct model ID was used and that you have access to the model."}"#, Class::NoModel),
    ("cohere context", 400, r#"{"message":"too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 4292. Try using a shorter prompt, or enabling prompt truncating."}"#, Class::ContextTooLong),
    ("cohere output", 400, r#"{"message":"too many tokens: max tokens must be less than or equal to 4096, the maximum output for this model - received 8192."}"#, Class::BadRequest),
    ("cohere field", 422, r#"{"message":"unknown field: parameter 'x' is not a valid field"}"#, Class::BadRequest),
    ("cohere blocked", 498, r#"{"message":"blocked output: this generation may be a potential violation of our usage guidelines. Please try again with a different prompt."}"#, Class::RefusedByFilter),
    ("cohere unsafe", 498, r#"{"message":"unsafe request"}"#, Class::RefusedByFilter),
    ("cohere cancelled", 499, r#"{"message":"request cancelled"}"#, Class::Server),
    ("cohere not there", 501, r#"{"message":"not implemented"}"#, Class::Server),
    ("cohere unavailable", 503, r#"{"message":"service unavailable"}"#, Class::Overloaded),
    ("cohere late", 504, r#"{"message":"gateway timeout"}"#, Class::Timeout),
    ("capacity without a word", 498, "", Class::Overloaded),
    ("xai flat", 400, r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xa***"}"#, Class::BadKey),
    // No JSON at all
    ("html", 502, "<html><body>502 Bad Gateway</body></html>", Class::Server),
    ("html unavailable", 503, "<html>upstream connect error</html>", Class::Overloaded),
    ("empty", 429, "", Class::RateLimited),
    ("redirect", 302, "", Class::Server),
    ("teapot", 418, "{}", Class::BadRequest),
    ("json without an error", 400, r#"[1,2]"#, Class::BadRequest),
];

#[test]
fn real_bodies_fall_into_their_classes() {
    for (name, status, body, wanted) in BODIES {
        assert_eq!(class_of(*status, body), *wanted, "{name}");
    }
}

#[test]
fn what_a_dialect_writes_is_read_back_as_the_same_class() {
    use Class::*;
    let all = [
        BadRequest,
        BadKey,
        NoAccess,
        NoModel,
        RateLimited,
        OutOfMoney,
        Overloaded,
        Server,
        ContextTooLong,
        RefusedByFilter,
        Timeout,
        Truncated,
        Network,
    ];
    let wires: [&dyn Wire; 5] = [&OpenAiChat, &Anthropic, &Gemini, &Cohere, &Ollama];
    for (i, wire) in wires.iter().enumerate() {
        for class in all {
            let (status, body) = wire.write_error(&ApiError::new(class, "said"));
            let failure = classify(status, &HeaderMap::new(), &body, SystemTime::UNIX_EPOCH);
            assert_eq!(failure.class, class, "wire {i}");
            // Clients of Anthropic's look for certain words.
            let message = failure.message.strip_prefix("prompt is too long: ").filter(|_| i == 1);
            assert_eq!(message.unwrap_or(&failure.message), "said", "wire {i}");
            // The same words inside a stream, where there is no status to go by.
            let inside = error_inside(&serde_json::from_slice(&body).unwrap()).unwrap();
            assert_eq!(inside.class, class, "wire {i}, in a stream");
        }
    }
}

#[test]
fn failures_inside_a_stream_of_responses_are_told_apart() {
    let failed = |code: &str| json!({"type": "response.failed", "response": {"status": "failed", "error": {"code": code, "message": "m"}}});
    let event = |code: &str| json!({"type": "error", "code": code, "message": "m", "param": null, "sequence_number": 3});
    for (code, class) in [
        ("server_error", Class::Server),
        ("rate_limit_exceeded", Class::RateLimited),
        ("insufficient_quota", Class::OutOfMoney),
        ("vector_store_timeout", Class::Timeout),
        ("invalid_prompt", Class::BadRequest),
        ("invalid_image", Class::BadRequest),
        ("image_parse_error", Class::BadRequest),
        ("image_content_policy_violation", Class::RefusedByFilter),
        ("context_length_exceeded", Class::ContextTooLong),
        ("something_new", Class::Server),
    ] {
        for document in [failed(code), event(code)] {
            let failure = error_inside(&document).unwrap();
            assert_eq!((failure.class, failure.message.as_str()), (class, "m"), "{document}");
            assert_eq!(failure.code.as_deref(), Some(code));
        }
    }
    let going = json!({"type": "response.created", "response": {"status": "in_progress", "error": null}});
    assert_eq!(error_inside(&going), None);
}

#[test]
fn a_wait_named_only_in_the_body_is_found() {
    let now = SystemTime::UNIX_EPOCH;
    let wait = |body: &str| {
        classify(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), body.as_bytes(), now).retry_after
    };
    let by_name = |name: &str| wait(BODIES.iter().find(|row| row.0 == name).unwrap().2);
    assert_eq!(by_name("openai rate"), Some(Duration::from_secs(20)));
    assert_eq!(by_name("gemini minute"), Some(Duration::from_secs(46)));
    assert_eq!(by_name("anthropic rate"), None);
    assert_eq!(
        wait(r#"{"error":{"message":"Please retry in 1m2.5s."}}"#),
        Some(Duration::from_millis(62_500))
    );
}

#[test]
fn an_answer_that_only_mentions_errors_is_not_one() {
    for document in [
        json!({"id": "x", "choices": [{"message": {"content": "error"}}]}),
        json!({"id": "x", "error": null, "choices": []}),
        json!({"type": "message", "content": []}),
        json!([]),
        json!("error"),
    ] {
        assert_eq!(error_inside(&document), None, "{document}");
    }
}

#[test]
fn a_blocked_prompt_is_a_refusal_inside_an_answer() {
    let blocked = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 3}});
    let failure = error_inside(&blocked).unwrap();
    assert_eq!(
        (failure.class, failure.code.as_deref()),
        (Class::RefusedByFilter, Some("PROHIBITED_CONTENT"))
    );
    for document in [
        json!({"promptFeedback": {"safetyRatings": []}, "candidates": []}),
        json!({"promptFeedback": {"blockReason": "BLOCK_REASON_UNSPECIFIED"}}),
        json!({"promptFeedback": {"blockReason": "SAFETY"}, "candidates": [{"finishReason": "STOP"}]}),
    ] {
        assert_eq!(error_inside(&document), None, "{document}");
    }
}

#[test]
fn an_error_without_words_still_has_some() {
    let failure =
        classify(StatusCode::BAD_GATEWAY, &HeaderMap::new(), b"upstream gone", SystemTime::UNIX_EPOCH);
    assert_eq!(failure.message, "HTTP 502: upstream gone");
    assert_eq!(class_of(500, ""), Class::Server);
}
