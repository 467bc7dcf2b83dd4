//! One exchange on a shared connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, SendStream};
use http::{HeaderValue, Method, Request, Response, Uri, Version, header, uri};
use http_body::Body as _;
use orch_manifests::Scheme;

use super::{Answer, Pump, Slot, describe, unprocessed};
use crate::exchange::Head;
use crate::upload::Upload;

/// The sending half of a stream, shared with those who may have to end it.
#[derive(Clone)]
pub(crate) struct Reset(Arc<Mutex<SendStream<Bytes>>>);

impl Reset {
    pub(super) fn lock(&self) -> MutexGuard<'_, SendStream<Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the stream, whoever polls it or does not. A stream that is over stays as it is.
    pub(crate) fn cancel(&self) {
        self.lock().send_reset(Reason::CANCEL);
    }
}

/// An exchange under way. Dropping it resets its stream and leaves the connection to the others.
pub(crate) struct Exchange {
    response: ResponseFuture,
    pump: Option<Box<Pump>>,
    reset: Reset,
    slot: Slot,
    /// Both sides have said all.
    finished: bool,
}

/// What could not be sent, or was not looked at.
pub(crate) struct Unsent {
    pub(crate) what: String,
    /// The body as it was, when the peer provably did nothing with the request and all of it can be sent again.
    pub(crate) again: Option<Box<Upload>>,
}

/// Opens a stream with this request on it.
pub(crate) fn open(mut slot: Slot, head: &Head, scheme: Scheme, upload: Upload) -> Result<Exchange, Unsent> {
    let done = upload.is_end_stream();
    let request = match request(head, scheme, &upload) {
        Ok(request) => request,
        Err(error) => return Err(Unsent { what: error.to_string(), again: None }),
    };
    match slot.sender.send_request(request, done) {
        Ok((response, stream)) => {
            let reset = Reset(Arc::new(Mutex::new(stream)));
            let progress = upload.progress();
            let pump = Box::new(Pump::new(upload, progress, reset.clone(), done));
            Ok(Exchange { response, pump: Some(pump), reset, slot, finished: false })
        }
        Err(error) => {
            slot.retire();
            // An error that is neither the peer's nor the connection's is the message's own.
            let again = (error.is_remote() || error.is_io()).then(|| Box::new(upload));
            Err(Unsent { what: describe(&error), again })
        }
    }
}

/// With `:authority` in the place of `Host`, and without anything about the connection (RFC 9113, section 8.2.2).
fn request(head: &Head, scheme: Scheme, upload: &Upload) -> Result<Request<()>, http::Error> {
    let mut headers = head.headers.clone();
    let authority = headers.remove(header::HOST);
    let mut parts = uri::Parts::default();
    parts.scheme = Some(match scheme {
        Scheme::Http => uri::Scheme::HTTP,
        Scheme::Https => uri::Scheme::HTTPS,
    });
    parts.authority = authority.as_ref().map(|host| host.as_bytes().try_into()).transpose()?;
    parts.path_and_query = head.uri.path_and_query().cloned();
    let with_body = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
    if let Some(length) = upload.size_hint().exact().filter(|length| *length > 0 || with_body) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = Uri::from_parts(parts)?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    Ok(request)
}

impl Exchange {
    /// What ends the stream from elsewhere.
    pub(crate) fn reset(&self) -> &Reset {
        &self.reset
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Sends what can be sent, and waits for the head of the response.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<Answer>, Unsent>> {
        if let Some(pump) = &mut self.pump {
            // The error is in the upload's progress, where whoever asks for the head looks first.
            if let Poll::Ready(Err(error)) = pump.poll(cx) {
                return Poll::Ready(Err(Unsent { what: error.to_string(), again: None }));
            }
        }
        match std::pin::Pin::new(&mut self.response).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(response)) => {
                let length = response.headers().get(header::CONTENT_LENGTH);
                let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
                if let Some(pump) = &mut self.pump {
                    pump.commit();
                }
                Poll::Ready(Ok(response.map(|stream| Answer::new(stream, length))))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.failed(&error))),
        }
    }

    fn failed(&mut self, error: &h2::Error) -> Unsent {
        let again =
            self.pump.take().filter(|_| unprocessed(error)).and_then(|pump| pump.rewind()).map(Box::new);
        let what = if self.slot.is_silent() {
            "the connection gave no sign of life".to_owned()
        } else {
            describe(error)
        };
        Unsent { what, again }
    }

    /// What of the request is still to be sent once its answer has begun.
    pub(crate) fn take_pump(&mut self) -> Option<Box<Pump>> {
        self.pump.take_if(|pump| !pump.is_done())
    }

    /// Both sides have said all; there is nothing to reset. Not so where the pump was taken: it may still send.
    pub(crate) fn finish(mut self) {
        self.finished = self.pump.is_some();
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // `h2` remembers resets for a while, of streams that are over too.
        if !self.finished {
            self.reset.cancel();
        }
    }
}
