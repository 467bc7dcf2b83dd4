//! Both ends of measurements of a forward proxy, where `wrk` has no such thing.
//!
//! - `proxy_load blast` listens on loopback and writes to whoever connects for as long as they read; it prints its
//!   address and ends with its standard input.
//! - `proxy_load still` does the same and writes nothing.
//! - `proxy_load pull ADDRESS SECONDS CONNECTIONS [TARGET [CREDENTIALS]]` reads from ADDRESS on so many connections,
//!   through a `CONNECT TARGET` where one is named, and prints the bytes per second.
//! - `proxy_load hold ADDRESS COUNT TARGET [CREDENTIALS]` opens so many tunnels, says so, and keeps them until its
//!   standard input ends.
//! - `proxy_load paced ADDRESS TARGET RATE SECONDS CONNECTIONS [HEADER:VALUE]…` sends `GET TARGET` so many times a
//!   second, whether answers are late or not, and prints percentiles of the time from when a request was due. Each
//!   connection has been answered once before the first is due: what is measured is a proxy at work, not its beginning.
//!
//! CREDENTIALS are `user:password`.

use std::io::{Error, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["blast"] => listen(blast),
        ["still"] => {
            let mut held = Vec::new();
            listen(move |stream| held.push(stream))
        }
        ["pull", address, seconds, connections, tunnel @ ..] => {
            let seconds: f64 = number(seconds)?;
            say(&json!({ "bytes_per_second": pull(address, seconds, number(connections)?, tunnel)? }))
        }
        ["hold", address, count, tunnel @ ..] if !tunnel.is_empty() => hold(address, number(count)?, tunnel),
        ["paced", address, target, rate, seconds, connections, headers @ ..] => {
            let load =
                Load { rate: number(rate)?, seconds: number(seconds)?, connections: number(connections)? };
            let mut times = paced(address, &request(target, headers), &load)?;
            times.sort_unstable();
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_micros();
            say(&json!({ "requests": times.len(), "p50_us": at(0.5), "p99_us": at(0.99) }))
        }
        _ => Err(Error::other("proxy_load blast | still | pull … | hold … | paced …; see its source")),
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Error::other(format!("{text} is not a number that fits")))
}

fn say(what: &serde_json::Value) -> Result<()> {
    writeln!(std::io::stdout(), "{what}")
}

/// Until standard input ends.
fn listen(mut serve: impl FnMut(TcpStream) + Send + 'static) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream);
        }
    });
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn blast(mut stream: TcpStream) {
    thread::spawn(move || {
        let zeros = vec![0; 256 * 1024];
        while stream.write_all(&zeros).is_ok() {}
    });
}

fn connect(address: &str, tunnel: &[&str]) -> Result<TcpStream> {
    let address: SocketAddr = number(address)?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let [target, credentials @ ..] = tunnel else { return Ok(stream) };
    let mut head = format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n");
    if let [credentials] = credentials {
        let credentials = data_encoding::BASE64.encode(credentials.as_bytes());
        head.push_str(&format!("proxy-authorization: Basic {credentials}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.push(byte[0]);
    }
    if answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200") {
        Ok(stream)
    } else {
        Err(Error::other(format!("CONNECT was answered {}", answer.escape_ascii())))
    }
}

fn pull(address: &str, seconds: f64, connections: usize, tunnel: &[&str]) -> Result<f64> {
    let streams: Vec<TcpStream> =
        (0..connections).map(|_| connect(address, tunnel)).collect::<Result<_>>()?;
    let begun = Instant::now();
    let until = begun + Duration::from_secs_f64(seconds);
    let bytes: Vec<Result<u64>> = thread::scope(|scope| {
        let readers: Vec<_> = streams
            .into_iter()
            .map(|mut stream| {
                scope.spawn(move || {
                    let mut buffer = vec![0; 256 * 1024];
                    let mut bytes = 0;
                    while Instant::now() < until {
                        match stream.read(&mut buffer)? {
                            0 => return Err(Error::other("it ended early")),
                            read => bytes += read as u64,
                        }
                    }
                    Ok(bytes)
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().expect("a reader does not panic")).collect()
    });
    let bytes: u64 = bytes.into_iter().sum::<Result<u64>>()?;
    Ok(bytes as f64 / begun.elapsed().as_secs_f64())
}

fn hold(address: &str, count: usize, tunnel: &[&str]) -> Result<()> {
    let held: Vec<TcpStream> = (0..count).map(|_| connect(address, tunnel)).collect::<Result<_>>()?;
    say(&json!({ "open": held.len() }))?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn request(target: &str, headers: &[&str]) -> Vec<u8> {
    let host = target.split('/').nth(2).unwrap_or(target);
    let mut head = format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n");
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

struct Load {
    rate: f64,
    seconds: f64,
    connections: u32,
}

fn paced(address: &str, request: &[u8], load: &Load) -> Result<Vec<Duration>> {
    let (ready, begun) = (Barrier::new(load.connections as usize), OnceLock::new());
    let (ready, begun) = (&ready, &begun);
    let between = Duration::from_secs_f64(f64::from(load.connections) / load.rate);
    let count = (load.rate * load.seconds / f64::from(load.connections)) as u32;
    let all: Vec<Result<Vec<Duration>>> = thread::scope(|scope| {
        let senders: Vec<_> = (0..load.connections)
            .map(|number| {
                scope.spawn(move || {
                    let warm = || {
                        let mut stream = connect(address, &[])?;
                        stream.write_all(request)?;
                        answer(&mut stream).map(|()| stream)
                    };
                    // Whoever fails is waited for as well: the others would wait for ever.
                    let warm = warm();
                    ready.wait();
                    let mut stream = warm?;
                    let first = *begun.get_or_init(Instant::now) + between * number / load.connections;
                    let mut times = Vec::with_capacity(count as usize);
                    for round in 0..count {
                        let due = first + between * round;
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        stream.write_all(request)?;
                        answer(&mut stream)?;
                        times.push(due.elapsed());
                    }
                    Ok(times)
                })
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().expect("a sender does not panic")).collect()
    });
    Ok(all.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

/// Reads one answer, of announced length or in chunks without extensions and trailers.
fn answer(stream: &mut TcpStream) -> Result<()> {
    let mut read = Vec::with_capacity(4096);
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err(Error::other("it ended early"));
        }
        read.extend_from_slice(&buffer[..length]);
        let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(Error::other(format!("it answered {head}")));
        }
        let body = &read[end + 4..];
        let whole = match head.lines().find_map(|line| line.strip_prefix("content-length:")) {
            Some(length) => body.len() >= number(length.trim())?,
            None => body.ends_with(b"\r\n0\r\n\r\n"),
        };
        if whole {
            return Ok(());
        }
    }
}
