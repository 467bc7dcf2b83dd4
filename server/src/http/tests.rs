//! Connections, from hostile peers and good ones.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response, StatusCode};
use orch_proxy::{Body, full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::connection::{self, Line};
use super::{Answer, ForwardedHeader, Known, Limits, Names, Reception, TrustedProxies};
use crate::caller::{Caller, Client, Peer};
use crate::failure::Failure;

mod h1;
mod h2;
mod listeners;
mod proxies;

/// Answers by path, and knows whoever asks for `/known` and below.
#[derive(Clone, Default)]
struct Fake {
    /// Lets `/known/held` go on.
    release: Arc<Notify>,
    /// Told when `/known/held` has come.
    held: Arc<Notify>,
}

impl Answer for Fake {
    async fn answer(&self, caller: Option<Caller>, peer: Peer, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/known/forever" => pending().await,
            "/known/held" => {
                self.held.notify_one();
                self.release.notified().await;
            }
            _ => {}
        }
        let who = caller.map_or_else(|| "nobody".to_owned(), |caller| caller.name.to_string());
        let from = match peer {
            Peer::Tcp { tls, .. } => format!("tcp tls={tls}"),
            Peer::Proxied { client, private } => match client {
                Client::At(address) => format!("{address} private={private}"),
                Client::Unclear(proxy) => format!("unclear by {proxy} private={private}"),
                Client::Unsaid(proxy) => format!("unsaid by {proxy} private={private}"),
            },
            Peer::Unix => "unix".to_owned(),
            Peer::InProcess => "here".to_owned(),
        };
        let mut response = Response::new(full(format!("{path} {who} {from}")));
        if path.starts_with("/known") {
            response.extensions_mut().insert(Known);
        } else {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        response
    }

    fn refuse(&self, _: Peer, _: &Parts, failure: &Failure) -> Response<Body> {
        let mut response = Response::new(full(failure.code().to_owned()));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        response
    }
}

/// A connection in memory, as a stranger has it over TCP.
struct Wire {
    client: DuplexStream,
    _serving: JoinSet<()>,
    _close: watch::Sender<bool>,
}

impl Wire {
    /// What is written before the server looks at anything.
    async fn with(first: &[u8]) -> Self {
        // Roomy enough for a flood to be there at once.
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(first).await.expect("room");
        let line = Line {
            peer: Peer::Tcp { address: ([127, 0, 0, 1], 9).into(), tls: false },
            caller: None,
            local: Some([127, 0, 0, 1].into()),
        };
        let (close, closing) = watch::channel(false);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let limits = Limits::default();
            let reception = Reception::new(Names::default(), TrustedProxies::default(), &limits);
            connection::serve(server, line, Fake::default(), Arc::new(reception), &limits, closing).await;
        });
        Self { client, _serving: serving, _close: close }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.expect("sent");
    }

    /// All that comes until the server closes the connection.
    async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A peer that is cut off in the middle may find so by an error.
        let _ = self.client.read_to_end(&mut bytes).await;
        bytes
    }

    /// What comes until this text has come.
    async fn until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            bytes.push(self.client.read_u8().await.expect("more"));
        }
        String::from_utf8(bytes).expect("text")
    }
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}
