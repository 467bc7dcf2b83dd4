//! The TLS server that both forward to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::{DOWN, HOST, Protocol, SECRET, UP};

/// A root, and what a server for [`HOST`] needs.
pub(crate) fn certificates() -> (CertificateDer<'static>, ServerConfig) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![HOST.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (issuer.der().clone(), config)
}

/// The upstream, on a thread of its own until the process ends.
pub(crate) fn serve(mut config: ServerConfig, protocol: Protocol) -> SocketAddr {
    config.alpn_protocols = vec![protocol.alpn()];
    let (report, bound) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            report.send(listener.local_addr().unwrap()).unwrap();
            let acceptor = TlsAcceptor::from(Arc::new(config));
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let stream = acceptor.accept(stream).await.unwrap();
                    let service = hyper::service::service_fn(answer);
                    let stream = TokioIo::new(stream);
                    // Either ends with the client's connection.
                    match protocol {
                        Protocol::Http1 => {
                            let server = hyper::server::conn::http1::Builder::new();
                            let _ = server.serve_connection(stream, service).await;
                        }
                        Protocol::Http2 => {
                            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                            let _ = server.serve_connection(stream, service).await;
                        }
                    }
                });
            }
        });
    });
    bound.recv().unwrap()
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let authorized = request.headers()["authorization"] == format!("Bearer {SECRET}");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    assert!(authorized && body.len() == UP.len());
    Ok(Response::new(Full::new(Bytes::from_static(DOWN))))
}
