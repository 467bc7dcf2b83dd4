"""Requests that look like attacks and are none: every one goes through, and up goes exactly what it says."""

from rows import GRANTED, LOOKALIKES, NARROW, PLAIN, add, request, sees

IDN = "xn--bcher-kva.example.com"


def row(family, what, reason, ask, expect, **more):
    add("lookalike", family, what, reason, ask, expect, to=LOOKALIKES, **more)


def hosts():
    for text, host in [(GRANTED, GRANTED), (GRANTED.upper(), GRANTED), ("Api.Example.Com", GRANTED), (f"{GRANTED}.", GRANTED), (f"{GRANTED}:443", GRANTED), (f"{GRANTED}.:443", GRANTED),
                       (IDN, IDN), (IDN.upper(), IDN), (f"{IDN}.", IDN)]:
        row("host", text, "another spelling of a granted name", request(text), sees("GET / HTTP/1.1", host))
    for label in ["a", "1", "127-0-0-1", "localhost", "internal", "local", "metadata", "169-254-169-254", "0x7f", "2130706433", "xn--nxasmq6b", "a-b", "a--b", "_dmarc", "x_y", "www", "api.example", "a.b.c.d",
                  "com", "evil", "admin", "127", "10.0.0.1", "api-example-com", "co.uk", "github.io", "a" * 63]:
        row("label", f"{label[:40]}.wild.example.com", "below a granted wildcard a label may be anything", request(f"{label}.wild.example.com"), sees("GET / HTTP/1.1", f"{label}.wild.example.com"))
    for value in [GRANTED, GRANTED.upper(), f"{GRANTED}.", f"{GRANTED}:443", f"{GRANTED}.:443", f"  {GRANTED}\t"]:
        row("host-field", f"Host: {value!r}", "the same origin in another spelling", request(GRANTED, headers=[["host", value]]), sees("GET / HTTP/1.1", GRANTED),
            guest={"cannot": "wasi:http writes Host itself"})
    for port in ["", ":80"]:
        row("host", f"http://{PLAIN}{port}", "plain HTTP is granted for it", request(PLAIN + port, scheme="http"), sees("GET / HTTP/1.1", PLAIN))
    for spelled in ["HTTPS", "Https", "hTTps"]:
        row("scheme", f"{spelled}://{GRANTED}", "schemes have no case", request(GRANTED, scheme=spelled), sees("GET / HTTP/1.1", GRANTED), guest={"cannot": "wasi:http has a value of its own for https; text beside it is another scheme"})
    row("port", "ports.example.com:8443", "the port that the rule names", request("ports.example.com:8443"), sees("GET / HTTP/1.1", "ports.example.com:8443"))


def paths():
    for path in ["/.well-known/x", "/...", "/..a", "/a..", "/a...b", "/.a", "/a.", "/~user", "/a~b", "/-", "/_", "/a;b", "/a;b=c,d", "/a=b", "/a&b", "/a+b", "/a:b", "/@a", "/a@b", "/!$&'()*+,;=", "/%20", "/a%20b", "/%22", "/%25",
                 "/100%25", "/%25ab", "/%3Cx%3E", "/%7B%7D", "/%C3%A9", "/%E2%82%AC", "/%F0%9F%92%A9", "/%FF", "/localhost", "/127.0.0.1", "/http:/x", "/https:%3A", "/169.254.169.254/latest", "/trace", "/CONNECT", "/etc/passwd",
                 "/" + "a" * 4000, "/" + "a/" * 500 + "b", "/index.php", "/cgi-bin/x", "/a.b.c", "/0", "/null", "/undefined", "/%5B%5D", "/%3A", "/%40", "/a%2Cb", "/%7C", "/%5E", "/%60", "/%3D"]:
        row("path", f"the path {path[:60]}", "it is one path to every server", request(GRANTED, path), sees(f"GET {path} HTTP/1.1", GRANTED))
    for path in ["/?", "/?a", "/?a=b", "/?a=b&c=d", "/?a=b;c=d", "/?url=http://127.0.0.1/", "/?next=//evil.example", "/?q=../../etc/passwd", "/?q=%2e%2e%2f", "/?q=%00", "/?q=%0d%0a", "/?a=b=c", "/?&&&", "/?=", "/??", "/?a?b", "/?%",
                 "/?%zz", "/?q=a+b", "/?q=%25", "/?a[]=1&a[]=2", "/?q='or'1'='1", "/?" + "a" * 4000, "/a?b/../c", "/?q=\\", "/?q=|", "/?$(id)", "/?user@host", "/?host:443", "/a?//b"]:
        row("query", f"the target {path[:60]}", "a query is the upstream's own, as long as it ends no line", request(GRANTED, path), sees(f"GET {path} HTTP/1.1", GRANTED))
    for path in ["/repos/a", "/repos/a/b/c", "/repos/", "/repos/..a", "/repos/a..b", "/repos/...", "/repos/user", "/repos/repos", "/repos/%20", "/repos/a?x=/user", "/repos/a;b"]:
        row("bound", f"the path {path}", "it lies below /repos/", request(NARROW, path), sees(f"GET {path} HTTP/1.1", NARROW))


def fields():
    for name, value in [("accept", "*/*"), ("accept", "application/json;q=0.9, text/*;q=0.1"), ("user-agent", "curl/8.5.0"), ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) 127.0.0.1"), ("referer", "http://127.0.0.1/"),
                        ("origin", "http://localhost"), ("cookie", "a=b; c=d"), ("authorization", "Bearer sk-not-one-of-ours"), ("authorization", "Basic dXNlcjpwYXNz"), ("x-api-key", "orch_ph_not-a-placeholder"),
                        ("content-type", "application/json"), ("range", "bytes=0-99"), ("if-none-match", "\"x\""), ("accept-encoding", "gzip, br"), ("cache-control", "no-cache"), ("pragma", "no-cache"), ("dnt", "1"),
                        ("x-empty", ""), ("x-tabs", "a\tb"), ("x-colon", "a: b"), ("x-url", "http://169.254.169.254/latest/meta-data/"), ("x-json", "{\"a\":[1,2]}"), ("x-quote", "\"a\\\"b\""), ("x-percent", "%0d%0ax: y"),
                        ("x-long", "v" * 8000), ("x-http-method-override", "DELETE"), ("x-original-url", "/admin"), ("x-under_score", "v"), ("x-request-id", "4f2b"), ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
                        ("a", "b"), ("x-" + "n" * 200, "v"), ("sec-fetch-mode", "cors"), ("priority", "u=1, i"), ("early-data", "1"), ("idempotency-key", "x"), ("prefer", "respond-async"),
                        ("accept-language", "de-DE,de;q=0.9"), ("if-modified-since", "Sat, 29 Oct 1994 19:43:31 GMT")]:
        row("field", f"{name}: {value[:50]}", "an ordinary field to a host whose rule has no bounds", request(GRANTED, headers=[[name, value]]), sees("GET / HTTP/1.1", GRANTED, [[name, value]]))
    row("field", "one name twice", "a list may come in two lines", request(GRANTED, headers=[["accept", "a"], ["accept", "b"]]), sees("GET / HTTP/1.1", GRANTED, [["accept", "a"], ["accept", "b"]]))
    row("field", "97 fields", "many, and within the bound", request(GRANTED, headers=[[f"x-{n:03}", "v"] for n in range(97)]), sees("GET / HTTP/1.1", GRANTED, [[f"x-{n:03}", "v"] for n in range(97)]))


def bodies():
    for method in ["POST", "PUT", "PATCH", "DELETE"]:
        for what, body in [("JSON", '{"a":1}'), ("a request as text", "GET /admin HTTP/1.1\r\nHost: thief.example.org\r\n\r\n"), ("chunk sizes as text", "5\r\nhello\r\n0\r\n\r\n"), ("line breaks", "\r\n\r\n\r\n"), ("64 KiB", "<<x*65536>>")]:
            row("body", f"{method} with {what} as body", "a body is bytes, and its length says where it ends", request(GRANTED, method=method, body=body), sees(f"{method} / HTTP/1.1", GRANTED, body=body))
    for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "PROPFIND", "REPORT", "M-SEARCH", "QUERY"]:
        row("method", f"{method} without a body", "any method that a rule without bounds covers", request(GRANTED, method=method), sees(f"{method} / HTTP/1.1", GRANTED))


def tunnels():
    """Only the listener has them: what goes through is TLS to the name that was said."""
    cannot = {"cannot": "the sandbox has no CONNECT: wasi:http opens no tunnels"}
    for host in [GRANTED, "a.wild.example.com", "x.y.wild.example.com", IDN, f"{GRANTED.upper()}"]:
        for split in [None, "bytes", "records", "tiny"]:
            row("tunnel", f"CONNECT {host}:443, hello {split or 'whole'}", "TLS to the name of the tunnel, however the hello is cut",
                {"connect": {"authority": f"{host}:443", "sni": host.lower(), **({"split": split} if split else {}), "ask": "GET /t HTTP/1.1"}}, sees("GET /t HTTP/1.1", host.lower()), guest=cannot)


def write():
    hosts()
    paths()
    fields()
    bodies()
    tunnels()
