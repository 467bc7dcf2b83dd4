//! The listener: one loopback port for TLS and plain HTTP, every task owned.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::answer;
use super::world::World;

/// Connections at once; more wait in the listener's queue.
const CONNECTIONS: usize = 1024;
/// The longest time for a first byte and a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The longest time for a request's head.
const HEAD: Duration = Duration::from_secs(30);
/// The wait after a failed accept, which would otherwise be tried again at once (out of descriptors, mostly).
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// How a connection reached the simulation.
#[derive(Clone, Debug)]
pub(super) enum Channel {
    /// In the clear.
    Plain,
    /// Over TLS; with the name the client asked for, in lower case. Without one it dialled an address.
    Tls { sni: Option<String> },
}

/// Accepts until `stopped` turns true, then waits for the connections that are left. Dropping the future drops them.
pub(super) async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    world: Arc<World>,
    mut stopped: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let watched = stopped.clone();
    loop {
        // The permit is taken before the accept, so that what cannot be served stays in the listener's queue.
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        tokio::select! {
            () = halt(&mut stopped) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            (permit, accepted) = accepted => match accepted {
                Ok((stream, _)) => {
                    let (acceptor, world, stopped) = (acceptor.clone(), Arc::clone(&world), watched.clone());
                    connections.spawn(async move {
                        connection(stream, acceptor, world, stopped).await;
                        drop(permit);
                    });
                }
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Returns when the simulation stops, or is gone.
async fn halt(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    world: Arc<World>,
    mut stopped: watch::Receiver<bool>,
) {
    // Small events must leave as they are written, or a stream would arrive in lumps.
    let _ = stream.set_nodelay(true);
    let greeted = tokio::select! {
        () = halt(&mut stopped) => return,
        greeted = tokio::time::timeout(HANDSHAKE, greet(stream, &acceptor)) => greeted,
    };
    // A client that does not finish its greeting, or does not accept the certificate, is only dropped: there is
    // nobody to tell, and its own error says more than this side knows.
    match greeted {
        Ok(Ok(Greeted::Plain(stream))) => exchange(stream, Channel::Plain, &world, stopped).await,
        Ok(Ok(Greeted::Tls(stream))) => {
            let sni = stream.get_ref().1.server_name().map(str::to_ascii_lowercase);
            exchange(*stream, Channel::Tls { sni }, &world, stopped).await;
        }
        Ok(Err(_)) | Err(_) => {}
    }
}

enum Greeted {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

/// Tells TLS from plain HTTP by the first byte: a TLS handshake record begins with 22 (RFC 8446, section 5.1), an
/// HTTP method with a letter.
async fn greet(stream: TcpStream, acceptor: &TlsAcceptor) -> std::io::Result<Greeted> {
    let mut first = [0u8; 1];
    stream.peek(&mut first).await?;
    if first[0] == 22 {
        Ok(Greeted::Tls(Box::new(acceptor.accept(stream).await?)))
    } else {
        Ok(Greeted::Plain(stream))
    }
}

async fn exchange<S>(stream: S, channel: Channel, world: &World, mut stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = service_fn(|request| answer::respond(world, &channel, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        // A clock in the reply would make equal requests get different bytes.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = halt(&mut stopped) => connection.as_mut().graceful_shutdown(),
    }
    // Errors are the scenario's cuts and the client's own disconnections.
    let _ = connection.await;
}
