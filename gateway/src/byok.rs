//! Bring your own key: whose key serves a request of a server's client.
//!
//! Three may have one for a provider: the member who asks, the workspace, and the operator. Who comes first, and whether
//! another one is turned to at all, is decided here alone, by the workspace's policy and by what the request says; see
//! `docs/byok.md`, whose table a test holds against [`ByokPolicy::order`].

mod ask;
mod policy;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use http::StatusCode;
use orch_manifests::{Auth, Catalog, ModelName, ModelRoute, Provider, Whose, nearest_provider, resolve_at};
use orch_proxy::Credential;
use serde_json::{Value, json};

use crate::ir::{ApiError, Class};
use crate::plan::{AtHand, Plan, Planned};
use crate::session::Session;

pub(crate) use ask::Ask;
pub use policy::{ByokPolicy, Order, UnknownPolicy};

/// Whose keys the calls of a client may be made with, beside the workspace's, which are the session's plan.
#[derive(Clone, Default)]
pub struct Keyrings {
    /// Which of them is taken when.
    pub policy: ByokPolicy,
    /// What the member who asks has registered; none when that is nothing.
    pub own: Option<Arc<Plan>>,
    /// What the operator lends; none when that is nothing.
    pub platform: Option<Arc<Plan>>,
}

impl Keyrings {
    fn of<'s>(&'s self, session: &'s Session, whose: Whose) -> Option<&'s Plan> {
        match whose {
            Whose::Own => self.own.as_deref(),
            Whose::Team => Some(&session.plan),
            Whose::Platform => self.platform.as_deref(),
        }
    }
}

/// What there is of a key of somebody's for a provider.
enum There<'s> {
    AtHand(&'s AtHand),
    /// One that cannot be used, and why. Nobody else's is taken in its place.
    Unusable(&'s str),
}

/// The keys for one request, by whom they come from.
pub(crate) struct Choice<'s, 'a> {
    session: &'s Session,
    ask: &'a Ask,
    order: Order,
}

impl<'s, 'a> Choice<'s, 'a> {
    /// What policy and request lead to.
    ///
    /// # Errors
    /// The policy forbids what the request asks for.
    pub(crate) fn of(session: &'s Session, ask: &'a Ask) -> Result<Choice<'s, 'a>, ApiError> {
        let policy = session.keyrings.policy;
        let order = policy.order(ask.enabled(), ask.falls_back()).ok_or_else(|| {
            let message = format!(
                "{} asks for a key of your own, and this workspace's policy is {policy}: leave it out, or have an admin of the \
                 workspace change the policy: orch byok policy prefer_team",
                ask.field()
            );
            refused(ask, "orch_byok_policy", StatusCode::FORBIDDEN, message)
        })?;
        Ok(Choice { session, ask, order })
    }

    /// The provider that the request insists on.
    ///
    /// # Errors
    /// It is none, or answers no models.
    pub(crate) fn provider<'c>(&self, catalog: &'c Catalog) -> Result<Option<&'c Provider>, ApiError> {
        let Some((field, name)) = self.ask.provider() else { return Ok(None) };
        named(catalog, field, name).map(Some)
    }

    /// The keys for a provider, in the order in which they are to be tried: those of one source, or of several where the
    /// request wants that.
    ///
    /// # Errors
    /// There is none that may be used, and what to do about it.
    pub(crate) fn keys(&self, provider: &Provider) -> Result<Vec<&'s AtHand>, ApiError> {
        self.among(provider, self.order.whose).map_err(|lacks| lacks.into_error(self.ask))
    }

    /// The keys that are tried first.
    ///
    /// # Errors
    /// Why there are none, for a list of what there is.
    pub(crate) fn first(&self, provider: &Provider) -> Result<&'s AtHand, String> {
        let found = self.among(provider, self.order.whose).map_err(|lacks| lacks.said)?;
        found.into_iter().next().ok_or_else(|| format!("there is no key for {}", provider.slug))
    }

    /// The keys of one source, which a route names.
    ///
    /// # Errors
    /// As [`Choice::keys`], and when policy or request leave that source out.
    pub(crate) fn keys_of(&self, provider: &Provider, whose: Whose) -> Result<Vec<&'s AtHand>, String> {
        let policy = self.session.keyrings.policy;
        if let Some(why) = policy.bars(whose, self.ask.enabled()) {
            return Err(why.to_owned());
        }
        if self.ask.is_strict() && self.order.whose.first() != Some(&whose) {
            return Err(format!("{} leaves the key that comes first, and no other", self.ask.field()));
        }
        self.among(provider, &[whose]).map_err(|lacks| lacks.said)
    }

    fn among(&self, provider: &Provider, order: &[Whose]) -> Result<Vec<&'s AtHand>, Lacks> {
        if provider.auth == Auth::None {
            // None is wanted, so that it is nobody's.
            let at_hand = self.session.plan.provider(&provider.slug);
            return at_hand.map(|at_hand| vec![at_hand]).ok_or_else(|| self.lacking(provider, order, None));
        }
        let (mut found, mut unusable) = (Vec::new(), None);
        for whose in order {
            match self.there(provider, *whose) {
                Some(There::AtHand(at_hand)) => {
                    found.push(at_hand);
                    if !self.order.falls_back {
                        break;
                    }
                }
                Some(There::Unusable(reason)) => {
                    unusable.get_or_insert(reason);
                    if !self.order.falls_back && found.is_empty() {
                        break;
                    }
                }
                None => {}
            }
        }
        match found.is_empty() {
            false => Ok(found),
            true => Err(self.lacking(provider, order, unusable)),
        }
    }

    fn there(&self, provider: &Provider, whose: Whose) -> Option<There<'s>> {
        let plan = self.session.keyrings.of(self.session, whose)?;
        Some(match plan.key_for(&provider.slug)? {
            Ok(at_hand) => There::AtHand(at_hand),
            Err(reason) => There::Unusable(reason),
        })
    }

    /// No key that may be used, and what to do about it.
    fn lacking(&self, provider: &Provider, order: &[Whose], unusable: Option<&str>) -> Lacks {
        let slug = &provider.slug;
        let policy = self.session.keyrings.policy;
        let secret = provider.key_name().unwrap_or_default();
        let said = match (unusable, order) {
            (Some(reason), _) => reason.to_owned(),
            (None, [Whose::Platform]) => format!(
                "this workspace's policy is {policy}, which leaves the platform's keys alone, and the platform lends none for {slug}"
            ),
            (None, [Whose::Team]) if policy == ByokPolicy::RequireTeam => {
                format!("this workspace's policy is {policy}, and it has no key for {slug}")
            }
            (None, order) if order.contains(&Whose::Own) => {
                format!("neither you nor this workspace has a key for {slug}")
            }
            (None, _) => format!("this workspace has no key for {slug}"),
        };
        let fix = match order {
            [Whose::Platform] => "orch byok policy prefer_team lets the team's keys serve".to_owned(),
            order if order.contains(&Whose::Own) => {
                format!("orch byok set {slug}, or for the workspace: orch secrets set {secret}")
            }
            _ => format!("orch secrets set {secret}"),
        };
        let details = json!({
            "provider": slug, "names": provider.env, "policy": policy.as_str(),
            "looked_at": order.iter().map(|whose| whose.as_str()).collect::<Vec<_>>(),
        });
        Lacks { said, fix, details }
    }
}

/// No key that may be used.
struct Lacks {
    /// Why.
    said: String,
    /// What to do about it.
    fix: String,
    details: Value,
}

impl Lacks {
    fn into_error(self, ask: &Ask) -> ApiError {
        let Lacks { said, fix, details } = self;
        let error = refused(ask, "orch_no_key", StatusCode::UNPROCESSABLE_ENTITY, format!("{said}: {fix}"));
        ApiError { details: Some(Box::new(details)), ..error }
    }
}

/// A refusal on account of what the request says of keys.
fn refused(ask: &Ask, code: &str, status: StatusCode, message: String) -> ApiError {
    let param = if ask.is_empty() { "model" } else { ask.field() };
    ApiError {
        status: Some(status.as_u16()),
        code: Some(code.to_owned()),
        param: Some(param.to_owned()),
        ..ApiError::new(Class::NoAccess, message)
    }
}

/// The provider of this name, which answers models.
fn named<'c>(catalog: &'c Catalog, field: &'static str, name: &str) -> Result<&'c Provider, ApiError> {
    let wrong = |message: String, candidates: Vec<&str>| ApiError {
        code: Some("orch_unknown_provider".to_owned()),
        param: Some(field.to_owned()),
        details: Some(Box::new(json!({ "providers": candidates }))),
        ..ApiError::new(Class::BadRequest, message)
    };
    let thinks = |provider: &&Provider| !provider.inference.is_empty();
    let known = || catalog.providers().filter(thinks).map(|provider| provider.slug.as_str()).collect();
    let Some(provider) = catalog.provider(name) else {
        if let Some(other) = catalog.anybody(name) {
            return Err(wrong(format!("{field}: {} answers no models", other.slug), known()));
        }
        let candidates: Vec<&str> = known();
        let near = nearest_provider(catalog.providers(), name);
        let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        let message =
            format!("{field}: there is no provider {name:?}{near}; known are {}", candidates.join(", "));
        return Err(wrong(message, candidates));
    };
    if !thinks(&provider) {
        return Err(wrong(format!("{field}: {} answers no models", provider.slug), known()));
    }
    Ok(provider)
}

/// Where a model is at the provider that the request insists on.
///
/// # Errors
/// It does not have the model.
pub(crate) fn model_at(
    catalog: &Catalog,
    provider: &Provider,
    ask: &Ask,
    asked: &ModelName,
) -> Result<ModelRoute, ApiError> {
    let (field, name) = ask.provider().unwrap_or(("model", provider.slug.as_str()));
    resolve_at(catalog, provider, name, asked).map(|found| found.route).map_err(|elsewhere| ApiError {
        code: Some("orch_model_elsewhere".to_owned()),
        param: Some(field.to_owned()),
        details: Some(Box::new(json!({ "candidates": elsewhere.candidates }))),
        ..ApiError::new(Class::NoModel, format!("{field}: {elsewhere}"))
    })
}

/// What a request of a run says of its keys: they are the run's, whatever it says, and only narrowed here.
///
/// # Errors
/// It insists on what the run does not have.
pub(crate) fn narrowed(
    ask: &Ask,
    catalog: &Catalog,
    mut planned: Vec<Planned>,
) -> Result<Vec<Planned>, ApiError> {
    if ask.is_empty() {
        return Ok(planned);
    }
    if let Some((field, name)) = ask.provider() {
        let provider = named(catalog, field, name)?;
        planned.retain(|planned| planned.provider.slug == provider.slug);
        if planned.is_empty() {
            let message = format!("{field}: none of the models that may serve this is at {}", provider.slug);
            return Err(ApiError { param: Some(field.to_owned()), ..ApiError::new(Class::NoModel, message) });
        }
    }
    let mut left_out = None;
    planned.retain_mut(|planned| {
        let wants_key = !planned.keys.is_empty();
        planned.keys.retain(|key| {
            let leaves = leaves(ask, &*key.credential);
            if !leaves {
                left_out.get_or_insert((planned.provider.slug.clone(), key.credential.whose()));
            }
            leaves
        });
        !wants_key || !planned.keys.is_empty()
    });
    if planned.is_empty()
        && let Some((slug, whose)) = left_out
    {
        let whose = match whose {
            Whose::Own => "its caller's own",
            Whose::Team => "the workspace's",
            Whose::Platform => "the platform's",
        };
        let field = ask.field();
        let message = format!(
            "this run's key for {slug} is {whose}, and {field} leaves that out: leave out {field}, or have the run started with \
             another key"
        );
        return Err(refused(ask, "orch_no_key", StatusCode::UNPROCESSABLE_ENTITY, message));
    }
    if ask.is_strict() {
        planned.truncate(1);
    }
    Ok(planned)
}

/// Whether a run's key may serve a request that says this: whoever asks for a brought one is not served with the platform's
/// unless they say so, and who wants none of their own gets none of those.
fn leaves(ask: &Ask, key: &dyn Credential) -> bool {
    match (ask.enabled(), key.whose()) {
        // A simulation's keys are nobody's.
        _ if key.source() == "simulated" => true,
        (Some(true), Whose::Platform) => ask.falls_back(),
        (Some(false), Whose::Own) => false,
        _ => true,
    }
}
