//! A name server that lies as it is told, over UDP and TCP on one port of loopback, and remembers what it was asked.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::row::Answers;

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
/// What fits into an answer by UDP.
const DATAGRAM: usize = 512;

/// The server. Its threads end with the process: they hold nothing but their sockets.
pub struct NameServer {
    address: SocketAddr,
    shared: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    answers: HashMap<String, Answers>,
    asked: Vec<(String, u16)>,
}

impl NameServer {
    /// Starts it; it knows no name yet.
    pub fn start() -> Self {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = tcp.local_addr().expect("bound");
        let udp = UdpSocket::bind(address).expect("the same port for UDP");
        let shared = Arc::<Mutex<Told>>::default();
        let told = Arc::clone(&shared);
        let _datagrams = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                if let Some(mut answer) = told.answer(&buffer[..length]) {
                    if answer.len() > DATAGRAM {
                        // Truncated: to be asked again over TCP. Header and question are left, without records.
                        answer.truncate(question_end(&answer).unwrap_or(12));
                        answer[2] |= 0x02;
                        answer[6..12].fill(0);
                    } else {
                        told.note(&buffer[..length]);
                    }
                    // Whoever asked may be gone.
                    let _ = udp.send_to(&answer, from);
                }
            }
        });
        let told = Arc::clone(&shared);
        let _streams = thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let told = Arc::clone(&told);
                let _conversation = thread::spawn(move || converse(stream, &told));
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it says about a name from now on.
    pub fn tell(&self, name: &str, answers: &Answers) {
        let mut told = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        told.answers.insert(name.to_ascii_lowercase(), answers.clone());
    }

    /// How often each family of a name was asked for, the more frequent one.
    pub fn asked(&self, name: &str) -> usize {
        let told = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |family| told.asked.iter().filter(|(n, f)| n == name && *f == family).count();
        count(A).max(count(AAAA))
    }

    /// Every name that it was asked for and that comes from no row: neither a name that it was told about, nor one that
    /// its own answers lead to.
    pub fn strangers(&self) -> Vec<String> {
        let told = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let aliases: Vec<&String> = told.answers.values().flat_map(|answers| &answers.cname).collect();
        let stranger = |name: &&String| {
            !aliases.contains(name) && told.answers.get(*name).is_none_or(|answers| answers.never)
        };
        let mut names: Vec<String> =
            told.asked.iter().map(|(name, _)| name).filter(stranger).cloned().collect();
        names.sort();
        names.dedup();
        names
    }
}

fn converse(mut stream: TcpStream, told: &Mutex<Told>) {
    // A client that stands still is nobody's business here.
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        if stream.read_exact(&mut question).is_err() {
            return;
        }
        let Some(answer) = told.answer(&question) else { return };
        told.note(&question);
        let framed = [&u16::try_from(answer.len()).unwrap_or(u16::MAX).to_be_bytes()[..], &answer].concat();
        if stream.write_all(&framed).is_err() {
            return;
        }
    }
}

trait Server {
    fn answer(&self, question: &[u8]) -> Option<Vec<u8>>;
    fn note(&self, question: &[u8]);
}

impl Server for Mutex<Told> {
    fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let (name, family, end) = parse(question)?;
        let told = self.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.asked.iter().filter(|(n, f)| *n == name && *f == family).count();
        let answers = told.answers.get(&name).cloned().unwrap_or_default();
        Some(write(&question[..end], &name, family, before, &answers))
    }

    fn note(&self, question: &[u8]) {
        if let Some((name, family, _)) = parse(question) {
            self.lock().unwrap_or_else(PoisonError::into_inner).asked.push((name, family));
        }
    }
}

fn question_end(message: &[u8]) -> Option<usize> {
    parse(message).map(|(_, _, end)| end)
}

/// The name, the type, and where the question ends.
fn parse(message: &[u8]) -> Option<(String, u16, usize)> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(message.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let family = u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]);
    Some((labels.join("."), family, at + 4))
}

fn encoded(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).expect("a label of a row fits"));
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

fn write(question: &[u8], name: &str, family: u16, before: usize, answers: &Answers) -> Vec<u8> {
    let of = |lists: &[Vec<String>]| {
        lists.get(before.min(lists.len().saturating_sub(1))).cloned().unwrap_or_default()
    };
    let unknown = answers.a.is_empty() && answers.aaaa.is_empty() && answers.cname.is_empty();
    let code = match answers.says.as_deref() {
        Some("GARBAGE") => return [&question[..2], &[0xff; 9][..]].concat(),
        Some("SERVFAIL") => 2,
        Some("REFUSED") => 5,
        Some("EMPTY" | "OTHERNAME") => 0,
        Some("NXDOMAIN") => 3,
        None if unknown => 3,
        None => 0,
        Some(other) => panic!("a name server does not say {other}"),
    };
    let mut records = Vec::new();
    let mut owner = name.to_owned();
    if answers.says.as_deref() == Some("OTHERNAME") {
        // An answer to what nobody asked.
        records.push(record("other.evil.example", A, Ipv4Addr::new(1, 1, 1, 1).octets().to_vec()));
    }
    for alias in &answers.cname {
        let alias = alias.replace("<<self>>", name);
        records.push(record(&owner, CNAME, encoded(&alias)));
        owner = alias;
    }
    let octets = |ip: &String| match family {
        A => ip.parse::<Ipv4Addr>().map(|ip| ip.octets().to_vec()),
        _ => ip.parse::<Ipv6Addr>().map(|ip| ip.octets().to_vec()),
    };
    let addresses = match family {
        A => of(&answers.a),
        AAAA => of(&answers.aaaa),
        _ => Vec::new(),
    };
    records.extend(addresses.iter().map(|ip| record(&owner, family, octets(ip).expect("a row's address"))));
    let count = u16::try_from(records.len()).expect("few records").to_be_bytes();
    let mut out = question.to_vec();
    // An answer, recursion was wanted and is available; one question, these answers, nothing else.
    out[2] = 0x81;
    out[3] = 0x80 | code;
    out[4..6].copy_from_slice(&[0, 1]);
    out[6..8].copy_from_slice(&count);
    out[8..12].fill(0);
    out.extend(records.concat());
    out
}

/// With a time to live of zero: whoever wants to know again has to ask again.
fn record(owner: &str, kind: u16, data: Vec<u8>) -> Vec<u8> {
    let mut out = encoded(owner);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1, 0, 0, 0, 0]);
    out.extend(u16::try_from(data.len()).expect("a short record").to_be_bytes());
    out.extend(data);
    out
}
