//! IPv4 addresses in IPv6 spellings: what packets to the outer address would reach.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The IPv4 address inside, for every form that a kernel, a translator or a tunnel gives that meaning.
pub(super) fn inner(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let o = address.octets();
    let last = Ipv4Addr::new(o[12], o[13], o[14], o[15]);
    match s {
        // Unspecified and loopback lie in the compatible range, and are themselves.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // Compatible (::a.b.c.d), mapped (::ffff:a.b.c.d), translated (::ffff:0:a.b.c.d).
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => Some(last),
        // NAT64, well-known prefix.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(last),
        // NAT64, local-use /48: the address stands around octet 8, which is reserved (RFC 6052, section 2.2). Operators
        // carve longer prefixes from it, of which a /96 is the common one.
        [0x64, 0xff9b, 1, ..] => Some(if s[3] == 0 && s[4] == 0 && s[5] == 0 {
            last
        } else {
            Ipv4Addr::new(o[6], o[7], o[9], o[10])
        }),
        // Teredo: the client's address, inverted.
        [0x2001, 0, ..] => Some(Ipv4Addr::new(!o[12], !o[13], !o[14], !o[15])),
        // 6to4.
        [0x2002, ..] => Some(Ipv4Addr::new(o[2], o[3], o[4], o[5])),
        // ISATAP identifiers, under any prefix (RFC 5214, section 6.1).
        [_, _, _, _, 0 | 0x0200, 0x5efe, ..] => Some(last),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_unwrapped() {
        let rows = [
            ("::", None),
            ("::1", None),
            ("::2", Some("0.0.0.2")),
            ("::127.0.0.1", Some("127.0.0.1")),
            ("::ffff:10.0.0.1", Some("10.0.0.1")),
            ("::ffff:7f00:1", Some("127.0.0.1")),
            ("::ffff:0:169.254.169.254", Some("169.254.169.254")),
            ("64:ff9b::a9fe:a9fe", Some("169.254.169.254")),
            ("64:ff9b:1::192.168.0.1", Some("192.168.0.1")),
            ("64:ff9b:1:c0a8:1:200::", Some("192.168.1.2")),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Some("192.0.2.45")),
            ("2002:7f00:1::", Some("127.0.0.1")),
            ("2002:c0a8:101::1", Some("192.168.1.1")),
            ("2600:1f00::5efe:10.1.2.3", Some("10.1.2.3")),
            ("2600:1f00::200:5efe:10.1.2.3", Some("10.1.2.3")),
            ("2606:4700::1111", None),
            ("fe80::1", None),
        ];
        for (outer, expected) in rows {
            let got = inner(outer.parse().unwrap());
            assert_eq!(got, expected.map(|text| text.parse().unwrap()), "{outer}");
        }
    }
}
