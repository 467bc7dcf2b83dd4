//! Whether a key is good, asked of its provider in the way that the catalog says.
//!
//! A check spends nothing and proves what it can: a list of models that anybody gets proves nothing, a key without the
//! right to list models may well be good for answers, and an account without money has a good key. What could not be
//! found out is said to be that, with why, and holds nobody up.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use orch_manifests::{Check, CheckRequest, Meaning, Provider};
use orch_proxy::{Body, Credential, EgressError, LiveGrant, ProviderCall, Proxy, empty, full};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::classify::{Failure, classify, error_inside, names};
use crate::ir::Class;
use crate::shown::shown;

/// Bytes of an answer that are read. Lists of models are long, and their beginning is enough.
const ANSWER_CAP: usize = 256 << 10;

/// What is known of a key after a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is good.
    Valid,
    /// It is good, and not for everything.
    Restricted {
        /// In what, as its provider says.
        why: String,
    },
    /// It is good, and nothing is left to spend.
    OutOfMoney {
        /// What its provider says.
        why: String,
    },
    /// It is good, and was used too often just now.
    RateLimited {
        /// What its provider says.
        why: String,
    },
    /// It is none.
    Invalid {
        /// What its provider says.
        why: String,
    },
    /// It was one: it was taken back, has expired, or is blocked.
    Revoked {
        /// What its provider says.
        why: String,
    },
    /// It is good, and may not use the model that was asked for.
    NoAccess {
        /// What its provider says.
        why: String,
    },
    /// Its provider does not know the model that was asked for.
    NoModel {
        /// What its provider says.
        why: String,
    },
    /// It could not be checked.
    Unchecked {
        /// Why not.
        why: String,
    },
    /// Its provider could not be reached.
    Offline {
        /// Why not.
        why: String,
    },
}

impl Verdict {
    /// The word for programs.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Restricted { .. } => "restricted",
            Self::OutOfMoney { .. } => "out_of_money",
            Self::RateLimited { .. } => "rate_limited",
            Self::Invalid { .. } => "invalid",
            Self::Revoked { .. } => "revoked",
            Self::NoAccess { .. } => "no_access",
            Self::NoModel { .. } => "no_model",
            Self::Unchecked { .. } => "unchecked",
            Self::Offline { .. } => "offline",
        }
    }

    /// Whether the provider said that this is no key, or none any more.
    pub const fn rejects_key(&self) -> bool {
        matches!(self, Self::Invalid { .. } | Self::Revoked { .. })
    }

    /// Whether the provider said that this is a key of its own.
    pub const fn proves_key(&self) -> bool {
        !self.rejects_key() && !matches!(self, Self::Unchecked { .. } | Self::Offline { .. })
    }

    /// What stands behind it, in the provider's words where it has some. They are clean: no key, no control characters.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Valid => None,
            Self::Restricted { why }
            | Self::OutOfMoney { why }
            | Self::RateLimited { why }
            | Self::Invalid { why }
            | Self::Revoked { why }
            | Self::NoAccess { why }
            | Self::NoModel { why }
            | Self::Unchecked { why }
            | Self::Offline { why } => Some(why),
        }
    }

    fn of(meaning: Meaning, why: String) -> Self {
        match meaning {
            Meaning::Valid => Self::Valid,
            Meaning::Restricted => Self::Restricted { why },
            Meaning::OutOfMoney => Self::OutOfMoney { why },
            Meaning::RateLimited => Self::RateLimited { why },
            Meaning::Invalid => Self::Invalid { why },
            Meaning::Revoked => Self::Revoked { why },
        }
    }

    fn unchecked(why: impl Into<String>) -> Self {
        Self::Unchecked { why: why.into() }
    }

    /// The same, in words that can be shown.
    fn shown(mut self, credential: &dyn Credential) -> Self {
        match &mut self {
            Self::Valid => {}
            Self::Restricted { why }
            | Self::OutOfMoney { why }
            | Self::RateLimited { why }
            | Self::Invalid { why }
            | Self::Revoked { why }
            | Self::NoAccess { why }
            | Self::NoModel { why }
            | Self::Unchecked { why }
            | Self::Offline { why } => *why = shown(why.trim(), Some(credential)),
        }
        self
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Valid => "valid",
            Self::Restricted { .. } => "valid, but restricted",
            Self::OutOfMoney { .. } => "valid, but nothing is left to spend",
            Self::RateLimited { .. } => "valid, and rate limited just now",
            Self::Invalid { .. } => "not accepted",
            Self::Revoked { .. } => "revoked, expired or blocked",
            Self::NoAccess { .. } => "valid, without access to the model",
            Self::NoModel { .. } => "valid, but the model is not known",
            Self::Unchecked { .. } => "could not be checked",
            Self::Offline { .. } => "could not be checked, since its provider could not be reached",
        })
    }
}

/// Asks the provider about a key, until `until`. `provider` is where the key says that it is. `made_up` stands for a key
/// that nobody has, in the same place.
pub async fn check(
    proxy: &Proxy,
    grant: &Arc<LiveGrant>,
    provider: &Provider,
    credential: &Arc<dyn Credential>,
    made_up: &Arc<dyn Credential>,
    until: Instant,
) -> Verdict {
    let check = match &provider.check {
        Check::Impossible(why) => return Verdict::unchecked(why.clone()),
        Check::Asks(check) => check,
    };
    let one = |credential| async move {
        match ask(proxy, grant, provider, check, credential, until).await {
            Ok(answer) => answer.read(check),
            Err(verdict) => verdict,
        }
    };
    let verdict = one(credential).await;
    if check.control && verdict.proves_key() {
        // Which of the two answers is the exception tells whether the provider looked at all.
        let other = one(made_up).await;
        if other.proves_key() {
            return Verdict::unchecked(
                "its provider gives the same answer to any key, so the answer proves nothing",
            );
        }
    }
    verdict.shown(&**credential)
}

/// What a provider answered.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    /// Whether that is all of it.
    whole: bool,
}

async fn ask(
    proxy: &Proxy,
    grant: &Arc<LiveGrant>,
    provider: &Provider,
    check: &CheckRequest,
    credential: &Arc<dyn Credential>,
    until: Instant,
) -> Result<Answer, Verdict> {
    let (endpoint, path) = provider.check_target(check);
    let request = request(provider, check, &path)?;
    let call =
        ProviderCall { endpoint: &endpoint, pinned: provider.pinned, request, credential: Some(credential) };
    let late = |_| Verdict::Offline { why: format!("{} did not answer in time", endpoint.host) };
    let asked = timeout_at(until, Box::pin(proxy.send(grant, call))).await.map_err(late)?;
    let response = asked.map_err(|error| unanswered(&error))?;
    let (parts, mut body) = response.into_parts();
    let mut read = Vec::new();
    let mut whole = true;
    while let Some(frame) = timeout_at(until, body.frame()).await.map_err(late)? {
        // What came has to do: the status alone is an answer too.
        let Ok(frame) = frame else {
            whole = false;
            break;
        };
        let Some(data) = frame.data_ref() else { continue };
        let room = ANSWER_CAP - read.len();
        read.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() >= room {
            whole = false;
            break;
        }
    }
    Ok(Answer { status: parts.status, headers: parts.headers, body: read.into(), whole })
}

fn request(provider: &Provider, check: &CheckRequest, path: &str) -> Result<Request<Body>, Verdict> {
    let body = match &check.body {
        Some(body) => full(Bytes::from(body.clone())),
        None => empty(),
    };
    let mut request = Request::builder()
        .method(check.method.clone())
        .uri(path)
        .body(body)
        .map_err(|e| Verdict::unchecked(format!("the path of its check is not usable: {e}")))?;
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("orch/", env!("CARGO_PKG_VERSION"))));
    if check.body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, value) in &provider.headers {
        headers.insert(name.clone(), value.clone());
    }
    Ok(request)
}

/// Nothing was answered. The network's own trouble says nothing of the key.
fn unanswered(error: &EgressError) -> Verdict {
    let why = error.to_string();
    match error {
        EgressError::Dns { .. }
        | EgressError::Connect { .. }
        | EgressError::UpstreamProxy { .. }
        | EgressError::Timeout(_)
        | EgressError::Ended(_)
        | EgressError::Protocol { .. }
        | EgressError::Body(_) => Verdict::Offline { why },
        EgressError::Tls { .. }
        | EgressError::Refused(_)
        | EgressError::Address { .. }
        | EgressError::Limit { .. }
        | EgressError::Withdrawn { .. }
        | EgressError::Authorize { .. } => Verdict::Unchecked { why },
    }
}

impl Answer {
    fn read(&self, check: &CheckRequest) -> Verdict {
        if self.status.is_success() { self.read_success(check) } else { self.read_failure(check) }
    }

    fn read_success(&self, check: &CheckRequest) -> Verdict {
        // A page that lets people into a network answers 200, too.
        let begins = self.body.iter().find(|byte| !byte.is_ascii_whitespace());
        if !matches!(begins, Some(b'{' | b'[')) {
            return Verdict::unchecked("what answered is not its provider's API, since that answers in JSON");
        }
        if !self.whole {
            return Verdict::Valid;
        }
        let Ok(document) = crate::bounded::answer(&self.body) else {
            return Verdict::unchecked("its provider's answer is not readable JSON");
        };
        if let Some(failure) = error_inside(&document) {
            return self.read_as(check, &failure);
        }
        let says = |field: &&String| document.get(field.as_str()) == Some(&Value::Bool(true));
        match check.blocked.iter().find(says) {
            Some(field) => Verdict::Revoked { why: format!("its provider says {field}") },
            None => Verdict::Valid,
        }
    }

    fn read_failure(&self, check: &CheckRequest) -> Verdict {
        if self.status.is_redirection() {
            return Verdict::unchecked(format!(
                "HTTP {}: a redirect, which no key follows",
                self.status.as_u16()
            ));
        }
        let failure = classify(self.status, &self.headers, &self.body, SystemTime::now());
        self.read_as(check, &failure)
    }

    /// What a failure says of the key. What the catalog says of a code goes first, then what the failure is, since
    /// providers put money and limits under the statuses of other things; what the catalog says of a status is last.
    fn read_as(&self, check: &CheckRequest, failure: &Failure) -> Verdict {
        let said = |why: &str| match why.starts_with("HTTP ") || why.is_empty() {
            true => format!("HTTP {}", self.status.as_u16()),
            false => format!("HTTP {}: {why}", self.status.as_u16()),
        };
        let why = said(&failure.message);
        let code = failure.code.as_deref().unwrap_or_default();
        // Some repeat the status as a code, which says no more than the status.
        let mut named =
            names(&self.headers, &self.body).into_iter().filter(|name| name != self.status.as_str());
        let of_name = |name: String| {
            let mut signs = check.means.iter();
            signs.find(|(sign, _)| sign.eq_ignore_ascii_case(&name)).map(|(_, meaning)| (*meaning, name))
        };
        let of_code = named.find_map(of_name);
        let refused = matches!(self.status.as_u16(), 400 | 401 | 403);
        let rejected = of_code.as_ref().is_none_or(|(meaning, _)| *meaning == Meaning::Invalid);
        if refused && rejected && is_over(&failure.message, code) {
            return Verdict::Revoked { why };
        }
        if let Some((meaning, name)) = of_code {
            return Verdict::of(meaning, format!("{why} ({name})"));
        }
        match failure.class {
            Class::BadKey => return Verdict::Invalid { why },
            Class::OutOfMoney => return Verdict::OutOfMoney { why },
            Class::RateLimited => return Verdict::RateLimited { why },
            _ => {}
        }
        if let Some(meaning) = check.means.get(self.status.as_str()) {
            return Verdict::of(*meaning, why);
        }
        match failure.class {
            Class::NoAccess => Verdict::NoAccess { why },
            Class::NoModel if check.body.is_some() => Verdict::NoModel { why },
            Class::Overloaded | Class::Server | Class::Timeout | Class::Network | Class::Truncated => {
                Verdict::unchecked(format!("its provider has trouble: {why}"))
            }
            _ => Verdict::unchecked(format!("its provider's answer says nothing of the key: {why}")),
        }
    }
}

/// Whether a provider says that this was a key.
fn is_over(message: &str, code: &str) -> bool {
    /// Of a key, whatever else is said.
    const OVER: [&str; 2] = ["revoked", "expired"];
    /// Of a key only where that is said: a network, a model or an API may be disabled as well.
    const ENDED: [&str; 6] =
        ["deactivated", "disabled", "has been deleted", "suspended", "terminated", "is blocked"];
    const WHAT: [&str; 6] = ["key", "token", "account", "organization", "user", "team"];
    let said = format!("{message} {code}").to_ascii_lowercase();
    // `service_disabled`, Google's, is of the account and not of the key.
    if said.contains("service_disabled") || said.contains("it is disabled") {
        return false;
    }
    let of_key = |at: usize| {
        let before = &said.as_bytes()[at.saturating_sub(NEAR)..at];
        WHAT.iter().any(|what| before.windows(what.len()).any(|part| part == what.as_bytes()))
    };
    OVER.iter().any(|word| said.contains(word))
        || ENDED.iter().any(|word| said.match_indices(word).any(|(at, _)| of_key(at)))
}

/// How far before a word its subject stands, in bytes.
const NEAR: usize = 60;

#[cfg(test)]
mod tests;
