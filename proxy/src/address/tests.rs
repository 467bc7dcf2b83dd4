use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The prefixes of the specification, written down a second time so that a row cannot get lost.
const SPECIFIED: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "168.63.129.16/32",
    "100.100.100.200/32",
    "192.0.0.192/32",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "::/128",
    "::1/128",
    "::/96",
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "5f00::/16",
    "ff00::/8",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
    "fd00:c1::a9fe:a9fe/128",
    "fd00:42::42/128",
];

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

fn beside(ip: IpAddr, step: i128) -> Option<IpAddr> {
    let number = number(ip).checked_add_signed(step)?;
    match ip {
        IpAddr::V4(_) => u32::try_from(number).ok().map(|n| IpAddr::V4(Ipv4Addr::from(n))),
        IpAddr::V6(_) => Some(IpAddr::V6(Ipv6Addr::from(number))),
    }
}

#[test]
fn the_specified_prefixes_are_all_rows() {
    for prefix in SPECIFIED {
        let prefix: IpNet = prefix.parse().unwrap();
        assert!(table::rows().iter().any(|row| row.prefix == prefix), "{prefix} has no row");
    }
}

#[test]
fn every_row_refuses_from_its_first_address_to_its_last() {
    for row in table::rows() {
        let (first, last) = (row.prefix.network(), row.prefix.broadcast());
        for address in [first, last] {
            // The catch-all's last address lies in a narrower row, its first too: any row will do.
            assert!(judge(address).is_err(), "{address} of {} passes", row.prefix);
        }
        for outside in [beside(first, -1), beside(last, 1)].into_iter().flatten() {
            let others = table::rows().iter().any(|other| {
                other.prefix.contains(&outside)
                    && (other.prefix.prefix_len() > 0 || u128::from_be_bytes(v6_octets(outside)) >> 125 != 1)
            });
            assert_eq!(judge(outside).is_err(), others, "{outside}, just outside of {}", row.prefix);
        }
        assert!(row.reason.len() > 10, "{} has no reason", row.prefix);
    }
}

fn v6_octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[test]
fn public_addresses_pass() {
    for address in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "128.0.0.1",
        "168.63.129.15",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.1",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2000::1",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2003::1",
        "2606:4700::1111",
        "2a00:1450::1",
        "3ffe::1",
        "3fff:1000::1",
    ] {
        assert_eq!(judge(ip(address)), Ok(()), "{address}");
    }
}

#[test]
fn outside_of_global_unicast_everything_is_refused() {
    for address in ["4000::1", "1fff::1", "8000::", "e000::1", "200::1", "1::1", "fe00::1"] {
        assert!(
            matches!(judge(ip(address)), Err(BadAddress::Table { prefix, .. }) if prefix.prefix_len() == 0),
            "{address}"
        );
    }
}

#[test]
fn an_embedded_address_is_named_in_the_refusal() {
    for (address, inside) in [
        ("::ffff:169.254.169.254", "169.254.169.254"),
        ("64:ff9b::10.0.0.1", "10.0.0.1"),
        ("2002:7f00:1::", "127.0.0.1"),
        ("2001:0:1:1:0:0:80ff:fffe", "127.0.0.1"),
        ("2a00::5efe:192.168.1.1", "192.168.1.1"),
    ] {
        assert!(
            matches!(judge(ip(address)), Err(BadAddress::Inner { inner, .. }) if inner == ip(inside)),
            "{address}: {:?}",
            judge(ip(address))
        );
    }
    // A good address inside does not make the spelling good.
    for address in ["::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:101:101::", "::1.1.1.1"] {
        assert!(
            matches!(judge(ip(address)), Err(BadAddress::Table { class: Class::Embedded, .. })),
            "{address}: {:?}",
            judge(ip(address))
        );
    }
}

fn guard(own: &[&str]) -> Guard {
    let own: Vec<IpNet> = own.iter().map(|net| net.parse().unwrap()).collect();
    Guard::new(Box::new(own))
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn a_pin_reaches_private_and_loopback_and_nothing_else_special() {
    let guard = guard(&["192.168.1.5/32"]);
    for good in [
        "127.0.0.1:1",
        "127.9.9.9:1",
        "10.0.0.5:1",
        "172.16.3.4:1",
        "192.168.1.5:1",
        "100.64.0.1:1",
        "[::1]:1",
        "[fd12::1]:1",
        "1.1.1.1:1",
        "[2606:4700::1]:1",
    ] {
        assert_eq!(guard.check(at(good), Reach::Pinned).map(CheckedAddr::get), Ok(at(good)));
    }
    for bad in [
        "169.254.169.254:1",
        "169.254.1.1:1",
        "100.100.100.200:1",
        "168.63.129.16:1",
        "192.0.0.192:1",
        "[fe80::1]:1",
        "[fd00:ec2::254]:1",
        "[fd00:ec2::23]:1",
        "[fd20:ce::254]:1",
        "[fd00:c1::a9fe:a9fe]:1",
        "[fd00:42::42]:1",
        "0.0.0.0:1",
        "0.1.2.3:1",
        "[::]:1",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "[ff02::1]:1",
        "[::ffff:127.0.0.1]:1",
        "[::ffff:169.254.169.254]:1",
        "[::127.0.0.1]:1",
        "[64:ff9b::a9fe:a9fe]:1",
        "[2002:a9fe:a9fe::]:1",
        "[2a00::5efe:169.254.169.254]:1",
        "[fec0::1]:1",
        "[4000::1]:1",
    ] {
        assert!(guard.check(at(bad), Reach::Pinned).is_err(), "{bad} could be pinned");
        assert!(guard.check(at(bad), Reach::Public).is_err(), "{bad} is public");
    }
}

#[test]
fn this_machines_public_address_is_refused_to_guests() {
    let guard = guard(&["81.2.69.160/32", "2a02:1::5/128"]);
    assert_eq!(guard.check(at("81.2.69.160:443"), Reach::Public), Err(BadAddress::OwnInterface));
    assert_eq!(guard.check(at("[2a02:1::5]:443"), Reach::Public), Err(BadAddress::OwnInterface));
    assert!(guard.check(at("81.2.69.161:443"), Reach::Public).is_ok());
}

#[test]
fn own_listeners_are_refused_even_to_pins() {
    let guard = guard(&["10.0.0.5/32"]);
    let exact = guard.listeners().register(at("127.0.0.1:7001"));
    let _any = guard.listeners().register(at("0.0.0.0:7002"));
    let _any6 = guard.listeners().register(at("[::]:7003"));
    for own in
        ["127.0.0.1:7001", "127.0.0.9:7002", "10.0.0.5:7002", "[::1]:7003", "10.0.0.5:7003", "127.0.0.1:7003"]
    {
        assert_eq!(guard.check(at(own), Reach::Pinned), Err(BadAddress::OwnListener), "{own}");
    }
    for other in ["127.0.0.1:7004", "127.0.0.2:7001", "10.0.0.6:7002"] {
        assert!(guard.check(at(other), Reach::Pinned).is_ok(), "{other}");
    }
    let again = guard.listeners().register(at("127.0.0.1:7001"));
    drop(exact);
    assert!(guard.check(at("127.0.0.1:7001"), Reach::Pinned).is_err());
    drop(again);
    assert!(guard.check(at("127.0.0.1:7001"), Reach::Pinned).is_ok());
}

#[test]
fn one_bad_answer_refuses_the_name_in_any_order() {
    let guard = guard(&[]);
    let good = [ip("1.1.1.1"), ip("2606:4700::1")];
    assert_eq!(guard.check_all("a.example", good.to_vec(), 443, Reach::Public).unwrap().len(), 2);
    for position in 0..=good.len() {
        let mut mixed = good.to_vec();
        mixed.insert(position, ip("10.0.0.1"));
        let error = guard.check_all("a.example", mixed, 443, Reach::Public).unwrap_err();
        assert_eq!(error.code(), "address_refused");
    }
    assert!(guard.check_all("a.example", Vec::new(), 443, Reach::Public).is_err());
    let giant = (0..40).map(|n| IpAddr::V4(Ipv4Addr::new(1, 1, 1, n))).collect();
    assert!(guard.check_all("a.example", giant, 443, Reach::Public).is_err());
}
