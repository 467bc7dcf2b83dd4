//! Requests to the server's API, one after another on a kept connection.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::{Failed, Result};

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
    token: String,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), address, token: token.to_owned() })
    }

    /// The document that answers a request.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Value> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             authorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            self.token,
            body.len()
        );
        self.stream.get_mut().write_all(head.as_bytes()).await?;
        let (status, length) = self.head().await?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        match status {
            200..300 => Ok(serde_json::from_slice(&body)?),
            _ => Err(Failed(format!("{method} {path}: {status} {}", String::from_utf8_lossy(&body)))),
        }
    }

    async fn head(&mut self) -> Result<(u16, usize)> {
        let malformed = || Failed("the server's answer has no length".into());
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(Failed("the server closed the connection".into()));
        }
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(malformed)?;
        let mut length = None;
        loop {
            line.clear();
            self.stream.read_line(&mut line).await?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().ok();
                }
                Some(_) => {}
                None => return Ok((status, length.ok_or_else(malformed)?)),
            }
        }
    }
}
