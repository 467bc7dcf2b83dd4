//! Which folders of this machine an agent may be given.
//!
//! Whoever calls names them, and every link on the way is followed here, once: what a worker is told are real paths, which it
//! opens through no link. Refused is what no caller can have meant to hand over: `orch`'s own files, and what the kernel
//! shows of itself and of processes.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::failure::Failure;
use crate::home::Home;
use crate::run::MountRequest;

/// More folders than this are a mistake.
const MOST: usize = 64;

/// File systems that are views of the kernel and of what runs on it.
const VIEWS: [&str; 18] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "cgroup",
    "cgroup2",
    "debugfs",
    "tracefs",
    "securityfs",
    "bpf",
    "pstore",
    "efivarfs",
    "configfs",
    "fusectl",
    "binfmt_misc",
    "mqueue",
    "selinuxfs",
    "nsfs",
];

/// The folders with every link on the way followed.
///
/// # Errors
/// When one is not there, is no folder, may not be used by this user, or is one that no agent gets.
pub(crate) fn judge(home: &Home, mut mounts: Vec<MountRequest>) -> Result<Vec<MountRequest>, Failure> {
    if mounts.is_empty() {
        return Ok(mounts);
    }
    if mounts.len() > MOST {
        return Err(Failure::usage(
            "mount_refused",
            format!("{} folders are mounted, and a run has {MOST} at most", mounts.len()),
        )
        .hint("mount a folder that holds them"));
    }
    let table = MountPoint::all();
    for mount in &mut mounts {
        mount.host = judge_one(home, &table, mount)?;
    }
    for (at, mount) in mounts.iter().enumerate() {
        let other =
            mounts[..at].iter().find(|other| other.host == mount.host && other.writable != mount.writable);
        if let Some(other) = other {
            let (host, one, two) = (mount.host.display(), &other.guest, &mount.guest);
            return Err(Failure::usage(
                "mount_twice",
                format!("{host} is mounted at {one} and at {two}, once to be read and once to be written to"),
            )
            .hint("say ro of both, or rw of both"));
        }
    }
    Ok(mounts)
}

fn judge_one(home: &Home, table: &[MountPoint], mount: &MountRequest) -> Result<PathBuf, Failure> {
    let said = mount.host.display();
    let refuse = |why: &str| Failure::usage("mount_refused", format!("{said} {why}"));
    let real = mount.host.canonicalize().map_err(|e| refuse(&format!("cannot be mounted: {e}")))?;
    if !real.is_dir() {
        return Err(refuse("is not a folder").hint("mount the folder that it is in"));
    }
    if real.to_str().is_none() {
        return Err(refuse("has a path that is not text").hint("rename the folder, or mount one above it"));
    }
    let wanted =
        Access::READ_OK | Access::EXEC_OK | if mount.writable { Access::WRITE_OK } else { Access::empty() };
    if let Err(error) = rustix::fs::access(&real, wanted) {
        let what = if mount.writable { "cannot be read and written to" } else { "cannot be read" };
        return Err(refuse(&format!("{what} by this user: {error}")));
    }
    if let Some(view) = table.iter().find(|point| point.is_view() && point.shows_in(&real, table)) {
        return Err(refuse(&format!(
            "shows what runs on this machine, and with it keys ({} is a file system of the kernel's)",
            view.place.display()
        ))
        .hint("copy what the agent needs into a folder of its own"));
    }
    // Where nothing lists file systems, the one that matters most has its usual name.
    if real.starts_with("/proc") || real == Path::new("/dev") {
        return Err(refuse("shows the environment of processes, and with it keys")
            .hint("copy what the agent needs into a folder of its own"));
    }
    let below = table.iter().filter(|point| point.place.starts_with(&real));
    if home.overlaps(&real) || below.into_iter().any(|point| home.overlaps(&point.place)) {
        return Err(refuse("holds orch's own files, which no agent may see").hint("mount a folder beside it"));
    }
    Ok(real)
}

/// Where a file system is mounted.
#[derive(Debug, PartialEq, Eq)]
struct MountPoint {
    place: PathBuf,
    kind: String,
}

impl MountPoint {
    /// All that this process sees; none where the system does not tell.
    fn all() -> Vec<Self> {
        let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
        table.split(|byte| *byte == b'\n').filter_map(Self::read).collect()
    }

    /// Of a line such as `36 35 98:0 /root /place rw,noatime master:1 - ext3 /dev/root rw`.
    fn read(line: &[u8]) -> Option<Self> {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let separator = fields.iter().position(|field| *field == b"-")?;
        let kind = String::from_utf8_lossy(fields.get(separator + 1)?).into_owned();
        Some(Self { place: unescaped(fields.get(4)?), kind })
    }

    fn is_view(&self) -> bool {
        VIEWS.contains(&self.kind.as_str())
    }

    /// Whether something of it is in `folder`: it is mounted in there, or the folder lies in it and in no other.
    fn shows_in(&self, folder: &Path, table: &[Self]) -> bool {
        let innermost = table
            .iter()
            .filter(|point| folder.starts_with(&point.place))
            .max_by_key(|point| point.place.components().count());
        self.place.starts_with(folder) || innermost.is_some_and(|point| std::ptr::eq(point, self))
    }
}

/// Blanks and the like stand in the table as three octal digits behind a backslash.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| digits.iter().all(|digit| (b'0'..b'8').contains(digit)));
        match digits {
            Some(digits) if first == b'\\' => {
                bytes.push(
                    digits.iter().fold(0_u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')),
                );
                rest = &after[3..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::environment::Environment;

    fn home(at: &Path) -> Home {
        let set = BTreeMap::from([("ORCH_HOME".to_owned(), at.display().to_string())]);
        Home::locate(&Environment::Fixed(set)).expect("a home")
    }

    fn mount(host: impl Into<PathBuf>, writable: bool) -> MountRequest {
        MountRequest { host: host.into(), guest: "/data".to_owned(), writable }
    }

    #[test]
    fn what_is_mounted_is_a_real_folder() {
        let place = tempfile::tempdir().expect("a folder");
        let real = place.path().canonicalize().expect("real");
        let home = home(&real.join("orch"));
        fs::create_dir_all(real.join("data")).expect("made");
        fs::write(real.join("file"), "").expect("written");
        symlink("data", real.join("link")).expect("linked");
        symlink("loop", real.join("loop")).expect("linked");
        let judged = judge(&home, vec![mount(real.join("link"), true)]).expect("mounted");
        assert_eq!(judged, [mount(real.join("data"), true)]);
        for (name, says) in [("file", "not a folder"), ("nothing", "No such file"), ("loop", "symbolic link")]
        {
            let failure = judge(&home, vec![mount(real.join(name), false)]).expect_err(name);
            assert_eq!(failure.code(), "mount_refused");
            assert!(failure.message().contains(says) && failure.message().contains(name), "{failure}");
        }
        // A name that is no text, behind one that is.
        let odd = real.join(std::ffi::OsStr::from_bytes(b"odd-\xff"));
        fs::create_dir(&odd).expect("made");
        symlink(&odd, real.join("even")).expect("linked");
        let failure = judge(&home, vec![mount(real.join("even"), false)]).expect_err("odd");
        assert!(failure.message().contains("not text"), "{failure}");
    }

    #[test]
    fn the_same_folder_has_the_same_rights_wherever_it_is_seen() {
        let place = tempfile::tempdir().expect("a folder");
        let home = home(&place.path().join("orch"));
        let data = place.path().join("data");
        fs::create_dir(&data).expect("made");
        symlink("data", place.path().join("link")).expect("linked");
        let twice = |one, two| {
            let other = MountRequest { guest: "/other".to_owned(), ..mount(place.path().join("link"), two) };
            judge(&home, vec![mount(&data, one), other])
        };
        for rights in [true, false] {
            assert_eq!(twice(rights, rights).expect("mounted").len(), 2);
            let failure = twice(rights, !rights).expect_err("both");
            assert_eq!(failure.code(), "mount_twice");
            assert!(failure.message().contains("/data and at /other"), "{failure}");
        }
        let many = vec![mount(&data, false); MOST + 1];
        assert!(judge(&home, many).expect_err("many").message().contains("65 folders"));
    }

    #[test]
    fn what_is_the_kernels_or_orchs_is_no_agents() {
        let place = tempfile::tempdir().expect("a folder");
        let home = home(&place.path().join("user/orch"));
        fs::create_dir_all(place.path().join("user/orch/data")).expect("made");
        symlink("/", place.path().join("root")).expect("linked");
        for (host, says) in [
            (place.path().join("user"), "orch's own files"),
            (place.path().join("user/orch"), "orch's own files"),
            (place.path().join("user/orch/data"), "orch's own files"),
            (place.path().to_owned(), "orch's own files"),
            (place.path().join("root"), "keys"),
            ("/".into(), "keys"),
            ("/proc".into(), "keys"),
            ("/proc/self/task".into(), "keys"),
            ("/sys/kernel".into(), "keys"),
            ("/dev".into(), "keys"),
        ] {
            let failure = judge(&home, vec![mount(&host, false)]).expect_err("refused");
            assert_eq!(failure.code(), "mount_refused", "{}", host.display());
            assert!(failure.message().contains(says), "{failure}");
            assert!(!failure.hints().is_empty());
        }
    }

    #[test]
    fn the_table_of_file_systems_is_read() {
        let lines = [
            "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw",
            "22 21 0:20 / /proc rw - proc proc rw",
            r"23 21 0:21 / /mnt/a\040b\134c rw shared:2 master:3 - tmpfs t rw",
            "24 23 0:22 / /mnt/jail/proc rw - proc proc rw",
            "25 22 0:23 / /proc/files rw - ext4 /dev/b rw",
            "",
            "nonsense",
        ];
        let table: Vec<_> = lines.iter().filter_map(|line| MountPoint::read(line.as_bytes())).collect();
        assert_eq!(table.len(), 5);
        assert_eq!(table[2], MountPoint { place: r"/mnt/a b\c".into(), kind: "tmpfs".to_owned() });
        let shows = |folder: &str| {
            table.iter().any(|point| point.is_view() && point.shows_in(Path::new(folder), &table))
        };
        for folder in ["/", "/proc", "/proc/1", "/mnt", "/mnt/jail"] {
            assert!(shows(folder), "{folder}");
        }
        for folder in ["/home", "/mnt/a b\\c", "/proc/files", "/proc/files/deep", "/procs"] {
            assert!(!shows(folder), "{folder}");
        }
    }
}
