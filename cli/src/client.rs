//! The client of `orch serve`'s HTTP contract: in process, over the socket of this home's server, or over TCP.
//!
//! One small set of calls for all commands. What a server refuses becomes the failure that it would have been here;
//! what is not of the contract is `server_unexpected`; who does not answer is `server_unreachable`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use orch_proxy::Body;
use orch_server::Failure;
use orch_vault::Secret;
use serde::de::DeserializeOwned;
use serde_json::Value;

mod address;
mod blobs;
mod credentials;
mod events;
mod json;
mod problem;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod upload;
mod wire;

pub(crate) use address::ServerUrl;
pub(crate) use credentials::Credentials;
pub(crate) use events::Events;
pub(crate) use json::{Revealed, json};
pub(crate) use problem::Told;
pub(crate) use wire::{Place, tls};

use wire::Wire;

/// How long a server may take to begin its answer to a small request.
const ANSWER: Duration = Duration::from_secs(120);
/// Largest JSON answer that is read, in bytes.
const JSON_LIMIT: usize = 512 * 1024 * 1024;

/// The server's own call, without any connection.
pub(crate) type Handler = Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// How requests get to the server.
pub(crate) enum Channel {
    /// A server inside this process.
    InProcess(Handler),
    /// One that listens.
    Wire(Wire),
}

impl Channel {
    /// A server that listens somewhere; it is dialled when the first call is made.
    pub(crate) fn to(place: Place) -> Self {
        Self::Wire(Wire::new(place))
    }
}

/// A server, as the commands see it.
pub(crate) struct Client {
    channel: Channel,
    /// What messages call it: its URL, or "the server of this home".
    name: String,
    /// What the `host` header says.
    authority: String,
    token: Option<Secret>,
    /// What to do when it cannot be reached.
    unreachable_hints: Vec<String>,
}

impl Client {
    /// A client that is already known to the server: in process, or as the owner of its socket.
    pub(crate) fn trusted(channel: Channel, name: impl Into<String>) -> Self {
        Self {
            channel,
            name: name.into(),
            authority: "localhost".to_owned(),
            token: None,
            unreachable_hints: Vec::new(),
        }
    }

    /// A client of a server that listens on TCP, with the token that it presents there.
    ///
    /// The URL's own rules hold: without TLS it names this machine, so that no token is readable on the way.
    pub(crate) fn of_url(url: &ServerUrl, channel: Channel, token: Option<Secret>) -> Self {
        Self {
            channel,
            name: url.to_string(),
            authority: url.authority(),
            token,
            unreachable_hints: Vec::new(),
        }
    }

    /// Says what to do when the server cannot be reached.
    pub(crate) fn hint_when_unreachable(mut self, hint: impl Into<String>) -> Self {
        self.unreachable_hints.push(hint.into());
        self
    }

    /// What messages call the server.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the server is a part of this process.
    pub(crate) fn in_process(&self) -> bool {
        matches!(self.channel, Channel::InProcess(_))
    }

    /// Whether requests go over TCP, as they do to every machine but this one.
    pub(crate) fn on_network(&self) -> bool {
        matches!(&self.channel, Channel::Wire(wire) if wire.on_network())
    }

    /// The failure of an answer that is not of the contract.
    pub(crate) fn unexpected(&self, asked: &str, what: &str) -> Failure {
        problem::unexpected(&self.name, asked, what)
    }

    /// An answer in the contract's words, as the type that they are.
    pub(crate) fn typed<T: DeserializeOwned>(&self, asked: &str, answer: Value) -> Result<T, Failure> {
        serde_json::from_value(answer)
            .map_err(|e| self.unexpected(asked, &format!("JSON that it does not promise: {e}")))
    }

    /// `GET`, answered with JSON.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(Method::GET, path, None).await
    }

    /// `DELETE`, answered with JSON.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(Method::DELETE, path, None).await
    }

    /// `PUT` of JSON, answered with JSON.
    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &str, body: Bytes) -> Result<T, Failure> {
        self.call(Method::PUT, path, Some(body)).await
    }

    /// `POST` of JSON, answered with JSON.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: Bytes) -> Result<T, Failure> {
        self.call(Method::POST, path, Some(body)).await
    }

    /// The events of a run, from behind `after` on.
    pub(crate) async fn events(&self, path: &str, after: Option<&str>) -> Result<Events, Failure> {
        let asked = format!("GET {path}");
        let mut request = self.request(Method::GET, path, orch_proxy::empty())?;
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let Some(after) = after {
            let after = HeaderValue::from_str(after)
                .map_err(|_| self.unexpected(&asked, "an event whose id is no header"))?;
            request.headers_mut().insert("last-event-id", after);
        }
        let (response, connection) = self.exchange(request, &asked).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        if !status.is_success() {
            let body = self.read(response, JSON_LIMIT, &asked).await?;
            self.keep(connection);
            return Err(self.told(&asked, status, &headers, &body));
        }
        if media_type(&headers) != Some("text/event-stream") {
            return Err(self.unexpected(&asked, "something other than events"));
        }
        // The connection ends with the stream.
        Ok(Events::new(response.into_body()))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<T, Failure> {
        let asked = format!("{method} {}", path.split('?').next().unwrap_or(path));
        let has_body = body.is_some();
        let body = body.map_or_else(orch_proxy::empty, orch_proxy::full);
        let mut request = self.request(method, path, body)?;
        if has_body {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let (response, connection) = self.exchange(request, &asked).await?;
        self.finish(response, connection, &asked, false).await
    }

    /// Reads an answer to its end: the value, or the failure that it tells.
    async fn finish<T: DeserializeOwned>(
        &self,
        response: Response<Body>,
        connection: Connection,
        asked: &str,
        may_be_empty: bool,
    ) -> Result<T, Failure> {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.read(response, JSON_LIMIT, asked).await?;
        self.keep(connection);
        if !status.is_success() {
            return Err(self.told(asked, status, &headers, &body));
        }
        let text: &[u8] = if body.is_empty() && may_be_empty { b"null" } else { &body };
        serde_json::from_slice(text)
            .map_err(|e| self.unexpected(asked, &format!("JSON that it does not promise: {e}")))
    }

    fn request(&self, method: Method, path: &str, body: Body) -> Result<Request<Body>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("orch/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json")
            .body(body)
            .map_err(|e| Failure::defect(format!("{path:?} cannot be asked for: {e}")))?;
        if let Some(token) = &self.token {
            let value = token.expose(|token| HeaderValue::from_bytes(&[b"Bearer ", token].concat()));
            let mut value = value.map_err(|_| {
                Failure::usage(
                    "token_invalid",
                    "the token holds line breaks or other characters that no token has",
                )
            })?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
    }

    /// Sends a small request; the server has to begin its answer in time.
    async fn exchange(
        &self,
        request: Request<Body>,
        asked: &str,
    ) -> Result<(Response<Body>, Connection), Failure> {
        match tokio::time::timeout(ANSWER, self.send(request)).await {
            Ok(done) => done,
            Err(_) => Err(self.silent(asked, ANSWER)),
        }
    }

    async fn send(&self, request: Request<Body>) -> Result<(Response<Body>, Connection), Failure> {
        match &self.channel {
            Channel::InProcess(call) => Ok((call(request).await, None)),
            Channel::Wire(wire) => match wire.send(request).await {
                Ok(exchange) => Ok((exchange.response, Some(exchange.connection))),
                Err(failure) => Err(self.unreachable_hints.iter().cloned().fold(failure, Failure::hint)),
            },
        }
    }

    async fn read(&self, response: Response<Body>, limit: usize, asked: &str) -> Result<Bytes, Failure> {
        match Limited::new(response.into_body(), limit).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                Err(self.unexpected(asked, &format!("more than {} MiB", limit >> 20)))
            }
            Err(error) => Err(wire::unreachable(&self.name, &format!("the answer broke off: {error}"))),
        }
    }

    fn keep(&self, connection: Connection) {
        if let (Channel::Wire(wire), Some(connection)) = (&self.channel, connection) {
            wire.keep(connection);
        }
    }

    /// The failure that an answer tells, with a hint where this side knows more.
    fn told(&self, asked: &str, status: StatusCode, headers: &http::HeaderMap, body: &[u8]) -> Failure {
        let request = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        let failure = problem::failure(&self.name, asked, status, request, body);
        match failure.code() {
            "not_authenticated" if self.on_network() => failure.hint(format!("orch login {}", self.name)),
            _ => failure,
        }
    }

    fn silent(&self, asked: &str, waited: Duration) -> Failure {
        wire::unreachable(&self.name, &format!("no answer to {asked} within {} s", waited.as_secs()))
    }
}

/// What an answer came over; none in process.
type Connection = Option<hyper::client::conn::http1::SendRequest<Body>>;

fn media_type(headers: &http::HeaderMap) -> Option<&str> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or(text).trim())
}
