-- What model calls came to by day, added up under each name that a budget may be about, and what is set aside for those
-- under way. A process that dies leaves what it had set aside: for all that is known, it is spent.
CREATE TABLE spend (
    workspace TEXT NOT NULL,
    scope TEXT NOT NULL,
    subject TEXT NOT NULL,
    day INTEGER NOT NULL,
    tokens INTEGER NOT NULL DEFAULT 0,
    cost INTEGER NOT NULL DEFAULT 0,
    held_tokens INTEGER NOT NULL DEFAULT 0,
    held_cost INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (workspace, scope, subject, day)
) STRICT, WITHOUT ROWID;

INSERT INTO spend (workspace, scope, subject, day, tokens, cost)
SELECT workspace, 'workspace', '', time / 86400000000, sum(input_tokens + output_tokens), ifnull(sum(cost), 0)
FROM calls GROUP BY 1, 4;

INSERT INTO spend (workspace, scope, subject, day, tokens, cost)
SELECT workspace, 'agent', agent, time / 86400000000, sum(input_tokens + output_tokens), ifnull(sum(cost), 0)
FROM calls WHERE agent IS NOT NULL GROUP BY 1, 3, 4;

INSERT INTO spend (workspace, scope, subject, day, tokens, cost)
SELECT workspace, 'token', caller, time / 86400000000, sum(input_tokens + output_tokens), ifnull(sum(cost), 0)
FROM calls GROUP BY 1, 3, 4;

-- Budgets that were set over the API; those of the configuration are in its file.
CREATE TABLE budgets (
    workspace TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (workspace, name)
) STRICT, WITHOUT ROWID;
