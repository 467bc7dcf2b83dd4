//! Errors as each house words them: rejected requests and the failures of scenarios.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::chat::Ids;
use super::cohere::failure as cohere;
use super::ollama::failure as ollama;
use super::reply::{Event, Reply};
use super::scenario::Outcome;
use super::served::{House, Wire};

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reject {
    status: StatusCode,
    message: String,
    /// The field, as OpenAI reports it; Anthropic's and Google's messages begin with it.
    param: Option<String>,
    /// OpenAI's machine-readable code.
    code: Option<&'static str>,
}

impl Reject {
    /// A request that has to be written differently.
    pub(super) fn bad(message: impl Into<String>) -> Reject {
        Reject { status: StatusCode::BAD_REQUEST, message: message.into(), param: None, code: None }
    }

    pub(super) fn at(mut self, param: impl Into<String>) -> Reject {
        self.param = Some(param.into());
        self
    }

    pub(super) fn code(mut self, code: &'static str) -> Reject {
        self.code = Some(code);
        self
    }

    fn status(mut self, status: StatusCode) -> Reject {
        self.status = status;
        self
    }

    pub(super) fn no_key(house: House) -> Reject {
        match house {
            House::Bedrock => Reject::bad("Missing Authentication Token").status(StatusCode::FORBIDDEN),
            House::Anthropic => Reject::bad("x-api-key header is required").status(StatusCode::UNAUTHORIZED),
            House::Google => Reject::bad("Missing or invalid Authorization header."),
            House::Gemini => Reject::bad(
                "Method doesn't allow unregistered callers (callers without established identity). Please use API Key \
                 or other form of API consumer identity to call this API.",
            )
            .status(StatusCode::FORBIDDEN),
            House::Cohere => Reject::bad("no api key supplied").status(StatusCode::UNAUTHORIZED),
            House::Ollama => Reject::bad("unauthorized").status(StatusCode::UNAUTHORIZED),
            House::OpenAi | House::Compatible => Reject::bad(
                "You didn't provide an API key. You need to provide your API key in an Authorization header using \
                 Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            )
            .status(StatusCode::UNAUTHORIZED),
        }
    }

    /// The real OpenAI repeats part of the key here. A simulation that is handed somebody's real key by mistake should
    /// not pass it on.
    pub(super) fn wrong_key(house: House) -> Reject {
        match house {
            House::Bedrock => Reject::bad("Authentication failed: Please make sure your API Key is valid.")
                .status(StatusCode::FORBIDDEN),
            House::Anthropic => Reject::bad("invalid x-api-key").status(StatusCode::UNAUTHORIZED),
            House::Google | House::Gemini => {
                Reject::bad("API key not valid. Please pass a valid API key.").code("API_KEY_INVALID")
            }
            House::Cohere => Reject::bad("invalid api token").status(StatusCode::UNAUTHORIZED),
            House::Ollama => Reject::bad("unauthorized").status(StatusCode::UNAUTHORIZED),
            House::OpenAi | House::Compatible => Reject::bad(
                "Incorrect API key provided: ********. You can find your API key at \
                 https://platform.openai.com/account/api-keys.",
            )
            .status(StatusCode::UNAUTHORIZED)
            .code("invalid_api_key"),
        }
    }

    /// Code Assist's, of a token that is none.
    pub(super) fn wrong_token() -> Reject {
        Reject::bad(
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid \
             authentication credential.",
        )
        .status(StatusCode::UNAUTHORIZED)
    }

    pub(super) fn not_found(house: House, method: &Method, path: &str) -> Reject {
        let message = match house {
            House::Anthropic => "Not Found".to_owned(),
            House::Bedrock => "Unable to determine service/operation name to be authorized".to_owned(),
            House::Cohere => format!("route {path} not found"),
            House::Ollama => "404 page not found".to_owned(),
            House::OpenAi | House::Google | House::Gemini | House::Compatible => {
                format!("Invalid URL ({method} {path})")
            }
        };
        Reject::bad(message).status(StatusCode::NOT_FOUND)
    }

    pub(super) fn method(house: House, method: &Method, path: &str) -> Reject {
        let message = match house {
            House::Anthropic => "Method Not Allowed".to_owned(),
            House::Bedrock => "The HTTP method is not allowed for this operation.".to_owned(),
            House::Cohere | House::Ollama => "method not allowed".to_owned(),
            House::OpenAi | House::Google | House::Gemini | House::Compatible => format!(
                "Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP method?)"
            ),
        };
        Reject::bad(message).status(StatusCode::METHOD_NOT_ALLOWED).code("method_not_supported")
    }

    pub(super) fn too_large(house: House) -> Reject {
        let message = match house {
            House::Anthropic => "Request exceeds the maximum size",
            House::Bedrock => "Input is too long for requested model.",
            House::OpenAi
            | House::Google
            | House::Gemini
            | House::Cohere
            | House::Ollama
            | House::Compatible => "Request body is too large.",
        };
        Reject::bad(message).status(StatusCode::PAYLOAD_TOO_LARGE)
    }

    pub(super) fn no_json(house: House, error: &serde_json::Error) -> Reject {
        match house {
            House::Anthropic => Reject::bad(format!("The request body is not valid JSON: {error}")),
            House::Bedrock => Reject::bad(format!("The request body is not readable: {error}")),
            House::Google | House::Gemini => Reject::bad(format!("Invalid JSON payload received. {error}")),
            House::Cohere => Reject::bad(format!("invalid request: the body is not valid JSON: {error}")),
            House::Ollama => Reject::bad(error.to_string()),
            House::OpenAi | House::Compatible => Reject::bad(format!(
                "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your \
                 HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid \
                 JSON: {error})"
            )),
        }
    }
}

/// The error reply to a request that is not in order.
pub(super) fn reject(house: House, reject: &Reject, ids: &Ids) -> Reply {
    let Reject { status, message, param, code } = reject;
    let reply = match house {
        House::OpenAi | House::Compatible => {
            openai(*status, message, "invalid_request_error", param.as_deref(), *code)
        }
        House::Google | House::Gemini => {
            google(house, *status, message, code.map(google_reason).into_iter().collect())
        }
        House::Bedrock => {
            let kind = match status.as_u16() {
                403 => "AccessDeniedException",
                404 | 405 => "UnknownOperationException",
                _ => "ValidationException",
            };
            bedrock(*status, kind, message)
        }
        House::Cohere => cohere::error(*status, message, ids),
        House::Ollama => ollama::error(*status, message),
        House::Anthropic => {
            let kind = match status.as_u16() {
                401 => "authentication_error",
                404 => "not_found_error",
                413 => "request_too_large",
                _ => "invalid_request_error",
            };
            anthropic(*status, kind, message, ids)
        }
    };
    stamp(house, reply, ids)
}

/// The reply to a request that is in order, under a scenario's failure. [`Outcome::Ok`], [`Outcome::Filtered`] and
/// [`Outcome::Hangup`] are no errors on the wire and have none here; a stream's own error, without a stream, is the
/// server's.
pub(super) fn outcome(house: House, outcome: Outcome, model: &str, ids: &Ids) -> Reply {
    let reply = match house {
        House::OpenAi | House::Compatible => openai_outcome(house, outcome, model),
        House::Anthropic => anthropic_outcome(outcome, model, ids),
        House::Bedrock => bedrock_outcome(outcome),
        House::Google | House::Gemini => google_outcome(house, outcome, model),
        House::Cohere => cohere::outcome(outcome, model, ids),
        House::Ollama => ollama::outcome(outcome, model),
    };
    stamp(house, reply, ids)
}

/// The error that ends a stream which began with status 200, after so many events.
pub(super) fn stream_error(house: House, wire: Wire, number: usize) -> Event {
    match house {
        House::OpenAi | House::Compatible if wire == Wire::OpenAiResponses => {
            let data = json!({
                "type": "error", "sequence_number": number, "code": "server_error", "message": SERVER_OPENAI, "param": null,
            });
            Event::sse(Some("error"), &data.to_string(), false)
        }
        House::Bedrock => super::bedrock::exception("serviceUnavailableException", BUSY_BEDROCK),
        House::Anthropic => {
            let data = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded", "details": null}});
            Event::sse(Some("error"), &data.to_string(), false)
        }
        House::Google | House::Gemini => {
            Event::sse(None, &google_error(house, 503, OVERLOADED_GOOGLE, Vec::new()).to_string(), false)
        }
        House::Cohere => cohere::stream_error(),
        House::Ollama => ollama::stream_error(),
        House::OpenAi | House::Compatible => {
            let data = json!({"error": {"message": SERVER_OPENAI, "type": "server_error", "param": null, "code": null}});
            Event::sse(None, &data.to_string(), false)
        }
    }
}

/// The headers that the house puts on every reply. Rate limits that are not hit look the same each time.
pub(super) fn stamp(house: House, reply: Reply, ids: &Ids) -> Reply {
    let limited = reply.status == StatusCode::TOO_MANY_REQUESTS;
    let left = |full: &'static str| if limited { "0" } else { full };
    match house {
        House::OpenAi => reply
            .with("x-request-id", &format!("req_{}", ids.id("request", 32)))
            .with("openai-version", "2020-10-01")
            .with("openai-organization", "org-simulated")
            .with("x-ratelimit-limit-requests", "10000")
            .with("x-ratelimit-remaining-requests", left("9999"))
            .with("x-ratelimit-reset-requests", if limited { "30s" } else { "6ms" })
            .with("x-ratelimit-limit-tokens", "200000")
            .with("x-ratelimit-remaining-tokens", "199000")
            .with("x-ratelimit-reset-tokens", "300ms"),
        House::Compatible => reply.with("x-request-id", &format!("req_{}", ids.id("request", 26))),
        House::Anthropic => reply
            .with("request-id", &request_id(ids))
            .with("anthropic-organization-id", "00000000-0000-4000-8000-000000000000")
            .with("anthropic-ratelimit-requests-limit", "50")
            .with("anthropic-ratelimit-requests-remaining", left("49"))
            .with("anthropic-ratelimit-input-tokens-limit", "50000")
            .with("anthropic-ratelimit-input-tokens-remaining", "49000"),
        House::Bedrock => reply.with("x-amzn-requestid", &ids.id("request", 32)),
        House::Google | House::Gemini | House::Ollama => reply,
        House::Cohere => reply.with("x-debug-trace-id", &ids.id("request", 32)),
    }
}

const SERVER_OPENAI: &str = "The server had an error while processing your request. Sorry about that!";
const BUSY_BEDROCK: &str = "Bedrock is unable to process your request.";
const OVERLOADED_GOOGLE: &str = "The model is overloaded. Please try again later.";

fn openai_outcome(house: House, outcome: Outcome, model: &str) -> Reply {
    let reply = |status: u16, message: &str, kind: &str, code: Option<&str>| {
        openai(status_of(status), message, kind, None, code)
    };
    let invalid = "invalid_request_error";
    match outcome {
        Outcome::RateLimit => reply(
            429,
            &format!(
                "Rate limit reached for {model} in organization org-simulated on requests per min (RPM): Limit 500, \
                 Used 500, Requested 1. Please try again in 30s. Visit \
                 https://platform.openai.com/account/rate-limits to learn more."
            ),
            "requests",
            Some("rate_limit_exceeded"),
        )
        .with("retry-after", "30")
        .with("retry-after-ms", "30000"),
        Outcome::OutOfMoney if house == House::OpenAi => reply(
            429,
            "You exceeded your current quota, please check your plan and billing details. For more information on \
             this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
            "insufficient_quota",
            Some("insufficient_quota"),
        ),
        // Of the others, most say so with the status that is made for it.
        Outcome::OutOfMoney => reply(402, "Insufficient Balance", "insufficient_balance", Some("insufficient_balance")),
        Outcome::BadKey => {
            let Reject { status, message, code, .. } = Reject::wrong_key(house);
            openai(status, &message, invalid, None, code)
        }
        // What a key of restricted scope gets.
        Outcome::NoAccess => reply(
            403,
            "You have insufficient permissions for this operation. Missing scopes: model.request.",
            invalid,
            Some("missing_scope"),
        ),
        Outcome::NoModel => reply(
            404,
            &format!("The model `{model}` does not exist or you do not have access to it."),
            invalid,
            Some("model_not_found"),
        ),
        Outcome::ContextTooLong => openai(
            StatusCode::BAD_REQUEST,
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 131072 tokens. \
             Please reduce the length of the messages.",
            invalid,
            Some("messages"),
            Some("context_length_exceeded"),
        ),
        Outcome::BadRequest => reply(400, "Invalid request.", invalid, None),
        Outcome::Overloaded => {
            reply(503, "The engine is currently overloaded, please try again later", "server_error", None)
        }
        Outcome::ServerError | Outcome::StreamError | Outcome::Ok | Outcome::Filtered | Outcome::Hangup => {
            reply(500, SERVER_OPENAI, "server_error", None)
        }
    }
}

fn anthropic_outcome(outcome: Outcome, model: &str, ids: &Ids) -> Reply {
    let reply = |status: u16, kind: &str, message: &str| anthropic(status_of(status), kind, message, ids);
    match outcome {
        Outcome::RateLimit => reply(
            429,
            "rate_limit_error",
            "This request would exceed your organization's rate limit of 50 requests per minute. For details, refer \
             to: https://docs.claude.com/en/api/rate-limits.",
        )
        .with("retry-after", "30"),
        Outcome::OutOfMoney => reply(
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or \
             purchase credits.",
        ),
        Outcome::BadKey => reply(401, "authentication_error", "invalid x-api-key"),
        Outcome::NoAccess => reply(
            403,
            "permission_error",
            "Your API key does not have permission to use the specified resource.",
        ),
        Outcome::NoModel => reply(404, "not_found_error", &format!("model: {model}")),
        Outcome::ContextTooLong => {
            reply(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")
        }
        Outcome::BadRequest => reply(400, "invalid_request_error", "Invalid request."),
        Outcome::Overloaded
        | Outcome::ServerError
        | Outcome::StreamError
        | Outcome::Ok
        | Outcome::Filtered
        | Outcome::Hangup => reply(529, "overloaded_error", "Overloaded"),
    }
}

fn bedrock_outcome(outcome: Outcome) -> Reply {
    let reply = |status: u16, kind: &str, message: &str| bedrock(status_of(status), kind, message);
    match outcome {
        Outcome::RateLimit => {
            reply(429, "ThrottlingException", "Too many requests, please wait before trying again.")
                .with("retry-after", "30")
        }
        Outcome::OutOfMoney => {
            reply(429, "ThrottlingException", "Too many tokens per day, please wait before trying again.")
        }
        Outcome::BadKey => reply(
            403,
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
        ),
        Outcome::NoAccess => reply(
            403,
            "AccessDeniedException",
            "You don't have access to the model with the specified model ID.",
        ),
        Outcome::NoModel => reply(400, "ValidationException", "The provided model identifier is invalid."),
        Outcome::ContextTooLong => {
            reply(400, "ValidationException", "Input is too long for requested model.")
        }
        Outcome::BadRequest => reply(400, "ValidationException", "The request is not valid."),
        Outcome::Overloaded => reply(503, "ServiceUnavailableException", BUSY_BEDROCK),
        Outcome::ServerError | Outcome::StreamError | Outcome::Ok | Outcome::Filtered | Outcome::Hangup => {
            reply(
                500,
                "InternalServerException",
                "The system encountered an unexpected error during processing. Try your request again.",
            )
        }
    }
}

/// Bedrock names the kind in a header.
fn bedrock(status: StatusCode, kind: &str, message: &str) -> Reply {
    let documented = format!("{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/");
    Reply::json(status, &json!({ "message": message })).with("x-amzn-errortype", &documented)
}

fn google_outcome(house: House, outcome: Outcome, model: &str) -> Reply {
    let reply = |status: u16, message: &str| google(house, status_of(status), message, Vec::new());
    match outcome {
        Outcome::RateLimit => google(
            house,
            StatusCode::TOO_MANY_REQUESTS,
            "You exceeded your current quota, please check your plan and billing details. Please retry in 30s.",
            google_quota(model, "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"),
        ),
        Outcome::OutOfMoney => google(
            house,
            StatusCode::TOO_MANY_REQUESTS,
            "You exceeded your current quota, please check your plan and billing details. Please retry in 30s.",
            google_quota(model, "GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
        ),
        Outcome::BadKey => {
            let Reject { status, message, .. } = Reject::wrong_key(house);
            google(house, status, &message, vec![google_reason("API_KEY_INVALID")])
        }
        Outcome::NoAccess => reply(403, "The caller does not have permission"),
        Outcome::NoModel => reply(
            404,
            &format!(
                "models/{model} is not found for API version v1main, or is not supported for generateContent."
            ),
        ),
        Outcome::ContextTooLong => reply(
            400,
            "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).",
        ),
        Outcome::BadRequest => reply(400, "Request contains an invalid argument."),
        Outcome::Overloaded => reply(503, OVERLOADED_GOOGLE),
        Outcome::ServerError | Outcome::StreamError | Outcome::Ok | Outcome::Filtered | Outcome::Hangup => {
            reply(
                500,
                "An internal error has occurred. Please retry or report in https://developers.generativeai.google/guide/troubleshooting",
            )
        }
    }
}

pub(super) fn status_of(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn openai(status: StatusCode, message: &str, kind: &str, param: Option<&str>, code: Option<&str>) -> Reply {
    Reply::json(status, &json!({"error": {"message": message, "type": kind, "param": param, "code": code}}))
}

fn request_id(ids: &Ids) -> String {
    format!("req_011C{}", ids.id("request", 20))
}

fn anthropic(status: StatusCode, kind: &str, message: &str, ids: &Ids) -> Reply {
    let error = json!({"type": kind, "message": message});
    Reply::json(status, &json!({"type": "error", "error": error, "request_id": request_id(ids)}))
}

/// Google's error; on its OpenAI-compatible endpoint it is the only item of an array.
fn google(house: House, status: StatusCode, message: &str, details: Vec<Value>) -> Reply {
    Reply::json(status, &google_error(house, status.as_u16(), message, details))
}

fn google_error(house: House, code: u16, message: &str, details: Vec<Value>) -> Value {
    let status = match code {
        400 | 413 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        405 => "UNIMPLEMENTED",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        _ => "INTERNAL",
    };
    let mut error = json!({"code": code, "message": message, "status": status});
    if !details.is_empty() {
        error["details"] = Value::Array(details);
    }
    match house {
        House::Google => json!([{ "error": error }]),
        _ => json!({ "error": error }),
    }
}

fn google_reason(reason: &str) -> Value {
    json!({
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"}
    })
}

fn google_quota(model: &str, quota: &str) -> Vec<Value> {
    vec![
        json!({
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{
                "quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
                "quotaId": quota,
                "quotaDimensions": {"location": "global", "model": model},
                "quotaValue": "15"
            }]
        }),
        json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "30s"}),
    ]
}
