//! What bounds a run, and the units that people write them in.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::text::quote;

mod traffic;

pub use traffic::{HostLimits, Rate};

/// Why a limit was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Not a size.
    #[error("{} is not a size: write a number of bytes, or one with a unit, such as `256MiB` or `10MB`", quote(.0))]
    Size(String),
    /// Not a duration.
    #[error("{} is not a duration: write numbers with units, such as `90s`, `5m`, `1h30m` or `500ms`", quote(.0))]
    Duration(String),
    /// Not a count.
    #[error("{} is not a count: write a whole number, or one with `k`, `M` or `G`, such as `200k`", quote(.0))]
    Count(String),
    /// Not an amount of money.
    #[error("{} is not an amount in US dollars: write it as `0.50`, with at most six decimals", quote(.0))]
    Money(String),
    /// Not a rate.
    #[error("{} is not a rate: write a whole number of requests per second, minute or hour, such as `10/s` or `100/m`", quote(.0))]
    Rate(String),
    /// Larger than can be counted.
    #[error("{} is too large", quote(.0))]
    TooLarge(String),
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = LimitError;

    /// A whole or decimal number followed by nothing or `B`, `kB`, `MB`, `GB`, `TB` (powers of 1000), `KiB`, `MiB`,
    /// `GiB`, `TiB` (powers of 1024). A bare `M` is refused, because tools disagree on what it means.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split_unit(text);
        let factor = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1000,
            "mb" => 1000_u64.pow(2),
            "gb" => 1000_u64.pow(3),
            "tb" => 1000_u64.pow(4),
            "kib" => 1 << 10,
            "mib" => 1 << 20,
            "gib" => 1 << 30,
            "tib" => 1 << 40,
            _ => return Err(LimitError::Size(text.into())),
        };
        scale(number, factor).map(Self).map_err(|broken| broken.into_error(text, LimitError::Size))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(size, _)| self.0 != 0 && self.0.is_multiple_of(*size)) {
            Some((size, unit)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// An amount of money in millionths of a US dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MicroUsd(pub u64);

impl MicroUsd {
    /// The amount in millionths of a dollar.
    pub const fn micros(self) -> u64 {
        self.0
    }
}

impl FromStr for MicroUsd {
    type Err = LimitError;

    /// Dollars with at most six decimals, with or without a leading `$`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_prefix('$').unwrap_or(text);
        scale(number, 1_000_000).map(Self).map_err(|broken| broken.into_error(text, LimitError::Money))
    }
}

impl fmt::Display for MicroUsd {
    /// Dollars as a plain decimal number with two to six decimals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:06}", self.0 % 1_000_000);
        let kept = decimals.trim_end_matches('0').len().max(2);
        write!(f, "{}.{}", self.0 / 1_000_000, &decimals[..kept])
    }
}

/// Parses a count: `500`, `200k`, `1.5M`, `1_000_000`. Units are powers of 1000.
///
/// # Errors
/// When the text is no such number, is not whole after scaling, or does not fit.
pub fn parse_count(text: &str) -> Result<u64, LimitError> {
    let (number, unit) = split_unit(text);
    let factor = match unit {
        "" => 1,
        "k" | "K" => 1000,
        "M" | "m" => 1_000_000,
        "G" | "g" => 1_000_000_000,
        _ => return Err(LimitError::Count(text.into())),
    };
    scale(number, factor).map_err(|broken| broken.into_error(text, LimitError::Count))
}

const DURATION_UNITS: &[(&str, u64)] =
    &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Parses a duration: one or more numbers with `d`, `h`, `m`, `s` or `ms`, largest first, such as `1h30m` or `0.5s`.
/// The resolution is a millisecond. A number without a unit is refused.
///
/// # Errors
/// When the text is no such duration or longer than a thousand days.
pub fn parse_duration(text: &str) -> Result<Duration, LimitError> {
    const MAX_MILLIS: u64 = 1000 * 86_400_000;
    let refuse = || LimitError::Duration(text.into());
    let mut total: u64 = 0;
    let mut rest = text;
    let mut units = DURATION_UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refuse)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        // Going on where the last unit was found keeps them in order and each at most once.
        let (_, millis) = units.find(|(name, _)| *name == unit).ok_or_else(refuse)?;
        let part = scale(number, *millis).map_err(|broken| broken.into_error(text, LimitError::Duration))?;
        total = total.saturating_add(part);
        rest = tail;
    }
    if text.is_empty() {
        return Err(refuse());
    }
    if total > MAX_MILLIS {
        return Err(LimitError::TooLarge(text.into()));
    }
    Ok(Duration::from_millis(total))
}

/// Writes a duration the way [`parse_duration`] reads it, such as `1h30m`. Less than a millisecond is dropped.
pub fn format_duration(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, size) in DURATION_UNITS {
        if millis >= *size {
            text.push_str(&format!("{}{unit}", millis / size));
            millis %= size;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Bounds that a manifest asks for, or that a caller sets. What is absent is for the operator's defaults to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Limits {
    /// Most memory of all kinds that a sandbox holds for a run, such as `256MiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SizeText>")]
    pub memory: Option<ByteSize>,
    /// Wall-clock time, such as `5m`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration_text")]
    #[schemars(with = "Option<DurationText>")]
    pub time: Option<Duration>,
    /// Time on the processor, such as `60s`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration_text")]
    #[schemars(with = "Option<DurationText>")]
    pub cpu: Option<Duration>,
    /// Most bytes of output, such as `10MiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SizeText>")]
    pub output: Option<ByteSize>,
    /// Most bytes of log, which is what the agent writes to standard error, such as `1MiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SizeText>")]
    pub log: Option<ByteSize>,
    /// Most things of the host that are open at once: streams, requests, bodies, headers, files.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<CountText>")]
    pub resources: Option<u64>,
    /// Most bytes in scratch folders, such as `64MiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SizeText>")]
    pub scratch: Option<ByteSize>,
    /// Most files, folders and links in scratch folders.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<CountText>")]
    pub scratch_files: Option<u64>,
    /// Most HTTP requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<CountText>")]
    pub requests: Option<u64>,
    /// Most HTTP requests at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<CountText>")]
    pub concurrent: Option<u64>,
    /// Most bytes of request bodies, such as `10MiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SizeText>")]
    pub upload: Option<ByteSize>,
    /// Most bytes of response bodies, such as `100MiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SizeText>")]
    pub download: Option<ByteSize>,
    /// How often HTTP requests may begin, such as `10/s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<RateText>")]
    pub rate: Option<Rate>,
    /// How many of them may begin at once, where `rate` bounds them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<CountText>")]
    pub burst: Option<u64>,
    /// Time from a request to the head of its response, such as `30s`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration_text")]
    #[schemars(with = "Option<DurationText>")]
    pub first_byte: Option<Duration>,
    /// Time in which no byte of a body moves, such as `30s`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration_text")]
    #[schemars(with = "Option<DurationText>")]
    pub idle: Option<Duration>,
    /// Time from a request to the end of its response, such as `5m`.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration_text")]
    #[schemars(with = "Option<DurationText>")]
    pub exchange: Option<Duration>,
    /// Bounds for each host, within those of the run.
    #[serde(skip_serializing_if = "HostLimits::is_empty")]
    #[schemars(with = "Option<HostLimits>")]
    pub per_host: HostLimits,
    /// Most tokens, input and output together, such as `200k`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<CountText>")]
    pub tokens: Option<u64>,
    /// Most money that the providers may charge, in US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MoneyText>")]
    pub cost_usd: Option<MicroUsd>,
}

impl Limits {
    /// Whether nothing is bounded.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Serialize for ByteSize {
    /// As a number of bytes.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl Serialize for MicroUsd {
    /// As decimal text in dollars, which no reader rounds.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[expect(clippy::ref_option, reason = "serde passes the field")]
fn duration_text<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_str(&format_duration(*duration)),
        None => serializer.serialize_none(),
    }
}

/// Stand-ins that describe the written form of a limit in the JSON Schema.
macro_rules! written_form {
    ($type:ident, $schema:tt) => {
        struct $type;

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

written_form!(SizeText, {
    "type": ["string", "integer"],
    "pattern": "^[0-9][0-9_]*(\\.[0-9]+)?([bB]|[kKmMgGtT][iI]?[bB])?$",
    "minimum": 0,
    "examples": ["256MiB", "10MB"],
});
written_form!(DurationText, {
    "type": "string",
    "pattern": "^([0-9]+(\\.[0-9]+)?(d|h|m|s|ms))+$",
    "examples": ["90s", "5m", "1h30m"],
});
written_form!(CountText, {
    "type": ["string", "integer"],
    "pattern": "^[0-9][0-9_]*(\\.[0-9]+)?[kKmMgG]?$",
    "minimum": 0,
    "examples": [500, "200k"],
});
written_form!(RateText, {
    "type": "string",
    "pattern": "^[0-9][0-9_]*(\\.[0-9]+)?[kKmMgG]?/[smh]$",
    "examples": ["10/s", "100/m"],
});
written_form!(MoneyText, {
    "type": ["string", "number"],
    "pattern": "^\\$?[0-9][0-9_]*(\\.[0-9]{1,6})?$",
    "minimum": 0,
    "examples": [0.5],
});

enum Broken {
    Malformed,
    TooLarge,
}

impl Broken {
    fn into_error(self, text: &str, malformed: fn(String) -> LimitError) -> LimitError {
        match self {
            Self::Malformed => malformed(text.into()),
            Self::TooLarge => LimitError::TooLarge(text.into()),
        }
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number.strip_suffix(' ').filter(|_| !unit.is_empty()).unwrap_or(number), unit)
}

/// An exact decimal number times a factor. Fractions of the smallest unit are refused: what was written would not be
/// what holds.
fn scale(number: &str, factor: u64) -> Result<u64, Broken> {
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(w, f)| (w, Some(f)));
    let whole: u128 = digits(whole)?;
    let factor = u128::from(factor);
    let mut total = whole.checked_mul(factor).ok_or(Broken::TooLarge)?;
    if let Some(fraction) = fraction {
        let fraction = fraction.trim_end_matches('0');
        let fraction = if fraction.is_empty() { "0" } else { fraction };
        let parts = digits(fraction)?.checked_mul(factor).ok_or(Broken::Malformed)?;
        let scale = 10_u128
            .checked_pow(u32::try_from(fraction.len()).map_err(|_| Broken::Malformed)?)
            .ok_or(Broken::Malformed)?;
        if !parts.is_multiple_of(scale) {
            return Err(Broken::Malformed);
        }
        total += parts / scale;
    }
    u64::try_from(total).map_err(|_| Broken::TooLarge)
}

/// Decimal digits, with single underscores between them.
fn digits(text: &str) -> Result<u128, Broken> {
    let well_placed = !text.starts_with('_') && !text.ends_with('_') && !text.contains("__");
    let only_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    if !well_placed || !only_digits {
        return Err(Broken::Malformed);
    }
    let text: String = text.chars().filter(|c| *c != '_').collect();
    if text.len() > 30 { Err(Broken::TooLarge) } else { text.parse().map_err(|_| Broken::TooLarge) }
}

#[cfg(test)]
mod tests;
