//! What there is to ask: `GET /v1/models` and `/v1/models/MODEL`, Gemini's below `/v1beta`, and Ollama's `GET /api/tags`.
//!
//! Each model is listed in the client's form, with its provider, whether there is a key for it and whose, and, below
//! `orch`, what the catalog knows of it.

use std::time::SystemTime;

use http::{Response, StatusCode};
use orch_manifests::{
    Auth, Catalog, Dialect, Model, ModelName, Price, Provider, Target, Whose, resolve_model,
};
use orch_proxy::Body;

use crate::byok::{Ask, Choice};
use crate::clients::of_target;
use crate::dialect::unescaped;
use crate::gateway::error_reply;
use crate::health::State;
use crate::ir::{ApiError, Class};
use crate::plan::{AtHand, route_of};
use crate::route::json_reply;
use crate::session::Session;

mod forms;

/// A model as it is listed.
#[derive(Debug)]
struct Listed<'p> {
    /// `provider/model`: the name that always leads to this one; of a route its name, of an operator's pattern the pattern.
    id: String,
    kind: Kind<'p>,
    provider: &'p str,
    known: Option<&'p Model>,
    price: Option<Price>,
    key: Key,
}

/// What an entry is.
#[derive(Clone, Copy, Debug)]
enum Kind<'p> {
    /// A model.
    Model,
    /// Every model whose name fits, as the operator says.
    Pattern,
    /// A route's name, which stands for these models.
    Route(&'p [Target]),
}

/// Whether there is a key for a model.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    /// One that the caller or the workspace has brought.
    Present(Whose),
    /// The platform's: what the operator lends, a simulation's, or the operator's own server, which wants none.
    Platform,
    /// None is needed.
    NotNeeded,
    /// One that serves requests which ask for it, and no others: a member's own where the policy wants that asked.
    OnRequest(Whose),
    /// There is none that can be used, and why.
    Missing(String),
}

/// Who routes are listed as owned by.
const ROUTES: &str = "orch";

/// The path of the model that a request asks about, decoded: `/v1/models/MODEL` or `/v1beta/models/MODEL`.
pub(crate) fn asked_about(path: &str) -> Option<String> {
    let rest = path.strip_prefix("/v1/models/").or_else(|| path.strip_prefix("/v1beta/models/"))?;
    let name = unescaped(rest)?;
    // Client libraries put the whole resource name there when they were given one.
    let name = name.strip_prefix("models/").unwrap_or(&name);
    (!name.is_empty()).then(|| name.to_owned())
}

/// The plan's models; for clients, every model that the catalog knows, those first that can be asked. Then the operator's
/// patterns, and the routes.
pub(crate) fn list(spoken: Dialect, session: &Session, catalog: &Catalog) -> Response<Body> {
    let body = forms::list(spoken, &all(session, catalog));
    json_reply(StatusCode::OK, body.to_string().into(), None)
}

/// One model, by any of its names.
pub(crate) fn one(spoken: Dialect, session: &Session, catalog: &Catalog, asked: &str) -> Response<Body> {
    match find(session, catalog, asked) {
        Ok(found) => {
            let body = forms::one(spoken, &found, asked);
            json_reply(StatusCode::OK, body.to_string().into(), None)
        }
        Err(reason) => {
            let error = ApiError {
                status: Some(StatusCode::NOT_FOUND.as_u16()),
                param: Some("model".to_owned()),
                ..ApiError::new(Class::NoModel, reason)
            };
            error_reply(spoken, &error)
        }
    }
}

fn all<'p>(session: &'p Session, catalog: &'p Catalog) -> Vec<Listed<'p>> {
    let plan = &*session.plan;
    let mut listed: Vec<Listed<'p>> = Vec::new();
    match &plan.clients {
        None => {
            for planned in &plan.candidates {
                let credentials = planned.keys.iter().map(|key| &*key.credential);
                let key =
                    key_of(session, &planned.provider, planned.sent.as_deref(), &planned.model, credentials);
                let model = Listed {
                    id: planned.name(),
                    kind: Kind::Model,
                    provider: planned.provider.slug.as_str(),
                    known: planned.known(),
                    price: planned.provider.price(&planned.model),
                    key,
                };
                // The same model may be there with other keys.
                if !listed.iter().any(|known| known.id == model.id) {
                    listed.push(model);
                }
            }
        }
        Some(clients) => {
            let all = plan.at_hand.iter().map(|at_hand| &*at_hand.provider);
            let all = all.chain(clients.lacking.iter().map(|lacking| &*lacking.provider));
            let mut missing = Vec::new();
            for provider in all {
                let keys = Keys::of(session, provider);
                let models = known(keys.provider().unwrap_or(provider), &|model| keys.key(session, model));
                match keys.provider() {
                    Some(_) => listed.extend(models),
                    None => missing.extend(models),
                }
            }
            listed.extend(missing);
        }
    }
    listed.extend(session.routes.iter().map(|(name, route)| {
        let kind = Kind::Route(&route.targets);
        let key = key_of_route(session, catalog, &route.targets);
        Listed { id: name.to_string(), kind, provider: ROUTES, known: None, price: None, key }
    }));
    listed
}

/// The models that the catalog knows of a provider, and those that its operator says it has.
fn known<'p>(provider: &'p Provider, key: &dyn Fn(&str) -> Key) -> Vec<Listed<'p>> {
    let models = provider.models.iter().map(|model| of_provider(provider, &model.id, key(&model.id)));
    let further = provider.model_patterns.iter().filter(|pattern| provider.model(pattern).is_none());
    let further = further.map(|pattern| Listed {
        kind: if pattern.contains('*') { Kind::Pattern } else { Kind::Model },
        ..of_provider(provider, pattern, key(pattern))
    });
    models.chain(further).collect()
}

fn of_provider<'p>(provider: &'p Provider, model: &str, key: Key) -> Listed<'p> {
    let slug = provider.slug.as_str();
    Listed {
        id: format!("{slug}/{model}"),
        kind: Kind::Model,
        provider: slug,
        known: provider.model(model),
        price: provider.price(model),
        key,
    }
}

/// The entry of a model by any of its names. A model that a provider may have, and that the catalog does not list, is one
/// as well: its provider would be asked.
fn find<'p>(session: &'p Session, catalog: &'p Catalog, asked: &str) -> Result<Listed<'p>, String> {
    let plan = &*session.plan;
    if let Some((name, route)) = route_of(&session.routes, asked) {
        let kind = Kind::Route(&route.targets);
        let key = key_of_route(session, catalog, &route.targets);
        return Ok(Listed { id: name.to_string(), kind, provider: ROUTES, known: None, price: None, key });
    }
    if let Some(listed) = all(session, catalog).into_iter().find(|listed| listed.id == asked) {
        return Ok(listed);
    }
    let name: ModelName = asked.parse().map_err(|error| format!("{error}"))?;
    let route = resolve_model(catalog, &name).map_err(|unknown| unknown.to_string())?;
    let lacking = plan.clients.iter().flat_map(|clients| &clients.lacking);
    let mut lacking = lacking.map(|lacking| &*lacking.provider);
    let at_hand = plan.provider(&route.provider);
    let provider = at_hand.map(|at_hand| &*at_hand.provider);
    let Some(provider) = provider.or_else(|| lacking.find(|provider| provider.slug == route.provider)) else {
        return Err(format!("{asked} is {}'s, which cannot be asked from here", route.provider));
    };
    let keys = match (&plan.clients, at_hand) {
        (None, Some(at_hand)) => Keys { plain: Ok(at_hand), asked: None },
        _ => Keys::of(session, provider),
    };
    let provider = keys.provider().unwrap_or(provider);
    Ok(of_provider(provider, &route.model, keys.key(session, &route.model)))
}

/// The keys of a provider that a client is served with.
struct Keys<'s> {
    /// Who says nothing of keys; or why there are none.
    plain: Result<&'s AtHand, String>,
    /// Who asks for a key of their own.
    asked: Option<&'s AtHand>,
}

impl<'s> Keys<'s> {
    fn of(session: &'s Session, provider: &Provider) -> Self {
        let first = |ask: &Ask| {
            Choice::of(session, ask).map_err(|error| error.message).and_then(|choice| choice.first(provider))
        };
        Self { plain: first(&Ask::default()), asked: first(&Ask::for_own()).ok() }
    }

    /// The provider where these keys are for.
    fn provider(&self) -> Option<&'s Provider> {
        let at_hand = self.plain.as_ref().ok().copied().or(self.asked)?;
        Some(&at_hand.provider)
    }

    /// What there is for a model.
    fn key(&self, session: &Session, model: &str) -> Key {
        let plain = match &self.plain {
            Ok(at_hand) => key_at_hand(session, at_hand, model),
            Err(reason) => Key::Missing(reason.clone()),
        };
        plain.or_asked(|| self.asked.map(|at_hand| key_at_hand(session, at_hand, model)))
    }
}

impl Key {
    /// The same, where what serves those who ask for it is better than none.
    fn or_asked(self, asked: impl FnOnce() -> Option<Key>) -> Key {
        match self {
            Key::Missing(reason) => match asked() {
                Some(Key::Present(whose)) => Key::OnRequest(whose),
                _ => Key::Missing(reason),
            },
            found => found,
        }
    }
}

fn key_at_hand(session: &Session, at_hand: &AtHand, model: &str) -> Key {
    key_of(session, &at_hand.provider, None, model, at_hand.keys.iter().map(|key| &**key))
}

/// Whether one of these keys is there for a model, and is not one that its provider rejected.
fn key_of<'k>(
    session: &Session,
    provider: &Provider,
    sent: Option<&str>,
    model: &str,
    credentials: impl Iterator<Item = &'k dyn orch_proxy::Credential>,
) -> Key {
    if provider.auth == Auth::None {
        return if provider.pinned { Key::Platform } else { Key::NotNeeded };
    }
    let now = SystemTime::now();
    let mut rejected = Vec::new();
    for credential in credentials {
        match (session.health.state(credential, sent.unwrap_or(model), now), credential.whose()) {
            (State::Rejected(_), _) => rejected.push(credential.id()),
            (_, Whose::Platform) => return Key::Platform,
            (_, whose) => return Key::Present(whose),
        }
    }
    match rejected.is_empty() {
        true => Key::Missing(format!("there is no key for {}", provider.slug)),
        false => Key::Missing(format!("{} rejected {} before", provider.slug, rejected.join(", "))),
    }
}

/// The best that a route's models have.
fn key_of_route(session: &Session, catalog: &Catalog, targets: &[Target]) -> Key {
    let plain = best_of(session, catalog, targets, &Ask::default());
    plain.or_asked(|| {
        session.plan.clients.is_some().then(|| best_of(session, catalog, targets, &Ask::for_own()))
    })
}

/// The same for requests that say this of their key.
fn best_of(session: &Session, catalog: &Catalog, targets: &[Target], ask: &Ask) -> Key {
    let choice = match Choice::of(session, ask) {
        Ok(choice) => choice,
        Err(error) => return Key::Missing(error.message),
    };
    let mut reasons = Vec::new();
    let mut best = None;
    for target in targets {
        match of_one(session, catalog, target, &choice) {
            Ok(Key::Missing(reason)) | Err(reason) => reasons.push(format!("{}: {reason}", target.model)),
            Ok(Key::Present(whose)) => return Key::Present(whose),
            Ok(other) => best = best.or(Some(other)),
        }
    }
    best.unwrap_or_else(|| Key::Missing(reasons.join("; ")))
}

/// What there is for one target of a route.
///
/// # Errors
/// Why it leads nowhere.
fn of_one(
    session: &Session,
    catalog: &Catalog,
    target: &Target,
    choice: &Choice<'_, '_>,
) -> Result<Key, String> {
    let resolved = resolve_model(catalog, &target.model).map_err(|unknown| unknown.to_string())?;
    let at_hand = match &session.plan.clients {
        Some(_) => of_target(choice, catalog, target, &resolved)?.into_iter().next(),
        None => session.plan.provider(&resolved.provider),
    };
    let at_hand = at_hand.ok_or("its provider cannot be asked from here")?;
    let planned = at_hand.target(resolved, target)?;
    let keys = planned.keys.iter().map(|key| &*key.credential);
    Ok(key_of(session, &planned.provider, planned.sent.as_deref(), &planned.model, keys))
}

#[cfg(test)]
mod tests;
