//! Errors as Ollama words them: a text, and nothing beside it.

use http::StatusCode;
use serde_json::json;

use crate::simulate::failure::status_of;
use crate::simulate::reply::{Event, Reply};
use crate::simulate::scenario::Outcome;

/// The reply to a request that is in order, under a scenario's failure. What a server of one's own never says, the cloud
/// of Ollama does.
pub(in crate::simulate) fn outcome(outcome: Outcome, model: &str) -> Reply {
    let reply = |status: u16, message: &str| error(status_of(status), message);
    match outcome {
        Outcome::RateLimit => {
            reply(429, "too many requests, please try again later").with("retry-after", "30")
        }
        Outcome::OutOfMoney => {
            reply(429, "you've reached your weekly usage limit, please upgrade to continue")
        }
        Outcome::BadKey => reply(401, "unauthorized"),
        Outcome::NoAccess => reply(403, "this model requires a subscription, upgrade for access"),
        Outcome::NoModel => reply(404, &format!("model '{model}' not found")),
        Outcome::ContextTooLong => reply(400, "the input length exceeds the context length"),
        Outcome::BadRequest => reply(400, "invalid request"),
        Outcome::Overloaded => {
            reply(503, "server busy, please try again.  maximum pending requests exceeded")
        }
        Outcome::ServerError | Outcome::StreamError | Outcome::Ok | Outcome::Filtered | Outcome::Hangup => {
            reply(500, CRASHED)
        }
    }
}

pub(in crate::simulate) fn error(status: StatusCode, message: &str) -> Reply {
    Reply::json(status, &json!({ "error": message }))
}

/// The line that ends a stream which began with status 200. It does not say that anything is done.
pub(in crate::simulate) fn stream_error() -> Event {
    Event::line(&json!({ "error": CRASHED }), false)
}

const CRASHED: &str = "an error was encountered while running the model: unexpected EOF";
