//! Where a secret may go and for whom: what its owner says, one grant after another.
//!
//! A grant says all of it at once, so that two of them never add up to more than either: this host, with these
//! methods and paths, in this place of the request, for these agents, so often, for so much money, until then. What
//! is left out does not narrow. A secret without grants goes nowhere, except the key of a provider, whose host is the
//! catalog's to say.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::MetaError;
use crate::meta::{is_field_name, is_plain, written};

/// The most grants of one secret, and the most entries of each list in one.
pub(crate) const MOST_ENTRIES: usize = 64;

/// Identifies a grant among those of its secret. Never given out twice, not even after the secret was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantId(pub(crate) u32);

impl GrantId {
    /// The grant of this number, which need not be there.
    #[must_use]
    pub fn new(number: u32) -> GrantId {
        GrantId(number)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where in a request a value stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValuePlace {
    /// In the header of this name.
    Header(String),
    /// In the query parameter of this name.
    Query(String),
}

impl fmt::Display for ValuePlace {
    /// As the command line has it: `header:NAME` or `query:NAME`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValuePlace::Header(name) => write!(f, "header:{name}"),
            ValuePlace::Query(name) => write!(f, "query:{name}"),
        }
    }
}

/// What one grant allows. Every part narrows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantTerms {
    /// The host, or pattern of hosts, as the proxy's policy spells it. `None`: the host that the catalog says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The methods. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// The patterns of paths. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// The place in the request. `None`: the place that the catalog says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<ValuePlace>,
    /// Of a provider's key: the requests to its account that it may go with beside model calls, each a method, a colon and
    /// a pattern of paths. Empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub account: Vec<String>,
    /// The agents (`org/name`) that may have it. Empty: any that was granted it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<String>,
    /// How many runs may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<u64>,
    /// How much model calls with it may cost together, in millionths of a US dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micro_usd: Option<u64>,
    /// From this moment on it allows nothing. Whole seconds are kept.
    #[serde(default, with = "time::serde::timestamp::option", skip_serializing_if = "Option::is_none")]
    pub expires: Option<OffsetDateTime>,
}

/// What was done with a grant so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantUse {
    /// The runs that were let use it.
    pub runs: u64,
    /// What the model calls with it cost, in millionths of a US dollar.
    pub cost_micro_usd: u64,
}

/// One grant of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Which one.
    pub id: GrantId,
    /// What it allows.
    pub terms: GrantTerms,
    /// What was done with it.
    pub used: GrantUse,
}

/// Why a grant allows nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Spent {
    /// Its time is over.
    #[error("it expired {}", written(*.0))]
    Expired(OffsetDateTime),
    /// As many runs as it is for have used it.
    #[error("it was for {0} runs, and so many have used it")]
    Runs(u64),
    /// The calls with it cost as much as it is for.
    #[error("it was for {} USD, and calls with it cost that much", usd(*.0))]
    Money(u64),
}

impl Grant {
    /// Whether a new run may be let use it at this time.
    ///
    /// # Errors
    /// What of it is used up.
    pub fn open(&self, now: OffsetDateTime) -> Result<(), Spent> {
        match self.terms.runs {
            Some(most) if self.used.runs >= most => Err(Spent::Runs(most)),
            _ => self.live(now),
        }
    }

    /// Whether a run that was let use it may go on: its time and its money.
    ///
    /// # Errors
    /// What of it is used up.
    pub fn live(&self, now: OffsetDateTime) -> Result<(), Spent> {
        self.live_after(self.used.cost_micro_usd, now)
    }

    /// [`Grant::live`], when calls with it have cost this much.
    ///
    /// # Errors
    /// What of it is used up.
    pub fn live_after(&self, cost_micro_usd: u64, now: OffsetDateTime) -> Result<(), Spent> {
        if let Some(at) = self.terms.expires.filter(|at| *at <= now) {
            return Err(Spent::Expired(at));
        }
        match self.terms.cost_micro_usd {
            Some(most) if cost_micro_usd >= most => Err(Spent::Money(most)),
            _ => Ok(()),
        }
    }

    /// How much calls with it may still cost, in millionths of a US dollar; `None` when that is not bounded.
    #[must_use]
    pub fn money_left(&self) -> Option<u64> {
        self.terms.cost_micro_usd.map(|most| most.saturating_sub(self.used.cost_micro_usd))
    }
}

/// Whether `terms` are worth storing for a value that may, or may not, go into a header.
pub(crate) fn check(terms: &GrantTerms, never_in_header: bool, now: OffsetDateTime) -> Result<(), MetaError> {
    let host: Vec<String> = terms.host.iter().cloned().collect();
    let lists = [
        ("hosts", &host),
        ("methods", &terms.methods),
        ("paths", &terms.paths),
        ("account", &terms.account),
        ("agents", &terms.agents),
    ];
    for (field, entries) in lists {
        if entries.len() > MOST_ENTRIES {
            return Err(MetaError::TooMany { field, count: entries.len() });
        }
        if let Some(index) = entries.iter().position(|entry| !is_plain(entry)) {
            return Err(MetaError::Entry { field, position: index + 1 });
        }
    }
    if let Some(expires) = terms.expires.filter(|expires| *expires <= now) {
        return Err(MetaError::Expired(expires));
    }
    if terms.runs == Some(0) || terms.cost_micro_usd == Some(0) {
        return Err(MetaError::Nothing);
    }
    match &terms.place {
        Some(ValuePlace::Header(_)) if never_in_header => Err(MetaError::HeaderAndNever),
        Some(ValuePlace::Header(name)) if !is_field_name(name) => Err(MetaError::Header),
        Some(ValuePlace::Query(name)) if !is_plain(name) => {
            Err(MetaError::Entry { field: "query parameters", position: 1 })
        }
        _ => Ok(()),
    }
}

/// Millionths of a dollar as people write them: at least two digits behind the point.
fn usd(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let whole = text.len() - 4;
    let kept = text.trim_end_matches('0').len().max(whole);
    text[..kept].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds)
    }

    #[test]
    fn terms_row_by_row() {
        let base = GrantTerms::default;
        let now = at(10);
        let header = |name: &str| GrantTerms { place: Some(ValuePlace::Header(name.into())), ..base() };
        let query = |name: &str| GrantTerms { place: Some(ValuePlace::Query(name.into())), ..base() };
        let host = |host: &str| GrantTerms { host: Some(host.into()), ..base() };
        let paths = |paths: &[&str]| GrantTerms {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
            ..base()
        };
        for (terms, never, expected) in [
            (base(), false, Ok(())),
            (host("*.example.com"), false, Ok(())),
            (host(""), false, Err(MetaError::Entry { field: "hosts", position: 1 })),
            (host("a b"), false, Err(MetaError::Entry { field: "hosts", position: 1 })),
            (host("a\u{1b}[31m"), false, Err(MetaError::Entry { field: "hosts", position: 1 })),
            (host(&"h".repeat(301)), false, Err(MetaError::Entry { field: "hosts", position: 1 })),
            (paths(&["/ok", "/not ok"]), false, Err(MetaError::Entry { field: "paths", position: 2 })),
            (GrantTerms { account: vec!["GET:/v1/files/**".into()], ..base() }, false, Ok(())),
            (
                GrantTerms { account: vec!["GET /v1/files".into()], ..base() },
                false,
                Err(MetaError::Entry { field: "account", position: 1 }),
            ),
            (paths(&["/"; 65]), false, Err(MetaError::TooMany { field: "paths", count: 65 })),
            (header("x-api-key"), false, Ok(())),
            (header(""), false, Err(MetaError::Header)),
            (header("x: y"), false, Err(MetaError::Header)),
            (header("x-api-key"), true, Err(MetaError::HeaderAndNever)),
            (query("key"), true, Ok(())),
            (query(""), false, Err(MetaError::Entry { field: "query parameters", position: 1 })),
            (GrantTerms { runs: Some(0), ..base() }, false, Err(MetaError::Nothing)),
            (GrantTerms { cost_micro_usd: Some(0), ..base() }, false, Err(MetaError::Nothing)),
            (GrantTerms { expires: Some(at(10)), ..base() }, false, Err(MetaError::Expired(at(10)))),
            (GrantTerms { expires: Some(at(11)), ..base() }, false, Ok(())),
        ] {
            assert_eq!(check(&terms, never, now), expected, "{terms:?}");
        }
    }

    #[test]
    fn a_grant_is_over_by_time_runs_or_money() {
        let terms = GrantTerms {
            runs: Some(2),
            cost_micro_usd: Some(500),
            expires: Some(at(10)),
            ..Default::default()
        };
        let grant = |runs, cost_micro_usd| Grant {
            id: GrantId(1),
            terms: terms.clone(),
            used: GrantUse { runs, cost_micro_usd },
        };
        assert_eq!(grant(1, 499).open(at(9)), Ok(()));
        assert_eq!(grant(2, 0).open(at(9)), Err(Spent::Runs(2)));
        // The runs that were let in go on.
        assert_eq!(grant(2, 0).live(at(9)), Ok(()));
        assert_eq!(grant(0, 500).live(at(9)), Err(Spent::Money(500)));
        assert_eq!(grant(0, 0).live(at(10)), Err(Spent::Expired(at(10))));
        let half = at(10) + time::Duration::milliseconds(500);
        assert_eq!(Spent::Expired(half).to_string(), "it expired 1970-01-01T00:00:10Z");
        assert!(MetaError::Expired(half).to_string().contains(": 1970-01-01T00:00:10Z is"));
        assert_eq!((grant(0, 120).money_left(), grant(0, 900).money_left()), (Some(380), Some(0)));
        let unbounded = Grant { terms: GrantTerms::default(), ..grant(u64::MAX, u64::MAX) };
        assert_eq!((unbounded.open(at(99)), unbounded.money_left()), (Ok(()), None));
    }

    #[test]
    fn money_is_written_as_people_do() {
        for (micros, text) in
            [(0, "0.00"), (500_000, "0.50"), (12_000_000, "12.00"), (1, "0.000001"), (1_250_000, "1.25")]
        {
            assert_eq!(usd(micros), text);
        }
    }

    #[test]
    fn a_restriction_of_a_later_version_is_not_overlooked() {
        let text = r#"{"host":"a.example","weekdays":["monday"]}"#;
        assert!(serde_json::from_str::<GrantTerms>(text).is_err());
        let terms: GrantTerms = serde_json::from_str(r#"{"host":"a.example","expires":5}"#).unwrap();
        assert_eq!(terms.expires, Some(at(5)));
    }
}
