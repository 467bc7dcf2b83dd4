//! What the command line says about a run, read and checked: the same for a run here and one on a server.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use orch_gateway::Preference;
use orch_manifests::{ByteSize, EgressWant, MicroUsd, parse_duration, parse_guest_path};
use orch_server::{Agent, Failure, LimitRequest, MountRequest, Simulate, flag_key, grant_words};
use orch_vault::{FlagKey, Secret};

use crate::args::{KeyArgs, LimitArgs, RunArgs};
use crate::commands::byok::{Active, By, Place, chosen};
use crate::commands::policy;
use crate::printer::Printer;
use crate::value;
use crate::wire::Installation;

/// Largest input that is read, in bytes.
const INPUT_LIMIT: u64 = 64 * 1024 * 1024;

/// Everything about a run but its agent.
pub(super) struct Said {
    pub(super) input: Option<String>,
    pub(super) keys: Vec<FlagKey>,
    pub(super) provider: Option<String>,
    pub(super) model: Option<String>,
    /// What `orch byok` chose, where no flag says what to think with.
    pub(super) prefer: Option<Preference>,
    /// Whether it was chosen at the server that the run goes to.
    pub(super) byok: Option<bool>,
    pub(super) env: Vec<(String, String)>,
    pub(super) allow: Vec<String>,
    pub(super) secrets: Vec<String>,
    pub(super) granted: BTreeSet<String>,
    pub(super) trial: Option<Vec<EgressWant>>,
    pub(super) mounts: Vec<MountRequest>,
    pub(super) limits: LimitRequest,
    pub(super) stream: bool,
    pub(super) simulate: Option<Simulate>,
}

impl Said {
    /// Reads the files and pipes that the command line names.
    ///
    /// # Errors
    /// When a flag's value is not what it must be, or a file cannot be read.
    pub(super) fn read(args: &RunArgs, here: &Installation, printer: Printer) -> Result<Self, Failure> {
        if args.keys.key_stdin && args.input.as_deref() == Some("-") {
            return Err(Failure::usage("bad_usage", "--key-stdin and --input - both want standard input"));
        }
        let env = args.grants.env.iter().map(|pair| parse_env(pair)).collect::<Result<_, _>>()?;
        let mounts = args.grants.mount.iter().map(|mount| parse_mount(mount)).collect::<Result<_, _>>()?;
        let limits = parse_limits(&args.limits)?;
        let keys = read_keys(&args.keys, here, printer)?;
        let active = active(args, here, printer)?;
        // What the environment says is about its own key.
        let elsewhere = !args.local && here.configured_server()?.is_some();
        let byok =
            active.as_ref().is_some_and(|active| active.by == By::Command && elsewhere).then_some(true);
        let prefer = active.map(|active| Preference { provider: active.named, model: active.model });
        if Agent::comes_with_orch(&args.agent) && Path::new(&args.agent).exists() {
            printer.warn(&format!(
                "{0} is what lies at ./{0} here, not the agent that comes with orch",
                args.agent
            ));
        }
        Ok(Self {
            input: args.input.as_deref().map(read_input).transpose()?,
            keys,
            provider: args.model.provider.clone(),
            model: args.model.model.clone(),
            prefer,
            byok,
            env,
            allow: args.grants.allow.clone(),
            secrets: args.grants.secret.clone(),
            granted: granted(&args.grants.grant)?,
            trial: args.grants.trial_policy.as_deref().map(policy::read).transpose()?,
            mounts,
            limits,
            stream: args.stream,
            simulate: args.simulate.as_deref().map(Simulate::open).transpose()?,
        })
    }
}

/// What `orch byok` chose. Flags that say what to think with, or bring a key along, go before it: a key that was given
/// without its provider's name is for the agent's own first choice.
fn active(args: &RunArgs, here: &Installation, printer: Printer) -> Result<Option<Active>, Failure> {
    let KeyArgs { key_file, key_stdin, key, .. } = &args.keys;
    let brings_key = key_file.is_some() || *key_stdin || !key.is_empty();
    let says = args.model.provider.is_some() || args.model.model.is_some();
    if brings_key || says || args.simulate.is_some() {
        return Ok(None);
    }
    Ok(chosen(here, &Place::of(here, args.local)?, args.keys.send_env_keys)?.said(printer))
}

fn granted(flags: &[String]) -> Result<BTreeSet<String>, Failure> {
    let words = flags.iter().map(|text| grant_words(text)).collect::<Result<Vec<_>, _>>()?;
    Ok(words.into_iter().flatten().collect())
}

fn read_keys(args: &KeyArgs, here: &Installation, printer: Printer) -> Result<Vec<FlagKey>, Failure> {
    let bare = |secret: Secret| vec![FlagKey { provider: None, secret }];
    if let Some(file) = &args.key_file {
        let key = value::from_file(file, printer)
            .map_err(|e| Failure::file("key_unreadable", "read the key in", file, &e))?;
        return Ok(bare(key));
    }
    if args.key_stdin {
        let key = value::from_stdin(printer).map_err(|e| {
            Failure::usage("key_unreadable", format!("cannot read the key from standard input: {e}"))
        })?;
        return Ok(bare(key));
    }
    if !args.key.is_empty() {
        printer.warn("a key on the command line stays in the shell's history and shows in the process list");
    }
    args.key.iter().map(|key| flag_key(key.secret(), &here.catalog)).collect()
}

/// The input as text. Whether it is JSON is for the broker to say.
fn read_input(said: &str) -> Result<String, Failure> {
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
        "-" => read(&mut std::io::stdin().lock(), "standard input"),
        text => match text.strip_prefix('@') {
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
        None => (rest, false),
        Some((guest, "ro")) => (guest, false),
        Some((guest, "rw")) => (guest, true),
        Some((_, mode)) => return Err(wrong(&format!("{mode:?} is neither ro nor rw"))),
    };
    let guest =
        parse_guest_path(guest).map_err(|why| wrong(&format!("the path inside the sandbox: {why}")))?;
    if host.is_empty() {
        return Err(wrong("the folder on this machine is missing"));
    }
    Ok(MountRequest { host: host.into(), guest, writable })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_only_unless_said() {
        for (text, writable) in
            [("/a::/data", false), ("/a::/data:ro", false), ("/a::/data:rw", true), ("/a::/data/:rw", true)]
        {
            let mount = parse_mount(text).expect("a mount");
            assert_eq!((mount.guest.as_str(), mount.writable), ("/data", writable));
        }
        for bad in [
            "/tmp",
            "/tmp::data",
            "/tmp::/a/../b",
            "/tmp::/a//b",
            "/tmp::/a\0b",
            "/tmp::/data:wr",
            "/tmp::/data:",
            "/tmp::",
            "::/data",
        ] {
            assert_eq!(parse_mount(bad).expect_err(bad).code(), "bad_usage");
        }
    }

    #[test]
    fn input_comes_from_text_or_file() {
        assert_eq!(read_input("[1]").expect("text"), "[1]");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "{\"from\":\"a file\"}").expect("written");
        let said = format!("@{}", file.path().display());
        assert_eq!(read_input(&said).expect("a file"), "{\"from\":\"a file\"}");
        assert_eq!(read_input("@/absent").expect_err("no file").code(), "input_unreadable");
        std::fs::write(file.path(), b"\xff").expect("written");
        assert_eq!(read_input(&said).expect_err("not text").code(), "input_unreadable");
    }

    #[test]
    fn variables_are_cut_at_the_first_equals_sign() {
        assert_eq!(parse_env("A=b=c").expect("a pair"), ("A".to_owned(), "b=c".to_owned()));
        assert_eq!(parse_env("A=").expect("a pair"), ("A".to_owned(), String::new()));
        for bad in ["A", "=b", "", "A=\0"] {
            assert_eq!(parse_env(bad).expect_err(bad).code(), "bad_usage");
        }
    }

    #[test]
    fn limits_name_the_flag_that_is_wrong() {
        let args = |time: &str, memory: &str, cost: &str| LimitArgs {
            time: Some(time.to_owned()),
            memory: Some(memory.to_owned()),
            max_cost: Some(cost.to_owned()),
        };
        let limits = parse_limits(&args("90s", "1KiB", "0.5")).expect("limits");
        assert_eq!(limits.time, Some(std::time::Duration::from_secs(90)));
        assert_eq!((limits.memory, limits.max_cost), (Some(ByteSize(1024)), Some(MicroUsd(500_000))));
        for (bad, flag) in [
            (args("soon", "1KiB", "1"), "--time"),
            (args("1s", "lots", "1"), "--memory"),
            (args("1s", "1KiB", "free"), "--max-cost"),
        ] {
            assert!(parse_limits(&bad).expect_err(flag).message().contains(flag));
        }
    }
}
