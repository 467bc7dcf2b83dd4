//! `orch serve`, started in a home, asked over loopback, stopped or killed.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::home::Home;
use crate::orch::{Orch, Outcome, Running};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server. It is killed when this is dropped.
pub struct Server {
    running: Running,
    address: SocketAddr,
    token: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Server {
    /// Starts `orch serve` on a free port of loopback and waits until it is ready.
    #[track_caller]
    pub fn start(program: impl AsRef<Path>, home: &Home) -> Self {
        Self::begin(Orch::new(program, home), home, &[])
    }

    /// The same with simulated providers.
    #[track_caller]
    pub fn simulated(program: impl AsRef<Path>, home: &Home) -> Self {
        Self::begin(Orch::new(program, home), home, &["--simulate"])
    }

    /// The same with more arguments, in this environment.
    #[track_caller]
    pub fn begin(orch: Orch, home: &Home, more: &[&str]) -> Self {
        let running = orch.args(["serve", "--json", "--listen", "127.0.0.1:0"]).args(more).start();
        let ready: Value = serde_json::from_str(&running.first_line()).expect("the ready line is JSON");
        let said = ready["listening"].as_str().expect("where it listens");
        let address = said.rsplit('/').next().unwrap_or(said).parse().expect("an address");
        let token = fs::read_to_string(home.orch().join("data/admin-token")).expect("the first token");
        Self { running, address, token: token.trim().to_owned() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://…`, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The first token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The process.
    pub fn process(&self) -> &Running {
        &self.running
    }

    /// Asks with the first token.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.ask_as(Some(&self.token), method, path, body)
    }

    /// Asks with another token, or none.
    #[track_caller]
    pub fn ask_as(&self, token: Option<&str>, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let bytes = body.map(Value::to_string).unwrap_or_default();
        request(self.address, token, method, path, bytes.as_bytes())
            .unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// Asks with another token and with further headers.
    #[track_caller]
    pub fn ask_with(
        &self,
        token: &str,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let bytes = body.map(Value::to_string).unwrap_or_default();
        request_with(self.address, Some(token), (method, path), headers, bytes.as_bytes())
            .unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// Kills it, as the kernel would when memory is short; its workers end with it.
    pub fn kill(self) {
        self.running.kill_alone();
        drop(self.running);
    }

    /// Asks it to end, as a supervisor does, and waits for that.
    #[track_caller]
    pub fn terminate(self) -> Outcome {
        self.running.terminate();
        self.wait()
    }

    /// Waits until it has ended, for whatever reason.
    #[track_caller]
    pub fn wait(self) -> Outcome {
        self.running.finish()
    }
}

/// One request on a connection of its own.
///
/// # Errors
/// When the connection fails or the answer is not HTTP.
pub fn request(
    address: SocketAddr,
    token: Option<&str>,
    method: &str,
    path: &str,
    body: &[u8],
) -> std::io::Result<Answer> {
    request_with(address, token, (method, path), &[], body)
}

/// The same with further headers.
///
/// # Errors
/// As [`request`].
pub fn request_with(
    address: SocketAddr,
    token: Option<&str>,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let authorization = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let further: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         accept: application/json\r\n{authorization}{further}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut reader = BufReader::new(stream);
    let wrong = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status =
        line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| wrong("no status"))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let header =
        |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let mut body = Vec::new();
    if header("transfer-encoding") == Some("chunked") {
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim(), 16).map_err(|_| wrong("no chunk"))?;
            let mut chunk = vec![0; length + 2];
            reader.read_exact(&mut chunk)?;
            if length == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    } else if let Some(length) = header("content-length").and_then(|length| length.parse().ok()) {
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    } else {
        reader.read_to_end(&mut body)?;
    }
    Ok(Answer { status, headers, body })
}

impl Answer {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Fails unless the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "unexpected status: {}", String::from_utf8_lossy(&self.body));
        self
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("the body is not JSON: {e}: {}", String::from_utf8_lossy(&self.body)))
    }
}
