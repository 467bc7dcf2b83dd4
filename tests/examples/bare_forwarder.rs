//! A forward proxy that is nothing but hyper on both sides: what `orch proxy` is measured beside, where the question is
//! what policy, records and injection cost.
//!
//! `bare_forwarder ADDRESS THREADS [NAME CA]` takes requests in absolute form on a free port of loopback, which it prints,
//! sends them all to ADDRESS over one kept connection for each client's, and ends with its standard input. With NAME it
//! speaks TLS there, with whoever shows a certificate for that name which the PEM file CA vouches for. It decides nothing,
//! records nothing, and knows no limits.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use http::{HeaderName, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsConnector;

type Problem = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Problem> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (address, threads, tls) = match arguments.as_slice() {
        [address, threads] => (address, threads, None),
        [address, threads, name, ca] => (address, threads, Some(Tls::towards(name, ca)?)),
        _ => return Err("bare_forwarder ADDRESS THREADS [NAME CA]; see its source".into()),
    };
    let upstream = Upstream { address: address.parse()?, tls };
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    for _ in 0..threads.parse()? {
        let (listener, upstream) = (listener.try_clone()?, upstream.clone());
        thread::spawn(move || serve(listener, upstream));
    }
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Where everything is sent.
#[derive(Clone)]
struct Upstream {
    address: SocketAddr,
    tls: Option<Tls>,
}

#[derive(Clone)]
struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    fn towards(name: &str, ca: &str) -> Result<Self, Problem> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned())?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }
}

/// One thread with a runtime of its own, as the listener of `orch proxy` has them.
fn serve(listener: std::net::TcpListener, upstream: Upstream) -> Result<(), Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (client, _) = listener.accept().await?;
            spawn_local(connection(client, upstream.clone()));
        }
    })
}

/// The connection to the upstream is kept between the requests of one client.
type Kept = Rc<RefCell<Option<SendRequest<Incoming>>>>;

async fn connection(client: TcpStream, upstream: Upstream) -> Result<(), Problem> {
    client.set_nodelay(true)?;
    let (kept, upstream) = (Kept::default(), Rc::new(upstream));
    let service = service_fn(|request| forward(request, Rc::clone(&kept), Rc::clone(&upstream)));
    Ok(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service).await?)
}

async fn forward(
    request: Request<Incoming>,
    kept: Kept,
    upstream: Rc<Upstream>,
) -> Result<Response<Incoming>, Problem> {
    let taken = kept.borrow_mut().take();
    let mut sender = match taken {
        Some(sender) => sender,
        None => connect(&upstream).await?,
    };
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().cloned().ok_or("a target without a path")?;
    head.uri = Uri::from(path);
    head.headers.remove(HeaderName::from_static("proxy-authorization"));
    sender.ready().await?;
    let response = sender.send_request(Request::from_parts(head, body)).await?;
    *kept.borrow_mut() = Some(sender);
    Ok(response)
}

async fn connect(upstream: &Upstream) -> Result<SendRequest<Incoming>, Problem> {
    let stream = TcpStream::connect(upstream.address).await?;
    stream.set_nodelay(true)?;
    match &upstream.tls {
        None => handshake(stream).await,
        Some(tls) => handshake(tls.connector.connect(tls.name.clone(), stream).await?).await,
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
) -> Result<SendRequest<Incoming>, Problem> {
    let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    spawn_local(driver);
    Ok(sender)
}
