//! Errors as Cohere words them.

use http::StatusCode;
use serde_json::json;

use crate::simulate::chat::Ids;
use crate::simulate::failure::status_of;
use crate::simulate::reply::{Event, Reply};
use crate::simulate::scenario::Outcome;

/// The reply to a request that is in order, under a scenario's failure.
pub(in crate::simulate) fn outcome(outcome: Outcome, model: &str, ids: &Ids) -> Reply {
    let reply = |status: u16, message: &str| error(status_of(status), message, ids);
    match outcome {
        Outcome::RateLimit => {
            reply(429, "You are past the per minute request limit, please wait and try again later.")
                .with("retry-after", "30")
        }
        Outcome::OutOfMoney => reply(
            402,
            "Please add or update your payment method at https://dashboard.cohere.com/billing?tab=payment to continue",
        ),
        Outcome::BadKey => reply(401, "invalid api token"),
        Outcome::NoAccess => reply(403, "this key is not permitted to use this resource"),
        Outcome::NoModel => reply(
            404,
            &format!(
                "model '{model}' not found, make sure the correct model ID was used and that you have access to the \
                 model."
            ),
        ),
        Outcome::ContextTooLong => reply(
            400,
            "too many tokens: total number of tokens in the prompt cannot exceed 128000 - received 131072.",
        ),
        Outcome::BadRequest => reply(400, "invalid request: the request is not valid"),
        Outcome::Overloaded => reply(503, "the service is unavailable, please try again later"),
        Outcome::ServerError | Outcome::StreamError | Outcome::Ok | Outcome::Filtered | Outcome::Hangup => {
            reply(500, "internal server error")
        }
    }
}

/// An error is nothing but an id and a message.
pub(in crate::simulate) fn error(status: StatusCode, message: &str, ids: &Ids) -> Reply {
    Reply::json(status, &json!({"id": super::uuid(ids, "error"), "message": message}))
}

/// The error that ends a stream which began with status 200: the message ends, and says so.
pub(in crate::simulate) fn stream_error() -> Event {
    let delta = json!({"finish_reason": "ERROR", "error": "internal server error"});
    let data = json!({"type": "message-end", "delta": delta});
    Event::sse(Some("message-end"), &data.to_string(), false)
}
