//! The second ClientHello: a server that cannot do with the first one asks for another (HelloRetryRequest, RFC 8446,
//! section 4.1.4), which names a server again.

use super::client_hello::{HANDSHAKE, HelloError, HelloReader, RECORD_HEADER};

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;
const SERVER_HELLO: u8 = 2;

/// The random of a ServerHello that is a HelloRetryRequest: SHA-256 of that word (RFC 8446, section 4.1.3).
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2,
    0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];
/// Of a ServerHello: its type, its length, the version.
const BEFORE_RANDOM: usize = 1 + 3 + 2;

/// Reads what a server says first, as far as that tells whether it wants another ClientHello.
#[derive(Default)]
pub(super) struct ServerReader {
    header: Vec<u8>,
    /// Bytes of the record at hand that are still to come.
    left: usize,
    message: Vec<u8>,
}

impl ServerReader {
    /// Takes what came next. None means that more has to come. Whatever is no ServerHello wants none: the server is who
    /// the client may talk to, and the client is who is watched.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Option<bool> {
        while let Some((&byte, rest)) = bytes.split_first() {
            if self.left > 0 {
                self.message.push(byte);
                self.left -= 1;
                if self.message[0] != SERVER_HELLO {
                    return Some(false);
                }
                if self.message.len() == BEFORE_RANDOM + RETRY.len() {
                    return Some(self.message[BEFORE_RANDOM..] == RETRY);
                }
            } else {
                self.header.push(byte);
                if self.header[0] != HANDSHAKE {
                    return Some(false);
                }
                if let [_, _, _, high, low] = self.header[..] {
                    self.left = u16::from_be_bytes([high, low]).into();
                    self.header.clear();
                }
            }
            bytes = rest;
        }
        None
    }
}

/// Reads what a client says after its first ClientHello, up to the end of its second.
#[derive(Default)]
pub(super) struct SecondReader {
    header: Vec<u8>,
    /// Bytes of a record that is no hello which are still to come.
    left: usize,
    hello: Option<HelloReader>,
}

impl SecondReader {
    /// Takes what came next and adds to `passing` what may go to the server whatever the second hello says: early data,
    /// which the server throws away, and what old machines in between want to see. The name is there as soon as the hello
    /// is whole.
    ///
    /// # Errors
    /// [`HelloError`]; nothing may be fed afterwards.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        passing: &mut Vec<u8>,
    ) -> Result<Option<String>, HelloError> {
        while !bytes.is_empty() {
            if let Some(hello) = &mut self.hello {
                return hello.feed(bytes);
            }
            if self.left > 0 {
                let (now, later) = bytes.split_at(self.left.min(bytes.len()));
                passing.extend_from_slice(now);
                self.left -= now.len();
                bytes = later;
                continue;
            }
            match *self.header.first().unwrap_or(&bytes[0]) {
                // No byte of its header was taken: its first one tells.
                HANDSHAKE => self.hello = Some(HelloReader::default()),
                CHANGE_CIPHER_SPEC | ALERT | APPLICATION_DATA => {
                    self.header.push(bytes[0]);
                    bytes = &bytes[1..];
                    if let [.., high, low] = self.header[..]
                        && self.header.len() == RECORD_HEADER
                    {
                        self.left = u16::from_be_bytes([high, low]).into();
                        passing.append(&mut self.header);
                    }
                }
                _ => return Err(HelloError::Malformed("what stands in place of the second one")),
            }
        }
        Ok(None)
    }

    /// The hello, and what came behind it.
    pub(super) fn into_seen(self) -> (Vec<u8>, Vec<u8>) {
        self.hello.map(HelloReader::into_seen).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        [&[kind, 3, 3], &u16::try_from(content.len()).expect("short").to_be_bytes()[..], content].concat()
    }

    fn server_hello(random: &[u8]) -> Vec<u8> {
        [&[SERVER_HELLO, 0, 0, 72, 3, 3], random, &[0; 38]].concat()
    }

    fn wants(bytes: &[u8], step: usize) -> Option<bool> {
        let mut reader = ServerReader::default();
        bytes.chunks(step).find_map(|piece| reader.feed(piece))
    }

    #[test]
    fn only_a_hello_retry_request_asks_for_another_hello() {
        let retry = server_hello(&RETRY);
        let split: Vec<u8> = retry.chunks(7).flat_map(|part| record(HANDSHAKE, part)).collect();
        for (bytes, expected) in [
            (record(HANDSHAKE, &retry), Some(true)),
            (split, Some(true)),
            (record(HANDSHAKE, &server_hello(&[7; 32])), Some(false)),
            (record(ALERT, &[2, 40]), Some(false)),
            (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Some(false)),
            (record(HANDSHAKE, &[1, 0, 0, 0]), Some(false)),
            (record(HANDSHAKE, &retry[..30]), None),
            (Vec::new(), None),
        ] {
            for step in [1, 3, 500] {
                assert_eq!(wants(&bytes, step), expected, "{bytes:?} by {step}");
            }
        }
    }

    #[test]
    fn what_stands_before_the_second_hello_passes_and_it_is_held() {
        let early = [record(CHANGE_CIPHER_SPEC, &[1]), record(APPLICATION_DATA, &[9; 300])].concat();
        let begun = record(HANDSHAKE, &[1, 0, 1]);
        for step in [1, 4, 1000] {
            let (mut reader, mut passing) = (SecondReader::default(), Vec::new());
            for piece in [&early[..], &begun].concat().chunks(step) {
                assert_eq!(reader.feed(piece, &mut passing), Ok(None));
            }
            assert_eq!(passing, early, "by {step}");
            assert_eq!(reader.into_seen(), (begun.clone(), Vec::new()));
        }
        let mut reader = SecondReader::default();
        assert!(reader.feed(b"GET /", &mut Vec::new()).is_err());
    }
}
