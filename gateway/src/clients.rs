//! Calls of a server's clients: they belong to no run, and name their model themselves.

use http::StatusCode;
use orch_manifests::{Catalog, ModelName, ModelRoute, RouteName, resolve_model};
use serde_json::json;

use crate::ir::{ApiError, Class};
use crate::plan::{Clients, route_of, targets};
use crate::serve::{Chosen, is_unnamed, leads_nowhere};
use crate::session::Session;

/// Where the model or the route that a client names leads. A client that names none gets the route `default`, where
/// there is one.
///
/// # Errors
/// When it names none, or one that no provider at hand has; the error says what would.
pub(crate) fn chosen(
    session: &Session,
    clients: &Clients,
    catalog: &Catalog,
    asked: &str,
) -> Result<Chosen, ApiError> {
    let unnamed = is_unnamed(asked);
    let asked = if unnamed { RouteName::DEFAULT } else { asked };
    if let Some(route) = route_of(&session.routes, asked) {
        let mut first = None;
        let (planned, skipped) = targets(&session.plan, catalog, route, 0, &mut |model| {
            let error = no_provider(clients, model);
            let reason = error.message.clone();
            first.get_or_insert(error);
            reason
        });
        if !planned.is_empty() {
            return Ok(Chosen { planned, skipped });
        }
        let error = first.unwrap_or_else(|| at_model(ApiError::new(Class::NoModel, "")));
        return Err(ApiError { message: leads_nowhere(asked, &skipped), ..error });
    }
    if unnamed {
        let message = "name a model: nothing stands for a default here, because no route is called default; \
                       GET /v1/models lists what there is";
        return Err(at_model(ApiError::new(Class::BadRequest, message)));
    }
    let name: ModelName =
        asked.parse().map_err(|e| at_model(ApiError::new(Class::BadRequest, format!("{e}"))))?;
    let model = resolve_model(catalog, &name).map_err(|unknown| {
        let routes = session.routes.iter().map(|(name, _)| name.to_string());
        let candidates: Vec<String> = unknown.candidates.iter().cloned().chain(routes).collect();
        let details = Some(json!({ "candidates": candidates }));
        at_model(ApiError { details, ..ApiError::new(Class::NoModel, unknown.to_string()) })
    })?;
    match session.plan.provider(&model.provider) {
        Some(at_hand) => Ok(vec![at_hand.routed(model)].into()),
        None => Err(no_provider(clients, &model)),
    }
}

/// Why the provider of a model is not at hand, and what to do about it.
fn no_provider(clients: &Clients, model: &ModelRoute) -> ApiError {
    let lacking = clients.lacking.iter().find(|lacking| lacking.provider.slug == model.provider);
    let Some(lacking) = lacking else {
        let message = format!(
            "{} is on the caller's own machine, and not for a server unless its operator pins it",
            model.provider
        );
        return at_model(ApiError::new(Class::NoModel, message));
    };
    let store =
        lacking.provider.key_name().map(|name| format!(": orch secrets set {name}")).unwrap_or_default();
    ApiError {
        status: Some(StatusCode::UNPROCESSABLE_ENTITY.as_u16()),
        code: Some("orch_no_key".to_owned()),
        details: Some(json!({ "provider": model.provider, "names": lacking.provider.env })),
        ..ApiError::new(Class::NoAccess, format!("{}{store}", lacking.reason))
    }
}

fn at_model(error: ApiError) -> ApiError {
    ApiError { param: Some("model".to_owned()), ..error }
}
