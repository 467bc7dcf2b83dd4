-- Who made each call and with which key, how it went, and how long it took: what used to stand in receipts
-- alone, as columns, so that calls are found by them. `credential` is the key's name; `billing` says whose it is.

ALTER TABLE calls ADD COLUMN token TEXT;
ALTER TABLE calls ADD COLUMN member TEXT;
ALTER TABLE calls ADD COLUMN source TEXT;
ALTER TABLE calls ADD COLUMN mask TEXT;
ALTER TABLE calls ADD COLUMN billing TEXT;
ALTER TABLE calls ADD COLUMN provider_asked TEXT;
ALTER TABLE calls ADD COLUMN model_asked TEXT;
ALTER TABLE calls ADD COLUMN outcome TEXT;
ALTER TABLE calls ADD COLUMN class TEXT;
ALTER TABLE calls ADD COLUMN latency INTEGER;
ALTER TABLE calls ADD COLUMN first_token INTEGER;

ALTER TABLE runs ADD COLUMN token TEXT;
ALTER TABLE runs ADD COLUMN member TEXT;

-- Whose key it was follows from where it lay, as long as nobody lent any: what came with a call or lay in its caller's
-- environment is the caller's, and what lay in the vault is the workspace's. Nobody is billed for a simulation. Last four
-- characters and tokens' ids were on no record, and are not guessed.
UPDATE calls SET
    request = ifnull(nullif(request, ''), receipt ->> '$.request_id'),
    credential = ifnull(credential, receipt ->> '$.credential.id'),
    price_date = ifnull(price_date, receipt ->> '$.price_as_of'),
    source = receipt ->> '$.credential.source',
    billing = CASE
        WHEN receipt ->> '$.simulated' THEN NULL
        WHEN receipt ->> '$.credential.source' IN ('flag', 'env') THEN 'own'
        WHEN receipt ->> '$.credential.source' = 'vault' THEN 'team'
    END,
    provider_asked = nullif(receipt ->> '$.provider_asked', ''),
    model_asked = nullif(receipt ->> '$.model_asked', ''),
    outcome = receipt ->> '$.outcome',
    class = CASE
        WHEN receipt ->> '$.outcome' NOT IN ('served', 'cancelled')
        THEN ifnull(receipt ->> '$.refused.class', receipt ->> '$.attempts[#-1].class')
    END,
    latency = CASE json_type(receipt, '$.latency_ms') WHEN 'integer' THEN CAST(receipt ->> '$.latency_ms' AS INTEGER) END
WHERE json_valid(receipt);

-- A token is a member's, whose name it has.
UPDATE calls SET member = caller;
UPDATE runs SET member = caller;

-- Whoever was told nothing charged nothing: one refusal does not make a month's cost unknown.
UPDATE calls SET cost = 0 WHERE cost IS NULL AND input_tokens = 0 AND output_tokens = 0;

-- A page of calls goes on after one that is named; those that are older than names get one.
UPDATE calls SET request = 'req_' || lower(hex(randomblob(8))) WHERE request IS NULL OR request = '';

-- Holds all that calls are found by and all that usage adds up, so that no row is read for what is not shown.
DROP INDEX calls_usage;
CREATE INDEX calls_by_time ON calls (workspace, time, seq, agent, provider, model, run, input_tokens, output_tokens, cost,
                                     credential, token, caller, member, billing, outcome, class, model_asked);
CREATE INDEX calls_by_request ON calls (workspace, request);
CREATE INDEX calls_by_key ON calls (workspace, credential, time) WHERE credential IS NOT NULL;

-- What calls came to with other keys than the one under which they stand: an attempt that failed may be charged all the
-- same. Each is here twice, added where it belongs and taken away where its call has it, so that sums by key, provider and
-- model are right and all others stay what they are.
CREATE TABLE moved (
    seq INTEGER PRIMARY KEY,
    workspace TEXT NOT NULL,
    time INTEGER NOT NULL,
    token TEXT,
    caller TEXT NOT NULL,
    member TEXT,
    agent TEXT,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    credential TEXT,
    billing TEXT,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost INTEGER
) STRICT;

CREATE INDEX moved_by_time ON moved (workspace, time);

-- What was asked and answered, of workspaces that want it kept, until `expires`.
CREATE TABLE bodies (
    seq INTEGER PRIMARY KEY,
    workspace TEXT NOT NULL,
    request TEXT NOT NULL,
    expires INTEGER NOT NULL,
    asked BLOB NOT NULL,
    asked_bytes INTEGER NOT NULL,
    asked_cut INTEGER NOT NULL,
    answered BLOB NOT NULL,
    answered_bytes INTEGER NOT NULL,
    answered_cut INTEGER NOT NULL,
    UNIQUE (workspace, request)
) STRICT;

CREATE INDEX bodies_by_end ON bodies (expires);

-- Whose the amounts are that `spend` has as set aside: a process that lives needs what it holds.
CREATE TABLE holds (
    workspace TEXT NOT NULL,
    scope TEXT NOT NULL,
    subject TEXT NOT NULL,
    day INTEGER NOT NULL,
    instance TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    PRIMARY KEY (workspace, scope, subject, day, instance)
) STRICT, WITHOUT ROWID;
