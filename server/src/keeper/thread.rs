//! The thread that the vault lives on.
//!
//! A vault blocks: it waits for its lock, decrypts, and flushes to disk. One thread does all of that, one job after
//! another, so that no worker of the async runtime ever waits for a disk and copies of key material stay on one stack.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use orch_vault::{AuditEvent, OpenMode, Vault, VaultError, VaultLocation};
use tokio::sync::oneshot;

use crate::failure::{Failure, Kind};

/// The vault, in the hands of its thread.
pub(super) struct Custody {
    location: VaultLocation,
    /// Whether it stays open once it was opened.
    keep: bool,
    held: Option<Vault>,
}

impl Custody {
    pub(super) fn new(location: VaultLocation, keep: bool) -> Self {
        Self { location, keep, held: None }
    }

    /// Whether the vault stays open.
    pub(super) fn keeps(&self) -> bool {
        self.keep
    }

    /// Where the vault of a workspace is.
    pub(super) fn location(&self, workspace: &str) -> VaultLocation {
        VaultLocation { workspace: workspace.to_owned(), ..self.location.clone() }
    }

    /// Does something with the vault of a workspace. `mode` holds where the vault is opened for this alone.
    pub(super) fn open<T>(
        &mut self,
        workspace: &str,
        mode: OpenMode,
        act: impl FnOnce(&mut Vault) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if !self.keep {
            return act(&mut Vault::open(&self.location(workspace), mode)?);
        }
        // One that could not be opened again after it was compacted is tried anew: it is no empty vault.
        self.held.take_if(|vault| !vault.exists());
        let vault = match &mut self.held {
            Some(vault) => vault,
            // A vault that is kept has to be there from the start: without a store there would be no lock to hold.
            None => self.held.insert(Vault::open(&self.location, OpenMode::Create)?),
        };
        vault.enter(workspace)?;
        act(vault)
    }

    /// Puts events on record. Those of uses come before the uses, and have to be; for what has happened already nobody
    /// is asked for a passphrase, and no vault is missed.
    fn record(&mut self, workspace: &str, events: Vec<AuditEvent>) -> Result<(), Failure> {
        let ahead = events.iter().any(|event| matches!(event, AuditEvent::UsePlanned { .. }));
        if ahead || self.keep {
            return self.open(workspace, OpenMode::ReadOnlyIfExists, |vault| Ok(vault.record(events)?));
        }
        let location = self.location(workspace);
        let location = VaultLocation { custody: location.custody.without_asking(), ..location };
        let mut vault = Vault::open(&location, OpenMode::ReadOnlyIfExists)?;
        if vault.exists() { Ok(vault.record(events)?) } else { Ok(()) }
    }
}

type Call = Box<dyn FnOnce(&mut Custody) + Send>;

enum Job {
    Call(Call),
    Record(Waiting),
}

/// Events that somebody waits to see on record.
struct Waiting {
    workspace: Arc<str>,
    events: Vec<AuditEvent>,
    answer: oneshot::Sender<Result<(), Failure>>,
}

/// The thread's other end. It starts with the first job; dropping this waits until it has closed the vault.
pub(super) struct VaultThread {
    running: OnceLock<Result<Running, Failure>>,
    location: VaultLocation,
    keep: bool,
}

struct Running {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
    /// Set once the vault that is kept takes no changes any more.
    sealed: Arc<AtomicBool>,
}

impl VaultThread {
    pub(super) fn new(location: VaultLocation, keep: bool) -> Self {
        Self { running: OnceLock::new(), location, keep }
    }

    /// Runs a job on the thread. It is run to its end even when nobody waits for it any more.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Custody) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, heard) = oneshot::channel();
        self.send(Job::Call(Box::new(move |custody| {
            // Nobody waits for the answer any more: that is no failure of the job.
            let _ = answer.send(job(custody));
        })))?;
        heard.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Puts events on record. All that wait at the same time become durable in one commit.
    pub(super) async fn record(&self, workspace: Arc<str>, events: Vec<AuditEvent>) -> Result<(), Failure> {
        let (answer, heard) = oneshot::channel();
        self.send(Job::Record(Waiting { workspace, events, answer }))?;
        heard.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Whether it lives, or has not been needed yet.
    pub(super) fn health(&self) -> Result<(), Failure> {
        match self.running.get() {
            Some(Ok(running)) if running.thread.is_finished() => Err(gone()),
            Some(Ok(running)) if running.sealed.load(Ordering::Relaxed) => Err(VaultError::Sealed.into()),
            Some(Err(failure)) => Err(failure.clone()),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    fn send(&self, job: Job) -> Result<(), Failure> {
        let started = self.running.get_or_init(|| {
            let custody = Custody::new(self.location.clone(), self.keep);
            let (jobs, queue) = mpsc::channel();
            let sealed = Arc::new(AtomicBool::new(false));
            let noted = Arc::clone(&sealed);
            let thread = thread::Builder::new()
                .name("vault".to_owned())
                .spawn(move || work(custody, &queue, &noted))
                .map_err(|e| {
                    Failure::new(Kind::Vault, "vault_thread", format!("cannot start a thread: {e}"))
                })?;
            Ok(Running { jobs, thread, sealed })
        });
        started.as_ref().map_err(Clone::clone)?.jobs.send(job).map_err(|_| gone())
    }
}

impl Drop for VaultThread {
    fn drop(&mut self) {
        let Some(Ok(Running { jobs, thread, .. })) = self.running.take() else { return };
        drop(jobs);
        // The last holder may be a job, and a thread cannot wait for itself.
        if thread.thread().id() != thread::current().id() {
            // A thread that panicked has closed the vault as well.
            let _ = thread.join();
        }
    }
}

/// The thread has ended before its time, which only a panic brings about. The vault is closed with it.
fn gone() -> Failure {
    Failure::new(Kind::Vault, "vault_closed", "the vault is closed: what held it has failed")
        .hint("start orch again; this is a defect, please report it")
}

fn work(mut custody: Custody, queue: &Receiver<Job>, sealed: &AtomicBool) {
    while let Ok(first) = queue.recv() {
        let mut records = Vec::new();
        let mut calls = Vec::new();
        for job in std::iter::once(first).chain(queue.try_iter()) {
            match job {
                Job::Record(waiting) => records.push(waiting),
                Job::Call(call) => calls.push(call),
            }
        }
        commit(&mut custody, records);
        for call in calls {
            call(&mut custody);
        }
        sealed.store(custody.held.as_ref().is_some_and(Vault::is_sealed), Ordering::Relaxed);
    }
}

/// One commit per workspace for everything that waits.
fn commit(custody: &mut Custody, waiting: Vec<Waiting>) {
    let mut workspaces: BTreeMap<Arc<str>, Vec<Waiting>> = BTreeMap::new();
    for one in waiting {
        workspaces.entry(Arc::clone(&one.workspace)).or_default().push(one);
    }
    for (workspace, waiting) in workspaces {
        let mut events: Vec<AuditEvent> = Vec::new();
        for event in waiting.iter().flat_map(|one| &one.events) {
            // A run's use of a secret at a host is one record, however many ask for it at the same time.
            if !matches!(event, AuditEvent::UsePlanned { .. }) || !events.contains(event) {
                events.push(event.clone());
            }
        }
        let done = custody.record(&workspace, events);
        let shared = match &done {
            // Together they are refused for the sake of one of them: a grant that is used up, a secret that is gone.
            Err(failure) => failure.kind() == Kind::Vault || waiting.len() == 1,
            Ok(()) => true,
        };
        for one in waiting {
            let done = if shared { done.clone() } else { custody.record(&workspace, one.events) };
            // As above: who does not wait any more is not told.
            let _ = one.answer.send(done);
        }
    }
}
