//! Calls of a server's clients: they belong to no run, and name their model themselves.

use http::StatusCode;
use orch_manifests::{Catalog, ModelName, resolve_model};
use serde_json::json;

use crate::ir::{ApiError, Class};
use crate::plan::{Candidate, Clients, Plan};
use crate::serve::is_unnamed;

/// The one candidate for the model that a client names.
///
/// # Errors
/// When it names none, or one that no provider at hand has; the error says what would.
pub(crate) fn candidate(
    plan: &Plan,
    clients: &Clients,
    catalog: &Catalog,
    asked: &str,
) -> Result<Candidate, ApiError> {
    if is_unnamed(asked) {
        let message = "name a model: nothing stands for a default here; GET /v1/models lists what there is";
        return Err(at_model(ApiError::new(Class::BadRequest, message)));
    }
    let name: ModelName =
        asked.parse().map_err(|e| at_model(ApiError::new(Class::BadRequest, format!("{e}"))))?;
    let route = resolve_model(catalog, &name).map_err(|unknown| {
        let details = Some(json!({ "candidates": unknown.candidates }));
        at_model(ApiError { details, ..ApiError::new(Class::NoModel, unknown.to_string()) })
    })?;
    if let Some(at_hand) = plan.provider(&route.provider) {
        return Ok(at_hand.routed(route));
    }
    let lacking = clients.lacking.iter().find(|lacking| lacking.provider.slug == route.provider);
    let Some(lacking) = lacking else {
        let message = format!(
            "{} is on the caller's own machine, and not for a server unless its operator pins it",
            route.provider
        );
        return Err(at_model(ApiError::new(Class::NoModel, message)));
    };
    let store =
        lacking.provider.key_name().map(|name| format!(": orch secrets set {name}")).unwrap_or_default();
    Err(ApiError {
        status: Some(StatusCode::UNPROCESSABLE_ENTITY.as_u16()),
        code: Some("orch_no_key".to_owned()),
        details: Some(json!({ "provider": route.provider, "names": lacking.provider.env })),
        ..ApiError::new(Class::NoAccess, format!("{}{store}", lacking.reason))
    })
}

fn at_model(error: ApiError) -> ApiError {
    ApiError { param: Some("model".to_owned()), ..error }
}
