//! Answers that are the bytes of a file.

use ::bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt as _;
use orch_server::Failure;

use super::upload::Counted;
use super::{Client, media_type};

/// What says that an answer is bytes, and nothing more of them.
const BYTES: &str = "application/octet-stream";

impl Client {
    /// `POST` of JSON, answered with bytes: at most `limit` of them, which are handed over piece by piece. They are whole
    /// only when this returns.
    pub(crate) async fn post_for_bytes(
        &self,
        path: &str,
        body: Bytes,
        limit: u64,
        take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let asked = format!("POST {path}");
        let (body, sent) = Counted::new(body);
        let mut request = self.request(Method::POST, path, body.boxed_unsync())?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/octet-stream, application/json"));
        let (response, connection) = self.exchange(request, &asked, &sent, &|_| {}).await?;
        let (response, connection) = self.successful(response, connection, &asked).await?;
        if media_type(response.headers()) != Some(BYTES) {
            return Err(self.unexpected(&asked, "something other than the bytes of a file"));
        }
        self.pieces(response, usize::try_from(limit).unwrap_or(usize::MAX), &asked, take).await?;
        self.keep(connection);
        Ok(())
    }
}
