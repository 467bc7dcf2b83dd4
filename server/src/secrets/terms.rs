//! What the owner of a secret says about it, before it is checked: the words of the HTTP contract, which flags become.

use std::str::FromStr;

use http::{HeaderName, Method, header};
use orch_manifests::{AgentName, Catalog, HostPattern, MicroUsd, PathGlob, Provider};
use orch_vault::{GrantTerms, SecretMeta, SecretName, ValuePlace};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::failure::Failure;
use crate::owner::account_entry;
use crate::redact;

/// Fields that a value cannot stand in: the connection's own, and those that the proxy writes or takes out.
static NO_PLACES: [HeaderName; 11] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
    header::RANGE,
    header::ACCEPT_ENCODING,
    header::PROXY_AUTHORIZATION,
];

/// What is said about a new value.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Where it may go, and for whom; none: as it was said before, if it was.
    pub grants: Option<Vec<GrantSaid>>,
    /// Whether it may have line breaks. It then never goes into a header.
    pub multiline: bool,
    /// When it expires.
    pub expires: Option<OffsetDateTime>,
    /// Whether it may be too short to be cleaned out of responses.
    pub allow_short: bool,
}

/// One grant. What is left out does not narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrantSaid {
    /// The host, or a pattern such as `*.example.com`.
    pub host: Option<String>,
    /// The methods.
    pub methods: Vec<String>,
    /// Patterns of paths.
    pub paths: Vec<String>,
    /// Where in the request; the header `authorization` when nothing is said.
    pub place: Option<ValuePlace>,
    /// Of a provider's key: requests to its account, as `GET:/v1/files/**`.
    pub account: Vec<String>,
    /// The agents (`org/name`).
    pub agents: Vec<String>,
    /// How many runs.
    pub runs: Option<u64>,
    /// How much model calls may cost, in US dollars.
    #[serde(with = "dollars")]
    pub max_cost_usd: Option<MicroUsd>,
    /// Until when.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
}

impl Terms {
    /// Checks what is said about the secret `name`, and writes it as the vault has it.
    ///
    /// # Errors
    /// As [`GrantSaid::check`], and line breaks in a provider's key.
    pub fn check(self, name: &SecretName, catalog: &Catalog) -> Result<SecretMeta, Failure> {
        let Self { grants, multiline, expires, allow_short } = self;
        if let (true, Some(provider)) = (multiline, catalog.provider_of_key(name.as_str())) {
            return Err(wrong(format!(
                "{name} is {}'s key, which goes into a header; no header has line breaks",
                provider.name
            )));
        }
        let check =
            |grants: Vec<GrantSaid>| grants.into_iter().map(|said| said.check(name, catalog)).collect();
        let grants = grants.map(check).transpose()?;
        Ok(SecretMeta { grants, never_in_header: multiline, expires, scrubbable: !allow_short })
    }
}

impl GrantSaid {
    /// Checks a grant of the secret `name`, and writes it as the vault has it.
    ///
    /// # Errors
    /// A part that is not what it should be, a place for a provider's key, whose place the catalog decides, or none, or
    /// money, for any other.
    pub fn check(self, name: &SecretName, catalog: &Catalog) -> Result<GrantTerms, Failure> {
        let Self { host, methods, paths, place, account, agents, runs, max_cost_usd, expires } = self;
        let (host, place) = match catalog.provider_of_key(name.as_str()) {
            Some(provider) => {
                if host.is_some() || !methods.is_empty() || !paths.is_empty() || place.is_some() {
                    return Err(placed_by_catalog(name, provider));
                }
                let bounds = agents.is_empty() && runs.is_none() && max_cost_usd.is_none();
                if bounds && expires.is_none() && account.is_empty() {
                    return Err(wrong(format!("a grant of {name} says for whom, or how much"))
                        .hint(format!("orch secrets grants add {name} --agent ORG/NAME --max-cost 5.00")));
                }
                (None, None)
            }
            None => {
                if !account.is_empty() {
                    return Err(wrong(format!("{name} is no provider's key, and has no account"))
                        .hint("--host, --method and --path say where it may go"));
                }
                if max_cost_usd.is_some() {
                    return Err(wrong(format!(
                        "money is counted for model calls, and {name} is no provider's key: a cost does not bound it"
                    ))
                    .hint("bound it by runs: --runs 10"));
                }
                let host = host.ok_or_else(|| {
                    wrong(format!("a grant says where {name} may go: it needs a host"))
                        .hint("--host api.example.com")
                })?;
                (Some(checked_host(&host)?), Some(checked_place(place)?))
            }
        };
        Ok(GrantTerms {
            host,
            methods: all(&methods, checked_method)?,
            paths: all(&paths, |path| parsed::<PathGlob>("path", path))?,
            place,
            account: all(&account, checked_account)?,
            agents: all(&agents, |agent| parsed::<AgentName>("agent", agent))?,
            runs,
            cost_micro_usd: max_cost_usd.map(MicroUsd::micros),
            expires,
        })
    }
}

impl From<&GrantTerms> for GrantSaid {
    /// The same words again.
    fn from(terms: &GrantTerms) -> Self {
        let GrantTerms { host, methods, paths, place, account, agents, .. } = terms.clone();
        let GrantTerms { runs, cost_micro_usd, expires, .. } = *terms;
        let max_cost_usd = cost_micro_usd.map(MicroUsd);
        Self { host, methods, paths, place, account, agents, runs, max_cost_usd, expires }
    }
}

/// Each text as it is kept, once.
fn all(texts: &[String], check: impl Fn(&str) -> Result<String, Failure>) -> Result<Vec<String>, Failure> {
    let mut checked = Vec::with_capacity(texts.len());
    for text in texts {
        let text = check(text)?;
        if !checked.contains(&text) {
            checked.push(text);
        }
    }
    Ok(checked)
}

fn parsed<T>(what: &str, text: &str) -> Result<String, Failure>
where
    T: FromStr + ToString,
    T::Err: std::fmt::Display,
{
    let parsed: T = text.parse().map_err(|e| wrong(format!("the {what} {text:?}: {e}")))?;
    Ok(parsed.to_string())
}

/// A host that the proxy lets a secret go to. What may be a value in the wrong place is not repeated.
fn checked_host(text: &str) -> Result<String, Failure> {
    if redact::keys(text).next().is_some() {
        return Err(wrong("that looks like a key, and a host belongs in its place".to_owned())
            .hint("--host api.example.com")
            .hint(
                "a key that was written on a command line or in a URL is in histories and logs: replace it",
            ));
    }
    let pattern: HostPattern = text.parse().map_err(|e| wrong(format!("the host {text:?}: {e}")))?;
    if let Some(reason) = pattern.base().local_reason() {
        let said = if text.contains('.') { format!("the host {text:?}") } else { "the host".to_owned() };
        return Err(wrong(format!("{said} gets no secret: {reason}")).hint("--host api.example.com"));
    }
    Ok(pattern.to_string())
}

/// Methods are told apart by case (RFC 9110, section 9.1); nobody means another one by `get`.
fn checked_method(text: &str) -> Result<String, Failure> {
    let method = text.to_ascii_uppercase().parse::<Method>();
    match method {
        Ok(Method::CONNECT | Method::TRACE) => {
            Err(wrong(format!("no secret goes along with {}", text.to_ascii_uppercase())))
        }
        Ok(method) => Ok(method.to_string()),
        Err(_) => Err(wrong(format!("{text:?} is not the name of a method"))),
    }
}

fn checked_account(text: &str) -> Result<String, Failure> {
    let (method, path) = account_entry(text).map_err(|why| {
        wrong(format!("the account's request {text:?}: {why}")).hint("--account \"GET:/v1/files/**\"")
    })?;
    Ok(format!("{method}:{path}"))
}

fn checked_place(place: Option<ValuePlace>) -> Result<ValuePlace, Failure> {
    match place {
        None => Ok(ValuePlace::Header(header::AUTHORIZATION.to_string())),
        Some(ValuePlace::Header(text)) => {
            let name: HeaderName =
                text.parse().map_err(|_| wrong(format!("{text:?} is not the name of a header")))?;
            match NO_PLACES.contains(&name) {
                true => Err(wrong(format!("the header {name} is the connection's, and carries no secret"))),
                false => Ok(ValuePlace::Header(name.to_string())),
            }
        }
        Some(ValuePlace::Query(name)) if name.is_empty() => {
            Err(wrong("the parameter of the query has no name".to_owned()))
        }
        Some(query) => Ok(query),
    }
}

fn placed_by_catalog(name: &SecretName, provider: &Provider) -> Failure {
    wrong(format!(
        "{name} is {}'s key and goes to {} only; host, method, path and place do not apply",
        provider.name, provider.endpoint.host
    ))
}

fn wrong(why: String) -> Failure {
    Failure::usage("bad_usage", why)
}

/// Money as JSON has it: a number of dollars, with at most six decimals.
mod dollars {
    use orch_manifests::MicroUsd;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        money: &Option<MicroUsd>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        money.map(|money| crate::run::dollars(money.micros())).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<MicroUsd>, D::Error> {
        // The shortest decimal text of a number is the one that was written.
        let dollars = Option::<f64>::deserialize(deserializer)?;
        dollars.map(|dollars| dollars.to_string().parse().map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(json: &str) -> GrantSaid {
        serde_json::from_str(json).expect("a grant")
    }

    #[test]
    fn a_grant_is_written_as_the_vault_has_it() {
        let catalog = Catalog::builtin();
        let name: SecretName = "TOKEN".parse().expect("a name");
        let said = terms(
            r#"{"host":"API.Example.com","methods":["get","GET","post"],"paths":["/v1/**"],
                "place":{"header":"X-Api-Key"},"agents":["acme/x"],"runs":3,"expires":"2090-01-31T12:00:00Z"}"#,
        );
        let kept = said.check(&name, &catalog).expect("terms");
        assert_eq!(kept.host.as_deref(), Some("api.example.com"));
        assert_eq!(
            (kept.methods.as_slice(), kept.runs),
            (&["GET".to_owned(), "POST".to_owned()][..], Some(3))
        );
        assert_eq!(kept.place, Some(ValuePlace::Header("x-api-key".to_owned())));
        // What is said again in its words is the same.
        assert_eq!(GrantSaid::from(&kept).check(&name, &catalog).expect("terms"), kept);
        let plain = terms(r#"{"host":"*.example.com"}"#).check(&name, &catalog).expect("terms");
        assert_eq!(plain.place, Some(ValuePlace::Header("authorization".to_owned())));
        let query = terms(r#"{"host":"a.example","place":{"query":"key"}}"#);
        let query = query.check(&name, &catalog).expect("terms");
        assert_eq!(query.place, Some(ValuePlace::Query("key".to_owned())));
    }

    #[test]
    fn what_is_refused_row_by_row() {
        let catalog = Catalog::builtin();
        for (name, said, why) in [
            ("TOKEN", "{}", "it needs a host"),
            ("TOKEN", r#"{"agents":["acme/x"]}"#, "it needs a host"),
            ("TOKEN", r#"{"host":"*"}"#, "the host"),
            ("TOKEN", r#"{"host":"*.com"}"#, "the host"),
            ("TOKEN", r#"{"host":"10.0.0.1"}"#, "the host"),
            ("TOKEN", r#"{"host":"https://a.example"}"#, "the host"),
            ("TOKEN", r#"{"host":"localhost"}"#, "are this machine"),
            ("TOKEN", r#"{"host":"printer.local"}"#, "the local network"),
            ("TOKEN", r#"{"host":"*.corp.internal"}"#, "are private"),
            ("TOKEN", r#"{"host":"hunter2"}"#, "the host gets no secret: a name without a dot"),
            ("TOKEN", r#"{"host":"sk-proj-4eC39HqLyjWDarjtT1zdp7dc"}"#, "looks like a key"),
            ("TOKEN", r#"{"host":"a.example","methods":["G T"]}"#, "is not the name of a method"),
            ("TOKEN", r#"{"host":"a.example","methods":["connect"]}"#, "CONNECT"),
            ("TOKEN", r#"{"host":"a.example","methods":["TRACE"]}"#, "TRACE"),
            ("TOKEN", r#"{"host":"a.example","paths":["v1"]}"#, "the path"),
            ("TOKEN", r#"{"host":"a.example","agents":["nobody"]}"#, "the agent"),
            ("TOKEN", r#"{"host":"a.example","place":{"header":"a b"}}"#, "is not the name of a header"),
            ("TOKEN", r#"{"host":"a.example","place":{"header":""}}"#, "is not the name of a header"),
            ("TOKEN", r#"{"host":"a.example","place":{"header":"Host"}}"#, "is the connection's"),
            ("TOKEN", r#"{"host":"a.example","place":{"query":""}}"#, "has no name"),
            ("TOKEN", r#"{"host":"a.example","max_cost_usd":1}"#, "money is counted for model calls"),
            ("OPENAI_API_KEY", "{}", "says for whom"),
            ("TOKEN", r#"{"host":"a.example","account":["GET:/v1/files"]}"#, "has no account"),
            ("OPENAI_API_KEY", r#"{"account":["/v1/files"]}"#, "it is not METHOD:PATH"),
            ("OPENAI_API_KEY", r#"{"account":["TRACE:/v1/files"]}"#, "its method"),
            ("OPENAI_API_KEY", r#"{"account":["GET:v1/files"]}"#, "its path"),
            ("OPENAI_API_KEY", r#"{"host":"a.example"}"#, "api.openai.com only"),
            ("OPENAI_API_KEY", r#"{"methods":["GET"]}"#, "api.openai.com only"),
            ("OPENAI_API_KEY", r#"{"paths":["/**"]}"#, "api.openai.com only"),
            ("OPENAI_API_KEY", r#"{"place":{"query":"key"}}"#, "api.openai.com only"),
        ] {
            let name: SecretName = name.parse().expect("a name");
            let failure = terms(said).check(&name, &catalog).expect_err(said);
            assert_eq!(failure.code(), "bad_usage", "{said}");
            assert!(failure.message().contains(why), "{said}: {failure}");
            assert!(!failure.to_string().contains("4eC39"), "{failure}");
        }
        let key: SecretName = "OPENAI_API_KEY".parse().expect("a name");
        let kept = terms(r#"{"agents":["acme/x"],"max_cost_usd":0.5}"#).check(&key, &catalog).expect("terms");
        assert_eq!((kept.host, kept.place, kept.cost_micro_usd), (None, None, Some(500_000)));
        let files = terms(r#"{"account":["get:/v1/files/**","GET:/v1/files/**"]}"#);
        let files = files.check(&key, &catalog).expect("terms");
        assert_eq!(files.account, ["GET:/v1/files/**"]);
        assert_eq!(GrantSaid::from(&files).check(&key, &catalog).expect("terms"), files);
        assert!(Terms { multiline: true, ..Terms::default() }.check(&key, &catalog).is_err());
    }

    #[test]
    fn money_is_a_number_of_dollars() {
        for (text, micros) in
            [("0.5", 500_000), ("5", 5_000_000), ("0.000001", 1), ("1234.56", 1_234_560_000)]
        {
            let said = terms(&format!(r#"{{"max_cost_usd":{text}}}"#));
            assert_eq!(said.max_cost_usd, Some(MicroUsd(micros)), "{text}");
            let again: GrantSaid =
                serde_json::from_value(serde_json::to_value(&said).expect("JSON")).expect("a grant");
            assert_eq!(again, said);
        }
        for bad in ["-1", "0.0000001", "1e300", "\"5\"", "true"] {
            let text = format!(r#"{{"max_cost_usd":{bad}}}"#);
            assert!(serde_json::from_str::<GrantSaid>(&text).is_err(), "{bad}");
        }
    }
}
