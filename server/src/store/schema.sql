-- Version 1. Times are microseconds since 1970 (UTC); digests are 32 bytes; JSON is text. `seq` is the order in which
-- rows were committed: clocks go backwards, it does not.

CREATE TABLE runs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    workspace TEXT NOT NULL,
    agent TEXT NOT NULL,
    version TEXT NOT NULL,
    digest BLOB NOT NULL,
    caller TEXT NOT NULL,
    instance TEXT NOT NULL,
    status TEXT NOT NULL,
    created INTEGER NOT NULL,
    started INTEGER,
    finished INTEGER,
    exit_code INTEGER,
    error TEXT,
    -- What can be large comes last, so that a listing does not read past it. A blob here is the digest of a document.
    request ANY NOT NULL,
    report ANY
) STRICT;

-- Every index ends with `seq`, so each of these is a listing in its order.
CREATE INDEX runs_by_workspace ON runs (workspace);
CREATE INDEX runs_by_status ON runs (workspace, status);
CREATE INDEX runs_by_agent ON runs (workspace, agent);
CREATE INDEX runs_by_agent_status ON runs (workspace, agent, status);
CREATE INDEX runs_unfinished ON runs (instance) WHERE finished IS NULL;

CREATE TABLE events (
    run INTEGER NOT NULL REFERENCES runs (seq),
    seq INTEGER NOT NULL,
    time INTEGER NOT NULL,
    kind TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE decisions (
    run INTEGER NOT NULL REFERENCES runs (seq),
    place INTEGER NOT NULL,
    decision TEXT NOT NULL,
    PRIMARY KEY (run, place)
) STRICT, WITHOUT ROWID;

CREATE TABLE calls (
    seq INTEGER PRIMARY KEY,
    workspace TEXT NOT NULL,
    time INTEGER NOT NULL,
    run TEXT,
    caller TEXT NOT NULL,
    agent TEXT,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost INTEGER,
    receipt TEXT NOT NULL
) STRICT;

-- Holds all that usage adds up, so that no row is read for it.
CREATE INDEX calls_usage ON calls (workspace, time, agent, provider, model, run, input_tokens, output_tokens, cost);

CREATE TABLE tokens (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    workspace TEXT NOT NULL,
    name TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    scopes TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER,
    revoked INTEGER,
    last_used INTEGER
) STRICT;

CREATE TABLE agents (
    digest BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    manifest TEXT NOT NULL,
    format TEXT NOT NULL,
    module BLOB NOT NULL,
    bare INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE versions (
    seq INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    digest BLOB NOT NULL REFERENCES agents (digest),
    description TEXT,
    size INTEGER NOT NULL,
    published INTEGER NOT NULL,
    publisher TEXT NOT NULL,
    -- Whose the name is: an organisation belongs to the workspace that published in it first.
    workspace TEXT NOT NULL,
    UNIQUE (name, version)
) STRICT;

CREATE TABLE grants (
    seq INTEGER PRIMARY KEY,
    workspace TEXT NOT NULL,
    agent TEXT NOT NULL,
    digest BLOB NOT NULL,
    capabilities TEXT NOT NULL,
    granted_at INTEGER NOT NULL,
    granted_by TEXT NOT NULL,
    UNIQUE (workspace, digest)
) STRICT;

CREATE INDEX grants_by_agent ON grants (workspace, agent);
