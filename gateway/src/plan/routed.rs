//! Where names lead that are not of the plan itself: routes, and models that it does not have.

use orch_manifests::{Catalog, ModelName, ModelRoute, Route, RouteName, Routes, Slug, Target, resolve_model};

use super::{Plan, Planned};
use crate::receipt::Skipped;

/// A model that the plan does not name: its provider must be at hand.
///
/// # Errors
/// Why it cannot be used, for people.
pub(crate) fn outside(plan: &Plan, catalog: &Catalog, asked: &str) -> Result<Planned, String> {
    let name: ModelName = asked.parse().map_err(|e| format!("{e}"))?;
    let route = resolve_model(catalog, &name).map_err(|e| e.to_string())?;
    match plan.provider(&route.provider) {
        Some(at_hand) => Ok(at_hand.routed(route)),
        None => Err(no_key_of(&route.provider)),
    }
}

/// Why a provider is not at hand for a model that no plan names.
pub(crate) fn no_key_of(provider: &Slug) -> String {
    format!("this run has no key for {provider}, or the agent does not support it")
}

/// The route of this name, with its name.
pub(crate) fn route_of<'r>(routes: &'r Routes, name: &str) -> Option<(&'r RouteName, &'r Route)> {
    routes.iter().find(|(known, _)| known.as_str() == name)
}

/// The models of a route, in steps from `first` on, and those that cannot serve: `lacking` says why a model has no
/// provider at hand.
pub(crate) fn targets(
    plan: &Plan,
    catalog: &Catalog,
    route: (&RouteName, &Route),
    first: u32,
    lacking: &mut dyn FnMut(&ModelRoute) -> String,
) -> (Vec<Planned>, Vec<Skipped>) {
    targets_with(catalog, route, first, &mut |target, resolved| {
        // A run's keys are those that it was given, whosever they are.
        let Some(at_hand) = plan.provider(&resolved.provider) else { return Err(lacking(&resolved)) };
        Ok(vec![at_hand.target(resolved, target)?])
    })
}

/// What a target of a route leads to with each of the keys that may serve it, those first that are tried first; or why with
/// none.
pub(crate) type Targeted = Result<Vec<Planned>, String>;

/// The same, where `keyed` finds the keys of each target.
pub(crate) fn targets_with(
    catalog: &Catalog,
    (name, route): (&RouteName, &Route),
    first: u32,
    keyed: &mut dyn FnMut(&Target, ModelRoute) -> Targeted,
) -> (Vec<Planned>, Vec<Skipped>) {
    let (mut planned, mut skipped) = (Vec::new(), Vec::new());
    let mut step = first;
    for targets in route.steps() {
        // Keys that are tried one after another are steps of their own.
        let mut last = step;
        for target in targets {
            let resolved = match resolve_model(catalog, &target.model) {
                Ok(resolved) => resolved,
                // The catalog may have changed since the route was written.
                Err(unknown) => {
                    skipped.push(Skipped::new(target.model.as_str(), unknown.to_string()));
                    continue;
                }
            };
            match keyed(target, resolved) {
                Ok(found) => {
                    let priced_as_model = route.by_operator;
                    for (step, found) in (step..).zip(found) {
                        last = last.max(step);
                        let (on, route) = (route.on, Some(name.clone()));
                        planned.push(Planned { step, on, route, priced_as_model, ..found });
                    }
                }
                Err(reason) => skipped.push(Skipped::new(target.model.as_str(), reason)),
            }
        }
        step = last.saturating_add(1);
    }
    (planned, skipped)
}
