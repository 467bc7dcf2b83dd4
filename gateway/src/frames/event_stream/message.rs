//! One message, read from its bytes and written to them.

use bytes::{Buf, BufMut as _, Bytes, BytesMut};

use super::{CHECKSUM, PRELUDE, length_of};
use crate::frames::{Checked, FrameError};

/// The kind of a header's value that is text.
const STRING: u8 = 7;

/// A message: headers and a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Names and values, in order.
    pub headers: Vec<(String, HeaderValue)>,
    /// What it carries.
    pub payload: Bytes,
}

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    /// True or false.
    Bool(bool),
    /// One byte.
    Byte(i8),
    /// Two bytes.
    Short(i16),
    /// Four bytes.
    Int(i32),
    /// Eight bytes.
    Long(i64),
    /// Bytes.
    Bytes(Bytes),
    /// Text.
    String(String),
    /// Milliseconds since 1970.
    Timestamp(i64),
    /// A UUID.
    Uuid([u8; 16]),
}

impl Message {
    /// A message with a JSON payload, of this kind (`event` or `exception`) and type.
    pub(super) fn json(type_header: &str, kind: &str, name: &str, payload: &str) -> Message {
        let text = |name: &str, value: &str| (name.to_owned(), HeaderValue::String(value.to_owned()));
        let headers = vec![
            text(type_header, name),
            text(":content-type", "application/json"),
            text(":message-type", kind),
        ];
        Message { headers, payload: Bytes::copy_from_slice(payload.as_bytes()) }
    }

    /// The header of this name; the last one where there are several.
    pub fn header(&self, name: &str) -> Option<&HeaderValue> {
        self.headers.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// Reads a whole message, no more and no less.
    ///
    /// # Errors
    /// The checksums do not match, or the message is not laid out as it has to be.
    pub fn parse(raw: &[u8]) -> Result<Message, FrameError> {
        if length_of(raw, raw.len())? != Some(raw.len()) {
            return Err(FrameError::Malformed("it has another length than it says"));
        }
        let (body, mut sum) = raw.split_at(raw.len() - CHECKSUM);
        if sum.get_u32() != crc32fast::hash(body) {
            return Err(FrameError::Checksum(Checked::Message));
        }
        let headers_length = (&body[4..8]).get_u32() as usize;
        let (mut headers, payload) = body[PRELUDE..].split_at(headers_length);
        let mut read = Vec::new();
        while !headers.is_empty() {
            read.push(header(&mut headers).ok_or(FrameError::Malformed("its headers are not readable"))?);
        }
        Ok(Message { headers: read, payload: Bytes::copy_from_slice(payload) })
    }

    /// The message on the wire. Names of over 255 bytes and values of over 65,535 are cut: none are written here.
    pub fn to_bytes(&self) -> Bytes {
        let mut headers = BytesMut::new();
        for (name, value) in &self.headers {
            let name = &name.as_bytes()[..name.len().min(usize::from(u8::MAX))];
            headers.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
            headers.put_slice(name);
            put(value, &mut headers);
        }
        let total = PRELUDE + headers.len() + self.payload.len() + CHECKSUM;
        let mut out = BytesMut::with_capacity(total);
        out.put_u32(u32::try_from(total).unwrap_or(u32::MAX));
        out.put_u32(u32::try_from(headers.len()).unwrap_or(u32::MAX));
        out.put_u32(crc32fast::hash(&out));
        out.put_slice(&headers);
        out.put_slice(&self.payload);
        out.put_u32(crc32fast::hash(&out));
        out.freeze()
    }
}

/// Appends a message with headers of text, all of them short.
pub(super) fn write(headers: &[(&str, &str)], payload: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    let headers_length: usize = headers.iter().map(|(name, value)| 1 + name.len() + 3 + value.len()).sum();
    let total = PRELUDE + headers_length + payload.len() + CHECKSUM;
    out.reserve(total);
    out.put_u32(u32::try_from(total).unwrap_or(u32::MAX));
    out.put_u32(u32::try_from(headers_length).unwrap_or(u32::MAX));
    out.put_u32(crc32fast::hash(&out[begin..]));
    for (name, value) in headers {
        out.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        out.put_slice(name.as_bytes());
        out.put_u8(STRING);
        out.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        out.put_slice(value.as_bytes());
    }
    out.put_slice(payload);
    out.put_u32(crc32fast::hash(&out[begin..]));
}

/// Takes one header; `None` when what is left is none.
fn header(bytes: &mut &[u8]) -> Option<(String, HeaderValue)> {
    let length = bytes.try_get_u8().ok()?;
    let name = text(bytes, length.into())?;
    let value = match bytes.try_get_u8().ok()? {
        0 => HeaderValue::Bool(true),
        1 => HeaderValue::Bool(false),
        2 => HeaderValue::Byte(bytes.try_get_i8().ok()?),
        3 => HeaderValue::Short(bytes.try_get_i16().ok()?),
        4 => HeaderValue::Int(bytes.try_get_i32().ok()?),
        5 => HeaderValue::Long(bytes.try_get_i64().ok()?),
        6 => {
            let length = bytes.try_get_u16().ok()?;
            HeaderValue::Bytes(Bytes::copy_from_slice(take(bytes, length.into())?))
        }
        STRING => {
            let length = bytes.try_get_u16().ok()?;
            HeaderValue::String(text(bytes, length.into())?)
        }
        8 => HeaderValue::Timestamp(bytes.try_get_i64().ok()?),
        9 => HeaderValue::Uuid(take(bytes, 16)?.try_into().ok()?),
        _ => return None,
    };
    Some((name, value))
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn text(bytes: &mut &[u8], length: usize) -> Option<String> {
    std::str::from_utf8(take(bytes, length)?).ok().map(str::to_owned)
}

fn put(value: &HeaderValue, out: &mut BytesMut) {
    let sized = |out: &mut BytesMut, kind: u8, bytes: &[u8]| {
        let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
        out.put_u8(kind);
        out.put_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
        out.put_slice(bytes);
    };
    match value {
        HeaderValue::Bool(true) => out.put_u8(0),
        HeaderValue::Bool(false) => out.put_u8(1),
        HeaderValue::Byte(value) => {
            out.put_u8(2);
            out.put_i8(*value);
        }
        HeaderValue::Short(value) => {
            out.put_u8(3);
            out.put_i16(*value);
        }
        HeaderValue::Int(value) => {
            out.put_u8(4);
            out.put_i32(*value);
        }
        HeaderValue::Long(value) => {
            out.put_u8(5);
            out.put_i64(*value);
        }
        HeaderValue::Bytes(bytes) => sized(out, 6, bytes),
        HeaderValue::String(text) => sized(out, STRING, text.as_bytes()),
        HeaderValue::Timestamp(value) => {
            out.put_u8(8);
            out.put_i64(*value);
        }
        HeaderValue::Uuid(bytes) => {
            out.put_u8(9);
            out.put_slice(bytes);
        }
    }
}
