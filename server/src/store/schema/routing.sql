-- Routes of workspaces, and what is known of how their keys fare at the providers.

CREATE TABLE routes (
    workspace TEXT NOT NULL,
    name TEXT NOT NULL,
    route TEXT NOT NULL,
    PRIMARY KEY (workspace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE health (
    workspace TEXT NOT NULL,
    key TEXT NOT NULL,
    health TEXT NOT NULL,
    PRIMARY KEY (workspace, key)
) STRICT, WITHOUT ROWID;
