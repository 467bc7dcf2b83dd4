//! One exchange, once it is settled that it may happen: a connection, the request, the head of the response.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use tokio::time::{Instant, timeout};

use crate::attempt::Exchanged;
use crate::cleaning::Cleaning;
use crate::decode::{self, Coding};
use crate::dial::Route;
use crate::download::{Download, End, Lease, scrub_headers};
use crate::grant::Admission;
use crate::hygiene;
use crate::limits::{Patience, WINDOWS, Way};
use crate::pool::Key;
use crate::proxy::Setup;
use crate::record::Record;
use crate::tenancy::Tenancy;
use crate::{Body, BodyError, EgressError, Maker, Reason, Scrubber, Sought, TimeoutKind, body};

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
    pub(crate) fn with_body<B>(self, body: B) -> Request<B> {
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
pub(crate) async fn settle_presence(
    method: &Method,
    mut body: Body,
    length: Option<u64>,
    patience: &Patience,
) -> Result<Body, EgressError> {
    if length.is_some() || body.is_end_stream() || !matches!(*method, Method::GET | Method::HEAD) {
        return Ok(body);
    }
    let first = timeout(patience.idle, body.frame()).await;
    match first.map_err(|_| ended(patience.ran_out(TimeoutKind::Idle)))? {
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

impl Setup {
    /// Sends the request and waits for the head of the response. The body streams afterwards.
    pub(crate) async fn exchange(
        &self,
        mut admission: Admission,
        mut out: Outgoing,
        record: &mut Record,
    ) -> Result<Response<Body>, EgressError> {
        let grant = Arc::clone(admission.grant());
        let patience = Patience::new(self.timeouts, &grant);
        let meter = admission.meter();
        if let Some(length) = out.length {
            meter.check_room(Way::Up, length)?;
        }
        let total = Instant::now() + patience.total;
        let end = End { grant, cut: admission.cut(), total, patience: patience.clone() };
        let carried = std::mem::take(&mut out.scrubbers);
        let injected = out.injected;
        let key = Key::new(out.tenancy, out.maker, &out.route);
        end.grant.received().note(&key, &carried);
        if !injected && !end.grant.received().by(&key).is_empty() {
            hygiene::make_scrubbable(&mut out.head.headers);
        }
        let exchanged = tokio::select! {
            biased;
            () = end.reached() => return Err(ended(end.error())),
            exchanged = self.attempt(&mut admission, &key, out, &patience, record) => exchanged,
        };
        let Exchanged { response, line, upload } = match exchanged {
            Ok(exchanged) => exchanged,
            // What ends it from outside ends the line, which may show first.
            Err(_) if end.is_over() => return Err(ended(end.error())),
            Err(error) => return Err(error),
        };
        record.inert(upload.inert());
        // Asked only now: the answer may tell of a request that went out after this one.
        let scrubbers = searched(carried, end.grant.received().by(&key));
        let (mut parts, incoming) = response.into_parts();
        let has_to_be = injected || !scrubbers.is_empty();
        let coding = hygiene::check_response(&parts, &self.caps)
            .and_then(|()| if has_to_be { decode::coding_of(&parts.headers) } else { Ok(None) })
            .map_err(|what| EgressError::Protocol { host: key.host.to_string(), what })?;
        let window = match coding {
            Some(Coding::Brotli) if !incoming.is_end_stream() => {
                let what = || {
                    format!(
                        "it answered in Brotli what has to be searched for a secret, and {WINDOWS} such answers of the \
                         run are being read; read them to their end, or ask for fewer at once"
                    )
                };
                let window = end.grant.usage().window();
                Some(
                    window
                        .ok_or_else(|| EgressError::Protocol { host: key.host.to_string(), what: what() })?,
                )
            }
            _ => None,
        };
        hygiene::strip_response(&mut parts.headers);
        if coding.is_some() {
            decode::describe_decoded(&mut parts.headers);
        }
        if !scrubbers.is_empty() {
            scrub_headers(&mut parts.headers, &scrubbers);
            if !incoming.is_end_stream() {
                // Taking a secret out changes the length.
                parts.headers.remove(header::CONTENT_LENGTH);
            }
        }
        // The reason phrase lives here, where a secret could be echoed, and so do hyper's private notes.
        parts.extensions.clear();
        if key.maker == Maker::Gateway && !scrubbers.is_empty() {
            parts.extensions.insert(Sought::new(&scrubbers));
        }
        let lease = Lease { pool: Arc::clone(&self.pool), key, line, upload, admission };
        let cleaning = Cleaning::new(coding, window, scrubbers, hygiene::is_event_stream(&parts.headers));
        let download = Download::new(incoming, cleaning, meter, end, lease);
        Ok(Response::from_parts(parts, download.boxed_unsync()))
    }
}

/// The request's own scrubbers among those that its origin got, which are bounded.
fn searched(carried: Vec<Arc<Scrubber>>, mut received: Vec<Arc<Scrubber>>) -> Vec<Arc<Scrubber>> {
    for own in carried {
        if !received.iter().any(|other| other.finds_the_same(&own)) {
            received.push(own);
        }
    }
    received
}

pub(crate) fn ended(error: BodyError) -> EgressError {
    match error {
        BodyError::Limit(hit) => hit.into(),
        BodyError::Ended(ended) => EgressError::Ended(ended),
        BodyError::Withdrawn { credential } => EgressError::Withdrawn { credential },
        BodyError::Timeout(kind) => EgressError::Timeout(kind),
        other => EgressError::Body(other),
    }
}
