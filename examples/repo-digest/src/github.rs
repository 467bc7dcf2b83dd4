//! The part of GitHub's API that is read, over `api.github.com`.
//!
//! What `GITHUB_TOKEN` holds in here is a placeholder. It becomes the token on its way to that host, if the user
//! granted that, and is worth nothing anywhere else.

use orch_sdk::http::{Request, Response};
use orch_sdk::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

const API: &str = "https://api.github.com";
/// The version of the API that this is written for.
const VERSION: &str = "2022-11-28";
/// Entries of a page, the most that GitHub gives.
const PAGE: usize = 100;
/// The most pages of one list: a list of issues may be full of pull requests, which are not wanted.
const PAGES: usize = 4;
/// The most bytes of one answer.
const ANSWER: usize = 4 << 20;

/// A repository that is read with the user's token.
pub(crate) struct GitHub {
    repo: String,
    token: String,
}

/// What the repository says of itself.
#[derive(Deserialize)]
pub(crate) struct About {
    pub(crate) full_name: String,
    pub(crate) description: Option<String>,
}

/// A commit.
pub(crate) struct Commit {
    /// The day, `YYYY-MM-DD`.
    pub(crate) date: String,
    pub(crate) author: String,
    /// The first line of its message.
    pub(crate) subject: String,
}

/// An open issue.
#[derive(Deserialize)]
pub(crate) struct Issue {
    pub(crate) number: u64,
    pub(crate) title: String,
    #[serde(default)]
    pub(crate) comments: u64,
}

impl GitHub {
    /// For `owner/name`.
    pub(crate) fn new(repo: &str) -> Result<GitHub> {
        let part = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
            !part.is_empty() && part.chars().all(plain) && part.chars().any(|c| c != '.')
        };
        if !repo.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name)) {
            return Err(Error::agent(format!("{repo:?} is no repository: it has to be owner/name")));
        }
        let token = std::env::var("GITHUB_TOKEN").map_err(|_| Error::Env("GITHUB_TOKEN".into()))?;
        Ok(GitHub { repo: repo.to_owned(), token })
    }

    /// The repository itself.
    pub(crate) async fn repository(&self) -> Result<About> {
        let answer = self.get("", "application/vnd.github+json").await?;
        parse(&self.accepted(answer).await?)
    }

    /// The README as text; `None` when there is none.
    pub(crate) async fn readme(&self) -> Result<Option<String>> {
        let answer = self.get("/readme", "application/vnd.github.raw+json").await?;
        if answer.status() == 404 {
            return Ok(None);
        }
        let bytes = self.accepted(answer).await?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The newest commits, at most `most`.
    pub(crate) async fn commits(&self, most: usize) -> Result<Vec<Commit>> {
        #[derive(Deserialize)]
        struct Entry {
            commit: Inner,
        }
        #[derive(Deserialize)]
        struct Inner {
            message: String,
            author: Option<Person>,
        }
        #[derive(Deserialize)]
        struct Person {
            name: String,
            date: String,
        }
        let entries: Vec<Entry> = self.list("/commits?", most, |_| true).await?;
        let commit = |Entry { commit: Inner { message, author } }: Entry| {
            let (author, date) = author.map_or_else(Default::default, |person| (person.name, person.date));
            Commit {
                date: date.chars().take(10).collect(),
                author,
                subject: message.lines().next().unwrap_or_default().to_owned(),
            }
        };
        Ok(entries.into_iter().map(commit).collect())
    }

    /// The newest open issues, at most `most`. GitHub lists pull requests among them; these are left out.
    pub(crate) async fn issues(&self, most: usize) -> Result<Vec<Issue>> {
        #[derive(Deserialize)]
        struct Entry {
            #[serde(flatten)]
            issue: Issue,
            pull_request: Option<serde::de::IgnoredAny>,
        }
        let issues = |entry: &Entry| entry.pull_request.is_none();
        let entries: Vec<Entry> = self.list("/issues?state=open&", most, issues).await?;
        Ok(entries.into_iter().map(|entry| entry.issue).collect())
    }

    /// The first `most` entries that are wanted, from at most [`PAGES`] pages.
    async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        most: usize,
        wanted: fn(&T) -> bool,
    ) -> Result<Vec<T>> {
        let mut all = Vec::new();
        for page in 1..=PAGES {
            if all.len() >= most {
                break;
            }
            let path = format!("{path}per_page={PAGE}&page={page}");
            let answer = self.get(&path, "application/vnd.github+json").await?;
            // A repository without a commit has no list of them either.
            if answer.status() == 409 {
                break;
            }
            let entries: Vec<T> = parse(&self.accepted(answer).await?)?;
            let last = entries.len() < PAGE;
            all.extend(entries.into_iter().filter(wanted));
            if last {
                break;
            }
        }
        all.truncate(most);
        Ok(all)
    }

    async fn get(&self, path: &str, accept: &str) -> Result<Response> {
        Request::get(format!("{API}/repos/{}{path}", self.repo))
            .header("accept", accept)
            .header("authorization", format!("Bearer {}", self.token))
            .header("user-agent", "orch-repo-digest")
            .header("x-github-api-version", VERSION)
            .send()
            .await
    }

    /// The body of a good answer; of any other, why GitHub gave it.
    async fn accepted(&self, mut answer: Response) -> Result<Vec<u8>> {
        let status = answer.status();
        let header = |name: &str| answer.header(name).map(str::to_owned);
        let limited =
            header("x-ratelimit-remaining").as_deref() == Some("0") || header("retry-after").is_some();
        let wait = header("retry-after");
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > ANSWER {
                return Err(Error::agent(format!("GitHub's answer is longer than {ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let refusal = Refusal::read(&body);
        let repo = &self.repo;
        Err(Error::agent(match (status, refusal) {
            // Written by orch in GitHub's place.
            (403, Refusal::Denied(message)) => format!("the request was not allowed to leave: {message}"),
            (401, _) => {
                "GitHub does not accept the token; set another with: orch secrets set GITHUB_TOKEN".to_owned()
            }
            (403 | 429, Refusal::Said(message)) if limited => match wait {
                Some(seconds) => {
                    format!("GitHub's rate limit is reached, try again in {seconds} s: {message}")
                }
                None => format!("GitHub's rate limit is reached: {message}"),
            },
            (403, Refusal::Said(message)) => format!("the token may not read {repo}: {message}"),
            (404, _) => format!("there is no repository {repo}, or the token may not see it"),
            (301 | 302 | 307 | 308, _) => format!("{repo} has moved; ask for it by its new name"),
            (status, Refusal::Said(message) | Refusal::Denied(message)) => {
                format!("GitHub answered {status}: {message}")
            }
        }))
    }
}

/// Why there is no good answer.
enum Refusal {
    /// The proxy refused the request.
    Denied(String),
    /// GitHub's own words.
    Said(String),
}

impl Refusal {
    fn read(body: &[u8]) -> Refusal {
        #[derive(Deserialize)]
        struct Body {
            message: Option<String>,
            error: Option<Detail>,
        }
        #[derive(Deserialize)]
        struct Detail {
            #[serde(rename = "type")]
            kind: String,
            message: String,
        }
        match serde_json::from_slice(body) {
            Ok(Body { error: Some(Detail { kind, message }), .. }) if kind == "egress_denied" => {
                Refusal::Denied(message)
            }
            Ok(Body { message: Some(message), .. }) => Refusal::Said(message),
            _ => Refusal::Said("without a message".to_owned()),
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| Error::Protocol(format!("from GitHub: {error}")))
}
