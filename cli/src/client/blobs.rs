//! Modules by their digest: asked after, sent and fetched.

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt as _;
use orch_manifests::{Digest, Digesting};
use orch_server::{Failure, MODULE_LIMIT};

use super::Client;
use super::exchange::DOCUMENT_LIMIT;
use super::upload::{Counted, Sent};

impl Client {
    /// Whether the server has these bytes already.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool, Failure> {
        let path = blob_path(digest);
        let asked = format!("HEAD {path}");
        let request = self.request(Method::HEAD, &path, orch_proxy::empty())?;
        let (response, connection) = self.exchange(request, &asked, &Sent::default(), &|_| {}).await?;
        let status = response.status();
        // In process nobody takes off what the answer to a HEAD does not have.
        self.read(response, DOCUMENT_LIMIT, &asked).await?;
        self.keep(connection);
        // A HEAD has no words for what else may be wrong: whoever uploads then is told.
        Ok(status.is_success())
    }

    /// Uploads bytes under their digest. `progress` is told how many have been sent.
    pub(crate) async fn put_blob(
        &self,
        digest: &Digest,
        bytes: &Bytes,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), Failure> {
        let path = blob_path(digest);
        let asked = format!("PUT {path}");
        let (body, sent) = Counted::new(bytes.clone());
        let mut request = self.request(Method::PUT, &path, body.boxed_unsync())?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let (response, connection) = self.exchange(request, &asked, &sent, progress).await?;
        let (response, connection) = self.successful(response, connection, &asked).await?;
        self.read(response, DOCUMENT_LIMIT, &asked).await?;
        self.keep(connection);
        Ok(())
    }

    /// Fetches the bytes with this digest and hands them over piece by piece. They are what was asked for only when this
    /// returns, because their digest is known no sooner.
    pub(crate) async fn get_blob(
        &self,
        digest: &Digest,
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let path = blob_path(digest);
        let asked = format!("GET {path}");
        let request = self.request(Method::GET, &path, orch_proxy::empty())?;
        let (response, connection) = self.exchange(request, &asked, &Sent::default(), &|_| {}).await?;
        let (response, connection) = self.successful(response, connection, &asked).await?;
        let limit = usize::try_from(MODULE_LIMIT).unwrap_or(usize::MAX);
        let mut digesting = Digesting::new();
        self.pieces(response, limit, &asked, |piece| {
            digesting.update(piece);
            take(piece)
        })
        .await?;
        self.keep(connection);
        if digesting.finish() != *digest {
            return Err(self.unexpected(&asked, "bytes that do not have this digest"));
        }
        Ok(())
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("/v1/blobs/{digest}")
}
