//! The rule that a refused request would have needed: as fields for a program, as a line for a person.

use http::Method;
use orch_manifests::{HostName, Scheme};
use serde::{Serialize, Serializer};

use super::Asked;

/// A rule that allows one request and no other, or one tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleMissing {
    /// Plain or TLS.
    #[serde(serialize_with = "scheme")]
    pub scheme: Scheme,
    /// The host, in its canonical spelling.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The method; none for a tunnel, where nobody could enforce one.
    #[serde(serialize_with = "method", skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// The canonical path, without the query; none for a tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl RuleMissing {
    pub(super) fn for_request(asked: &Asked<'_>) -> Self {
        Self {
            scheme: asked.scheme,
            host: asked.host.to_string(),
            port: asked.port,
            method: Some(asked.method.clone()),
            path: Some(asked.path.path().to_owned()),
        }
    }

    pub(super) fn for_tunnel(host: &HostName, port: u16) -> Self {
        Self { scheme: Scheme::Https, host: host.to_string(), port, method: None, path: None }
    }

    /// Bytes of the path; a rule whose path is cut short would allow something else.
    #[must_use]
    pub fn path_length(&self) -> usize {
        self.path.as_ref().map_or(0, String::len)
    }

    /// An item for the manifest's `egress` list that allows this request and, unless there is a `*` in its path, no other;
    /// or all that a tunnel may carry.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { scheme, host, port, method, path } = self;
        let scheme_part =
            if *scheme == Scheme::Https { String::new() } else { format!(", scheme: {scheme}") };
        let port_part =
            if *port == scheme.default_port() { String::new() } else { format!(", port: {port}") };
        let method_part = method.as_ref().map(|method| format!(", methods: [{method}]")).unwrap_or_default();
        // A JSON string is a YAML scalar. A `*` in a path has no spelling that is not a pattern as well.
        let path = path.as_ref().map(|path| serde_json::Value::from(path.as_str()));
        let path_part = path.map(|path| format!(", paths: [{path}]")).unwrap_or_default();
        format!("- {{ host: {host}{scheme_part}{port_part}{method_part}{path_part} }}")
    }
}

fn scheme<S: Serializer>(scheme: &Scheme, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(scheme.as_str())
}

// Serde hands over a reference to the field.
fn method<S: Serializer>(method: &Option<Method>, serializer: S) -> Result<S::Ok, S::Error> {
    method.as_ref().map(Method::as_str).serialize(serializer)
}
