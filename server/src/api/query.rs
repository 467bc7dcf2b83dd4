//! The query of a request.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::failure::Failure;

/// Names and values, each name once.
#[derive(Debug)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    /// Reads a query in which only `known` names may stand, each once.
    ///
    /// # Errors
    /// `bad_query` with the name of what is wrong.
    pub(super) fn parse(text: &str, known: &[&str]) -> Result<Self, Failure> {
        let mut pairs = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if !known.contains(&&*name) {
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(wrong(&name, "is not known here").hint(format!("known: {known}")));
            }
            if pairs.insert(name.clone().into_owned(), Cow::into_owned(value)).is_some() {
                return Err(wrong(&name, "is said twice"));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of a name, as it stands; empty when it has none.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of a name; an empty one counts as none.
    ///
    /// # Errors
    /// When it is not what it should be.
    pub(super) fn value<T>(&self, name: &str) -> Result<Option<T>, Failure>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        let text = self.text(name).filter(|text| !text.is_empty());
        text.map(|text| text.parse().map_err(|e| wrong(name, &format!("{text:?}: {e}")))).transpose()
    }

    /// A time: RFC 3339, or a date, which is its beginning in UTC.
    ///
    /// # Errors
    /// When it is neither.
    pub(super) fn time(&self, name: &str) -> Result<Option<OffsetDateTime>, Failure> {
        let Some(text) = self.text(name).filter(|text| !text.is_empty()) else { return Ok(None) };
        let date = || OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339);
        OffsetDateTime::parse(text, &Rfc3339)
            .or_else(|_| date())
            .map(Some)
            .map_err(|_| wrong(name, &format!("{text:?} is neither 2026-01-31 nor 2026-01-31T12:00:00Z")))
    }

    /// Whether the answer is to be CSV, which `format=csv` says.
    ///
    /// # Errors
    /// When it is to be something else than that or JSON.
    pub(super) fn csv(&self) -> Result<bool, Failure> {
        match self.text("format") {
            None | Some("" | "json") => Ok(false),
            Some("csv") => Ok(true),
            Some(_) => Err(wrong("format", "is json or csv")),
        }
    }

    /// Whether something is wanted that is said with its name alone, or with true; `usual` when nothing is said.
    ///
    /// # Errors
    /// When it is neither true nor false.
    pub(super) fn flag(&self, name: &str, usual: bool) -> Result<bool, Failure> {
        match self.text(name) {
            None => Ok(usual),
            Some("" | "true") => Ok(true),
            Some("false") => Ok(false),
            Some(_) => Err(wrong(name, "is true or false")),
        }
    }

    /// A bound on how many, `usual` when none is said.
    ///
    /// # Errors
    /// When it is none, or not between 1 and `most`.
    pub(super) fn limit(&self, usual: u32, most: u32) -> Result<u32, Failure> {
        match self.value("limit")? {
            None => Ok(usual),
            Some(limit) if (1..=most).contains(&limit) => Ok(limit),
            Some(_) => Err(wrong("limit", &format!("is from 1 to {most}"))),
        }
    }
}

pub(super) fn wrong(name: &str, why: &str) -> Failure {
    Failure::usage("bad_query", format!("the query's `{name}`: {why}")).detail("field", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_and_said_once_is_taken() {
        let query = Query::parse("limit=5&wait&agent=a%2Fb", &["limit", "wait", "agent"]).expect("a query");
        assert_eq!(query.limit(50, 100).expect("a limit"), 5);
        assert_eq!((query.text("wait"), query.text("agent")), (Some(""), Some("a/b")));
        assert_eq!(query.value::<u64>("wait").expect("none"), None);
        let flags = Query::parse("now&check=false&odd=no", &["now", "check", "odd"]).expect("a query");
        assert_eq!(
            ["now", "check", "none"].map(|name| flags.flag(name, true).ok()),
            [Some(true), Some(false), Some(true)]
        );
        assert_eq!(flags.flag("odd", true).expect_err("odd").details()["field"], "odd");
        for (text, field) in [("x=1", "x"), ("limit=1&limit=2", "limit")] {
            let failure = Query::parse(text, &["limit"]).expect_err(text);
            assert_eq!((failure.code(), &failure.details()["field"]), ("bad_query", &field.into()));
        }
        for text in ["limit=0", "limit=101", "limit=-1", "limit=x", "limit=99999999999"] {
            assert!(Query::parse(text, &["limit"]).expect("a query").limit(50, 100).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_is_a_date_or_more() {
        let time =
            |text: &str| Query::parse(&format!("since={text}"), &["since"]).expect("a query").time("since");
        let midnight = time("2026-01-31").expect("a date").expect("said");
        assert_eq!(time("2026-01-31T01:00:00%2B01:00").expect("a time").expect("said"), midnight);
        assert_eq!(time("").expect("nothing"), None);
        for text in ["yesterday", "2026-13-01", "2026-01-31T00:00:00", "20260131"] {
            assert_eq!(time(text).expect_err(text).code(), "bad_query");
        }
    }
}
