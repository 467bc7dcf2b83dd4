//! A tunnel: what the client says in the open is looked at (`greeting.rs`), and from then on bytes go both ways unseen.
//!
//! An idle tunnel holds two sockets and no buffer. What is read goes into one buffer of the thread and out of it before
//! anything else happens; only what the other side does not take at once is kept, and nothing more is read until it has.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::net::{Shutdown, shutdown};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::greeting::{First, Server, judged, refuse};
use crate::connect::Opened;
use crate::limits::{Meter, Way};
use crate::{EgressError, Ended};

/// Bytes that one read may bring.
const READ: usize = 128 << 10;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into_boxed_slice());
}

/// Time bounds of a tunnel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TunnelTimeouts {
    pub(crate) hello: Duration,
    pub(crate) idle: Duration,
    /// Instead of `idle`, once one side has closed its half.
    pub(crate) half_closed: Duration,
    pub(crate) total: Duration,
}

/// How a tunnel went, once it is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TunnelEnd {
    /// The host of the CONNECT request.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Bytes from the client to the host.
    pub sent: u64,
    /// Bytes from the host to the client.
    pub received: u64,
    /// How long it stood, in milliseconds.
    pub duration_ms: u64,
    /// Why it is over.
    pub ended: TunnelEnded,
}

/// Why a tunnel is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TunnelEnded {
    /// Both sides closed it.
    Closed,
    /// One side broke it off.
    Broken,
    /// No byte moved for too long.
    Idle,
    /// It stood for as long as one may.
    Total,
    /// As many bytes went through as a limit lets.
    Limit,
    /// The server wanted a second ClientHello, and that was not one for the same host.
    HelloRefused,
    /// The client's grant was revoked.
    Revoked,
    /// The client's grant expired.
    Expired,
}

/// Runs a tunnel to its end; `early` is what the client sent before it was told that there is one. None when it was
/// refused, or given up before it carried anything.
pub(crate) async fn run(
    opened: Opened,
    mut client: TcpStream,
    early: Vec<u8>,
    timeouts: TunnelTimeouts,
) -> Option<TunnelEnd> {
    let first = if opened.opaque {
        First::opaque(early)
    } else {
        match Box::pin(judged(&opened, &mut client, early, timeouts.hello)).await {
            Ok(first) => first,
            Err(error) => {
                opened.refused(&error);
                refuse(&mut client, &error).await;
                return None;
            }
        }
    };
    let (host, port) = (opened.host.clone(), opened.port);
    let (admission, upstream) = opened.allowed();
    let counts = Counts::new(admission.meter());
    let server = Server { stream: &upstream, host: &host, patience: timeouts.hello };
    let ended = tokio::select! {
        biased;
        ended = admission.grant().ended() => match ended {
            Ended::Revoked => TunnelEnded::Revoked,
            Ended::Expired => TunnelEnded::Expired,
        },
        () = sleep_until(counts.began + timeouts.total) => TunnelEnded::Total,
        () = counts.idle(&timeouts) => TunnelEnded::Idle,
        done = relay(&client, &server, first, &counts) => {
            match done {
                Ok(()) => TunnelEnded::Closed,
                Err(Stopped::Broken) => TunnelEnded::Broken,
                Err(Stopped::Silent) => TunnelEnded::Idle,
                Err(Stopped::Limit) => TunnelEnded::Limit,
                Err(Stopped::Hello(error)) => {
                    refuse(&mut client, &error).await;
                    TunnelEnded::HelloRefused
                }
            }
        }
    };
    Some(TunnelEnd {
        host: host.to_string(),
        port,
        sent: counts.sent.load(Ordering::Relaxed),
        received: counts.received.load(Ordering::Relaxed),
        duration_ms: counts.age(),
        ended,
    })
}

/// Why bytes no longer go through.
pub(super) enum Stopped {
    Broken,
    /// Somebody whose turn it was said nothing.
    Silent,
    Limit,
    /// The client said hello again, to somebody else.
    Hello(EgressError),
}

impl From<io::Error> for Stopped {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

/// What went through, and when last.
pub(super) struct Counts {
    meter: Meter,
    sent: AtomicU64,
    received: AtomicU64,
    began: Instant,
    /// Milliseconds since it began.
    last: AtomicU64,
    half_closed: AtomicBool,
    /// Tells whoever watches for idle tunnels that the bound is another one.
    closing: Notify,
}

impl Counts {
    fn new(meter: Meter) -> Self {
        Self {
            meter,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            began: Instant::now(),
            last: AtomicU64::new(0),
            half_closed: AtomicBool::new(false),
            closing: Notify::new(),
        }
    }

    fn age(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Counts bytes that are about to go one way, and says how many of them may, and whether they are the last ones.
    fn let_through(&self, way: Way, bytes: usize) -> Result<(usize, bool), Stopped> {
        match self.meter.take(way, bytes) {
            (0, Some(_)) => Err(Stopped::Limit),
            (count, hit) => Ok((count, hit.is_some())),
        }
    }

    fn passed(&self, way: Way, bytes: usize) {
        let count = match way {
            Way::Up => &self.sent,
            Way::Down => &self.received,
        };
        count.fetch_add(bytes as u64, Ordering::Relaxed);
        self.last.store(self.age(), Ordering::Relaxed);
    }

    /// One side has sent all that it will.
    pub(super) fn half_closed(&self) {
        self.last.store(self.age(), Ordering::Relaxed);
        self.half_closed.store(true, Ordering::Relaxed);
        self.closing.notify_one();
    }

    /// Until no byte has moved for too long.
    async fn idle(&self, timeouts: &TunnelTimeouts) {
        loop {
            let patience = match self.half_closed.load(Ordering::Relaxed) {
                true => timeouts.half_closed.min(timeouts.idle),
                false => timeouts.idle,
            };
            let until = self.began + Duration::from_millis(self.last.load(Ordering::Relaxed)) + patience;
            if until <= Instant::now() {
                return;
            }
            tokio::select! {
                () = sleep_until(until) => {}
                () = self.closing.notified() => {}
            }
        }
    }
}

async fn relay(
    client: &TcpStream,
    server: &Server<'_>,
    first: First,
    counts: &Counts,
) -> Result<(), Stopped> {
    let upstream = server.stream;
    // What it needs is given back before the tunnel stands idle.
    let rest = Box::pin(first.greet(client, server, counts)).await?;
    let up = async {
        pass(upstream, &rest, Way::Up, counts).await?;
        drop(rest);
        pump(client, upstream, Way::Up, counts).await
    };
    let down = pump(upstream, client, Way::Down, counts);
    tokio::try_join!(up, down).map(|((), ())| ())
}

/// Passes bytes on that were read already.
pub(super) async fn pass(to: &TcpStream, bytes: &[u8], way: Way, counts: &Counts) -> Result<(), Stopped> {
    if bytes.is_empty() {
        return Ok(());
    }
    let (count, last) = counts.let_through(way, bytes.len())?;
    write_all(to, &bytes[..count], |count| counts.passed(way, count)).await?;
    if last { Err(Stopped::Limit) } else { Ok(()) }
}

/// Carries everything one way, its end included.
async fn pump(from: &TcpStream, to: &TcpStream, way: Way, counts: &Counts) -> Result<(), Stopped> {
    loop {
        match step(from, to, way, counts)? {
            Step::Nothing => from.readable().await?,
            Step::End => {
                // It may be gone already, which whoever reads from it finds out.
                let _ = shutdown(to, Shutdown::Write);
                counts.half_closed();
                return Ok(());
            }
            // Another tunnel's turn.
            Step::Passed => tokio::task::consume_budget().await,
            Step::Left { rest, last } => {
                write_all(to, &rest, |count| counts.passed(way, count)).await?;
                if last {
                    return Err(Stopped::Limit);
                }
            }
        }
    }
}

enum Step {
    Nothing,
    End,
    /// What was read went through.
    Passed,
    /// These bytes were not taken. A limit lets no others through if they are the `last`.
    Left {
        rest: Vec<u8>,
        last: bool,
    },
}

fn step(from: &TcpStream, to: &TcpStream, way: Way, counts: &Counts) -> Result<Step, Stopped> {
    BUFFER.with_borrow_mut(|buffer| {
        let (read, last) = match from.try_read(buffer) {
            Ok(0) => return Ok(Step::End),
            Ok(read) => counts.let_through(way, read)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Nothing),
            Err(error) => return Err(error.into()),
        };
        let written = match to.try_write(&buffer[..read]) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        counts.passed(way, written);
        match (written == read, last) {
            (false, _) => Ok(Step::Left { rest: buffer[written..read].to_vec(), last }),
            (true, true) => Err(Stopped::Limit),
            (true, false) => Ok(Step::Passed),
        }
    })
}

async fn write_all(to: &TcpStream, mut bytes: &[u8], passed: impl Fn(usize)) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                passed(count);
                bytes = &bytes[count..];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
