//! `routes:` of the configuration.

use std::collections::BTreeMap;

use orch_manifests::{Catalog, Route, RouteName, Routes};
use serde::{Deserialize, Deserializer};

/// The routes; a section without any is one that is not there.
pub(super) fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Route>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The field that is wrong, and why.
type Wrong = (String, String);

/// The routes, each of which can be what it says.
pub(super) fn checked(raw: BTreeMap<String, Route>, catalog: &Catalog) -> Result<Routes, Wrong> {
    let mut routes = Routes::none();
    for (name, route) in raw {
        let route = Route { by_operator: true, ..route };
        let field = format!("routes.{name}");
        let parsed: RouteName = name.parse().map_err(|e| (field.clone(), format!("{e}")))?;
        routes.add(parsed, route, catalog).map_err(|error| match error.field.is_empty() {
            true => (field, error.reason),
            false => (format!("{field}.{}", error.field), error.reason),
        })?;
    }
    Ok(routes)
}
