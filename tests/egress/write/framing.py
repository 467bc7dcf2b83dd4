"""Where a message ends: bytes that two readers would cut in two places. Only the listener meets them; what leaves it is
nothing, or one well-formed request that says what the policy judged."""

from rows import NARROW, PLAIN, RAW, THIEF, add, refused, sees

CANNOT = {"cannot": RAW}
NOT_HTTP = refused("malformed_request")
URL = f"http://{PLAIN}/in"
SMUGGLED = f"GET http://{THIEF}/smuggled HTTP/1.1\r\nHost: {THIEF}\r\n\r\n"
HIDDEN = "GET /hidden HTTP/1.1\r\nHost: plain.example.com\r\n\r\n"


def raw(head, body="", method="POST", url=URL, version="HTTP/1.1", host=True):
    lines = [f"{method} {url} {version}", *([f"Host: {PLAIN}"] if host else []), *head]
    return {"raw": "\r\n".join(lines) + "\r\n<<auth>>\r\n" + body}


def row(family, what, reason, ask, expect):
    add("framing", family, what, reason, ask, expect, guest=CANNOT)


CODINGS = ["chunked", "Chunked", "CHUNKED", " chunked", "chunked ", "\tchunked", "chunked\t", "\x0bchunked", "chunked\x0b", "xchunked", "chunkedx",
           "chunked, identity", "identity, chunked", "gzip, chunked", "chunked, chunked", "chunked,", ",chunked", "\"chunked\"", "chunked;q=1",
           "identity", "", "gzip", "x", "chunk\x00ed", "chunke\u00d7"]


def both():
    chunks = f"0\r\n\r\n{HIDDEN}"
    for coding in CODINGS:
        te, cl = f"Transfer-Encoding: {coding}", f"Content-Length: {len(chunks)}"
        for what, head in [("before", [cl, te]), ("after", [te, cl])]:
            row("cl-te", f"Content-Length {what} Transfer-Encoding {coding!r}", "one reader takes the length, the next the coding: a second request hides in the body",
                raw(head, chunks), refused(["malformed_request", "framing_refused"]))
    for coding in CODINGS:
        te = f"Transfer-Encoding: {coding}"
        row("te", f"Transfer-Encoding {coding!r} alone", "a coding that one reader knows and the next does not", raw([te], chunks),
            {"refused": ["malformed_request", "framing_refused", "closed"], "or": sees("POST /in HTTP/1.1", PLAIN)})
    for name in ["Transfer-Encoding ", "Transfer-Encoding\t", " Transfer-Encoding", "Transfer_Encoding", "Transfer-Encoding\x00", "transfer-encodin\u0067\u00df", "Transfer Encoding", "Transfer-Encoding:"]:
        row("te-name", f"the field {name!r} beside Content-Length", "one reader repairs the name and the next does not",
            raw([f"{name}: chunked", f"Content-Length: {len(chunks)}"], chunks),
            refused(["malformed_request", "framing_refused"]))
    for one, two in [("chunked", "chunked"), ("chunked", "identity"), ("identity", "chunked"), ("chunked", "x"), ("x", "chunked"), ("", "chunked")]:
        row("te-twice", f"Transfer-Encoding {one!r} and {two!r}", "of two some take the first and some the last",
            raw([f"Transfer-Encoding: {one}", f"Transfer-Encoding: {two}"], chunks),
            refused(["malformed_request", "framing_refused"]))
    for version in ["HTTP/1.0"]:
        row("te", f"Transfer-Encoding in {version}", "HTTP/1.0 has no codings: an old reader goes on until the end",
            raw(["Transfer-Encoding: chunked"], chunks, version=version), {"refused": ["malformed_request", "framing_refused", "closed"], "or": sees("POST /in HTTP/1.1", PLAIN)})


def lengths():
    for one, two in [("5", "5"), ("5", "6"), ("6", "5"), ("0", "5"), ("5", "0"), ("5", ""), ("", "5"), ("5", "x"), ("5", "+5")]:
        row("cl-twice", f"Content-Length {one!r} and {two!r}", "of two some take the first and some the last",
            raw([f"Content-Length: {one}", f"Content-Length: {two}"], "hello" + HIDDEN), refused(["malformed_request", "framing_refused"]))
    for value in ["5, 5", "5,6", "5,", ",5", "+5", "-5", "-1", "0x5", "5 5", "05x", "5.0", "5e0", "five", "", " ", "\t", "5;", "\"5\"", "5\x0b", "5\x00", "\uff15", "5-5",
                  "18446744073709551615", "18446744073709551616", "18446744073709551621", "99999999999999999999999", "9223372036854775808", "4294967301x"]:
        row("cl", f"Content-Length {value!r}", "it is no plain number: readers trim, wrap, take the first, or go on without",
            raw([f"Content-Length: {value}"], "hello" + HIDDEN), refused(["malformed_request", "framing_refused"]))
    for name in ["Content-Length ", " Content-Length", "Content_Length", "Content-Length\x00", "Content Length", "C\u00f6ntent-Length"]:
        row("cl-name", f"the field {name!r}", "one reader repairs the name, the next sees no body and another request",
            raw([f"{name}: {len(SMUGGLED)}"], SMUGGLED), refused(["malformed_request", "framing_refused"]))
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"]:
        row("body", f"{method} with a body that looks like a request", "servers that expect none read it as the next request",
            raw([f"Content-Length: {len(HIDDEN)}"], HIDDEN, method=method), {"refused": ["malformed_request", "framing_refused"], "or": sees(f"{method} /in HTTP/1.1", PLAIN, body=HIDDEN)})
    row("body", "POST with length 0 and a request behind it", "what follows is a request of its own, judged like any other",
        raw(["Content-Length: 0"], SMUGGLED), {**sees("POST /in HTTP/1.1", PLAIN), "then": "refused"})
    row("body", "POST with no length and a request behind it", "without a length there is no body",
        raw([], SMUGGLED), {**sees("POST /in HTTP/1.1", PLAIN), "then": "refused"})


def lines():
    host = f"Host: {PLAIN}"
    for what, text in [
        ("bare LF after each line", f"GET {URL} HTTP/1.1\n{host}\n<<auth-lf>>\n"),
        ("bare LF after the request line", f"GET {URL} HTTP/1.1\n{host}\r\n<<auth>>\r\n"),
        ("bare LF after a field", f"GET {URL} HTTP/1.1\r\n{host}\nX-A: b\r\n<<auth>>\r\n"),
        ("bare LF as the empty line", f"GET {URL} HTTP/1.1\r\n{host}\r\n<<auth>>\n"),
        ("bare CR after each line", f"GET {URL} HTTP/1.1\r{host}\r<<auth>>\r\r\n\r\n"),
        ("bare CR inside a value", f"GET {URL} HTTP/1.1\r\n{host}\r\nX-A: b\rX-B: c\r\n<<auth>>\r\n"),
        ("bare CR before the colon", f"GET {URL} HTTP/1.1\r\n{host}\r\nX-A\r: b\r\n<<auth>>\r\n"),
        ("CR CR LF", f"GET {URL} HTTP/1.1\r\r\n{host}\r\n<<auth>>\r\n"),
        ("LF CR", f"GET {URL} HTTP/1.1\n\r{host}\n\r<<auth>>\n\r\n\r"),
        ("a folded value", f"GET {URL} HTTP/1.1\r\n{host}\r\nX-A: b\r\n c\r\n<<auth>>\r\n"),
        ("a value folded with a tab", f"GET {URL} HTTP/1.1\r\n{host}\r\nX-A: b\r\n\tc\r\n<<auth>>\r\n"),
        ("a folded Host", f"GET {URL} HTTP/1.1\r\nHost:\r\n {PLAIN}\r\n<<auth>>\r\n"),
        ("a fold before the first field", f"GET {URL} HTTP/1.1\r\n {host}\r\n{host}\r\n<<auth>>\r\n"),
        ("a folded Transfer-Encoding", f"POST {URL} HTTP/1.1\r\n{host}\r\nTransfer-Encoding:\r\n chunked\r\n<<auth>>\r\n0\r\n\r\n"),
        ("a folded Content-Length", f"POST {URL} HTTP/1.1\r\n{host}\r\nContent-Length:\r\n 0\r\n<<auth>>\r\n"),
        ("a space before the colon", f"GET {URL} HTTP/1.1\r\n{host}\r\nX-A : b\r\n<<auth>>\r\n"),
        ("a space before Host's colon", f"GET {URL} HTTP/1.1\r\nHost : {PLAIN}\r\n<<auth>>\r\n"),
        ("a tab before the colon", f"GET {URL} HTTP/1.1\r\n{host}\r\nX-A\t: b\r\n<<auth>>\r\n"),
        ("no colon", f"GET {URL} HTTP/1.1\r\n{host}\r\nX-A\r\n<<auth>>\r\n"),
        ("no name", f"GET {URL} HTTP/1.1\r\n{host}\r\n: b\r\n<<auth>>\r\n"),
        ("a space in a name", f"GET {URL} HTTP/1.1\r\n{host}\r\nX A: b\r\n<<auth>>\r\n"),
        ("parentheses in a name", f"GET {URL} HTTP/1.1\r\n{host}\r\nX(A): b\r\n<<auth>>\r\n"),
        ("a NUL in a name", f"GET {URL} HTTP/1.1\r\n{host}\r\nX\x00A: b\r\n<<auth>>\r\n"),
        ("a NUL in a value", f"GET {URL} HTTP/1.1\r\n{host}\r\nX-A: b\x00c\r\n<<auth>>\r\n"),
        ("a letter beyond ASCII in a name", f"GET {URL} HTTP/1.1\r\n{host}\r\nX-\u00e4: b\r\n<<auth>>\r\n"),
        ("an escape character in a value", f"GET {URL} HTTP/1.1\r\n{host}\r\nX-A: \x1b[2J\r\n<<auth>>\r\n"),
        ("DEL in a value", f"GET {URL} HTTP/1.1\r\n{host}\r\nX-A: \x7f\r\n<<auth>>\r\n"),
        ("a form feed as space", f"GET\x0c{URL}\x0cHTTP/1.1\r\n{host}\r\n<<auth>>\r\n"),
        ("a tab as space", f"GET\t{URL}\tHTTP/1.1\r\n{host}\r\n<<auth>>\r\n"),
        ("a space before the method", f" GET {URL} HTTP/1.1\r\n{host}\r\n<<auth>>\r\n"),
        ("a space after the version", f"GET {URL} HTTP/1.1 \r\n{host}\r\n<<auth>>\r\n"),
        ("three words and a fourth", f"GET {URL} x HTTP/1.1\r\n{host}\r\n<<auth>>\r\n"),
        ("no version", f"GET {URL}\r\n{host}\r\n<<auth>>\r\n"),
        ("nothing but a method", f"GET\r\n{host}\r\n<<auth>>\r\n"),
        ("HTTP/0.9", f"GET {URL}\r\n"),
        ("HTTP/1.2", f"GET {URL} HTTP/1.2\r\n{host}\r\n<<auth>>\r\n"),
        ("HTTP/2.0", f"GET {URL} HTTP/2.0\r\n{host}\r\n<<auth>>\r\n"),
        ("HTTP/11", f"GET {URL} HTTP/11\r\n{host}\r\n<<auth>>\r\n"),
        ("HTTP/1.10", f"GET {URL} HTTP/1.10\r\n{host}\r\n<<auth>>\r\n"),
        ("http/1.1", f"GET {URL} http/1.1\r\n{host}\r\n<<auth>>\r\n"),
        ("ICY/1.1", f"GET {URL} ICY/1.1\r\n{host}\r\n<<auth>>\r\n"),
        ("a byte order mark before", f"\u00ef\u00bb\u00bfGET {URL} HTTP/1.1\r\n{host}\r\n<<auth>>\r\n"),
        ("a status line", "HTTP/1.1 200 OK\r\n\r\n"),
        ("an HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
        ("a TLS hello", "\x16\x03\x01\x00\x2a\x01\x00\x00\x26\x03\x03" + "\x00" * 35),
        ("a SOCKS5 greeting", "\x05\x01\x00"),
        ("a SOCKS4 request", "\x04\x01\x00\x50\x7f\x00\x00\x01\x00"),
        ("a PROXY line", f"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET {URL} HTTP/1.1\r\n{host}\r\n<<auth>>\r\n"),
        ("NULs", "\x00" * 32 + "\r\n\r\n"),
        ("an SSH greeting", "SSH-2.0-x\r\n\r\n"),
        ("Host twice", f"GET {URL} HTTP/1.1\r\n{host}\r\n{host}\r\n<<auth>>\r\n"),
        ("two Hosts", f"GET {URL} HTTP/1.1\r\n{host}\r\nHost: {THIEF}\r\n<<auth>>\r\n"),
    ]:
        row("lines", what, "readers repair it in ways of their own, and see other fields or another end",
            {"raw": text}, refused(["malformed_request", "authority_conflict", "closed", "framing_refused", "version_refused"]))


def chunks():
    for what, body in [
        ("a size in another base", "0x5\r\nhello\r\n0\r\n\r\n"), ("a size with a sign", "+5\r\nhello\r\n0\r\n\r\n"), ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a size that wraps around 2^64", "10000000000000005\r\nhello\r\n0\r\n\r\n"), ("a size of 2^64-1", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("a size of many digits", "0" * 40 + "5\r\nhello\r\n0\r\n\r\n"), ("an empty size", "\r\nhello\r\n0\r\n\r\n"), ("a size that is no number", "x\r\nhello\r\n0\r\n\r\n"),
        ("a size with a space before", " 5\r\nhello\r\n0\r\n\r\n"), ("a size with a space inside", "5 5\r\nhello\r\n0\r\n\r\n"), ("a size with a NUL", "5\x00\r\nhello\r\n0\r\n\r\n"),
        ("a size with a bare LF", "5\nhello\r\n0\r\n\r\n"), ("a size with a bare CR", "5\rhello\r\n0\r\n\r\n"), ("an extension with a bare LF", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("an extension with a bare CR", "5;a\rb\r\nhello\r\n0\r\n\r\n"), ("an extension of 100,000 bytes", "5;" + "<<x*100000>>" + "\r\nhello\r\n0\r\n\r\n"),
        ("a chunk longer than its size", "4\r\nhello\r\n0\r\n\r\n"), ("a chunk shorter than its size", "6\r\nhello\r\n0\r\n\r\n"),
        ("no line end after a chunk", "5\r\nhello0\r\n\r\n"), ("a bare LF after a chunk", "5\r\nhello\n0\r\n\r\n"), ("two bytes after a chunk that are no line end", "5\r\nhelloXX0\r\n\r\n"),
        ("a last chunk without an end", "5\r\nhello\r\n0\r\n"), ("a last chunk in letters", "5\r\nhello\r\nzero\r\n\r\n"), ("nothing but a size", "5\r\n"),
        ("a trailer without a colon", "5\r\nhello\r\n0\r\nX-A\r\n\r\n"), ("a trailer of 200,000 bytes", "5\r\nhello\r\n0\r\nX-A: <<x*200000>>\r\n\r\n"),
        ("a trailer with a bare LF", "5\r\nhello\r\n0\r\nX-A: b\n\n"), ("a folded trailer", "5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n"),
    ]:
        for behind in ["", HIDDEN]:
            row("chunks", what + (" and a request behind it" if behind else ""), "readers of chunks differ in what they forgive, and then in where the next request begins",
                raw(["Transfer-Encoding: chunked"], body + behind),
                {"refused": "request_body_failed", "part": True})
    for field in ["Content-Length: 5", f"Host: {THIEF}", "Transfer-Encoding: chunked", "Authorization: Bearer x", "Connection: close", "X-Forwarded-For: 127.0.0.1", "Proxy-Authorization: Basic eA==", "Cookie: a=b"]:
        row("trailers", f"the trailer {field}", "a field that says how to read or whom to trust comes too late to be judged",
            raw(["Transfer-Encoding: chunked", "Trailer: " + field.split(":")[0]], f"5\r\nhello\r\n0\r\n{field}\r\n\r\n"),
            {"single": "POST /in HTTP/1.1", "no_trailer": field.split(":")[0].lower()})


def ends():
    for what, text in [("half a request line", "GET http://plain.exa"), ("a request line", f"GET {URL} HTTP/1.1\r\n"), ("half a head", f"GET {URL} HTTP/1.1\r\nHost: {PLAIN}\r\n<<auth>>"),
                       ("nothing", ""), ("one byte", "G"), ("a line end", "\r\n"), ("many line ends", "\r\n" * 500)]:
        row("early-end", f"the connection ends after {what}", "half a message is none", {"raw": text, "end": True}, refused(["closed", "malformed_request"]))
    for what, body in [("before the body", ""), ("inside the body", "hel")]:
        row("early-end", f"the connection ends {what}", "half a body must not look whole to the upstream",
            {**raw(["Content-Length: 5"], body), "end": True}, {"refused": ["closed", "malformed_request", "request_body_failed"], "part": True})
    row("early-end", "the connection ends inside a chunk", "half a body must not look whole to the upstream",
        {**raw(["Transfer-Encoding: chunked"], "5\r\nhel"), "end": True}, {"refused": ["closed", "malformed_request", "request_body_failed"], "part": True})
    for what, text in [("a request line of 200,000 bytes", f"GET http://{PLAIN}/<<x*200000>> HTTP/1.1\r\nHost: {PLAIN}\r\n<<auth>>\r\n"),
                       ("a field of 2,000,000 bytes", f"GET {URL} HTTP/1.1\r\nHost: {PLAIN}\r\nX-A: <<x*2000000>>\r\n<<auth>>\r\n"),
                       ("2,000 fields", f"GET {URL} HTTP/1.1\r\nHost: {PLAIN}\r\n<<fields*2000>><<auth>>\r\n"),
                       ("a field name of 100,000 bytes", f"GET {URL} HTTP/1.1\r\nHost: {PLAIN}\r\n<<x*100000>>: a\r\n<<auth>>\r\n"),
                       ("a method of 100,000 bytes", f"<<x*100000>> {URL} HTTP/1.1\r\nHost: {PLAIN}\r\n<<auth>>\r\n"),
                       ("1,000,000 bytes without a line end", "<<x*1000000>>"),
                       ("100,000 line ends", "<<crlf*100000>>")]:
        row("oversize", what, "a head is bounded before it is read whole", {"raw": text}, refused(["malformed_request", "headers_too_large", "closed", "url_too_long", "path_refused"]))
    for count, what in [(100, f"GET http://{THIEF}/ HTTP/1.1\r\nHost: {THIEF}\r\n<<auth>>\r\n"), (100, f"GET {URL} HTTP/1.1\r\nHost: {PLAIN}\r\n\r\n"), (200, f"CONNECT {THIEF}:443 HTTP/1.1\r\nHost: {THIEF}:443\r\n<<auth>>\r\n")]:
        row("flood", f"{count} times {what.splitlines()[0]} at once", "a flood is judged one by one, and none of it goes up", {"raw": what * count}, refused(["host_not_allowed", "proxy_authentication_required"]))
    allowed = f"GET {URL} HTTP/1.1\r\nHost: {PLAIN}\r\n<<auth>>\r\n"
    for what, second in [("one that nobody granted", SMUGGLED), ("one to this machine", "GET http://127.0.0.1:<<port>>/ HTTP/1.1\r\nHost: 127.0.0.1:<<port>>\r\n<<auth>>\r\n"),
                         ("one without a token", f"GET {URL} HTTP/1.1\r\nHost: {PLAIN}\r\n\r\n"), ("garbage", "\x00\x01\x02\r\n\r\n"), ("an origin form", HIDDEN),
                         ("CONNECT to this machine", "CONNECT 127.0.0.1:<<port>> HTTP/1.1\r\nHost: 127.0.0.1:<<port>>\r\n<<auth>>\r\n"),
                         ("a path outside of its rule", f"GET http://{NARROW}/user HTTP/1.1\r\nHost: {NARROW}\r\n<<auth>>\r\n")]:
        row("pipelined", f"behind a good request {what}", "each request of a connection is judged by itself", {"raw": allowed + second},
            {**sees("GET /in HTTP/1.1", PLAIN), "then": "refused"})
        row("pipelined", f"before a good request {what}", "a refusal must not shift what follows by a byte", {"raw": second + allowed},
            {"refused": ["malformed_request", "host_not_allowed", "ip_literal_refused", "proxy_authentication_required", "target_refused", "path_not_allowed", "scheme_not_allowed", "port_not_allowed", "closed"], "sent": True, "or": {"single": "GET /in HTTP/1.1"}})


def slowly():
    host = f"Host: {PLAIN}"
    for what, text in [
        ("a head", f"GET {URL} HTTP/1.1\r\n{host}\r\n<<auth>>\r\n"),
        ("a head with the token in front", f"GET {URL} HTTP/1.1\r\n<<auth>>{host}\r\n\r\n"),
        ("a head without an end", f"GET {URL} HTTP/1.1\r\n{host}\r\nX-A: " + "<<x*100>>"),
        ("empty lines before a head", "\r\n" * 60 + f"GET {URL} HTTP/1.1\r\n{host}\r\n<<auth>>\r\n"),
        ("a request line", f"GET {URL}?" + "<<x*100>>"),
        ("a tunnel's head", f"CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n<<auth>>\r\n"),
        ("an HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00" * 60),
    ]:
        row("slowly", f"{what}, a byte at a time", "whoever never ends a head would hold a connection, and all places together, for as long as they like",
            {"raw": text, "pace": 200}, refused(["closed", "malformed_request", "version_refused"]))


def prefaces():
    preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    for what, text in [
        ("with credentials", f"PRI * HTTP/2.0\r\n<<auth>>\r\nSM\r\n\r\n{settings}"),
        ("in absolute form", f"PRI {URL} HTTP/2.0\r\n<<auth>>\r\nSM\r\n\r\n{settings}"),
        ("of HTTP/1.1 with a body", f"PRI {URL} HTTP/1.1\r\nHost: {PLAIN}\r\n<<auth>>Content-Length: 6\r\n\r\nSM\r\n\r\n"),
        ("with bare line feeds", "PRI * HTTP/2.0\n\nSM\n\n" + settings),
        ("twice", preface + preface + settings),
        ("and a request", preface + f"GET {URL} HTTP/1.1\r\nHost: {PLAIN}\r\n<<auth>>\r\n"),
        ("in lower case", "pri * http/2.0\r\n\r\nsm\r\n\r\n" + settings),
    ]:
        row("preface", f"an HTTP/2 preface {what}", "a reader that changes the protocol would leave everything behind it unjudged",
            {"raw": text}, refused(["malformed_request", "method_refused", "target_refused", "version_refused", "closed"]))
    row("preface", "an HTTP/2 preface behind a request", "a reader that changes the protocol would leave everything behind it unjudged",
        raw([], preface + settings, method="GET"), {**sees("GET /in HTTP/1.1", PLAIN), "then": "refused"})


def write():
    both()
    lengths()
    lines()
    chunks()
    ends()
    slowly()
    prefaces()
