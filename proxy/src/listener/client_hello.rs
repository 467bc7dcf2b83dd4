//! The name that a TLS client asks for, read from its first message and from nothing else (RFC 8446, section 4.1.2; RFC
//! 6066, section 3).
//!
//! What comes in may be split anywhere: the message over records, and the bytes over segments. Anything but one
//! well-formed ClientHello with one DNS name in the open is an error.

/// Bytes that a client may send until its ClientHello is whole. Post-quantum key shares make some 2 KiB of it.
pub(crate) const MAX_BYTES: usize = 64 << 10;

pub(super) const RECORD_HEADER: usize = 5;
pub(super) const HANDSHAKE: u8 = 22;
/// Bytes of one record in the open (RFC 8446, section 5.1).
const MAX_RECORD: usize = 1 << 14;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
/// Encrypted ClientHello, and the draft before it (encrypted SNI): the name in the open is not the one that counts.
const ENCRYPTED: [u16; 2] = [0xfe0d, 0xffce];

/// Why no name could be read from what a client sent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// What came is no TLS.
    #[error("what the client sent is not TLS")]
    NotTls,
    /// TLS, and broken.
    #[error("the client's first TLS message is malformed: {0}")]
    Malformed(&'static str),
    /// More than 64 KiB without an end.
    #[error("the client's first TLS message is larger than 64 KiB")]
    TooLarge,
    /// No server name (SNI).
    #[error("the TLS client names no server (no SNI)")]
    NoName,
    /// Several names, or one of another kind.
    #[error("the TLS client names more than one server")]
    ManyNames,
    /// An IP address in place of a name.
    #[error("the TLS client asks for an IP address")]
    Address,
    /// The true name is encrypted.
    #[error("the TLS client hides the server's name (encrypted ClientHello)")]
    Encrypted,
}

/// Collects the bytes of a connection until its ClientHello is whole.
#[derive(Default)]
pub(crate) struct HelloReader {
    /// Everything that came, as it came.
    seen: Vec<u8>,
    /// Where in it the next record begins.
    record: usize,
    /// The handshake message, taken out of its records.
    message: Vec<u8>,
}

impl HelloReader {
    /// Takes what came next. The name is there as soon as the message is whole; none means that more has to come.
    ///
    /// # Errors
    /// [`HelloError`]; nothing may be fed afterwards.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Option<String>, HelloError> {
        self.seen.extend_from_slice(bytes);
        loop {
            let rest = &self.seen[self.record..];
            // Told as early as it shows: whoever does not speak TLS may be waiting for an answer.
            if rest.first().is_some_and(|kind| *kind != HANDSHAKE)
                || rest.get(1).is_some_and(|major| *major != 3)
            {
                let began = self.record > 0;
                let broken = HelloError::Malformed("another record stands inside the ClientHello");
                return Err(if began { broken } else { HelloError::NotTls });
            }
            if rest.len() < RECORD_HEADER {
                break;
            }
            let length = usize::from(u16::from_be_bytes([rest[3], rest[4]]));
            if length == 0 || length > MAX_RECORD {
                return Err(HelloError::Malformed("the length of a record"));
            }
            let Some(content) = rest.get(RECORD_HEADER..RECORD_HEADER + length) else { break };
            self.message.extend_from_slice(content);
            self.record += RECORD_HEADER + length;
            if let Some(body) = whole(&self.message)? {
                return name(body).map(Some);
            }
        }
        if self.seen.len() > MAX_BYTES { Err(HelloError::TooLarge) } else { Ok(None) }
    }

    /// Everything that was fed, unchanged: the records of the message, and what came behind them.
    pub(crate) fn into_seen(mut self) -> (Vec<u8>, Vec<u8>) {
        let behind = self.seen.split_off(self.record);
        (self.seen, behind)
    }
}

/// The body of the handshake message once all of it is there.
fn whole(message: &[u8]) -> Result<Option<&[u8]>, HelloError> {
    match message.first() {
        None => return Ok(None),
        Some(&CLIENT_HELLO) => {}
        Some(_) => return Err(HelloError::Malformed("it is not a ClientHello")),
    }
    let Some(&[high, middle, low]) = message.get(1..4) else { return Ok(None) };
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    if length > MAX_BYTES {
        return Err(HelloError::TooLarge);
    }
    match message.len().cmp(&(4 + length)) {
        std::cmp::Ordering::Less => Ok(None),
        std::cmp::Ordering::Equal => Ok(Some(&message[4..])),
        std::cmp::Ordering::Greater => {
            Err(HelloError::Malformed("another message follows in the same record"))
        }
    }
}

fn name(hello: &[u8]) -> Result<String, HelloError> {
    let mut hello = Fields(hello);
    hello.take(2 + 32)?;
    let session = hello.short()?.len();
    if session > 32 {
        return Err(HelloError::Malformed("the session id"));
    }
    let suites = hello.long()?.len();
    if suites == 0 || suites % 2 != 0 {
        return Err(HelloError::Malformed("the cipher suites"));
    }
    if hello.short()?.is_empty() {
        return Err(HelloError::Malformed("the compression methods"));
    }
    if hello.is_empty() {
        return Err(HelloError::NoName);
    }
    let mut extensions = Fields(hello.long()?);
    hello.end()?;
    let mut kinds = Vec::new();
    let mut names = None;
    while !extensions.is_empty() {
        let kind = extensions.number()?;
        let content = extensions.long()?;
        if kinds.contains(&kind) {
            return Err(HelloError::Malformed("an extension occurs twice"));
        }
        kinds.push(kind);
        if ENCRYPTED.contains(&kind) {
            return Err(HelloError::Encrypted);
        }
        if kind == SERVER_NAME {
            names = Some(content);
        }
    }
    only_name(names.ok_or(HelloError::NoName)?)
}

fn only_name(extension: &[u8]) -> Result<String, HelloError> {
    let mut extension = Fields(extension);
    let mut list = Fields(extension.long()?);
    extension.end()?;
    if list.is_empty() {
        return Err(HelloError::NoName);
    }
    let kind = list.take(1)?[0];
    let name = list.long()?;
    if kind != 0 || !list.is_empty() {
        return Err(HelloError::ManyNames);
    }
    let text = std::str::from_utf8(name).map_err(|_| HelloError::Malformed("the server's name"))?;
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(HelloError::Malformed("the server's name"));
    }
    if text.contains(':') || text.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err(HelloError::Address);
    }
    Ok(text.to_owned())
}

/// Vectors with their length in front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], HelloError> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or(HelloError::Malformed("a length inside it"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u16, HelloError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A vector whose length has one byte.
    fn short(&mut self) -> Result<&'a [u8], HelloError> {
        let length = self.take(1)?[0];
        self.take(length.into())
    }

    /// A vector whose length has two bytes.
    fn long(&mut self) -> Result<&'a [u8], HelloError> {
        let length = self.number()?;
        self.take(length.into())
    }

    fn end(&self) -> Result<(), HelloError> {
        if self.is_empty() { Ok(()) } else { Err(HelloError::Malformed("bytes that belong to nothing")) }
    }
}

#[cfg(test)]
mod tests;
