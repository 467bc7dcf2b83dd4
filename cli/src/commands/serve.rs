//! `orch serve`: the server, until a signal stops it.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use orch_manifests::parse_duration;
use orch_runner::Capacity;
use orch_server::http::{Limits, Names, Server, TlsFiles};
use orch_server::{AdminToken, Api, Failure, Kind, Mode, Reloaded, Service, Simulate, ensure_admin_token};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::commands::byok::chosen_here;
use crate::printer::Printer;
use crate::wire::{Installation, broken_pipe};

// Where to listen, under which names, and how to end.
#[derive(Args)]
pub(crate) struct ServeArgs {
    /// Listen on this address; any other than loopback takes a certificate
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7878")]
    listen: SocketAddr,
    /// The server's certificate and those above it, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Listen without a certificate on an address that others can reach, and say why nobody on the way can read along
    #[arg(long, value_name = "REASON", conflicts_with = "tls_cert")]
    insecure_listen: Option<String>,
    /// Another name that clients ask this server by, such as that of a proxy in front of it
    #[arg(long, value_name = "HOST")]
    name: Vec<String>,
    /// How long runs may go on once the server is told to stop
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    drain: String,
    /// Use the built-in simulated providers for everybody: no key, no network
    #[arg(long, value_name = "SCENARIO", num_args = 0..=1, require_equals = true, default_missing_value = "ok")]
    simulate: Option<String>,
}

pub(crate) fn run(args: ServeArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::defect(format!("cannot start the runtime: {e}")))?;
    let done = runtime.block_on(serve(args, printer));
    // What is left after the last word has been told to stop; nobody waits for it.
    runtime.shutdown_background();
    done
}

async fn serve(args: ServeArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let deadline = parse_duration(&args.drain)
        .map_err(|e| Failure::usage("bad_usage", format!("--drain {:?}: {e}", args.drain)))?;
    check_address(&args)?;
    let here = Installation::open()?;
    let names = args.name.iter().chain(&here.config.server_names).map(String::as_str);
    let names = Names::new(names)?;
    let tls = args.tls_cert.zip(args.tls_key).map(|(certificate, key)| TlsFiles { certificate, key });

    // Signals count from here on, also those that come while what dead servers left is taken over.
    let (told, signals) = watch::channel(0_u8);
    let mut listening = JoinSet::new();
    listening.spawn(count_signals(told, stop_signals()?));
    // Without somebody who listens it would end the process.
    let hangups = listen(SignalKind::hangup())?;

    for warning in here.config.warnings() {
        printer.warn(&warning);
    }
    here.home.check_vault()?;
    here.home.ensure(here.home.data())?;
    let socket = here.home.server_socket();
    // Bound before the service opens, so that an address that is taken is found out before any run is touched; whoever
    // connects waits until it is open.
    let limits = Limits {
        connections: here.config.max_connections,
        connections_per_peer: here.config.max_connections_per_peer,
        connections_of_owner: here.config.max_connections_per_peer,
        ..Limits::default()
    };
    let threads = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let server = Server::bind(args.listen, tls.as_ref(), &socket, names, limits)?
        .on_threads(threads)
        .map_err(|e| Failure::defect(format!("cannot start the threads of the server: {e}")))?
        .behind(here.config.trusted_proxies.clone());
    let simulate = args.simulate.as_deref().map(Simulate::open).transpose()?;
    let capacity = here.config.capacity();
    let preferred = chosen_here(&here).unwrap_or_else(|failure| {
        printer.warn(&format!("what orch byok chose is not known to this server's clients: {failure}"));
        None
    });
    let service = Service::open(here.parts(simulate)?, Mode::Serve).await?;
    service.prefer(preferred);
    let admin = ensure_admin_token(service.store(), service.home()).await?;
    ready(&server, capacity, admin.as_ref(), args.insecure_listen.as_deref(), printer)?;
    drop(admin);
    listening.spawn(reload_on(hangups, Arc::clone(&service), printer));

    let (mut first, mut second) = (signals.clone(), signals);
    let stop = async {
        let _ = first.wait_for(|count| *count > 0).await;
        printer.note("stopping: no run is accepted any more; stop again to leave at once");
    };
    let (draining, recording) = (Arc::clone(&service), Arc::clone(&service));
    let drained = async move { draining.drain(deadline).await };
    let done = tokio::select! {
        () = server.serve(Api::new(service), stop, drained) => Ok(ExitCode::SUCCESS),
        _ = second.wait_for(|count| *count > 1) => {
            Err(Failure::new(Kind::Interrupted, "interrupted", "left at once; runs under way were cut off")
                .hint("the next `orch serve` reports them as interrupted"))
        }
    };
    // The last clients are gone only now, and what their calls came to is not on disk yet.
    if let Err(failure) = recording.settle().await {
        printer.warn(&format!("the last requests are not on record: {failure}"));
    }
    done
}

/// Whether what is sent to this address is nobody's but ours to read.
fn check_address(args: &ServeArgs) -> Result<(), Failure> {
    if args.insecure_listen.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
        return Err(Failure::usage("bad_usage", "--insecure-listen wants a reason")
            .hint("--insecure-listen 'TLS ends at the proxy on this machine'"));
    }
    let safe = args.listen.ip().to_canonical().is_loopback() || args.tls_cert.is_some();
    if safe || args.insecure_listen.is_some() {
        return Ok(());
    }
    Err(Failure::usage(
        "listen_insecure",
        format!("{} can be reached by others, who could read tokens and answers on the way", args.listen),
    )
    .hint("--tls-cert FILE --tls-key FILE")
    .hint("--insecure-listen REASON, where nobody on the way can read along"))
}

/// Says where the server listens: to a person on stderr, to a program as one line of JSON.
fn ready(
    server: &Server,
    capacity: Capacity,
    admin: Option<&AdminToken>,
    insecure: Option<&str>,
    printer: Printer,
) -> Result<(), Failure> {
    let scheme = if server.is_tls() { "https" } else { "http" };
    let url = format!("{scheme}://{}", server.address());
    let socket = server.socket().display().to_string();
    if let Some(reason) = insecure {
        printer.warn(&format!("not encrypted ({reason}): keys are refused from other machines"));
    }
    if let Some(AdminToken { file, text }) = admin {
        printer.note(&format!("the first admin token is in {}", file.display()));
        // Where output is kept, a token would be kept as well.
        if std::io::stderr().is_terminal() && !printer.json() {
            text.expose(|text| printer.note(&format!("admin token: {}", String::from_utf8_lossy(text))));
        }
    }
    if let Some(advice) = capacity.advice() {
        printer.warn(&format!("this machine has room for no more than {} runs at once", capacity.sandboxes));
        printer.note(&advice);
    }
    if printer.json() {
        let line = json!({
            "listening": server.address().to_string(), "url": url, "socket": socket, "pid": std::process::id(),
            "sandboxes": capacity.sandboxes, "bound_by": capacity.bound_by, "in_one_worker": capacity.in_one_worker,
        });
        return printer.result_json(&line).or_else(broken_pipe);
    }
    printer.note(&format!("listening on {url} and {socket}"));
    printer.note(&format!("{} runs at once, more wait", capacity.sandboxes));
    if let Some(why) = capacity.why_several_workers() {
        printer.note(&why);
    }
    Ok(())
}

/// Interrupt and termination.
///
/// # Errors
/// When the system does not let this process hear them.
pub(crate) fn stop_signals() -> Result<[Signal; 2], Failure> {
    Ok([listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?])
}

/// One signal.
///
/// # Errors
/// When the system does not let this process hear it.
pub(crate) fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|e| Failure::defect(format!("cannot listen to signals: {e}")))
}

/// Reads the configuration again whenever it is told to, and says what came of it.
async fn reload_on(mut hangups: Signal, service: Arc<Service>, printer: Printer) {
    while hangups.recv().await.is_some() {
        match service.reload() {
            Ok(reloaded) => {
                for note in told(&reloaded) {
                    printer.note(&note);
                }
            }
            Err(failure) => {
                printer.warn(&format!("config.yaml was not taken over: {failure}"));
                for hint in failure.hints() {
                    printer.note(hint);
                }
            }
        }
    }
}

/// What a reload came to, for a person.
fn told(Reloaded { changed, on_restart, rules_taken_back }: &Reloaded) -> Vec<String> {
    let mut notes = vec![match changed.as_slice() {
        [] => "config.yaml was read again: nothing has changed".to_owned(),
        some => format!("config.yaml was read again: {} changed", some.join(", ")),
    }];
    if *rules_taken_back > 0 {
        notes.push(format!("rules that runs which go on have lost: {rules_taken_back}"));
    }
    if !on_restart.is_empty() {
        notes.push(format!(
            "{} changed in the file, and holds once the server is started again",
            on_restart.join(", ")
        ));
    }
    notes
}

/// Counts signals.
pub(crate) async fn count_signals(told: watch::Sender<u8>, [mut interrupt, mut terminate]: [Signal; 2]) {
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        told.send_modify(|count| *count = count.saturating_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ServeArgs,
    }

    fn check(words: &[&str]) -> Result<(), String> {
        let line = Line::try_parse_from([&["serve"], words].concat()).map_err(|e| e.kind().to_string())?;
        check_address(&line.args).map_err(|failure| failure.code().to_owned())
    }

    #[test]
    fn a_reload_is_told_in_full() {
        let nothing = Reloaded { changed: Vec::new(), on_restart: Vec::new(), rules_taken_back: 0 };
        assert_eq!(told(&nothing), ["config.yaml was read again: nothing has changed"]);
        let reloaded = Reloaded {
            changed: vec!["egress", "limits.ceilings"],
            on_restart: vec!["server"],
            rules_taken_back: 2,
        };
        let notes = told(&reloaded);
        assert_eq!(notes[0], "config.yaml was read again: egress, limits.ceilings changed");
        assert!(
            notes[1].ends_with("have lost: 2") && notes[2].starts_with("server changed in the file"),
            "{notes:?}"
        );
    }

    #[test]
    fn what_others_can_reach_is_encrypted_or_said_to_be_safe() {
        for fine in [
            &[][..],
            &["--listen", "127.0.0.9:0"],
            &["--listen", "[::1]:7878"],
            &["--listen", "[::ffff:127.0.0.1]:7878"],
            &["--listen", "0.0.0.0:443", "--tls-cert", "c.pem", "--tls-key", "k.pem"],
            &["--listen", "192.0.2.1:80", "--insecure-listen", "a VPN"],
        ] {
            assert_eq!(check(fine), Ok(()), "{fine:?}");
        }
        for open in ["0.0.0.0:7878", "[::]:7878", "192.0.2.1:80", "10.0.0.1:80"] {
            assert_eq!(check(&["--listen", open]), Err("listen_insecure".to_owned()), "{open}");
        }
        assert_eq!(check(&["--insecure-listen", " "]), Err("bad_usage".to_owned()));
        for half in [
            &["--tls-cert", "c.pem"][..],
            &["--tls-key", "k.pem"],
            &["--tls-cert", "c.pem", "--tls-key", "k.pem", "--insecure-listen", "both"],
            &["--listen", "localhost:80"],
            &["--listen", "127.0.0.1"],
        ] {
            assert!(check(half).is_err(), "{half:?}");
        }
    }
}
