//! One exchange, once it is settled that it may happen: a connection, the request, the head of the response.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use tokio::time::{Instant, timeout};

use crate::dial::Route;
use crate::download::{Download, End, Lease, Line, describe, scrub_headers};
use crate::grant::{Admission, Cancel};
use crate::http2::{Slot, Unsent};
use crate::incoming::Incoming;
use crate::pool::{Connection, Key};
use crate::record::Record;
use crate::tenancy::Tenancy;
use crate::upload::{Progress, Upload};
use crate::{
    Body, BodyError, EgressError, Maker, Proxy, Reason, Scrubber, TimeoutKind, body, http1, http2, hygiene,
};

/// A request that is ready to go, and the way it goes.
pub(crate) struct Outgoing {
    pub(crate) maker: Maker,
    pub(crate) tenancy: Tenancy,
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

/// Whether there is a body at all has to be known before the head is sent: hyper sends none of unknown length with GET
/// or HEAD, and HTTP/2 says in the head that it ends the request.
async fn settle_presence(
    method: &Method,
    mut body: Body,
    length: Option<u64>,
    idle: Duration,
) -> Result<Body, EgressError> {
    if length.is_some() || body.is_end_stream() || !matches!(*method, Method::GET | Method::HEAD) {
        return Ok(body);
    }
    match timeout(idle, body.frame()).await.map_err(|_| EgressError::Timeout(TimeoutKind::Idle))? {
        None => Ok(body::empty()),
        Some(Err(error)) => Err(EgressError::Body(error)),
        Some(Ok(first)) => {
            let rest = http_body_util::BodyStream::new(body);
            let first: Result<Frame<Bytes>, BodyError> = Ok(first);
            let frames =
                futures_util::StreamExt::chain(futures_util::stream::once(std::future::ready(first)), rest);
            Ok(StreamBody::new(frames).boxed_unsync())
        }
    }
}

/// A request on its way: what can be sent again as long as nothing of it was lost.
struct Message {
    head: Head,
    upload: Upload,
}

impl Proxy {
    /// Sends the request and waits for the head of the response. The body streams afterwards.
    pub(crate) async fn exchange(
        &self,
        mut admission: Admission,
        mut out: Outgoing,
        record: &mut Record,
    ) -> Result<Response<Body>, EgressError> {
        let grant = Arc::clone(admission.grant());
        let end = End { grant, total: Instant::now() + self.timeouts.total };
        let scrubbers = std::mem::take(&mut out.scrubbers);
        let injected = out.injected;
        let key = Key::new(out.tenancy, out.maker, &out.route);
        let exchanged = tokio::select! {
            biased;
            () = end.reached() => return Err(ended(end.error())),
            exchanged = self.attempt(&mut admission, &key, out, record) => exchanged,
        };
        let Exchanged { response, line, upload } = match exchanged {
            Ok(exchanged) => exchanged,
            // Revoking ends what is under way, which may show first.
            Err(_) if end.is_over() => return Err(ended(end.error())),
            Err(error) => return Err(error),
        };
        let (mut parts, incoming) = response.into_parts();
        hygiene::check_response(&parts, &self.caps)
            .and_then(|()| if injected { hygiene::check_scrubbable(&parts.headers) } else { Ok(()) })
            .map_err(|what| EgressError::Protocol { host: key.host.to_string(), what })?;
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
        let lease = Lease { pool: Arc::clone(&self.pool), key, line, upload, admission };
        let download = Download::new(incoming, scrubbers, self.timeouts.idle, end, lease);
        Ok(Response::from_parts(parts, download.boxed_unsync()))
    }

    /// Sends on a connection of the pool; once more on a newer one when nothing can have come of the first time.
    async fn attempt(
        &self,
        admission: &mut Admission,
        key: &Key,
        out: Outgoing,
        record: &mut Record,
    ) -> Result<Exchanged, EgressError> {
        let Outgoing { route, head, body, length, .. } = out;
        let body = settle_presence(&head.method, body, length, self.timeouts.idle).await?;
        let mut message = Message { head, upload: Upload::new(body, length, self.timeouts.idle) };
        let mut oldest = None;
        loop {
            let connection = self.pool.acquire(key, oldest.unwrap_or(0), &self.dialler, &route).await?;
            let sent = match connection {
                Connection::Http1(connection, kept) => {
                    record.address(connection.address);
                    admission.attach(Cancel::Connection(connection.task.clone()));
                    self.send_http1(connection, kept, message, key).await
                }
                Connection::Http2(slot) => {
                    record.address(slot.shared.address);
                    self.send_http2(slot, message, admission, key).await
                }
            };
            match sent {
                Ok(exchanged) => return Ok(exchanged),
                Err(Failure { again: Some(same), .. }) if oldest.is_none() => message = same,
                Err(Failure { error, .. }) => return Err(error),
            }
            oldest = Some(self.pool.now());
        }
    }

    /// `kept` says whether the connection served somebody before. Should such a one turn out dead, the request may be
    /// sent once more: when hyper hands it back unsent, or when sending it twice does no more than sending it once
    /// (RFC 9112, section 9.3.1).
    async fn send_http1(
        &self,
        mut connection: http1::Connection,
        kept: bool,
        message: Message,
        key: &Key,
    ) -> Result<Exchanged, Failure> {
        let Message { mut head, upload } = message;
        let progress = upload.progress();
        let bodiless = upload.is_end_stream();
        let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
        let spare = (kept && bodiless && idempotent.contains(&head.method)).then(|| head.clone());
        if !bodiless
            && upload.size_hint().exact().is_none()
            && [Method::GET, Method::HEAD].contains(&head.method)
        {
            head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        progress.start();
        let answer = connection.sender.try_send_request(head.with_body(upload));
        let mut failed = match self.patiently(&progress, answer).await? {
            Ok(response) => {
                let response = response.map(Incoming::Http1);
                return Ok(Exchanged { response, line: Line::Http1(connection), upload: progress });
            }
            Err(failed) => failed,
        };
        let unsent = failed.take_message().filter(|_| kept && !progress.touched());
        let failed = failed.into_error();
        let dead = !failed.is_parse() && !failed.is_user() && !failed.is_timeout();
        let error = failure(&progress, key, describe(&failed));
        let again = match (unsent, spare) {
            (Some(request), _) => Some(Message::from(request)),
            (None, Some(head)) if dead => {
                Some(Message { head, upload: Upload::new(body::empty(), None, self.timeouts.idle) })
            }
            _ => None,
        };
        Err(Failure { error, again })
    }

    async fn send_http2(
        &self,
        slot: Slot,
        message: Message,
        admission: &mut Admission,
        key: &Key,
    ) -> Result<Exchanged, Failure> {
        let Message { head, upload } = message;
        let progress = upload.progress();
        progress.start();
        let sent = match http2::open(slot, &head, key.scheme, upload) {
            Err(unsent) => Err(unsent),
            Ok(mut exchange) => {
                admission.attach(Cancel::Stream(exchange.reset().clone()));
                let answer = poll_fn(|cx| exchange.poll_head(cx));
                self.patiently(&progress, answer).await?.map(|response| (response, exchange))
            }
        };
        let (response, mut exchange) = sent.map_err(|Unsent { what, again }| Failure {
            error: failure(&progress, key, what),
            again: again.map(|upload| Message { head, upload }),
        })?;
        if response.status() == StatusCode::MISDIRECTED_REQUEST {
            // It wants the request on another connection (RFC 9110, section 15.5.20): the next one gets one.
            exchange.slot().retire();
        }
        if let Some(mut pump) = exchange.take_pump() {
            // The answer's reader may take its time, and the request is not to wait for it. The task ends with the
            // stream; what ends it early is in the upload's progress.
            self.pool.spawn(async move {
                let _ = poll_fn(|cx| pump.poll(cx)).await;
            });
        }
        let response = response.map(Incoming::Http2);
        Ok(Exchanged { response, line: Line::Http2(exchange), upload: progress })
    }

    /// Waits for the head of an answer, as long as something moves.
    async fn patiently<T>(&self, progress: &Progress, answer: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::pin!(answer);
        loop {
            let patience = progress.last() + self.timeouts.first_byte;
            tokio::select! {
                biased;
                answer = &mut answer => return Ok(answer),
                () = tokio::time::sleep_until(patience) => {
                    // The upload may have moved since.
                    if progress.last() + self.timeouts.first_byte <= Instant::now() {
                        let error = EgressError::Timeout(TimeoutKind::FirstByte);
                        return Err(Failure { error, again: None });
                    }
                }
            }
        }
    }
}

struct Exchanged {
    response: Response<Incoming>,
    line: Line,
    upload: Arc<Progress>,
}

struct Failure {
    error: EgressError,
    /// The request, when it may be sent once more.
    again: Option<Message>,
}

/// The upload's own failure, which what the connection says only hides, or else what the connection says.
fn failure(progress: &Progress, key: &Key, what: String) -> EgressError {
    match progress.take_error() {
        Some(BodyError::Timeout(kind)) => EgressError::Timeout(kind),
        Some(error) => EgressError::Body(error),
        None => EgressError::Protocol { host: key.host.to_string(), what },
    }
}

impl From<Request<Upload>> for Message {
    fn from(request: Request<Upload>) -> Self {
        let (parts, upload) = request.into_parts();
        Self { head: Head { method: parts.method, uri: parts.uri, headers: parts.headers }, upload }
    }
}

fn ended(error: BodyError) -> EgressError {
    match error {
        BodyError::Ended(ended) => EgressError::Ended(ended),
        BodyError::Timeout(kind) => EgressError::Timeout(kind),
        other => EgressError::Body(other),
    }
}
