//! `orch proxy`: a forward proxy under an egress policy, for programs that run outside of the sandbox.

use std::convert::Infallible;
use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use orch_manifests::parse_duration;
use orch_proxy::{Client, Listener, ListenerLimits};
use orch_server::{
    ClientPolicy, Config, EgressClient, EgressRequest, Failure, Kind, NewClient, ProxyTelemetry,
};
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::commands::serve::{count_signals, listen, stop_signals};
use crate::printer::Printer;
use crate::wire::{Installation, broken_pipe};

mod handout;
mod log;
mod tokens;

use log::Log;

/// What the log says, after a number, of decisions that it had no room for. `orch policy learn` looks for it.
pub(super) const NOT_LOGGED: &str = "decisions were not logged";

/// Descriptors that this process needs beside those of connections.
const DESCRIPTORS: usize = 256;

// Nothing is allowed that is not named, here or under `egress` in the manifest. Clients are programs that know
// HTTP_PROXY and HTTPS_PROXY; each shows a token.
#[derive(Args)]
pub(crate) struct ProxyArgs {
    /// Listen on this address
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3128")]
    listen: SocketAddr,
    /// Listen on an address that others can reach, and say why nobody on the way can read along
    #[arg(long, value_name = "REASON")]
    insecure_listen: Option<String>,
    /// Allow what `egress` in this manifest asks for, or in a file with `egress` and `limits` alone; read again on SIGHUP,
    /// with config.yaml
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Allow everything at this host over TLS
    #[arg(long, value_name = "HOST[:PORT]")]
    allow: Vec<String>,
    /// Let tunnels to this host carry anything: TLS that names no server or another, or no TLS
    #[arg(long, value_name = "HOST")]
    allow_opaque: Vec<String>,
    /// Let clients use a secret of the vault at this host without seeing it; what is in the vault at the start
    #[arg(long, value_name = "NAME@HOST")]
    secret: Vec<String>,
    /// Have a client of this name; `default` when nothing is said
    #[arg(long, value_name = "NAME")]
    client: Vec<String>,
    /// Take the clients' tokens from this file, CLIENT:TOKEN in each line, instead of making new ones
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Write what a client needs in its environment into this file; with several clients into FILE.CLIENT
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// How many requests and tunnels each client may have
    #[arg(long, value_name = "N")]
    max_requests: Option<u64>,
    /// How many connections there may be at once, of all clients together
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_connections: u32,
    /// Write decisions as lines of JSON
    #[arg(long)]
    log_decisions: bool,
    /// How long requests and tunnels may go on once the proxy is told to stop
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    drain: String,
}

pub(crate) fn run(args: ProxyArgs, printer: Printer) -> Result<ExitCode, Failure> {
    // Connections have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::defect(format!("cannot start the runtime: {e}")))?;
    let done = runtime.block_on(proxy(args, printer));
    runtime.shutdown_background();
    done
}

async fn proxy(args: ProxyArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let deadline = parse_duration(&args.drain)
        .map_err(|e| Failure::usage("bad_usage", format!("--drain {:?}: {e}", args.drain)))?;
    check_address(&args)?;
    check_handout(&args, printer)?;
    let here = Installation::open()?;
    let clients = tokens::clients(&args.client, args.tokens.as_deref())?;

    // Signals count from here on.
    let (told, signals) = watch::channel(0_u8);
    let mut listening = JoinSet::new();
    listening.spawn(count_signals(told, stop_signals()?));

    // Without somebody who listens it would end the process.
    let mut hangups = listen(SignalKind::hangup())?;

    let limits = limits(args.max_connections, clients.len());
    let request = EgressRequest {
        allow: args.allow,
        manifest: args.manifest,
        opaque: args.allow_opaque,
        secrets: args.secret,
        requests: args.max_requests,
        concurrent: u32::try_from(limits.connections_per_client).unwrap_or(u32::MAX),
    };
    let egress = ClientPolicy::open(&here.config, &here.catalog, &request)?;
    egress.prove().await?;
    let log = Log::start(args.log_decisions || printer.json(), printer);
    here.home.check_vault()?;
    let telemetry = ProxyTelemetry::start(&here.config)?;
    let new = clients.into_iter().map(|(name, token)| {
        let told = log.decisions(&name);
        let told = match &telemetry {
            Some(telemetry) => telemetry.counting(told),
            None => told,
        };
        NewClient { name, token, told }
    });
    let clients = egress.clients(new.collect(), here.key_sources(), &here.vault).map_err(|failure| {
        match failure.code() {
            // A server holds the vault for as long as it runs.
            "vault_locked" if UnixStream::connect(here.home.server_socket()).is_ok() => failure.hint(
                "the server of this home holds the vault: stop it, or give the proxy a home of its own (ORCH_HOME)",
            ),
            _ => failure,
        }
    })?;

    let listener = Listener::bind(args.listen, Arc::clone(egress.proxy()), limits).await.map_err(|e| {
        Failure::usage("listen_failed", format!("cannot listen on {}: {e}", args.listen))
            .hint("--listen 127.0.0.1:0 takes any port that is free")
    })?;
    let threads = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let listener = listener
        .on_threads(threads)
        .map_err(|e| Failure::defect(format!("cannot start {threads} threads for connections: {e}")))?;
    raise_descriptors(limits.connections, printer);
    if let Some(reason) = &args.insecure_listen {
        printer.warn(&format!("not encrypted ({reason}): tokens travel as they are"));
    }
    for warning in here.config.warnings().iter().chain(clients.iter().flat_map(|client| &client.warnings)) {
        printer.warn(warning);
    }
    let files = handout::write(&clients, listener.address(), args.env_file.as_deref())?;
    ready(&listener, &egress, &clients, &files, printer)?;

    let (mut first, mut second) = (signals.clone(), signals);
    let stop = async {
        let _ = first.wait_for(|count| *count > 0).await;
        printer.note("stopping: no connection is accepted any more; stop again to leave at once");
    };
    let clients: Vec<Client> = clients.into_iter().map(|client| client.client).collect();
    let served = listener.serve(clients, log.witness(), stop, deadline);
    let done = tokio::select! {
        () = served => Ok(ExitCode::SUCCESS),
        never = reload_on(&mut hangups, &egress, &request, &here, printer) => match never {},
        _ = second.wait_for(|count| *count > 1) => {
            Err(Failure::new(Kind::Interrupted, "interrupted", "left at once; what was under way was cut off"))
        }
    };
    log.finish();
    // Whoever leaves at once waits for no collector.
    if let (Some(telemetry), Ok(_)) = (telemetry, &done) {
        telemetry.end().await;
    }
    if let Err(failure) = egress.conclude(&here.vault) {
        printer.warn(&format!("the vault's record of what clients used is not complete: {failure}"));
    }
    done
}

/// Reads the configuration and the manifest again whenever it is told to, and says what came of it.
async fn reload_on(
    hangups: &mut Signal,
    egress: &ClientPolicy,
    request: &EgressRequest,
    here: &Installation,
    printer: Printer,
) -> Infallible {
    while hangups.recv().await.is_some() {
        let config = Config::load(&here.home).and_then(|config| config.catalog().map(|_| config));
        match config.and_then(|config| egress.reload(&config, &here.catalog, request, &here.vault)) {
            Ok(allowed) => {
                for line in &allowed {
                    printer.note(&format!("allowed: {line}"));
                }
                printer.note("read again, values of secrets included; tokens and limits stay as they were at the start");
            }
            Err(failure) => {
                printer.warn(&format!("nothing has changed: {failure}"));
                for hint in failure.hints() {
                    printer.note(hint);
                }
            }
        }
    }
    std::future::pending().await
}

/// Whether tokens that come to this address are nobody's but ours to read.
fn check_address(args: &ProxyArgs) -> Result<(), Failure> {
    if args.insecure_listen.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
        return Err(Failure::usage("bad_usage", "--insecure-listen wants a reason")
            .hint("--insecure-listen 'a network of containers on this machine'"));
    }
    if args.listen.ip().to_canonical().is_loopback() || args.insecure_listen.is_some() {
        return Ok(());
    }
    Err(Failure::usage(
        "listen_insecure",
        format!("{} can be reached by others, who could read clients' tokens on the way", args.listen),
    )
    .hint("--insecure-listen REASON, where nobody on the way can read along"))
}

/// Whether anybody will learn the tokens.
fn check_handout(args: &ProxyArgs, printer: Printer) -> Result<(), Failure> {
    let shown = std::io::stdout().is_terminal() && !printer.json();
    if shown || args.env_file.is_some() || args.tokens.is_some() {
        return Ok(());
    }
    Err(Failure::usage(
        "tokens_unseen",
        "nobody would learn the clients' tokens: they are printed on a terminal only, and without --json",
    )
    .hint("--env-file FILE writes what a client needs in its environment")
    .hint("--tokens FILE brings tokens along"))
}

/// Clients share the connections, so that none takes those of the others.
fn limits(connections: u32, clients: usize) -> ListenerLimits {
    let connections = connections as usize;
    let each = (connections / clients.max(1)).max(1);
    ListenerLimits { connections, connections_per_client: each, ..ListenerLimits::default() }
}

/// A connection takes a descriptor, and a second one upstream.
fn raise_descriptors(connections: usize, printer: Printer) {
    let wanted = (2 * connections + DESCRIPTORS) as u64;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return;
    }
    let most = limit.maximum.unwrap_or(u64::MAX);
    limit.current = Some(wanted.min(most));
    if setrlimit(Resource::Nofile, limit).is_err() || most < wanted {
        printer.warn(&format!(
            "this process may have {most} open files, which is fewer than {connections} connections take"
        ));
    }
}

/// Where clients of this listener find it.
fn url_host(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The proxy's URL for a client, which holds its token.
fn url(name: &str, token: &str, address: SocketAddr) -> String {
    format!("http://{name}:{token}@{}", url_host(address))
}

/// Says where it listens and what is allowed: to a person on stderr, to a program as one line of JSON.
fn ready(
    listener: &Listener,
    egress: &ClientPolicy,
    clients: &[EgressClient],
    files: &[Option<PathBuf>],
    printer: Printer,
) -> Result<(), Failure> {
    let (address, allowed) = (listener.address(), egress.allowed());
    if printer.json() {
        let clients: Vec<_> = clients
            .iter()
            .zip(files)
            .map(|(client, file)| json!({ "name": client.client.name.as_str(), "env_file": file }))
            .collect();
        let line = json!({
            "listening": address.to_string(), "url": format!("http://{}", url_host(address)), "clients": clients,
            "allowed": allowed, "pid": std::process::id(),
        });
        return printer.result_json(&line).or_else(broken_pipe);
    }
    if allowed.is_empty() {
        printer.warn("nothing is allowed: every request will be refused (--allow HOST, or --manifest FILE)");
    }
    for line in &allowed {
        printer.note(&format!("allowed: {line}"));
    }
    printer.note(&format!("listening on http://{}", url_host(address)));
    for (client, file) in clients.iter().zip(files) {
        let name = &client.client.name;
        match file {
            Some(file) => printer.note(&format!("the environment of {name} is in {}", file.display())),
            None if std::io::stdout().is_terminal() => {
                handout::print(client, address, printer).or_else(broken_pipe)?;
            }
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ProxyArgs,
    }

    fn check(words: &[&str]) -> Result<(), String> {
        let line = Line::try_parse_from([&["proxy"], words].concat()).map_err(|e| e.kind().to_string())?;
        check_address(&line.args).map_err(|failure| failure.code().to_owned())
    }

    #[test]
    fn tokens_go_over_loopback_or_somebody_says_why_not() {
        for fine in [
            &[][..],
            &["--listen", "[::1]:0"],
            &["--listen", "[::ffff:127.0.0.1]:0"],
            &["--listen", "0.0.0.0:3128", "--insecure-listen", "a bridge of this machine"],
        ] {
            assert_eq!(check(fine), Ok(()), "{fine:?}");
        }
        for open in ["0.0.0.0:3128", "[::]:3128", "10.0.0.1:80"] {
            assert_eq!(check(&["--listen", open]), Err("listen_insecure".to_owned()), "{open}");
        }
        assert_eq!(check(&["--insecure-listen", " "]), Err("bad_usage".to_owned()));
        assert!(check(&["--max-connections", "0"]).is_err());
    }

    #[test]
    fn clients_share_the_connections() {
        let each = |connections, clients| limits(connections, clients).connections_per_client;
        assert_eq!((each(100, 1), each(100, 3), each(2, 5)), (100, 33, 1));
    }

    #[test]
    fn everywhere_is_reached_here() {
        for (address, expected) in [
            ("0.0.0.0:1", "http://a:b@127.0.0.1:1"),
            ("[::]:1", "http://a:b@[::1]:1"),
            ("10.0.0.1:1", "http://a:b@10.0.0.1:1"),
        ] {
            assert_eq!(url("a", "b", address.parse().expect("an address")), expected);
        }
    }
}
