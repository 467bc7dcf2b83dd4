//! The rules that a run would have, as far as that is known before one: for those who ask what a policy would say.

use orch_manifests::EgressWant;
use orch_proxy::{Rule, RuleOrigin};

use super::{allowed_hosts, whole};
use crate::config::Config;
use crate::failure::Failure;

/// A rule that a run of an agent would have.
#[derive(Debug, Clone)]
pub struct Outlook {
    /// The rule.
    pub rule: Rule,
    /// Whether somebody has granted it already; else it is asked for when a run starts.
    pub granted: bool,
}

impl Outlook {
    /// The rules of an agent that asks for `wants`, with what the command line and the configuration allow. Without an
    /// agent (none) the command line alone says what is wanted, as for a module without a manifest.
    ///
    /// # Errors
    /// When the command line allows what is no host, or what is not asked for.
    pub fn of(wants: Option<&[EgressWant]>, allow: &[String], config: &Config) -> Result<Vec<Self>, Failure> {
        let allowed = allowed_hosts(allow, &config.egress.allow)?;
        let flags = || allowed.iter().filter(|allowed| allowed.origin == RuleOrigin::Flag);
        let Some(wants) = wants else {
            let rule = |allowed: &super::Allowed| Rule::of_want(&whole(&allowed.host), allowed.origin);
            return Ok(flags().map(|allowed| Self { rule: rule(allowed), granted: true }).collect());
        };
        if let Some(unwanted) = flags().find(|flag| !wants.iter().any(|want| flag.host.covers(want))) {
            return Err(Failure::usage(
                "allow_not_wanted",
                format!("--allow {}: the manifest does not ask for it", unwanted.host),
            )
            .hint("an agent reaches only what its manifest asks for under `egress`"));
        }
        let outlook = |want: &EgressWant| {
            let by = allowed.iter().find(|allowed| allowed.host.covers(want)).map(|allowed| allowed.origin);
            Self { rule: Rule::of_want(want, by.unwrap_or(RuleOrigin::Manifest)), granted: by.is_some() }
        };
        Ok(wants.iter().map(outlook).collect())
    }
}

#[cfg(test)]
mod tests {
    use orch_manifests::Format;

    use super::*;

    #[test]
    fn a_rule_is_of_whoever_allowed_it_first() {
        let wants = "[{ host: a.example.com }, { host: b.example.com, port: 8443 }, { host: c.example.com }]";
        let wants = EgressWant::list_in(wants, Format::Yaml, "x", &[]).expect("a list").expect("there");
        let mut config = Config::default();
        config.egress.allow.push("a.example.com".parse().expect("a host"));
        let of = |wants, allow: &[&str]| {
            let allow: Vec<String> = allow.iter().map(|text| (*text).to_owned()).collect();
            Outlook::of(wants, &allow, &config)
        };
        let rules = of(Some(&wants), &["b.example.com:8443"]).expect("rules");
        let origins: Vec<_> = rules.iter().map(|outlook| (outlook.rule.origin, outlook.granted)).collect();
        assert_eq!(
            origins,
            [(RuleOrigin::Config, true), (RuleOrigin::Flag, true), (RuleOrigin::Manifest, false)]
        );
        assert_eq!(
            of(Some(&wants), &["b.example.com"]).expect_err("another port").code(),
            "allow_not_wanted"
        );
        assert_eq!(of(None, &["x.example.com"]).expect("rules").len(), 1);
        assert_eq!(of(None, &["10.0.0.1"]).expect_err("no host").code(), "bad_usage");
    }
}
