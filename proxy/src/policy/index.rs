//! The same verdict without asking every rule: only those whose host fits can allow a request or come close to it.

use std::collections::HashMap;

use orch_manifests::{HostName, HostPattern};

use super::connect::decide_among;
use super::{Asked, Miss, Rule, Verdict, decide_connect, explain, miss, refused_name};

/// So few rules are asked sooner than looked up.
const FEW: usize = 16;

/// Which rules are about which hosts. Belongs to the rules that it was made of, in their order.
#[derive(Debug, Default)]
pub struct RuleIndex(Option<ByHost>);

#[derive(Debug, Default)]
struct ByHost {
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By what the hosts are below.
    below: HashMap<Box<str>, Vec<usize>>,
}

impl RuleIndex {
    /// Of these rules.
    #[must_use]
    pub fn new(rules: &[Rule]) -> Self {
        if rules.len() <= FEW {
            return Self(None);
        }
        let mut by_host = ByHost::default();
        for (index, rule) in rules.iter().enumerate() {
            let (map, name) = match &rule.host {
                HostPattern::Exact(name) => (&mut by_host.exact, name),
                HostPattern::Subdomains(name) => (&mut by_host.below, name),
            };
            map.entry(name.as_str().into()).or_default().push(index);
        }
        Self(Some(by_host))
    }

    /// What [`decide`](super::decide) says about the rules that this was made of: the same verdict, with the same rule or
    /// reason.
    #[must_use]
    pub fn decide(&self, rules: &[Rule], asked: &Asked<'_>) -> Verdict {
        if let Some(reason) = refused_name(asked.host) {
            return Verdict::Deny(reason);
        }
        match self.find(rules, asked) {
            Ok(rule) => Verdict::Allow { rule },
            Err(nearest) => Verdict::Deny(explain(nearest, rules, asked)),
        }
    }

    /// Whether [`RuleIndex::decide`] allows it, without the words for why not.
    pub(crate) fn allows(&self, rules: &[Rule], asked: &Asked<'_>) -> bool {
        refused_name(asked.host).is_none() && self.find(rules, asked).is_ok()
    }

    /// What [`decide_connect`](super::decide_connect) says, in the same way.
    pub(crate) fn decide_connect(&self, rules: &[Rule], host: &HostName, port: u16) -> Verdict {
        match &self.0 {
            None => decide_connect(rules, host, port),
            Some(by_host) => decide_among(rules, by_host.about(host), host, port),
        }
    }

    fn find(&self, rules: &[Rule], asked: &Asked<'_>) -> Result<usize, Miss> {
        match &self.0 {
            None => find_among(rules, 0..rules.len(), asked),
            // Every other rule misses by its host, which is the farthest.
            Some(by_host) => find_among(rules, by_host.about(asked.host), asked),
        }
    }
}

/// The first of the rules in these places that allows it, or how near the nearest comes.
fn find_among(
    rules: &[Rule],
    places: impl IntoIterator<Item = usize>,
    asked: &Asked<'_>,
) -> Result<usize, Miss> {
    let mut nearest = Miss::Host;
    for place in places {
        // The rules are those that the index was made of.
        let Some(rule) = rules.get(place) else { break };
        match miss(rule, asked) {
            None => return Ok(place),
            Some(miss) => nearest = nearest.max(miss),
        }
    }
    Err(nearest)
}

impl ByHost {
    /// The places of the rules about a host, in order.
    fn about(&self, host: &HostName) -> Vec<usize> {
        let name = host.as_str();
        let parents = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
        let below = parents.filter_map(|parent| self.below.get(parent));
        let mut places: Vec<usize> =
            self.exact.get(name).into_iter().chain(below).flatten().copied().collect();
        places.sort_unstable();
        places
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use orch_manifests::{CanonicalPath, Scheme};
    use proptest::prelude::*;

    use super::*;
    use crate::{Methods, RuleOrigin, decide};

    const HOSTS: [&str; 6] =
        ["a.example.com", "b.a.example.com", "example.com", "example.org", "c.example.org", "db.internal"];
    const PATTERNS: [&str; 7] = [
        "a.example.com",
        "*.example.com",
        "*.a.example.com",
        "example.org",
        "*.example.org",
        "db.internal",
        "b.a.example.com",
    ];

    prop_compose! {
        fn rule()(
            host in proptest::sample::select(&PATTERNS[..]),
            https in any::<bool>(),
            port in proptest::sample::select(vec![443u16, 80, 8443]),
            methods in proptest::sample::select(vec![vec![], vec![Method::GET], vec![Method::GET, Method::PUT]]),
            paths in proptest::sample::select(vec![vec![], vec!["/v1/*"], vec!["/v1/x", "/v2/**"]]),
        ) -> Rule {
            Rule {
                scheme: if https { Scheme::Https } else { Scheme::Http },
                host: host.parse().unwrap(),
                port,
                methods: Methods::from(methods),
                paths: paths.iter().map(|path| path.parse().unwrap()).collect(),
                origin: RuleOrigin::Manifest,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_index_changes_no_verdict(rules in proptest::collection::vec(rule(), 0..60)) {
            let index = RuleIndex::new(&rules);
            prop_assert_eq!(index.0.is_some(), rules.len() > FEW);
            for host in HOSTS {
                let host: HostName = host.parse().unwrap();
                for (scheme, port) in [(Scheme::Https, 443), (Scheme::Http, 80), (Scheme::Https, 8443)] {
                    let tunnel = decide_connect(&rules, &host, port);
                    prop_assert_eq!(index.decide_connect(&rules, &host, port), tunnel);
                    for method in [Method::GET, Method::POST] {
                        for path in ["/v1/x", "/v2/a/b", "/"] {
                            let path = CanonicalPath::parse(path).unwrap();
                            let asked = Asked { scheme, host: &host, port, method: &method, path: &path };
                            let verdict = decide(&rules, &asked);
                            let allowed = matches!(verdict, Verdict::Allow { .. });
                            prop_assert_eq!(index.allows(&rules, &asked), allowed);
                            prop_assert_eq!(index.decide(&rules, &asked), verdict);
                        }
                    }
                }
            }
        }
    }
}
