//! What an installation remembers: runs, events, usage, tokens, agents and grants.

mod rows;

pub use rows::{
    AgentRow, AgentSummary, CallRow, EventKind, GrantRow, NewRun, PAGE_LIMIT, Published, RunEnd, RunEvent, RunPage,
    RunRow, RunStatus, TokenRow, UsageBy, UsageQuery, UsageRow, VersionRow,
};
