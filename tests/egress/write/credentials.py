"""Secrets where they may not go, where they may not stand, and on their way back."""

from rows import THIEF, add, refused, request

OWN = "api.example.com"  # TOKEN may go here, in Authorization
OTHER = "other.example.com"  # granted, and no secret may go there
QUERY = "query.example.com"  # QKEY may go here, as the parameter `key`
FIELD = "field.example.com"  # FKEY may go here, in X-Api-Key
BOUND = "bound.example.com"  # BKEY may go here, with GET below /repos/ only; every request may
LINES = "lines.example.com"  # a value with line breaks

INERT = {"inert": True}
WHOLE_HOST = {"cannot": "who starts the listener says --secret NAME@HOST, which is a word about all of the host"}


def row(family, what, reason, ask, expect, **more):
    add("secret", family, what, reason, ask, expect, policy="secrets", **more)


def bearer(name="TOKEN"):
    return [["authorization", f"Bearer <<{name}>>"]]


def elsewhere():
    for host, what in [(OTHER, "a granted host without the secret"), (QUERY, "the host of another secret"), (FIELD, "the host of another secret"), (BOUND, "the host of another secret")]:
        for field in ["authorization", "x-api-key", "cookie", "x-token"]:
            row("wrong-host", f"in {field} to {what}", "where a secret may go is its owner's to say; elsewhere the text stays what it is",
                request(host, "/repos/x", headers=[[field, "Bearer <<TOKEN>>"]]), INERT)
    for host, code in [(THIEF, "host_not_allowed"), (f"{OWN}.evil.example", "host_not_allowed"), ("127.0.0.1:<<port>>", "ip_literal_refused"),
                       ("localhost:<<port>>", "name_refused"), (f"{OWN}:8443", "port_not_allowed"), (f"{OWN}:80", "port_not_allowed"), ("169.254.169.254", "ip_literal_refused")]:
        for field in ["authorization", "x-api-key", "cookie"]:
            row("wrong-host", f"in {field} to {host}", "to a host that nobody granted not even the placeholder goes",
                request(host, headers=[[field, "Bearer <<TOKEN>>"]]), refused(code))
        row("wrong-host", f"in the query to {host}", "to a host that nobody granted not even the placeholder goes", request(host, "/?t=<<TOKEN>>"), refused(code))
        row("wrong-host", f"in the body to {host}", "to a host that nobody granted not even the placeholder goes", request(host, method="POST", body="<<TOKEN>>"), refused(code))
    row("wrong-host", "over http to its host", "another scheme is another origin", request(OWN, scheme="http", headers=bearer()), refused("scheme_not_allowed"), listener={"answers": 200})
    row("wrong-host", "in user information", "a URL with a user is refused before anything is put in", request(f"<<TOKEN>>@{OWN}"), refused("target_refused"), guest=refused("HttpRequestUriInvalid"))
    row("wrong-host", "as a label", "a name is looked up: the placeholder would be in a question", request(f"<<TOKEN>>.{OWN}"),
        refused(["host_refused", "host_not_allowed"]))
    for method, path in [("POST", "/repos/x"), ("DELETE", "/repos/x"), ("PUT", "/repos/x"), ("GET", "/user"), ("GET", "/repos/../user"), ("GET", "/repos"), ("GET", "/reposx/a"),
                         ("GET", "/%75ser"), ("GET", "//user"), ("GET", "/Repos/x"), ("HEAD", "/repos/x"), ("GET", "/user?/repos/x"), ("PATCH", "/repos/x")]:
        row("wrong-use", f"{method} {path} where the owner said GET /repos/**", "the request is granted, the secret is not for it",
            request(BOUND, path, method=method, headers=bearer("BKEY")), INERT, listener=WHOLE_HOST)
    for name in ["x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url", "x_http_method_override"]:
        row("wrong-use", f"GET /repos/x with {name}", "servers would use the secret for another method or path than its owner said",
            request(BOUND, "/repos/x", headers=[*bearer("BKEY"), [name, "DELETE" if "method" in name else "/user"]]), refused("override_header_refused"), listener=WHOLE_HOST)


def standing():
    for field in ["x-api-key", "cookie", "x-token", "user-agent", "referer", "origin", "accept", "content-type", "x-authorization", "authentication", "www-authenticate",
                  "x-goog-api-key", "if-none-match", "x-amz-security-token", "from", "date", "x-signature"]:
        row("wrong-field", f"in {field} of its own host", "its owner said Authorization; anywhere else it is text that an agent may repeat",
            request(OWN, headers=[[field, "<<TOKEN>>"]]), INERT)
    for value, why in [("Bearer  <<TOKEN>>", "two spaces"), ("Bearer <<TOKEN>> x", "a word behind"), ("Bearer x<<TOKEN>>", "a letter before"), ("Bearer <<TOKEN>>x", "a letter behind"),
                       ("Bearer <<TOKEN>><<TOKEN>>", "twice"), ("Bearer \"<<TOKEN>>\"", "in quotes"), ("Bearer:<<TOKEN>>", "a colon for the space"),
                       ("Bearer,<<TOKEN>>", "a comma for the space"), ("Digest username=\"<<TOKEN>>\"", "a parameter"), ("AWS4-HMAC-SHA256 Credential=<<TOKEN>>/x", "a parameter"),
                       ("Basic <<TOKEN>>x", "no Base64"), ("Bearer\t<<TOKEN>>", "a tab for the space"), ("x, Bearer <<TOKEN>>", "a list"), ("Bearer <<TOKEN>>, Bearer <<TOKEN>>", "a list"),
                       ("Bearer %3C<<TOKEN>>", "an escape before"), ("(<<TOKEN>>)", "in parentheses"), ("Bearer token=<<TOKEN>>", "a parameter")]:
        row("wrong-shape", f"Authorization: {value}", f"{why}: no shape that a scheme has, so nothing is put in",
            request(OWN, headers=[["authorization", value]]), INERT)
    for what, ask in [
        ("in the path", request(OWN, "/<<TOKEN>>")), ("in the query", request(OWN, "/?key=<<TOKEN>>")), ("as a parameter's name", request(OWN, "/?<<TOKEN>>=1")),
        ("in the body", request(OWN, method="POST", body="<<TOKEN>>")), ("in JSON", request(OWN, method="POST", body='{"key":"<<TOKEN>>"}', headers=[["content-type", "application/json"]])),
        ("in a form", request(OWN, method="POST", body="key=<<TOKEN>>", headers=[["content-type", "application/x-www-form-urlencoded"]])),
        ("as a body of many", request(OWN, method="POST", body="<<TOKEN>> " * 50)), ("in a multipart body", request(OWN, method="PUT", body="--b\r\ncontent-disposition: form-data; name=k\r\n\r\n<<TOKEN>>\r\n--b--\r\n", headers=[["content-type", "multipart/form-data; boundary=b"]])),
        ("in a path of dots", request(OWN, "/a/../<<TOKEN>>")), ("behind a semicolon", request(OWN, "/a;k=<<TOKEN>>")), ("in an event of a history", request(OWN, method="POST", body='{"messages":[{"role":"tool","content":"my key is <<TOKEN>>"}]}')),
    ]:
        row("wrong-place", what, "its owner said Authorization; a history that holds it must not break, and must not spend it", ask, INERT)
    for target, why in [("/?KEY=<<QKEY>>", "another case"), ("/?keys=<<QKEY>>", "another name"), ("/?key=x<<QKEY>>", "a letter before"), ("/?key=<<QKEY>>x", "a letter behind"),
                        ("/?x=<<QKEY>>", "another parameter"), ("/?key%5B%5D=<<QKEY>>", "a list"), ("/<<QKEY>>?key=1", "in the path"), ("/?key=<<QKEY>>;x=1", "a semicolon is no separator"),
                        ("/?x=key=<<QKEY>>", "inside another value"), ("/?key=%20<<QKEY>>", "a space before"), ("/?key==<<QKEY>>", "an equals sign before"), ("/?%00key=<<QKEY>>", "an escape in the name")]:
        row("wrong-query", f"{target} where the owner said `key`", f"{why}: not the whole value of the one parameter", request(QUERY, target), INERT)
    row("wrong-query", "the parameter twice", "of two a server takes the first or the last", request(QUERY, "/?key=<<QKEY>>&key=x"), refused("credential_not_usable"))
    row("wrong-query", "the parameter twice, once escaped", "of two a server takes the first or the last", request(QUERY, "/?%6bey=x&key=<<QKEY>>"), refused("credential_not_usable"))
    row("wrong-query", "in a field of the host", "its owner said the query", request(QUERY, headers=[["authorization", "Bearer <<QKEY>>"]]), INERT)
    row("wrong-field", "the bound field twice", "of two a server takes the first or the last", request(FIELD, headers=[["x-api-key", "<<FKEY>>"], ["x-api-key", "x"]]), refused("credential_not_usable"))
    row("wrong-field", "Authorization where the owner said X-Api-Key", "the place is part of the grant", request(FIELD, headers=[["authorization", "<<FKEY>>"]]), INERT)
    row("wrong-field", "X-Api_Key where the owner said X-Api-Key", "CGI makes them one, HTTP does not", request(FIELD, headers=[["x-api_key", "<<FKEY>>"]]), INERT)
    for field, value in [("authorization", "Bearer <<LINES>>"), ("authorization", "<<LINES>>"), ("x-api-key", "<<LINES>>")]:
        row("line-breaks", f"{field}: {value}, a secret with CR and LF", "in a field it would write fields of its own: its owner can only say a query", request(LINES, headers=[[field, value]]), INERT)
    row("line-breaks", "a secret with CR and LF in the query that its owner said", "every byte of it is escaped, so the line ends where it did", request(LINES, "/?key=<<LINES>>&z=1"),
        {"sees": {"line": "GET /?key=<<percent:LINES>>&z=1 HTTP/1.1", "fields": [["accept-encoding", "identity"], ["host", LINES]], "body": ""}})
    for what in ["TRACE", "TRACK"]:
        row("trace", f"{what} with the secret", "the answer would be the request", request(OWN, method=what, headers=bearer()), refused("method_refused"))


FORMS = ["raw", "base64-0", "base64-1", "base64-2", "base64url-0", "base64url-1", "base64url-2", "hex", "HEX", "percent", "percent-all", "percent-twice", "percent-thrice", "json-unicode", "json-slashes", "form"]
PLACES = ["body", "bytes", "sevens", "field", "trailer", "error"]


def echoes():
    for form in FORMS:
        for place in PLACES:
            row("echo", f"the host echoes it as {form} in {place}", "what the host was told must not come back to the agent, in no listed spelling and over no chunking",
                request(OWN, f"/echo/{form}/{place}", headers=bearer()), {"echo": "absent" if place == "trailer" else "clean"})
    for place, why in [("cookie", "a cookie"), ("location", "a redirect's target"), ("challenge", "a challenge"), ("events", "an event stream"), ("json", "a JSON document"),
                       ("html", "a page of an error"), ("twice", "twice, overlapping words between"), ("deep", "far inside a long body"), ("end", "as the last bytes"), ("start", "as the first bytes")]:
        row("echo-place", f"the host echoes it in {place}", f"{why} is a place like any other", request(OWN, f"/echo/raw/{place}", headers=bearer()), {"echo": "clean"})
    for place in ["name", "reason"]:
        row("echo-place", f"the host echoes it in a {place}", "neither field names nor reason phrases carry it on", request(OWN, f"/echo/raw/{place}", headers=bearer()), {"echo": "absent"})
    for coding in ["gzip", "br", "zstd", "deflate", "x-unknown", "gzip, identity"]:
        row("echo-coded", f"the host says that its plain echo is compressed ({coding})", "what cannot be unpacked cannot be searched, and is not passed on",
            request(OWN, f"/coded/{coding.replace(', ', '+')}", headers=bearer()), {"refused": ["protocol_error", "closed", "ConnectionTerminated"], "sent": True})
    row("echo-later", "the host echoes it in answer to a later request without it", "a host may say later what it was told once", request(OWN, "/remembered"), {"echo": "clean"})
    row("echo-range", "a range of the echo is asked for", "a range could begin in the middle of it: the field is dropped", request(OWN, "/echo/raw/body", headers=[*bearer(), ["range", "bytes=5-"]]), {"echo": "clean"})
    row("echo-range", "compression is asked for", "identity is asked for instead", request(OWN, "/echo/raw/body", headers=[*bearer(), ["accept-encoding", "gzip, br"]]), {"echo": "clean"})
    for status in ["301", "302", "303", "307", "308"]:
        for target in [f"https://{THIEF}/loot", "http://127.0.0.1:<<port>>/", f"http://{OWN}/", f"https://{OTHER}/"]:
            row("redirect", f"{status} to {target}, with the secret", "a redirect is returned and never followed: the next hop is a request of its own",
                request(OWN, f"/redirect/{status}?{target}", headers=bearer()), {"answers": int(status)})


def write():
    elsewhere()
    standing()
    echoes()
