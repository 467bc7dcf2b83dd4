//! Child processes that live no longer than the broker, with nothing of its environment.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::sync::{oneshot, watch};

/// The program that becomes a worker or a compile jail: `orch` itself, with a hidden subcommand.
#[derive(Debug, Clone)]
pub struct WorkerCommand {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
}

impl WorkerCommand {
    /// The running executable with one argument.
    ///
    /// # Errors
    /// When the operating system does not say which executable is running.
    pub fn this_program(subcommand: &str) -> io::Result<Self> {
        Ok(WorkerCommand { program: std::env::current_exe()?, args: vec![subcommand.into()] })
    }
}

/// A running child. Dropping it kills the process.
pub(crate) struct Process {
    alive: Arc<Mutex<Alive>>,
    exit: watch::Receiver<Option<ExitStatus>>,
    pid: u32,
}

/// What a child inherits. Nothing else does: the environment is empty, the working folder is `/`.
pub(crate) struct Descriptors {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Whether the process id still means the child. It does until the child has been waited for.
enum Alive {
    Yes(Pid),
    Reaped,
}

impl Process {
    /// Starts `command`.
    ///
    /// The thread that forks is the child's own, and stays until the child is gone: a parent-death signal, which
    /// the child asks for, is tied to the *thread* that forked it, and a thread of a runtime may end at any time.
    pub(crate) async fn spawn(command: &WorkerCommand, descriptors: Descriptors) -> io::Result<Self> {
        let mut child = Command::new(&command.program);
        child.args(&command.args).env_clear().current_dir("/");
        // Ctrl-c on a terminal is for the broker, which ends its children in its own way.
        child.process_group(0);
        child.stdin(descriptors.stdin).stdout(descriptors.stdout).stderr(descriptors.stderr);
        let (report, spawned) = oneshot::channel();
        let (exited, exit) = watch::channel(None);
        thread::Builder::new().name("orch-reaper".into()).spawn(move || {
            let spawned = child.spawn();
            // The command holds this process's copies of the child's descriptors; a pipe's end must not stay open.
            drop(child);
            match spawned {
                Ok(child) => reap(child, report, &exited),
                Err(error) => drop(report.send(Err(error))),
            }
        })?;
        let (alive, pid) = spawned.await.map_err(|_| io::Error::other("the spawning thread died"))??;
        Ok(Process { alive, exit, pid })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// A handle that can end the process from elsewhere.
    pub(crate) fn killer(&self) -> Killer {
        Killer(Arc::clone(&self.alive))
    }

    /// Resolves when the process has ended. Any number may wait.
    pub(crate) fn exited(&self) -> impl Future<Output = Option<ExitStatus>> + Send + 'static {
        let mut exit = self.exit.clone();
        async move {
            // An error means that the reaping thread died without a status.
            exit.wait_for(Option::is_some).await.ok().and_then(|status| *status)
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.killer().kill();
    }
}

/// Ends a process, as often as it is asked to.
#[derive(Clone)]
pub(crate) struct Killer(Arc<Mutex<Alive>>);

impl Killer {
    pub(crate) fn kill(&self) {
        // The reaper needs this lock to release the process id, so the id cannot have been given to another process.
        if let Alive::Yes(pid) = *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // It fails only for a process that has ended and waits for its reaper.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

type Spawned = io::Result<(Arc<Mutex<Alive>>, u32)>;

fn reap(mut child: Child, report: oneshot::Sender<Spawned>, exited: &watch::Sender<Option<ExitStatus>>) {
    let pid = Pid::from_child(&child);
    let alive = Arc::new(Mutex::new(Alive::Yes(pid)));
    if report.send(Ok((Arc::clone(&alive), child.id()))).is_err() {
        // Whoever asked is gone; nobody will ever use this child.
        let _ = child.kill();
    }
    // Wait without reaping, then reap under the lock.
    while let Err(rustix::io::Errno::INTR) =
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
    {}
    let mut alive = alive.lock().unwrap_or_else(PoisonError::into_inner);
    let status = child.wait();
    *alive = Alive::Reaped;
    if let Ok(status) = status {
        exited.send_replace(Some(status));
    }
}

/// A pipe whose reading end stays here.
pub(crate) fn output_pipe() -> io::Result<(tokio::net::unix::pipe::Receiver, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into())?, writer.into()))
}

/// A pipe whose writing end stays here.
pub(crate) fn input_pipe() -> io::Result<(OwnedFd, tokio::net::unix::pipe::Sender)> {
    let (reader, writer) = io::pipe()?;
    Ok((reader.into(), tokio::net::unix::pipe::Sender::from_owned_fd(writer.into())?))
}

/// Whether the filter of system calls ended a process. Nothing else raises this signal, least of all the broker.
pub(crate) fn violated(status: Option<ExitStatus>) -> bool {
    status.and_then(|status| status.signal()) == Some(Signal::SYS.as_raw())
}

/// How a process ended, for a person.
pub(crate) fn describe(status: Option<ExitStatus>) -> String {
    match status {
        None => "ended without a status".to_owned(),
        Some(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended without a status".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use std::fs::File;

    use super::*;

    fn shell(script: &str) -> WorkerCommand {
        WorkerCommand { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()] }
    }

    async fn start(script: &str) -> (Process, tokio::net::unix::pipe::Receiver) {
        let (output, stdout) = output_pipe().unwrap();
        let null = || File::options().read(true).write(true).open("/dev/null").unwrap().into();
        let process = Process::spawn(&shell(script), Descriptors { stdin: null(), stdout, stderr: null() })
            .await
            .unwrap();
        (process, output)
    }

    #[tokio::test]
    async fn a_child_has_no_environment_and_its_pipe_ends_with_it() {
        let (process, mut output) = start("/usr/bin/env; pwd; exit 3").await;
        let mut text = String::new();
        output.read_to_string(&mut text).await.unwrap();
        // The shell itself sets a few variables; none of this process's may be among them.
        for (name, _) in
            std::env::vars().filter(|(name, _)| !matches!(&name[..], "PWD" | "SHLVL" | "_" | "OLDPWD"))
        {
            assert!(!text.contains(&format!("{name}=")), "{name} leaked: {text}");
        }
        assert!(text.ends_with("/\n"), "{text}");
        assert_eq!(describe(process.exited().await), "exited with status 3");
    }

    #[tokio::test]
    async fn dropping_kills() {
        let (process, mut output) = start("echo up; exec sleep 1000").await;
        let mut up = [0; 3];
        output.read_exact(&mut up).await.unwrap();
        let exited = process.exited();
        drop(process);
        assert_eq!(describe(exited.await), "was ended by signal 9");
    }

    #[tokio::test]
    async fn a_missing_program_is_an_error() {
        let null = || File::open("/dev/null").unwrap().into();
        let command = WorkerCommand { program: "/nonexistent/orch".into(), args: Vec::new() };
        let descriptors = Descriptors { stdin: null(), stdout: null(), stderr: null() };
        let error = Process::spawn(&command, descriptors).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
