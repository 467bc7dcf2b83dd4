//! What the model calls of a workspace go by, beside its keys: the routes of the operator and its own, and what is known
//! of how its keys fare. Both outlive the process, in the store.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use orch_gateway::{Health, KeyHealth};
use orch_manifests::{Catalog, Route, RouteName, Routes};

use crate::failure::{Failure, Kind};
use crate::keeper::name_of;
use crate::store::{RouteRow, Store};

/// What the calls of one workspace go by.
#[derive(Clone, Default)]
pub(crate) struct Routing {
    pub(crate) routes: Arc<Routes>,
    pub(crate) health: Arc<Health>,
}

impl Routing {
    /// That of the user's own runs: the configuration's routes, and what is learnt of keys in this run alone.
    pub(crate) fn local(routes: &Arc<Routes>) -> Self {
        Self { routes: Arc::clone(routes), health: Arc::default() }
    }
}

/// Numbers of keys, by provider and by what stands against them.
pub(crate) type SetBack = BTreeMap<(String, &'static str), u64>;

/// What is kept at hand of a workspace.
struct Kept {
    /// The operator's, with which those are joined.
    operators: Arc<Routes>,
    joined: Routing,
}

/// The routing of every workspace. Nothing is read before somebody asks.
pub(crate) struct Routings {
    store: Store,
    catalog: Arc<Catalog>,
    kept: RwLock<HashMap<Arc<str>, Kept>>,
    /// One change after another, so that what is kept is what is stored.
    changing: tokio::sync::Mutex<()>,
}

impl Routings {
    /// Of the workspaces of this store.
    pub(crate) fn new(store: Store, catalog: Arc<Catalog>) -> Self {
        Self { store, catalog, kept: RwLock::default(), changing: tokio::sync::Mutex::new(()) }
    }

    /// The routing of a workspace, with these routes of the operator, whose names come first.
    ///
    /// # Errors
    /// Those of [`Store`].
    pub(crate) async fn of(&self, workspace: &str, operators: &Arc<Routes>) -> Result<Routing, Failure> {
        if let Some(found) = self.at_hand(workspace, operators) {
            return Ok(found);
        }
        // Under the lock, so that a workspace has one health and not two.
        let _one = self.changing.lock().await;
        if let Some(found) = self.at_hand(workspace, operators) {
            return Ok(found);
        }
        let own = self.stored(workspace).await?;
        let known = {
            let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
            kept.get(workspace).map(|kept| Arc::clone(&kept.joined.health))
        };
        let health = match known {
            Some(health) => health,
            None => self.health(workspace).await?,
        };
        Ok(self.keep(workspace, own, operators, health))
    }

    /// Puts a route of a workspace in the place of the one that had its name.
    ///
    /// # Errors
    /// `route_invalid`; `route_of_operator` when the name is the configuration's; those of [`Store`].
    pub(crate) async fn put(
        &self,
        workspace: &str,
        operators: &Arc<Routes>,
        name: RouteName,
        route: Route,
    ) -> Result<(), Failure> {
        if operators.get(name.as_str()).is_some() {
            return Err(of_operator(&name));
        }
        let mut alone = Routes::none();
        alone.add(name.clone(), route.clone(), &self.catalog).map_err(|error| {
            Failure::usage("route_invalid", format!("the route {name}: {error}"))
                .detail("field", error.field.as_str())
        })?;
        let text = serde_json::to_string(&route).map_err(|e| Failure::defect(format!("a route: {e}")))?;
        let row = RouteRow { workspace: workspace.to_owned(), name, route: text };
        let _one = self.changing.lock().await;
        self.store.put_route(row).await?;
        self.forget_routes(workspace);
        Ok(())
    }

    /// Takes a route of a workspace away; false when it has none of this name.
    ///
    /// # Errors
    /// `route_of_operator` when the name is the configuration's; those of [`Store`].
    pub(crate) async fn remove(
        &self,
        workspace: &str,
        operators: &Arc<Routes>,
        name: &RouteName,
    ) -> Result<bool, Failure> {
        if operators.get(name.as_str()).is_some() {
            return Err(of_operator(name));
        }
        let _one = self.changing.lock().await;
        let removed = self.store.remove_route(workspace, name).await?;
        self.forget_routes(workspace);
        Ok(removed)
    }

    fn at_hand(&self, workspace: &str, operators: &Arc<Routes>) -> Option<Routing> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let found = kept.get(workspace)?;
        Arc::ptr_eq(&found.operators, operators).then(|| found.joined.clone())
    }

    /// The routes are read again before the next call; what is known of keys stays.
    fn forget_routes(&self, workspace: &str) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = kept.get_mut(workspace) {
            // Nobody's routes, so that they are those of no configuration.
            kept.operators = Arc::default();
        }
    }

    fn keep(&self, workspace: &str, own: Routes, operators: &Arc<Routes>, health: Arc<Health>) -> Routing {
        let routes = operators.joined_by(own);
        let joined = Routing { routes: Arc::new(routes), health };
        let new = Kept { operators: Arc::clone(operators), joined: joined.clone() };
        self.kept.write().unwrap_or_else(PoisonError::into_inner).insert(workspace.into(), new);
        joined
    }

    /// The workspace's own routes. One whose model the catalog has no more leads nowhere, and says so when it is asked.
    async fn stored(&self, workspace: &str) -> Result<Routes, Failure> {
        let mut routes = Routes::none();
        for RouteRow { name, route, .. } in self.store.routes(workspace).await? {
            let route: Route = serde_json::from_str(&route).map_err(|e| {
                Failure::new(Kind::Server, "store_unusable", format!("the route {name} is not readable: {e}"))
            })?;
            routes.restore(name, route);
        }
        Ok(routes)
    }

    /// How many keys something stands against, by provider and by what that is: of the workspaces that have made calls
    /// since the start.
    pub(crate) fn set_back(&self, now: SystemTime) -> SetBack {
        let healths: Vec<Arc<Health>> = {
            let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
            kept.values().map(|kept| Arc::clone(&kept.joined.health)).collect()
        };
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut counts = SetBack::new();
        for (name, health) in healths.iter().flat_map(|health| health.all()) {
            let stands = |until: u64| u128::from(until) > now;
            let state = match health {
                KeyHealth { rejected: Some(_), .. } => "rejected",
                KeyHealth { unpaid: Some(until), .. } if stands(until) => "out_of_money",
                KeyHealth { models, .. } if models.values().any(|back| stands(back.until)) => "limited",
                _ => continue,
            };
            let provider = self
                .catalog
                .provider_of_key(name_of(&name))
                .map_or("other", |provider| provider.slug.as_str());
            *counts.entry((provider.to_owned(), state)).or_default() += 1;
        }
        counts
    }

    async fn health(&self, workspace: &str) -> Result<Arc<Health>, Failure> {
        let rows = self.store.health_of_keys(workspace).await?;
        // What cannot be read is not known: the keys are asked.
        let known = rows.into_iter().filter_map(|(key, text)| Some((key, serde_json::from_str(&text).ok()?)));
        let (store, workspace) = (self.store.clone(), workspace.to_owned());
        Ok(Arc::new(Health::kept(known, move |key, health| {
            if let Ok(text) = serde_json::to_string(health) {
                store.note_health(&workspace, key, text);
            }
        })))
    }
}

fn of_operator(name: &RouteName) -> Failure {
    Failure::usage("route_of_operator", format!("{name} is a route of the server's configuration"))
        .hint("choose another name, or have the operator change config.yaml")
}

#[cfg(test)]
mod tests;
