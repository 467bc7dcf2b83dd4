//! What the server knows: the providers, their keys, the scenario and how far it has been played.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::keys::Keys;
use super::scenario::{Rule, Scenario, Who};
use super::served::{Origin, Served};

/// Shared by all connections.
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) served: Vec<Served>,
    pub(super) keys: Keys,
    played: Mutex<Played>,
}

/// The only state of a simulation.
struct Played {
    primary: Option<String>,
    /// For each rule, how many requests its provider and model selected so far.
    selected: Vec<u32>,
}

impl World {
    pub(super) fn new(scenario: Scenario, served: Vec<Served>, keys: Keys) -> World {
        let played = Mutex::new(Played { primary: None, selected: vec![0; scenario.rules.len()] });
        World { scenario, served, keys, played }
    }

    pub(super) fn origins(&self) -> Vec<Origin> {
        let providers = self.served.iter().map(Served::origin);
        let hosts = self.scenario.hosts.iter().map(|scripted| Origin {
            host: scripted.host.to_string(),
            port: scripted.port,
            https: true,
        });
        providers.chain(hosts).collect::<BTreeSet<Origin>>().into_iter().collect()
    }

    /// Counts an accepted inference request and returns the rule that decides it. The first provider to be counted
    /// is the primary from then on.
    pub(super) fn count(&self, provider: &str, model: &str) -> Option<&Rule> {
        let mut played = self.played.lock().unwrap_or_else(PoisonError::into_inner);
        let Played { primary, selected } = &mut *played;
        let primary = primary.get_or_insert_with(|| provider.to_owned());
        let mut decided = None;
        for (rule, selected) in self.scenario.rules.iter().zip(selected) {
            let who = match &rule.who {
                Who::Any => true,
                Who::Primary => primary == provider,
                Who::Provider(slug) => slug == provider,
            };
            if who && rule.model.as_deref().is_none_or(|wanted| wanted == model) {
                *selected = selected.saturating_add(1);
                if rule.attempts.contains(*selected) {
                    decided = decided.or(Some(rule));
                }
            }
        }
        decided
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{Attempts, Outcome};
    use super::*;

    fn world(rules: Vec<Rule>) -> World {
        let mut scenario = Scenario::ok();
        scenario.rules = rules;
        World::new(scenario, Vec::new(), Keys::random(&[]).unwrap())
    }

    #[test]
    fn the_first_provider_asked_is_the_primary_for_good() {
        let world = world(vec![Rule { who: Who::Primary, ..Rule::default() }]);
        assert!(world.count("anthropic", "m").is_some());
        assert!(world.count("openai", "m").is_none());
        assert!(world.count("anthropic", "other").is_some());
    }

    #[test]
    fn each_rule_counts_the_requests_it_selects_even_when_an_earlier_one_decides() {
        let first = Rule {
            model: Some("m".to_owned()),
            attempts: Attempts { first: 1, last: 1 },
            outcome: Outcome::RateLimit,
            ..Rule::default()
        };
        let second = Rule {
            attempts: Attempts { first: 2, last: 3 },
            outcome: Outcome::ServerError,
            ..Rule::default()
        };
        let world = world(vec![first, second]);
        let outcomes: Vec<Option<Outcome>> = ["m", "m", "n", "m"]
            .map(|model| world.count("openai", model).map(|rule| rule.outcome))
            .into_iter()
            .collect();
        assert_eq!(
            outcomes,
            [Some(Outcome::RateLimit), Some(Outcome::ServerError), Some(Outcome::ServerError), None]
        );
    }
}
