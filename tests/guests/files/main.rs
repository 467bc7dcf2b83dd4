//! Does with files what its input lists, one thing after the other, and reports what came of each.
//!
//! Each is a list of words: what to do, and with what. What came of it is `ok`, followed by what was read if anything
//! was, or `failed: ` and why. A test lists an attack and looks at the answers, and at the folder.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;

/// The most of one file that is reported, in bytes.
const HEAD: u64 = 4096;
/// How much is written at once, in bytes.
const PIECE: usize = 64 << 10;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Input {
    /// Words, the first of which says what is done with the others.
    todo: Vec<Vec<String>>,
    /// Leave with status 1 in the end.
    fail: bool,
}

fn main() -> ExitCode {
    let input: Input = match serde_json::from_reader(io::stdin()) {
        Ok(input) => input,
        Err(error) => {
            eprintln!("the input is not what it must be: {error}");
            return ExitCode::FAILURE;
        }
    };
    let came_of: Vec<String> = input
        .todo
        .iter()
        .map(|words| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match carry_out(&words) {
                Ok(read) if read.is_empty() => "ok".to_owned(),
                Ok(read) => format!("ok {read}"),
                Err(error) => format!("failed: {error}"),
            }
        })
        .collect();
    println!("{}", serde_json::json!({ "came_of": came_of }));
    if input.fail { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn carry_out(words: &[&str]) -> io::Result<String> {
    let done = |result: io::Result<()>| result.map(|()| String::new());
    match *words {
        ["read", path] => read(path),
        ["list", path] => {
            let names = fs::read_dir(path)?
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<BTreeSet<_>>>()?;
            Ok(names.into_iter().collect::<Vec<_>>().join(" "))
        }
        ["stat", path] => {
            let found = fs::metadata(path)?;
            Ok(format!("{} {}", if found.is_dir() { "folder" } else { "file" }, found.len()))
        }
        ["write", path, text] => done(fs::write(path, text)),
        ["append", path, text] => done(
            OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(text.as_bytes())),
        ),
        // Opens it to be written to, and does not.
        ["open-to-write", path] => done(OpenOptions::new().write(true).open(path).map(drop)),
        ["truncate", path] => done(OpenOptions::new().write(true).truncate(true).open(path).map(drop)),
        ["size", path, length] => {
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
            done(file.set_len(number(length)?))
        }
        ["fill", path, from, length] => fill(path, number(from)?, number(length)?),
        ["many", folder, count] => many(folder, number(count)?),
        ["mkdir", path] => done(fs::create_dir(path)),
        ["rmdir", path] => done(fs::remove_dir(path)),
        ["remove", path] => done(fs::remove_file(path)),
        ["rename", from, to] => done(fs::rename(from, to)),
        ["link", from, to] => done(fs::hard_link(from, to)),
        #[allow(deprecated, reason = "what is not deprecated is not stable on WASI")]
        ["symlink", target, path] => done(fs::soft_link(target, path)),
        ["readlink", path] => Ok(fs::read_link(path)?.display().to_string()),
        // Sets the times of what the path leads to. The first mount is 3, the next one 4.
        ["touch", mount, path] => raw::touch(mount, path),
        // Asks the host itself for a path below a mount, with nothing of the C library's between.
        ["raw", mount, path] => raw::read(mount, path),
        ["again", path, rounds] => again(path, number(rounds)?),
        ["sleep", ms] => {
            std::thread::sleep(Duration::from_millis(number(ms)?));
            Ok(String::new())
        }
        ["say", text] => {
            eprintln!("{text}");
            Ok(String::new())
        }
        _ => Err(io::Error::other(format!("{words:?} is nothing that this guest does"))),
    }
}

fn number(text: &str) -> io::Result<u64> {
    text.parse().map_err(|_| io::Error::other(format!("{text:?} is not a number")))
}

fn read(path: &str) -> io::Result<String> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Writes so many bytes from an offset on, in pieces. Says how many were written before it failed.
fn fill(path: &str, from: u64, length: u64) -> io::Result<String> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let piece = vec![b'x'; PIECE];
    let mut written = 0;
    while written < length {
        let next = (length - written).min(PIECE as u64) as usize;
        match file.write(&piece[..next]) {
            Ok(count) => written += count as u64,
            Err(error) => {
                return Err(io::Error::new(error.kind(), format!("after {written} bytes: {error}")));
            }
        }
    }
    Ok(String::new())
}

/// Makes so many empty files. Says how many there were before it failed.
fn many(folder: &str, count: u64) -> io::Result<String> {
    for at in 0..count {
        File::create(format!("{folder}/{at}"))
            .map_err(|error| io::Error::new(error.kind(), format!("after {at} files: {error}")))?;
    }
    Ok(String::new())
}

/// Reads a file so many times and says what was ever in it, and how often it could be read.
fn again(path: &str, rounds: u64) -> io::Result<String> {
    let (mut seen, mut times) = (BTreeSet::new(), 0);
    for _ in 0..rounds {
        if let Ok(text) = read(path) {
            seen.insert(text);
            times += 1;
        }
    }
    Ok(format!("{times} times: {}", seen.into_iter().collect::<Vec<_>>().join(" ")))
}

/// The host's own calls, which the C library would not make with such paths. A mount is the number of its descriptor.
#[cfg(target_family = "wasm")]
#[allow(unsafe_code, reason = "they are declared nowhere else")]
mod raw {
    use std::fs::File;
    use std::io::{self, Read};
    use std::os::fd::FromRawFd;

    /// `__WASI_LOOKUPFLAGS_SYMLINK_FOLLOW`.
    const FOLLOW: u32 = 1;
    /// `__WASI_RIGHTS_FD_READ` and `__WASI_RIGHTS_FD_FILESTAT_GET`.
    const READ: u64 = 1 << 1 | 1 << 21;
    /// `__WASI_FSTFLAGS_ATIM_NOW` and `__WASI_FSTFLAGS_MTIM_NOW`.
    const NOW: u32 = 1 << 1 | 1 << 3;

    #[link(wasm_import_module = "wasi_snapshot_preview1")]
    unsafe extern "C" {
        fn path_open(
            fd: u32,
            look_up: u32,
            path: *const u8,
            length: usize,
            how: u32,
            rights: u64,
            inherited: u64,
            flags: u32,
            opened: *mut u32,
        ) -> u32;
        fn path_filestat_set_times(
            fd: u32,
            look_up: u32,
            path: *const u8,
            length: usize,
            accessed: u64,
            modified: u64,
            flags: u32,
        ) -> u32;
    }

    fn told(error: u32) -> io::Result<()> {
        match error {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error.cast_signed())),
        }
    }

    pub(super) fn read(mount: &str, path: &str) -> io::Result<String> {
        let (mount, mut opened) = (super::number(mount)? as u32, 0);
        // SAFETY: a path with its length, and a place for the descriptor.
        told(unsafe { path_open(mount, FOLLOW, path.as_ptr(), path.len(), 0, READ, 0, 0, &mut opened) })?;
        // SAFETY: it was opened just now, and nobody else has it.
        let file = unsafe { File::from_raw_fd(opened.cast_signed()) };
        let mut head = Vec::new();
        file.take(super::HEAD).read_to_end(&mut head)?;
        Ok(String::from_utf8_lossy(&head).into_owned())
    }

    pub(super) fn touch(mount: &str, path: &str) -> io::Result<String> {
        let mount = super::number(mount)? as u32;
        // SAFETY: a path with its length.
        told(unsafe { path_filestat_set_times(mount, FOLLOW, path.as_ptr(), path.len(), 0, 0, NOW) })?;
        Ok(String::new())
    }
}

/// Compiled for anything else this guest has no host to ask.
#[cfg(not(target_family = "wasm"))]
mod raw {
    use std::io;

    pub(super) fn read(_: &str, _: &str) -> io::Result<String> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn touch(_: &str, _: &str) -> io::Result<String> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
