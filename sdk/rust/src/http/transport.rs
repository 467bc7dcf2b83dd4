//! Sending over `wasi:http/outgoing-handler`.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, Method, OutgoingBody, OutgoingRequest, Scheme, http_error_code,
};
use wasip2::io::streams::{InputStream, StreamError};
use wstd::runtime::AsyncPollable;

use super::{Request, Target, without_query};
use crate::{Error, Result};

/// The most that one read of an answer returns, in bytes.
const CHUNK: u64 = 64 * 1024;

const LENGTH: &str = "content-length";

impl Request {
    /// Sends the request and waits for the answer's head; its body is streamed by [`Response::chunk`].
    ///
    /// Fails with [`Error::Url`] or [`Error::Http`]. An answer with an error status is an answer, not an error.
    pub async fn send(self) -> Result<Response> {
        let url = without_query(&self.url);
        let failed = |reason: String| Error::Http { url: url.clone(), reason };

        let (outgoing, has_body) = (self.to_outgoing()?, !self.body.is_empty());
        let body = has_body.then(|| outgoing.body()).transpose().map_err(|()| failed("no body".into()))?;
        let answer = outgoing_handler::handle(outgoing, None).map_err(|code| failed(describe(&code)))?;

        // A failed write is not reported: the answer that follows says why the host stopped reading.
        if let Some(body) = body {
            let _ = write_body(body, &self.body).await;
        }
        AsyncPollable::new(answer.subscribe()).wait_for().await;
        let response = match answer.get() {
            Some(Ok(Ok(response))) => response,
            Some(Ok(Err(code))) => return Err(failed(describe(&code))),
            Some(Err(())) | None => return Err(failed("the answer was lost".into())),
        };
        let status = response.status();
        let headers = response.headers().entries();
        let body = response.consume().map_err(|()| failed("the answer has no body".into()))?;
        let stream = body.stream().map_err(|()| failed("the answer has no body".into()))?;
        let ready = AsyncPollable::new(stream.subscribe());
        Ok(Response { status, headers, url, ready, stream, _body: body })
    }

    fn to_outgoing(&self) -> Result<OutgoingRequest> {
        let target = Target::parse(&self.url)?;
        let refused = |what: &str| Error::Http {
            url: without_query(&self.url),
            reason: format!("the host does not accept this {what}"),
        };
        let mut headers = self.headers.clone();
        // Without its length a body is sent in chunks, which not every server takes.
        if !self.body.is_empty() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(LENGTH)) {
            headers.push((LENGTH.to_owned(), self.body.len().to_string().into_bytes()));
        }
        let fields = Fields::from_list(&headers).map_err(|_| refused("set of headers"))?;
        let outgoing = OutgoingRequest::new(fields);
        outgoing.set_method(&method(&self.method)).map_err(|()| refused("method"))?;
        outgoing.set_scheme(Some(&scheme(target.scheme))).map_err(|()| refused("scheme"))?;
        outgoing.set_authority(Some(target.authority)).map_err(|()| refused("authority"))?;
        let path = Some(target.path_and_query).filter(|path| !path.is_empty());
        outgoing.set_path_with_query(path.or(Some("/"))).map_err(|()| refused("path"))?;
        Ok(outgoing)
    }
}

/// An answer: its head, and its body as it arrives.
#[derive(Debug)]
pub struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    url: String,
    // Children are dropped before what they came from, in this order: dropping a parent first is a trap.
    ready: AsyncPollable,
    stream: InputStream,
    _body: IncomingBody,
}

impl Response {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// All headers, in the order in which they came.
    pub fn headers(&self) -> &[(String, Vec<u8>)] {
        &self.headers
    }

    /// The first header of that name, when its value is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// Waits for the next bytes of the body: never empty, `None` at its end.
    ///
    /// Fails with [`Error::Http`] when the connection breaks before the body is complete.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>> {
        self.read(CHUNK).await
    }

    /// The same, at most `most` bytes of it; what is not read yet stays where it is, and the sender waits.
    pub async fn read(&mut self, most: u64) -> Result<Option<Vec<u8>>> {
        loop {
            match self.stream.read(most.max(1)) {
                Ok(bytes) if bytes.is_empty() => self.ready.wait_for().await,
                Ok(bytes) => return Ok(Some(bytes)),
                Err(StreamError::Closed) => return Ok(None),
                Err(StreamError::LastOperationFailed(error)) => {
                    let reason = http_error_code(&error)
                        .map_or_else(|| error.to_debug_string(), |code| describe(&code));
                    return Err(Error::Http { url: self.url.clone(), reason });
                }
            }
        }
    }

    /// Waits for the whole of the rest of the body.
    ///
    /// Fails as [`Response::chunk`] does.
    pub async fn bytes(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

async fn write_body(body: OutgoingBody, mut bytes: &[u8]) -> std::result::Result<(), StreamError> {
    // `write` succeeds once per body, and this is the first time.
    let Ok(stream) = body.write() else { return Ok(()) };
    let ready = AsyncPollable::new(stream.subscribe());
    while !bytes.is_empty() {
        match stream.check_write()? {
            0 => ready.wait_for().await,
            room => {
                let room = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
                let (now, later) = bytes.split_at(room);
                stream.write(now)?;
                bytes = later;
            }
        }
    }
    drop(ready);
    drop(stream);
    // Fails when the host has stopped reading; see the caller.
    let _ = OutgoingBody::finish(body, None);
    Ok(())
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn scheme(name: &str) -> Scheme {
    match name {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    }
}

/// The code as text: the host's own message where it gave one, else the code's name.
fn describe(code: &ErrorCode) -> String {
    match code {
        ErrorCode::InternalError(Some(message)) => message.clone(),
        other => {
            let name = format!("{other:?}");
            name.strip_prefix("ErrorCode::").unwrap_or(&name).to_owned()
        }
    }
}
