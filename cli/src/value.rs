//! Reading the values of keys and secrets: from a file, from standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use orch_vault::Secret;
use zeroize::Zeroizing;

use crate::printer::Printer;

/// The most that is read, one byte above what the vault takes, so that the vault says it is too large.
const READ_LIMIT: u64 = 64 * 1024 + 1;

/// The value in a file.
pub(crate) fn from_file(path: &Path, printer: Printer) -> io::Result<Secret> {
    Ok(without_newline(read_limited(File::open(path)?)?, printer))
}

/// The value that is read, without one newline at its end. That is not said: it is read often.
pub(crate) fn from_reader(from: impl Read) -> io::Result<Secret> {
    let (bytes, _) = trimmed(read_limited(from)?);
    Ok(Secret::new(bytes.to_vec()))
}

/// The value on standard input.
pub(crate) fn from_stdin(printer: Printer) -> io::Result<Secret> {
    Ok(without_newline(read_limited(io::stdin().lock())?, printer))
}

/// A value of its own: what the parser holds may be shared.
pub(crate) fn copy(secret: &Secret) -> Secret {
    secret.expose(|bytes| Secret::new(bytes.to_vec()))
}

/// Reads at most [`READ_LIMIT`] bytes, into memory that is cleared again.
fn read_limited(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // All of it at once: a buffer that grows leaves copies behind. One byte more lets the end be seen without growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(READ_LIMIT as usize + 1));
    from.take(READ_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// One newline at the end is the file's, not the value's; that it was taken off is said.
fn without_newline(bytes: Zeroizing<Vec<u8>>, printer: Printer) -> Secret {
    let (bytes, had_newline) = trimmed(bytes);
    if had_newline {
        printer.note("one newline at the end was taken off");
    }
    Secret::new(bytes.to_vec())
}

fn trimmed(mut bytes: Zeroizing<Vec<u8>>) -> (Zeroizing<Vec<u8>>, bool) {
    let had_newline = bytes.last() == Some(&b'\n');
    if had_newline {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    (bytes, had_newline)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printer() -> Printer {
        Printer::new(true, &orch_server::Environment::Fixed(std::collections::BTreeMap::new()))
    }

    fn read(text: &[u8]) -> Vec<u8> {
        let bytes = read_limited(text).expect("read");
        without_newline(bytes, printer()).expose(<[u8]>::to_vec)
    }

    #[test]
    fn one_newline_is_the_file_s() {
        assert_eq!(read(b"key\n"), b"key");
        assert_eq!(read(b"key\r\n"), b"key");
        assert_eq!(read(b"key\n\n"), b"key\n");
        assert_eq!(read(b" key "), b" key ");
        assert_eq!(read(b""), b"");
    }

    #[test]
    fn what_is_too_large_is_seen_to_be() {
        let read = read_limited(io::repeat(b'x')).expect("read");
        assert_eq!(read.len() as u64, READ_LIMIT);
    }
}
