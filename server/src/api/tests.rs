//! Requests, from their token to their answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use orch_proxy::{Body, empty, full};
use orch_vault::VaultLocation;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::Api;
use crate::caller::{Caller, Client, NewToken, Peer, Scope};
use crate::config::Config;
use crate::environment::Environment;
use crate::home::Home;
use crate::service::{Mode, Parts, Service};
use crate::store::TokenRow;

mod access;
mod errors;
mod grants;
mod models;
mod readiness;
mod registry;
mod routes;
mod runs;
mod secrets;

/// A stranger on this machine.
const LOCAL: Peer = Peer::Tcp { address: std::net::SocketAddr::new(LOOPBACK, 9), tls: false };
const LOOPBACK: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// An API over an empty home. Its program is nothing that could be started: a run is accepted, recorded and fails.
struct Stage {
    api: Api,
    service: Arc<Service>,
    _folder: tempfile::TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// Its status, and the code of its error.
    fn refused(&self) -> (u16, String) {
        let json = self.json();
        assert_eq!(json["request_id"], self.headers["x-request-id"].to_str().expect("text"));
        assert!(json["error"]["hints"].is_array() && json["error"]["details"].is_object(), "{json}");
        (self.status.as_u16(), json["error"]["code"].as_str().unwrap_or_default().to_owned())
    }
}

impl Stage {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let set = BTreeMap::from([("ORCH_HOME".to_owned(), folder.path().display().to_string())]);
        let home = Home::locate(&Environment::Fixed(set)).expect("a home");
        let config = Config::default();
        let catalog = config.catalog().expect("a catalog");
        let vault = VaultLocation {
            store: home.vault(),
            key_file: home.vault_key(),
            workspace: "default".to_owned(),
            custody: orch_vault::Custody::default(),
        };
        let program = PathBuf::from("/nonexistent/orch");
        let environment = Environment::Fixed(BTreeMap::new());
        let parts = Parts { home, config, catalog, vault, program, simulate: None, environment };
        let service = Service::open(parts, Mode::Embedded).await.expect("a service");
        Self { api: Api::new(Arc::clone(&service)), service, _folder: folder }
    }

    /// A token of this workspace, made behind the API's back, as another process would.
    async fn token(&self, workspace: &str, scopes: &[Scope]) -> String {
        self.token_until(workspace, scopes, None).await
    }

    async fn token_until(
        &self,
        workspace: &str,
        scopes: &[Scope],
        expires: Option<OffsetDateTime>,
    ) -> String {
        let NewToken { id, text, hash } = NewToken::random().expect("a token");
        let row = TokenRow {
            id,
            workspace: workspace.to_owned(),
            name: format!("{workspace}'s"),
            hash,
            scopes: scopes.iter().map(Scope::to_string).collect(),
            created: OffsetDateTime::now_utc(),
            expires,
            revoked: None,
            last_used: None,
        };
        self.service.store().add_token(row).await.expect("added");
        text.expose(|text| String::from_utf8(text.to_vec()).expect("text"))
    }

    async fn send(&self, caller: Option<Caller>, peer: Peer, request: Request<Body>) -> Answer {
        let response = self.api.call(caller, peer, request).await;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("a whole body").to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    /// Asks as whoever has this token, or as the owner without one.
    async fn ask(&self, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let caller = token.is_empty().then(Caller::owner);
        let peer = if token.is_empty() { Peer::Unix } else { LOCAL };
        self.send(caller, peer, request(method, path, token, body)).await
    }

    /// Asks as the owner.
    async fn own(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.ask("", method, path, body).await
    }
}

fn request(method: &str, path: &str, token: &str, body: Option<&Value>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = match body {
        None => empty(),
        Some(json) => {
            request = request.header("content-type", "application/json");
            full(json.to_string())
        }
    };
    request.body(body).expect("a request")
}
