//! Amazon Bedrock's Converse, and its models that make vectors. It verifies signatures itself.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use ring::digest::{SHA256, digest};
use ring::hmac::{HMAC_SHA256, Key, sign};
use serde_json::{Value, json};

use super::{Failure, input_tokens, pieces, stray_header, unknown_field, words};
use crate::reply::{Piece, Reply};
use crate::upstream::Host;
use crate::wire::Received;

mod vectors;

const FIELDS: [&str; 6] =
    ["additionalModelRequestFields", "inferenceConfig", "messages", "outputConfig", "system", "toolConfig"];
const MODELS: [&str; 2] = ["amazon.nova-lite-v1:0", "us.anthropic.claude-haiku-4-5-20251001-v1:0"];

/// A fake of Bedrock in one region.
#[derive(Debug, Clone, Copy)]
pub struct Converse {
    /// Where it is, such as `eu-central-1`.
    pub region: &'static str,
    /// Names the secret.
    pub access_key_id: &'static str,
    /// What requests are signed with.
    pub secret_access_key: &'static str,
    /// What has to come with it, if anything.
    pub session_token: Option<&'static str>,
    /// A key that travels, which is taken as well.
    pub bearer: &'static str,
    /// What it answers.
    pub says: &'static str,
}

impl Converse {
    /// What is wrong with how a request is authorised, if anything.
    fn unauthorised(&self, request: &Received) -> Option<String> {
        let Some(said) = request.header("authorization") else { return Some("nothing".into()) };
        if let Some(key) = said.strip_prefix("Bearer ") {
            return (key != self.bearer).then(|| "another bearer".into());
        }
        if request.header("x-amz-security-token") != self.session_token {
            return Some("another token".into());
        }
        let Some(date) = request.header("x-amz-date").filter(|date| date.len() == 16) else {
            return Some("no date".into());
        };
        if age(date).is_none_or(|age| age > Duration::from_secs(300)) {
            return Some(format!("the date {date} is not now"));
        }
        let scope = format!("{}/{}/bedrock/aws4_request", &date[..8], self.region);
        let before = format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders=", self.access_key_id);
        let Some((signed, signature)) = said.strip_prefix(&before).and_then(|r| r.split_once(", Signature="))
        else {
            return Some(format!("another scope or key: {said}"));
        };
        let mut lines = String::new();
        for name in signed.split(';') {
            let Some(value) = request.header(name) else {
                return Some(format!("{name} is signed and not there"));
            };
            let _ = writeln!(lines, "{name}:{}", value.trim());
        }
        let unsigned =
            ["host", "x-amz-date"].into_iter().chain(self.session_token.map(|_| "x-amz-security-token"));
        if let Some(name) = unsigned.into_iter().find(|name| !signed.split(';').any(|other| other == *name)) {
            return Some(format!("{name} is not signed"));
        }
        // What is escaped in the path is escaped once more.
        let path = request.path.replace('%', "%25").replace(':', "%3A");
        let body = hex(digest(&SHA256, &request.body).as_ref());
        let query = request.query.as_deref().unwrap_or_default();
        let canonical = format!("{}\n{path}\n{query}\n{lines}\n{signed}\n{body}", request.method);
        let text = format!(
            "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
            hex(digest(&SHA256, canonical.as_bytes()).as_ref())
        );
        let mut key = format!("AWS4{}", self.secret_access_key).into_bytes();
        for step in scope.split('/').chain([text.as_str()]) {
            key = sign(&Key::new(HMAC_SHA256, &key), step.as_bytes()).as_ref().to_vec();
        }
        (hex(&key) != signature).then(|| "another signature".into())
    }

    /// The answer that Bedrock gives when it fails in this way.
    pub fn failure(&self, failure: Failure) -> Reply {
        match failure {
            Failure::BadKey => error(
                403,
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            ),
            Failure::NoModel => error(
                404,
                "ResourceNotFoundException",
                "Could not resolve the foundation model from the model identifier.",
            ),
            Failure::RateLimited(seconds) => {
                error(429, "ThrottlingException", "Too many requests, please wait before trying again.")
                    .with_header("retry-after", &seconds.to_string())
            }
            Failure::BadRequest => error(400, "ValidationException", "messages.0.content: Field required"),
            Failure::Overloaded => error(503, "ServiceUnavailableException", "Too many connections"),
            _ => error(500, "InternalServerException", "The system encountered an unexpected error."),
        }
    }

    /// What is wrong with who asks, and where.
    fn unwelcome(&self, request: &Received) -> Option<Reply> {
        if let Some(why) = self.unauthorised(request) {
            let message = format!("The request signature we calculated does not match: {why}");
            return Some(error(403, "InvalidSignatureException", &message));
        }
        if let Some(name) = stray_header(request) {
            return Some(error(400, "ValidationException", &format!("unexpected header {name}")));
        }
        let host = format!("bedrock-runtime.{}.amazonaws.com", self.region);
        if request.header("host").is_none_or(|sent| sent != host && !sent.starts_with("127.0.0.1:")) {
            return Some(error(421, "ValidationException", "another host"));
        }
        None
    }

    /// What is wrong with a request for an answer, as the answer that says so.
    pub(super) fn objection(&self, request: &Received) -> Option<Reply> {
        if let Some(unwelcome) = self.unwelcome(request) {
            return Some(unwelcome);
        }
        let model = request.path.strip_prefix("/model/").and_then(|rest| rest.rsplit_once('/'));
        let Some((model, "converse" | "converse-stream")) = model else {
            return Some(error(404, "UnknownOperationException", ""));
        };
        if request.method != "POST" || !MODELS.contains(&&*model.replace("%3A", ":")) {
            return Some(error(400, "ValidationException", "The provided model identifier is invalid."));
        }
        let body = serde_json::from_slice::<Value>(&request.body).ok();
        let Some(body) = body.filter(|body| body["messages"].as_array().is_some_and(|all| !all.is_empty()))
        else {
            return Some(error(400, "ValidationException", "no messages"));
        };
        let unknown = unknown_field(&body, &FIELDS)?;
        Some(error(400, "ValidationException", &format!("extraneous key [{unknown}] is not permitted")))
    }
}

impl Host for Converse {
    fn answer(&self, request: &Received) -> Reply {
        if let Some(model) = vectors::model(request) {
            return self.unwelcome(request).unwrap_or_else(|| vectors::answer(&model, request));
        }
        if let Some(objection) = self.objection(request) {
            return objection;
        }
        let (input, output) = (input_tokens(&request.json()), words(self.says));
        let usage = json!({"inputTokens": input, "outputTokens": output, "totalTokens": input + output});
        if request.path.ends_with("/converse") {
            let message = json!({"role": "assistant", "content": [{"text": self.says}]});
            return Reply::json(
                200,
                &json!({"output": {"message": message}, "stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 1}}),
            );
        }
        let said = pieces(self.says).map(|text| {
            event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": text}, "p": "abc"}))
        });
        let mut events = vec![event("messageStart", &json!({"role": "assistant"}))];
        events.extend(said);
        events.push(event("contentBlockStop", &json!({"contentBlockIndex": 0})));
        events.push(event("messageStop", &json!({"stopReason": "end_turn"})));
        events.push(event("metadata", &json!({"usage": usage, "metrics": {"latencyMs": 1}})));
        let kind = ("content-type".to_owned(), "application/vnd.amazon.eventstream".to_owned());
        Reply::Stream { status: 200, headers: vec![kind], pieces: events }
    }
}

pub(super) fn error(status: u16, kind: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"message": message})).with_header("x-amzn-errortype", kind)
}

/// An event as a binary message.
pub(super) fn event(kind: &str, payload: &Value) -> Piece {
    message("event", kind, payload)
}

/// What ends a stream that has failed.
pub(super) fn exception(kind: &str, payload: &Value) -> Piece {
    message("exception", kind, payload)
}

fn message(message: &str, kind: &str, payload: &Value) -> Piece {
    let mut headers = Vec::new();
    let named = format!(":{message}-type");
    for (name, value) in [(&*named, kind), (":content-type", "application/json"), (":message-type", message)]
    {
        headers.push(u8::try_from(name.len()).expect("short"));
        headers.extend_from_slice(name.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&u16::try_from(value.len()).expect("short").to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let payload = payload.to_string();
    let word = |length: usize| u32::try_from(length).expect("short").to_be_bytes();
    let mut message = [word(16 + headers.len() + payload.len()), word(headers.len())].concat();
    message.extend_from_slice(&crc32(&message).to_be_bytes());
    message.extend_from_slice(&headers);
    message.extend_from_slice(payload.as_bytes());
    message.extend_from_slice(&crc32(&message).to_be_bytes());
    Piece::Bytes(message)
}

/// The checksum of IEEE 802.3, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(
            sum ^ u32::from(*byte),
            |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 },
        )
    })
}

/// How far a date such as `20150830T123600Z` is from now; `None` for what is none.
fn age(date: &str) -> Option<Duration> {
    let number = |from: usize, to: usize| date.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    // Days since 1970, of years that begin in March.
    let (shifted, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + (153 * months + 2) / 5 + day - 719_469;
    let seconds = ((days * 24 + number(9, 11)?) * 60 + number(11, 13)?) * 60 + number(13, 15)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(i64::try_from(now.as_secs()).ok()?.abs_diff(seconds)))
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_and_dates_are_the_published_ones() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let known = age("20150830T123600Z").unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(now.as_secs() - known.as_secs(), 1_440_938_160);
        assert_eq!(age("2015083OT123600Z"), None);
    }
}
