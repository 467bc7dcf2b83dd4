-- What workspaces say about whose keys their members' calls are made with.

CREATE TABLE byok (
    workspace TEXT NOT NULL PRIMARY KEY,
    policy TEXT NOT NULL
) STRICT, WITHOUT ROWID;
