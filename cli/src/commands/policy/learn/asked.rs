//! What a run, or a client of `orch proxy`, asked for, read from its decisions: requests that a policy could allow, and those that none can.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use orch_manifests::{CanonicalPath, HostName, Scheme};
use serde_json::Value;

/// Codes of refusals that a rule would have changed.
const FOR_LACK_OF_A_RULE: [&str; 7] = [
    "nothing_allowed",
    "host_not_allowed",
    "scheme_not_allowed",
    "port_not_allowed",
    "method_not_allowed",
    "path_not_allowed",
    "connect_narrowed",
];

/// Methods that a manifest can name.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// The method of a request for a tunnel.
const TUNNEL: &str = "CONNECT";

/// What stands at the end of a path that the record cut short.
const CUT: &str = "...";
/// The length from which on it does.
const CUT_LENGTH: usize = 256;

/// A host as rules name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Origin {
    pub(super) host: HostName,
    pub(super) scheme: Scheme,
    pub(super) port: u16,
}

/// A request that no section can ask for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Left {
    pub(super) what: String,
    pub(super) why: String,
}

/// Everything that a run asked for itself; calls that the gateway made for it are not its own.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// By origin and path, the methods.
    pub(super) asked: BTreeMap<Origin, BTreeMap<String, BTreeSet<String>>>,
    /// Where tunnels lead: nobody can say what went through them.
    pub(super) tunnels: BTreeSet<Origin>,
    pub(super) left: BTreeSet<Left>,
    /// How many requests that were.
    pub(super) requests: usize,
    /// What a policy on trial would have refused.
    pub(super) on_trial: BTreeSet<String>,
    /// How many different things that are.
    kept: usize,
}

impl Record {
    pub(super) fn of(decisions: &[Value]) -> Self {
        let mut record = Self::default();
        decisions.iter().for_each(|decision| record.take(decision));
        record
    }

    /// How many different things are kept, which is what bounds the memory that a record takes.
    pub(super) fn size(&self) -> usize {
        self.kept
    }

    /// Adds a decision. One about a call of the gateway's counts for nothing.
    pub(super) fn take(&mut self, decision: &Value) {
        if decision["maker"] != "guest" {
            return;
        }
        self.requests += 1;
        let text = |field: &str| decision[field].as_str().unwrap_or_default();
        let what = format!("{} {}", text("method"), place(decision));
        if decision["trial"] == "deny" {
            self.kept += usize::from(self.on_trial.insert(what.clone()));
        }
        let reason = &decision["reason"];
        let code = reason["code"].as_str().unwrap_or_default();
        if decision["verdict"] == "denied" && !FOR_LACK_OF_A_RULE.contains(&code) {
            let why = format!("{code}: {}", reason["text"].as_str().unwrap_or_default());
            self.kept += usize::from(self.left.insert(Left { what, why }));
            return;
        }
        if let Err(why) = self.ask(decision) {
            self.kept += usize::from(self.left.insert(Left { what, why }));
        }
    }

    /// Adds what a rule can name; or says why none can.
    fn ask(&mut self, decision: &Value) -> Result<(), String> {
        let origin = origin(decision)?;
        if decision["method"] == TUNNEL {
            self.kept += usize::from(self.tunnels.insert(origin));
        } else {
            let (path, method) = request(decision)?;
            let methods = self.asked.entry(origin).or_default().entry(path).or_default();
            self.kept += usize::from(methods.insert(method));
        }
        Ok(())
    }
}

/// Where a request went, as far as the record says.
fn place(decision: &Value) -> String {
    let text = |field: &str| decision[field].as_str().unwrap_or_default();
    match decision["scheme"].as_str() {
        Some(scheme) => {
            let port = decision["port"].as_u64().unwrap_or_default();
            let usual = (scheme == "https" && port == 443) || (scheme == "http" && port == 80);
            let port = if usual { String::new() } else { format!(":{port}") };
            format!("{scheme}://{}{port}{}", text("host"), text("path"))
        }
        None => text("host").to_owned(),
    }
}

/// Where a request went, as a rule would name it; or why none could.
fn origin(decision: &Value) -> Result<Origin, String> {
    let text = |field: &str| decision[field].as_str().unwrap_or_default();
    let scheme: Scheme = text("scheme").parse().map_err(|_| "where it went is not on record".to_owned())?;
    let host: HostName = text("host").parse().map_err(|error| format!("{error}"))?;
    let port = decision["port"].as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    let port = port.ok_or_else(|| "its port is not on record".to_owned())?;
    Ok(Origin { host, scheme, port })
}

/// Path and method of a decision as a rule would name them; or why none could.
fn request(decision: &Value) -> Result<(String, String), String> {
    let text = |field: &str| decision[field].as_str().unwrap_or_default();
    let method = text("method");
    if !METHODS.iter().any(|known| known.as_str() == method) {
        return Err("a manifest cannot name this method; an item without `methods` allows any".to_owned());
    }
    // A refusal may have more of the path than the decision itself.
    let path = decision["reason"]["rule_missing"]["path"].as_str().unwrap_or(text("path"));
    if path.len() > CUT_LENGTH && path.ends_with(CUT) {
        return Err("its path is too long to be on record whole".to_owned());
    }
    if !CanonicalPath::parse(path).is_ok_and(|canonical| canonical.path() == path) {
        return Err("its path is not on record as it was sent".to_owned());
    }
    Ok((path.to_owned(), method.to_owned()))
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A decision as it is stored.
    pub(in crate::commands::policy::learn) fn decided(method: &str, url: &str, code: Option<&str>) -> Value {
        let url = url::Url::parse(url).expect("a URL");
        json!({
            "maker": "guest", "method": method, "scheme": url.scheme(), "host": url.host_str(),
            "port": url.port_or_known_default(), "path": url.path(),
            "verdict": if code.is_some() { "denied" } else { "allowed" },
            "reason": code.map(|code| json!({ "code": code, "text": "why" })),
        })
    }

    #[test]
    fn what_a_rule_can_allow_is_told_from_what_none_can() {
        let mut gateway = decided("POST", "https://api.openai.com/v1/x", None);
        gateway["maker"] = json!("gateway");
        let mut unparsed = decided("GET", "https://x.example.com/", Some("target_refused"));
        unparsed["scheme"] = Value::Null;
        let mut trial = decided("GET", "https://a.example.com/", None);
        trial["trial"] = json!("deny");
        let mut long = decided("GET", "https://a.example.com/", None);
        long["path"] = json!(format!("/{}...", "a".repeat(255)));
        let record = Record::of(&[
            gateway,
            unparsed,
            trial,
            long,
            decided("PUT", "https://a.example.com/", Some("host_not_allowed")),
            decided("GET", "https://localhost/", Some("name_refused")),
            decided("PROPFIND", "https://a.example.com/", Some("host_not_allowed")),
            decided("GET", "https://a.example.com/", Some("limit_reached")),
        ]);
        assert_eq!((record.requests, record.asked.len(), record.left.len()), (7, 1, 5), "{record:#?}");
        let paths = record.asked.values().next().expect("an origin");
        assert_eq!(paths["/"], BTreeSet::from(["GET".to_owned(), "PUT".to_owned()]));
        assert_eq!(record.on_trial, BTreeSet::from(["GET https://a.example.com/".to_owned()]));
    }

    #[test]
    fn a_tunnel_is_asked_for_by_its_host() {
        let mut tunnels = [
            decided("CONNECT", "https://a.example.com/", None),
            decided("CONNECT", "https://b.example.com:8443/", Some("host_not_allowed")),
            decided("CONNECT", "https://c.example.com/", Some("connect_narrowed")),
            decided("CONNECT", "https://d.example.com/", Some("sni_mismatch")),
        ];
        tunnels.iter_mut().for_each(|tunnel| tunnel["path"] = json!(""));
        let record = Record::of(&tunnels);
        let hosts: Vec<&str> = record.tunnels.iter().map(|origin| origin.host.as_str()).collect();
        assert_eq!(hosts, ["a.example.com", "b.example.com", "c.example.com"]);
        assert_eq!((record.asked.len(), record.left.len(), record.requests), (0, 1, 4), "{record:#?}");
    }

    #[test]
    fn a_refusal_knows_the_whole_of_a_long_path() {
        let mut long = decided("GET", "https://a.example.com/", Some("host_not_allowed"));
        let path = format!("/{}", "a".repeat(300));
        long["path"] = json!(format!("{}...", &path[..256]));
        long["reason"]["rule_missing"] = json!({ "path": path });
        assert!(Record::of(&[long]).asked.values().next().expect("an origin").contains_key(&path));
    }
}
