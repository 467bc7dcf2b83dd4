"""One authority, one method, one path: requests that say several, and tunnels that lead elsewhere than they said."""

from addresses import V4, V6, ends
from rows import GRANTED, NARROW, PLAIN, RAW, THIEF, TUNNEL, add, refused, request, sees

UNSENT = {"refused": "sandbox:authority"}
NO_HOST = {"refused": "sandbox:set of headers"}
NOT_HTTP = refused("malformed_request")
CONFLICT = refused("authority_conflict")


def get(target, *fields, method="GET", version="HTTP/1.1"):
    """A raw request without a body; the harness adds who the client is."""
    return {"raw": "".join([f"{method} {target} {version}\r\n", *[f"{field}\r\n" for field in fields], "<<auth>>\r\n"])}


def hosts():
    for value, why in [
        (THIEF, "the upstream routes by Host, the policy by the target"),
        (f"{GRANTED}:8443", "another port is another origin"),
        (f"{GRANTED}:80", "another port is another origin"),
        ("localhost", "the upstream's own virtual host"),
        ("127.0.0.1", "an address is no name"),
        ("169.254.169.254", "an address is no name"),
        ("[::1]", "an address is no name"),
        ("", "no host at all"),
        (f"{GRANTED}, {THIEF}", "a list: some take the first, some the last"),
        (f"{GRANTED} {THIEF}", "two words"),
        (f"{GRANTED}\t", "a name with a tab is trimmed here and not there"),
        (f"user@{GRANTED}", "user information has no place in Host"),
        (f"{THIEF}@{GRANTED}", "user information has no place in Host"),
        (f"https://{GRANTED}", "a URL is no host"),
        (f"{GRANTED}/", "a path is no host"),
        (f"{GRANTED}/../{THIEF}", "a path is no host"),
        (f"{GRANTED}?x", "a query is no host"),
        (f"{GRANTED}#x", "a fragment is no host"),
        (f"{GRANTED}\\{THIEF}", "a backslash is a slash to some"),
        (f"{GRANTED}:443:443", "two ports"),
        (f"{GRANTED}:", "an empty port"),
        (f"{GRANTED}:0443x", "a port that is no number"),
        (f"{GRANTED}..", "two trailing dots"),
        (f"x.{GRANTED}", "another name"),
        (f"{GRANTED}.evil.example", "another name"),
        ("xn--pi-7iae.example.com", "a homograph"),
        ("narrow.example.com", "another granted host, with other bounds"),
        (f"{GRANTED}%00", "an escape is no host"),
        (f"{GRANTED};x", "a parameter is no host"),
    ]:
        ask = request(GRANTED, headers=[["host", value]])
        same = value.strip() == GRANTED
        expect = sees("GET / HTTP/1.1", GRANTED) if same else CONFLICT
        add("request", "host", f"Host: {value!r} beside https://{GRANTED}/", f"{why}: it has to be the origin of the target and nothing else", ask, expect, guest=NO_HOST)
    for values in [(GRANTED, GRANTED), (GRANTED, THIEF), (THIEF, GRANTED), (THIEF, THIEF), (GRANTED, ""), ("", GRANTED),
                   (GRANTED, GRANTED.upper())]:
        ask = request(GRANTED, headers=[["host", value] for value in values])
        add("request", "host-twice", f"Host: {' and '.join(map(repr, values))}", "of two some take the first and some the last",
            ask, CONFLICT, guest=NO_HOST)
    for name in ["x-forwarded-host", "x-host", "x-original-host", "forwarded", "x-forwarded-server", "x-forwarded-proto",
                 "x-forwarded-port", "x-forwarded-for", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "true-client-ip",
                 "cf-connecting-ip", "fastly-client-ip", "via"]:
        value = "for=127.0.0.1;host=thief.example.org" if name == "forwarded" else "1.1 thief" if name == "via" else THIEF
        kept = [[name, value]] if name in ("x-host", "x-original-host") else []
        why = "it is the upstream's own business" if kept else "a claim about who is asking would be taken for the proxy's word"
        add("request", "claims", f"{name}: {value}", why, request(GRANTED, headers=[[name, value]]),
            sees("GET / HTTP/1.1", GRANTED, kept))
    for name in ["orch-authority", "orch-scheme", "orch-token", "orch-run", "orch-refusal", "ORCH-Authority"]:
        add("request", "claims", f"{name}: {THIEF}", "fields between worker and broker are not a guest's to write",
            request(GRANTED, headers=[[name, THIEF]]), sees("GET / HTTP/1.1", GRANTED))


def methods():
    for method in ["TRACE", "trace", "Trace", "TRACK", "track", "DEBUG", "debug"]:
        for host in [GRANTED, NARROW]:
            add("request", "method", f"{method} to {host}", "it echoes the request, credentials among it",
                request(host, "/repos/x", method=method), refused("method_refused"))
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "get", "Get", "PROPFIND", "PURGE", "GETX", "XGET", "M-SEARCH"]:
        add("request", "method", f"{method} where GET is granted", "a method is a word of its own, in its own case",
            request(NARROW, "/repos/x", method=method), refused("denied" if method == "HEAD" else "method_not_allowed"))
    for method in ["GET ", " GET", "GET\t", "GET\r\nx: y", "G(T", "GET/", "", "GET,POST", "G\x00T", "G\u00c9T", "GET:", "\"GET\""]:
        add("request", "method", f"the method {method!r}", "it is no token (RFC 9110): the line would be read in two ways",
            request(NARROW, "/repos/x", method=method), NOT_HTTP, guest={"refused": "sandbox:method"})
    for name in ["x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url"]:
        for spelled in [name, name.replace("-", "_"), name.upper(), name.replace("-", "_", 1)]:
            value = "/admin" if name.endswith("url") else "DELETE"
            add("request", "override", f"{spelled}: {value} where GET /repos/** is granted",
                "frameworks believe it more than the request line, CGI makes _ and - the same",
                request(NARROW, "/repos/x", headers=[[spelled, value]]), refused("override_header_refused"))


def paths():
    outside = refused("path_not_allowed")
    for path in ["/user", "/", "/repos", "/reposx/a", "/Repos/a", "/REPOS/a", "/x/repos/a", "/repo/a", "/.repos/a", "/repos../a",
                 "/repos/../user", "/repos/./../user", "/repos/a/../../user", "/repos/%2e%2e/user", "/repos/%2E%2e/user",
                 "/repos/.%2e/user", "/repos/%2e./user", "//user", "/./user", "/repos//../user", "/repos/../repos/../user",
                 "/repos/a/b/c/../../../../user", "/repos/..", "/repos/a/../..", "/%72epos/../user", "/user?/repos/x",
                 "/user?x=/repos/../repos/", "/repos%20/a", "/repos;x/a", "/repos;/a", "/repos%3b/a", "/%20repos/a", "/repos%c0%af/a",
                 "/user%23/repos/a", "/repos%3f/a", "/user/%72epos/a", "/r%c3%a9pos/a", "/repos%00".replace("%00", "%20") + "x/a"]:
        add("request", "path", f"{path} where /repos/** is granted", "judged is what the upstream's router will see",
            request(NARROW, path), outside)
    ambiguous = refused("path_refused")
    for path in ["/repos/..%2fuser", "/repos/%2e%2e%2fuser", "/repos%2f..%2fuser", "/repos/a%2f..%2f..%2fuser", "/repos/a%5c..%5cuser",
                 "/repos/%252e%252e/user", "/repos/%252e./user", "/repos/%25%32%65%25%32%65/user", "/repos/%252fuser", "/repos/%255cuser",
                 "/repos/..;/user", "/repos/..;x=y/user", "/repos/%2e%2e;/user", "/repos/..%3b/user", "/repos/.;/..;/user", "/../user",
                 "/repos/../../user", "/%2e%2e/user", "/repos/%00/user", "/repos/a%0d%0aHost:%20x", "/repos/%0a", "/repos/%09x", "/repos/%1b[31m",
                 "/repos/%7f", "/repos/%", "/repos/%2", "/repos/%zz", "/repos/%2x", "/repos/a%", "/repos/%u002e%u002e/user",
                 "/repos/%2e%2e%5cuser", "/repos%5c..%5cuser", "/repos/%%32%65", "/repos/%25252e%25252e/user", "/repos/a%2fb", "/repos/%2F"]:
        add("request", "path", f"{path} where /repos/** is granted", "two servers read it as two paths, so it is read by none",
            request(NARROW, path), ambiguous)
    for path in ["/repos/\\..\\user", "/repos\\user", "/repos/a\\..\\..\\user"]:
        add("request", "path", f"{path} where /repos/** is granted", "a backslash is a slash to some",
            request(NARROW, path), NOT_HTTP, guest={"refused": ["path_refused", "sandbox:path"]})
    for path in ["/repos/a b", "/repos/\t", "/repos/\x00", "/repos/\x7f", "/repos/a\r\nx: y", "/repos/\x1b[2J"]:
        add("request", "path", f"{path!r} as a path", "a space or a control character ends the request line, or is cut",
            request(NARROW, path), NOT_HTTP, guest={"refused": "sandbox:path"})
    for path, seen in [("/repos/%2561", "/repos/%2561"), ("/repos/%41", "/repos/A"), ("/repos//a///b", "/repos/a/b"),
                       ("/repos/./a/.", "/repos/a/"), ("/repos/a/../b", "/repos/b"), ("/repos/%c3%a9", "/repos/%C3%A9"),
                       ("/repos/a;b=c", "/repos/a;b=c"), ("/repos/x%20y", "/repos/x%20y"), ("/%72epos/a", "/repos/a"),
                       ("/repos/%c0%ae%c0%ae/user", "/repos/%C0%AE%C0%AE/user"), ("/repos/.../user", "/repos/.../user"),
                       ("/repos/a?../../user", "/repos/a?../../user"), ("/repos/a?%00", "/repos/a?%00"), ("/x/../repos/a", "/repos/a")]:
        add("request", "canonical", f"{path} where /repos/** is granted", "what was judged goes up, byte for byte, and nothing else",
            request(NARROW, path), sees(f"GET {seen} HTTP/1.1", NARROW))
    for path in ["/user#/repos/a", "/repos/../user#x", "/user#", "/#/repos/a"]:
        add("request", "fragment", f"{path} where /repos/** is granted", "a fragment never leaves a client; some servers read it as path",
            get(f"https://{NARROW}{path}", f"Host: {NARROW}"), refused(["path_not_allowed", "malformed_request", "path_refused", "target_refused"]),
            guest={"cannot": "the SDK cuts fragments off before wasi:http sees them"})


def ports():
    for port in ["80", "8080", "8443", "22", "25", "6379", "11211", "1", "65535", "44", "4430", "<<port>>"]:
        add("request", "port", f"https://{GRANTED}:{port}", "a rule is about one port",
            request(f"{GRANTED}:{port}"), refused("port_not_allowed"))
    for port in ["0", "65536", "99999", "4294967739", "18446744073709551616", "", "+443", "-443", "443x", "0x1bb", "4_43", "443,80", "0443", "000443",
                 "00000", "1e3"]:
        add("request", "port", f"https://{GRANTED}:{port}", "it is no number from 1 to 65535: parsers cut, wrap, or default it",
            request(f"{GRANTED}:{port}"), refused(["target_refused", "malformed_request"]),
            guest={"refused": ["target_refused", "sandbox:authority"]})
    for port in ["443:443", "443:80", " 443", "443 ", "4\u06643", "\uff14\uff14\uff13", "443\\", "443%00"]:
        add("request", "port", f"https://{GRANTED}:{port!r}", "it is no number from 1 to 65535: parsers cut, wrap, or default it",
            request(f"{GRANTED}:{port}", path="/"), NOT_HTTP,
            guest={"refused": ["sandbox:authority", "target_refused", "sandbox:path", "path_refused"]})
    for scheme in ["ftp", "file", "gopher", "ws", "wss", "data", "javascript", "dict", "ldap", "sftp", "tftp", "jar", "h2c", "http+unix",
                   "httpss", "about", "blob", "view-source"]:
        add("request", "scheme", f"{scheme}://{GRANTED}/", "a client that speaks it reaches what HTTP cannot",
            request(GRANTED, scheme=scheme), refused("scheme_refused"), guest={"refused": "protocol_error"})
    for host, scheme in [(GRANTED, "http"), (PLAIN, "https"), (NARROW, "http")]:
        add("request", "scheme", f"{scheme}://{host} where the other scheme is granted", "TLS or not is part of the rule",
            request(host, "/repos/x", scheme=scheme), refused(["scheme_not_allowed", "port_not_allowed"]),
            listener=sees("GET /repos/x HTTP/1.1", host) if scheme == "http" else None)


def fields():
    for field, why in [(("upgrade", "websocket"), "a tunnel through the policy"), (("upgrade", "h2c"), "a second protocol on the connection"),
                       (("upgrade", "TLS/1.0"), "a second protocol on the connection"), (("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"), "an upgrade to HTTP/2 in disguise")]:
        for connection in [None, "Upgrade", "Upgrade, HTTP2-Settings", "keep-alive"]:
            pairs = [list(field)] + ([["connection", connection]] if connection else [])
            add("request", "upgrade", f"{field[0]}: {field[1]}" + (f" with Connection: {connection}" if connection else ""), why,
                request(GRANTED, headers=pairs), refused("upgrade_refused"), guest=NO_HOST)
    for name, value, sandbox in [("te", "trailers", False), ("keep-alive", "timeout=5", True), ("proxy-connection", "keep-alive", True),
                                 ("proxy-authenticate", "Basic", True), ("expect", "100-continue", False), ("proxy", "http://evil.example", False),
                                 ("proxy-status", "x", False), ("alt-used", "thief.example.org", False)]:
        kept = [[name, value]] if name in ("proxy", "alt-used") else []
        add("request", "hop", f"{name}: {value}", "it is about one hop and not for the upstream" if not kept else "a plain field, as httpoxy's victims read it: not about this connection",
            request(GRANTED, headers=[[name, value]]), sees("GET / HTTP/1.1", GRANTED, kept), guest=NO_HOST if sandbox else None)
    for named in ["x-secret-check", "authorization", "cookie", "host", "content-length", "x-forwarded-for, close", "close, authorization", ", ,x-a,,"]:
        add("request", "hop", f"Connection: {named}", "naming a field in Connection makes careless proxies drop it",
            request(GRANTED, headers=[["connection", named], ["accept", "x"]]), sees("GET / HTTP/1.1", GRANTED, [["accept", "x"]]), guest=NO_HOST)
    many = [[f"x-{n:03}", "v"] for n in range(101)]
    add("request", "size", "101 fields", "more than any client sends; memory and parsers' limits", request(GRANTED, headers=many), refused(["headers_too_large", "malformed_request"]))
    for size in [66_000, 100_000]:
        add("request", "size", f"a field of {size} bytes", "more than any client sends; memory and parsers' limits",
            request(GRANTED, headers=[["x-big", f"<<x*{size}>>"]]), refused(["headers_too_large", "malformed_request"]),
            guest={"refused": ["headers_too_large", "sandbox:set of headers", "ConnectionTerminated", "HttpProtocolError"]})
    for size in [16_385, 30_000]:
        add("request", "size", f"a URL of {size} bytes", "servers cut long URLs in places of their own",
            request(GRANTED, f"/<<x*{size}>>"), refused(["url_too_long", "path_refused", "malformed_request"]))
    add("request", "size", "a query of 17,000 bytes", "servers cut long URLs in places of their own",
        request(GRANTED, "/?<<x*17000>>"), refused(["url_too_long", "path_refused", "malformed_request"]))


def forms():
    """Targets that are no absolute URL. A guest has none: its scheme and authority are fields of their own."""
    for target, why in [("/", "an origin form is for servers: where would it go but to Host"), (f"//{GRANTED}/", "no scheme"),
                        (GRANTED, "an authority without CONNECT"), (f"{GRANTED}:443", "an authority without CONNECT"), ("*", "everything and nothing"),
                        ("", "no target"), (f"https:/{GRANTED}/", "one slash"), (f"https:{GRANTED}/", "no slashes"), ("https:///x", "no authority"),
                        ("https://", "no authority"), (f"http:\\\\{GRANTED}\\", "backslashes"), (f"https://{GRANTED}/ /x", "two targets"),
                        (f"HTTPS:///{GRANTED}/", "an empty authority and the host as a path"), (f"https://?{GRANTED}", "an empty authority and a query"),
                        (f"https://#{GRANTED}", "an empty authority and a fragment"), (f"<https://{GRANTED}/>", "in angle brackets"),
                        (f"https://{GRANTED}\x00/", "a NUL"), (f"\x01https://{GRANTED}/", "a control character before"), ("http://", "no authority"),
                        (f"://{GRANTED}/", "no scheme"), (f"url:https://{GRANTED}/", "a scheme before the scheme")]:
        add("request", "form", f"GET {target!r} with Host: {GRANTED}", f"{why}: readers repair it, each in a way of its own", get(target, f"Host: {GRANTED}"),
            refused(["malformed_request", "target_refused", "scheme_refused", "host_refused", "name_refused", "host_not_allowed", "authority_conflict"]),
            guest={"cannot": "scheme and authority of a guest's request are fields of their own"})
    for method, target in [("OPTIONS", "*"), ("PRI", "*"), ("CONNECT", "*"), ("CONNECT", "/"), ("CONNECT", f"https://{GRANTED}/"), ("CONNECT", f"http://{GRANTED}:443/")]:
        add("request", "form", f"{method} {target}", "a form that this method does not have here",
            get(target, f"Host: {GRANTED}", method=method), refused(["malformed_request", "target_refused", "method_refused"]), guest={"cannot": TUNNEL})


def tunnels():
    cannot = {"cannot": TUNNEL}

    def tunnel(family, authority, what, reason, expect, hello=None):
        add("request", family, what, reason, {"connect": {"authority": authority, **(hello or {})}}, expect, guest=cannot)

    for prefix in V4:
        ip = ends(prefix)[0]
        tunnel("tunnel-address", f"{ip}:443", f"CONNECT {ip}:443", f"{prefix} is nobody's to reach, and an address is no name", refused("ip_literal_refused"))
    for prefix in V6:
        ip = ends(prefix)[-1]
        tunnel("tunnel-address", f"[{ip}]:443", f"CONNECT [{ip}]:443", f"{prefix} is nobody's to reach, and an address is no name", refused("ip_literal_refused"))
    for text in ["2130706433", "0x7f000001", "017700000001", "127.1", "0177.0.0.1", "127.0.0.1."]:
        tunnel("tunnel-address", f"{text}:<<port>>", f"CONNECT {text}", "it is this machine, however it is spelled", refused("ip_literal_refused"))
    for text, code in [(THIEF, "host_not_allowed"), (f"{GRANTED}.evil.example", "host_not_allowed"), ("wild.example.com", "host_not_allowed"),
                       ("localhost", "name_refused"), ("metadata.google.internal", "name_refused"), ("intranet", "name_refused"),
                       ("api..example.com", "host_refused"), ("*.wild.example.com", "host_refused"), ("xn--api-.example.com", "host_refused")]:
        tunnel("tunnel-name", f"{text}:443", f"CONNECT {text}:443", "a tunnel leads only where a rule does", refused(code))
    for port in ["22", "25", "80", "8443", "6379", "3306", "1", "65535"]:
        tunnel("tunnel-port", f"{GRANTED}:{port}", f"CONNECT {GRANTED}:{port}", "a tunnel to another port speaks another protocol", refused("port_not_allowed"))
    for text in [GRANTED, f"{GRANTED}:", f"{GRANTED}:0", f"{GRANTED}:65536", f"{GRANTED}:443:443", f"user@{GRANTED}:443", f"{GRANTED}:443/x", f"{GRANTED}:443?x",
                 f"{GRANTED}:443#x", f"https://{GRANTED}:443", f"{GRANTED} :443", f"{GRANTED}:+443", ":443", f"{GRANTED}%3a443", "443"]:
        tunnel("tunnel-form", text, f"CONNECT {text!r}", "the target of CONNECT is HOST:PORT and nothing else",
               refused(["malformed_request", "target_refused", "host_refused", "port_not_allowed", "method_refused"]))
    tunnel("tunnel-path", f"{NARROW}:443", f"CONNECT {NARROW}:443", "inside a tunnel nobody sees methods and paths, and this rule has both",
           refused("connect_narrowed"))
    mismatch = refused("alert:112")
    for sni in [THIEF, f"x.{GRANTED}", f"{GRANTED}.evil.example", "localhost", "narrow.example.com", "a.wild.example.com", "API.EXAMPLE.ORG"]:
        tunnel("tunnel-sni", f"{GRANTED}:443", f"CONNECT to {GRANTED}, TLS to {sni}", "domain fronting: the tunnel's name is not the server's", mismatch, {"sni": sni})
    for what, hello, reason in [
        ("a hello without SNI", {"sni": None}, "nobody can tell which server it is for"),
        ("a hello of which each byte is a packet, to another name", {"sni": THIEF, "split": "bytes"}, "the name is found however it is cut"),
        ("a hello in records of 16 bytes, to another name", {"sni": THIEF, "split": "records"}, "the name is found however it is cut"),
        ("a hello in records of one byte, to another name", {"sni": THIEF, "split": "tiny"}, "the name is found however it is cut"),
        ("plain HTTP", {"bytes": f"GET / HTTP/1.1\r\nHost: {THIEF}\r\n\r\n"}, "a tunnel is for TLS"),
        ("an SSH greeting", {"bytes": "SSH-2.0-OpenSSH_9.6\r\n"}, "a tunnel is for TLS"),
        ("an SMTP greeting", {"bytes": "EHLO evil.example\r\n"}, "a tunnel is for TLS"),
        ("an HTTP/2 preface", {"bytes": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"}, "a tunnel is for TLS"),
        ("zeros", {"bytes": "\x00" * 64}, "a tunnel is for TLS"),
        ("a TLS alert", {"bytes": "\x15\x03\x03\x00\x02\x01\x00"}, "a conversation does not begin with an alert"),
        ("application data", {"bytes": "\x17\x03\x03\x00\x05hello"}, "a conversation does not begin with data"),
        ("a record longer than TLS has", {"bytes": "\x16\x03\x01\xff\xff" + "\x01" * 40}, "it is no TLS"),
        ("a handshake that is no hello", {"bytes": "\x16\x03\x01\x00\x04\x02\x00\x00\x00"}, "it is no client's"),
        ("an empty record and then nothing", {"bytes": "\x16\x03\x01\x00\x00", "end": True}, "there is no hello"),
        ("an SSLv2 hello", {"bytes": "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + "\x01" * 37}, "it has no SNI and no TLS"),
        ("half a hello and then the end", {"sni": GRANTED, "cut": 40}, "half a name is none"),
        ("nothing and then the end", {"bytes": "", "end": True}, "there is no hello"),
        ("a hello whose name has a trailing dot", {"bytes": "<<hello:api.example.com.>>"}, "SNI has none (RFC 6066): servers differ"),
        ("a hello whose name is an address", {"bytes": "<<hello:127.0.0.1>>"}, "SNI has no addresses (RFC 6066)"),
        ("a hello with a NUL in its name", {"bytes": "<<hello:api.example.com\x00.evil.example>>"}, "C code cuts at it"),
        ("a hello with an empty name", {"bytes": "<<hello:>>"}, "there is no name"),
        ("a hello with two names", {"bytes": "<<hello:api.example.com|thief.example.org>>"}, "some take the first and some the last"),
        ("a hello with the extension twice", {"bytes": "<<hello:api.example.com+thief.example.org>>"}, "some take the first and some the last"),
        ("a hello with an encrypted hello inside", {"bytes": "<<ech:api.example.com>>"}, "the real name is hidden"),
    ]:
        tunnel("tunnel-hello", f"{GRANTED}:443", f"in a tunnel to {GRANTED}: {what}", f"{reason}: only a hello to the name of the tunnel passes", refused(["alert:112", "alert:49", "closed"]), hello)


def write():
    hosts()
    methods()
    paths()
    ports()
    fields()
    forms()
    tunnels()
