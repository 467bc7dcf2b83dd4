//! What bounds a run's traffic: rates, and what one host may take of it.

use std::cmp::Ordering;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::{ByteSize, CountText, LimitError, RateText, SizeText, parse_count};

/// Requests per second, minute or hour. As many may come at once as there are in one of these, where nothing else says
/// how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    requests: NonZeroU32,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Unit {
    Second,
    Minute,
    Hour,
}

impl Unit {
    const fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }
}

impl Rate {
    /// How many requests, at least one.
    #[must_use]
    pub const fn requests(self) -> u32 {
        self.requests.get()
    }

    /// In how long.
    #[must_use]
    pub const fn period(self) -> Duration {
        Duration::from_secs(self.unit.seconds() as u64)
    }

    fn per_hour(self) -> u64 {
        u64::from(self.requests.get()) * u64::from(3600 / self.unit.seconds())
    }
}

impl PartialOrd for Rate {
    /// By how much it lets through. Two that let the same through in another rhythm are not ordered.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.per_hour().cmp(&other.per_hour()) {
            Ordering::Equal => (self == other).then_some(Ordering::Equal),
            unequal => Some(unequal),
        }
    }
}

impl FromStr for Rate {
    type Err = LimitError;

    /// A whole number followed by `/s`, `/m` or `/h`. None at all is refused: nothing could run.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || LimitError::Rate(text.into());
        let (number, unit) = text.split_once('/').ok_or_else(refuse)?;
        let unit = match unit {
            "s" => Unit::Second,
            "m" => Unit::Minute,
            "h" => Unit::Hour,
            _ => return Err(refuse()),
        };
        let requests = match parse_count(number) {
            Ok(0) | Err(LimitError::Count(_)) => return Err(refuse()),
            Ok(count) => u32::try_from(count).ok().and_then(NonZeroU32::new),
            Err(_) => None,
        };
        Ok(Self { requests: requests.ok_or_else(|| LimitError::TooLarge(text.into()))?, unit })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            Unit::Second => 's',
            Unit::Minute => 'm',
            Unit::Hour => 'h',
        };
        write!(f, "{}/{unit}", self.requests)
    }
}

impl Serialize for Rate {
    /// As it is written.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Bounds for each host that a run talks to, within those of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HostLimits {
    /// Most HTTP requests to one host.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<CountText>")]
    pub requests: Option<u64>,
    /// Most HTTP requests to one host at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<CountText>")]
    pub concurrent: Option<u64>,
    /// Most bytes of request bodies to one host.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SizeText>")]
    pub upload: Option<ByteSize>,
    /// Most bytes of response bodies from one host.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<SizeText>")]
    pub download: Option<ByteSize>,
    /// How often requests to one host may begin, such as `5/s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<RateText>")]
    pub rate: Option<Rate>,
    /// How many of them may begin at once, where `rate` bounds them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<CountText>")]
    pub burst: Option<u64>,
}

impl HostLimits {
    /// Whether nothing is bounded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().expect(text)
    }

    #[test]
    fn rates_are_written_as_they_are_read() {
        for text in ["1/s", "50/s", "100/m", "3/h"] {
            assert_eq!(rate(text).to_string(), text);
        }
        assert_eq!(rate("2k/m").to_string(), "2000/m");
        assert_eq!((rate("6/m").requests(), rate("6/m").period()), (6, Duration::from_secs(60)));
        for wrong in ["", "5", "/s", "0/s", "5/d", "5/sec", "-1/s", "1.5/s", "5 /s", "5/s/s"] {
            assert!(matches!(wrong.parse::<Rate>(), Err(LimitError::Rate(_))), "{wrong}");
        }
        for large in ["5G/s", "99999999999999999999/s"] {
            assert!(matches!(large.parse::<Rate>(), Err(LimitError::TooLarge(_))), "{large}");
        }
    }

    #[test]
    fn rates_are_ordered_by_what_they_let_through() {
        assert!(rate("1/s") < rate("61/m") && rate("59/m") < rate("1/s") && rate("3601/h") > rate("1/s"));
        assert_eq!(rate("60/m").partial_cmp(&rate("1/s")), None);
        assert_eq!(rate("60/m").partial_cmp(&rate("60/m")), Some(Ordering::Equal));
    }
}
