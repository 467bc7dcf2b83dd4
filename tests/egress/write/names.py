"""Names that look like granted ones, mean this machine, or are read in two ways."""

from rows import GRANTED, THIEF, add, refused, request

UNSENT = {"refused": "sandbox:authority"}
NOT_HTTP = {"refused": "malformed_request"}
NOT_A_NAME = refused("host_refused")
NOT_GRANTED = refused("host_not_allowed")
LOCAL = refused("name_refused")

LOCAL_NAMES = {
    "localhost": "it is this machine (RFC 6761)",
    "foo.localhost": "everything below localhost is this machine",
    "a.b.c.localhost": "everything below localhost is this machine",
    "localhost.localdomain": "an old hosts file has it as this machine",
    "printer.local": "multicast DNS asks the local network",
    "nas.home.local": "multicast DNS asks the local network",
    "db.internal": "private by reservation",
    "host.docker.internal": "the machine that the container runs on",
    "gateway.docker.internal": "the machine that the container runs on",
    "metadata.google.internal": "Google's metadata service",
    "instance-data.ec2.internal": "Amazon's metadata service",
    "kubernetes.default.svc.cluster.local": "the cluster's own API",
    "vault.service.internal": "private by reservation",
    "metadata.goog": "Google's metadata service under a public top-level domain",
    "x.metadata.goog": "below Google's metadata service",
    "router.home.arpa": "the home network (RFC 8375)",
    "expyuzz4wqqyqhjn.onion": "never resolved by the DNS (RFC 7686)",
    "metadata": "one label is resolved inside",
    "intranet": "one label is resolved inside",
    "wpad": "one label is resolved inside: the proxy's own configuration",
    "com": "one label is resolved inside",
    "kubernetes": "one label is resolved inside",
}


def local():
    for name, why in LOCAL_NAMES.items():
        for what, text in [("", name), (" in upper case", name.upper()), (" with a trailing dot", name + "."),
                           (" in mixed case with a dot and a port", name.title() + ".:<<port>>")]:
            add("name", "local", f"the name {name}{what}", why, request(text, scheme="http"), LOCAL)


def confusion():
    for text, why in [
        (f"{GRANTED}.evil.example", "the granted name is only the beginning"),
        (f"{GRANTED}.{THIEF}", "the granted name is only the beginning"),
        (f"{GRANTED}-evil.example", "the granted name is only the beginning"),
        (f"{GRANTED}evil.example", "the granted name is only the beginning"),
        (f"evil{GRANTED}", "the granted name is only the end"),
        (f"evil-{GRANTED}", "the granted name is only the end"),
        (f"x.{GRANTED}", "an exact rule is not about what lies below"),
        (f"_{GRANTED}", "an exact rule is about one name"),
        ("api-example.com", "a dash where the dot was"),
        ("api_example.com", "an underscore where the dot was"),
        ("apiexample.com", "no dot where one was"),
        ("api.example.co", "another top-level domain"),
        ("api.example.comm", "another top-level domain"),
        ("api.example.com.com", "another domain"),
        ("api.example.org", "another top-level domain"),
        ("api.examp1e.com", "a digit that looks like the letter"),
        ("api.exarnple.com", "two letters that look like one"),
        ("apl.example.com", "a letter that looks like another"),
        ("example.com", "the parent of a granted name"),
        ("www.example.com", "a sibling of a granted name"),
        ("com.example.api", "the labels backwards"),
        (THIEF, "nobody granted it"),
        ("api.openai.com.evil.example", "a provider's name is only the beginning"),
    ]:
        for scheme, port in [("https", ""), ("https", ":443"), ("http", ":<<port>>")]:
            add("name", "confusion", f"{scheme}://{text}{port} beside {GRANTED}", f"{why}: names are compared whole",
                request(text + port, scheme=scheme), NOT_GRANTED)
    for text, why in [
        ("wild.example.com", "a wildcard does not cover its own apex"),
        ("WILD.example.com.", "a wildcard does not cover its own apex, however spelled"),
        ("evilwild.example.com", "the suffix begins at a dot"),
        ("evil-wild.example.com", "the suffix begins at a dot"),
        ("wild.example.com.evil.example", "the suffix is at the end"),
        ("x.wild.example.com.evil.example", "the suffix is at the end"),
        ("x.wild.example.org", "another top-level domain"),
        ("xwild.example.com.", "the suffix begins at a dot"),
        ("x.wild-example.com", "a dash where the dot was"),
        ("x.wild.example.comx", "the suffix is at the end"),
    ]:
        add("name", "wildcard", f"{text} beside *.wild.example.com", why, request(text), NOT_GRANTED)
    for text in ["*.wild.example.com", "*", "*.com", "**.wild.example.com", "x.*.example.com", "a*.wild.example.com"]:
        add("name", "wildcard", f"{text} as a host", "a pattern is no name: matched as text it would be granted",
            request(text), NOT_A_NAME)


def dots():
    for text, why in [
        (f"{GRANTED}..", "only one trailing dot is the root"),
        (f".{GRANTED}", "an empty label"),
        ("api..example.com", "an empty label"),
        ("api.example..com", "an empty label"),
        (".", "nothing but the root"),
        ("..", "nothing but dots"),
        (".wild.example.com", "a wildcard's star stands for a label, not for nothing"),
        ("x..wild.example.com", "an empty label below a wildcard"),
        (".localhost", "an empty label before this machine"),
        ("localhost..", "two trailing dots after this machine"),
    ]:
        for port in ["", ":443"]:
            add("name", "dots", f"the host {text}{port}", f"{why}, which a resolver may take for another name", request(text + port), NOT_A_NAME)
    for text, why in [
        ("-api.example.com", "a label does not begin with a dash"),
        ("api-.example.com", "a label does not end with a dash"),
        (f"{'a' * 64}.wild.example.com", "a label has 63 characters at most"),
        (".".join(["a" * 60] * 4) + ".wild.example.com", "a name has 253 characters at most"),
        (".".join(["a"] * 130) + ".wild.example.com", "a name has 253 characters at most"),
        ("xn--.example.com", "an A-label that stands for nothing"),
        ("xn--a.example.com", "an A-label that decodes to nothing"),
        ("xn--api-.example.com", "an A-label that decodes to plain ASCII: a second spelling of a granted name"),
        ("xn--zzzzzzzzzzzz99999999.example.com", "an A-label that decodes to no character"),
        ("api.xn--example-.com", "an A-label that decodes to plain ASCII: a second spelling of a granted name"),
        ("ab--cd.example.com.xn--", "an A-label that stands for nothing"),
    ]:
        add("name", "labels", f"{text[:60]} ({len(text)} characters)", why, request(text), NOT_A_NAME)


def bytes_inside():
    for code in [0x00, 0x01, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0D, 0x1B, 0x20, 0x7F]:
        for text in [f"{GRANTED}{chr(code)}.evil.example", f"{THIEF}{chr(code)}.wild.example.com", f"{GRANTED}{chr(code)}"]:
            where = text.replace(chr(code), f"<{code:02x}>")
            add("name", "control", where, "C code cuts at it, logs break at it, resolvers disagree on it",
                request(text), NOT_HTTP, guest=UNSENT)
        add("name", "escape", f"{GRANTED}%{code:02x}.evil.example", "decoded, a cut or a break; a name holds no escapes",
            request(f"{GRANTED}%{code:02x}.evil.example"), NOT_HTTP, guest=UNSENT)
    for code, what in [(".", "a dot"), ("a", "a letter"), ("/", "a slash"), ("\\", "a backslash"), ("@", "an at sign"),
                       (":", "a colon"), ("#", "a number sign"), ("?", "a question mark"), ("%", "a percent sign"),
                       ("*", "a star")]:
        for text in [f"api%{ord(code):02x}example.com", f"{GRANTED}%{ord(code):02x}.evil.example", f"%{ord(code):02x}{GRANTED}"]:
            add("name", "escape", f"{text}: {what} escaped", "some parsers decode hosts, others do not",
                request(text), NOT_HTTP, guest=UNSENT)
    for text in ["%61pi.example.com", "api.exampl%65.com", "api.example.com%2e", "api%252eexample.com", "%6cocalhost",
                 "local%68ost", "metadata%2egoogle%2einternal", "api%2Eexample%2Ecom", "%2a.wild.example.com", "api.example.com%",
                 "api.example.com%2", "api.example.com%zz"]:
        add("name", "escape", text, "decoded it may be another name; a name holds no escapes",
            request(text), NOT_HTTP, guest=UNSENT)
    for code in ";,!$&'()+=~":
        for text in [f"{GRANTED}{code}{THIEF}", f"{THIEF}{code}{GRANTED}"]:
            add("name", "separator", text, "legal in an authority and in no name: parsers cut at it or do not",
                request(text), NOT_A_NAME)
    for code in "|\"<>{}^`\\":
        for text in [f"{GRANTED}{code}{THIEF}", f"{THIEF}{code}.wild.example.com"]:
            add("name", "separator", text, "no URL holds it: parsers cut at it, map it, or go on",
                request(text), NOT_HTTP, guest=UNSENT)


def users():
    for text in [f"user@{GRANTED}", f"user:password@{GRANTED}", f"@{GRANTED}", f":@{GRANTED}", f"{GRANTED}@{THIEF}",
                 f"{GRANTED}:443@{THIEF}", f"{GRANTED}%40{THIEF}@{GRANTED}", f"{THIEF}@{GRANTED}", f"a:b:c@{GRANTED}",
                 f"user@{THIEF}", f"127.0.0.1@{GRANTED}", f"{GRANTED}@127.0.0.1:<<port>>", f"{GRANTED}@localhost:<<port>>",
                 f"{GRANTED}:@{THIEF}:443", f"%00@{GRANTED}", f"{GRANTED}@[::1]:<<port>>"]:
        add("name", "user", text, "what is the host and what is the user is where parsers differ",
            request(text), refused("target_refused"), guest={"refused": "HttpRequestUriInvalid"})
    for text in [f"{GRANTED}@@{THIEF}", f"a@b@{GRANTED}", f"{GRANTED}@{THIEF}@{GRANTED}"]:
        add("name", "user", text, "with two at signs some take the first and some the last",
            request(text), refused("target_refused"), guest={"refused": "HttpRequestUriInvalid"})
    for text in [f"{GRANTED}\\@{THIEF}", f"{THIEF}\\@{GRANTED}", f"{THIEF}\\.{GRANTED}", f"{GRANTED}\\{THIEF}", f"\\\\{THIEF}",
                 f"{GRANTED}\\", f"{THIEF}:443\\@{GRANTED}"]:
        add("name", "backslash", text, "browsers read a backslash as a slash, libraries as part of the host",
            request(text), NOT_HTTP, guest=UNSENT)


HOMOGRAPHS = {
    "\u0430pi.example.com": "a Cyrillic a",
    "api.ex\u0430mple.com": "a Cyrillic a",
    "api.exampl\u0435.com": "a Cyrillic e",
    "\u0430\u0440\u0456.example.com": "three Cyrillic letters",
    "api.example.c\u043em": "a Cyrillic o in the top-level domain",
    "ap\u0131.example.com": "a dotless i",
    "api.examp\u04cfe.com": "a palochka for an l",
    "api.ex\u00e1mple.com": "an accent",
    "api.examp\u0142e.com": "a stroke",
    "\u03b1pi.example.com": "a Greek alpha",
    "api.e\u0445ample.com": "a Cyrillic kha for an x",
    "b\u00fccher.example.org": "a granted label in another domain",
    "bu\u0308cher.example.org": "the same, decomposed",
    "b\u00fcch\u0435r.example.com": "a granted internationalised name with a Cyrillic e",
    "b\u00fbcher.example.com": "a granted internationalised name with another accent",
    "bu\u0308ch\u00ebr.example.com": "a granted internationalised name with another accent",
    "api.exam\u03c1le.com": "a Greek rho for a p",
    "\u0585pi.example.com": "an Armenian oh",
    "api.\u0501xample.com": "a Komi de",
}


def homographs():
    for text, what in HOMOGRAPHS.items():
        labels = text.encode("idna").decode() if text.isascii() else ".".join(
            label if label.isascii() else label.encode("idna").decode() for label in text.split("."))
        add("name", "homograph", f"{labels}: {what}", "it looks the same and is another name: A-labels are compared byte by byte",
            request(labels), NOT_GRANTED)
        add("name", "homograph", f"{what}, as UTF-8: {text.encode('unicode_escape').decode()}",
            "a message's host is ASCII; who wants another name says its A-label",
            request(text), NOT_HTTP, guest=UNSENT)
    for text, what in [("\uff41pi.example.com", "a fullwidth a"), ("api\u3002example.com", "an ideographic full stop"),
                       ("api\uff0eexample\uff0ecom", "fullwidth full stops"), ("a\u00adpi.example.com", "a soft hyphen"),
                       ("a\u200bpi.example.com", "a zero-width space"), ("a\u200dpi.example.com", "a zero-width joiner"),
                       ("\u202eipa.example.com", "a right-to-left override"), ("api.example.com\u2024evil.example", "a one dot leader"),
                       ("api.example.com\u2044.evil.example", "a fraction slash"), ("api.example.com\uff0f.evil.example", "a fullwidth slash"),
                       ("api.example.com\uff20thief.example.org", "a fullwidth at sign"),
                       ("api.example.com\uff1a443", "a fullwidth colon"), ("\u2460.example.com", "a circled digit"),
                       ("\ufe52example.com", "a small full stop"), ("api.example.com\u0000", "a NUL"),
                       ("\u24d0pi.example.com", "a circled letter"), ("\u2100.example.com", "an account-of sign, which maps to a/c"),
                       ("evil.c\u2100.example.com", "an account-of sign, which maps to a/c"),
                       ("\u212apple.example.com", "a Kelvin sign"), ("fa\u00df.example.com", "a sharp s, two letters to some")]:
        add("name", "mapped", f"{what} in {text.encode('unicode_escape').decode()}",
            "compatibility mapping makes it another text than was judged", request(text), NOT_HTTP, guest=UNSENT)


def suffixes():
    for text in ["github.io", "evil.github.io", "co.uk", "evil.co.uk", "s3.amazonaws.com", "evil.s3.amazonaws.com",
                 "herokuapp.com", "evil.herokuapp.com", "blogspot.com", "pages.dev", "evil.pages.dev", "workers.dev",
                 "evil.workers.dev", "ngrok.io", "evil.ngrok-free.app", "cloudfront.net", "evil.vercel.app", "web.app"]:
        add("name", "public-suffix", text, "anybody can register below a public suffix; a rule for one name covers no other",
            request(text), NOT_GRANTED)


def write():
    local()
    confusion()
    dots()
    bytes_inside()
    users()
    homographs()
    suffixes()
