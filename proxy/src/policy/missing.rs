//! The rule that a refused request would have needed: as fields for a program, as a line for a person.

use http::Method;
use orch_manifests::Scheme;
use serde::{Serialize, Serializer};

use super::Asked;

/// A rule that allows one request and no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleMissing {
    /// Plain or TLS.
    #[serde(serialize_with = "scheme")]
    pub scheme: Scheme,
    /// The host, in its canonical spelling.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The method.
    #[serde(serialize_with = "method")]
    pub method: Method,
    /// The canonical path, without the query.
    pub path: String,
}

impl RuleMissing {
    pub(super) fn for_request(asked: &Asked<'_>) -> Self {
        Self {
            scheme: asked.scheme,
            host: asked.host.to_string(),
            port: asked.port,
            method: asked.method.clone(),
            path: asked.path.path().to_owned(),
        }
    }

    /// An item for the manifest's `egress` list that allows this request and, unless there is a `*` in its path, no other.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { scheme, host, port, method, path } = self;
        let scheme_part =
            if *scheme == Scheme::Https { String::new() } else { format!(", scheme: {scheme}") };
        let port_part =
            if *port == scheme.default_port() { String::new() } else { format!(", port: {port}") };
        // A JSON string is a YAML scalar. A `*` in a path has no spelling that is not a pattern as well.
        let path = serde_json::Value::from(path.as_str());
        format!("- {{ host: {host}{scheme_part}{port_part}, methods: [{method}], paths: [{path}] }}")
    }
}

fn scheme<S: Serializer>(scheme: &Scheme, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(scheme.as_str())
}

fn method<S: Serializer>(method: &Method, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(method.as_str())
}
