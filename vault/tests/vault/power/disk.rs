//! What a disk may hold after the power went: what was synced, and of the rest whatever chance leaves.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::files_under;

/// What a disk writes whole.
const SECTOR: usize = 512;

/// One thing that a process did.
pub(super) enum Op {
    Write {
        path: PathBuf,
        offset: usize,
        data: Vec<u8>,
    },
    Truncate {
        path: PathBuf,
        length: usize,
    },
    Sync {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    /// It wrote this to its standard output.
    Said(Vec<u8>),
}

/// The operations in a record.
pub(super) fn operations(mut record: &[u8]) -> Vec<Op> {
    fn take<'a>(rest: &mut &'a [u8], length: usize) -> &'a [u8] {
        let (taken, after) = rest.split_at(length);
        *rest = after;
        taken
    }
    fn number(rest: &mut &[u8]) -> usize {
        usize::try_from(u32::from_be_bytes(take(rest, 4).try_into().unwrap())).unwrap()
    }
    let mut operations = Vec::new();
    while !record.is_empty() {
        let kind = take(&mut record, 1)[0];
        let length = number(&mut record);
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(take(&mut record, length)));
        let offset = u64::from_be_bytes(take(&mut record, 8).try_into().unwrap());
        let offset = usize::try_from(offset).unwrap();
        let length = number(&mut record);
        let data = take(&mut record, length).to_vec();
        operations.push(match kind {
            b'w' => Op::Write { path, offset, data },
            b't' => Op::Truncate { path, length: offset },
            b's' => Op::Sync { path },
            b'r' => Op::Rename { from: path, to: PathBuf::from(std::ffi::OsStr::from_bytes(&data)) },
            b'u' => Op::Unlink { path },
            b'o' => Op::Said(data),
            other => panic!("a record of the kind {other}"),
        });
    }
    operations
}

/// Chance that can be repeated: splitmix64.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }
}

/// A change of a file that has not been synced.
#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Clone, Default)]
struct Node {
    synced: Vec<u8>,
    pending: Vec<Change>,
}

/// A disk below one folder. Files are told by number, because names change.
#[derive(Clone, Default)]
pub(super) struct Disk {
    root: PathBuf,
    folders: Vec<PathBuf>,
    nodes: Vec<Node>,
    /// Names as the process sees them.
    names: BTreeMap<PathBuf, usize>,
    /// Names that are on disk, and what was done to names since, in order.
    synced_names: BTreeMap<PathBuf, usize>,
    pending_names: Vec<(PathBuf, Option<usize>)>,
}

impl Disk {
    /// Everything below `root`, on disk.
    pub(super) fn of(root: &Path) -> Disk {
        let mut disk = Disk { root: root.to_owned(), ..Disk::default() };
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
            folders.extend(entries.filter(|path| path.is_dir()));
            disk.folders.push(folder);
        }
        for path in files_under(root) {
            disk.names.insert(path.clone(), disk.nodes.len());
            disk.nodes.push(Node { synced: fs::read(path).unwrap(), pending: Vec::new() });
        }
        disk.synced_names.clone_from(&disk.names);
        disk
    }

    /// Does what the process did. With `ignores`, syncs of that file are taken for nothing.
    pub(super) fn apply(&mut self, op: &Op, ignores: Option<&Path>) {
        match op {
            Op::Write { path, offset, data } => self.change(path, Change::Write(*offset, data.clone())),
            Op::Truncate { path, length } => self.change(path, Change::Truncate(*length)),
            Op::Sync { path } if ignores == Some(path.as_path()) => {}
            Op::Sync { path } if self.folders.contains(path) => {
                self.pending_names.retain(|(name, _)| name.parent() != Some(path));
                let inside = |name: &&PathBuf| name.parent() == Some(path.as_path());
                self.synced_names.retain(|name, _| !inside(&name));
                let now = self.names.iter().filter(|(name, _)| inside(name));
                self.synced_names.extend(now.map(|(name, node)| (name.clone(), *node)));
            }
            Op::Sync { path } => {
                if let Some(node) = self.names.get(path) {
                    let node = &mut self.nodes[*node];
                    for change in std::mem::take(&mut node.pending) {
                        change.apply(&mut node.synced);
                    }
                }
            }
            Op::Rename { from, to } => {
                if let Some(node) = self.names.remove(from) {
                    self.names.insert(to.clone(), node);
                    self.pending_names.extend([(from.clone(), None), (to.clone(), Some(node))]);
                }
            }
            Op::Unlink { path } => {
                if self.names.remove(path).is_some() {
                    self.pending_names.push((path.clone(), None));
                }
            }
            Op::Said(_) => {}
        }
    }

    fn change(&mut self, path: &Path, change: Change) {
        if !path.starts_with(&self.root) {
            return;
        }
        let node = match self.names.get(path) {
            Some(node) => *node,
            None => {
                self.names.insert(path.to_owned(), self.nodes.len());
                self.pending_names.push((path.to_owned(), Some(self.nodes.len())));
                self.nodes.push(Node::default());
                self.nodes.len() - 1
            }
        };
        self.nodes[node].pending.push(change);
    }

    /// Switches the power off, and writes what is left to a new folder.
    pub(super) fn lose_power(mut self, chance: &mut Chance, to: &Path) {
        // A journal keeps the order of names: some of the last ones are lost.
        let kept = chance.below(self.pending_names.len() + 1);
        for (name, node) in self.pending_names.drain(..kept) {
            match node {
                Some(node) => self.synced_names.insert(name, node),
                None => self.synced_names.remove(&name),
            };
        }
        for folder in self.folders.iter().rev().chain([&self.root]) {
            let folder = to.join(folder.strip_prefix(&self.root).unwrap());
            fs::create_dir_all(&folder).unwrap();
            fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
        }
        // Usually all of what was not synced is treated alike, as a write-back cache does.
        let mood = chance.below(4);
        for (name, node) in self.synced_names {
            let node = &mut self.nodes[node];
            let mut content = node.synced.clone();
            for change in node.pending.drain(..) {
                match if mood == 3 { chance.below(3) } else { mood } {
                    0 => {}
                    1 => change.apply(&mut content),
                    _ => change.tear(chance, &mut content),
                }
            }
            let path = to.join(name.strip_prefix(&self.root).unwrap());
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        }
    }
}

impl Change {
    fn apply(self, content: &mut Vec<u8>) {
        match self {
            Change::Truncate(length) => content.resize(length, 0),
            Change::Write(offset, data) => put(content, offset, &data),
        }
    }

    /// Some sectors of a write, each whole; or a part of its beginning.
    fn tear(self, chance: &mut Chance, content: &mut Vec<u8>) {
        let Change::Write(offset, data) = self else {
            if chance.below(2) == 0 {
                self.apply(content);
            }
            return;
        };
        let first = (SECTOR - offset % SECTOR).min(data.len());
        let (first, rest) = data.split_at(first);
        let only_beginning = chance.below(2) == 0;
        let mut at = offset;
        for sector in [first].into_iter().chain(rest.chunks(SECTOR)) {
            let written = chance.below(2) == 0;
            if written {
                put(content, at, sector);
            } else if only_beginning {
                return;
            }
            at += sector.len();
        }
    }
}

fn put(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if content.len() < offset + data.len() {
        content.resize(offset + data.len(), 0);
    }
    content[offset..offset + data.len()].copy_from_slice(data);
}
