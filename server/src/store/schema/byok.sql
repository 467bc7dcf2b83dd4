-- What workspaces say about whose keys their members' calls are made with.

CREATE TABLE byok (
    workspace TEXT NOT NULL PRIMARY KEY,
    policy TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What members think with where a request names no model.
CREATE TABLE active_providers (
    workspace TEXT NOT NULL,
    member TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT,
    PRIMARY KEY (workspace, member)
) STRICT, WITHOUT ROWID;
