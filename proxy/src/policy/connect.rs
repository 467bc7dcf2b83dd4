//! Whether a tunnel may be opened: the same rules, read for something that nobody can look into.

use orch_manifests::{HostName, Scheme};

use super::{Reason, Rule, RuleMissing, Verdict, narrows, refused_name};

/// Says whether `rules` allow a CONNECT tunnel to this host and port.
///
/// Inside a tunnel there is no method and no path to judge, so a rule that names either allows none: it takes one of
/// scheme `https` that allows everything at exactly this host and port.
#[must_use]
pub fn decide_connect(rules: &[Rule], host: &HostName, port: u16) -> Verdict {
    decide_among(rules, 0..rules.len(), host, port)
}

/// The same, when all rules about the host are in these places.
pub(super) fn decide_among(
    rules: &[Rule],
    places: impl IntoIterator<Item = usize>,
    host: &HostName,
    port: u16,
) -> Verdict {
    if let Some(reason) = refused_name(host) {
        return Verdict::Deny(reason);
    }
    let mut nearest = Miss::Host;
    for place in places {
        let Some(rule) = rules.get(place) else { break };
        match miss(rule, host, port) {
            None => return Verdict::Allow { rule: place },
            Some(miss) => nearest = nearest.max(miss),
        }
    }
    let (code, text) = match nearest {
        Miss::Host if rules.is_empty() => {
            ("nothing_allowed", format!("{host} is not allowed: there are no egress rules"))
        }
        Miss::Host => ("host_not_allowed", format!("{host} is not allowed: no egress rule names it")),
        Miss::Scheme => {
            ("scheme_not_allowed", format!("TLS to {host} is not allowed: the rules name plain http only"))
        }
        Miss::Port => ("port_not_allowed", format!("port {port} of {host} is not allowed")),
        Miss::Narrowed => (
            "connect_narrowed",
            format!(
                "CONNECT to {host} is not allowed: the rules for it name methods or paths, which nobody can enforce \
                 inside a tunnel; requests to http://{host}/ are judged one by one and go upstream over TLS"
            ),
        ),
    };
    let missing = RuleMissing::for_tunnel(host, port);
    Verdict::Deny(Reason { code, text, next: Some(missing.line()), rule_missing: Some(Box::new(missing)) })
}

/// The first thing about a rule that does not fit, in the order in which a person would fix it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Miss {
    Host,
    Scheme,
    Port,
    Narrowed,
}

fn miss(rule: &Rule, host: &HostName, port: u16) -> Option<Miss> {
    if !rule.host.matches(host) {
        Some(Miss::Host)
    } else if rule.scheme != Scheme::Https {
        Some(Miss::Scheme)
    } else if rule.port != port {
        Some(Miss::Port)
    } else if narrows(&rule.methods, &rule.paths) {
        Some(Miss::Narrowed)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::{Methods, RuleOrigin};

    fn rule(host: &str) -> Rule {
        Rule {
            scheme: Scheme::Https,
            host: host.parse().unwrap(),
            port: 443,
            methods: Methods::Any,
            paths: Vec::new(),
            origin: RuleOrigin::Flag,
        }
    }

    fn code(rules: &[Rule], host: &str, port: u16) -> &'static str {
        match decide_connect(rules, &host.parse().unwrap(), port) {
            Verdict::Allow { .. } => "allowed",
            Verdict::Deny(reason) => reason.code,
        }
    }

    #[test]
    fn only_a_rule_for_everything_at_a_host_opens_a_tunnel() {
        let get = Rule { methods: vec![Method::GET].into(), ..rule("a.example.com") };
        let path = Rule { paths: vec!["/v1/*".parse().unwrap()], ..rule("a.example.com") };
        let plain = Rule { scheme: Scheme::Http, port: 80, ..rule("a.example.com") };
        let plain_443 = Rule { scheme: Scheme::Http, ..rule("a.example.com") };
        for (rules, port, expected) in [
            (&[][..], 443, "nothing_allowed"),
            (&[rule("b.example.com")], 443, "host_not_allowed"),
            (std::slice::from_ref(&plain), 80, "scheme_not_allowed"),
            (&[plain_443], 443, "scheme_not_allowed"),
            (&[rule("a.example.com")], 8443, "port_not_allowed"),
            (&[rule("a.example.com")], 80, "port_not_allowed"),
            (std::slice::from_ref(&get), 443, "connect_narrowed"),
            (&[path, get.clone()][..], 443, "connect_narrowed"),
            (&[get.clone(), rule("a.example.com")], 443, "allowed"),
            (&[rule("*.example.com")], 443, "allowed"),
        ] {
            assert_eq!(code(rules, "a.example.com", port), expected, "{rules:?} {port}");
        }
        assert_eq!(code(&[rule("*.example.com")], "example.com", 443), "host_not_allowed");
        assert_eq!(code(&[rule("localhost")], "localhost", 443), "name_refused");
    }

    #[test]
    fn the_next_step_is_a_rule_that_opens_it() {
        let Verdict::Deny(reason) = decide_connect(&[], &"a.example.com".parse().unwrap(), 8443) else {
            panic!("nothing allows it");
        };
        assert_eq!(reason.next.unwrap(), "- { host: a.example.com, port: 8443 }");
        let missing = serde_json::to_value(reason.rule_missing).unwrap();
        let fields = serde_json::json!({ "scheme": "https", "host": "a.example.com", "port": 8443 });
        assert_eq!(missing, fields, "neither a method nor a path, which a rule that opens a tunnel has not");
    }

    #[test]
    fn what_no_rule_opens_names_no_rule() {
        let Verdict::Deny(reason) = decide_connect(&[], &"localhost".parse().unwrap(), 443) else {
            panic!("nothing allows it");
        };
        assert_eq!((reason.code, reason.next, reason.rule_missing), ("name_refused", None, None));
    }
}
