//! The written form of how a key is proven, of where people go about it, and of the variables that make it up.

use std::collections::BTreeMap;

use http::Method;
use serde::Deserialize;

use crate::catalog::{Check, CheckPlace, CheckRequest, EnvPart, Meaning, Pages};

/// `{none: WHY}`, or `{get: PATH}` or `{post: PATH, body: {…}}` with what answers mean.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckEntry {
    none: Option<String>,
    get: Option<String>,
    post: Option<String>,
    /// Where a path begins.
    #[serde(default)]
    from: FromEntry,
    body: Option<serde_json::Value>,
    #[serde(default)]
    means: BTreeMap<String, MeaningEntry>,
    #[serde(default)]
    blocked: Vec<String>,
    #[serde(default)]
    control: bool,
}

#[derive(Deserialize, Clone, Copy, Default, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum FromEntry {
    /// At the provider's base URL.
    #[default]
    Base,
    /// At its host.
    Host,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum MeaningEntry {
    Valid,
    Restricted,
    OutOfMoney,
    RateLimited,
    Invalid,
    Revoked,
}

impl CheckEntry {
    /// What the entry says; that it says nothing where there is none.
    pub(in crate::catalog) fn or_unknown(entry: Option<Self>) -> Result<Check, String> {
        entry.map_or_else(
            || Ok(Check::Impossible("how it is proven is not known".to_owned())),
            Self::into_check,
        )
    }

    fn into_check(self) -> Result<Check, String> {
        let (method, place) = match (self.none, self.get, self.post) {
            (Some(why), None, None) => return Ok(Check::Impossible(why)),
            (None, Some(place), None) => (Method::GET, place),
            (None, None, Some(place)) => (Method::POST, place),
            _ => return Err("check: exactly one of none, get and post".to_owned()),
        };
        let place = match place.strip_prefix("https://") {
            None if self.from == FromEntry::Host => CheckPlace::On(place),
            None => CheckPlace::Below(place),
            Some(rest) => {
                let (host, path) = rest.split_once('/').ok_or("check: a URL without a path")?;
                let endpoint = format!("https://{host}").parse().map_err(|e| format!("check: {e}"))?;
                CheckPlace::At(endpoint, format!("/{path}"))
            }
        };
        let meaning = |entry| match entry {
            MeaningEntry::Valid => Meaning::Valid,
            MeaningEntry::Restricted => Meaning::Restricted,
            MeaningEntry::OutOfMoney => Meaning::OutOfMoney,
            MeaningEntry::RateLimited => Meaning::RateLimited,
            MeaningEntry::Invalid => Meaning::Invalid,
            MeaningEntry::Revoked => Meaning::Revoked,
        };
        Ok(Check::Asks(CheckRequest {
            method,
            place,
            body: self.body.map(|body| body.to_string()),
            means: self.means.into_iter().map(|(sign, entry)| (sign, meaning(entry))).collect(),
            blocked: self.blocked,
            control: self.control,
        }))
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct PagesEntry {
    keys: Option<String>,
    billing: Option<String>,
}

impl PagesEntry {
    pub(in crate::catalog) fn into_pages(self) -> Pages {
        Pages { keys: self.keys, billing: self.billing }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EnvPartEntry {
    field: String,
    names: Vec<String>,
    form: Option<String>,
    #[serde(default)]
    required: bool,
}

impl EnvPartEntry {
    pub(in crate::catalog) fn into_part(self) -> EnvPart {
        EnvPart { field: self.field, names: self.names, form: self.form, required: self.required }
    }
}
