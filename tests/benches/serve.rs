//! What a server of runs carries: no-op runs per second through the HTTP API, the broker and a worker; how soon it is
//! ready when it has stored 100,000 runs; how long a listing takes among 1,000,000.
//!
//! `cargo bench -p orch --bench serve`. The load comes from this process, on the same cores. Beside the runs, in turns
//! and over the same kind of connection, `GET /v1/whoami`: what a request costs that does nothing but say who asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use orch_tests::guests;
use orch_tests::home::Home;
use orch_tests::orch::Orch;
use orch_tests::server::Server;
use rusqlite::Connection;
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_orch");
const CONNECTIONS: usize = 32;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(3);
const LEAST_RUNS: f64 = 1_500.0;
const READY: Duration = Duration::from_millis(300);
const LISTING: Duration = Duration::from_millis(50);

#[expect(clippy::print_stdout, reason = "a benchmark's output is its result")]
fn main() -> ExitCode {
    let home = Home::new();
    let mut met = true;
    let mut said = |what: &str, figure: String, limit: String, holds: bool| {
        println!("{what:>44}: {figure} ({limit}, {})", if holds { "met" } else { "missed" });
        met &= holds;
    };

    let server = Server::simulated(PROGRAM, &home);
    Orch::new(PROGRAM, &home)
        .arg("publish")
        .arg(guests::repository().join("tests/guests/noop"))
        .run()
        .expect(0);
    let (runs, nothing) = throughput(&server);
    said("no-op runs per second", format!("{runs:.0}"), format!("at least {LEAST_RUNS}"), runs >= LEAST_RUNS);
    println!("{:>44}: {nothing:.0} per second, {:.1} times as many", "GET /v1/whoami", nothing / runs);
    server.terminate().expect(0);

    let database = home.orch().join("data/orch.db");
    fill(&database, 100_000);
    let mut starts: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            let server = Server::simulated(PROGRAM, &home);
            let ready = begun.elapsed();
            server.terminate().expect(0);
            ready
        })
        .collect();
    let ready = median(&mut starts);
    said(
        "ready with 100,000 stored runs",
        format!("{ready:.1?}"),
        format!("at most {READY:?}"),
        ready <= READY,
    );

    fill(&database, 1_000_000);
    let server = Server::simulated(PROGRAM, &home);
    for path in [
        "/v1/runs",
        "/v1/runs?limit=200",
        "/v1/runs?status=failed",
        "/v1/runs?agent=acme/rare",
        "/v1/runs?status=succeeded&agent=guests/noop",
    ] {
        let mut times: Vec<Duration> = (0..50)
            .map(|_| {
                let begun = Instant::now();
                server.ask("GET", path, None).expect(200);
                begun.elapsed()
            })
            .collect();
        let worst = *times.iter().max().unwrap_or(&Duration::ZERO);
        let usual = median(&mut times);
        let figure = format!("{usual:.1?}, worst of 50 {worst:.1?}");
        said(&format!("GET {path}"), figure, format!("at most {LISTING:?}"), usual <= LISTING);
    }
    server.terminate().expect(0);
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs and empty requests per second, medians of rounds in turns.
fn throughput(server: &Server) -> (f64, f64) {
    let body = json!({ "agent": "guests/noop", "input": {} }).to_string();
    let head = |method: &str, path: &str, length: usize| {
        format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\nauthorization: Bearer {}\r\n\
             content-length: {length}\r\n\r\n",
            server.address(),
            server.token()
        )
    };
    let run = head("POST", "/v1/runs?wait", body.len()) + &body;
    let nothing = head("GET", "/v1/whoami", 0);
    let (mut runs, mut empty) = (Vec::new(), Vec::new());
    // One round that is not counted: it compiles the agent and starts its worker.
    for round in 0..=ROUNDS {
        let (a, b) = (rate(server.address(), &run), rate(server.address(), &nothing));
        if round > 0 {
            runs.push(a);
            empty.push(b);
        }
    }
    (middle(&mut runs), middle(&mut empty))
}

/// How many of these requests are answered with 200 in a second, one after another on each connection.
fn rate(address: SocketAddr, request: &str) -> f64 {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let stream = TcpStream::connect(address).expect("a connection");
                stream.set_nodelay(true).expect("a socket");
                let mut reader = BufReader::new(stream);
                while !stop.load(Ordering::Relaxed) {
                    reader.get_mut().write_all(request.as_bytes()).expect("sent");
                    assert_eq!(answer(&mut reader), 200);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        thread::sleep(ROUND);
        stop.store(true, Ordering::Relaxed);
    });
    #[expect(clippy::cast_precision_loss, reason = "counts of seconds")]
    let answered = done.load(Ordering::Relaxed) as f64;
    answered / begun.elapsed().as_secs_f64()
}

/// Reads one answer, which has a length, and returns its status.
fn answer(reader: &mut BufReader<TcpStream>) -> u16 {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a status line");
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let mut length = 0;
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a header");
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().expect("a length");
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body");
    status
}

/// Fills the database of a stopped server up to so many runs of several agents and ends.
fn fill(database: &Path, total: i64) {
    let mut db = Connection::open(database).expect("the database");
    let there: i64 = db.query_row("SELECT count(*) FROM runs", [], |row| row.get(0)).expect("a count");
    let batch = db.transaction().expect("a transaction");
    {
        let mut insert = batch
            .prepare(
                "INSERT INTO runs (id, workspace, agent, version, digest, caller, instance, status, created, started, \
                 finished, exit_code, error, request, report) \
                 SELECT ?1, workspace, ?2, version, digest, caller, instance, ?3, created, started, finished, \
                 exit_code, error, request, report FROM runs WHERE seq = 1",
            )
            .expect("a statement");
        for number in there..total {
            let agent = if number % 100_000 == 7 { "acme/rare" } else { "guests/noop" };
            let status = if number % 50 == 3 { "failed" } else { "succeeded" };
            insert.execute((run_id(number), agent, status)).expect("a row");
        }
    }
    batch.commit().expect("committed");
}

/// A run's id: 16 bytes in base32.
fn run_id(number: i64) -> String {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.wrapping_mul(0x1e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    format!("run_{}", data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn middle(rates: &mut [f64]) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates[rates.len() / 2]
}
