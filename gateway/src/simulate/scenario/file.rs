//! The YAML form of a scenario. Everything is parsed into its final type while the YAML reader still knows the line
//! and column.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use orch_manifests::HostName;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::error::ScenarioError;
use super::{Attempts, Outcome, Rule, Scenario, Scripted, ScriptedBody, ScriptedHost, Who};

/// The largest scenario file that is read, in bytes.
const LARGEST: u64 = 1 << 20;
/// The longest wait that a rule may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

pub(super) fn load(path: &Path) -> Result<Scenario, ScenarioError> {
    let label = path.display().to_string();
    let unreadable =
        |error: std::io::Error| ScenarioError::in_file(&label, format!("cannot be read: {error}"));
    let mut text = String::new();
    // One byte more than allowed tells a file that is too large from one that just fits, also for pipes.
    File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text)).map_err(unreadable)?;
    if text.len() as u64 > LARGEST {
        return Err(ScenarioError::in_file(&label, format!("is larger than {LARGEST} bytes")));
    }
    parse(&text, &label)
}

pub(super) fn parse(text: &str, label: &str) -> Result<Scenario, ScenarioError> {
    let file: ScenarioFile =
        serde_yaml::from_str(text).map_err(|error| ScenarioError::from_yaml(label, &error))?;
    Ok(Scenario { name: label.to_owned(), rules: file.rules, hosts: file.hosts })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioFile {
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    hosts: Vec<ScriptedHost>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleForm {
    #[serde(default)]
    provider: Option<Who>,
    model: Option<String>,
    #[serde(default)]
    attempts: Option<Attempts>,
    #[serde(default)]
    answer: Outcome,
    status: Option<Status>,
    #[serde(default)]
    headers: Headers,
    body: Option<ScriptedBody>,
    text: Option<String>,
    #[serde(default)]
    delay: Wait,
    #[serde(default)]
    pause: Wait,
    cut: Option<u32>,
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rule, D::Error> {
        let form = RuleForm::deserialize(deserializer)?;
        Ok(Rule {
            who: form.provider.unwrap_or(Who::Any),
            model: form.model,
            attempts: form.attempts.unwrap_or(Attempts::ALL),
            outcome: form.answer,
            status: form.status.map(|status| status.0),
            headers: form.headers.0,
            body: form.body,
            text: form.text,
            delay: form.delay.0,
            pause: form.pause.0,
            cut: form.cut,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostForm {
    host: HostText,
    port: Option<std::num::NonZeroU16>,
    method: Option<MethodText>,
    path: Option<PathText>,
    status: Option<Status>,
    #[serde(default)]
    headers: Headers,
    body: Option<ScriptedBody>,
}

impl<'de> Deserialize<'de> for ScriptedHost {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ScriptedHost, D::Error> {
        let form = HostForm::deserialize(deserializer)?;
        Ok(ScriptedHost {
            host: form.host.0,
            port: form.port.map_or(443, std::num::NonZeroU16::get),
            method: form.method.map(|method| method.0),
            path: form.path.map(|path| path.0),
            reply: Scripted {
                status: form.status.map_or(StatusCode::OK, |status| status.0),
                headers: form.headers.0,
                body: form.body.unwrap_or(ScriptedBody::Text(String::new())),
            },
        })
    }
}

/// A field that is one scalar in YAML (text or a whole number) and has its own syntax.
struct Scalar<T>(fn(&str) -> Result<T, String>, &'static str);

impl<T> Visitor<'_> for Scalar<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! scalar {
    ($type:ty, $parse:expr, $expecting:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                deserializer.deserialize_any(Scalar($parse, $expecting))
            }
        }
    };
}

struct Status(StatusCode);
#[derive(Default)]
struct Wait(Duration);
struct MethodText(Method);
struct HostText(HostName);
struct PathText(String);

scalar!(Who, parse_who, "a provider's slug, `primary` or `any`");
scalar!(Attempts, parse_attempts, "request numbers such as `2`, `1-3` or `2-`");
scalar!(Status, parse_status, "an HTTP status from 200 to 599");
scalar!(Wait, parse_wait, "a duration such as `200ms` or `1.5s`");
scalar!(MethodText, parse_method, "an HTTP method");
scalar!(HostText, parse_host, "a host name");
scalar!(PathText, parse_path, "a path that begins with `/`");

fn parse_who(text: &str) -> Result<Who, String> {
    match text {
        "any" => Ok(Who::Any),
        "primary" => Ok(Who::Primary),
        slug if !slug.is_empty()
            && slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') =>
        {
            Ok(Who::Provider(slug.to_owned()))
        }
        _ => Err(format!("`{text}` is no provider: a slug of a-z, 0-9 and `-`, `primary` or `any`")),
    }
}

fn parse_attempts(text: &str) -> Result<Attempts, String> {
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n > 0);
    let range = match text.split_once('-') {
        None => number(text).map(|n| (n, n)),
        Some((first, "")) => number(first).map(|n| (n, u32::MAX)),
        Some((first, last)) => number(first).zip(number(last)),
    };
    match range {
        Some((first, last)) if first <= last => Ok(Attempts { first, last }),
        _ => {
            Err(format!("`{text}` is no range of request numbers: write `2`, `1-3` or `2-`, counting from 1"))
        }
    }
}

fn parse_status(text: &str) -> Result<Status, String> {
    // 1xx is no final answer, and 101 would switch protocols.
    match StatusCode::from_str(text) {
        Ok(status) if (200..600).contains(&status.as_u16()) => Ok(Status(status)),
        _ => Err(format!("`{text}` is no HTTP status: write a number from 200 to 599")),
    }
}

fn parse_wait(text: &str) -> Result<Wait, String> {
    let (number, millis) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1.0)
    } else if let Some(number) = text.strip_suffix('s') {
        (number, 1000.0)
    } else if let Some(number) = text.strip_suffix('m') {
        (number, 60_000.0)
    } else {
        return Err(format!("`{text}` has no unit: write `200ms`, `1.5s` or `1m`"));
    };
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let value = number.parse::<f64>().ok().filter(|_| plain);
    let value = value.ok_or_else(|| format!("`{text}` is no duration: write `200ms`, `1.5s` or `1m`"))?;
    match Duration::try_from_secs_f64(value * millis / 1000.0) {
        Ok(wait) if wait <= LONGEST_WAIT => Ok(Wait(wait)),
        _ => Err(format!("`{text}` is too long: at most {}s", LONGEST_WAIT.as_secs())),
    }
}

fn parse_method(text: &str) -> Result<MethodText, String> {
    let known = !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase());
    match Method::from_str(text) {
        Ok(method) if known && method != Method::CONNECT => Ok(MethodText(method)),
        _ => Err(format!("`{text}` is no HTTP method that can be scripted: write it in capitals, as in GET")),
    }
}

fn parse_host(text: &str) -> Result<HostText, String> {
    let example = "write it as in api.example.com, without scheme, port or wildcard";
    text.parse().map(HostText).map_err(|error| format!("`{text}` is no host name: {error}; {example}"))
}

fn parse_path(text: &str) -> Result<PathText, String> {
    let plain = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#');
    if plain {
        Ok(PathText(text.to_owned()))
    } else {
        Err(format!("`{text}` is no path: it begins with `/`, is percent-encoded ASCII and has no query"))
    }
}

#[derive(Default)]
struct Headers(Vec<(HeaderName, HeaderValue)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Headers, D::Error> {
        let map = BTreeMap::<HeaderKey, HeaderText>::deserialize(deserializer)?;
        Ok(Headers(
            map.into_iter().filter_map(|(name, value)| Some((name.0.parse().ok()?, value.0))).collect(),
        ))
    }
}

/// A checked header name in lower case, as text: [`HeaderName`] has no order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct HeaderKey(String);
struct HeaderText(HeaderValue);

scalar!(HeaderKey, parse_header_name, "a header's name");
scalar!(HeaderText, parse_header_value, "a header's value as text");

fn parse_header_name(text: &str) -> Result<HeaderKey, String> {
    let name = HeaderName::from_str(text).map_err(|_| format!("`{text}` is no header name"))?;
    // The connection's own headers are the server's business: a scripted one would break its framing.
    if [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(&name) {
        return Err(format!("`{text}` cannot be scripted"));
    }
    Ok(HeaderKey(name.as_str().to_owned()))
}

fn parse_header_value(text: &str) -> Result<HeaderText, String> {
    HeaderValue::from_str(text)
        .map(HeaderText)
        .map_err(|_| "is no header value: it holds a control character".into())
}

impl<'de> Deserialize<'de> for ScriptedBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ScriptedBody, D::Error> {
        Ok(match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => ScriptedBody::Text(text),
            other => ScriptedBody::Json(other),
        })
    }
}

#[cfg(test)]
mod tests;
