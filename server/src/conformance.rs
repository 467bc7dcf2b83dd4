//! Whether a provider does what its entry in the catalog says: asked for real, with a key of whoever asks, through the same
//! gateway and proxy that serve runs. It costs a few tokens; how many at most is known before.

mod asked;
mod judged;

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt as _, Limited};
use orch_gateway::ir::Class;
use orch_gateway::{Attempt, Budget, KeyAtHand, Plan, Receipts, Session};
use orch_manifests::{Auth, Catalog, Limits, MicroUsd, Pages, Provider, RunId, Slug, nearest_provider};
use orch_proxy::{Grant, LiveGrant, full};
use orch_vault::{FlagKey, VaultLocation};
use serde::Serialize;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::config::Config;
use crate::failure::{Failure, Kind};
use crate::keys::{KeyQuestion, KeySources, Keys};
use crate::limits;
use crate::upstream::Upstream;

/// How long all of it may take.
const LONGEST: Duration = Duration::from_secs(300);
/// Requests of all checks, tries included.
const REQUESTS: u64 = 32;
/// Largest answer that is read.
const ANSWER: usize = 1 << 20;
/// Input tokens of a check, more than any of them has.
const INPUT: u64 = 400;
/// What stands in the audit log where a run has its id.
const ON_RECORD: &str = "conformance";

/// What is checked, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// A whole answer.
    Plain,
    /// A stream, with the dialect's terminator.
    Stream,
    /// A call of a tool, with arguments that can be read.
    Tools,
    /// Tokens were counted, in whole answers and in streams.
    Usage,
    /// A model that does not exist is refused as such.
    UnknownModel,
}

impl Check {
    /// For people.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Plain => "whole answer",
            Self::Stream => "stream",
            Self::Tools => "tool call",
            Self::Usage => "usage is told",
            Self::UnknownModel => "unknown model is refused",
        }
    }
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Passed,
    /// Not.
    Failed,
    /// The catalog says that the provider or the model cannot do this, or a check before it has failed.
    Skipped,
}

/// One check, done.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Which.
    pub check: Check,
    /// What came of it.
    pub result: Verdict,
    /// Why, in a few words.
    pub detail: String,
    /// How long the provider took.
    pub latency_ms: u64,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Conformed {
    /// The provider.
    pub provider: String,
    /// The model that was asked.
    pub model: String,
    /// The key that was used, and where it is from; none where the provider wants none.
    pub key: Option<String>,
    /// What was found.
    pub checks: Vec<Finding>,
    /// Dollars that it cost; none when a price is not known.
    pub cost_usd: Option<f64>,
    /// How the first call failed, without which nothing else can be told; none when it did not.
    #[serde(skip)]
    first: Option<Class>,
    /// Where a person can do something about the key.
    #[serde(skip)]
    pages: Pages,
}

impl Conformed {
    /// Whether nothing has failed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|finding| finding.result != Verdict::Failed)
    }

    /// The failure that the command ends with; none when nothing has failed.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        let failed: Vec<&str> = self
            .checks
            .iter()
            .filter(|finding| finding.result == Verdict::Failed)
            .map(|finding| finding.check.in_words())
            .collect();
        if failed.is_empty() {
            return None;
        }
        let said = self.checks.first().map_or("", |finding| finding.detail.as_str());
        let (provider, model) = (&self.provider, &self.model);
        let of_it = |code: &'static str, text: String| Failure::new(Kind::Providers, code, text);
        let another =
            || format!("this key may have other models: orch providers check {provider} --model MODEL");
        // What is wrong with the key or the network is no fault of the provider's, and is not called one.
        let failure = match self.first {
            Some(Class::BadKey) => {
                let failure =
                    Failure::new(Kind::NoKey, "key_rejected", format!("{provider} did not take the key"))
                        .hint("the key may be revoked, mistyped, or of another provider");
                let page = self.pages.keys.as_ref();
                page.iter().fold(failure, |failure, page| failure.hint(format!("keys are made at {page}")))
            }
            Some(Class::OutOfMoney) => {
                let text = format!("{provider} takes the key, and nothing is left to spend ({said})");
                let page = self.pages.billing.as_ref();
                page.iter().fold(of_it("out_of_money", text), |failure, page| {
                    failure.hint(format!("pay in, or raise the limit, at {page}"))
                })
            }
            Some(Class::RateLimited) => {
                of_it("rate_limited", format!("{provider} limits the rate of this key just now ({said})"))
                    .hint("try again later")
            }
            Some(Class::NoAccess) => {
                of_it("no_access", format!("{model} cannot be asked with this key ({said})")).hint(another())
            }
            Some(Class::NoModel) => {
                of_it("model_unknown", format!("{provider} does not have {model} ({said})")).hint(another())
            }
            Some(Class::Network | Class::Timeout | Class::Overloaded | Class::Server) => {
                of_it("provider_unavailable", format!("{provider} did not answer ({said})"))
            }
            _ => {
                of_it("provider_nonconforming", format!("{provider} does not conform: {}", failed.join(", ")))
            }
        };
        let found = serde_json::to_value(self).unwrap_or_default();
        Some(failure.detail("found", found))
    }
}

/// Checks of one provider, ready to begin.
pub struct Conformance {
    upstream: Upstream,
    plan: Arc<Plan>,
    provider: Provider,
    /// What the provider was called, which may ask for one of its dialects.
    called: String,
    model: String,
    key: Option<String>,
    /// Whether the key names a deployment, which is asked for whatever the model.
    deployed: bool,
    keys: Keys,
}

impl Conformance {
    /// Finds the provider, a model of it and a key. Nothing is sent.
    ///
    /// # Errors
    /// When the provider is not known or serves no models, no model is named and the catalog has none of it, or there is no
    /// key.
    pub fn prepare(
        config: &Config,
        catalog: &Catalog,
        sources: &KeySources<'_>,
        asked: &Asked<'_>,
    ) -> Result<Self, Failure> {
        let provider = known(catalog, asked.provider)?.clone();
        let model = model(&provider, asked.provider, asked.model)?;
        let (mut keys, key) = match provider.auth {
            Auth::None => (Keys::default(), None),
            _ => key(&provider, asked.keys, sources)?,
        };
        let upstream = Upstream::real(config, &Arc::new(catalog.clone()))?;
        let at_hand = |slug: &Slug| -> Option<KeyAtHand> {
            (*slug == provider.slug)
                .then(|| Ok(keys.of(slug)))
                .filter(|found| found.as_ref().is_ok_and(|keys: &Vec<_>| !keys.is_empty()))
        };
        let plan = Plan::for_clients(catalog, &at_hand);
        let Some(there) = plan.provider(&provider.slug) else {
            return Err(Failure::usage(
                "provider_local",
                format!(
                    "{} is on this machine, where nothing is reached that no operator has named",
                    provider.slug
                ),
            )
            .hint(format!(
                "in config.yaml: providers: {{ {}: {{ base_url: \"http://127.0.0.1:11434/v1\" }} }}",
                provider.slug
            )));
        };
        let deployed = there.provider.deployment.is_some();
        for planned in &mut keys.uses {
            ON_RECORD.clone_into(&mut planned.run);
        }
        let (plan, called) = (Arc::new(plan), asked.provider.to_owned());
        Ok(Self { upstream, plan, provider, called, model, key, deployed, keys })
    }

    /// What the requests are made in. Its time begins now.
    fn session(&self) -> Session {
        let expires = Instant::now() + LONGEST;
        let grant = Grant {
            run: RunId::random(),
            workspace: "default".to_owned(),
            rules: Vec::new(),
            trials: Vec::new(),
            bindings: Vec::new(),
            limits: limits::of_client(REQUESTS, 4, &Limits::default()),
            expires,
        };
        let grant = LiveGrant::without_token(grant);
        Session::new(grant, Arc::clone(&self.plan), expires, Budget::new(None, None))
            .with_receipts(Arc::new(Receipts::new()))
    }

    /// Puts on record which of the vault's keys is about to be used. The vault must not be open.
    ///
    /// # Errors
    /// When the vault cannot be written: then nothing may be asked.
    pub fn record_use(&self, vault: &VaultLocation) -> Result<(), Failure> {
        self.keys.record_uses(vault)
    }

    /// The provider.
    #[must_use]
    pub fn provider(&self) -> &str {
        self.provider.slug.as_str()
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// How many requests are made, and what they cost at most; none when the price is not known.
    #[must_use]
    pub fn most(&self) -> (u64, Option<MicroUsd>) {
        let answers: u64 = if self.calls_tools() { 3 } else { 2 };
        let price = self.provider.price(self.bare_model());
        let each = price.map(|price| price.cost(INPUT, 0, 0, self.bound()).micros());
        let requests = answers + u64::from(!self.deployed);
        (requests, each.map(|each| MicroUsd(each.saturating_mul(answers))))
    }

    /// The model, without the provider before it.
    fn bare_model(&self) -> &str {
        self.model.split_once('/').map_or(self.model.as_str(), |(_, model)| model)
    }

    /// The most output tokens that are asked for at a time. Models that think do so before they say anything.
    #[must_use]
    pub fn bound(&self) -> u64 {
        match self.provider.model(self.bare_model()) {
            Some(model) if !model.reasoning => 64,
            _ => 1024,
        }
    }

    fn calls_tools(&self) -> bool {
        let lacks = self.provider.quirks.lack(orch_manifests::Lack::Tools);
        !lacks && self.provider.model(self.bare_model()).is_none_or(|model| model.tools)
    }

    /// Makes the requests. `found` hears of each check when it is done.
    pub async fn run(self, found: &mut dyn FnMut(&Finding)) -> Conformed {
        let mut checks = Vec::new();
        let mut done = |finding: Finding| {
            found(&finding);
            checks.push(finding);
        };
        let session = self.session();
        let whole = self.ask(&session, &asked::plain(&self.model, self.bound())).await;
        done(judged::whole(&whole));
        // Without this nothing else can be told from it.
        let hopeless = whole.class.filter(|class| *class != Class::Truncated);
        if let Some(class) = hopeless {
            let why = format!("not asked: the first call ended with {}", judged::word(class));
            for check in [Check::Stream, Check::Tools, Check::Usage, Check::UnknownModel] {
                done(Finding { check, result: Verdict::Skipped, detail: why.clone(), latency_ms: 0 });
            }
        } else {
            let stream = self.ask(&session, &asked::stream(&self.model, self.bound())).await;
            done(judged::stream(&stream));
            done(match self.calls_tools() {
                true => judged::tools(&self.ask(&session, &asked::tools(&self.model, self.bound())).await),
                false => Finding {
                    check: Check::Tools,
                    result: Verdict::Skipped,
                    detail: "the catalog says that it calls none".to_owned(),
                    latency_ms: 0,
                },
            });
            done(judged::usage(&whole, &stream));
            done(match self.deployed {
                false => {
                    let unknown = format!("{}/orch-no-such-model", self.called);
                    judged::unknown(&self.ask(&session, &asked::plain(&unknown, 16)).await)
                }
                true => Finding {
                    check: Check::UnknownModel,
                    result: Verdict::Skipped,
                    detail: "the key names a deployment, which is asked for in the place of every model"
                        .to_owned(),
                    latency_ms: 0,
                },
            });
        }
        let receipts = session.receipts.all();
        // What was refused cost nothing, whatever its price.
        let served = receipts.iter().filter(|receipt| receipt.provider_served.is_some());
        let costs: Option<Vec<u64>> = served.map(|receipt| receipt.cost_micro_usd).collect();
        self.upstream.shutdown().await;
        Conformed {
            provider: self.provider.slug.to_string(),
            model: self.model,
            key: self.key,
            checks,
            cost_usd: costs.map(|costs| dollars(costs.iter().sum())),
            first: whole.class,
            pages: self.provider.pages.clone(),
        }
    }

    /// One request to the gateway, and what came of it.
    async fn ask(&self, session: &Session, body: &serde_json::Value) -> Heard {
        let before = session.receipts.all().len();
        let started = Instant::now();
        let request = Request::post("/v1/chat/completions")
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(full(body.to_string()));
        let Ok(request) = request else { return Heard::default() };
        let response = self.upstream.gateway.serve(session, request).await;
        let status = response.status().as_u16();
        let read = Limited::new(response.into_body(), ANSWER).collect().await;
        let latency_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let text = read.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
        let receipt = session.receipts.all().into_iter().nth(before);
        let last: Option<Attempt> = receipt.as_ref().and_then(|receipt| receipt.attempts.last().cloned());
        Heard {
            status,
            text: text.unwrap_or_default(),
            class: last.as_ref().and_then(|attempt| attempt.class),
            said: last.map(|attempt| attempt.message).unwrap_or_default(),
            estimated: receipt.is_some_and(|receipt| receipt.estimated),
            latency_ms,
        }
    }
}

/// Millionths of a dollar as dollars.
fn dollars(micros: u64) -> f64 {
    micros as f64 / 1_000_000.0
}

/// What came of one request.
#[derive(Debug, Default)]
struct Heard {
    status: u16,
    text: String,
    /// How the last attempt failed; none when it was served, or none was made.
    class: Option<Class>,
    /// The provider's words, scrubbed.
    said: String,
    /// Whether the provider counted no tokens.
    estimated: bool,
    latency_ms: u64,
}

/// What is to be checked.
pub struct Asked<'a> {
    /// The provider, by slug, alias or variant.
    pub provider: &'a str,
    /// A model of it; the catalog's cheapest when none is named.
    pub model: Option<&'a str>,
    /// Keys of the command line.
    pub keys: &'a [FlagKey],
}

fn known<'c>(catalog: &'c Catalog, name: &str) -> Result<&'c Provider, Failure> {
    if let Some(provider) = catalog.provider(name) {
        return Ok(provider);
    }
    let slugs: Vec<&str> = catalog.providers().map(|provider| provider.slug.as_str()).collect();
    Err(match catalog.searcher(name) {
        Some(searcher) => Failure::usage(
            "provider_without_models",
            format!("{} serves no models, which is what is checked here", searcher.name),
        )
        .hint("whether its key is accepted: orch doctor"),
        // What was typed is not repeated: it may be a key.
        None => {
            let failure = Failure::usage("provider_unknown", "there is no provider of this name");
            let failure = match nearest_provider(catalog.everybody(), name) {
                Some(near) => failure.hint(format!("did you mean {near}?")),
                None => failure,
            };
            failure.hint(format!("known providers: {}", slugs.join(", ")))
        }
    })
}

/// The model as it is asked for: with the name by which the provider was called before it.
fn model(provider: &Provider, called: &str, named: Option<&str>) -> Result<String, Failure> {
    if let Some(named) = named {
        let own = named.split_once('/').filter(|(prefix, _)| provider.goes_by(prefix));
        return Ok(match own {
            Some(_) => named.to_owned(),
            None => format!("{called}/{named}"),
        });
    }
    // A cheap one that has a price; what is free is often not for everybody.
    let chats = provider.models.iter().filter(|model| model.embedding.is_none());
    let cost = |model: &&orch_manifests::Model| {
        let price = provider.price(&model.id)?;
        let cost = price.cost(INPUT, 0, 0, 64).micros();
        (cost > 0).then_some(cost)
    };
    let cheapest = chats.clone().filter(|model| cost(model).is_some()).min_by_key(cost);
    cheapest.or_else(|| chats.clone().next()).map(|model| format!("{called}/{}", model.id)).ok_or_else(|| {
        Failure::usage("model_missing", format!("the catalog lists no model of {}: name one", provider.name))
            .hint(format!("orch providers check {called} --model MODEL"))
    })
}

/// The key of this provider: the command line's, else the environment's, else the vault's.
fn key(
    provider: &Provider,
    flags: &[FlagKey],
    sources: &KeySources<'_>,
) -> Result<(Keys, Option<String>), Failure> {
    let nobody = Agent::bare("conformance", bytes::Bytes::new())?;
    let run = RunId::random();
    let wanted = [provider];
    let question = KeyQuestion {
        run: &run,
        manifest: &nobody.manifest,
        bare: true,
        wanted: &wanted,
        searched: &[],
        flags,
        secret_grants: &[],
        names_prove: true,
        lends: false,
    };
    let keys = question.open(sources)?;
    match keys.of(&provider.slug).first() {
        Some(credential) => {
            let said = format!("{} ({})", credential.id(), credential.source());
            Ok((keys, Some(said)))
        }
        None => {
            let failure =
                Failure::new(Kind::NoKey, "key_missing", format!("there is no key for {}", provider.name));
            Err(match provider.key_name() {
                Some(name) => failure.hint(format!("orch secrets set {name}")),
                None => failure,
            })
        }
    }
}

#[cfg(test)]
mod tests;
