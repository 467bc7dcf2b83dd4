//! Where telemetry goes: `telemetry` in `config.yaml`, and what OpenTelemetry's own variables say where that is silent.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use orch_manifests::{Endpoint, Host, Scheme};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::trace::Sampler;
use crate::environment::Environment;

/// Attributes of the resource that are taken.
const ATTRIBUTES: usize = 64;
/// Bytes of a name or a value among them.
const LENGTH: usize = 256;
/// Headers of exports that are taken.
const HEADERS: usize = 16;

/// `telemetry` in the configuration, as it is written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawTelemetry {
    otlp_endpoint: Option<String>,
    service_name: Option<String>,
    resource: BTreeMap<String, String>,
    trace_ratio: Option<f64>,
}

impl RawTelemetry {
    /// What it says.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub(crate) fn parse(self) -> Result<TelemetryConfig, (&'static str, String)> {
        let endpoint = self.otlp_endpoint.map(|text| text.parse::<Endpoint>()).transpose();
        let endpoint = endpoint
            .map_err(|e| ("otlp_endpoint", format!("{e}; it is a URL such as http://127.0.0.1:4318")))?;
        if let Some(ratio) = self.trace_ratio
            && !(0.0..=1.0).contains(&ratio)
        {
            return Err(("trace_ratio", format!("{ratio} is not between 0 and 1")));
        }
        if self.service_name.as_deref().is_some_and(|name| !is_value(name)) {
            return Err((
                "service_name",
                format!("it is empty, longer than {LENGTH} bytes or no plain text"),
            ));
        }
        if self.resource.len() > ATTRIBUTES {
            return Err(("resource", format!("there are more than {ATTRIBUTES} attributes")));
        }
        if let Some((key, _)) = self.resource.iter().find(|(key, value)| !is_key(key) || !is_value(value)) {
            return Err((
                "resource",
                format!("{key:?} is no attribute: plain text of at most {LENGTH} bytes each"),
            ));
        }
        let resource = self.resource.into_iter().collect();
        Ok(TelemetryConfig { endpoint, service_name: self.service_name, resource, ratio: self.trace_ratio })
    }
}

/// What the configuration says of telemetry.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct TelemetryConfig {
    /// The OpenTelemetry collector.
    pub(crate) endpoint: Option<Endpoint>,
    /// What this service is called there.
    pub(crate) service_name: Option<String>,
    /// Further attributes of its resource.
    pub(crate) resource: Vec<(String, String)>,
    /// The share of traces that are kept, from 0 to 1.
    pub(crate) ratio: Option<f64>,
}

/// What OpenTelemetry's variables say.
#[derive(Debug, Clone, Default)]
pub(crate) struct OtelEnvironment {
    disabled: bool,
    traces: Target,
    metrics: Target,
    service_name: Option<String>,
    resource: Vec<(String, String)>,
    sampler: Option<Sampler>,
    spans_every: Option<Duration>,
    metrics_every: Option<Duration>,
    warnings: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Target {
    off: bool,
    address: Option<Address>,
    headers: Headers,
    /// Whether they are of this kind of telemetry alone.
    own_headers: bool,
}

impl Target {
    /// The headers for a collector that the environment names as well, over a way that nobody reads: address and headers are
    /// of one source, or a key would go to whomever the other names.
    fn sent(&self, config: &TelemetryConfig) -> Headers {
        match &self.address {
            Some(address) if config.endpoint.is_none() && is_private(&address.endpoint) => {
                self.headers.clone()
            }
            _ => Headers::default(),
        }
    }
}

/// Whether nobody reads what is sent there on its way.
fn is_private(endpoint: &Endpoint) -> bool {
    let here = match &endpoint.host {
        Host::Name(name) => name.as_str() == "localhost",
        Host::Ip(address) => address.to_canonical().is_loopback(),
    };
    here || endpoint.scheme == Scheme::Https
}

/// Where one kind of telemetry goes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Address {
    pub(super) endpoint: Endpoint,
    /// The whole path on the host.
    pub(super) path: String,
}

/// Headers of exports. Their values are somebody's keys, and are shown nowhere.
#[derive(Clone, Default)]
pub(super) struct Headers(Arc<[(HeaderName, HeaderValue)]>);

impl Headers {
    pub(super) fn all(&self) -> &[(HeaderName, HeaderValue)] {
        &self.0
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl OtelEnvironment {
    /// Reads the variables. They are often set for other programs: one that cannot be meant here is a warning, and what
    /// it is about is left out.
    #[must_use]
    pub(crate) fn read(environment: &Environment) -> Self {
        let mut reader = Reader { environment, warnings: Vec::new() };
        if reader.text("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Self { disabled: true, ..Self::default() };
        }
        let mut resource = reader.read("OTEL_RESOURCE_ATTRIBUTES", resource).unwrap_or_default();
        let named = resource.iter().position(|(key, _)| key == "service.name");
        let named = named.map(|at| resource.remove(at).1);
        let service_name = reader.read("OTEL_SERVICE_NAME", |name| {
            if is_value(name) { Ok(name.to_owned()) } else { Err("is no plain text".to_owned()) }
        });
        let arg = reader.text("OTEL_TRACES_SAMPLER_ARG");
        Self {
            disabled: false,
            traces: reader.target(Signal::Traces),
            metrics: reader.target(Signal::Metrics),
            service_name: service_name.or(named),
            resource,
            sampler: reader.read("OTEL_TRACES_SAMPLER", |name| sampler(name, arg.as_deref())),
            spans_every: reader.read("OTEL_BSP_SCHEDULE_DELAY", millis),
            metrics_every: reader.read("OTEL_METRIC_EXPORT_INTERVAL", millis),
            warnings: reader.warnings,
        }
    }

    /// What could not be meant, and what is not done, by this configuration.
    pub(crate) fn warnings(&self, config: &TelemetryConfig) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        for (signal, target) in [(Signal::Traces, &self.traces), (Signal::Metrics, &self.metrics)] {
            if target.off || self.disabled || target.headers.all().is_empty() {
                continue;
            }
            let (what, [.., own, _]) = (signal.word(), signal.variables());
            let name = if target.own_headers { own } else { "OTEL_EXPORTER_OTLP_HEADERS" };
            match (&config.endpoint, &target.address) {
                (Some(_), _) => warnings.push(format!(
                    "{name} is not sent with {what}: it is for the collector of the environment, and config.yaml names \
                     another (telemetry.otlp_endpoint)"
                )),
                (None, Some(address)) if !is_private(&address.endpoint) => warnings.push(format!(
                    "{name} is not sent with {what}: it may hold keys, and anybody on the way to http://{} could read \
                     them; use https",
                    address.endpoint.authority()
                )),
                _ => {}
            }
        }
        warnings
    }
}

/// Variables, and what is wrong with them. Warnings say nothing of values that may be keys.
struct Reader<'e> {
    environment: &'e Environment,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn text(&mut self, name: &'static str) -> Option<String> {
        let text = self.environment.get(name)?.into_string();
        match text {
            Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Err(_) => {
                self.warnings.push(format!("{name} is no text"));
                None
            }
        }
    }

    fn read<T>(&mut self, name: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(name)?;
        parse(&text).map_err(|why| self.warnings.push(format!("{name} {why}"))).ok()
    }

    fn target(&mut self, signal: Signal) -> Target {
        let [exporter, own, own_headers, own_protocol] = signal.variables();
        let off = self.text(exporter).is_some_and(|value| value == "none");
        let address = match self.text(own) {
            // Taken as it is: nothing is put behind it.
            Some(_) => self.read(own, endpoint).map(|endpoint| {
                let path = if endpoint.base_path.is_empty() { "/".to_owned() } else { endpoint.path("") };
                Address { endpoint, path }
            }),
            None => self.read("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint).map(|endpoint| signal.at(endpoint)),
        };
        let of = |reader: &mut Self, own, shared| if reader.text(own).is_some() { own } else { shared };
        let protocol = of(self, own_protocol, "OTEL_EXPORTER_OTLP_PROTOCOL");
        // Whoever takes protobuf over HTTP takes JSON at the same place.
        let spoken = |spoken: &str| match spoken {
            "http/json" | "http/protobuf" => Ok(()),
            _ => Err(format!(
                "is {spoken:?}, and http/json is what is spoken here: {} stay here",
                signal.word()
            )),
        };
        let address = match (address, off) {
            (Some(address), false) => {
                let asked = self.text(protocol).is_some();
                let spoken = self.read(protocol, spoken).is_some();
                Some(address).filter(|_| spoken || !asked)
            }
            (address, _) => address,
        };
        let headers = of(self, own_headers, "OTEL_EXPORTER_OTLP_HEADERS");
        let own_headers = headers == own_headers;
        Target { off, address, headers: self.read(headers, Headers::parse).unwrap_or_default(), own_headers }
    }
}

fn millis(text: &str) -> Result<Duration, String> {
    let millis: u64 = text.parse().map_err(|_| "is a number of milliseconds".to_owned())?;
    Ok(Duration::from_millis(millis.clamp(100, 3_600_000)))
}

fn resource(text: &str) -> Result<Vec<(String, String)>, String> {
    let all = pairs(text, ATTRIBUTES)?;
    match all.iter().all(|(key, value)| is_key(key) && is_value(value)) {
        true => Ok(all),
        false => Err("holds what is no plain text".to_owned()),
    }
}

/// A kind of telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    fn at(self, endpoint: Endpoint) -> Address {
        let path = match self {
            Self::Traces => endpoint.path("/v1/traces"),
            Self::Metrics => endpoint.path("/v1/metrics"),
        };
        Address { endpoint, path }
    }

    /// The variables of this kind alone: exporter, endpoint, headers, protocol.
    fn variables(self) -> [&'static str; 4] {
        match self {
            Self::Traces => [
                "OTEL_TRACES_EXPORTER",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            ],
            Self::Metrics => [
                "OTEL_METRICS_EXPORTER",
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
                "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
                "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
            ],
        }
    }
}

/// Where everything goes, and how: configuration before environment.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    pub(super) traces: Option<Address>,
    pub(super) metrics: Option<Address>,
    pub(super) trace_headers: Headers,
    pub(super) metric_headers: Headers,
    pub(super) service_name: String,
    pub(super) resource: Vec<(String, String)>,
    pub(super) sampler: Sampler,
    pub(super) spans_every: Duration,
    pub(super) metrics_every: Duration,
}

impl Destination {
    /// None when nobody collects anything.
    pub(crate) fn of(config: &TelemetryConfig, environment: &OtelEnvironment) -> Option<Self> {
        let OtelEnvironment { disabled, traces, metrics, .. } = environment;
        let to = |signal: Signal, target: &Target| match &config.endpoint {
            Some(endpoint) => Some(signal.at(endpoint.clone())),
            None => target.address.clone(),
        };
        let to = |signal, target: &Target| to(signal, target).filter(|_| !target.off && !disabled);
        let (to_traces, to_metrics) = (to(Signal::Traces, traces), to(Signal::Metrics, metrics));
        if to_traces.is_none() && to_metrics.is_none() {
            return None;
        }
        let mut resource = environment.resource.clone();
        for (key, value) in &config.resource {
            resource.retain(|(known, _)| known != key);
            resource.push((key.clone(), value.clone()));
        }
        let service_name = config.service_name.clone().or_else(|| environment.service_name.clone());
        let sampler = environment.sampler.unwrap_or_default();
        Some(Self {
            traces: to_traces,
            metrics: to_metrics,
            trace_headers: traces.sent(config),
            metric_headers: metrics.sent(config),
            service_name: service_name.unwrap_or_else(|| "orch".to_owned()),
            resource,
            sampler: config.ratio.map_or(sampler, |ratio| Sampler { ratio, ..sampler }),
            spans_every: environment.spans_every.unwrap_or(Duration::from_secs(5)),
            metrics_every: environment.metrics_every.unwrap_or(Duration::from_secs(15)),
        })
    }
}

fn sampler(name: &str, arg: Option<&str>) -> Result<Sampler, String> {
    let (kind, parent_based) = match name.strip_prefix("parentbased_") {
        Some(kind) => (kind, true),
        None => (name, false),
    };
    let ratio = match (kind, arg) {
        ("always_on", _) | ("traceidratio", None) => 1.0,
        ("always_off", _) => 0.0,
        ("traceidratio", Some(arg)) => {
            let ratio: Option<f64> = arg.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
            ratio.ok_or("is traceidratio, and OTEL_TRACES_SAMPLER_ARG no number between 0 and 1")?
        }
        _ => return Err("is always_on, always_off or traceidratio, each also after parentbased_".to_owned()),
    };
    Ok(Sampler { ratio, parent_based })
}

impl Headers {
    fn parse(text: &str) -> Result<Self, String> {
        let header = |(name, value): (String, String)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let mut value = HeaderValue::from_str(&value).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        };
        let all: Option<Vec<_>> = pairs(text, HEADERS)?.into_iter().map(header).collect();
        Ok(Self(all.ok_or("holds what no header can carry")?.into()))
    }
}

/// `KEY=VALUE,KEY=VALUE`, values percent-encoded.
fn pairs(text: &str, most: usize) -> Result<Vec<(String, String)>, String> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        Some((key.trim().to_owned(), value.into_owned())).filter(|(key, _)| !key.is_empty())
    };
    let pieces = text.split(',').filter(|piece| !piece.trim().is_empty());
    let all: Option<Vec<_>> = pieces.map(pair).collect();
    let all = all.ok_or("is KEY=VALUE, separated by commas, values percent-encoded")?;
    if all.len() > most { Err(format!("holds more than {most}")) } else { Ok(all) }
}

fn endpoint(url: &str) -> Result<Endpoint, String> {
    // Not the URL itself: it may hold a password.
    url.parse::<Endpoint>()
        .map_err(|_| "is a URL such as http://127.0.0.1:4318, without user and query".to_owned())
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.len() <= LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_value(text: &str) -> bool {
    !text.is_empty() && text.len() <= LENGTH && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
