//! Calls of a server's clients: they belong to no run, and name their model themselves.

use orch_manifests::{Catalog, ModelName, ModelRoute, Provider, RouteName, Target, resolve_model};
use serde_json::json;

use crate::byok::{Ask, Choice, model_at};
use crate::ir::{ApiError, Class};
use crate::plan::{AtHand, Planned, Preference, route_of, targets_with};
use crate::serve::{Chosen, is_unnamed, leads_nowhere};
use crate::session::Session;

/// Where the model or the route that a client names leads, and with whose keys. A client that names none gets the model that
/// is `preferred`, else the route `default`, where there is one.
///
/// # Errors
/// When it names none, or one that no provider at hand has, or there is no key that policy and request leave; the error says
/// what would do.
pub(crate) fn chosen(
    session: &Session,
    catalog: &Catalog,
    asked: &str,
    ask: &Ask,
    preferred: Option<&Preference>,
) -> Result<Chosen, ApiError> {
    let choice = Choice::of(session, ask)?;
    let only = choice.provider(catalog)?;
    let unnamed = is_unnamed(asked);
    // Who writes `default` means the route of that name where there is one.
    let names_route = asked == RouteName::DEFAULT && route_of(&session.routes, asked).is_some();
    let preferred = preferred.filter(|_| unnamed && !names_route);
    let preferred = preferred.and_then(|preferred| named_by(preferred, catalog, only));
    let (asked, unnamed) = match &preferred {
        Some(name) => (name.as_str(), false),
        None if unnamed => (RouteName::DEFAULT, true),
        None => (asked, false),
    };
    if let Some(route) = route_of(&session.routes, asked) {
        let mut first = None;
        let (planned, skipped) = targets_with(catalog, route, 0, &mut |target, model| {
            if let Some(only) = only.filter(|only| only.slug != model.provider) {
                return Err(format!("the request insists on {}", only.slug));
            }
            let found = match target.whose {
                Some(whose) => choice.keys_of(known(catalog, &model)?, whose),
                None => match known(catalog, &model) {
                    Ok(provider) => choice.keys(provider).map_err(|error| {
                        let reason = error.message.clone();
                        first.get_or_insert(error);
                        reason
                    }),
                    Err(reason) => Err(reason),
                },
            };
            found?.into_iter().map(|at_hand| at_hand.target(model.clone(), target)).collect()
        });
        if !planned.is_empty() {
            let planned = if ask.is_strict() { strictly_first(planned) } else { planned };
            return Ok(Chosen { planned, skipped });
        }
        let error = first.unwrap_or_else(|| at_model(ApiError::new(Class::NoModel, "")));
        return Err(ApiError { message: leads_nowhere(asked, &skipped), ..error });
    }
    if unnamed {
        let message = "name a model: nothing stands for a default here, because no route is called default and no model \
                       is active (orch byok use PROVIDER, then orch byok model MODEL); GET /v1/models lists what there is";
        return Err(at_model(ApiError::new(Class::BadRequest, message)));
    }
    let name: ModelName =
        asked.parse().map_err(|e| at_model(ApiError::new(Class::BadRequest, format!("{e}"))))?;
    let model = match only {
        Some(provider) => model_at(catalog, provider, ask, &name)?,
        None => resolve_model(catalog, &name).map_err(|unknown| {
            let routes = session.routes.iter().map(|(name, _)| name.to_string());
            let candidates: Vec<String> = unknown.candidates.iter().cloned().chain(routes).collect();
            let details = Some(Box::new(json!({ "candidates": candidates })));
            at_model(ApiError { details, ..ApiError::new(Class::NoModel, unknown.to_string()) })
        })?,
    };
    let provider =
        known(catalog, &model).map_err(|reason| at_model(ApiError::new(Class::NoModel, reason)))?;
    let keys = choice.keys(provider)?;
    let planned = (0..).zip(keys).map(|(step, at_hand)| Planned { step, ..at_hand.routed(model.clone()) });
    Ok(planned.collect::<Vec<_>>().into())
}

/// The model that is preferred, by a name that leads to it; none where no model is, its provider is gone, or the request
/// insists on another one.
fn named_by(preferred: &Preference, catalog: &Catalog, only: Option<&Provider>) -> Option<String> {
    let model = preferred.model.as_deref()?;
    let provider = catalog.provider(&preferred.provider)?;
    let fits = only.is_none_or(|only| only.slug == provider.slug);
    fits.then(|| format!("{}/{model}", preferred.provider))
}

/// The keys that may serve a target of a route, those first that are tried first.
///
/// # Errors
/// Why there are none.
pub(crate) fn of_target<'s>(
    choice: &Choice<'s, '_>,
    catalog: &Catalog,
    target: &Target,
    model: &ModelRoute,
) -> Result<Vec<&'s AtHand>, String> {
    let provider = known(catalog, model)?;
    match target.whose {
        Some(whose) => choice.keys_of(provider, whose),
        None => choice.keys(provider).map_err(|error| error.message),
    }
}

/// Whoever wants one key and no fallback gets the first step's.
fn strictly_first(mut planned: Vec<Planned>) -> Vec<Planned> {
    let first = planned.iter().map(|planned| planned.step).min();
    planned.retain(|planned| Some(planned.step) == first);
    planned
}

/// The provider of a model, where a server's clients may ask it at all.
///
/// # Errors
/// It is on its caller's own machine.
fn known<'c>(catalog: &'c Catalog, model: &ModelRoute) -> Result<&'c Provider, String> {
    let provider = catalog.provider(model.provider.as_str());
    provider.filter(|provider| !provider.local_only || provider.pinned).ok_or_else(|| {
        format!(
            "{} is on the caller's own machine, and not for a server unless its operator pins it",
            model.provider
        )
    })
}

fn at_model(error: ApiError) -> ApiError {
    ApiError { param: Some("model".to_owned()), ..error }
}
