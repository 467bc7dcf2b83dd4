//! Modules by their digest: asked after, sent and fetched.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt as _;
use orch_manifests::Digest;
use orch_server::{Failure, MODULE_LIMIT};
use serde_json::Value;

use super::upload::Counted;
use super::{Client, JSON_LIMIT};

/// How long an upload may stand still.
const STALL: Duration = Duration::from_secs(60);
/// How often an upload's progress is looked at.
const TICK: Duration = Duration::from_millis(200);

impl Client {
    /// Whether the server has these bytes already.
    pub(crate) async fn has_blob(&self, digest: &Digest) -> Result<bool, Failure> {
        let path = blob_path(digest);
        let asked = format!("HEAD {path}");
        let request = self.request(Method::HEAD, &path, orch_proxy::empty())?;
        let (response, connection) = self.exchange(request, &asked).await?;
        let status = response.status();
        // In process nobody takes off what the answer to a HEAD does not have.
        self.read(response, JSON_LIMIT, &asked).await?;
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
        let sent = Arc::new(AtomicU64::new(0));
        let body = Counted::new(bytes.clone(), Arc::clone(&sent));
        let mut request = self.request(Method::PUT, &path, body.boxed_unsync())?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let exchange = self.send(request);
        tokio::pin!(exchange);
        let (mut last, mut since) = (0, tokio::time::Instant::now());
        let (response, connection) = loop {
            match tokio::time::timeout(TICK, &mut exchange).await {
                Ok(done) => break done?,
                Err(_) => {
                    let now = sent.load(Ordering::Relaxed);
                    progress(now);
                    if now != last {
                        (last, since) = (now, tokio::time::Instant::now());
                    } else if since.elapsed() > STALL {
                        return Err(self.silent(&asked, STALL));
                    }
                }
            }
        };
        self.finish::<Value>(response, connection, &asked, true).await.map(drop)
    }

    /// The bytes with this digest, checked against it.
    pub(crate) async fn get_blob(&self, digest: &Digest) -> Result<Vec<u8>, Failure> {
        let path = blob_path(digest);
        let asked = format!("GET {path}");
        let request = self.request(Method::GET, &path, orch_proxy::empty())?;
        let (response, connection) = self.exchange(request, &asked).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let limit = usize::try_from(MODULE_LIMIT).unwrap_or(usize::MAX);
        let bytes = self.read(response, limit, &asked).await?;
        self.keep(connection);
        if !status.is_success() {
            return Err(self.told(&asked, status, &headers, &bytes));
        }
        if Digest::of(&bytes) != *digest {
            return Err(self.unexpected(&asked, "bytes that do not have this digest"));
        }
        Ok(bytes.into())
    }
}

fn blob_path(digest: &Digest) -> String {
    format!("/v1/blobs/{digest}")
}
