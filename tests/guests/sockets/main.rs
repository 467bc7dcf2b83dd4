//! Tries to leave by `wasi:sockets`: name lookup, TCP and UDP, both families; and by the standard library.

use std::collections::BTreeMap;
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};

use serde::Deserialize;
use serde_json::{Value, json};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};
use wasip2::sockets::udp::{OutgoingDatagram, OutgoingDatagramStream};
use wasip2::sockets::{tcp_create_socket::create_tcp_socket, udp_create_socket::create_udp_socket};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Input {
    /// Where to connect on loopback: a port on which a test listens.
    port: u16,
    /// A name to look up.
    name: String,
}

impl Default for Input {
    fn default() -> Input {
        Input { port: 80, name: "localhost".to_owned() }
    }
}

fn main() {
    let input: Input = serde_json::from_reader(io::stdin().lock()).unwrap_or_default();
    let (v4, v6) = (loopback4(input.port), loopback6(input.port));
    let mut tried = BTreeMap::<&str, Value>::new();
    tried.insert("lookup", report(lookup(&input.name)));
    tried.insert("tcp4_connect", report(connect(IpAddressFamily::Ipv4, v4)));
    tried.insert("tcp6_connect", report(connect(IpAddressFamily::Ipv6, v6)));
    tried.insert("tcp4_listen", report(listen(IpAddressFamily::Ipv4, loopback4(0))));
    tried.insert("tcp6_listen", report(listen(IpAddressFamily::Ipv6, loopback6(0))));
    tried.insert("tcp4_connect_metadata", report(connect(IpAddressFamily::Ipv4, METADATA)));
    tried.insert("tcp6_connect_mapped", report(connect(IpAddressFamily::Ipv6, mapped(input.port))));
    tried.insert("udp4_send_to", report(send_to(IpAddressFamily::Ipv4, loopback4(0), v4)));
    tried.insert("udp6_send_to", report(send_to(IpAddressFamily::Ipv6, loopback6(0), v6)));
    tried.insert("udp4_send", report(datagram(IpAddressFamily::Ipv4, loopback4(0), v4)));
    tried.insert("udp6_send", report(datagram(IpAddressFamily::Ipv6, loopback6(0), v6)));
    tried.insert("std_lookup", report(std_lookup(&input.name)));
    tried.insert("std_tcp_connect", report(TcpStream::connect(("127.0.0.1", input.port)).map(drop)));
    tried.insert("std_tcp_listen", report(TcpListener::bind("127.0.0.1:0").map(drop)));
    tried.insert("std_udp_send", report(std_datagram(input.port)));
    println!("{}", json!(tried));
}

/// "reached", or why not.
fn report<E: std::fmt::Debug>(outcome: Result<(), E>) -> Value {
    outcome.map_or_else(|error| json!(format!("{error:?}")), |()| json!("reached"))
}

fn lookup(name: &str) -> Result<(), ErrorCode> {
    let stream = resolve_addresses(&instance_network(), name)?;
    stream.subscribe().block();
    stream.resolve_next_address().map(drop)
}

fn connect(family: IpAddressFamily, to: IpSocketAddress) -> Result<(), ErrorCode> {
    let socket = create_tcp_socket(family)?;
    socket.start_connect(&instance_network(), to)?;
    socket.subscribe().block();
    socket.finish_connect().map(drop)
}

fn listen(family: IpAddressFamily, at: IpSocketAddress) -> Result<(), ErrorCode> {
    let socket = create_tcp_socket(family)?;
    socket.start_bind(&instance_network(), at)?;
    socket.subscribe().block();
    socket.finish_bind()?;
    socket.start_listen()?;
    socket.subscribe().block();
    socket.finish_listen()
}

fn datagram(family: IpAddressFamily, from: IpSocketAddress, to: IpSocketAddress) -> Result<(), ErrorCode> {
    let socket = create_udp_socket(family)?;
    socket.start_bind(&instance_network(), from)?;
    socket.subscribe().block();
    socket.finish_bind()?;
    let (_, outgoing) = socket.stream(Some(to))?;
    send(&outgoing, None)
}

/// The same over a socket that is connected to nobody: each datagram says where it goes.
fn send_to(family: IpAddressFamily, from: IpSocketAddress, to: IpSocketAddress) -> Result<(), ErrorCode> {
    let socket = create_udp_socket(family)?;
    socket.start_bind(&instance_network(), from)?;
    socket.subscribe().block();
    socket.finish_bind()?;
    let (_, outgoing) = socket.stream(None)?;
    send(&outgoing, Some(to))
}

fn send(outgoing: &OutgoingDatagramStream, to: Option<IpSocketAddress>) -> Result<(), ErrorCode> {
    outgoing.subscribe().block();
    outgoing.check_send()?;
    match outgoing.send(&[OutgoingDatagram { data: b"out".to_vec(), remote_address: to }])? {
        0 => Err(ErrorCode::WouldBlock),
        _ => Ok(()),
    }
}

fn std_lookup(name: &str) -> io::Result<()> {
    (name, 80).to_socket_addrs()?.next().map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn std_datagram(port: u16) -> io::Result<()> {
    UdpSocket::bind("127.0.0.1:0")?.send_to(b"out", ("127.0.0.1", port)).map(drop)
}

/// Where clouds keep what a machine may know of itself, credentials among it.
const METADATA: IpSocketAddress =
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port: 80, address: (169, 254, 169, 254) });

/// Loopback of IPv4 in the clothes of IPv6.
fn mapped(port: u16) -> IpSocketAddress {
    let address = (0, 0, 0, 0, 0, 0xffff, 0x7f00, 1);
    IpSocketAddress::Ipv6(Ipv6SocketAddress { port, flow_info: 0, address, scope_id: 0 })
}

fn loopback4(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (127, 0, 0, 1) })
}

fn loopback6(port: u16) -> IpSocketAddress {
    IpSocketAddress::Ipv6(Ipv6SocketAddress {
        port,
        flow_info: 0,
        address: (0, 0, 0, 0, 0, 0, 0, 1),
        scope_id: 0,
    })
}
