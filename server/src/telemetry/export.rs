//! The way to an OpenTelemetry collector: OTLP over HTTP, in JSON, through an egress proxy like everything else.
//!
//! It leads to the places that the operator named and to no other. Nothing waits for it: spans that there is no room for,
//! or that a collector does not take in a minute, are lost, and counted. Metrics are sums, of which the next export holds
//! all that one did that was lost.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use orch_manifests::RunId;
use orch_proxy::{Grant, Limits, LiveGrant, ProviderCall, Proxy};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::settings::{Address, Destination, Signal};
use super::{Telemetry, otlp};

/// For one request.
const PATIENCE: Duration = Duration::from_secs(10);
/// For one batch of spans, all tries together.
const PERSISTENCE: Duration = Duration::from_secs(60);
/// Before the first second try, and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Bytes of a collector's answer that are looked at.
const ANSWER: usize = 64 << 10;

/// What is exported, for as long as it is.
pub(crate) struct Exporting {
    task: JoinSet<()>,
    /// Until when what is left is exported, once this is told.
    stop: watch::Sender<Option<Instant>>,
}

impl Exporting {
    /// Begins to export, on the runtime that this is called in.
    pub(crate) fn start(telemetry: Arc<Telemetry>, proxy: Arc<Proxy>, to: Destination) -> Self {
        let (stop, told) = watch::channel(None);
        let exporter = Exporter { telemetry, proxy, to, since: OffsetDateTime::now_utc(), stop: told };
        let mut task = JoinSet::new();
        task.spawn(exporter.run());
        Self { task, stop }
    }

    /// Exports what is left, and is done when it is, or when this time has passed.
    pub(crate) async fn end(mut self, within: Duration) {
        let until = Instant::now() + within;
        // Whoever is gone has ended already.
        let _ = self.stop.send(Some(until));
        // What is not done by then is cut off with this.
        let _ = timeout_at(until, self.task.join_next()).await;
    }
}

struct Exporter {
    telemetry: Arc<Telemetry>,
    proxy: Arc<Proxy>,
    to: Destination,
    /// When counting began, UTC.
    since: OffsetDateTime,
    stop: watch::Receiver<Option<Instant>>,
}

/// Why a collector did not take something.
struct Refused {
    /// Whether it may take it the next time.
    again: bool,
    /// When it wants to be asked again, if it said so.
    after: Option<Duration>,
}

impl Exporter {
    async fn run(self) {
        // One that hangs keeps up nothing of the other.
        tokio::join!(self.spans(), self.sums());
    }

    /// Whether the end was told, once it is; pending until then.
    async fn stopped(&self) -> Option<Instant> {
        let mut stop = self.stop.clone();
        // Whoever could tell it is gone: so is everybody who hands over spans.
        let told = stop.wait_for(Option::is_some).await.map(|until| *until);
        told.unwrap_or_else(|_| Some(Instant::now()))
    }

    fn left(&self) -> Option<Instant> {
        *self.stop.borrow()
    }

    async fn spans(&self) {
        let (Some(address), Some(traces)) = (&self.to.traces, self.telemetry.traces()) else { return };
        loop {
            tokio::select! {
                () = sleep(self.to.spans_every) => {}
                () = traces.queue.filled() => {}
                _ = self.stopped() => {}
            }
            loop {
                let batch = traces.queue.batch();
                if batch.is_empty() {
                    break;
                }
                let body = otlp::traces(&self.to, &batch).to_string();
                let lost = self.persist(address, body).await.unwrap_or(batch.len() as u64);
                traces.queue.lose(lost.min(batch.len() as u64));
            }
            if self.left().is_some() {
                return;
            }
        }
    }

    /// Sends a batch until it is taken, or hopeless. The end hurries it. Says how many spans the collector rejected; none
    /// when it took none.
    async fn persist(&self, address: &Address, body: String) -> Option<u64> {
        let over = Instant::now() + PERSISTENCE;
        let mut pause = PAUSE;
        loop {
            let until = self.left().unwrap_or(over).min(over);
            let refused = match self.send(Signal::Traces, address, body.clone(), until).await {
                Ok(rejected) => return Some(rejected),
                Err(refused) => refused,
            };
            let wait = refused.after.unwrap_or_else(|| jittered(pause));
            pause = (pause * 2).min(LONGEST_PAUSE);
            if !refused.again || self.left().is_some() || Instant::now() + wait >= over {
                return None;
            }
            tokio::select! {
                () = sleep(wait) => {}
                // One last try.
                _ = self.stopped() => {}
            }
        }
    }

    async fn sums(&self) {
        let Some(address) = &self.to.metrics else { return };
        let mut wait = self.to.metrics_every;
        loop {
            let last = tokio::select! {
                () = sleep(wait) => None,
                until = self.stopped() => until,
            };
            let until = last.unwrap_or_else(|| Instant::now() + PATIENCE);
            let sent = self.export_sums(address, until).await;
            if last.is_some() {
                return;
            }
            // The next one says the same and more; it comes when the collector wants it.
            let after = sent.err().and_then(|refused| refused.after).unwrap_or_default();
            wait = self.to.metrics_every.max(after);
        }
    }

    async fn export_sums(&self, address: &Address, until: Instant) -> Result<u64, Refused> {
        let now = OffsetDateTime::now_utc();
        let body = otlp::metrics(&self.to, &self.telemetry, self.since, now).to_string();
        self.send(Signal::Metrics, address, body, until).await
    }

    /// One request. Says how much of it was rejected.
    async fn send(
        &self,
        signal: Signal,
        address: &Address,
        body: String,
        until: Instant,
    ) -> Result<u64, Refused> {
        let until = until.min(Instant::now() + PATIENCE);
        let sent = timeout_at(until, Box::pin(self.post(signal, address, body))).await;
        let sent = sent.unwrap_or(Err(Refused { again: true, after: None }));
        self.telemetry.exported(signal.word(), sent.is_ok());
        sent
    }

    async fn post(&self, signal: Signal, address: &Address, body: String) -> Result<u64, Refused> {
        let hopeless = Refused { again: false, after: None };
        let mut request = Request::post(&*address.path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(orch_proxy::full(body))
            .map_err(|_| hopeless)?;
        let further = match signal {
            Signal::Traces => &self.to.trace_headers,
            Signal::Metrics => &self.to.metric_headers,
        };
        for (name, value) in further.all() {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        let grant = LiveGrant::without_token(Grant {
            run: RunId::random(),
            workspace: "orch telemetry".to_owned(),
            rules: Vec::new(),
            trials: Vec::new(),
            bindings: Vec::new(),
            limits: Limits::of(1, 1),
            expires: Instant::now() + PATIENCE,
        });
        let call = ProviderCall { endpoint: &address.endpoint, pinned: true, request, credential: None };
        let response = self.proxy.send(&grant, call).await;
        let response = response.map_err(|error| Refused { again: !error.is_refusal(), after: None })?;
        let status = response.status();
        if !status.is_success() {
            let again = [
                StatusCode::TOO_MANY_REQUESTS,
                StatusCode::BAD_GATEWAY,
                StatusCode::SERVICE_UNAVAILABLE,
                StatusCode::GATEWAY_TIMEOUT,
            ];
            return Err(Refused { again: again.contains(&status), after: retry_after(response.headers()) });
        }
        // What it took in part it says in words that nobody has to read; an answer that does not come takes nothing back.
        let answer = Limited::new(response.into_body(), ANSWER).collect().await;
        Ok(answer.ok().and_then(|answer| rejected(&answer.to_bytes())).unwrap_or(0))
    }
}

/// When a collector wants to be asked again: seconds, or a date. A longer pause than is ever made is that one.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = httpdate::parse_http_date(text).ok()?;
            at.duration_since(std::time::SystemTime::now()).unwrap_or_default()
        }
    };
    Some(wait.min(PERSISTENCE))
}

/// The number of spans that were rejected, in an `ExportTraceServiceResponse`.
fn rejected(answer: &[u8]) -> Option<u64> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let rejected = answer.get("partialSuccess")?.get("rejectedSpans")?;
    rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok())
}

/// Half of it to one and a half times, so that many do not come back at once.
fn jittered(pause: Duration) -> Duration {
    let mut dice = [128];
    // Without randomness it is the whole.
    let _ = SystemRandom::new().fill(&mut dice);
    pause / 2 + pause * u32::from(dice[0]) / 256
}

#[cfg(test)]
mod tests;
