//! Who may talk to whom: a pure function over parsed values. No I/O, no clock, no counters.

use http::Method;
use orch_manifests::{CanonicalPath, EgressWant, HostName, HostPattern, PathGlob, Scheme};
use serde::Serialize;

mod connect;
mod index;
mod missing;

pub use connect::decide_connect;
pub use index::RuleIndex;
pub use missing::RuleMissing;

/// One thing that a run may do. Every field narrows; there is no field that widens.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// Exactly this host, or its subdomains.
    pub host: HostPattern,
    /// TCP port.
    pub port: u16,
    /// Which methods.
    pub methods: Methods,
    /// Which paths; empty means any.
    pub paths: Vec<PathGlob>,
    /// Who wrote the rule.
    pub origin: RuleOrigin,
}

impl Rule {
    /// What a manifest's `egress` item asks for, as if it was granted.
    #[must_use]
    pub fn of_want(want: &EgressWant, origin: RuleOrigin) -> Self {
        Self {
            scheme: want.scheme,
            host: want.host.clone(),
            port: want.effective_port(),
            methods: Methods::from(want.methods.clone()),
            paths: want.paths.clone(),
            origin,
        }
    }
}

/// Where a secret may go: the same five things as a [`Rule`], said by the secret's owner.
#[derive(Debug, Clone)]
pub struct Target {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// Exactly this host, or its subdomains.
    pub host: HostPattern,
    /// TCP port.
    pub port: u16,
    /// Which methods.
    pub methods: Methods,
    /// Which paths; empty means any.
    pub paths: Vec<PathGlob>,
}

/// A set of methods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Methods {
    /// Every method that the proxy forwards at all.
    Any,
    /// These and no other.
    Only(Vec<Method>),
}

impl Methods {
    /// Whether `method` is in the set. Methods are case-sensitive (RFC 9110, section 9.1).
    #[must_use]
    pub fn contains(&self, method: &Method) -> bool {
        match self {
            Self::Any => true,
            Self::Only(methods) => methods.contains(method),
        }
    }
}

impl From<Vec<Method>> for Methods {
    /// As manifests have it: none named means any.
    fn from(methods: Vec<Method>) -> Self {
        if methods.is_empty() { Self::Any } else { Self::Only(methods) }
    }
}

/// Who wrote a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleOrigin {
    /// The agent asked and was granted.
    Manifest,
    /// `--allow` or `--secret` on the command line.
    Flag,
    /// `egress.allow` in the operator's configuration.
    Config,
    /// The provider catalog.
    Catalog,
    /// The agent asked for paths of a provider's account, and was granted them.
    Account,
    /// A simulation's scenario.
    Scenario,
}

/// A parsed request, as far as policy cares.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// The one authority's host.
    pub host: &'a HostName,
    /// The one authority's port.
    pub port: u16,
    /// The method.
    pub method: &'a Method,
    /// The path as it will go upstream.
    pub path: &'a CanonicalPath,
}

/// What policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go ahead.
    Allow {
        /// Index of the first rule that allows it.
        rule: usize,
    },
    /// No.
    Deny(Reason),
}

/// Why not: for a program, for a person, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Stable word.
    pub code: &'static str,
    /// One sentence without control characters.
    pub text: String,
    /// A line for the manifest or the command line that would allow exactly this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The same as fields; none where no rule could allow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_missing: Option<Box<RuleMissing>>,
}

impl Reason {
    pub(crate) fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), next: None, rule_missing: None }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Says whether `rules` allow `asked`. No rules allow nothing.
#[must_use]
pub fn decide(rules: &[Rule], asked: &Asked<'_>) -> Verdict {
    if let Some(reason) = refused_name(asked.host) {
        return Verdict::Deny(reason);
    }
    let mut nearest = Miss::Host;
    for (index, rule) in rules.iter().enumerate() {
        match miss(rule, asked) {
            None => return Verdict::Allow { rule: index },
            Some(miss) => nearest = nearest.max(miss),
        }
    }
    Verdict::Deny(explain(nearest, rules, asked))
}

/// The rule that comes nearest to allowing `asked` of those that name its host, and what about it does not fit: the first
/// of several that are equally near. None when no rule names the host, or one allows it.
#[must_use]
pub fn nearest(rules: &[Rule], asked: &Asked<'_>) -> Option<(usize, Miss)> {
    let mut nearest: Option<(usize, Miss)> = None;
    for (index, rule) in rules.iter().enumerate() {
        let miss = miss(rule, asked)?;
        if miss > nearest.map_or(Miss::Host, |(_, miss)| miss) {
            nearest = Some((index, miss));
        }
    }
    nearest
}

/// Whether a rule allows `asked` that would allow it with any method and path.
pub(crate) fn allowed_as_a_whole(rules: &[Rule], asked: &Asked<'_>) -> bool {
    rules.iter().any(|rule| !narrows(&rule.methods, &rule.paths) && miss(rule, asked).is_none())
}

/// The same for the targets of a binding.
pub(crate) fn covered_as_a_whole(targets: &[Target], asked: &Asked<'_>) -> bool {
    targets.iter().any(|target| !narrows(&target.methods, &target.paths) && target.covers(asked))
}

fn narrows(methods: &Methods, paths: &[PathGlob]) -> bool {
    *methods != Methods::Any || !paths.is_empty()
}

impl Target {
    /// Whether the secret may go with this request.
    #[must_use]
    pub fn covers(&self, asked: &Asked<'_>) -> bool {
        self.scheme == asked.scheme
            && self.host.matches(asked.host)
            && self.port == asked.port
            && self.methods.contains(asked.method)
            && covers_path(&self.paths, asked.path)
    }
}

fn covers_path(globs: &[PathGlob], path: &CanonicalPath) -> bool {
    globs.is_empty() || globs.iter().any(|glob| glob.matches(path))
}

/// The first thing about a rule that does not fit, in the order in which a person would fix it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Miss {
    /// It is about other hosts.
    Host,
    /// It is about the other scheme.
    Scheme,
    /// It is about another port.
    Port,
    /// It does not hold for the method.
    Method,
    /// It does not hold for the path.
    Path,
}

impl Miss {
    /// The word for it: the field of a manifest's item that would have to change.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Scheme => "scheme",
            Self::Port => "port",
            Self::Method => "methods",
            Self::Path => "paths",
        }
    }
}

fn miss(rule: &Rule, asked: &Asked<'_>) -> Option<Miss> {
    if !rule.host.matches(asked.host) {
        Some(Miss::Host)
    } else if rule.scheme != asked.scheme {
        Some(Miss::Scheme)
    } else if rule.port != asked.port {
        Some(Miss::Port)
    } else if !rule.methods.contains(asked.method) {
        Some(Miss::Method)
    } else if !covers_path(&rule.paths, asked.path) {
        Some(Miss::Path)
    } else {
        None
    }
}

fn explain(nearest: Miss, rules: &[Rule], asked: &Asked<'_>) -> Reason {
    let Asked { scheme, host, port, method, path } = asked;
    let (code, text) = match nearest {
        Miss::Host if rules.is_empty() => {
            ("nothing_allowed", format!("{host} is not allowed: this run has no egress rules"))
        }
        Miss::Host => ("host_not_allowed", format!("{host} is not allowed: no egress rule names it")),
        Miss::Scheme => ("scheme_not_allowed", format!("{scheme} to {host} is not allowed")),
        Miss::Port => ("port_not_allowed", format!("port {port} of {host} is not allowed")),
        Miss::Method => ("method_not_allowed", format!("{method} to {host} is not allowed")),
        Miss::Path => ("path_not_allowed", format!("{method} {} at {host} is not allowed", path.path())),
    };
    let missing = RuleMissing::for_request(asked);
    Reason { code, text, next: Some(missing.line()), rule_missing: Some(Box::new(missing)) }
}

/// Names that mean "here" or "inside" wherever they resolve.
pub(crate) fn refused_name(host: &HostName) -> Option<Reason> {
    // Resolves to a metadata address only inside the cloud, so the address table alone would look like an outage.
    let metadata = host.as_str() == "metadata.goog" || host.as_str().ends_with(".metadata.goog");
    let why = if metadata { Some("it is a cloud metadata service") } else { host.local_reason() };
    why.map(|why| Reason::new("name_refused", format!("{host} is refused: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(host: &str) -> Rule {
        Rule {
            scheme: Scheme::Https,
            host: host.parse().unwrap(),
            port: 443,
            methods: Methods::Any,
            paths: Vec::new(),
            origin: RuleOrigin::Manifest,
        }
    }

    fn verdict(rules: &[Rule], method: &Method, host: &str, path: &str) -> Verdict {
        let (host, path) = (host.parse().unwrap(), CanonicalPath::parse(path).unwrap());
        decide(rules, &Asked { scheme: Scheme::Https, host: &host, port: 443, method, path: &path })
    }

    fn code(verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Allow { .. } => "allowed",
            Verdict::Deny(reason) => reason.code,
        }
    }

    #[test]
    fn the_first_rule_that_fits_is_named() {
        let rules = [rule("a.example.com"), rule("*.example.com"), rule("b.example.com")];
        assert_eq!(verdict(&rules, &Method::GET, "b.example.com", "/"), Verdict::Allow { rule: 1 });
        assert_eq!(verdict(&rules, &Method::GET, "a.example.com", "/"), Verdict::Allow { rule: 0 });
        assert_eq!(code(verdict(&rules, &Method::GET, "example.com", "/")), "host_not_allowed");
        assert_eq!(code(verdict(&rules, &Method::GET, "aexample.com", "/")), "host_not_allowed");
    }

    #[test]
    fn the_nearest_miss_is_the_reason() {
        let mut get = rule("a.example.com");
        get.methods = vec![Method::GET].into();
        get.paths = vec!["/v1/*".parse().unwrap()];
        let mut far = rule("a.example.com");
        far.port = 8443;
        for rules in [[get.clone(), far.clone()], [far, get]] {
            assert_eq!(code(verdict(&rules, &Method::POST, "a.example.com", "/v1/x")), "method_not_allowed");
            assert_eq!(code(verdict(&rules, &Method::GET, "a.example.com", "/v2/x")), "path_not_allowed");
            assert_eq!(code(verdict(&rules, &Method::GET, "a.example.com", "/v1/x")), "allowed");
        }
    }

    #[test]
    fn the_next_step_allows_just_that() {
        let Verdict::Deny(reason) =
            verdict(&[rule("b.example.com")], &Method::PUT, "a.example.com", "/x/\"y")
        else {
            panic!("nothing allows it");
        };
        assert_eq!(reason.next.unwrap(), r#"- { host: a.example.com, methods: [PUT], paths: ["/x/%22y"] }"#);
    }

    #[test]
    fn local_names_are_refused_even_when_a_rule_names_them() {
        for host in [
            "localhost",
            "a.localhost",
            "printer.local",
            "db.internal",
            "metadata.google.internal",
            "intranet",
            "metadata.goog",
        ] {
            assert_eq!(code(verdict(&[rule(host)], &Method::GET, host, "/")), "name_refused", "{host}");
        }
        assert_eq!(
            code(verdict(&[rule("local.example.com")], &Method::GET, "local.example.com", "/")),
            "allowed"
        );
    }

    #[test]
    fn no_methods_named_means_any() {
        assert_eq!(Methods::from(Vec::new()), Methods::Any);
        assert!(!Methods::from(vec![Method::GET]).contains(&Method::HEAD));
    }
}
