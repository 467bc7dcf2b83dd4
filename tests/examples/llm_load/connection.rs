//! Messages of HTTP/1.1 on one connection, of announced length or in chunks, without pipelining.

use std::io::{Error, Result};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) fn of(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::new() })
    }

    pub(crate) async fn to(host: &str) -> Result<Self> {
        Self::of(TcpStream::connect(host).await?)
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next whole message, taken off the connection.
    pub(crate) async fn message(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(length) = length(&self.read)? {
                let rest = self.read.split_off(length);
                return Ok(std::mem::replace(&mut self.read, rest));
            }
            self.more().await?;
        }
    }

    /// Waits until this stands in what has come of the message.
    pub(crate) async fn until(&mut self, wanted: &[u8]) -> Result<()> {
        while !self.read.windows(wanted.len()).any(|window| window == wanted) {
            if length(&self.read)?.is_some() {
                let said = String::from_utf8_lossy(&self.read);
                return Err(Error::other(format!("the answer ended without it: {said}")));
            }
            self.more().await?;
        }
        Ok(())
    }

    /// Reads the rest of a message in chunks and forgets it as it comes, but for its last bytes; what they are.
    pub(crate) async fn drain(&mut self) -> Result<Vec<u8>> {
        while !self.read.ends_with(b"\r\n0\r\n\r\n") {
            let seen = self.read.len().saturating_sub(64);
            self.read.drain(..seen);
            self.more().await?;
        }
        Ok(std::mem::take(&mut self.read))
    }

    async fn more(&mut self) -> Result<()> {
        self.read.reserve(4 << 10);
        match self.stream.read_buf(&mut self.read).await? {
            0 => Err(Error::other("the connection was closed")),
            _ => Ok(()),
        }
    }
}

/// How long the first message is; none when it is not all there yet.
fn length(read: &[u8]) -> Result<Option<usize>> {
    let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if let Some(length) = field("content-length:") {
        let whole = end + length.parse::<usize>().map_err(Error::other)?;
        return Ok((read.len() >= whole).then_some(whole));
    }
    if field("transfer-encoding:").is_some() {
        // No pipelining, and no such bytes in the body: the last chunk is where the text ends.
        return Ok(read.ends_with(b"\r\n0\r\n\r\n").then_some(read.len()));
    }
    Ok(Some(end))
}
