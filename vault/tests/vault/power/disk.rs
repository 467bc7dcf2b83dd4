//! What a disk may hold after the power went: what was synced, and of the rest whatever chance leaves.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

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
    /// A file's name, or an empty folder's, is gone.
    Remove {
        path: PathBuf,
    },
    MakeFolder {
        path: PathBuf,
    },
    /// A file was opened that may not have been there.
    Create {
        path: PathBuf,
        truncates: bool,
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
        let path = PathBuf::from(OsStr::from_bytes(take(&mut record, length)));
        let offset = u64::from_be_bytes(take(&mut record, 8).try_into().unwrap());
        let offset = usize::try_from(offset).unwrap();
        let length = number(&mut record);
        let data = take(&mut record, length).to_vec();
        operations.push(match kind {
            b'w' => Op::Write { path, offset, data },
            b't' => Op::Truncate { path, length: offset },
            b's' => Op::Sync { path },
            b'r' => Op::Rename { from: path, to: PathBuf::from(OsStr::from_bytes(&data)) },
            b'u' => Op::Remove { path },
            b'd' => Op::MakeFolder { path },
            b'c' => Op::Create { path, truncates: offset != 0 },
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

/// A file or a folder, told by number because names change.
#[derive(Clone)]
enum Node {
    File {
        synced: Vec<u8>,
        pending: Vec<Change>,
    },
    Folder {
        synced: Names,
        /// As the process sees it.
        now: Names,
    },
}

type Names = BTreeMap<OsString, usize>;

/// A name in a folder that was given to something, or taken away.
#[derive(Clone)]
struct Named {
    folder: usize,
    name: OsString,
    node: Option<usize>,
}

/// A disk below one folder, which is its first node.
#[derive(Clone)]
pub(super) struct Disk {
    root: PathBuf,
    nodes: Vec<Node>,
    /// What was done to names and not synced, in order. What is one entry happens as a whole.
    journal: Vec<Vec<Named>>,
}

impl Disk {
    /// Everything below `root`, on disk.
    pub(super) fn of(root: &Path) -> Disk {
        let mut disk = Disk { root: root.to_owned(), nodes: Vec::new(), journal: Vec::new() };
        disk.take_in(root);
        disk
    }

    fn take_in(&mut self, path: &Path) -> usize {
        let number = self.nodes.len();
        if !path.is_dir() {
            self.nodes.push(Node::File { synced: fs::read(path).unwrap(), pending: Vec::new() });
            return number;
        }
        self.nodes.push(Node::Folder { synced: Names::new(), now: Names::new() });
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
        let names: Names = entries.map(|entry| (entry.file_name(), self.take_in(&entry.path()))).collect();
        self.nodes[number] = Node::Folder { synced: names.clone(), now: names };
        number
    }

    fn names(&mut self, folder: usize) -> Option<&mut Names> {
        match self.nodes.get_mut(folder) {
            Some(Node::Folder { now, .. }) => Some(now),
            _ => None,
        }
    }

    fn find(&mut self, path: &Path) -> Option<usize> {
        let mut at = 0;
        let names: Vec<&OsStr> = path.strip_prefix(&self.root).ok()?.iter().collect();
        for name in names {
            at = *self.names(at)?.get(name)?;
        }
        Some(at)
    }

    /// The folder that a path is in, and the path's last name.
    fn place(&mut self, path: &Path) -> Option<(usize, OsString)> {
        Some((self.find(path.parent()?)?, path.file_name()?.to_owned()))
    }

    /// Gives names, all at once.
    fn give(&mut self, entry: Vec<Named>) {
        for Named { folder, name, node } in entry.iter().cloned() {
            let names = self.names(folder).unwrap();
            match node {
                Some(node) => names.insert(name, node),
                None => names.remove(&name),
            };
        }
        self.journal.push(entry);
    }

    fn make(&mut self, path: &Path, node: Node) {
        if self.find(path).is_none()
            && let Some((folder, name)) = self.place(path)
        {
            self.nodes.push(node);
            self.give(vec![Named { folder, name, node: Some(self.nodes.len() - 1) }]);
        }
    }

    /// Does what the process did. With `ignores`, syncs of that path are taken for nothing.
    pub(super) fn apply(&mut self, op: &Op, ignores: Option<&Path>) {
        match op {
            Op::Write { path, offset, data } => self.change(path, Change::Write(*offset, data.clone())),
            Op::Truncate { path, length } => self.change(path, Change::Truncate(*length)),
            Op::Sync { path } if ignores == Some(path.as_path()) => {}
            Op::Sync { path } => self.sync(path),
            Op::Rename { from, to } => {
                if let (Some(node), Some((old, old_name)), Some((new, new_name))) =
                    (self.find(from), self.place(from), self.place(to))
                {
                    self.give(vec![
                        Named { folder: old, name: old_name, node: None },
                        Named { folder: new, name: new_name, node: Some(node) },
                    ]);
                }
            }
            Op::Remove { path } => {
                if let (Some(_), Some((folder, name))) = (self.find(path), self.place(path)) {
                    self.give(vec![Named { folder, name, node: None }]);
                }
            }
            Op::MakeFolder { path } => {
                self.make(path, Node::Folder { synced: Names::new(), now: Names::new() });
            }
            Op::Create { path, truncates } => {
                self.make(path, Node::File { synced: Vec::new(), pending: Vec::new() });
                if *truncates {
                    self.change(path, Change::Truncate(0));
                }
            }
            Op::Said(_) => {}
        }
    }

    fn change(&mut self, path: &Path, change: Change) {
        if let Some(node) = self.find(path)
            && let Node::File { pending, .. } = &mut self.nodes[node]
        {
            pending.push(change);
        }
    }

    /// A file's content, or the names in a folder: nothing else comes along.
    fn sync(&mut self, path: &Path) {
        let Some(number) = self.find(path) else { return };
        match &mut self.nodes[number] {
            Node::File { synced, pending } => pending.drain(..).for_each(|change| change.apply(synced)),
            Node::Folder { .. } => {
                let ours = |named: &Named| named.folder == number;
                let (synced, left) = std::mem::take(&mut self.journal)
                    .into_iter()
                    .partition(|entry: &Vec<Named>| entry.iter().all(ours));
                self.journal = left;
                self.keep(synced);
            }
        }
    }

    fn keep(&mut self, entries: Vec<Vec<Named>>) {
        for Named { folder, name, node } in entries.into_iter().flatten() {
            let Node::Folder { synced, .. } = &mut self.nodes[folder] else { continue };
            match node {
                Some(node) => synced.insert(name, node),
                None => synced.remove(&name),
            };
        }
    }

    /// Switches the power off, and writes what is left to a folder.
    pub(super) fn lose_power(mut self, chance: &mut Chance, to: &Path) {
        // A journal keeps the order of names: some of the last ones are lost.
        let kept = chance.below(self.journal.len() + 1);
        let kept = self.journal.drain(..kept).collect();
        self.keep(kept);
        // Usually all of what was not synced is treated alike, as a write-back cache does.
        let mood = chance.below(4);
        self.write_out(0, to, chance, mood);
    }

    fn write_out(&self, node: usize, to: &Path, chance: &mut Chance, mood: usize) {
        match &self.nodes[node] {
            Node::Folder { synced, .. } => {
                fs::create_dir_all(to).unwrap();
                fs::set_permissions(to, Permissions::from_mode(0o700)).unwrap();
                for (name, node) in synced {
                    self.write_out(*node, &to.join(name), chance, mood);
                }
            }
            Node::File { synced, pending } => {
                let mut content = synced.clone();
                for change in pending.iter().cloned() {
                    match if mood == 3 { chance.below(3) } else { mood } {
                        0 => {}
                        1 => change.apply(&mut content),
                        _ => change.tear(chance, &mut content),
                    }
                }
                fs::write(to, content).unwrap();
                fs::set_permissions(to, Permissions::from_mode(0o600)).unwrap();
            }
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
