//! Files as streams.
//!
//! A file is always ready, so what a stream does is done when the guest asks for it, on the guest's own thread and account, and
//! nothing of it is kept: not by a guest that begins to read a thousand files and never takes what it has read.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// The most that one call reads or writes, in bytes.
const CHUNK: usize = 64 << 10;

/// A file from some place on.
pub(super) struct FileInput {
    file: Arc<File>,
    position: u64,
    /// Its end was told.
    closed: bool,
}

impl FileInput {
    pub(super) fn new(file: &Arc<File>, position: u64) -> Self {
        FileInput { file: Arc::clone(file), position, closed: false }
    }
}

#[async_trait]
impl Pollable for FileInput {
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for FileInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        if size == 0 {
            return Ok(Bytes::new());
        }
        let mut bytes = BytesMut::zeroed(size.min(CHUNK));
        let read = again(|| self.file.read_at(&mut bytes, self.position));
        match read {
            Ok(0) => {
                self.closed = true;
                Err(StreamError::Closed)
            }
            Ok(read) => {
                bytes.truncate(read);
                self.position += read as u64;
                Ok(bytes.freeze())
            }
            Err(error) => {
                self.closed = true;
                Err(StreamError::LastOperationFailed(error.into()))
            }
        }
    }
}

/// A file that is written to.
pub(super) struct FileOutput {
    file: Arc<File>,
    at: At,
    /// A write failed.
    closed: bool,
}

enum At {
    Position(u64),
    End,
}

impl FileOutput {
    pub(super) fn from(file: &Arc<File>, position: u64) -> Self {
        FileOutput { file: Arc::clone(file), at: At::Position(position), closed: false }
    }

    pub(super) fn at_the_end(file: &Arc<File>) -> Self {
        FileOutput { file: Arc::clone(file), at: At::End, closed: false }
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = again(|| match self.at {
                At::Position(position) => self.file.write_at(bytes, position),
                At::End => append(&self.file, bytes),
            })?;
            if written == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            if let At::Position(position) = &mut self.at {
                *position += written as u64;
            }
            bytes = &bytes[written..];
        }
        Ok(())
    }

    fn open(&self) -> StreamResult<()> {
        if self.closed { Err(StreamError::Closed) } else { Ok(()) }
    }
}

#[async_trait]
impl Pollable for FileOutput {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for FileOutput {
    fn check_write(&mut self) -> StreamResult<usize> {
        self.open().map(|()| CHUNK)
    }

    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.open()?;
        if bytes.len() > CHUNK {
            return Err(StreamError::trap("more was written than the stream had said it would take"));
        }
        self.write_all(&bytes).map_err(|error| {
            self.closed = true;
            StreamError::LastOperationFailed(error.into())
        })
    }

    /// Nothing is held back.
    fn flush(&mut self) -> StreamResult<()> {
        self.open()
    }
}

/// To the end of the file, wherever that is by then.
fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    {
        use rustix::io::{Errno, ReadWriteFlags, pwritev2};
        match pwritev2(file, &[io::IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND) {
            // A file system that does not know how.
            Err(Errno::NOTSUP | Errno::NOSYS) => {}
            written => return Ok(written?),
        }
    }
    file.write_at(bytes, file.metadata()?.len())
}

/// Does it until no signal is in its way.
fn again(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> (tempfile::NamedTempFile, Arc<File>) {
        let temp = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(temp.path(), content).unwrap();
        let file = std::fs::OpenOptions::new().read(true).write(true).open(temp.path()).unwrap();
        (temp, Arc::new(file))
    }

    #[test]
    fn a_file_is_read_at_once_from_its_place_to_its_end() {
        let content: Vec<u8> = (0..200_000_u32).map(|at| at as u8).collect();
        let (_temp, file) = file(&content);
        let mut input = FileInput::new(&file, 5);
        assert!(input.read(0).unwrap().is_empty());
        assert_eq!(input.read(3).unwrap(), content[5..8]);
        let mut read = Vec::new();
        loop {
            match input.read(usize::MAX) {
                Ok(piece) => {
                    assert!((1..=CHUNK).contains(&piece.len()));
                    read.extend_from_slice(&piece);
                }
                Err(StreamError::Closed) => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(read, content[8..]);
        assert!(matches!(FileInput::new(&file, 1 << 40).read(1), Err(StreamError::Closed)));
        assert!(matches!(FileInput::new(&file, u64::MAX).read(1), Err(StreamError::LastOperationFailed(_))));
    }

    #[test]
    fn a_file_is_written_at_once_where_it_is_to_be() {
        let (temp, file) = file(b"0123456789");
        let mut output = FileOutput::from(&file, 2);
        assert_eq!(output.check_write().unwrap(), CHUNK);
        output.write(Bytes::from_static(b"ab")).unwrap();
        output.write(Bytes::from_static(b"cd")).unwrap();
        output.flush().unwrap();
        let mut end = FileOutput::at_the_end(&file);
        end.write(Bytes::from_static(b"+")).unwrap();
        std::fs::OpenOptions::new()
            .append(true)
            .open(temp.path())
            .and_then(|mut other| io::Write::write_all(&mut other, b"other"))
            .unwrap();
        end.write(Bytes::from_static(b"+")).unwrap();
        assert_eq!(std::fs::read(temp.path()).unwrap(), b"01abcd6789+other+");
        let too_much = output.write(Bytes::from(vec![0; CHUNK + 1]));
        assert!(matches!(too_much, Err(StreamError::Trap(_))), "{too_much:?}");
    }

    #[test]
    fn a_write_that_fails_says_why_and_is_the_last() {
        let (temp, _) = file(b"");
        let read_only = Arc::new(File::open(temp.path()).unwrap());
        for mut output in [FileOutput::from(&read_only, 0), FileOutput::at_the_end(&read_only)] {
            let failed = output.write(Bytes::from_static(b"x"));
            let Err(StreamError::LastOperationFailed(error)) = failed else { panic!("{failed:?}") };
            assert!(
                error.downcast_ref::<io::Error>().is_some(),
                "its cause is what a guest is told: {error:?}"
            );
            assert!(matches!(output.check_write(), Err(StreamError::Closed)));
            assert!(matches!(output.write(Bytes::new()), Err(StreamError::Closed)));
        }
    }
}
