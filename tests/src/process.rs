//! Looking into a running process through `/proc`: its children, its environment and its memory.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;

use crate::needle::{Hit, Needle};

const PAGE: u64 = 4096;
/// How much of a mapping is looked at in one go.
const WINDOW: u64 = 16 << 20;
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;

/// All descendants of a process that are alive, parents before children.
pub fn descendants(pid: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .expect("proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent_of_living(pid)?)))
        .collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        family.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(c, _)| *c));
        next += 1;
    }
    family.remove(0);
    family
}

/// Whether a process exists and is not a zombie.
pub fn alive(pid: u32) -> bool {
    parent_of_living(pid).is_some()
}

/// The command line, arguments separated by spaces.
pub fn command_line(pid: u32) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline"))?)
        .trim_end_matches('\0')
        .replace('\0', " "))
}

/// The environment that a process was started with, `NAME=value` each.
///
/// # Errors
/// When the process is gone, or protected from its own user and the test is not root.
pub fn environment(pid: u32) -> io::Result<Vec<String>> {
    let bytes = fs::read(format!("/proc/{pid}/environ"))?;
    Ok(bytes
        .split(|b| *b == 0)
        .filter(|v| !v.is_empty())
        .map(|v| String::from_utf8_lossy(v).into_owned())
        .collect())
}

/// Hits in the memory of a process, and how many bytes were looked at.
///
/// Only pages that are there are read: a worker reserves far more address space than the machine has memory, and what
/// was never touched holds nothing.
///
/// # Errors
/// When the process is gone, or protected from its own user and the test is not root.
pub fn memory(pid: u32, needle: &Needle) -> io::Result<(Vec<Hit>, u64)> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let pages = File::open(format!("/proc/{pid}/pagemap"))?;
    let mut hits = Vec::new();
    let mut looked_at = 0;
    for mapping in mappings(pid)? {
        let mut bytes = Vec::new();
        let mut from = mapping.start;
        while from < mapping.end {
            let to = mapping.end.min(from + WINDOW);
            for (start, end) in present(&pages, from, to)? {
                let mut run = vec![0; usize::try_from(end - start).expect("a window fits in memory")];
                // The kernel may take a page away between the two looks.
                if memory.read_exact_at(&mut run, start).is_err() {
                    continue;
                }
                looked_at += end - start;
                bytes.push((start, run));
            }
            from = to;
        }
        for (start, run) in joined(bytes) {
            hits.extend(needle.in_bytes(&format!("process {pid}, {start:#x}, {}", mapping.name), &run));
        }
    }
    Ok((hits, looked_at))
}

struct Mapping {
    start: u64,
    end: u64,
    name: String,
    readable: bool,
    used: bool,
}

/// The readable mappings that have at least one page in memory.
fn mappings(pid: u32) -> io::Result<Vec<Mapping>> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let mut all: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        let first = fields.next().unwrap_or_default();
        if let Some((start, end)) = first.split_once('-').and_then(|(start, end)| {
            Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
        }) {
            let permissions = fields.next().unwrap_or_default();
            let name = fields.nth(3).unwrap_or("anonymous").to_owned();
            // The kernel's own pages cannot be read through mem.
            let kernel = matches!(name.as_str(), "[vvar]" | "[vvar_vclock]" | "[vsyscall]");
            let readable = permissions.starts_with('r') && !kernel;
            all.push(Mapping { start, end, name, readable, used: false });
        } else if matches!(first, "Rss:" | "Swap:") {
            let mapping = all.last_mut().expect("a mapping precedes its figures");
            mapping.used |= fields.next() != Some("0");
        }
    }
    all.retain(|mapping| mapping.readable && mapping.used);
    Ok(all)
}

/// The runs of pages between two addresses that are in memory or in swap.
fn present(pages: &File, from: u64, to: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut entries = vec![0; usize::try_from((to - from) / PAGE * 8).expect("a window fits in memory")];
    pages.read_exact_at(&mut entries, from / PAGE * 8)?;
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (page, entry) in (from..).step_by(PAGE as usize).zip(entries.chunks_exact(8)) {
        let entry = u64::from_ne_bytes(entry.try_into().expect("eight bytes"));
        if entry & (PRESENT | SWAPPED) == 0 {
            continue;
        }
        match runs.last_mut() {
            Some((_, end)) if *end == page => *end += PAGE,
            _ => runs.push((page, page + PAGE)),
        }
    }
    Ok(runs)
}

/// Neighbouring runs as one, so that a value across two windows is seen.
fn joined(runs: Vec<(u64, Vec<u8>)>) -> Vec<(u64, Vec<u8>)> {
    let mut all: Vec<(u64, Vec<u8>)> = Vec::new();
    for (start, run) in runs {
        match all.last_mut() {
            Some((first, bytes)) if *first + bytes.len() as u64 == start => bytes.extend(run),
            _ => all.push((start, run)),
        }
    }
    all
}

/// The parent of a process, unless it is gone or only waits to be reaped.
fn parent_of_living(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may contain anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?;
    if state == "Z" || state == "X" { None } else { fields.next()?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::process::{Command, Stdio};

    #[test]
    fn a_child_and_its_environment_are_found_until_it_is_gone() {
        let mut child = Command::new("cat")
            .env_clear()
            .env("MARK", "a value")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("cat exists");
        let pid = child.id();
        assert!(descendants(std::process::id()).contains(&pid));
        assert_eq!(environment(pid).expect("readable"), ["MARK=a value"]);
        drop(child.stdin.take());
        child.wait().expect("it ends");
        assert!(!alive(pid) && !descendants(std::process::id()).contains(&pid));
    }

    #[test]
    fn a_value_in_memory_is_found_and_one_that_is_not_there_is_not() {
        // Built at run time, so that the program's own constants do not hold it.
        let value: String = (0..40_u8).map(|i| char::from(b'a' + i * 5 % 26)).collect();
        let needle = Needle::new(&value);
        let (hits, looked_at) = memory(std::process::id(), &needle).expect("our own memory");
        assert!(!hits.is_empty(), "the value is in this process");
        assert!(looked_at > 1 << 20, "only {looked_at} bytes were looked at");
        black_box(value);

        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat exists");
        let (hits, looked_at) = memory(child.id(), &needle).expect("a child's memory");
        assert_eq!(hits, []);
        assert!(looked_at > 0);
        drop(child.stdin.take());
        child.wait().expect("it ends");
    }
}
