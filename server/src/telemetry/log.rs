//! `decisions.jsonl`: a line for each decision, 0600, and a few files of older ones.
//!
//! A thread of its own writes. Whoever decides hands a line over if there is room, and goes on; the thread is woken for the
//! first of several, since waking it for each takes longer than what it does. Lines are handed over as text behind those that
//! wait: what one thread allocates and another one frees is in the cache of neither when it is used again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use orch_proxy::Decision;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use super::line;
use crate::failure::Failure;
use crate::priority::step_back;

const NAME: &str = "decisions.jsonl";
/// Bytes of a file, after which the next is begun.
const SIZE: u64 = 16 << 20;
/// Full files that are kept, from `decisions.jsonl.1`, the newest, on.
const KEPT: u32 = 4;
/// Lines that may wait to be written: about 4 MiB.
const WAITING: usize = 4096;
/// So many wait that the thread writes them at once.
const HALF: usize = WAITING / 2;
/// How long a line is held back for company.
const LINGER: Duration = Duration::from_millis(5);

/// Bytes of lines for which there is room also when none wait.
const ROOM: usize = 256 << 10;

/// One line.
#[derive(Serialize)]
struct Line<'l> {
    workspace: &'l str,
    #[serde(flatten)]
    decision: &'l Decision,
}

/// The log, until it is finished or dropped; then all that was handed over is written.
pub(super) struct DecisionLog {
    queue: Arc<Queue>,
    writer: Mutex<Option<JoinHandle<()>>>,
    lost: Counter,
}

/// Between those who decide and the thread that writes.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: Lines,
    closed: bool,
}

/// Lines of text.
#[derive(Default)]
struct Lines {
    text: String,
    count: usize,
}

impl DecisionLog {
    /// Opens the log in this folder. `lost` counts the lines that could not be written.
    pub(super) fn open(folder: &Path, lost: Counter) -> Result<Self, Failure> {
        Self::with_size(folder, SIZE, lost)
    }

    fn with_size(folder: &Path, size: u64, lost: Counter) -> Result<Self, Failure> {
        let path = folder.join(NAME);
        let failed =
            |e: io::Error| Failure::file("decisions_unwritable", "open the log of decisions", &path, &e);
        let file = Current::open(&path).map_err(failed)?;
        let queue = Arc::<Queue>::default();
        let (of_thread, count) = (Arc::clone(&queue), lost.clone());
        let work = move || {
            step_back();
            write_all(&of_thread, file, size, &count);
        };
        let writer =
            std::thread::Builder::new().name("orch-decisions".to_owned()).spawn(work).map_err(failed)?;
        Ok(Self { queue, writer: Mutex::new(Some(writer)), lost })
    }

    /// Hands a decision over, or counts it as lost when too many wait.
    pub(super) fn write(&self, workspace: &str, decision: &Decision) {
        let taken = line(&Line { workspace, decision }).is_some_and(|line| self.queue.push(&line));
        if !taken {
            self.lost.inc();
        }
    }

    /// Returns when all that was handed over is written. What is handed over from then on is lost.
    pub(super) fn finish(&self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_one();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // It panicked or it did not; there is nobody to tell.
            let _ = writer.join();
        }
    }
}

impl Drop for DecisionLog {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Every change of it is whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there was room for it, and somebody to write it.
    fn push(&self, line: &str) -> bool {
        let mut waiting = self.lock();
        if waiting.closed || waiting.lines.count >= WAITING {
            return false;
        }
        let Lines { text, count } = &mut waiting.lines;
        text.push_str(line);
        text.push('\n');
        *count += 1;
        let wakes = matches!(*count, 1 | HALF);
        drop(waiting);
        if wakes {
            self.changed.notify_one();
        }
        true
    }

    /// Puts what waits into `lines`, as soon as it has lingered. False when the log is closed and all is written.
    fn take(&self, lines: &mut Lines) -> bool {
        let nothing = |waiting: &mut Waiting| waiting.lines.count == 0 && !waiting.closed;
        let waiting = self.changed.wait_while(self.lock(), nothing).unwrap_or_else(PoisonError::into_inner);
        let lingers = |waiting: &mut Waiting| waiting.lines.count < HALF && !waiting.closed;
        let waited = self.changed.wait_timeout_while(waiting, LINGER, lingers);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut waiting.lines, lines);
        lines.count > 0
    }
}

fn write_all(queue: &Queue, mut file: Current, size: u64, lost: &Counter) {
    let mut lines = Lines::default();
    while queue.take(&mut lines) {
        lines.text.lines().for_each(|line| file.write(line, size, lost));
        // What was written is to be read while nothing happens.
        file.flush(lost);
        lines.text.clear();
        lines.text.shrink_to(ROOM);
        lines.count = 0;
    }
}

/// The file that is being written.
struct Current {
    path: PathBuf,
    file: BufWriter<File>,
    length: u64,
    /// Lines that are in the buffer and in no file yet.
    buffered: u64,
}

impl Current {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() || meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("it is not a file of this user's own"));
        }
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        Ok(Self { path: path.to_owned(), length: meta.len(), file: BufWriter::new(file), buffered: 0 })
    }

    fn write(&mut self, line: &str, size: u64, lost: &Counter) {
        if self.length > 0 && self.length + line.len() as u64 >= size {
            self.flush(lost);
            // Where it cannot be done the file goes on growing, which says more than nothing.
            if self.rotate().is_err() {
                self.length = 0;
            }
        }
        if self.buffered >= 256 {
            self.flush(lost);
        }
        match writeln!(self.file, "{line}") {
            Ok(()) => {
                self.length += line.len() as u64 + 1;
                self.buffered += 1;
            }
            Err(_) => drop(lost.inc()),
        }
    }

    fn flush(&mut self, lost: &Counter) {
        if self.file.flush().is_err() {
            lost.inc_by(self.buffered);
            // What is in the buffer would be written again and again, or half.
            if let Ok(file) = self.file.get_ref().try_clone() {
                let _ = std::mem::replace(&mut self.file, BufWriter::new(file)).into_parts();
            }
        }
        self.buffered = 0;
    }

    /// Moves each file one further, the oldest out, and begins a new one.
    fn rotate(&mut self) -> io::Result<()> {
        let older = |number: u32| self.path.with_extension(format!("jsonl.{number}"));
        for number in (1..KEPT).rev() {
            match fs::rename(older(number), older(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, older(1))?;
        *self = Self::open(&self.path)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use orch_proxy::Outcome;
    use serde_json::Value;

    use super::*;
    use crate::telemetry::tests::decision;

    fn lines(path: &Path) -> Vec<Value> {
        let text = fs::read_to_string(path).expect("a log");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("a file").permissions().mode() & 0o777
    }

    #[test]
    fn each_decision_is_a_line_and_the_log_goes_on_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(NAME);
        let lost = Counter::default();
        for round in 1..=2 {
            let log = DecisionLog::open(folder.path(), lost.clone()).expect("a log");
            for number in 0..10 {
                log.write("acme", &decision(Outcome::Denied, &format!("/{number}\n\u{202e}")));
            }
            drop(log);
            let lines = lines(&path);
            assert_eq!((lines.len(), mode(&path), lost.get()), (10 * round, 0o600, 0));
            let last = lines.last().expect("a line");
            assert_eq!((&last["workspace"], &last["path"]), (&"acme".into(), &"/9\n\u{202e}".into()));
            assert_eq!((&last["verdict"], &last["duration_us"]), (&"denied".into(), &1500.into()));
            // What somebody opened wider is narrowed again.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set");
        }
    }

    #[test]
    fn full_files_are_moved_on_and_the_oldest_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = DecisionLog::with_size(folder.path(), 2_000, Counter::default()).expect("a log");
        for number in 0..200 {
            log.write("acme", &decision(Outcome::Allowed, &format!("/{number}")));
        }
        drop(log);
        let mut files: Vec<_> =
            fs::read_dir(folder.path()).expect("a folder").map(|f| f.expect("a file").path()).collect();
        files.sort();
        assert_eq!(files.len(), 1 + KEPT as usize, "{files:?}");
        let paths = files.iter().rev().map(|file| {
            assert!(fs::metadata(file).expect("a file").len() <= 2_000 && mode(file) == 0o600);
            lines(file)
        });
        // From the oldest file to the newest nothing is missing or twice.
        let mut all: Vec<_> = paths.flatten().collect();
        let newest = lines(&folder.path().join(NAME)).len();
        all.rotate_right(0);
        let numbers: Vec<u32> =
            all.iter().map(|l| l["path"].as_str().expect("a path")[1..].parse().expect("a number")).collect();
        assert!(newest > 0 && numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
        assert_eq!(numbers.last(), Some(&199));
    }

    #[test]
    fn what_does_not_fit_is_counted_and_nobody_waits() {
        let folder = tempfile::tempdir().expect("a folder");
        let lost = Counter::default();
        // Nobody takes lines out of this one.
        let log = DecisionLog { queue: Arc::default(), writer: Mutex::default(), lost: lost.clone() };
        for _ in 0..WAITING + 3 {
            log.write("acme", &decision(Outcome::Allowed, "/"));
        }
        assert_eq!((lost.get(), log.queue.lock().lines.count), (3, WAITING));

        // On a full disk as well.
        let full = Path::new("/dev/full");
        if full.exists() {
            let file = OpenOptions::new().write(true).open(full).expect("a device");
            let mut file =
                Current { path: folder.path().join("x"), file: BufWriter::new(file), length: 0, buffered: 0 };
            file.write("a line", SIZE, &lost);
            file.flush(&lost);
            file.write("another", SIZE, &lost);
            file.flush(&lost);
            assert_eq!(lost.get(), 5);
        }
    }

    #[test]
    fn what_was_handed_over_is_written_when_the_log_is_finished() {
        let folder = tempfile::tempdir().expect("a folder");
        let lost = Counter::default();
        let log = DecisionLog::open(folder.path(), lost.clone()).expect("a log");
        for number in 0..3 {
            log.write("acme", &decision(Outcome::Allowed, &format!("/{number}")));
        }
        log.finish();
        assert_eq!((lines(&folder.path().join(NAME)).len(), lost.get()), (3, 0));
        // Too late, and counted; finishing it again waits for nobody.
        log.write("acme", &decision(Outcome::Allowed, "/late"));
        log.finish();
        assert_eq!((lines(&folder.path().join(NAME)).len(), lost.get()), (3, 1));
    }

    #[test]
    fn another_kind_of_file_in_its_place_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink("/dev/null", folder.path().join(NAME)).expect("a link");
        let error = DecisionLog::open(folder.path(), Counter::default()).err().expect("refused");
        assert_eq!(error.code(), "decisions_unwritable");
    }
}
