//! Content-addressed files.

use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream;

use super::*;

fn path_of(stage: &Stage, digest: &Digest) -> PathBuf {
    let hex = digest.to_hex();
    stage.folder.path().join("blobs").join(&hex[..2]).join(hex)
}

fn incoming(stage: &Stage) -> Vec<PathBuf> {
    let folder = fs::read_dir(stage.folder.path().join("blobs/incoming")).expect("read");
    folder.map(|entry| entry.expect("an entry").path()).collect()
}

fn pieces(
    pieces: &[&'static str],
) -> impl futures_util::Stream<Item = Result<Bytes, Failure>> + Unpin + use<> {
    stream::iter(pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect::<Vec<_>>())
}

#[tokio::test]
async fn what_was_put_is_got_and_private() {
    let stage = stage();
    let blobs = stage.store.blobs();
    let digest = blobs.put(Bytes::from_static(b"content")).await.expect("stored");
    assert_eq!(digest, Digest::of(b"content"));
    assert_eq!(blobs.put(Bytes::from_static(b"content")).await.expect("stored again"), digest);
    assert!(blobs.has(&digest).await.expect("looked"));
    assert_eq!(blobs.get(&digest).await.expect("read").as_deref(), Some(&b"content"[..]));
    let (mut file, length) = blobs.open_file(&digest).await.expect("read").expect("there");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("read");
    assert_eq!((text.as_str(), length), ("content", 7));
    let path = path_of(&stage, &digest);
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().expect("a parent"))), (0o600, 0o700));
    assert!(incoming(&stage).is_empty());
}

#[tokio::test]
async fn what_is_not_there_is_none() {
    let stage = stage();
    let (blobs, digest) = (stage.store.blobs(), Digest::of(b"nothing"));
    assert!(!blobs.has(&digest).await.expect("looked"));
    assert_eq!(blobs.get(&digest).await.expect("read"), None);
    assert!(blobs.open_file(&digest).await.expect("read").is_none());
}

#[tokio::test]
async fn damage_is_found_and_healed_by_storing_again() {
    let stage = stage();
    let blobs = stage.store.blobs();
    let digest = blobs.put(Bytes::from_static(b"content")).await.expect("stored");
    fs::write(path_of(&stage, &digest), "c0ntent").expect("damaged");
    for failure in
        [blobs.get(&digest).await.expect_err("damaged"), blobs.open_file(&digest).await.expect_err("damaged")]
    {
        assert_eq!(failure.code(), "blob_damaged");
        assert!(failure.hints()[0].contains("store the content again"), "{:?}", failure.hints());
    }
    blobs.put(Bytes::from_static(b"content")).await.expect("stored again");
    assert_eq!(blobs.get(&digest).await.expect("read").as_deref(), Some(&b"content"[..]));
}

#[tokio::test]
async fn a_stream_is_stored_when_it_is_what_it_should_be() {
    let stage = stage();
    let blobs = stage.store.blobs();
    let digest = Digest::of(b"hello world");
    let stored = blobs.put_stream(pieces(&["hello ", "", "world"]), 11, Some(digest)).await.expect("stored");
    assert_eq!(stored, digest);
    let too_large = blobs.put_stream(pieces(&["hello ", "world!"]), 11, None).await.expect_err("too large");
    assert_eq!(too_large.code(), "module_too_large");
    let other = blobs.put_stream(pieces(&["hello"]), 11, Some(digest)).await.expect_err("something else");
    assert_eq!(other.code(), "digest_mismatch");
    let broken = stream::iter([Ok(Bytes::from_static(b"he")), Err(Failure::usage("gone", "it went away"))]);
    assert_eq!(blobs.put_stream(broken, 11, None).await.expect_err("broken").code(), "gone");
    assert!(!blobs.has(&Digest::of(b"hello")).await.expect("looked"));
    assert!(incoming(&stage).is_empty(), "what is not stored is removed");
}

#[tokio::test]
async fn a_link_in_the_place_of_a_file_is_not_followed() {
    let stage = stage();
    let blobs = stage.store.blobs();
    let digest = blobs.put(Bytes::from_static(b"content")).await.expect("stored");
    let (path, elsewhere) = (path_of(&stage, &digest), stage.folder.path().join("elsewhere"));
    fs::rename(&path, &elsewhere).expect("moved");
    symlink(&elsewhere, &path).expect("linked");
    assert_eq!(blobs.get(&digest).await.expect_err("a link").code(), "store_unusable");
}

#[tokio::test]
async fn a_file_that_others_can_write_to_is_refused() {
    let stage = stage();
    let blobs = stage.store.blobs();
    let digest = blobs.put(Bytes::from_static(b"content")).await.expect("stored");
    fs::set_permissions(path_of(&stage, &digest), fs::Permissions::from_mode(0o622)).expect("opened to all");
    assert_eq!(blobs.get(&digest).await.expect_err("not private").code(), "home_unsafe");
}

#[test]
fn leftovers_of_crashes_are_removed_when_they_are_old_and_nobodys() {
    let stage = stage();
    let folder = stage.folder.path().join("blobs/incoming");
    let make = |name: &str, age: u64| {
        let path = folder.join(name);
        fs::write(&path, "half").expect("written");
        let file = fs::File::options().write(true).open(&path).expect("opened");
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).expect("aged");
        file
    };
    drop(make("old.tmp", 7200));
    drop(make("young.tmp", 60));
    drop(make("old.other", 7200));
    let held = make("held.tmp", 7200);
    held.lock().expect("locked");
    let _again = Store::open(stage.folder.path()).expect("opened once more");
    let mut left: Vec<_> =
        incoming(&stage).iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
    left.sort();
    assert_eq!(left, ["held.tmp", "old.other", "young.tmp"]);
}
