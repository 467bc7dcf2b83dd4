//! Where a secret's value turned up.
//!
//! A value leaks just as well in base64 or hex, so a [`Needle`] is searched for in every spelling at once.

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aho_corasick::AhoCorasick;
use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

/// Shorter spellings would be found by chance.
const SHORTEST: usize = 12;

/// A value to search for, in all its spellings.
pub struct Needle {
    finder: AhoCorasick,
    spellings: Vec<&'static str>,
    longest: usize,
}

/// One place where a value was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// The file, stream or memory region.
    pub place: String,
    /// How it was spelled there.
    pub spelling: &'static str,
    /// Bytes from the start of the place.
    pub offset: u64,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {} of {}", self.spelling, self.offset, self.place)
    }
}

impl Needle {
    /// Prepares the search for a value of at least 16 bytes.
    pub fn new(value: &str) -> Self {
        let bytes = value.as_bytes();
        assert!(bytes.len() >= 16, "a shorter value would be found by chance");
        let mut table: Vec<(&'static str, Vec<u8>)> = vec![
            ("plain", bytes.to_vec()),
            ("reversed", bytes.iter().rev().copied().collect()),
            ("hex", HEXLOWER.encode(bytes).into_bytes()),
            ("upper-case hex", HEXUPPER.encode(bytes).into_bytes()),
            ("percent-encoded", percent(bytes).into_bytes()),
            ("UTF-16LE", value.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ];
        // Base64 of a text that holds the value depends on where in a group of three the value starts. The first and
        // last characters mix with the neighbours and are left out.
        for shift in 0..3 {
            let padded = [&b"\0\0"[..shift], bytes].concat();
            for (name, encoding) in [("base64", BASE64_NOPAD), ("base64url", BASE64URL_NOPAD)] {
                let text = encoding.encode(&padded);
                let whole = padded.len() / 3 * 4;
                table.push((name, text.as_bytes()[if shift == 0 { 0 } else { 4 }..whole].to_vec()));
            }
        }
        table.sort_by(|a, b| a.1.cmp(&b.1));
        table.dedup_by(|a, b| a.1 == b.1);
        for (name, bytes) in &table {
            assert!(bytes.len() >= SHORTEST, "{name} is too short to be told from chance");
        }
        let longest = table.iter().map(|(_, b)| b.len()).max().unwrap_or(0);
        let finder = AhoCorasick::new(table.iter().map(|(_, b)| b)).expect("a few short patterns");
        Self { finder, spellings: table.into_iter().map(|(n, _)| n).collect(), longest }
    }

    /// Hits in a piece of memory.
    pub fn in_bytes(&self, place: &str, bytes: &[u8]) -> Vec<Hit> {
        self.finder
            .find_iter(bytes)
            .map(|m| Hit {
                place: place.to_owned(),
                spelling: self.spellings[m.pattern().as_usize()],
                offset: m.start() as u64,
            })
            .collect()
    }

    /// Hits in anything readable, in constant memory.
    ///
    /// # Errors
    /// When reading fails.
    pub fn in_reader(&self, place: &str, mut from: impl Read) -> std::io::Result<Vec<Hit>> {
        let mut hits = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        let (mut kept, mut before) = (0, 0_u64);
        loop {
            let read = from.read(&mut buffer[kept..])?;
            if read == 0 {
                return Ok(hits);
            }
            let filled = kept + read;
            for mut hit in self.in_bytes(place, &buffer[..filled]) {
                hit.offset += before;
                // The overlap is looked at twice.
                if !hits.contains(&hit) {
                    hits.push(hit);
                }
            }
            kept = filled.min(self.longest - 1);
            buffer.copy_within(filled - kept..filled, 0);
            before += (filled - kept) as u64;
        }
    }

    /// Hits in every file below a folder: contents, names and link targets.
    pub fn in_tree(&self, root: &Path) -> Vec<Hit> {
        let mut hits = Vec::new();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            let entries =
                fs::read_dir(&folder).unwrap_or_else(|e| panic!("cannot list {}: {e}", folder.display()));
            for entry in entries {
                let path = entry.unwrap_or_else(|e| panic!("cannot list {}: {e}", folder.display())).path();
                let place = path.display().to_string();
                let name = path.file_name().unwrap_or_default();
                hits.extend(self.in_bytes(&format!("the name {place}"), name.as_bytes()));
                // A file may go away while a run is looked at, and only then.
                let Ok(meta) = fs::symlink_metadata(&path) else { continue };
                if meta.is_dir() {
                    folders.push(path);
                } else if meta.is_symlink() {
                    let target = fs::read_link(&path).unwrap_or_default();
                    hits.extend(self.in_bytes(&format!("the link {place}"), target.as_os_str().as_bytes()));
                } else if meta.is_file() {
                    let found = File::open(&path).and_then(|file| self.in_reader(&place, file));
                    hits.extend(found.unwrap_or_else(|e| panic!("cannot read {place}: {e}")));
                }
            }
        }
        hits
    }
}

/// Fails with the list unless there are no hits.
#[track_caller]
pub fn none(hits: &[Hit]) {
    assert!(
        hits.is_empty(),
        "a secret was found:\n{}",
        hits.iter().map(|h| format!("  {h}\n")).collect::<String>()
    );
}

fn percent(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::{BASE64, BASE64URL};

    const VALUE: &str = "sk-canary/0123+456789_abcdef";

    #[test]
    fn every_spelling_is_found_in_a_file_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let needle = Needle::new(VALUE);
        fs::write(dir.path().join("clean"), "sk-canary/0123+456789_abcdeX and more").expect("written");
        none(&needle.in_tree(dir.path()));
        let mut spelled: Vec<String> = vec![
            VALUE.into(),
            VALUE.chars().rev().collect(),
            HEXLOWER.encode(VALUE.as_bytes()),
            HEXUPPER.encode(VALUE.as_bytes()),
            percent(VALUE.as_bytes()),
        ];
        for before in ["", "a", "ab", "Bearer ", "user:x"] {
            for after in ["", "z", "zz"] {
                let text = format!("{before}{VALUE}{after}");
                spelled.push(BASE64.encode(text.as_bytes()));
                spelled.push(BASE64URL.encode(text.as_bytes()));
            }
        }
        for (i, text) in spelled.iter().enumerate() {
            let folder = dir.path().join(format!("d{i}"));
            fs::create_dir(&folder).expect("made");
            fs::write(folder.join("f"), format!("before {text} after")).expect("written");
            assert_eq!(needle.in_tree(&folder).len(), 1, "missed {text}");
        }
        fs::write(dir.path().join(VALUE.replace('/', "_")), "").expect("written");
        let named = Needle::new(&VALUE.replace('/', "_"));
        assert_eq!(named.in_tree(dir.path()).len(), 1, "a file's name counts");
    }

    #[test]
    fn a_value_across_two_reads_is_found_once() {
        let needle = Needle::new(VALUE);
        for start in [(1 << 20) - 10, (1 << 20) - VALUE.len(), 1 << 20] {
            let mut bytes = vec![b'.'; 3 << 20];
            bytes[start..start + VALUE.len()].copy_from_slice(VALUE.as_bytes());
            let hits = needle.in_reader("memory", &bytes[..]).expect("readable");
            assert_eq!(hits.iter().map(|h| h.offset).collect::<Vec<_>>(), [start as u64]);
        }
    }
}
