//! One exchange, once it is settled that it may happen: a connection, the request, the head of the response.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};

use crate::dial::Route;
use crate::download::{Download, Lease, describe, scrub_headers};
use crate::grant::Admission;
use crate::hygiene;
use crate::pool::{Connection, Key};
use crate::record::Record;
use crate::upload::{Progress, Upload};
use crate::{Body, BodyError, EgressError, Maker, Proxy, Reason, Scrubber, TimeoutKind, body};

/// A request that is ready to go, and the way it goes.
pub(crate) struct Outgoing {
    pub(crate) maker: Maker,
    pub(crate) route: Route,
    pub(crate) head: Head,
    pub(crate) body: Body,
    /// What the guest announced, checked against the body's own idea.
    pub(crate) length: Option<u64>,
    /// Empty when no secret was put in.
    pub(crate) scrubbers: Vec<Arc<Scrubber>>,
    /// Whether a secret was put in.
    pub(crate) injected: bool,
}

/// Method, target in origin form, and fields with exactly one `Host`.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

impl Head {
    fn with_body<B>(self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = self.headers;
        request
    }
}

/// Makes the announced length and the body agree, and leaves framing to hyper.
///
/// # Errors
/// [`EgressError::Refused`] when they contradict each other.
pub(crate) fn settle_length(
    head: &mut Head,
    body: &Body,
    announced: Option<u64>,
) -> Result<Option<u64>, EgressError> {
    head.headers.remove(header::CONTENT_LENGTH);
    let known = body.size_hint().exact();
    if let (Some(announced), Some(known)) = (announced, known)
        && announced != known
    {
        let text = format!("Content-Length says {announced}, the body has {known} bytes");
        return Err(EgressError::Refused(Reason::new("framing_refused", text)));
    }
    // A body that is known to be empty is not framed at all, which some servers take amiss where they expect one.
    if body.is_end_stream() && matches!(head.method, Method::POST | Method::PUT | Method::PATCH) {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(announced.or(known))
}

/// hyper sends no body of unknown length with GET or HEAD, so it has to be known whether there is one.
async fn settle_presence(
    head: &mut Head,
    mut body: Body,
    length: Option<u64>,
    idle: Duration,
) -> Result<Body, EgressError> {
    if length.is_some() || body.is_end_stream() || !matches!(head.method, Method::GET | Method::HEAD) {
        return Ok(body);
    }
    match timeout(idle, body.frame()).await.map_err(|_| EgressError::Timeout(TimeoutKind::Idle))? {
        None => Ok(body::empty()),
        Some(Err(error)) => Err(EgressError::Body(error)),
        Some(Ok(first)) => {
            head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            let rest = http_body_util::BodyStream::new(body);
            let first: Result<Frame<Bytes>, BodyError> = Ok(first);
            let frames =
                futures_util::StreamExt::chain(futures_util::stream::once(std::future::ready(first)), rest);
            Ok(StreamBody::new(frames).boxed_unsync())
        }
    }
}

impl Proxy {
    /// Sends the request and waits for the head of the response. The body streams afterwards.
    pub(crate) async fn exchange(
        &self,
        mut admission: Admission,
        out: Outgoing,
        record: &mut Record,
    ) -> Result<Response<Body>, EgressError> {
        let mut cut = self.cut(&admission);
        let scrubbers = out.scrubbers.clone();
        let injected = out.injected;
        let key = Key::new(&admission.grant().grant().workspace, out.maker, &out.route);
        let exchanged = tokio::select! {
            biased;
            error = &mut cut => return Err(ended(error)),
            exchanged = self.attempt(&mut admission, &key, out, record) => exchanged?,
        };
        let Exchanged { response, connection, upload } = exchanged;
        let (mut parts, incoming) = response.into_parts();
        let host = || key.host.to_string();
        hygiene::check_response(&parts, &self.caps)
            .and_then(|()| if injected { hygiene::check_scrubbable(&parts.headers) } else { Ok(()) })
            .map_err(|what| EgressError::Protocol { host: host(), what })?;
        hygiene::strip_response(&mut parts.headers);
        if !scrubbers.is_empty() {
            scrub_headers(&mut parts.headers, &scrubbers);
            if !incoming.is_end_stream() {
                // Taking a secret out changes the length.
                parts.headers.remove(header::CONTENT_LENGTH);
            }
        }
        // The reason phrase lives here, where a secret could be echoed, and so do hyper's private notes.
        parts.extensions.clear();
        let lease = Lease { pool: Arc::clone(&self.pool), key, connection, upload, admission };
        let download = Download::new(incoming, scrubbers, self.timeouts.idle, cut, lease);
        Ok(Response::from_parts(parts, download.boxed_unsync()))
    }

    /// Resolves when the exchange has to end: with the grant, or by the bound on its whole time.
    fn cut(&self, admission: &Admission) -> BoxFuture<'static, BodyError> {
        let grant = Arc::clone(admission.grant());
        let total = Instant::now() + self.timeouts.total;
        async move {
            tokio::select! {
                biased;
                ended = grant.ended() => BodyError::Ended(ended),
                () = tokio::time::sleep_until(total) => BodyError::Timeout(TimeoutKind::Total),
            }
        }
        .boxed()
    }

    async fn attempt(
        &self,
        admission: &mut Admission,
        key: &Key,
        out: Outgoing,
        record: &mut Record,
    ) -> Result<Exchanged, EgressError> {
        let Outgoing { route, mut head, body, length, .. } = out;
        let body = settle_presence(&mut head, body, length, self.timeouts.idle).await?;
        let bodiless = body.is_end_stream();
        let idempotent = matches!(
            head.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
        );
        let (upload, mut progress) = Upload::new(body, length, self.timeouts.idle);

        let request = match self.pool.take(key).await {
            None => head.with_body(upload),
            Some(mut connection) => {
                // Should the kept connection turn out dead, this request may be sent once more: when hyper hands it
                // back unsent, or when sending it twice does no more than sending it once (RFC 9112, section 9.3.1).
                let spare = (bodiless && idempotent).then(|| head.clone());
                record.address(connection.address);
                admission.attach(connection.task.clone());
                match self.send_on(&mut connection, head.with_body(upload), &progress, key).await {
                    Ok(response) => return Ok(Exchanged { response, connection, upload: progress }),
                    Err(Failure { unsent: Some(unsent), .. }) if !progress.touched() => unsent,
                    Err(Failure { dead: true, error, .. }) => {
                        let head = spare.ok_or(error)?;
                        let (upload, again) = Upload::new(body::empty(), None, self.timeouts.idle);
                        progress = again;
                        head.with_body(upload)
                    }
                    Err(Failure { error, .. }) => return Err(error),
                }
            }
        };

        let dialled = self.dialler.dial(&route).await?;
        record.address(dialled.address);
        let protocol = |error: hyper::Error| EgressError::Protocol {
            host: key.host.to_string(),
            what: describe(&error),
        };
        let mut connection = self.pool.adopt(dialled, &self.caps).await.map_err(protocol)?;
        admission.attach(connection.task.clone());
        match self.send_on(&mut connection, request, &progress, key).await {
            Ok(response) => Ok(Exchanged { response, connection, upload: progress }),
            Err(Failure { error, .. }) => Err(error),
        }
    }

    /// Sends on one connection and waits for the head, as long as something moves.
    async fn send_on(
        &self,
        connection: &mut Connection,
        request: Request<Upload>,
        progress: &Progress,
        key: &Key,
    ) -> Result<Response<Incoming>, Failure> {
        progress.start();
        let answer = connection.sender.try_send_request(request);
        tokio::pin!(answer);
        loop {
            let patience = progress.last() + self.timeouts.first_byte;
            tokio::select! {
                biased;
                answer = &mut answer => {
                    return answer.map_err(|mut error| {
                        let unsent = error.take_message();
                        let error = error.into_error();
                        let dead = !error.is_parse() && !error.is_user() && !error.is_timeout();
                        let error = match progress.take_error() {
                            Some(BodyError::Timeout(kind)) => EgressError::Timeout(kind),
                            Some(error) => EgressError::Body(error),
                            None => EgressError::Protocol { host: key.host.to_string(), what: describe(&error) },
                        };
                        Failure { error, unsent, dead }
                    });
                }
                () = tokio::time::sleep_until(patience) => {
                    // The upload may have moved since.
                    if progress.last() + self.timeouts.first_byte <= Instant::now() {
                        let error = EgressError::Timeout(TimeoutKind::FirstByte);
                        return Err(Failure { error, unsent: None, dead: false });
                    }
                }
            }
        }
    }
}

struct Exchanged {
    response: Response<Incoming>,
    connection: Connection,
    upload: Arc<Progress>,
}

struct Failure {
    error: EgressError,
    /// The request, when not a byte of it was written.
    unsent: Option<Request<Upload>>,
    /// Whether the connection died, as opposed to the answer being wrong.
    dead: bool,
}

fn ended(error: BodyError) -> EgressError {
    match error {
        BodyError::Ended(ended) => EgressError::Ended(ended),
        BodyError::Timeout(kind) => EgressError::Timeout(kind),
        other => EgressError::Body(other),
    }
}
