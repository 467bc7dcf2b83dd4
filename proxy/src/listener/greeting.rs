//! What a TLS client says in the open, before its tunnel carries bytes unseen: its ClientHello, and a second one where
//! the server asks for that. Both have to name the host that the tunnel leads to.

use std::io;
use std::time::Duration;

use orch_manifests::HostName;
use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client_hello::{HelloError, HelloReader};
use super::retry::{SecondReader, ServerReader};
use super::tunnel::{Counts, Stopped, pass};
use crate::connect::Opened;
use crate::limits::Way;
use crate::{EgressError, Reason, TimeoutKind};

/// Bytes that one read may bring.
const READ: usize = 4 << 10;

/// The far end of a tunnel.
pub(super) struct Server<'a> {
    pub(super) stream: &'a TcpStream,
    pub(super) host: &'a HostName,
    /// How long it, or the client where it is the client's turn, may say nothing in a greeting.
    pub(super) patience: Duration,
}

/// What a client has said so far.
pub(super) struct First {
    /// Its ClientHello, which names the right host. Nothing where nobody looks.
    hello: Vec<u8>,
    /// What came behind it.
    behind: Vec<u8>,
}

/// Reads the client's first message and checks whom it is for.
pub(super) async fn judged(
    opened: &Opened,
    client: &mut TcpStream,
    early: Vec<u8>,
    patience: Duration,
) -> Result<First, EgressError> {
    let grant = opened.admission.grant();
    tokio::select! {
        biased;
        ended = grant.ended() => Err(EgressError::Ended(ended)),
        read = timeout(patience, read_hello(client, early)) => {
            let (name, first) = read.map_err(|_| EgressError::Timeout(TimeoutKind::Tls))??;
            same(&name, &opened.host).map(|()| first)
        }
    }
}

fn same(name: &str, host: &HostName) -> Result<(), EgressError> {
    if name.eq_ignore_ascii_case(host.as_str()) {
        return Ok(());
    }
    let name: String = name.chars().take(255).collect();
    let text = format!("the TLS client asks for {name}, and the tunnel leads to {host}");
    Err(EgressError::Refused(Reason::new("sni_mismatch", text)))
}

impl First {
    /// For a tunnel that nobody looks into.
    pub(super) fn opaque(early: Vec<u8>) -> Self {
        Self { hello: Vec::new(), behind: early }
    }

    /// Carries the greeting, to where nothing else is said in the open. Gives back what the client has said beyond that.
    ///
    /// What follows a ClientHello waits for the server's answer, early data as well: until then nobody knows whether
    /// another hello is among it.
    pub(super) async fn greet(
        self,
        client: &TcpStream,
        server: &Server<'_>,
        counts: &Counts,
    ) -> Result<Vec<u8>, Stopped> {
        let Self { hello, behind } = self;
        if hello.is_empty() {
            return Ok(behind);
        }
        pass(server.stream, &hello, Way::Up, counts).await?;
        let answer = timeout(server.patience, answered(client, server.stream, counts));
        if !answer.await.map_err(|_| Stopped::Silent)?? {
            return Ok(behind);
        }
        timeout(server.patience, again(client, server, behind, counts)).await.map_err(|_| Stopped::Silent)?
    }
}

/// Passes on what the server says until it shows whether it wants another ClientHello.
async fn answered(client: &TcpStream, server: &TcpStream, counts: &Counts) -> Result<bool, Stopped> {
    let (mut reader, mut piece, mut one) = (ServerReader::default(), vec![0; READ], [0]);
    let mut there = true;
    loop {
        tokio::select! {
            biased;
            readable = server.readable() => readable?,
            // Whoever goes away is noticed; what is there waits.
            peeked = client.peek(&mut one), if there => {
                if peeked? == 0 {
                    let _ = shutdown(server, Shutdown::Write);
                    counts.half_closed();
                }
                there = false;
                continue;
            }
        }
        let read = match server.try_read(&mut piece) {
            // Which whoever goes on reading finds out.
            Ok(0) => return Ok(false),
            Ok(read) => &piece[..read],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        };
        let wanted = reader.feed(read);
        pass(client, read, Way::Down, counts).await?;
        if let Some(wanted) = wanted {
            return Ok(wanted);
        }
    }
}

/// Reads the second ClientHello and checks whom it is for; the server gets it then. Gives back what came behind it.
async fn again(
    client: &TcpStream,
    server: &Server<'_>,
    behind: Vec<u8>,
    counts: &Counts,
) -> Result<Vec<u8>, Stopped> {
    let (mut reader, mut passing, mut piece) = (SecondReader::default(), Vec::new(), vec![0; READ]);
    let refused = |error| Stopped::Hello(hello_refused(error));
    let mut name = reader.feed(&behind, &mut passing).map_err(refused)?;
    drop(behind);
    loop {
        pass(server.stream, &passing, Way::Up, counts).await?;
        passing.clear();
        if let Some(name) = name {
            same(&name, server.host).map_err(Stopped::Hello)?;
            let (hello, behind) = reader.into_seen();
            pass(server.stream, &hello, Way::Up, counts).await?;
            return Ok(behind);
        }
        client.readable().await?;
        match client.try_read(&mut piece) {
            Ok(0) => return Err(Stopped::Broken),
            Ok(count) => name = reader.feed(&piece[..count], &mut passing).map_err(refused)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

async fn read_hello(client: &mut TcpStream, early: Vec<u8>) -> Result<(String, First), EgressError> {
    let mut reader = HelloReader::default();
    let mut name = reader.feed(&early).map_err(hello_refused)?;
    drop(early);
    let mut piece = vec![0; 4 << 10];
    loop {
        if let Some(name) = name {
            let (hello, behind) = reader.into_seen();
            return Ok((name, First { hello, behind }));
        }
        let count = client.read(&mut piece).await.map_err(|error| gone(&error))?;
        if count == 0 {
            return Err(gone(&io::ErrorKind::UnexpectedEof.into()));
        }
        name = reader.feed(&piece[..count]).map_err(hello_refused)?;
    }
}

fn gone(error: &io::Error) -> EgressError {
    let what = format!("the client left before its first message was whole: {}", error.kind());
    EgressError::Body(crate::BodyError::Guest(what))
}

fn hello_refused(error: HelloError) -> EgressError {
    let code = match error {
        HelloError::NotTls => "tunnel_not_tls",
        HelloError::Malformed(_) | HelloError::TooLarge => "hello_refused",
        HelloError::NoName => "sni_missing",
        HelloError::ManyNames | HelloError::Address => "sni_refused",
        HelloError::Encrypted => "ech_refused",
    };
    EgressError::Refused(Reason::new(code, error.to_string()))
}

/// Says no in TLS: the only words that the client still understands.
pub(super) async fn refuse(client: &mut TcpStream, error: &EgressError) {
    const ACCESS_DENIED: u8 = 49;
    const UNRECOGNIZED_NAME: u8 = 112;
    let what = match error.code() {
        "sni_mismatch" | "sni_missing" | "sni_refused" => UNRECOGNIZED_NAME,
        "tunnel_not_tls" | "request_body_failed" => return,
        _ => ACCESS_DENIED,
    };
    // Whoever is gone does not need to hear it.
    let _ = timeout(Duration::from_secs(1), async {
        client.write_all(&[21, 3, 3, 0, 2, 2, what]).await?;
        client.shutdown().await
    })
    .await;
}
