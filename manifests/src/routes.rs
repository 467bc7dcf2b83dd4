//! Routes: logical model names, and the models that each may lead to.
//!
//! An operator or a workspace writes them; clients, agents and callers name them where a model's name would stand. A
//! name of a route is never also that of a model, so that nobody gets another model than the one they know by it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Provider};
use crate::identity::{ModelName, SecretName};
use crate::resolve::{ModelRoute, resolve_model};
use crate::text::{quote, written_as_text};
use crate::whose::Whose;

/// Longest name of a route.
const NAME_MAX: usize = 64;
/// Most targets of one route.
const TARGETS: usize = 32;
/// Most that a weight may be.
const WEIGHT_MAX: u16 = 1000;

/// The name of a route: 1 to 64 of `[a-z0-9._-]`, beginning with a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteName(String);

impl RouteName {
    /// The route that serves clients that name no model.
    pub const DEFAULT: &'static str = "default";

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RouteName {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let fits = text.len() <= NAME_MAX && text.bytes().all(|b| plain(b) || b"._-".contains(&b));
        if fits && text.bytes().next().is_some_and(plain) {
            return Ok(Self(text.into()));
        }
        let reason = format!(
            "{} is no name of a route: use a-z, 0-9, `.`, `_` and `-`, at most {NAME_MAX}, beginning with a letter or digit",
            quote(text)
        );
        Err(RouteError { field: String::new(), reason })
    }
}

impl std::borrow::Borrow<str> for RouteName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text!(RouteName, "RouteName", {
    "type": "string",
    "description": "A logical model name.",
    "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$",
});

/// Why a route was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", if field.is_empty() { String::new() } else { format!("{field}: ") })]
pub struct RouteError {
    /// The field at fault, such as `targets[1].model`; empty for the route itself.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub reason: String,
}

/// Where a logical name leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// In the order in which they are asked, but for priorities and weights.
    pub targets: Vec<Target>,
    /// What follows failures that are the request's own doing.
    #[serde(default)]
    pub on: OnError,
    /// Whether it is the operator's, who answers for the prices of what models are renamed to.
    #[serde(skip)]
    pub by_operator: bool,
}

/// A model that a route may lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// `provider/model`, or a model that the catalog knows.
    pub model: ModelName,
    /// Lower ones are asked first; those of the same priority share the calls by weight. Where no target has one, the
    /// order of the list is that of the targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u16>,
    /// Its share of the calls among targets of the same priority; 0 takes it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// The name that is sent to the provider in the model's place, such as that of a deployment. Abilities are those of
    /// the model, and so is the price where the catalog does not know the name, but only in the operator's routes: others may
    /// not say what something costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rename: Option<String>,
    /// Which of the provider's keys serve it.
    #[serde(default, skip_serializing_if = "KeyChoice::is_any")]
    pub keys: KeyChoice,
    /// Whose keys serve it, where the workspace's policy lets them; those that the policy takes first when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whose: Option<Whose>,
}

impl Target {
    /// Its share among targets of the same priority.
    pub fn share(&self) -> u16 {
        self.weight.unwrap_or(1)
    }
}

/// Which keys of a provider may serve, and how the calls are split among them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "RawKeys", into = "BTreeMap<SecretName, u16>")]
pub enum KeyChoice {
    /// All that there are, in equal shares.
    #[default]
    Any,
    /// These alone, with these weights; one of 0 is not used.
    Only(BTreeMap<SecretName, u16>),
}

impl KeyChoice {
    /// Whether every key may serve.
    pub fn is_any(&self) -> bool {
        matches!(self, KeyChoice::Any)
    }

    /// The weight of the key of this name; `None` when it may not serve.
    pub fn weight(&self, name: &str) -> Option<u16> {
        match self {
            KeyChoice::Any => Some(1),
            KeyChoice::Only(keys) => {
                let found = keys.iter().find(|(key, _)| key.as_str() == name);
                found.map(|(_, weight)| *weight).filter(|weight| *weight > 0)
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a list of the keys' names, or each name with its weight")]
enum RawKeys {
    Names(BTreeSet<SecretName>),
    Weights(BTreeMap<SecretName, u16>),
}

impl From<RawKeys> for KeyChoice {
    fn from(raw: RawKeys) -> Self {
        KeyChoice::Only(match raw {
            RawKeys::Names(names) => names.into_iter().map(|name| (name, 1)).collect(),
            RawKeys::Weights(weights) => weights,
        })
    }
}

impl From<KeyChoice> for BTreeMap<SecretName, u16> {
    fn from(choice: KeyChoice) -> Self {
        match choice {
            KeyChoice::Any => BTreeMap::new(),
            KeyChoice::Only(keys) => keys,
        }
    }
}

/// What follows a failure that another model may not have. Everything else is decided by its class alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OnError {
    /// The input does not fit the model's context.
    pub context_too_long: After,
    /// The provider's filter refused the request or the answer.
    pub refused_by_filter: After,
}

/// What follows a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum After {
    /// The client is told.
    #[default]
    Stop,
    /// The next target is asked.
    Next,
}

/// Logical names, and where they lead.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes(BTreeMap<RouteName, Route>);

impl Routes {
    /// None.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a route, or puts it in the place of the one that had its name.
    ///
    /// # Errors
    /// When the name is that of a model, or a target cannot be what it says; see [`RouteError`].
    pub fn add(&mut self, name: RouteName, route: Route, catalog: &Catalog) -> Result<(), RouteError> {
        check_name(&name, catalog)?;
        route.check(catalog)?;
        self.0.insert(name, route);
        Ok(())
    }

    /// Adds a route that was [added](Routes::add) once, perhaps by another catalog: what it leads to may be gone.
    pub fn restore(&mut self, name: RouteName, route: Route) {
        self.0.insert(name, route);
    }

    /// The route of this name.
    pub fn get(&self, name: &str) -> Option<&Route> {
        self.0.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&RouteName, &Route)> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These, and of `others` those whose names are free.
    #[must_use]
    pub fn joined_by(&self, others: Routes) -> Routes {
        let mut all = others.0;
        all.extend(self.0.iter().map(|(name, route)| (name.clone(), route.clone())));
        Routes(all)
    }
}

fn check_name(name: &RouteName, catalog: &Catalog) -> Result<(), RouteError> {
    let refuse = |reason: String| Err(RouteError { field: String::new(), reason });
    if name.as_str() == "auto" {
        return refuse(
            "`auto` stands for no model named at all; the route for that is called `default`".into(),
        );
    }
    // Every route's name is a model's name as well, to look at.
    let Ok(model) = name.as_str().parse::<ModelName>() else { return Ok(()) };
    match resolve_model(catalog, &model) {
        Ok(found) => refuse(format!(
            "{} is a model of {}, and a route may not stand in its place: choose another name",
            quote(name.as_str()),
            found.provider
        )),
        Err(_) => Ok(()),
    }
}

impl Route {
    /// Whether every target can be what it says.
    ///
    /// # Errors
    /// The first field that is wrong, and what would be right.
    pub fn check(&self, catalog: &Catalog) -> Result<(), RouteError> {
        if self.targets.is_empty() || self.targets.len() > TARGETS {
            let reason = format!("a route has 1 to {TARGETS} targets, and this has {}", self.targets.len());
            return Err(RouteError { field: "targets".into(), reason });
        }
        let with_priority = self.targets.iter().filter(|target| target.priority.is_some()).count();
        for (place, target) in self.targets.iter().enumerate() {
            let wrong = |field: &str, reason: String| {
                Err(RouteError { field: format!("targets[{place}].{field}"), reason })
            };
            let resolved = match resolve_model(catalog, &target.model) {
                Ok(resolved) => resolved,
                Err(unknown) => return wrong("model", unknown.to_string()),
            };
            if target.priority.is_none() && with_priority > 0 {
                return wrong("priority", "give every target one, or none: then their order counts".into());
            }
            if target.share() > WEIGHT_MAX {
                return wrong("weight", format!("it is at most {WEIGHT_MAX}"));
            }
            let peers = self.targets.iter().filter(|other| other.priority == target.priority).count();
            let shared = target.priority.is_some() && peers > 1;
            if target.share() > 0 && target.weight.is_some() && !shared {
                let reason = "no other target has its priority, so there is nothing to share: give targets that split \
                              the calls the same `priority`";
                return wrong("weight", reason.into());
            }
            if let Some(rename) = &target.rename
                && let Err(error) = rename.parse::<ModelName>()
            {
                return wrong("rename", error.to_string());
            }
            let same = |other: &Target| {
                let other_resolved = resolve_model(catalog, &other.model);
                other_resolved.is_ok_and(|other| other == resolved)
                    && (&other.rename, &other.keys, other.whose)
                        == (&target.rename, &target.keys, target.whose)
            };
            if let Some(first) = self.targets[..place].iter().position(same) {
                return wrong("model", format!("this is targets[{first}] once more"));
            }
            if let KeyChoice::Only(keys) = &target.keys {
                check_keys(keys, &resolved, catalog)
                    .or_else(|(field, reason)| wrong(&format!("keys{field}"), reason))?;
            }
        }
        if self.targets.iter().all(|target| target.share() == 0) {
            let reason = "every target has the weight 0: the route would lead nowhere".to_owned();
            return Err(RouteError { field: "targets".into(), reason });
        }
        Ok(())
    }

    /// The targets in steps: those of one step share the calls, and a step is asked when all before it have failed.
    pub fn steps(&self) -> Vec<Vec<&Target>> {
        let mut by_priority: BTreeMap<usize, Vec<&Target>> = BTreeMap::new();
        for (place, target) in self.targets.iter().enumerate() {
            by_priority.entry(target.priority.map_or(place, usize::from)).or_default().push(target);
        }
        by_priority.into_values().collect()
    }
}

/// A field below `keys`, and what is wrong with it.
type WrongKey = (String, String);

fn check_keys(
    keys: &BTreeMap<SecretName, u16>,
    model: &ModelRoute,
    catalog: &Catalog,
) -> Result<(), WrongKey> {
    let provider = catalog.provider(model.provider.as_str());
    let names = provider.map(|provider| provider.env.as_slice()).unwrap_or_default();
    if names.is_empty() {
        return Err((String::new(), format!("{} takes no key", model.provider)));
    }
    if keys.values().all(|weight| *weight == 0) {
        return Err((String::new(), "it leaves the target without a key".into()));
    }
    for (name, weight) in keys {
        let field = format!(".{name}");
        if !provider.is_some_and(|provider| provider.takes_key(name.as_str())) {
            let reason = format!(
                "that is no key of {}: its keys are {} and the same with a number behind, such as {}_2",
                model.provider,
                names.join(", "),
                names[0]
            );
            return Err((field, reason));
        }
        if *weight > WEIGHT_MAX {
            return Err((field, format!("a weight is at most {WEIGHT_MAX}")));
        }
    }
    Ok(())
}

impl Provider {
    /// The most keys that a provider has under one name: `OPENAI_API_KEY`, and `OPENAI_API_KEY_2` up to this number.
    pub const MOST_KEYS: u8 = 16;

    /// Whether a key of this name is one of this provider: one of its names, or one with a number from 2 behind.
    pub fn takes_key(&self, name: &str) -> bool {
        self.env.iter().any(|env| {
            env == name || name.strip_prefix(env.as_str()).is_some_and(|rest| key_number(rest).is_some())
        })
    }

    /// The names of further keys beside the one of this name.
    pub fn further_keys(name: &str) -> impl Iterator<Item = String> {
        (2..=Self::MOST_KEYS).map(move |number| format!("{name}_{number}"))
    }
}

/// The number in `_2` to `_16`.
fn key_number(suffix: &str) -> Option<u8> {
    let digits = suffix.strip_prefix('_')?;
    let number: u8 = digits.parse().ok().filter(|number| (2..=Provider::MOST_KEYS).contains(number))?;
    // One spelling each: `_02` and `_+2` are other names.
    (number.to_string() == digits).then_some(number)
}

#[cfg(test)]
mod tests;
