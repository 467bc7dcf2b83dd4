//! Asks for whatever its input lists, one request after the other, and reports what came of each.
//!
//! `${NAME}` in a URL, header or body becomes the environment variable of that name, so that a test can send
//! placeholders anywhere. URLs are not normalised on their way: every odd spelling arrives as it was written.

use std::collections::BTreeMap;
use std::process::ExitCode;

use orch_sdk::Result;
use orch_sdk::http::Request;
use serde::{Deserialize, Serialize};

/// Redirects followed at most, as browsers have it.
const MAX_HOPS: usize = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    requests: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    #[serde(default = "get")]
    method: String,
    url: String,
    /// Pairs, so that one name may be sent twice.
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
    /// Append so many bytes of `x` to the body.
    #[serde(default)]
    pad: usize,
    #[serde(default)]
    follow_redirects: bool,
    /// How much of the answer's body to report, in bytes.
    #[serde(default = "default_keep")]
    keep: usize,
}

fn get() -> String {
    "GET".to_owned()
}

fn default_keep() -> usize {
    4096
}

#[derive(Serialize)]
struct Output {
    results: Vec<Outcome>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Answer {
        /// The URL that answered: the last one, after redirects.
        url: String,
        redirects: Vec<String>,
        status: u16,
        /// Names as they came; values of one name joined by ", ".
        headers: BTreeMap<String, String>,
        /// The body's beginning, with what is not UTF-8 replaced.
        body: String,
        body_bytes: usize,
        /// Set when the body broke off.
        #[serde(skip_serializing_if = "Option::is_none")]
        body_error: Option<String>,
    },
    Failure {
        url: String,
        redirects: Vec<String>,
        error: String,
    },
}

fn main() -> ExitCode {
    orch_sdk::run(|input: Input| async move {
        let mut results = Vec::new();
        for item in input.requests {
            eprintln!("{} {}", item.method, item.url);
            results.push(visit(item).await);
        }
        Ok(Output { results })
    })
}

async fn visit(item: Item) -> Outcome {
    let mut url = expand(&item.url);
    let mut redirects = Vec::new();
    loop {
        match ask(&item, &url).await {
            Ok(Reply { location: Some(location), .. })
                if item.follow_redirects && redirects.len() < MAX_HOPS =>
            {
                redirects.push(std::mem::replace(&mut url, location));
            }
            Ok(reply) => {
                return Outcome::Answer {
                    url,
                    redirects,
                    status: reply.status,
                    headers: reply.headers,
                    body: reply.body,
                    body_bytes: reply.body_bytes,
                    body_error: reply.body_error,
                };
            }
            Err(error) => return Outcome::Failure { url, redirects, error: error.to_string() },
        }
    }
}

struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    location: Option<String>,
    body: String,
    body_bytes: usize,
    body_error: Option<String>,
}

async fn ask(item: &Item, url: &str) -> Result<Reply> {
    let mut body = expand(&item.body).into_bytes();
    body.resize(body.len() + item.pad, b'x');
    let mut request = Request::new(&item.method, url).body(body);
    for (name, value) in &item.headers {
        request = request.header(name, expand(value));
    }
    let mut response = request.send().await?;

    let status = response.status();
    let redirected = (300..400).contains(&status);
    let location = redirected.then(|| response.header("location")).flatten().map(str::to_owned);
    let mut headers = BTreeMap::<String, String>::new();
    for (name, value) in response.headers() {
        let value = String::from_utf8_lossy(value);
        headers
            .entry(name.clone())
            .and_modify(|all| *all = format!("{all}, {value}"))
            .or_insert_with(|| value.into());
    }
    let (mut kept, mut body_bytes) = (Vec::new(), 0);
    let body_error = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                body_bytes += chunk.len();
                kept.extend_from_slice(&chunk[..chunk.len().min(item.keep - kept.len())]);
            }
            Ok(None) => break None,
            Err(error) => break Some(error.to_string()),
        }
    };
    let body = String::from_utf8_lossy(&kept).into_owned();
    Ok(Reply { status, headers, location, body, body_bytes, body_error })
}

/// Replaces each `${NAME}`; a variable that is not set becomes nothing.
fn expand(text: &str) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, (name, after))) =
        rest.split_once("${").and_then(|(b, a)| Some((b, a.split_once('}')?)))
    {
        expanded.push_str(before);
        expanded.push_str(&std::env::var(name).unwrap_or_default());
        rest = after;
    }
    expanded + rest
}
