//! What broker and compile jail send each other over their two pipes.
//!
//! Down: a length-prefixed JSON [`Order`]. Up: a length-prefixed JSON [`Report`] of how the process has jailed itself. Down:
//! the module until the end of the pipe. Up: a status byte, a 64-bit big-endian length, and that many bytes: compiled
//! code, or a [`ModuleError`] in JSON.

use std::io::{self, Read, Write};

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::ModuleError;
use crate::jail::Report;
use crate::protocol::encode;

const COMPILED: u8 = 0;
const REFUSED: u8 = 1;

/// Longest report in bytes.
const MAX_REPORT: u32 = 16 << 10;

/// Longest refusal in bytes.
const MAX_REFUSAL: u64 = 64 << 10;

/// The bounds that the jail gives itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    /// Address space in bytes.
    pub(super) memory: u64,
    /// Processor time over all threads.
    pub(super) processor_seconds: u64,
    /// Longest artifact in bytes.
    pub(super) artifact: u64,
}

impl Order {
    pub(super) fn encode(&self) -> Bytes {
        encode(self).expect("three numbers fit a frame")
    }

    /// Reads the order and leaves `from` at the module's first byte.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut length = [0; size_of::<u32>()];
        from.read_exact(&mut length)?;
        let mut json = Vec::new();
        from.take(u64::from(u32::from_be_bytes(length))).read_to_end(&mut json)?;
        Ok(serde_json::from_slice(&json)?)
    }
}

/// What the jail came to.
pub(super) enum Answer {
    Compiled(Bytes),
    Refused(ModuleError),
}

/// Reads what became of the jail's layers.
pub(super) async fn read_report(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Report> {
    let length = from.read_u32().await?;
    if length > MAX_REPORT {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = vec![0; length as usize];
    from.read_exact(&mut json).await?;
    Ok(serde_json::from_slice::<Report>(&json)?.harmless())
}

/// Reads an answer and bounds what it takes from a jail that may have been taken over.
pub(super) async fn read_answer(from: &mut (impl AsyncRead + Unpin), artifact: u64) -> io::Result<Answer> {
    let status = from.read_u8().await?;
    let length = from.read_u64().await?;
    let limit = if status == COMPILED { artifact } else { MAX_REFUSAL };
    if length > limit {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut payload = BytesMut::with_capacity(length);
    while payload.len() < length {
        if (&mut *from).take((length - payload.len()) as u64).read_buf(&mut payload).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    match status {
        COMPILED => Ok(Answer::Compiled(payload.freeze())),
        REFUSED => Ok(Answer::Refused(serde_json::from_slice(&payload)?)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Writes a report, in the jail.
pub(super) fn write_report(to: &mut impl Write, report: &Report) -> io::Result<()> {
    to.write_all(&encode(report).map_err(io::Error::other)?)?;
    to.flush()
}

/// Writes an answer, in the jail.
pub(super) fn write_answer(to: &mut impl Write, answer: &Result<Vec<u8>, ModuleError>) -> io::Result<()> {
    let refusal;
    let (status, payload) = match answer {
        Ok(compiled) => (COMPILED, compiled.as_slice()),
        Err(error) => {
            refusal = serde_json::to_vec(error)?;
            (REFUSED, refusal.as_slice())
        }
    };
    to.write_all(&[status])?;
    to.write_all(&(payload.len() as u64).to_be_bytes())?;
    to.write_all(payload)?;
    to.flush()
}
