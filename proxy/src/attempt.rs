//! Sending a request on a connection, and once more on another where nothing can have come of it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use tokio::time::Instant;

use crate::download::{Line, describe};
use crate::exchange::{Head, Outgoing, ended, settle_presence};
use crate::grant::Admission;
use crate::http2::{Slot, Unsent};
use crate::incoming::Incoming;
use crate::limits::Patience;
use crate::pool::{Connection, Key};
use crate::proxy::Setup;
use crate::record::Record;
use crate::under_way::Cancel;
use crate::upload::{Progress, Upload};
use crate::{EgressError, TimeoutKind, body, http1, http2};

/// A request on its way: what can be sent again as long as nothing of it was lost.
struct Message {
    head: Head,
    upload: Upload,
}

impl Setup {
    /// Sends on a connection of the pool; once more on a newer one when nothing can have come of the first time.
    pub(crate) async fn attempt(
        &self,
        admission: &mut Admission,
        key: &Key,
        out: Outgoing,
        patience: &Patience,
        record: &mut Record,
    ) -> Result<Exchanged, EgressError> {
        let Outgoing { route, head, body, length, .. } = out;
        let body = settle_presence(&head.method, body, length, patience).await?;
        let placeholders = admission.grant().placeholders().in_body();
        let upload = Upload::new(body, length, patience.clone(), admission.meter(), placeholders);
        let mut message = Message { head, upload };
        let mut oldest = None;
        loop {
            let run = &admission.grant().grant().run;
            let connection = self.pool.acquire(key, oldest.unwrap_or(0), &self.dialler, &route, run).await?;
            let sent = match connection {
                Connection::Http1(connection, kept) => {
                    record.address(connection.address);
                    admission.attach(Cancel::Connection(Arc::clone(&connection.driver)))?;
                    self.send_http1(connection, kept, message, key, patience).await
                }
                Connection::Http2(slot) => {
                    record.address(slot.shared.address);
                    Box::pin(self.send_http2(slot, message, admission, key, patience)).await
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
        patience: &Patience,
    ) -> Result<Exchanged, Failure> {
        let Message { mut head, upload } = message;
        let progress = upload.progress();
        let bodiless = upload.is_end_stream();
        let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
        let spare =
            (kept && bodiless && idempotent.contains(&head.method)).then(|| (head.clone(), upload.meter()));
        if !bodiless
            && upload.size_hint().exact().is_none()
            && [Method::GET, Method::HEAD].contains(&head.method)
        {
            head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        progress.start();
        let mut answer = pin!(connection.sender.try_send_request(head.with_body(upload)));
        let driver = Arc::clone(&connection.driver);
        let driven = poll_fn(|cx| driver.poll(cx, |cx| answer.as_mut().poll(cx)));
        let mut failed = match patiently(patience, &progress, driven).await? {
            Ok(response) => {
                if !progress.done() || !driver.is_flushed() {
                    // The answer's reader may take its time, and the request is not to wait for it.
                    driver.hand_over(|work| self.pool.spawn(work));
                }
                let response = response.map(|body| Incoming::Http1(body, driver));
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
            (None, Some((head, meter))) if dead => {
                let upload = Upload::new(body::empty(), None, patience.clone(), meter, None);
                Some(Message { head, upload })
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
        patience: &Patience,
    ) -> Result<Exchanged, Failure> {
        let Message { head, upload } = message;
        let progress = upload.progress();
        let over = |error| Failure { error, again: None };
        // A stream is attached once there is one: nothing is begun for an exchange that is over already.
        admission.check().map_err(over)?;
        progress.start();
        let sent = match http2::open(slot, &head, key.scheme, upload) {
            Err(unsent) => Err(unsent),
            Ok(mut exchange) => {
                admission.attach(Cancel::Stream(exchange.reset().clone())).map_err(over)?;
                let answer = poll_fn(|cx| exchange.poll_head(cx));
                patiently(patience, &progress, answer).await?.map(|response| (response, exchange))
            }
        };
        let (response, mut exchange) = sent.map_err(|Unsent { what, again }| Failure {
            error: failure(&progress, key, what),
            again: again.map(|upload| Message { head, upload: *upload }),
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
}

/// Waits for the head of an answer, as long as something moves.
async fn patiently<T>(
    patience: &Patience,
    progress: &Progress,
    answer: impl Future<Output = T>,
) -> Result<T, Failure> {
    tokio::pin!(answer);
    loop {
        let until = progress.last() + patience.first_byte;
        tokio::select! {
            biased;
            answer = &mut answer => return Ok(answer),
            () = tokio::time::sleep_until(until) => {
                // The upload may have moved since.
                if progress.last() + patience.first_byte <= Instant::now() {
                    let error = ended(patience.ran_out(TimeoutKind::FirstByte));
                    return Err(Failure { error, again: None });
                }
            }
        }
    }
}

/// A request whose answer has begun.
pub(crate) struct Exchanged {
    pub(crate) response: Response<Incoming>,
    pub(crate) line: Line,
    pub(crate) upload: Arc<Progress>,
}

struct Failure {
    error: EgressError,
    /// The request, when it may be sent once more.
    again: Option<Message>,
}

/// The upload's own failure, which what the connection says only hides, or else what the connection says.
fn failure(progress: &Progress, key: &Key, what: String) -> EgressError {
    match progress.take_error() {
        Some(error) => ended(error),
        None => EgressError::Protocol { host: key.host.to_string(), what },
    }
}

impl From<Request<Upload>> for Message {
    fn from(request: Request<Upload>) -> Self {
        let (parts, upload) = request.into_parts();
        Self { head: Head { method: parts.method, uri: parts.uri, headers: parts.headers }, upload }
    }
}
