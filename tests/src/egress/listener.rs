//! Rows through the listener of `orch proxy`: a client that writes what rows say, byte for byte.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::answers::Answers;
use super::fill::{bytes, fill};
use super::ground::{Ground, SECRETS};
use super::hello;
use super::judge::{Outcome, ROW_FIELD};
use super::row::{Request, Row, Tunnel, Way};

/// Clients at once.
const CLIENTS: usize = 8;
/// After this silence a client that owes nothing more says so by shutting its side.
const SILENCE: Duration = Duration::from_millis(400);
/// How long a second answer may take where the first came.
const SECOND: Duration = Duration::from_millis(60);
/// How long an answer may take at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running proxy, as a client knows it.
pub struct Proxied<'a> {
    /// Where it listens.
    pub address: SocketAddr,
    /// The client's name and token.
    pub credentials: String,
    /// What stands for each secret.
    pub placeholders: Vec<(String, String)>,
    /// What is around it.
    pub ground: &'a Ground,
}

/// How a client writes.
#[derive(Clone, Copy)]
struct Writes {
    end: End,
    /// The pause behind each byte, where there is one.
    pace: Option<Duration>,
}

/// What stands behind the bytes that a client writes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// A whole message: its answer is waited for.
    Whole,
    /// The client shuts its side at once.
    Shut,
    /// Perhaps half a message: the client shuts its side when nothing comes.
    Unclear,
}

/// Rows that the listener can get, in order.
pub fn rows(all: &[Row]) -> Vec<&Row> {
    all.iter().filter(|row| row.expected(Way::Listener).is_some()).collect()
}

impl Proxied<'_> {
    /// What came of each row.
    pub fn outcomes(&self, rows: &[&Row]) -> Vec<Vec<Outcome>> {
        let next = AtomicUsize::new(0);
        let outcomes = Mutex::new(vec![Vec::new(); rows.len()]);
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while let Some((at, row)) =
                        Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, rows.get(at)?)))
                    {
                        let outcome = self.ask(row);
                        outcomes.lock().unwrap_or_else(PoisonError::into_inner)[at] = outcome;
                    }
                });
            }
        });
        outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, row: &Row) -> Vec<Outcome> {
        let asked = match (&row.request, &row.raw, &row.connect) {
            (Some(request), None, None) => self.request(row, request),
            (None, Some(raw), None) => self.raw(row, raw),
            (None, None, Some(tunnel)) => self.tunnel(row, tunnel),
            _ => panic!("{} is not one thing to ask", row.id),
        };
        asked.unwrap_or_else(|error| vec![Outcome::Refused(format!("client: {error}"))])
    }

    fn known(&self, row: &Row, name: &str) -> Option<String> {
        let auth = |end: &str| {
            let basic = data_encoding::BASE64.encode(self.credentials.as_bytes());
            format!("Proxy-Authorization: Basic {basic}{end}X-Row: {}{end}", row.id)
        };
        Some(match name {
            "port" => self.ground.canary.port().to_string(),
            "proxy" => self.address.port().to_string(),
            "auth" => auth("\r\n"),
            "auth-lf" => auth("\n"),
            secret if SECRETS.iter().any(|(known, _)| *known == secret) => {
                self.placeholders.iter().find(|(known, _)| known == secret)?.1.clone()
            }
            _ => return None,
        })
    }

    fn request(&self, row: &Row, request: &Request) -> io::Result<Vec<Outcome>> {
        let Request { method, scheme, authority, path, headers, body } = request;
        let mut text = format!("{method} {scheme}://{authority}{path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text.push_str(&format!("Host: {authority}\r\n"));
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let known = |name: &str| self.known(row, name);
        let body = fill(body, &known);
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("<<auth>>\r\n");
        let bytes = [fill(&text, &known).as_bytes(), body.as_bytes()].concat();
        self.converse(&bytes, method == "HEAD", Writes { end: End::Whole, pace: None }, 1)
    }

    fn raw(&self, row: &Row, raw: &str) -> io::Result<Vec<Outcome>> {
        let bytes = bytes(&fill(raw, &|name: &str| self.known(row, name)));
        let end = if row.end { End::Shut } else { End::Unclear };
        let writes = Writes { end, pace: row.pace.map(Duration::from_millis) };
        self.converse(&bytes, raw.starts_with("HEAD"), writes, 2)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Writes everything while it reads answers, `most` of them.
    fn converse(&self, bytes: &[u8], head: bool, writes: Writes, most: usize) -> io::Result<Vec<Outcome>> {
        let Writes { end, pace } = writes;
        let mut stream = self.connect()?;
        let mut writing = stream.try_clone()?;
        thread::scope(|scope| {
            let wrote = scope.spawn(move || {
                // A proxy that has seen enough stops reading.
                let _ = match pace {
                    None => writing.write_all(bytes),
                    Some(pace) => drip(&mut writing, bytes, pace),
                };
                if end == End::Shut {
                    let _ = writing.shutdown(Shutdown::Write);
                }
            });
            let mut answers = Answers::new(head);
            let began = Instant::now();
            let mut silent = false;
            while !answers.over() && answers.count() < most {
                stream.set_read_timeout(Some(if answers.count() > 0 { SECOND } else { SILENCE }))?;
                match read(&mut stream) {
                    Ok(piece) => answers.take(&piece),
                    Err(error) if waits(&error) && answers.count() > 0 => break,
                    Err(error) if waits(&error) && began.elapsed() > PATIENCE => {
                        return Ok(vec![Outcome::Refused("silence".into())]);
                    }
                    Err(error) if waits(&error) && end == End::Unclear && !silent && wrote.is_finished() => {
                        // Whoever waits for the rest of a message learns that there is none.
                        silent = true;
                        let _ = stream.shutdown(Shutdown::Write);
                    }
                    Err(error) if waits(&error) => {}
                    Err(_) => answers.take(&[]),
                }
            }
            let _ = stream.shutdown(Shutdown::Both);
            Ok(answers.outcomes())
        })
    }

    fn tunnel(&self, row: &Row, tunnel: &Tunnel) -> io::Result<Vec<Outcome>> {
        let known = |name: &str| self.known(row, name);
        let authority = fill(&tunnel.authority, &known);
        let mut stream = self.connect()?;
        stream.write_all(
            fill(&format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n<<auth>>\r\n"), &known)
                .as_bytes(),
        )?;
        let mut answers = Answers::to_connect();
        while !answers.over() && answers.count() == 0 {
            match read(&mut stream) {
                Ok(piece) => answers.take(&piece),
                Err(error) if waits(&error) => {}
                Err(_) => answers.take(&[]),
            }
        }
        let outcomes = answers.outcomes();
        if !matches!(outcomes[..], [Outcome::Answer { status: 200, .. }]) {
            return Ok(outcomes);
        }
        if let Some(line) = &tunnel.ask {
            return self.ask_inside(row, tunnel, line, stream);
        }
        let mut first = match (&tunnel.bytes, &tunnel.sni) {
            (Some(text), _) => hello::bytes_of(text),
            (None, Some(name)) => hello::of_rustls(name.as_deref()),
            (None, None) => Vec::new(),
        };
        if let Some(cut) = tunnel.cut {
            first.truncate(cut);
        }
        for piece in hello::split(&first, tunnel.split.as_deref()) {
            stream.write_all(&piece)?;
        }
        if tunnel.end || tunnel.cut.is_some() {
            stream.shutdown(Shutdown::Write)?;
        }
        let began = Instant::now();
        let mut said = Vec::new();
        loop {
            match read(&mut stream) {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => said.extend(piece),
                Err(error) if waits(&error) && began.elapsed() < PATIENCE => {}
                Err(error) if waits(&error) => return Ok(vec![Outcome::Refused("silence".into())]),
                Err(_) => break,
            }
        }
        Ok(vec![match said[..] {
            [] => Outcome::Refused("closed".into()),
            // An alert of the proxy's own: of a server that got the hello there would be more, or a handshake.
            [21, 3, 3, 0, 2, 2, what] => Outcome::Refused(format!("alert:{what}")),
            _ => Outcome::Answer { status: 0, text: format!("{} bytes of a server", said.len()) },
        }])
    }

    /// TLS through the tunnel, with the hello cut as the row says, and a request in it.
    fn ask_inside(
        &self,
        row: &Row,
        tunnel: &Tunnel,
        line: &str,
        mut stream: TcpStream,
    ) -> io::Result<Vec<Outcome>> {
        let host = tunnel.sni.clone().flatten().unwrap_or_default();
        let mut roots = RootCertStore::empty();
        roots.add(self.ground.ca.der()).map_err(io::Error::other)?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut first = Vec::new();
        tls.write_tls(&mut first)?;
        for piece in hello::split(&first, tunnel.split.as_deref()) {
            stream.write_all(&piece)?;
        }
        stream.set_read_timeout(Some(PATIENCE))?;
        tls.writer()
            .write_all(format!("{line}\r\nhost: {host}\r\n{ROW_FIELD}: {}\r\n\r\n", row.id).as_bytes())?;
        let mut inside = rustls::StreamOwned::new(tls, stream);
        let mut answers = Answers::new(false);
        let mut buffer = [0; 4096];
        while !answers.over() && answers.count() == 0 {
            let count = inside.read(&mut buffer)?;
            answers.take(&buffer[..count]);
        }
        Ok(answers.outcomes())
    }
}

/// Writes a byte at a time, until nobody takes any more.
fn drip(stream: &mut TcpStream, bytes: &[u8], pace: Duration) -> io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte])?;
        thread::sleep(pace);
    }
    Ok(())
}

fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 64 << 10];
    let count = stream.read(&mut buffer)?;
    buffer.truncate(count);
    Ok(buffer)
}

fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
