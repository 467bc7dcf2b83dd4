//! GitHub's API for reading a repository, as much of it as agents ask for.

use serde_json::{Value, json};

use crate::reply::Reply;
use crate::upstream::Host;
use crate::wire::Received;

/// A fake `api.github.com` that wants `Authorization: Bearer <token>` and a `User-Agent`, and knows the repositories of
/// one owner:
///
/// | repository | is |
/// |---|---|
/// | `acme/widget` | two commits, one issue and a pull request |
/// | `acme/busy` | full pages, as many as are asked for; every second issue is a pull request |
/// | `acme/bare` | no README, no commit, no issue |
/// | `acme/echo` | described by the request itself, credentials and all |
/// | `acme/limited` | out of requests |
/// | `acme/secret` | not for this token |
/// | `acme/moved` | somewhere else |
///
/// All others are not found.
#[derive(Debug, Clone)]
pub struct GitHub {
    token: String,
}

/// A GitHub that accepts `token`.
pub fn github(token: &str) -> GitHub {
    GitHub { token: token.to_owned() }
}

impl Host for GitHub {
    fn answer(&self, request: &Received) -> Reply {
        if request.header("user-agent").is_none() {
            return Reply::text(403, "Request forbidden by administrative rules.");
        }
        if request.header("authorization") != Some(&format!("Bearer {}", self.token)) {
            return error(401, "Bad credentials");
        }
        let Some(rest) = request.path.strip_prefix("/repos/acme/") else { return error(404, "Not Found") };
        let (name, part) = rest.split_once('/').unwrap_or((rest, ""));
        match name {
            "limited" => error(403, "API rate limit exceeded for user ID 1.")
                .with_header("x-ratelimit-remaining", "0")
                .with_header("retry-after", "60"),
            "secret" => error(403, "Resource not accessible by personal access token"),
            "moved" => Reply::redirect(301, "https://api.github.com/repositories/1"),
            "widget" | "busy" | "bare" | "echo" => repository(name, part, request),
            _ => error(404, "Not Found"),
        }
    }
}

fn repository(name: &str, part: &str, request: &Received) -> Reply {
    let per_page = parameter(request, "per_page").unwrap_or(30);
    let first = (parameter(request, "page").unwrap_or(1) - 1) * per_page;
    let on_page = |all: u64| (first..all.min(first + per_page)).collect::<Vec<u64>>();
    match (part, name) {
        ("", "echo") => {
            let headers: Vec<String> = request.headers.iter().map(|(n, v)| format!("{n}: {v}")).collect();
            Reply::json(200, &json!({ "full_name": "acme/echo", "description": headers.join("; ") }))
        }
        ("", _) => {
            let description = "A widget that widgets.";
            Reply::json(200, &json!({ "full_name": format!("acme/{name}"), "description": description }))
        }
        ("readme", "bare") => error(404, "Not Found"),
        ("readme", _) => Reply::text(200, "# Widget\n\nThe widget turns cranks. It is written in Rust.\n"),
        ("commits", "bare") => error(409, "Git Repository is empty."),
        ("commits", _) => {
            let commits = on_page(if name == "busy" { u64::MAX } else { 2 });
            Reply::json(200, &commits.into_iter().map(commit).collect())
        }
        ("issues", _) => {
            let all = match name {
                "busy" => u64::MAX,
                "bare" => 0,
                _ => 2,
            };
            Reply::json(200, &on_page(all).into_iter().map(issue).collect())
        }
        _ => error(404, "Not Found"),
    }
}

fn commit(number: u64) -> Value {
    json!({
        "sha": format!("{number:040x}"),
        "commit": {
            "message": format!("Turn crank {number}\n\nAt length."),
            "author": { "name": "Ada", "email": "ada@example.org", "date": "2026-02-03T04:05:06Z" },
        },
    })
}

/// Every second one is a pull request, which the real one lists among the issues too.
fn issue(number: u64) -> Value {
    let mut issue = json!({ "number": number, "title": format!("Crank {number} squeaks"), "comments": 3 });
    if number % 2 == 1 {
        issue["pull_request"] = json!({ "url": "https://api.github.com/repos/acme/widget/pulls/1" });
    }
    issue
}

fn parameter(request: &Received, name: &str) -> Option<u64> {
    let query = request.query.as_deref()?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({ "message": message, "status": status.to_string() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, query: &str, token: &str) -> (u16, Value) {
        let request = Received {
            method: "GET".into(),
            path: path.into(),
            query: Some(query.into()),
            headers: vec![
                ("user-agent".into(), "test".into()),
                ("authorization".into(), format!("Bearer {token}")),
            ],
            body: Vec::new(),
            trailers: Vec::new(),
            head: Vec::new(),
        };
        match github("right").answer(&request) {
            Reply::Full { status, body, .. } => {
                (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
            }
            Reply::Stream { .. } | Reply::Held(..) | Reply::Raw(_) => panic!("a whole answer"),
        }
    }

    #[test]
    fn lists_come_in_pages_and_only_for_the_token() {
        assert_eq!(get("/repos/acme/widget", "", "wrong").0, 401);
        assert_eq!(get("/repos/acme/other", "", "right").0, 404);
        let length = |path, query| get(path, query, "right").1.as_array().expect("a list").len();
        assert_eq!(length("/repos/acme/widget/commits", "per_page=100&page=1"), 2);
        assert_eq!(length("/repos/acme/widget/commits", "per_page=1&page=2"), 1);
        assert_eq!(length("/repos/acme/widget/issues", "state=open&per_page=100&page=2"), 0);
        assert_eq!(length("/repos/acme/busy/issues", "state=open&per_page=100&page=7"), 100);
    }
}
