use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::CNAME;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::*;

/// A name server on loopback that answers from a function and remembers the questions.
struct Server {
    resolver: SystemResolver,
    asked: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

async fn server(answer: fn(&Name, RecordType) -> Option<Vec<Record>>) -> Server {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut config = NameServerConfig::udp(socket.local_addr().unwrap().ip());
    config.connections[0].port = socket.local_addr().unwrap().port();
    let search = vec![Name::from_ascii("corp.example.").unwrap()];
    let config = ResolverConfig::from_parts(None, search, vec![config]);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let query = question.queries[0].clone();
            log.lock().unwrap().push(format!("{} {}", query.name(), query.query_type()));
            let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
            reply.metadata.recursion_available = true;
            reply.add_query(query.clone());
            match answer(query.name(), query.query_type()) {
                Some(records) => reply.answers.extend(records),
                None => reply.metadata.response_code = ResponseCode::NXDomain,
            }
            socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
        }
    });
    Server { resolver: SystemResolver::build(builder).unwrap(), asked, _task: task }
}

fn a(name: &Name, last: u8) -> Record {
    Record::from_rdata(name.clone(), 60, RData::A(Ipv4Addr::new(192, 0, 2, last).into()))
}

fn alias(from: &Name, to: &str) -> Record {
    Record::from_rdata(from.clone(), 60, RData::CNAME(CNAME(Name::from_ascii(to).unwrap())))
}

async fn ask(server: &Server, name: &str) -> Result<Vec<String>, DnsError> {
    let addresses = server.resolver.resolve(&name.parse().unwrap()).await?;
    Ok(addresses.iter().map(ToString::to_string).collect())
}

#[tokio::test]
async fn both_families_of_exactly_this_name() {
    let server = server(|name, family| {
        Some(match family {
            RecordType::A => vec![a(name, 1), a(name, 2)],
            _ => vec![Record::from_rdata(name.clone(), 60, RData::AAAA(Ipv6Addr::LOCALHOST.into()))],
        })
    })
    .await;
    assert_eq!(ask(&server, "api.example.com").await.unwrap(), ["192.0.2.1", "192.0.2.2", "::1"]);
    let mut asked = server.asked.lock().unwrap().clone();
    asked.sort();
    assert_eq!(asked, ["api.example.com. A", "api.example.com. AAAA"]);
}

#[tokio::test]
async fn search_domains_are_not_used() {
    let server = server(|name, _| name.to_ascii().ends_with("corp.example.").then(|| vec![a(name, 1)])).await;
    assert_eq!(ask(&server, "intranet").await, Err(DnsError::NotFound));
    assert!(server.asked.lock().unwrap().iter().all(|asked| asked.starts_with("intranet. ")));
}

#[tokio::test]
async fn one_family_is_enough() {
    let server = server(|name, family| (family == RecordType::A).then(|| vec![a(name, 1)])).await;
    assert_eq!(ask(&server, "v4.example.com").await.unwrap(), ["192.0.2.1"]);
}

#[tokio::test]
async fn aliases_are_followed_but_not_for_ever() {
    let server = server(|name, family| {
        let text = name.to_ascii();
        Some(match (text.as_str(), family) {
            ("short.example.com.", _) => vec![alias(name, "end.example.com.")],
            ("end.example.com.", RecordType::A) => vec![a(name, 7)],
            ("end.example.com.", _) => Vec::new(),
            ("chain.example.com.", RecordType::A) => {
                let names: Vec<String> = (0..12).map(|n| format!("c{n}.example.com.")).collect();
                let mut records = vec![alias(name, &names[0])];
                for pair in names.windows(2) {
                    records.push(alias(&Name::from_ascii(&pair[0]).unwrap(), &pair[1]));
                }
                records.push(a(&Name::from_ascii(names.last().unwrap()).unwrap(), 9));
                records
            }
            // Each answer is the next alias, without end.
            (other, _) => vec![alias(name, &format!("x{other}"))],
        })
    })
    .await;
    assert_eq!(ask(&server, "short.example.com").await.unwrap(), ["192.0.2.7"]);
    assert_eq!(ask(&server, "chain.example.com").await, Err(DnsError::TooDeep));
    assert!(ask(&server, "x.example.com").await.is_err());
    assert!(server.asked.lock().unwrap().len() < 64);
}

#[tokio::test]
async fn a_giant_answer_is_refused() {
    // More than fits into a plain datagram would be truncated; this fits and is still too much.
    let server = server(|name, family| {
        Some(if family == RecordType::A { (0..40).map(|n| a(name, n)).collect() } else { Vec::new() })
    })
    .await;
    assert_eq!(ask(&server, "giant.example.com").await, Err(DnsError::TooMany(40)));
}
