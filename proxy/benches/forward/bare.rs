//! Hyper alone: what forwarding costs when nobody looks.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use orch_proxy::Body;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{CONCURRENCY, Cost, HOST, Protocol, SECRET, guest_request, one_more, read, timed};

/// HTTP/1.1: one connection per worker. HTTP/2: one for all.
pub(crate) struct Bare {
    senders: Vec<Sender>,
    _connections: JoinSet<()>,
}

#[derive(Clone)]
enum Sender {
    Http1(std::rc::Rc<tokio::sync::Mutex<http1::SendRequest<Body>>>),
    Http2(http2::SendRequest<Body>),
}

impl Bare {
    pub(crate) async fn connect(
        root: &CertificateDer<'static>,
        addr: SocketAddr,
        protocol: Protocol,
    ) -> Self {
        let mut connections = JoinSet::new();
        let mut senders = Vec::new();
        match protocol {
            Protocol::Http1 => {
                for _ in 0..CONCURRENCY {
                    let stream = TokioIo::new(dial(root, addr, protocol).await);
                    let (sender, connection) = http1::handshake(stream).await.unwrap();
                    connections.spawn_local(async move {
                        let _ = connection.await;
                    });
                    senders.push(Sender::Http1(std::rc::Rc::new(tokio::sync::Mutex::new(sender))));
                }
            }
            Protocol::Http2 => {
                let stream = TokioIo::new(dial(root, addr, protocol).await);
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
                connections.spawn_local(async move {
                    let _ = connection.await;
                });
                senders = vec![Sender::Http2(sender); CONCURRENCY];
            }
        }
        Self { senders, _connections: connections }
    }

    pub(crate) async fn round(&self, count: usize) -> Cost {
        timed(count, self.senders.iter().cloned(), |sender, left| async move {
            match sender {
                Sender::Http1(sender) => {
                    let mut sender = sender.lock().await;
                    while one_more(&left) {
                        let (mut parts, body) = guest_request(&format!("Bearer {SECRET}")).into_parts();
                        parts.headers.insert(http::header::HOST, HOST.try_into().unwrap());
                        parts.uri = parts.uri.path_and_query().unwrap().as_str().try_into().unwrap();
                        sender.ready().await.unwrap();
                        read(sender.send_request(Request::from_parts(parts, body)).await.unwrap()).await;
                    }
                }
                Sender::Http2(mut sender) => {
                    while one_more(&left) {
                        let request = guest_request(&format!("Bearer {SECRET}"));
                        read(sender.send_request(request).await.unwrap()).await;
                    }
                }
            }
        })
        .await
    }
}

async fn dial(root: &CertificateDer<'static>, addr: SocketAddr, protocol: Protocol) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.alpn()];
    let stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(ServerName::try_from(HOST).unwrap(), stream).await.unwrap()
}
