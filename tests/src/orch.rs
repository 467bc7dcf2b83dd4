//! The program itself: started with nothing but what a test gives it, and never left running.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};
use serde_json::Value;

use crate::home::Home;
use crate::needle::{Hit, Needle};
use crate::process;
use crate::pty::Terminal;
use crate::upstream::PATIENCE;

/// How long a run may take before it is killed and the test fails. A debug build compiles a guest in seconds.
const HARD_TIMEOUT: Duration = Duration::from_secs(120);

/// Whose session a program belongs to. Either way it leads a process group.
#[derive(Clone, Copy)]
enum Session {
    /// That of the tests.
    Ours,
    /// One of its own, whose terminal is its standard input.
    Own,
}

/// Begins a session at the terminal on standard input.
fn own_session() -> std::io::Result<()> {
    rustix::process::setsid()?;
    Ok(rustix::process::ioctl_tiocsctty(std::io::stdin())?)
}

/// One invocation of `orch`, not yet started.
pub struct Orch {
    program: PathBuf,
    args: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    folder: PathBuf,
    stdin: Vec<u8>,
    timeout: Duration,
}

impl Orch {
    /// The binary `program` in `home`: the environment holds `HOME`, `ORCH_HOME`, `TMPDIR` and `PATH`, providers are
    /// not asked about keys, and there is nothing else; the working directory is the home's own, stdin is empty and no terminal.
    pub fn new(program: impl AsRef<Path>, home: &Home) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            environment: vec![
                ("HOME".into(), home.user().into()),
                ("ORCH_HOME".into(), home.orch().into()),
                ("TMPDIR".into(), home.temporary().into()),
                ("PATH".into(), "/usr/bin:/bin".into()),
                // Only tests of that have a provider that could be asked.
                ("ORCH_KEY_CHECK".into(), "off".into()),
            ],
            folder: home.work().to_owned(),
            stdin: Vec::new(),
            timeout: HARD_TIMEOUT,
        }
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Adds one argument.
    pub fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// What it reads from stdin.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Another working directory.
    pub fn folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.folder = path.into();
        self
    }

    /// Starts it and waits for its end.
    #[track_caller]
    pub fn run(self) -> Outcome {
        self.start().finish()
    }

    /// Starts it, as the leader of a process group of its own, as a shell would.
    #[track_caller]
    pub fn start(mut self) -> Running {
        let input = std::mem::take(&mut self.stdin);
        let mut child = self.spawn(Stdio::piped(), Stdio::piped(), Session::Ours);
        let mut stdin = child.stdin.take().expect("piped");
        // A program that fails early may not read its input: that is not this thread's failure. It ends with the pipe.
        let _writer = thread::spawn(move || {
            let _broken_pipe = stdin.write_all(&input);
        });
        let stderr = Drain::new(child.stderr.take().expect("piped"));
        self.running(child, stderr)
    }

    /// Starts it at a terminal, which is its standard input and error; standard output stays a pipe.
    #[track_caller]
    pub fn start_on(self, terminal: Terminal) -> Running {
        let child = self.spawn(terminal.end(), terminal.end(), Session::Ours);
        self.running(child, Drain::new(terminal.screen()))
    }

    /// The same where the terminal is that of its session as well, as after a login: what is opened as `/dev/tty`.
    #[track_caller]
    pub fn start_at(self, terminal: Terminal) -> Running {
        let child = self.spawn(terminal.end(), terminal.end(), Session::Own);
        self.running(child, Drain::new(terminal.screen()))
    }

    #[track_caller]
    fn spawn(&self, stdin: Stdio, stderr: Stdio, session: Session) -> Child {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .envs(self.environment.iter().map(|(n, v)| (n, v)))
            .current_dir(&self.folder)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(stderr);
        match session {
            Session::Ours => command.process_group(0),
            // SAFETY: two system calls, which may be made between fork and exec.
            #[allow(unsafe_code)]
            Session::Own => unsafe { command.pre_exec(own_session) },
        };
        command.spawn().unwrap_or_else(|e| panic!("cannot start {}: {e}", self.program.display()))
    }

    fn running(self, mut child: Child, stderr: Drain) -> Running {
        let started = Instant::now();
        let stdout = Drain::new(child.stdout.take().expect("piped"));
        let line = self.args.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ");
        Running { child, line, started, timeout: self.timeout, stdout, stderr, ended: false }
    }
}

/// A running `orch`. Its whole process group is killed when this is dropped before the end.
pub struct Running {
    child: Child,
    line: String,
    started: Instant,
    timeout: Duration,
    stdout: Drain,
    stderr: Drain,
    ended: bool,
}

impl Running {
    /// The process id of the command itself.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The processes that the command has started and that are alive: workers and compilers.
    pub fn workers(&self) -> Vec<u32> {
        process::descendants(self.pid())
    }

    /// Ctrl-C on a terminal: an interrupt to every process of the foreground group.
    pub fn interrupt(&self) {
        kill_process_group(self.group(), Signal::INT).expect("the group is alive");
    }

    /// An interrupt to the command alone, as a supervisor sends it.
    pub fn interrupt_alone(&self) {
        kill_process(self.group(), Signal::INT).expect("the process is alive");
    }

    /// Asks the command to end, as a supervisor does.
    pub fn terminate(&self) {
        kill_process(self.group(), Signal::TERM).expect("the process is alive");
    }

    /// Tells the command to read its configuration again.
    pub fn hang_up(&self) {
        kill_process(self.group(), Signal::HUP).expect("the process is alive");
    }

    /// Kills the command, and nothing else of its group.
    pub fn kill_alone(&self) {
        kill_process(self.group(), Signal::KILL).expect("the process is alive");
    }

    /// The first line that it prints, as soon as it is whole.
    #[track_caller]
    pub fn first_line(&self) -> String {
        let (said, _) = self.stdout.wait(|state| state.ended || state.bytes.contains(&b'\n'));
        let line = said.split(|byte| *byte == b'\n').next().filter(|line| line.len() < said.len());
        let Some(line) = line else {
            let (told, _) = self.stderr.wait(|_| true);
            panic!("it printed no line\n{}", String::from_utf8_lossy(&told));
        };
        String::from_utf8_lossy(line).into_owned()
    }

    /// Returns as soon as stderr contains this text, while the command goes on.
    #[track_caller]
    pub fn wait_says(&self, text: &str) {
        let contains = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let (said, _) = self.stderr.wait(|state| state.ended || contains(&state.bytes));
        assert!(contains(&said), "stderr does not say {text:?}:\n{}", String::from_utf8_lossy(&said));
    }

    /// Returns as soon as stdout contains this text, while the command goes on.
    #[track_caller]
    pub fn wait_prints(&self, text: &str) {
        let contains = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let (said, _) = self.stdout.wait(|state| state.ended || contains(&state.bytes));
        assert!(contains(&said), "stdout does not say {text:?}:\n{}", String::from_utf8_lossy(&said));
    }

    /// Waits for the end.
    #[track_caller]
    pub fn finish(mut self) -> Outcome {
        let left = self.timeout.saturating_sub(self.started.elapsed());
        let on_time = self.wait_at_most(left);
        if !on_time {
            self.kill();
        }
        let status = self.child.wait().expect("our own child");
        let took = self.started.elapsed();
        self.ended = true;
        let outcome = Outcome {
            line: self.line.clone(),
            status,
            stdout: self.collect(&self.stdout, "stdout"),
            stderr: self.collect(&self.stderr, "stderr"),
            took,
        };
        assert!(on_time, "killed after {:?}\n{outcome}", self.timeout);
        outcome
    }

    fn wait_at_most(&self, left: Duration) -> bool {
        let handle = pidfd_open(self.group(), PidfdFlags::empty()).expect("our own child");
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let mut waiting = [PollFd::new(&handle, PollFlags::IN)];
        poll(&mut waiting, Some(&timeout)).expect("polling one descriptor") == 1
    }

    /// The pipe ends when its last holder ends, which a process that outlives the command would delay.
    #[track_caller]
    fn collect(&self, from: &Drain, name: &str) -> Vec<u8> {
        let (bytes, ended) = from.wait(|state| state.ended);
        if !ended {
            self.kill();
            panic!("{name} is still held open after the end of: orch {}", self.line);
        }
        bytes
    }

    fn kill(&self) {
        // The group is gone already when everything in it has ended.
        let _gone = kill_process_group(self.group(), Signal::KILL);
    }

    fn group(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
            let _status = self.child.wait();
        }
    }
}

/// How a command ended.
pub struct Outcome {
    line: String,
    status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: Vec<u8>,
    /// Wall time from start to end.
    pub took: Duration,
}

impl Outcome {
    /// The exit code, if it ended by itself.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Fails unless it ended with this exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "unexpected end\n{self}");
        self
    }

    /// stdout as text.
    #[track_caller]
    pub fn stdout(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap_or_else(|e| panic!("stdout is not UTF-8: {e}\n{self}"))
    }

    /// stderr as text.
    #[track_caller]
    pub fn stderr(&self) -> &str {
        std::str::from_utf8(&self.stderr).unwrap_or_else(|e| panic!("stderr is not UTF-8: {e}\n{self}"))
    }

    /// stdout as the one JSON document it must be.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|e| panic!("stdout is not one JSON document: {e}\n{self}"))
    }

    /// The `error` of `--json` mode, which stands alone in the last line of stderr that is JSON.
    #[track_caller]
    pub fn error(&self) -> Value {
        let mut documents = self
            .stderr()
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get("error").cloned());
        documents.next_back().unwrap_or_else(|| panic!("stderr has no JSON error\n{self}"))
    }

    /// Fails unless stderr contains this.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr().contains(text), "stderr does not say {text:?}\n{self}");
        self
    }

    /// Fails unless stdout is empty.
    #[track_caller]
    pub fn silent(self) -> Self {
        assert!(self.stdout.is_empty(), "stdout is not empty\n{self}");
        self
    }

    /// Hits in what it printed.
    pub fn search(&self, needle: &Needle) -> Vec<Hit> {
        let mut hits = needle.in_bytes("stdout", &self.stdout);
        hits.extend(needle.in_bytes("stderr", &self.stderr));
        hits
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, signal) => format!("signal {}", signal.unwrap_or_default()),
        };
        writeln!(f, "orch {}\n{end} after {:?}", self.line, self.took)?;
        writeln!(f, "--- stdout\n{}", String::from_utf8_lossy(&self.stdout))?;
        writeln!(f, "--- stderr\n{}", String::from_utf8_lossy(&self.stderr))
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a pipe has said so far, read by a thread that ends with the pipe.
struct Drain {
    shared: Arc<(Mutex<Drained>, Condvar)>,
}

#[derive(Default)]
struct Drained {
    bytes: Vec<u8>,
    ended: bool,
}

impl Drain {
    fn new(mut pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::<(Mutex<Drained>, Condvar)>::default();
        let drained = Arc::clone(&shared);
        let _reader = thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            loop {
                let read = pipe.read(&mut buffer).unwrap_or(0);
                let mut state = drained.0.lock().unwrap_or_else(PoisonError::into_inner);
                state.bytes.extend_from_slice(&buffer[..read]);
                state.ended = read == 0;
                drained.1.notify_all();
                if state.ended {
                    return;
                }
            }
        });
        Self { shared }
    }

    /// Waits until the state is as wanted, at most [`PATIENCE`]; what was read by then, and whether it is.
    fn wait(&self, until: impl Fn(&Drained) -> bool) -> (Vec<u8>, bool) {
        let (state, changed) = &*self.shared;
        let state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, timeout) = changed
            .wait_timeout_while(state, PATIENCE, |state| !until(state))
            .unwrap_or_else(PoisonError::into_inner);
        (state.bytes.clone(), !timeout.timed_out())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(home: &Home, script: &str) -> Orch {
        Orch::new("/bin/sh", home).args(["-c", script])
    }

    #[test]
    fn a_program_gets_its_input_and_only_its_environment() {
        let home = Home::new();
        let outcome = shell(&home, "cat; env | sort | cut -d= -f1 >&2; exit 3")
            .stdin("in")
            .env("EXTRA", "1")
            .run()
            .expect(3);
        assert_eq!(outcome.stdout(), "in");
        let mut names: Vec<&str> =
            outcome.stderr().lines().filter(|n| !matches!(*n, "PWD" | "_" | "SHLVL")).collect();
        names.sort_unstable();
        assert_eq!(names, ["EXTRA", "HOME", "ORCH_HOME", "ORCH_KEY_CHECK", "PATH", "TMPDIR"]);
    }

    #[test]
    #[should_panic(expected = "killed after")]
    fn a_program_that_never_ends_is_killed_and_reported() {
        let home = Home::new();
        let mut stuck = shell(&home, "echo begun; sleep 1000 & wait");
        stuck.timeout = Duration::from_millis(100);
        stuck.run();
    }

    #[test]
    fn an_interrupt_reaches_the_group_and_children_are_seen() {
        let home = Home::new();
        let running = shell(&home, "trap 'exit 130' INT; echo begun >&2; cat fifo; exit 1");
        rustix::fs::mkfifoat(rustix::fs::CWD, home.work().join("fifo"), rustix::fs::Mode::RWXU)
            .expect("a fifo");
        let running = running.start();
        running.wait_says("begun");
        // Opening the other end returns when the child has opened its own.
        let _writer = std::fs::OpenOptions::new().write(true).open(home.work().join("fifo")).expect("opened");
        let children = running.workers();
        assert_eq!(children.len(), 1, "{children:?}");
        running.interrupt();
        running.finish().expect(130);
        assert!(!process::alive(children[0]));
    }

    #[test]
    fn an_error_in_json_is_read_from_stderr() {
        let home = Home::new();
        let outcome = shell(&home, r#"echo note >&2; echo '{"error":{"code":"no_key"}}' >&2; exit 3"#).run();
        assert_eq!(outcome.expect(3).silent().says("note").error()["code"], "no_key");
    }
}
