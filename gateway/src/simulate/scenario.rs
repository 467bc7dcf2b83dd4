//! Scenarios: which requests fail, how, and which other hosts answer what.
//!
//! A scenario is a list of [`Rule`]s, tried in order for each inference request that is well-formed and carries the
//! right key; the first rule that selects the request decides, and without one the provider just answers. The named
//! scenarios are one rule each, aimed at [`Who::Primary`]: the provider of the first inference request that this
//! simulation accepts, which is the plan's first candidate. It fails on every attempt and for every model; the others
//! work, so a plan with fallbacks succeeds through them and a plan with one provider fails. `--simulate` makes one
//! simulation per run, so "first" means first of the run.
//!
//! A scenario file says the same in YAML:
//!
//! ```yaml
//! rules:
//!   - provider: openai          # a slug, `primary` or `any` (the default)
//!     model: gpt-4o-mini        # default: every model
//!     attempts: 1-2             # which of the requests that this rule selects, counted from 1: `2`, `1-3`, `2-`
//!     answer: rate-limit        # see Outcome; `ok` is the default
//!     status: 429               # these three replace parts of the built-in failure
//!     headers: { retry-after: "1" }
//!     body: { error: { message: slow down } }
//!   - provider: primary
//!     text: "Exactly this."     # instead of the extracted answer
//!     delay: 1.5s               # before the first byte
//!     pause: 100ms              # between pieces of a stream
//!     cut: 3                    # the connection is dropped after 3 pieces of content
//! hosts:                        # the only other destinations of the run
//!   - host: api.github.com
//!     method: GET
//!     path: /repos/acme/widget  # without the query, which is ignored
//!     status: 200
//!     headers: { x-thing: "1" }
//!     body: { stars: 3 }        # text is sent as it is, anything else as JSON
//! ```

use std::path::Path;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, StatusCode};
use orch_manifests::HostName;
use serde::Deserialize;

mod error;
mod file;

pub use error::ScenarioError;

/// What the simulation does beyond answering well.
#[derive(Clone, Debug)]
pub struct Scenario {
    name: String,
    /// Tried in order; the first that selects a request decides.
    pub rules: Vec<Rule>,
    /// Other hosts, each with what it answers.
    pub hosts: Vec<ScriptedHost>,
}

/// When a rule applies, and what happens then.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Which provider.
    pub who: Who,
    /// Which model, as the request names it; every one if `None`.
    pub model: Option<String>,
    /// Which of the requests that `who` and `model` select. Each rule counts its own, also those that an earlier
    /// rule decides.
    pub attempts: Attempts,
    /// What to answer.
    pub outcome: Outcome,
    /// Replaces the status of the outcome.
    pub status: Option<StatusCode>,
    /// Added to, or replacing, the headers of the outcome.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Replaces the body of the outcome.
    pub body: Option<ScriptedBody>,
    /// Replaces the text of an answer that works; `max_tokens` and stop sequences still apply.
    pub text: Option<String>,
    /// Wait before the first byte of the response, its head included.
    pub delay: Duration,
    /// Wait between pieces of a stream.
    pub pause: Duration,
    /// Drop the connection, without any terminator, after this many pieces of content; a reply that is no stream is
    /// cut in its middle.
    pub cut: Option<u32>,
}

/// Which provider a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Every provider.
    Any,
    /// The provider of the first accepted inference request.
    Primary,
    /// The provider with this slug.
    Provider(String),
}

/// A range of request numbers, counted from 1, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// The first.
    pub first: u32,
    /// The last; `u32::MAX` for "and so on".
    pub last: u32,
}

/// The class of an answer. Each failure has the status, error body and headers that the provider in question really
/// sends for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A good answer.
    #[default]
    Ok,
    /// Too many requests per minute: 429 and `Retry-After: 30`.
    RateLimit,
    /// The provider's own fault: 500; 529 at Anthropic.
    ServerError,
    /// No capacity at the moment: 503; 529 at Anthropic.
    Overloaded,
    /// No quota or credit left: OpenAI's 429 `insufficient_quota`, Anthropic's 400 about the credit balance, Google's
    /// 429 with a quota per day.
    OutOfMoney,
    /// The key is not (or no longer) valid: 401; 400 `API_KEY_INVALID` at Google.
    BadKey,
    /// The key is valid but must not do this: 403.
    NoAccess,
    /// There is no such model for this key: 404.
    NoModel,
    /// The conversation does not fit: 400.
    ContextTooLong,
    /// A content filter refused: an empty answer whose finish reason is `content_filter`; `refusal` at Anthropic, `SAFETY`
    /// at Google.
    Filtered,
    /// The provider finds fault with the request: 400.
    BadRequest,
    /// An error event inside a stream that began well (after `cut` pieces of content, 2 by default); without a stream
    /// the same as `server-error`.
    StreamError,
    /// The connection is closed without any answer.
    Hangup,
}

/// What a scripted reply says.
#[derive(Clone, Debug, PartialEq)]
pub enum ScriptedBody {
    /// Sent as it is, `text/plain` unless the headers say otherwise.
    Text(String),
    /// Sent as compact JSON, `application/json` unless the headers say otherwise.
    Json(serde_json::Value),
}

/// A host that is no LLM provider, and one thing that it answers. Several entries may name one host.
#[derive(Clone, Debug)]
pub struct ScriptedHost {
    /// Its name.
    pub host: HostName,
    /// 443 unless the file says otherwise.
    pub port: u16,
    /// The method that is answered; any if `None`.
    pub method: Option<Method>,
    /// The exact path that is answered, without the query; any if `None`.
    pub path: Option<String>,
    /// The answer.
    pub reply: Scripted,
}

/// A reply that is spelled out.
#[derive(Clone, Debug)]
pub struct Scripted {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its body.
    pub body: ScriptedBody,
}

impl Scenario {
    /// The scenarios that need no file, in the order in which help lists them.
    pub const NAMES: [&'static str; 7] =
        ["ok", "rate-limit", "server-error", "out-of-money", "bad-key", "slow", "cut"];

    /// Nothing fails.
    #[must_use]
    pub fn ok() -> Scenario {
        Scenario { name: "ok".to_owned(), rules: Vec::new(), hosts: Vec::new() }
    }

    /// A scenario by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Scenario> {
        let primary = Rule { who: Who::Primary, ..Rule::default() };
        let rule = match name {
            "ok" => return Some(Scenario::ok()),
            "rate-limit" => Rule { outcome: Outcome::RateLimit, ..primary },
            "server-error" => Rule { outcome: Outcome::ServerError, ..primary },
            "out-of-money" => Rule { outcome: Outcome::OutOfMoney, ..primary },
            "bad-key" => Rule { outcome: Outcome::BadKey, ..primary },
            "slow" => {
                Rule { delay: Duration::from_millis(1500), pause: Duration::from_millis(100), ..primary }
            }
            "cut" => Rule { cut: Some(2), ..primary },
            _ => return None,
        };
        Some(Scenario { name: name.to_owned(), rules: vec![rule], hosts: Vec::new() })
    }

    /// What `--simulate=SCENARIO` means: a known name, else the path of a scenario file. A file that is called like a
    /// known name is reached as `./name`, so that nothing in the working directory changes what a name means.
    ///
    /// # Errors
    /// As [`Scenario::load`]; a word that is neither gets the nearest known name.
    pub fn open(name_or_path: &str) -> Result<Scenario, ScenarioError> {
        if let Some(named) = Scenario::named(name_or_path) {
            return Ok(named);
        }
        let path = Path::new(name_or_path);
        let looks_like_path = name_or_path.contains(['/', '\\', '.']);
        if !looks_like_path && !path.exists() {
            return Err(ScenarioError::unknown_name(name_or_path, &Scenario::NAMES));
        }
        Scenario::load(path)
    }

    /// Reads a scenario file.
    ///
    /// # Errors
    /// When the file cannot be read, is larger than 1 MiB, or does not parse; see [`Scenario::parse`].
    pub fn load(path: &Path) -> Result<Scenario, ScenarioError> {
        file::load(path)
    }

    /// Parses the text of a scenario file. `label` is how errors call it.
    ///
    /// # Errors
    /// What is wrong, with the field's path, line and column, and the nearest known name where a name is unknown.
    pub fn parse(text: &str, label: &str) -> Result<Scenario, ScenarioError> {
        file::parse(text, label)
    }

    /// Checks that every provider that a rule names is among `known`: a misspelt one would select nothing, silently.
    ///
    /// # Errors
    /// The first one that is not, with its rule and the nearest known slug.
    pub fn check_providers<'a>(
        &self,
        known: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<(), ScenarioError> {
        for (index, rule) in self.rules.iter().enumerate() {
            if let Who::Provider(slug) = &rule.who
                && !known.clone().any(|known| known == slug)
            {
                return Err(ScenarioError::unknown_provider(&self.name, index, slug, known));
            }
        }
        Ok(())
    }

    /// The scenario's name, or the path of its file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Default for Rule {
    /// Selects everything and changes nothing.
    fn default() -> Rule {
        Rule {
            who: Who::Any,
            model: None,
            attempts: Attempts::ALL,
            outcome: Outcome::Ok,
            status: None,
            headers: Vec::new(),
            body: None,
            text: None,
            delay: Duration::ZERO,
            pause: Duration::ZERO,
            cut: None,
        }
    }
}

impl Attempts {
    /// Every request.
    pub const ALL: Attempts = Attempts { first: 1, last: u32::MAX };

    /// Whether request number `n` (from 1) is among them.
    #[must_use]
    pub fn contains(self, n: u32) -> bool {
        (self.first..=self.last).contains(&n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_is_a_scenario_that_hits_the_primary() {
        for name in Scenario::NAMES {
            let scenario = Scenario::named(name).unwrap();
            assert_eq!(scenario.name(), name);
            assert_eq!(scenario.rules.len(), usize::from(name != "ok"));
            assert!(
                scenario.rules.iter().all(|rule| rule.who == Who::Primary && rule.attempts == Attempts::ALL)
            );
        }
        assert!(Scenario::named("rate_limit").is_none());
    }

    #[test]
    fn a_misspelt_name_gets_the_nearest_one() {
        let error = Scenario::open("rate-limt").unwrap_err();
        assert_eq!(
            error.to_string(),
            "`rate-limt` is no scenario and no file; did you mean `rate-limit`? Known: ok, rate-limit, \
             server-error, out-of-money, bad-key, slow, cut"
        );
    }

    #[test]
    fn a_provider_that_nobody_knows_is_an_error() {
        let scenario =
            Scenario::parse("rules: [{ provider: openai }, { provider: antropic }]", "s.yaml").unwrap();
        let error = scenario.check_providers(["openai", "anthropic"].into_iter()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "s.yaml: rules[1].provider: no provider is called `antropic`; did you mean `anthropic`?"
        );
        scenario.check_providers(["openai", "antropic"].into_iter()).unwrap();
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Scenario::open("./no/such/scenario.yaml").unwrap_err();
        assert!(error.to_string().starts_with("./no/such/scenario.yaml: cannot be read: "), "{error}");
    }
}
