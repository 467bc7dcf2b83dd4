//! One request and its answer, neither of which may stand still or be larger than its kind ever is.
//!
//! A server is not trusted with this side's memory or patience: what it answers is bounded before it is read, and it is
//! given up when nothing has moved for a while. How long all of it takes is the line's affair.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use orch_proxy::Body;
use orch_server::Failure;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};

use super::upload::Sent;
use super::{Channel, Client, problem, wire};

/// How long nothing may move, in either direction.
const SILENCE: Duration = Duration::from_secs(120);
/// How often the progress of what is sent is looked at.
const TICK: Duration = Duration::from_millis(200);
/// Largest answer of names, listings and refusals. The largest of them are a manifest of 1 MiB and a page of a log, both
/// with every character escaped.
pub(super) const DOCUMENT_LIMIT: usize = 8 << 20;
/// Largest result of a run: six times the output that an agent has unless its manifest says otherwise.
pub(crate) const REPORT_LIMIT: usize = 64 << 20;

/// What an answer came over; none in process.
pub(super) type Connection = Option<hyper::client::conn::http1::SendRequest<Body>>;

impl Client {
    pub(super) fn request(&self, method: Method, path: &str, body: Body) -> Result<Request<Body>, Failure> {
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

    /// Sends a request. `sent` counts its body, and `progress` is told of it now and then.
    pub(super) async fn exchange(
        &self,
        request: Request<Body>,
        asked: &str,
        sent: &Sent,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(Response<Body>, Connection), Failure> {
        let exchange = self.send(request);
        tokio::pin!(exchange);
        let (mut last, mut since) = (0, Instant::now());
        loop {
            if let Ok(done) = timeout(TICK, &mut exchange).await {
                return done;
            }
            let now = sent.bytes();
            progress(now);
            if now != last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > SILENCE {
                return Err(self.silent(asked));
            }
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

    /// Reads an answer of at most `limit` bytes to its end: the value, or the failure that it tells.
    pub(super) async fn finish<T: DeserializeOwned>(
        &self,
        response: Response<Body>,
        connection: Connection,
        asked: &str,
        limit: usize,
    ) -> Result<T, Failure> {
        let (response, connection) = self.successful(response, connection, asked).await?;
        let body = self.read(response, limit, asked).await?;
        self.keep(connection);
        serde_json::from_slice(&body)
            .map_err(|e| self.unexpected(asked, &format!("JSON that it does not promise: {e}")))
    }

    /// An answer whose status says that it is no refusal.
    ///
    /// # Errors
    /// What a refusal tells.
    pub(super) async fn successful(
        &self,
        response: Response<Body>,
        connection: Connection,
        asked: &str,
    ) -> Result<(Response<Body>, Connection), Failure> {
        if response.status().is_success() {
            return Ok((response, connection));
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let body = self.read(response, DOCUMENT_LIMIT, asked).await?;
        self.keep(connection);
        Err(self.told(asked, status, &headers, &body))
    }

    /// All of a body.
    pub(super) async fn read(
        &self,
        response: Response<Body>,
        limit: usize,
        asked: &str,
    ) -> Result<Bytes, Failure> {
        let mut bytes = Vec::new();
        self.pieces(response, limit, asked, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })
        .await?;
        Ok(bytes.into())
    }

    /// Hands over a body piece by piece.
    pub(super) async fn pieces(
        &self,
        response: Response<Body>,
        limit: usize,
        asked: &str,
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut body = Limited::new(response.into_body(), limit);
        loop {
            match timeout(SILENCE, body.frame()).await {
                Ok(None) => return Ok(()),
                Ok(Some(Ok(frame))) => frame.data_ref().map_or(Ok(()), |piece| take(piece))?,
                Ok(Some(Err(error))) if error.is::<LengthLimitError>() => {
                    return Err(self.unexpected(asked, &format!("more than {} MiB", limit >> 20)));
                }
                Ok(Some(Err(error))) => {
                    return Err(wire::unreachable(&self.name, &format!("the answer broke off: {error}")));
                }
                Err(_) => return Err(self.silent(asked)),
            }
        }
    }

    pub(super) fn keep(&self, connection: Connection) {
        if let (Channel::Wire(wire), Some(connection)) = (&self.channel, connection) {
            wire.keep(connection);
        }
    }

    /// The failure that an answer tells, with a hint where this side knows more.
    pub(super) fn told(
        &self,
        asked: &str,
        status: StatusCode,
        headers: &http::HeaderMap,
        body: &[u8],
    ) -> Failure {
        let request = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        let failure = problem::failure(&self.name, asked, status, request, body);
        match failure.code() {
            "not_authenticated" if self.on_network() => failure.hint(format!("orch login {}", self.name)),
            _ => failure,
        }
    }

    fn silent(&self, asked: &str) -> Failure {
        wire::unreachable(&self.name, &format!("nothing moved for {} s at {asked}", SILENCE.as_secs()))
    }
}
