//! What is heard of calls while they happen: the series that count them, and spans where somebody collects them.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use orch_gateway::ir::{Class, Sampling};
use orch_gateway::{CallEnd, CallListener, CallStart, Candidate, Listener, Operation, Outcome};
use orch_manifests::Provider;

use super::genai;
use super::models::{Caller, OTHER, Series, counted_as};
use super::span::{self, Kind, Span, Value};
use super::trace::{Begun, Parent};
use super::{Telemetry, Traces};

/// Hears of the calls of a client or of a run.
pub(super) struct Hearing {
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) caller: Caller,
    pub(super) workspace: Arc<str>,
    /// What their spans belong to.
    pub(super) parent: Option<Parent>,
}

impl Listener for Hearing {
    fn call(&self) -> Box<dyn CallListener> {
        let traces = self.telemetry.traces();
        let begun = traces.and_then(|traces| traces.sampler.begin(self.parent));
        Box::new(Heard {
            telemetry: Arc::clone(&self.telemetry),
            caller: self.caller,
            workspace: Arc::clone(&self.workspace),
            clock: Clock::start(),
            begun,
            asked: None,
            attempts: Vec::new(),
        })
    }
}

/// One call, as far as it has come.
struct Heard {
    telemetry: Arc<Telemetry>,
    caller: Caller,
    workspace: Arc<str>,
    clock: Clock,
    /// Its span, in a trace that is kept.
    begun: Option<Begun>,
    asked: Option<CallStart>,
    attempts: Vec<Attempt>,
}

/// One request to one provider.
struct Attempt {
    provider: Arc<Provider>,
    /// The model as it was sent.
    sent: String,
    /// Whether the model has a name here.
    known: bool,
    series: Arc<Series>,
    began: Instant,
    first_token: Option<Instant>,
    /// When and how it failed; none for the one under way.
    failed: Option<(Instant, Class, Option<u16>)>,
}

impl Heard {
    fn operation(&self) -> Operation {
        self.asked.as_ref().map_or(Operation::Chat, |asked| asked.operation)
    }
}

impl CallListener for Heard {
    fn asked(&mut self, asked: &CallStart) {
        self.asked = Some(asked.clone());
    }

    fn attempt_began(&mut self, candidate: &Candidate) {
        let name = counted_as(candidate);
        let models = &self.telemetry.models;
        let series = models.of(self.caller, self.operation(), Some((&candidate.provider, name)));
        if let Some(before) = self.attempts.last() {
            let same = before.provider.slug == candidate.provider.slug && before.sent == candidate.sent();
            if same { series.retried() } else { series.fell_back() }
        }
        self.attempts.push(Attempt {
            provider: Arc::clone(&candidate.provider),
            sent: candidate.sent().to_owned(),
            known: name != OTHER,
            series,
            began: Instant::now(),
            first_token: None,
            failed: None,
        });
    }

    fn first_token(&mut self) {
        let now = Instant::now();
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.first_token = Some(now);
            let waited = now.duration_since(attempt.began).as_secs_f64();
            attempt.series.first_token.observe(waited);
            attempt.series.first_chunk.observe(waited);
        }
    }

    fn attempt_failed(&mut self, class: Class, status: Option<u16>) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.failed = Some((Instant::now(), class, status));
            attempt.series.failed(class);
        }
    }

    fn ended(&mut self, end: &CallEnd<'_>) {
        let now = Instant::now();
        let error = genai::error(end.receipt.outcome, end.class);
        let series = match self.attempts.last() {
            Some(attempt) => Arc::clone(&attempt.series),
            None => self.telemetry.models.of(self.caller, self.operation(), None),
        };
        series.ended(end.receipt, error, now.duration_since(self.clock.instant).as_secs_f64());
        if let (Outcome::Broken, Some(class)) = (end.receipt.outcome, end.class) {
            series.failed(class);
        }
        if let Some(hit) = end.hit {
            self.telemetry.models.refused(self.caller, hit);
        }
        let first = self.attempts.last().and_then(|attempt| attempt.first_token);
        if let (Outcome::Served, Some(first), Some(usage)) = (end.receipt.outcome, first, end.usage)
            && let Some(further) = usage.output.checked_sub(1).filter(|further| *further > 0)
        {
            series.per_token.observe(now.duration_since(first).as_secs_f64() / further as f64);
        }
        if let (Some(begun), Some(traces)) = (self.begun, self.telemetry.traces()) {
            let spans = self.spans(begun, traces, now, end, error);
            traces.queue.push(spans);
        }
    }
}

impl Heard {
    /// The span of the call, and one for each attempt below it.
    fn spans(
        &self,
        begun: Begun,
        traces: &Traces,
        now: Instant,
        end: &CallEnd<'_>,
        error: Option<&'static str>,
    ) -> Vec<Span> {
        let served = end.receipt.outcome == Outcome::Served;
        let mut spans = vec![Span {
            begun,
            name: self.name(served),
            kind: Kind::Client,
            start: self.clock.nanos(self.clock.instant),
            end: self.clock.nanos(now),
            attributes: self.attributes(end, error),
            failed: error.is_some_and(|error| error != genai::CANCELLED),
        }];
        for (number, attempt) in self.attempts.iter().enumerate() {
            let Some(begun) = traces.sampler.begin(Some(begun.as_parent())) else { continue };
            let (over, error, status) = match attempt.failed {
                Some((at, class, status)) => (at, Some(class.as_str()), status),
                None => (now, error, end.receipt.provider_served.is_some().then_some(200)),
            };
            let mut attributes = vec![("orch.attempt.number", Value::Int(number as u64 + 1))];
            attributes.extend(attempt.place());
            attributes.extend(attempt.model(served).map(|model| (MODEL, Value::Text(model.to_owned()))));
            attributes.extend(status.map(|status| ("http.response.status_code", Value::Int(status.into()))));
            attributes.extend(error.map(|error| (ERROR, Value::Word(error))));
            spans.push(Span {
                begun,
                name: format!("attempt {}", attempt.provider.slug),
                kind: Kind::Client,
                start: self.clock.nanos(attempt.began),
                end: self.clock.nanos(over),
                attributes,
                failed: error.is_some_and(|error| error != genai::CANCELLED),
            });
        }
        spans
    }

    /// `chat MODEL`; no model that nobody here or at the provider knows.
    fn name(&self, served: bool) -> String {
        let operation = genai::operation(self.operation());
        match self.attempts.last().and_then(|attempt| attempt.model(served)) {
            Some(model) => format!("{operation} {model}"),
            None => operation.to_owned(),
        }
    }

    fn attributes(&self, end: &CallEnd<'_>, error: Option<&'static str>) -> Vec<(&'static str, Value)> {
        let receipt = end.receipt;
        let served = receipt.outcome == Outcome::Served;
        let last = self.attempts.last();
        let mut all = vec![
            ("gen_ai.operation.name", Value::Word(genai::operation(self.operation()))),
            ("orch.caller", Value::Word(self.caller.word())),
            ("orch.workspace", Value::Text(self.workspace.to_string())),
        ];
        let id = span::name(&receipt.request_id).map(str::to_owned);
        all.extend(id.map(|id| ("orch.request.id", Value::Text(id))));
        all.extend(last.into_iter().flat_map(Attempt::place));
        all.extend(last.and_then(|a| a.model(served)).map(|model| (MODEL, Value::Text(model.to_owned()))));
        all.extend(self.asked.as_ref().into_iter().flat_map(requested));
        let answered = receipt.provider_served.is_some();
        let told = |text: Option<&str>| text.filter(|_| answered).and_then(span::name).map(str::to_owned);
        all.extend(told(receipt.model_served.as_deref()).map(|m| ("gen_ai.response.model", Value::Text(m))));
        all.extend(told(end.id).map(|id| ("gen_ai.response.id", Value::Text(id))));
        let finish = end.stop.filter(|_| answered).map(genai::finish);
        all.extend(finish.map(|word| ("gen_ai.response.finish_reasons", Value::Words(vec![word]))));
        if let Some((attempt, first)) = last.and_then(|attempt| Some((attempt, attempt.first_token?))) {
            let waited = first.duration_since(attempt.began).as_secs_f64();
            all.push(("gen_ai.response.time_to_first_chunk", Value::Double(waited)));
        }
        if receipt.input_tokens > 0 || receipt.output_tokens > 0 {
            all.push(("gen_ai.usage.input_tokens", Value::Int(receipt.input_tokens)));
            if self.operation() != Operation::Embeddings {
                all.push(("gen_ai.usage.output_tokens", Value::Int(receipt.output_tokens)));
            }
        }
        if let Some(usage) = end.usage {
            let parts = [
                ("gen_ai.usage.cache_read.input_tokens", usage.cached_input),
                ("gen_ai.usage.cache_creation.input_tokens", usage.cache_write),
                ("gen_ai.usage.reasoning.output_tokens", usage.reasoning),
            ];
            let there = parts.into_iter().filter(|(_, tokens)| *tokens > 0);
            all.extend(there.map(|(name, tokens)| (name, Value::Int(tokens))));
        }
        all.extend(receipt.estimated.then_some(("orch.usage.estimated", Value::Bool(true))));
        all.extend(receipt.simulated.then_some(("orch.simulated", Value::Bool(true))));
        let dollars = receipt.cost_micro_usd.map(|micro_usd| micro_usd as f64 / 1e6);
        all.extend(dollars.map(|dollars| ("orch.cost_usd", Value::Double(dollars))));
        all.extend(error.map(|error| (ERROR, Value::Word(error))));
        all
    }
}

const MODEL: &str = "gen_ai.request.model";
const ERROR: &str = "error.type";

impl Attempt {
    /// Whose request it is, and where that provider is.
    fn place(&self) -> [(&'static str, Value); 3] {
        let Provider { slug, endpoint, .. } = &*self.provider;
        [
            ("gen_ai.provider.name", Value::Text(genai::provider(slug.as_str()).to_owned())),
            ("server.address", Value::Text(endpoint.host.to_string())),
            ("server.port", Value::Int(endpoint.port.into())),
        ]
    }

    /// The model as it was sent, once somebody knows it: the catalog, the operator, or a provider that answered.
    fn model(&self, served: bool) -> Option<&str> {
        let answered = served && self.failed.is_none();
        span::name(&self.sent).filter(|_| self.known || answered)
    }
}

/// What was asked for, as numbers.
fn requested(asked: &CallStart) -> Vec<(&'static str, Value)> {
    let Sampling { temperature, top_p, top_k, frequency_penalty, presence_penalty, seed } = asked.sampling;
    let doubles = [
        ("gen_ai.request.temperature", temperature),
        ("gen_ai.request.top_p", top_p),
        ("gen_ai.request.frequency_penalty", frequency_penalty),
        ("gen_ai.request.presence_penalty", presence_penalty),
    ];
    let doubles = doubles.into_iter().filter_map(|(name, value)| Some((name, Value::Double(value?))));
    let whole = [
        ("gen_ai.request.max_tokens", asked.max_tokens),
        ("gen_ai.request.top_k", top_k),
        ("gen_ai.request.choice.count", Some(asked.answers).filter(|answers| *answers > 1)),
    ];
    let whole = whole.into_iter().filter_map(|(name, value)| Some((name, Value::Int(value?))));
    let seed = seed.map(|seed| ("gen_ai.request.seed", Value::Signed(seed)));
    let stream = asked.stream.then_some(("gen_ai.request.stream", Value::Bool(true)));
    doubles.chain(whole).chain(seed).chain(stream).collect()
}

/// The time of day of moments, from one look at it: what comes later is never earlier.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) instant: Instant,
    since_1970: Duration,
}

impl Clock {
    pub(super) fn start() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), since_1970 }
    }

    /// Nanoseconds since 1970.
    pub(super) fn nanos(&self, at: Instant) -> u64 {
        let since = self.since_1970 + at.saturating_duration_since(self.instant);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}
