//! `orch run`: what the command line says becomes a run request; what the run tells becomes lines on the terminal.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use orch_manifests::{ByteSize, MicroUsd, parse_duration};
use orch_server::{
    Agent, Answer, Event, Failure, Kind, LimitRequest, MountRequest, Observer, Question, RunRequest, flag_key,
};
use orch_vault::{FlagKey, Secret};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::secrets;
use crate::args::{KeyArgs, LimitArgs, RunArgs};
use crate::printer::{Printer, Utf8Pieces};
use crate::wire::{Installation, broken_pipe};

/// Largest input that is read, in bytes.
const INPUT_LIMIT: u64 = 64 * 1024 * 1024;

pub(crate) fn run(args: RunArgs, printer: Printer) -> Result<ExitCode, Failure> {
    if !args.local {
        return Err(Failure::usage(
            "server_unavailable",
            "this version of orch runs agents on this machine only",
        )
        .hint(format!("orch run --local {}", args.agent)));
    }
    let here = Installation::open()?;
    let stream = args.stream;
    let request = request(args, &here, printer)?;
    let broker = here.broker()?;
    let (stop, stopped) = watch::channel(0_u8);
    let terminal = Terminal::new(printer, stopped.clone());

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::defect(format!("cannot start the runtime: {e}")))?;
    let done = runtime.block_on(async {
        // A task of its own, because a question on the terminal holds up the run's.
        let mut interrupts = JoinSet::new();
        interrupts.spawn(count_interrupts(stop));
        let mut killed = stopped.clone();
        tokio::select! {
            done = broker.run(request, &terminal, stopped) => done,
            // Whoever interrupts twice does not want to wait for anything.
            _ = killed.wait_for(|count| *count > 1) => {
                Err(Failure::new(Kind::Interrupted, "interrupted", "interrupted; the agent was killed"))
            }
        }
    });
    terminal.finish();
    let report = done?;

    if printer.json() {
        let value = serde_json::to_value(&report)
            .map_err(|e| Failure::defect(format!("the report cannot be written as JSON: {e}")))?;
        printer.result_json(&value)
    } else if stream {
        Ok(())
    } else {
        printer.result_json(&report.output)
    }
    .or_else(broken_pipe)?;
    Ok(ExitCode::SUCCESS)
}

fn request(args: RunArgs, here: &Installation, printer: Printer) -> Result<RunRequest, Failure> {
    if args.keys.key_stdin && args.input.as_deref() == Some("-") {
        return Err(Failure::usage("bad_usage", "--key-stdin and --input - both want standard input"));
    }
    let env = args.grants.env.iter().map(|pair| parse_env(pair)).collect::<Result<_, _>>()?;
    let mounts = args.grants.mount.iter().map(|mount| parse_mount(mount)).collect::<Result<_, _>>()?;
    let limits = parse_limits(&args.limits)?;
    let keys = read_keys(&args.keys, here, printer)?;
    if Agent::comes_with_orch(&args.agent) && Path::new(&args.agent).exists() {
        printer
            .warn(&format!("{0} is what lies at ./{0} here, not the agent that comes with orch", args.agent));
    }
    Ok(RunRequest {
        agent: Agent::load(&args.agent, &here.catalog)?,
        input: read_input(args.input.as_deref())?,
        keys,
        provider: args.model.provider,
        model: args.model.model,
        env,
        allow: args.grants.allow,
        secrets: args.grants.secret,
        mounts,
        limits,
        stream: args.stream,
        simulate: args.simulate,
    })
}

fn read_keys(args: &KeyArgs, here: &Installation, printer: Printer) -> Result<Vec<FlagKey>, Failure> {
    let bare = |secret: Secret| vec![FlagKey { provider: None, secret }];
    if let Some(file) = &args.key_file {
        let bytes = secrets::read_file(file)
            .map_err(|e| Failure::file("key_unreadable", "read the key in", file, &e))?;
        return Ok(bare(secrets::without_newline(bytes, printer)));
    }
    if args.key_stdin {
        let bytes = secrets::read_limited(std::io::stdin().lock()).map_err(|e| {
            Failure::usage("key_unreadable", format!("cannot read the key from standard input: {e}"))
        })?;
        return Ok(bare(secrets::without_newline(bytes, printer)));
    }
    if !args.key.is_empty() {
        printer.warn("a key on the command line stays in the shell's history and shows in the process list");
    }
    args.key.iter().map(|key| flag_key(&secrets::copy(key), &here.catalog)).collect()
}

/// The input as text; nothing said is the empty object. Whether it is JSON is for the broker to say.
fn read_input(said: Option<&str>) -> Result<String, Failure> {
    let read = |from: &mut dyn Read, name: &str| {
        let unreadable = |why: String| {
            Failure::usage("input_unreadable", format!("cannot read the input from {name}: {why}"))
        };
        let mut text = String::new();
        let mut limited = from.take(INPUT_LIMIT + 1);
        limited.read_to_string(&mut text).map_err(|e| unreadable(e.to_string()))?;
        if text.len() as u64 > INPUT_LIMIT {
            return Err(unreadable(format!("it is larger than {} MiB", INPUT_LIMIT >> 20)));
        }
        Ok(text)
    };
    match said {
        None => Ok("{}".to_owned()),
        Some("-") => read(&mut std::io::stdin().lock(), "standard input"),
        Some(text) => match text.strip_prefix('@') {
            Some(path) => {
                let mut file = std::fs::File::open(path)
                    .map_err(|e| Failure::file("input_unreadable", "read the input", Path::new(path), &e))?;
                read(&mut file, path)
            }
            None => Ok(text.to_owned()),
        },
    }
}

fn parse_env(pair: &str) -> Result<(String, String), Failure> {
    match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() && !pair.contains('\0') => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(Failure::usage("bad_usage", format!("--env {pair:?} is not NAME=VALUE"))),
    }
}

/// `HOST::GUEST[:ro|rw]`; read-only unless it says otherwise.
fn parse_mount(text: &str) -> Result<MountRequest, Failure> {
    let wrong = |why: &str| {
        Failure::usage("bad_usage", format!("--mount {text:?}: {why}"))
            .hint("--mount /path/on/this/machine::/data:ro")
    };
    let (host, rest) = text.split_once("::").ok_or_else(|| wrong("it is not HOST::GUEST[:ro|rw]"))?;
    let (guest, writable) = match rest.rsplit_once(':') {
        Some((guest, "ro")) => (guest, false),
        Some((guest, "rw")) => (guest, true),
        _ => (rest, false),
    };
    if !guest.starts_with('/') || guest.split('/').any(|part| part == "..") {
        return Err(wrong("the guest's path must be absolute, without .."));
    }
    let host = std::fs::canonicalize(host).map_err(|e| wrong(&format!("{host}: {e}")))?;
    if !host.is_dir() {
        return Err(wrong(&format!("{} is not a folder", host.display())));
    }
    Ok(MountRequest { host, guest: guest.to_owned(), writable })
}

fn parse_limits(args: &LimitArgs) -> Result<LimitRequest, Failure> {
    fn parse<T, E: std::fmt::Display>(
        flag: &str,
        text: Option<&str>,
        parser: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Failure> {
        text.map(|text| {
            parser(text).map_err(|e| Failure::usage("bad_usage", format!("{flag} {text:?}: {e}")))
        })
        .transpose()
    }
    Ok(LimitRequest {
        time: parse("--time", args.time.as_deref(), parse_duration)?,
        memory: parse("--memory", args.memory.as_deref(), str::parse::<ByteSize>)?,
        max_cost: parse("--max-cost", args.max_cost.as_deref(), str::parse::<MicroUsd>)?,
    })
}

/// Counts ctrl-c, for as long as the run goes on.
async fn count_interrupts(stop: watch::Sender<u8>) {
    while tokio::signal::ctrl_c().await.is_ok() {
        stop.send_modify(|count| *count = count.saturating_add(1));
    }
    // Without the signal nobody can stop the run this way; the receivers must not take that for an interrupt.
    std::future::pending::<()>().await;
}

/// What a run tells, as lines. The agent's log is cut into lines; its output, when streamed, into whole characters.
struct Terminal {
    printer: Printer,
    stop: watch::Receiver<u8>,
    log: Mutex<(Utf8Pieces, String)>,
    output: Mutex<Utf8Pieces>,
}

impl Terminal {
    fn new(printer: Printer, stop: watch::Receiver<u8>) -> Self {
        Self { printer, stop, log: Mutex::default(), output: Mutex::default() }
    }

    /// A line from the terminal; none when there is none to come, or ctrl-c came instead.
    fn read_answer(&self) -> Option<String> {
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        loop {
            if *self.stop.borrow() > 0 {
                return None;
            }
            let stdin = std::io::stdin();
            let mut ready = [rustix::event::PollFd::new(&stdin, rustix::event::PollFlags::IN)];
            match rustix::event::poll(&mut ready, Some(&pause)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => {
                    let mut answer = String::new();
                    return stdin.read_line(&mut answer).ok().map(|_| answer);
                }
                Err(_) => return None,
            }
        }
    }

    /// Prints what is left of an unfinished line.
    fn finish(&self) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = log.0.finish();
        log.1.push_str(&rest);
        if !log.1.is_empty() {
            self.printer.agent_log(&log.1);
            log.1.clear();
        }
        let rest = self.output.lock().unwrap_or_else(PoisonError::into_inner).finish();
        if !rest.is_empty() {
            // The run is over; a reader that is gone misses nothing that it could still get.
            let _ = self.printer.stream(&rest);
        }
    }
}

impl Observer for Terminal {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Progress(text) if self.printer.interactive() => self.printer.note(text),
            Event::Progress(_) => {}
            Event::Note(text) => self.printer.note(text),
            Event::Warning(text) => self.printer.warn(text),
            Event::Refused(text) => self.printer.warn(&format!("refused: {text}")),
            Event::Log(bytes) => {
                let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
                let text = log.0.push(bytes);
                log.1.push_str(&text);
                while let Some(at) = log.1.find('\n') {
                    let line: String = log.1.drain(..=at).collect();
                    self.printer.agent_log(line.trim_end_matches(['\n', '\r']));
                }
            }
            Event::Output(bytes) => {
                let text = self.output.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
                // A reader that is gone does not stop the agent: its answer is still checked and recorded.
                let _ = self.printer.stream(&text);
            }
        }
    }

    fn ask(&self, question: &Question) -> Answer {
        if !self.printer.interactive() {
            return Answer::Deny;
        }
        let Question { agent, wanted, had, combined } = question;
        self.printer.note(&format!("{agent} asks for permission to:"));
        for capability in wanted {
            let text = capability.to_string();
            let mark = if had.is_empty() || had.contains(&text) { "" } else { " (new in this version)" };
            self.printer.note(&format!("  - {text}{mark}"));
        }
        self.printer.note(combined);
        self.printer.ask("Allow? [y]es for this run, [a]lways for exactly this version, [N]o: ");
        match self.read_answer().as_deref().map(str::trim) {
            Some("y" | "Y" | "yes") => Answer::Once,
            Some("a" | "A" | "always") => Answer::Remember,
            _ => Answer::Deny,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_only_unless_said() {
        let dir = std::env::temp_dir();
        for (suffix, writable) in [("", false), (":ro", false), (":rw", true)] {
            let mount = parse_mount(&format!("{}::/data{suffix}", dir.display())).expect("a mount");
            assert_eq!((mount.guest.as_str(), mount.writable), ("/data", writable));
        }
        for bad in ["/tmp", "/tmp::data", "/tmp::/a/../b", "/absent-folder::/data"] {
            assert_eq!(parse_mount(bad).expect_err(bad).code(), "bad_usage");
        }
    }

    #[test]
    fn input_comes_from_text_or_file() {
        assert_eq!(read_input(None).expect("empty"), "{}");
        assert_eq!(read_input(Some("[1]")).expect("text"), "[1]");
        assert_eq!(read_input(Some("@/absent")).expect_err("no file").code(), "input_unreadable");
    }
}
