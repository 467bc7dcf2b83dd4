"""What the families share: one function that makes a row, and the list that it goes to."""

import json

ROWS = []
LOOKALIKES = []

GRANTED = "api.example.com"  # https, no bounds
PLAIN = "plain.example.com"  # http, no bounds
NARROW = "narrow.example.com"  # https, GET below /repos/ only
THIEF = "thief.example.org"  # reachable, and granted to nobody

RAW = "a guest hands names and values to wasi:http and never writes the bytes of a message"
TUNNEL = "the sandbox has no CONNECT: wasi:http opens no tunnels"


def request(authority, path="/", scheme="https", method="GET", headers=(), body=""):
    made = {"method": method, "scheme": scheme, "authority": authority, "path": path}
    if headers:
        made["headers"] = [list(pair) for pair in headers]
    if body:
        made["body"] = body
    return made


def refused(code):
    return {"refused": code}


def sees(line, host, fields=(), body=""):
    """The one request that the upstream gets: line, fields but framing, and body without its transfer coding."""
    return {"sees": {"line": line, "fields": sorted([["host", host], *map(list, fields)]), "body": body}}


def asked(row):
    if "raw" in row:
        return ("raw", row["raw"], row.get("end", False))
    return ("connect", row["connect"]) if "connect" in row else ("request", row["request"])


def add(kind, family, what, reason, ask, expect, *, policy="open", guest=None, listener=None, dns=None, to=ROWS):
    """`ask` is a request, {"raw": text} whose characters are bytes, or {"connect": …}. `guest` and `listener` say what
    is different there: an expectation, or {"cannot": why}."""
    if not dns and any(other["policy"] == policy and not other.get("dns") and asked(other) == asked({"request": ask} | ask) for other in to):
        return  # Two families came to the same.
    number = sum(row["family"] == family and row["kind"] == kind for row in to)
    row = {"id": f"{kind}-{family}-{number:03}", "kind": kind, "family": family, "what": what, "policy": policy}
    row |= ask if "raw" in ask or "connect" in ask else {"request": ask}
    if dns:
        row["dns"] = dns
    row["expect"] = expect
    if guest:
        row["guest"] = guest
    if listener:
        row["listener"] = listener
    row["reason"] = reason
    to.append(row)


def write(path, rows):
    with open(path, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=True) + "\n")
