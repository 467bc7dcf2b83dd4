//! What is stored, as plain values.
//!
//! Times are UTC with a precision of microseconds. Texts and numbers have the bounds that their comments say; what is
//! over them is cut when it is stored, never refused, because a run's end must not fail over the length of a log line.

use std::fmt;
use std::str::FromStr;

use orch_manifests::{AgentName, Digest, Format, RunId};
use serde_json::Value;
use time::OffsetDateTime;

mod registry;
mod usage;

pub use registry::{AgentRow, AgentSummary, GrantRow, Published, RouteRow, TokenRow, VersionRow};
pub use usage::{COUNT_LIMIT, CallFilter, CallPage, CallRow, KeyUse, Moved, UsageBy, UsageQuery, UsageRow};

/// A run as it is accepted: queued, and owned by a process.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRun {
    /// The run.
    pub run: RunId,
    /// Whose it is.
    pub workspace: String,
    /// The agent's name.
    pub agent: AgentName,
    /// Its version.
    pub version: String,
    /// Its content: manifest and module.
    pub digest: Digest,
    /// Who asked for it: what their token is called.
    pub caller: String,
    /// The id of their token; none for runs stored before it was kept.
    pub token: Option<String>,
    /// The member of the workspace that the token is of, where it is of one.
    pub member: Option<String>,
    /// The process that will execute it: the id of its [`Instance`](super::Instance).
    pub instance: String,
    /// What was asked, without any key. It is kept until the run has ended, and is like no other run's.
    pub request: Value,
    /// When it was accepted.
    pub created: OffsetDateTime,
    /// When it was started, if that is now: its turn has come already.
    pub started: Option<OffsetDateTime>,
}

/// A stored run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// The run.
    pub run: RunId,
    /// Whose it is.
    pub workspace: String,
    /// The agent's name.
    pub agent: AgentName,
    /// Its version.
    pub version: String,
    /// Its content: manifest and module.
    pub digest: Digest,
    /// Who asked for it: what their token is called.
    pub caller: String,
    /// The id of their token; none for runs stored before it was kept.
    pub token: Option<String>,
    /// The member of the workspace that the token is of, where it is of one.
    pub member: Option<String>,
    /// The process that executes it, or did.
    pub instance: String,
    /// Where it stands.
    pub status: RunStatus,
    /// When it was accepted.
    pub created: OffsetDateTime,
    /// When it was started, the last time.
    pub started: Option<OffsetDateTime>,
    /// When it ended.
    pub finished: Option<OffsetDateTime>,
    /// What `orch run` exits with; none before the end.
    pub exit_code: Option<u8>,
    /// The four fields of an error, of a run that failed.
    pub error: Option<Value>,
    /// The JSON of `orch run --json`. Always none in a listing, which reads no large document.
    pub report: Option<Value>,
    /// What was asked, without any key; `Null` once it has ended. Always `Null` in a listing.
    pub request: Value,
}

/// How a run ended, and all that is put on record with it in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct RunEnd {
    /// One of the four final states.
    pub status: RunStatus,
    /// What `orch run` exits with.
    pub exit_code: u8,
    /// The four fields of an error, of a run that failed.
    pub error: Option<Value>,
    /// The JSON of `orch run --json`.
    pub report: Option<Value>,
    /// When.
    pub finished: OffsetDateTime,
    /// All of its model calls, in the order in which they ended. Those that are on record already stay as they are.
    pub calls: Vec<CallRow>,
    /// Decisions of the egress proxy; the first [`DECISIONS_LIMIT`] are kept.
    pub decisions: Vec<Value>,
    /// Its last events. They are kept even when the run's record is full.
    pub events: Vec<RunEvent>,
}

/// How many decisions of a run are kept.
pub const DECISIONS_LIMIT: usize = 1000;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RunStatus {
    /// Accepted; nothing has happened.
    Queued,
    /// Started.
    Running,
    /// It answered.
    Succeeded,
    /// It did not, and its error says why.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// The process that executed it went away.
    Interrupted,
}

impl RunStatus {
    /// Every status.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled, Self::Interrupted];

    /// The word for it, as the API and the database write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether nothing comes after it.
    #[must_use]
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// One event of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEvent {
    /// Its place in the run, from 1; the same number twice is the same event, and only the first is kept.
    pub seq: u64,
    /// When it happened.
    pub time: OffsetDateTime,
    /// What it is.
    pub kind: EventKind,
    /// Its text; what is longer than [`EVENT_TEXT_LIMIT`] is cut.
    pub text: String,
}

/// Longest text of an event, in bytes.
pub const EVENT_TEXT_LIMIT: usize = 64 * 1024;

/// What an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The run's status changed; the text is the new one.
    Status,
    /// What is going on.
    Progress,
    /// Something that was decided for this run.
    Note,
    /// Something that deserves attention.
    Warning,
    /// A piece of the agent's log.
    Log,
    /// A piece of its output, of a run that streams.
    Output,
    /// A refused request.
    Refused,
    /// What the egress proxy decided about a request; the text is JSON.
    Decision,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Status,
        Self::Progress,
        Self::Note,
        Self::Warning,
        Self::Log,
        Self::Output,
        Self::Refused,
        Self::Decision,
    ];

    /// The word for it, as the API and the database write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Progress => "progress",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Log => "log",
            Self::Output => "output",
            Self::Refused => "refused",
            Self::Decision => "decision",
        }
    }
}

/// A word that is none of those that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not one of the known words")]
pub struct UnknownWord;

/// Reads and shows a closed set of words.
macro_rules! words {
    ($type:ty) => {
        impl FromStr for $type {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                Self::ALL.into_iter().find(|known| known.as_str() == word).ok_or(UnknownWord)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words!(RunStatus);
words!(EventKind);

/// Which runs of a workspace to list; newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunPage {
    /// How many, at most [`PAGE_LIMIT`].
    pub limit: u32,
    /// Where to go on: what the page before returned.
    pub before: Option<String>,
    /// Only those in this state.
    pub status: Option<RunStatus>,
    /// Only those of this agent.
    pub agent: Option<AgentName>,
}

/// The longest page of runs or events.
pub const PAGE_LIMIT: u32 = 1000;

impl Default for RunPage {
    /// The fifty newest of all.
    fn default() -> Self {
        Self { limit: 50, before: None, status: None, agent: None }
    }
}

/// The word for a manifest's format.
pub(super) fn format_word(format: Format) -> &'static str {
    match format {
        Format::Yaml => "yaml",
        Format::Json => "json",
    }
}

/// The format with this word.
pub(super) fn format_of(word: &str) -> Option<Format> {
    [Format::Yaml, Format::Json].into_iter().find(|format| format_word(*format) == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_as_what_it_was_written_from() {
        for status in RunStatus::ALL {
            assert_eq!(status.to_string().parse(), Ok(status));
        }
        for kind in EventKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("done".parse::<RunStatus>(), Err(UnknownWord));
        assert_eq!("Log".parse::<EventKind>(), Err(UnknownWord));
    }

    #[test]
    fn what_is_final_stays() {
        let ends: Vec<_> = RunStatus::ALL.into_iter().filter(|status| status.is_final()).collect();
        assert_eq!(
            ends,
            [RunStatus::Succeeded, RunStatus::Failed, RunStatus::Cancelled, RunStatus::Interrupted]
        );
    }
}
