//! The cache of compiled agents.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use orch_runner::{Artifact, ArtifactCache, ArtifactError, Exit, Origin, Worker};

use crate::support::{Closed, compiler, config, guest, run, spec, this_program};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn cache(&self) -> PathBuf {
        self.0.path().join("cache/artifacts")
    }

    fn key(&self) -> PathBuf {
        self.0.path().join("keys/artifacts.key")
    }

    fn open(&self) -> ArtifactCache {
        ArtifactCache::open(&self.cache(), &self.key()).unwrap()
    }

    /// The only entry.
    fn entry(&self) -> PathBuf {
        let entries: Vec<_> =
            fs::read_dir(self.cache()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [entry] = entries.as_slice() else { panic!("{entries:?}") };
        entry.clone()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// What is compiled is told before, and nothing else is.
async fn obtain(cache: &ArtifactCache) -> (Artifact, Origin) {
    let mut told = false;
    let obtained = cache.obtain_telling(guest("noop"), &compiler(), || told = true).await.unwrap();
    assert_eq!(told, obtained.origin != Origin::Cached);
    (obtained.artifact, obtained.origin)
}

async fn works(artifact: Artifact) {
    let worker =
        Worker::start(&this_program("__worker"), artifact, config(), Arc::new(Closed)).await.unwrap();
    assert_eq!(*run(&worker, spec("")).await.exit(), Exit::Status(0));
}

pub(crate) async fn entries_are_reused_and_private() {
    let folder = Folder::new();
    assert_eq!(obtain(&folder.open()).await.1, Origin::Compiled);
    let cache = folder.open();
    let (artifact, origin) = obtain(&cache).await;
    assert_eq!(origin, Origin::Cached);
    works(artifact).await;
    assert_eq!(mode(&folder.entry()), 0o600);
    assert_eq!(mode(&folder.cache()), 0o700);
    assert_eq!(mode(&folder.key()), 0o600);
    assert_eq!(fs::read(folder.key()).unwrap().len(), 32);
}

pub(crate) async fn a_damaged_entry_is_replaced_and_never_loaded() {
    let folder = Folder::new();
    obtain(&folder.open()).await;
    let entry = folder.entry();
    let good = fs::read(&entry).unwrap();
    let flip = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 1;
        bad
    };
    let footer = good.len() - (8 + 4 + 8 + 32 + 32);
    for (what, bad) in [
        ("its first byte", flip(0)),
        ("code", flip(good.len() / 2)),
        ("its last byte of payload", flip(footer - 1)),
        ("its magic", flip(footer)),
        ("its payload length", flip(footer + 19)),
        ("its key", flip(footer + 20)),
        ("its MAC", flip(good.len() - 1)),
        ("its end, cut off", good[..good.len() - 1].to_vec()),
        ("everything, cut off", Vec::new()),
        ("a byte more", [good.as_slice(), b"x"].concat()),
        ("a payload without its end", good[1..].to_vec()),
    ] {
        fs::write(&entry, bad).unwrap();
        let (artifact, origin) = obtain(&folder.open()).await;
        assert!(matches!(&origin, Origin::Replaced { reason } if !reason.is_empty()), "{what}: {origin:?}");
        assert_eq!(fs::read(&entry).unwrap().len(), good.len(), "{what}");
        drop(artifact);
    }
    let (artifact, origin) = obtain(&folder.open()).await;
    assert_eq!(origin, Origin::Cached);
    // What was verified is what runs, whatever becomes of the file's name meanwhile.
    fs::remove_file(&entry).unwrap();
    fs::write(&entry, b"something else").unwrap();
    works(artifact).await;
}

pub(crate) async fn another_version_is_a_miss() {
    let folder = Folder::new();
    obtain(&folder.open()).await;
    let entry = fs::OpenOptions::new().write(true).open(folder.entry()).unwrap();
    let length = entry.metadata().unwrap().len();
    entry.write_all_at(&99_u32.to_be_bytes(), length - (4 + 8 + 32 + 32)).unwrap();
    assert_eq!(obtain(&folder.open()).await.1, Origin::Compiled);
}

pub(crate) async fn two_at_once_compile_once() {
    let folder = Folder::new();
    let cache = folder.open();
    let (one, two) = tokio::join!(obtain(&cache), obtain(&cache));
    one_compiled([one.1, two.1]);
    // Nor do two processes, which know nothing of each other but a lock.
    fs::remove_file(folder.entry()).unwrap();
    let (first, second) = (folder.open(), folder.open());
    let (one, two) = tokio::join!(obtain(&first), obtain(&second));
    works(one.0).await;
    works(two.0).await;
    one_compiled([one.1, two.1]);
    assert!(folder.entry().exists());
    // What a process that was killed leaves behind stops nobody.
    let left = folder.entry().with_extension("compiling");
    fs::remove_file(folder.entry()).unwrap();
    fs::write(&left, "").unwrap();
    assert_eq!(obtain(&first).await.1, Origin::Compiled);
    assert!(!left.exists());
}

fn one_compiled(mut origins: [Origin; 2]) {
    origins.sort_by_key(|origin| *origin == Origin::Cached);
    assert_eq!(origins, [Origin::Compiled, Origin::Cached]);
}

pub(crate) async fn the_key_file_decides_what_is_trusted() {
    let folder = Folder::new();
    obtain(&folder.open()).await;
    fs::write(folder.key(), [7; 32]).unwrap();
    assert!(matches!(obtain(&folder.open()).await.1, Origin::Replaced { .. }));
    fs::write(folder.key(), [7; 31]).unwrap();
    let error = ArtifactCache::open(&folder.cache(), &folder.key()).err().unwrap();
    assert!(matches!(&error, ArtifactError::Cache { path, .. } if *path == folder.key()), "{error}");
    assert!(error.to_string().contains("32 bytes"), "{error}");
}
