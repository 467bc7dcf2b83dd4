//! The client of `orch serve`'s HTTP contract: in process, over the socket of this home's server, or over TCP.
//!
//! One small set of calls for all commands. What a server refuses becomes the failure that it would have been here;
//! what is not of the contract is `server_unexpected`; who does not answer is `server_unreachable`.

use std::sync::Arc;

use ::bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use orch_proxy::Body;
use orch_server::Failure;
use orch_vault::Secret;
use serde::de::DeserializeOwned;
use serde_json::Value;

mod address;
mod blobs;
mod bytes;
mod credentials;
mod events;
mod exchange;
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
pub(crate) use events::{Broken, Events};
pub(crate) use exchange::REPORT_LIMIT;
pub(crate) use json::{Revealed, json};
pub(crate) use problem::Told;
pub(crate) use wire::{Place, tls};

use exchange::DOCUMENT_LIMIT;
use upload::{Counted, Sent};
use wire::Wire;

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
        self.call(Method::GET, path, None, DOCUMENT_LIMIT).await
    }

    /// `GET` of a run, whose result may be larger than other answers.
    pub(crate) async fn get_run<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(Method::GET, path, None, REPORT_LIMIT).await
    }

    /// `DELETE` of a run, answered as [`Client::get_run`] is.
    pub(crate) async fn delete_run<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(Method::DELETE, path, None, REPORT_LIMIT).await
    }

    /// `DELETE`, answered with JSON.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.call(Method::DELETE, path, None, DOCUMENT_LIMIT).await
    }

    /// `PUT` of JSON, answered with JSON.
    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &str, body: Bytes) -> Result<T, Failure> {
        self.call(Method::PUT, path, Some(body), DOCUMENT_LIMIT).await
    }

    /// `POST` of JSON, answered with JSON.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: Bytes) -> Result<T, Failure> {
        self.call(Method::POST, path, Some(body), DOCUMENT_LIMIT).await
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
        let (response, connection) = self.exchange(request, &asked, &Sent::default(), &|_| {}).await?;
        // The connection ends with the stream.
        let (response, _) = self.successful(response, connection, &asked).await?;
        if media_type(response.headers()) != Some("text/event-stream") {
            return Err(self.unexpected(&asked, "something other than events"));
        }
        Ok(Events::new(response.into_body()))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        limit: usize,
    ) -> Result<T, Failure> {
        let asked = format!("{method} {}", path.split('?').next().unwrap_or(path));
        let has_body = body.is_some();
        let (body, sent) = match body {
            None => (orch_proxy::empty(), Sent::default()),
            Some(bytes) => {
                let (body, sent) = Counted::new(bytes);
                (body.boxed_unsync(), sent)
            }
        };
        let mut request = self.request(method, path, body)?;
        if has_body {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let (response, connection) = self.exchange(request, &asked, &sent, &|_| {}).await?;
        self.finish(response, connection, &asked, limit).await
    }
}

fn media_type(headers: &http::HeaderMap) -> Option<&str> {
    let text = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(text.split(';').next().unwrap_or(text).trim())
}
