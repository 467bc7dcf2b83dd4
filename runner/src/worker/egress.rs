//! A guest's requests, on their way to the broker.
//!
//! The guest's scheme and authority travel in headers of the protocol; the stream's own authority is the door's.
//! Nothing is decided here: whether a request may leave is the broker's business.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep, timeout};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::meter::Meter;
use super::meter::memory::Charge;
use super::wire::{STREAM_WINDOW, Wire, request_to};
use crate::protocol::{self, RESERVED, RefusalCode, Token};

/// What a guest waits at most when it does not say: as long as wasmtime's own sender does.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// How much a guest may write to a request's body at once, in bytes.
const CHUNK: usize = 64 << 10;

/// How much of a request's body may wait here, in bytes: what is queued, and what is being sent.
pub(super) const BODY: u64 = 2 * CHUNK as u64;

/// The way out of one run.
pub(super) struct Egress {
    wire: Arc<dyn Wire>,
    token: HeaderValue,
    over: Arc<AtomicBool>,
    meter: Arc<Meter>,
}

/// Marks a run as over when dropped. To be dropped before the run's store.
pub(super) struct RunEnds(Arc<AtomicBool>);

impl Drop for RunEnds {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Egress {
    pub(super) fn new(
        wire: Arc<dyn Wire>,
        token: &Token,
        meter: &Arc<Meter>,
    ) -> Result<(Self, RunEnds), &'static str> {
        let mut token =
            HeaderValue::from_str(token.reveal()).map_err(|_| "the token is not a header value")?;
        token.set_sensitive(true);
        let over = Arc::new(AtomicBool::new(false));
        let egress = Egress { wire, token, over: Arc::clone(&over), meter: Arc::clone(meter) };
        Ok((egress, RunEnds(over)))
    }

    fn outgoing(&self, request: Request<WasiBody>) -> Result<Request<WasiBody>, Error> {
        let (guest, body) = request.into_parts();
        // It would be a tunnel, and means something else in HTTP/2.
        if guest.method == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let (Some(scheme), Some(authority)) = (guest.uri.scheme_str(), guest.uri.authority()) else {
            return Err(Error::HttpRequestUriInvalid);
        };
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Error::HttpRequestUriInvalid);
        let (scheme, authority) = (value(scheme)?, value(authority.as_str())?);
        let path = match guest.uri.path_and_query() {
            // An empty path is the same as "/" (RFC 9110, section 4.2.3), and only the latter can be sent.
            Some(query) if query.as_str().starts_with('?') => {
                format!("/{}", query.as_str()).parse().map_err(|_| Error::HttpRequestUriInvalid)?
            }
            Some(path) => path.clone(),
            None => PathAndQuery::from_static("/"),
        };

        let mut headers = guest.headers;
        strip_reserved(&mut headers);
        headers.insert(protocol::TOKEN, self.token.clone());
        headers.insert(protocol::SCHEME, scheme);
        headers.insert(protocol::AUTHORITY, authority);
        let held = body.size_hint().upper().unwrap_or(BODY).min(BODY);
        let charge = self.meter.charge(held).map_err(|_| Error::InternalError(None))?;
        let mut out = request_to(protocol::EGRESS, guest.method, path)
            .map(|()| GuestBody { body, over: Arc::clone(&self.over), _held: charge }.boxed_unsync());
        *out.headers_mut() = headers;
        Ok(out)
    }
}

type Done = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Egress {
    fn set_host_header(&mut self) -> bool {
        // The authority travels by itself; one place for it is enough.
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Done,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Done), Error>> + Send> {
        let sent = self.outgoing(request).map(|request| self.wire.send(request));
        let options = options.unwrap_or_default();
        let meter = Arc::clone(&self.meter);
        Box::new(async move {
            let until_head = options
                .connect_timeout
                .unwrap_or(DEFAULT_TIMEOUT)
                .saturating_add(options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT));
            let response = match timeout(until_head, sent?).await {
                Ok(response) => response.map_err(|_| Error::ConnectionTerminated)?,
                Err(_) => return Err(Error::HttpResponseTimeout),
            };
            let (mut head, body) = response.into_parts();
            if let Some(code) = head.headers.get(protocol::REFUSAL) {
                return Err(error_for(code));
            }
            strip_reserved(&mut head.headers);
            let between = options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT);
            // As much of it may be here before the guest reads any.
            let window = u64::from(STREAM_WINDOW);
            let held = body.size_hint().upper().unwrap_or(window).min(window);
            let charge = meter.charge(held).map_err(|_| Error::InternalError(None))?;
            let body = TimedBody { body, between, timer: Box::pin(sleep(between)), _held: Some(charge) };
            let done: Done = Box::new(async { Ok(()) });
            Ok((Response::from_parts(head, body.boxed_unsync()), done))
        })
    }
}

/// The error code of `wasi:http/types` that is closest to a refusal.
fn error_for(code: &HeaderValue) -> Error {
    let Some(code) = code.to_str().ok().and_then(|code| code.parse::<RefusalCode>().ok()) else {
        return Error::InternalError(None);
    };
    match code {
        RefusalCode::Denied => Error::HttpRequestDenied,
        RefusalCode::AddressProhibited => Error::DestinationIpProhibited,
        RefusalCode::DnsError => Error::DnsError { rcode: None, info_code: None },
        RefusalCode::DnsTimeout => Error::DnsTimeout,
        RefusalCode::ConnectionRefused => Error::ConnectionRefused,
        RefusalCode::ConnectionTimeout => Error::ConnectionTimeout,
        RefusalCode::ConnectionTerminated => Error::ConnectionTerminated,
        RefusalCode::LimitReached => Error::ConnectionLimitReached,
        RefusalCode::TlsError => Error::TlsProtocolError,
        RefusalCode::TlsCertificate => Error::TlsCertificateError,
        RefusalCode::BadRequest => Error::HttpRequestUriInvalid,
        RefusalCode::RequestTooLarge => Error::HttpRequestBodySize(None),
        RefusalCode::ResponseTooLarge => Error::HttpResponseBodySize(None),
        RefusalCode::ProtocolError => Error::HttpProtocolError,
        RefusalCode::ResponseTimeout => Error::HttpResponseTimeout,
        RefusalCode::Internal => Error::InternalError(None),
    }
}

fn strip_reserved(headers: &mut HeaderMap) {
    let reserved: Vec<_> =
        headers.keys().filter(|name| name.as_str().starts_with(RESERVED)).cloned().collect();
    for name in reserved {
        headers.remove(name);
    }
}

/// A request's body. When its run is dropped in the middle of it, wasmtime ends it as if it were complete; it must
/// not arrive like that.
struct GuestBody {
    body: WasiBody,
    over: Arc<AtomicBool>,
    _held: Charge,
}

impl Body for GuestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &mut frame {
            None if self.over.load(Ordering::Acquire) => frame = Some(Err(Error::ConnectionTerminated)),
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    strip_reserved(trailers);
                }
            }
            _ => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body whose pauses are bounded, and in whose trailers nothing is reserved.
struct TimedBody {
    body: WasiBody,
    between: Duration,
    timer: Pin<Box<Sleep>>,
    _held: Option<Charge>,
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Poll::Ready(mut frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            ready!(self.timer.as_mut().poll(cx));
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        };
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            strip_reserved(trailers);
        }
        // A timer beyond what can be expressed is as good as none.
        if let Some(next) = Instant::now().checked_add(self.between) {
            self.timer.as_mut().reset(next);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_an_error_of_its_own_kind() {
        let internal = error_for(&HeaderValue::from_static("internal"));
        assert!(matches!(internal, Error::InternalError(None)));
        assert!(matches!(
            error_for(&HeaderValue::from_static("from-the-future")),
            Error::InternalError(None)
        ));
        for code in RefusalCode::ALL.into_iter().filter(|&code| code != RefusalCode::Internal) {
            let error = error_for(&HeaderValue::from_static(code.as_str()));
            assert!(!matches!(error, Error::InternalError(_)), "{code}");
        }
    }

    #[tokio::test]
    async fn a_response_that_pauses_too_long_breaks_off() {
        use http_body_util::StreamBody;
        let chunk = futures_util::stream::iter([Ok(Frame::data(Bytes::from("first")))]);
        let body = futures_util::StreamExt::chain(chunk, futures_util::stream::pending());
        let between = Duration::from_millis(5);
        let body = StreamBody::new(body).boxed_unsync();
        let mut body = TimedBody { body, between, timer: Box::pin(sleep(between)), _held: None };
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
        assert!(matches!(body.frame().await, Some(Err(Error::ConnectionReadTimeout))));
    }

    #[tokio::test]
    async fn a_request_whose_run_is_over_does_not_look_complete() {
        let complete = |over| {
            let body = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
            let meter = Meter::start(protocol::RunLimits::default(), Default::default());
            let _held = meter.charge(0).unwrap();
            GuestBody { body, over: Arc::new(AtomicBool::new(over)), _held }.collect()
        };
        assert!(complete(false).await.is_ok());
        assert!(complete(true).await.is_err());
    }

    #[test]
    fn only_the_protocols_own_headers_are_stripped() {
        let mut headers = HeaderMap::new();
        for name in ["orch-token", "orch-anything", "orchid", "x-orch-token"] {
            headers.append(name, HeaderValue::from_static("1"));
            headers.append(name, HeaderValue::from_static("2"));
        }
        strip_reserved(&mut headers);
        let mut left: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
        left.sort_unstable();
        assert_eq!(left, ["orchid", "x-orch-token"]);
    }
}
