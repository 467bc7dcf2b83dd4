use super::*;

const FILE: Facts = Facts { kind: FileType::RegularFile, mode: 0o600, owner: 1000, links: 1 };
const FOLDER: Facts = Facts { kind: FileType::Directory, mode: 0o700, owner: 1000, links: 2 };

#[test]
fn files_row_by_row() {
    for (facts, problem) in [
        (FILE, None),
        (Facts { mode: 0o400, ..FILE }, None),
        (Facts { mode: 0o644, ..FILE }, Some("has mode 0644; others must have no access (chmod 600)")),
        (Facts { mode: 0o620, ..FILE }, Some("has mode 0620; others must have no access (chmod 600)")),
        (Facts { owner: 0, ..FILE }, Some("belongs to user 0, not to user 1000, who runs this")),
        (Facts { links: 2, ..FILE }, Some("has a second hard link")),
        (Facts { kind: FileType::Fifo, ..FILE }, Some("is not a regular file")),
        (Facts { kind: FileType::Directory, ..FILE }, Some("is not a regular file")),
    ] {
        assert_eq!(facts.problem_as_file(1000).as_deref(), problem, "{facts:?}");
    }
}

#[test]
fn credentials_row_by_row() {
    let own = Facts { mode: 0o400, ..FILE };
    let roots = Facts { owner: 0, ..own };
    let writable = |mode| format!("has mode {mode}; a credential is read-only (chmod 400)");
    for (facts, problem) in [
        (own, None),
        (roots, None),
        (Facts { mode: 0o440, ..roots }, None),
        (Facts { mode: 0o600, ..own }, Some(writable("0600"))),
        (
            Facts { mode: 0o440, ..own },
            Some("has mode 0440; others must have no access (chmod 600)".to_owned()),
        ),
        (
            Facts { mode: 0o444, ..roots },
            Some("belongs to user 0, not to user 1000, who runs this".to_owned()),
        ),
        (Facts { owner: 7, ..own }, Some("belongs to user 7, not to user 1000, who runs this".to_owned())),
        (Facts { kind: FileType::Fifo, ..own }, Some("is not a regular file".to_owned())),
    ] {
        assert_eq!(facts.problem_as_credential(1000), problem, "{facts:?}");
    }
    assert_eq!(Facts { owner: 0, ..own }.problem_as_credential(0), None);
}

#[test]
fn folders_row_by_row() {
    use Privacy::{Closed, NotWritable};
    let open = "others must not be able to write to it (chmod go-w)";
    let closed = "others must have no access (chmod 700)";
    for (mode, privacy, problem) in [
        (0o700, Closed, None),
        (0o755, NotWritable, None),
        (0o755, Closed, Some(format!("has mode 0755; {closed}"))),
        (0o710, Closed, Some(format!("has mode 0710; {closed}"))),
        (0o775, NotWritable, Some(format!("has mode 0775; {open}"))),
        (0o1777, NotWritable, Some(format!("has mode 1777; {open}"))),
    ] {
        assert_eq!(Facts { mode, ..FOLDER }.problem_as_folder(1000, privacy), problem);
    }
    let foreign = Facts { owner: 0, ..FOLDER }.problem_as_folder(1000, NotWritable);
    assert_eq!(foreign.as_deref(), Some("belongs to user 0, not to user 1000, who runs this"));
}

#[cfg(target_os = "linux")]
#[test]
fn network_file_systems_are_told_in_every_width_and_sign() {
    assert_eq!(refused_file_system(0x6969_i64), Some("NFS"));
    assert_eq!(refused_file_system(0xff53_4d42_i64), Some("SMB"));
    assert_eq!(refused_file_system(i32::from_ne_bytes(0xff53_4d42_u32.to_ne_bytes())), Some("SMB"));
    assert_eq!(refused_file_system(0xff53_4d42_u32), Some("SMB"));
    for local in [0xef53_i64, 0x0102_1994, 0x9123_683e, 0x5846_5342, 0x794c_7630, 0x2fc1_2fc1] {
        assert_eq!(refused_file_system(local), None);
    }
}

#[test]
fn a_new_file_replaces_and_removes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::any_parent_of(&dir.path().join("file")).unwrap();
    let names = || {
        let mut names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    std::fs::write(dir.path().join("file.new"), b"somebody's").unwrap();
    folder.write_new(Path::new("file"), b"ours").unwrap();
    // Somebody made one since it was looked for, on a file system that can refuse to replace and on one that cannot.
    let there = folder.write_new(Path::new("file"), b"again").unwrap_err();
    assert_eq!(there.kind(), io::ErrorKind::AlreadyExists);
    let there = folder.write_here(Path::new("file"), b"again").unwrap_err();
    assert_eq!(there.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!((read("file"), read("file.new")), (b"ours".to_vec(), b"somebody's".to_vec()));
    assert_eq!(names(), ["file", "file.new"]);
}
