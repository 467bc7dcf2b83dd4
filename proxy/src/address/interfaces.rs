//! The machine's own addresses.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use ipnet::{IpNet, Ipv4Net};

/// Knows which addresses belong to this machine.
pub trait Interfaces: Send + Sync {
    /// Whether packets to `address` would come back to this machine.
    fn is_own(&self, address: IpAddr) -> bool;
}

/// The kernel's answer, asked anew each time: interfaces come and go with VPNs, containers and DHCP.
///
/// On Linux this reads the local routing table (`/proc/net/fib_trie`, which also knows addresses without an interface,
/// such as any-IP routes) and `/proc/net/if_inet6`. Elsewhere, and where those files cannot be read, it tries to bind a
/// UDP socket to the address, which only works for the machine's own; nothing is sent.
#[derive(Debug, Default)]
pub struct SystemInterfaces;

impl Interfaces for SystemInterfaces {
    fn is_own(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => std::fs::read_to_string("/proc/net/fib_trie")
                .map_or_else(|_| binds(address), |text| local_v4(&text).any(|net| net.contains(&v4))),
            IpAddr::V6(v6) => std::fs::read_to_string("/proc/net/if_inet6")
                .map_or_else(|_| binds(address), |text| local_v6(&text).any(|own| own == v6)),
        }
    }
}

fn binds(address: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

/// Leaves of the trie are an address line `|-- 10.0.0.5` and then a line per route to it, `/32 host LOCAL`.
fn local_v4(text: &str) -> impl Iterator<Item = Ipv4Net> {
    let mut leaf = None;
    text.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
            return None;
        }
        let mut words = line.split_ascii_whitespace();
        let length = words.next()?.strip_prefix('/')?.parse().ok()?;
        (words.nth(1)? == "LOCAL").then_some(())?;
        Ipv4Net::new(leaf?, length).ok()
    })
}

/// Lines start with the address in 32 hex digits.
fn local_v6(text: &str) -> impl Iterator<Item = Ipv6Addr> {
    text.lines().filter_map(|line| {
        let digits = line.split_ascii_whitespace().next().filter(|digits| digits.len() == 32)?;
        u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from)
    })
}

/// For tests and for what the kernel cannot know: a fixed list of own networks.
impl Interfaces for Vec<IpNet> {
    fn is_own(&self, address: IpAddr) -> bool {
        self.iter().any(|net| net.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIE: &str = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.9.0.0/16 2 0 2
        |-- 10.9.0.0
           /16 link UNICAST
Local:
     +-- 10.9.0.0/16 2 0 2
        |-- 10.9.0.7
           /32 host LOCAL
        |-- 10.9.255.255
           /32 link BROADCAST
     |-- 127.0.0.0
        /8 host LOCAL
     |-- 192.0.2.0
        /24 host LOCAL
";

    #[test]
    fn the_local_table_is_read() {
        let nets: Vec<String> = local_v4(TRIE).map(|net| net.to_string()).collect();
        assert_eq!(nets, ["10.9.0.7/32", "127.0.0.0/8", "192.0.2.0/24"]);
    }

    #[test]
    fn the_v6_list_is_read() {
        let text = "00000000000000000000000000000001 01 80 10 80       lo\n\
                    26001f00000000000000000000000007 02 40 00 80     eth0\nbroken line\n";
        let own: Vec<String> = local_v6(text).map(|own| own.to_string()).collect();
        assert_eq!(own, ["::1", "2600:1f00::7"]);
    }

    #[test]
    fn loopback_is_ours_and_a_public_resolver_is_not() {
        let system = SystemInterfaces;
        assert!(system.is_own("127.0.0.1".parse().unwrap()));
        assert!(!system.is_own("1.1.1.1".parse().unwrap()));
        assert!(!system.is_own("2606:4700:4700::1111".parse().unwrap()));
    }

    #[test]
    fn the_fallback_agrees() {
        assert!(binds("127.0.0.1".parse().unwrap()));
        assert!(!binds("1.1.1.1".parse().unwrap()));
    }
}
