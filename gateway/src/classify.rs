//! What kind of failure a provider's answer is: one function for every dialect.
//!
//! The body is read before the status is believed, because providers disagree about statuses: an exhausted
//! account is a 400 at Anthropic, a 402 at OpenRouter and a 429 at OpenAI and Gemini, where only the code or the
//! quota's name tells it from a busy minute. The codes of different providers do not contradict each other, so
//! that one table serves all.

mod envelope;
mod retry_after;

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use orch_manifests::Dialect;
use serde_json::{Value, json};

use crate::bounded;
use crate::ir::{ApiError, Class};
use envelope::Envelope;

pub use retry_after::RETRY_AFTER_CAP;

/// A classified failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Decides what happens next.
    pub class: Class,
    /// The provider's words. Untrusted: scrub and neutralise before showing.
    pub message: String,
    /// The provider's own code or type.
    pub code: Option<String>,
    /// The request field that the provider blames.
    pub param: Option<String>,
    /// How long the provider asks to wait, capped at [`RETRY_AFTER_CAP`].
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure that no provider worded.
    pub fn new(class: Class, message: impl Into<String>) -> Failure {
        Failure { class, message: message.into(), code: None, param: None, retry_after: None }
    }

    /// Whether the provider means the key, by status or code, and not only in words that a request may have put there.
    pub(crate) fn rejects_the_key(&self, status: StatusCode) -> bool {
        let coded = |code: &String| lookup(CODES, code) == Some(Class::BadKey);
        status == StatusCode::UNAUTHORIZED || self.code.as_ref().is_some_and(coded)
    }

    /// The same for a client that knows the names of its own dialect's errors: one of another dialect's goes among the details.
    pub(crate) fn into_error_for(self, client: Dialect, spoken: Dialect) -> ApiError {
        let mut error = self.into_error();
        if !share_codes(client, spoken)
            && let Some(code) = error.code.take()
        {
            error.details = Some(Box::new(json!({ "code": code })));
        }
        error
    }

    /// As an error to be written in a client's dialect.
    pub fn into_error(self) -> ApiError {
        ApiError { code: self.code, param: self.param, ..ApiError::new(self.class, self.message) }
    }
}

/// Whether the errors of two dialects have the same names.
fn share_codes(client: Dialect, spoken: Dialect) -> bool {
    let openais = |dialect| matches!(dialect, Dialect::OpenAiChat | Dialect::OpenAiResponses);
    client == spoken || (openais(client) && openais(spoken))
}

/// Classifies an answer that is not a success.
pub fn classify(status: StatusCode, headers: &HeaderMap, body: &[u8], now: SystemTime) -> Failure {
    let document = bounded::answer(body).ok();
    let mut envelope = match &document {
        Some(value) => envelope::read(value).unwrap_or_default(),
        None => Envelope::default(),
    };
    if let Some(kind) = headers.get("x-amzn-errortype").and_then(|kind| kind.to_str().ok()) {
        envelope.name(kind);
    }
    let class = class_of(&envelope, Some(status));
    let message = match envelope.message.is_empty() {
        false => envelope.message.clone(),
        // A proxy's HTML page or a plain line: the start of it is better than nothing.
        true => match std::str::from_utf8(body).map(str::trim) {
            Ok(text) if !text.is_empty() && document.is_none() => {
                format!("HTTP {}: {}", status.as_u16(), text.chars().take(200).collect::<String>())
            }
            _ => format!("HTTP {}", status.as_u16()),
        },
    };
    let retry_after = retry_after::from_headers(headers, now).or_else(|| retry_after::from_body(&envelope));
    Failure { class, message, code: envelope.code(), param: envelope.param, retry_after }
}

/// Every name that an answer gives to what happened, the most telling first: codes, types, statuses and reasons.
pub(crate) fn names(headers: &HeaderMap, body: &[u8]) -> Vec<String> {
    let document = bounded::answer(body).ok();
    let mut envelope = document.as_ref().and_then(envelope::read).unwrap_or_default();
    if let Some(kind) = headers.get("x-amzn-errortype").and_then(|kind| kind.to_str().ok()) {
        envelope.name(kind);
    }
    envelope.codes().collect()
}

/// The failure inside a document that came with a success status: a whole body, or one event of a stream.
/// `None` when it holds no error.
pub fn error_inside(document: &Value) -> Option<Failure> {
    if let Some(reason) = envelope::blocked(document) {
        let failure = Failure::new(Class::RefusedByFilter, format!("the prompt was blocked: {reason}"));
        return Some(Failure { code: Some(reason), ..failure });
    }
    let given_up = envelope::given_up(document);
    if given_up.is_none() && !envelope::is_error(document) {
        return None;
    }
    let envelope = given_up.or_else(|| envelope::read(document))?;
    let status = envelope.http_status();
    let class = class_of(&envelope, status);
    let retry_after = retry_after::from_body(&envelope);
    let message = match envelope.message.is_empty() {
        true => "the provider sent an error without a message".to_owned(),
        false => envelope.message.clone(),
    };
    Some(Failure { class, message, code: envelope.code(), param: envelope.param, retry_after })
}

fn class_of(envelope: &Envelope, status: Option<StatusCode>) -> Class {
    if let Some(class) = quota_class(envelope) {
        return class;
    }
    let message = envelope.message.to_ascii_lowercase();
    // Money first: several providers put it under the code of a rate limit or of a bad request.
    let money_possible = status.is_none_or(|s| matches!(s.as_u16(), 400 | 401 | 402 | 403 | 412 | 429));
    if money_possible && OUT_OF_MONEY_WORDS.iter().any(|words| message.contains(words)) {
        return Class::OutOfMoney;
    }
    if let Some(class) = envelope.codes().find_map(|code| lookup(CODES, &code)) {
        return class;
    }
    if status.is_none_or(|s| s.is_client_error())
        && let Some((_, class)) = WORDS.iter().find(|(words, _)| message.contains(words))
    {
        return *class;
    }
    if let Some(status) = status {
        // Cohere, which has no codes, means its usage guidelines by it; others a lack of capacity.
        let of_cohere = status.as_u16() == 498 && envelope.code().is_none() && !message.is_empty();
        return if of_cohere { Class::RefusedByFilter } else { by_status(status) };
    }
    envelope.codes().find_map(|code| lookup(VAGUE_CODES, &code)).unwrap_or(Class::Server)
}

/// Gemini has one 429 for a busy minute and for a used-up day; the quota's name tells them apart.
fn quota_class(envelope: &Envelope) -> Option<Class> {
    let of_quota = envelope.codes().any(|code| code.eq_ignore_ascii_case("RESOURCE_EXHAUSTED"));
    if (of_quota && has_no_quota(&envelope.message))
        || envelope.quota_ids.iter().any(|id| id.contains("PerDay"))
    {
        return Some(Class::OutOfMoney);
    }
    envelope.quota_ids.iter().any(|id| id.contains("PerMinute")).then_some(Class::RateLimited)
}

/// Whether the words say that the quota is nothing at all: `limit: 0`, and not `limit: 0.5` or `limit: 05`.
fn has_no_quota(message: &str) -> bool {
    message.split("limit: 0").skip(1).any(|rest| {
        let digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        !digit(rest) && !rest.strip_prefix('.').is_some_and(digit)
    })
}

fn by_status(status: StatusCode) -> Class {
    match status.as_u16() {
        401 => Class::BadKey,
        402 => Class::OutOfMoney,
        403 => Class::NoAccess,
        404 | 410 => Class::NoModel,
        408 | 504 | 524 => Class::Timeout,
        413 => Class::ContextTooLong,
        429 => Class::RateLimited,
        498 | 503 | 529 => Class::Overloaded,
        // A state of the provider's, or the provider's giving up on the request, and no mistake in it.
        409 | 424 | 499 => Class::Server,
        400..=499 => Class::BadRequest,
        // Includes 3xx: redirects of an API call are not followed, because they would carry the key along.
        _ => Class::Server,
    }
}

fn lookup(table: &[(&str, Class)], code: &str) -> Option<Class> {
    table.iter().find(|(name, _)| name.eq_ignore_ascii_case(code)).map(|(_, class)| *class)
}

/// Codes, types and status names that say what happened whatever the HTTP status.
const CODES: &[(&str, Class)] = &[
    ("insufficient_quota", Class::OutOfMoney),
    ("quota_exceeded", Class::OutOfMoney),
    ("billing_hard_limit_reached", Class::OutOfMoney),
    ("billing_not_active", Class::OutOfMoney),
    ("enforced_spend_limit_reached", Class::OutOfMoney),
    ("billing_error", Class::OutOfMoney),
    ("credit_balance_exhausted", Class::OutOfMoney),
    ("insufficient_credits", Class::OutOfMoney),
    ("insufficient_balance", Class::OutOfMoney),
    ("exceeded_current_quota_error", Class::OutOfMoney),
    ("payment_required", Class::OutOfMoney),
    ("PaymentRequired", Class::OutOfMoney),
    // z.ai
    ("1113", Class::OutOfMoney),
    ("1308", Class::OutOfMoney),
    ("1310", Class::OutOfMoney),
    ("1316", Class::OutOfMoney),
    ("1317", Class::OutOfMoney),
    ("1318", Class::OutOfMoney),
    ("1319", Class::OutOfMoney),
    ("1302", Class::RateLimited),
    ("1305", Class::RateLimited),
    ("1313", Class::RateLimited),
    ("context_length_exceeded", Class::ContextTooLong),
    ("model_context_window_exceeded", Class::ContextTooLong),
    ("request_too_large", Class::ContextTooLong),
    ("content_filter", Class::RefusedByFilter),
    ("content_policy_violation", Class::RefusedByFilter),
    ("image_content_policy_violation", Class::RefusedByFilter),
    ("moderation_blocked", Class::RefusedByFilter),
    ("ResponsibleAIPolicyViolation", Class::RefusedByFilter),
    ("invalid_api_key", Class::BadKey),
    ("API_KEY_INVALID", Class::BadKey),
    ("incorrect_api_key", Class::BadKey),
    ("authentication_error", Class::BadKey),
    ("invalid_authentication_error", Class::BadKey),
    ("account_deactivated", Class::BadKey),
    ("UNAUTHENTICATED", Class::BadKey),
    ("permission_error", Class::NoAccess),
    ("permission_denied", Class::NoAccess),
    ("model_access_denied", Class::NoAccess),
    ("unsupported_country_region_territory", Class::NoAccess),
    ("UnrecognizedClientException", Class::BadKey),
    ("InvalidSignatureException", Class::BadKey),
    ("IncompleteSignatureException", Class::BadKey),
    ("MissingAuthenticationTokenException", Class::BadKey),
    ("ExpiredTokenException", Class::BadKey),
    ("InvalidClientTokenId", Class::BadKey),
    ("ResourceNotFoundException", Class::NoModel),
    ("ServiceQuotaExceededException", Class::OutOfMoney),
    ("model_not_found", Class::NoModel),
    ("not_found_error", Class::NoModel),
    ("NOT_FOUND", Class::NoModel),
    ("rate_limit_error", Class::RateLimited),
    ("rate_limit_exceeded", Class::RateLimited),
    ("too_many_requests", Class::RateLimited),
    ("RESOURCE_EXHAUSTED", Class::RateLimited),
    ("ThrottlingException", Class::RateLimited),
    ("overloaded", Class::Overloaded),
    ("overloaded_error", Class::Overloaded),
    ("engine_overloaded_error", Class::Overloaded),
    ("server_is_overloaded", Class::Overloaded),
    ("slow_down", Class::Overloaded),
    ("capacity_exceeded", Class::Overloaded),
    ("UNAVAILABLE", Class::Overloaded),
    ("ServiceUnavailableException", Class::Overloaded),
    ("ModelNotReadyException", Class::Overloaded),
    ("timeout_error", Class::Timeout),
    ("vector_store_timeout", Class::Timeout),
    ("DEADLINE_EXCEEDED", Class::Timeout),
    ("ModelTimeoutException", Class::Timeout),
    ("stream_truncated", Class::Truncated),
    ("upstream_unreachable", Class::Network),
    // Google's 499: it gave up, and not the client.
    ("CANCELLED", Class::Server),
    ("invalid_prompt", Class::BadRequest),
    // OpenAI's, of images in responses.
    ("invalid_image", Class::BadRequest),
    ("invalid_image_format", Class::BadRequest),
    ("invalid_base64_image", Class::BadRequest),
    ("invalid_image_url", Class::BadRequest),
    ("image_too_large", Class::BadRequest),
    ("image_too_small", Class::BadRequest),
    ("image_parse_error", Class::BadRequest),
    ("invalid_image_mode", Class::BadRequest),
    ("image_file_too_large", Class::BadRequest),
    ("unsupported_image_media_type", Class::BadRequest),
    ("empty_image_file", Class::BadRequest),
    ("failed_to_download_image", Class::BadRequest),
    ("image_file_not_found", Class::BadRequest),
];

/// Codes that are too general to overrule a status, for errors that have none.
const VAGUE_CODES: &[(&str, Class)] = &[
    ("invalid_request_error", Class::BadRequest),
    ("INVALID_ARGUMENT", Class::BadRequest),
    ("FAILED_PRECONDITION", Class::BadRequest),
    ("ValidationException", Class::BadRequest),
    // AWS has it for keys that are none, too.
    ("AccessDeniedException", Class::NoAccess),
    ("api_error", Class::Server),
    ("server_error", Class::Server),
    ("INTERNAL", Class::Server),
    ("ABORTED", Class::Server),
    ("UNKNOWN", Class::Server),
    ("InternalServerException", Class::Server),
    ("ModelStreamErrorException", Class::Server),
];

/// Lower-case phrases by which providers say that nothing is left to spend.
const OUT_OF_MONEY_WORDS: &[&str] = &[
    "credit balance is too low",
    "insufficient balance",
    "insufficient credits",
    "requires more credits",
    "out of credits",
    "credits are depleted",
    "check your plan and billing details",
    "billing hard limit",
    "monthly usage limit",
    "monthly spending limit",
    "too many tokens per day",
    "spend limit",
    "weekly usage limit",
    // Of a trial key at Cohere; per minute it passes with time.
    "api calls / month",
];

/// Lower-case phrases for the errors that have no code of their own.
const WORDS: &[(&str, Class)] = &[
    ("prompt is too long", Class::ContextTooLong),
    ("input is too long", Class::ContextTooLong),
    ("maximum context length", Class::ContextTooLong),
    ("exceeds the context window", Class::ContextTooLong),
    ("exceeds the maximum number of tokens allowed", Class::ContextTooLong),
    ("exceeds the context length", Class::ContextTooLong),
    ("too many tokens: total number of tokens", Class::ContextTooLong),
    ("too many tokens: size limit exceeded", Class::ContextTooLong),
    ("api key not valid", Class::BadKey),
    ("make sure your api key is valid", Class::BadKey),
    ("security token included in the request is", Class::BadKey),
    ("model identifier is invalid", Class::NoModel),
    ("on-demand throughput isn", Class::NoModel),
    ("incorrect api key", Class::BadKey),
    ("invalid api key", Class::BadKey),
    ("invalid api token", Class::BadKey),
    ("user location is not supported", Class::NoAccess),
    ("free tier is not available in your country", Class::NoAccess),
    ("output blocked by content filtering policy", Class::RefusedByFilter),
    ("flagged by moderation", Class::RefusedByFilter),
    ("requires moderation", Class::RefusedByFilter),
    ("violation of our usage guidelines", Class::RefusedByFilter),
    ("try pulling it first", Class::NoModel),
    // Of Ollama's models: another may well do.
    ("does not support tools", Class::NoModel),
    ("does not support thinking", Class::NoModel),
    ("does not support chat", Class::NoModel),
];

#[cfg(test)]
mod tests;
