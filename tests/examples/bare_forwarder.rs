//! A forward proxy that is nothing but hyper on both sides: what `orch proxy` is measured beside, where the question is
//! what policy, records and injection cost.
//!
//! `bare_forwarder ADDRESS THREADS` takes requests in absolute form on a free port of loopback, which it prints, sends
//! them all to ADDRESS over one kept connection for each client's, and ends with its standard input. It decides
//! nothing, records nothing, and knows no limits.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::thread;

use http::{HeaderName, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

type Problem = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Problem> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [upstream, threads] = arguments.as_slice() else {
        return Err("bare_forwarder ADDRESS THREADS; see its source".into());
    };
    let upstream: SocketAddr = upstream.parse()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    for _ in 0..threads.parse()? {
        let listener = listener.try_clone()?;
        thread::spawn(move || serve(listener, upstream));
    }
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// One thread with a runtime of its own, as the listener of `orch proxy` has them.
fn serve(listener: std::net::TcpListener, upstream: SocketAddr) -> Result<(), Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (client, _) = listener.accept().await?;
            spawn_local(connection(client, upstream));
        }
    })
}

/// The connection to the upstream is kept between the requests of one client.
type Kept = Rc<RefCell<Option<SendRequest<Incoming>>>>;

async fn connection(client: TcpStream, upstream: SocketAddr) -> Result<(), Problem> {
    client.set_nodelay(true)?;
    let kept = Kept::default();
    let service = service_fn(|request| forward(request, Rc::clone(&kept), upstream));
    Ok(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(client), service).await?)
}

async fn forward(
    request: Request<Incoming>,
    kept: Kept,
    upstream: SocketAddr,
) -> Result<Response<Incoming>, Problem> {
    let taken = kept.borrow_mut().take();
    let mut sender = match taken {
        Some(sender) => sender,
        None => {
            let stream = TcpStream::connect(upstream).await?;
            stream.set_nodelay(true)?;
            let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            spawn_local(driver);
            sender
        }
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
