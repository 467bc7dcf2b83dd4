//! `limits.defaults` and `limits.ceilings`, written as in a manifest.

use std::fmt;

use orch_manifests::{HostLimits, Limits, parse_count, parse_duration};
use serde::Deserialize;

/// Limits as they stand in the file: numbers, or texts with a unit.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    memory: Option<Scalar>,
    time: Option<Scalar>,
    cpu: Option<Scalar>,
    output: Option<Scalar>,
    log: Option<Scalar>,
    resources: Option<Scalar>,
    scratch: Option<Scalar>,
    scratch_files: Option<Scalar>,
    requests: Option<Scalar>,
    concurrent: Option<Scalar>,
    upload: Option<Scalar>,
    download: Option<Scalar>,
    rate: Option<Scalar>,
    burst: Option<Scalar>,
    first_byte: Option<Scalar>,
    idle: Option<Scalar>,
    exchange: Option<Scalar>,
    per_host: RawHostLimits,
    tokens: Option<Scalar>,
    cost_usd: Option<Scalar>,
}

/// Those of each host.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawHostLimits {
    requests: Option<Scalar>,
    concurrent: Option<Scalar>,
    upload: Option<Scalar>,
    download: Option<Scalar>,
    rate: Option<Scalar>,
    burst: Option<Scalar>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Whole(u64),
    Fraction(f64),
    Text(String),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Fraction(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl RawLimits {
    /// Reads every field with the manifest's own parsers; an error names the field.
    pub(super) fn parse(&self) -> Result<Limits, (&'static str, String)> {
        Ok(Limits {
            memory: field("memory", self.memory.as_ref(), str::parse)?,
            time: field("time", self.time.as_ref(), parse_duration)?,
            cpu: field("cpu", self.cpu.as_ref(), parse_duration)?,
            output: field("output", self.output.as_ref(), str::parse)?,
            log: field("log", self.log.as_ref(), str::parse)?,
            resources: field("resources", self.resources.as_ref(), parse_count)?,
            scratch: field("scratch", self.scratch.as_ref(), str::parse)?,
            scratch_files: field("scratch_files", self.scratch_files.as_ref(), parse_count)?,
            requests: field("requests", self.requests.as_ref(), parse_count)?,
            concurrent: field("concurrent", self.concurrent.as_ref(), parse_count)?,
            upload: field("upload", self.upload.as_ref(), str::parse)?,
            download: field("download", self.download.as_ref(), str::parse)?,
            rate: field("rate", self.rate.as_ref(), str::parse)?,
            burst: field("burst", self.burst.as_ref(), parse_count)?,
            first_byte: field("first_byte", self.first_byte.as_ref(), parse_duration)?,
            idle: field("idle", self.idle.as_ref(), parse_duration)?,
            exchange: field("exchange", self.exchange.as_ref(), parse_duration)?,
            per_host: self.per_host.parse()?,
            tokens: field("tokens", self.tokens.as_ref(), parse_count)?,
            cost_usd: field("cost_usd", self.cost_usd.as_ref(), str::parse)?,
        })
    }
}

impl RawHostLimits {
    fn parse(&self) -> Result<HostLimits, (&'static str, String)> {
        Ok(HostLimits {
            requests: field("per_host.requests", self.requests.as_ref(), parse_count)?,
            concurrent: field("per_host.concurrent", self.concurrent.as_ref(), parse_count)?,
            upload: field("per_host.upload", self.upload.as_ref(), str::parse)?,
            download: field("per_host.download", self.download.as_ref(), str::parse)?,
            rate: field("per_host.rate", self.rate.as_ref(), str::parse)?,
            burst: field("per_host.burst", self.burst.as_ref(), parse_count)?,
        })
    }
}

fn field<T, E: fmt::Display>(
    name: &'static str,
    value: Option<&Scalar>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, (&'static str, String)> {
    value.map(|value| parse(&value.to_string()).map_err(|e| (name, e.to_string()))).transpose()
}
