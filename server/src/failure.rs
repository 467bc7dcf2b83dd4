//! What went wrong, for a person and for a program.
//!
//! Modules have small error enums of their own; at the edge each becomes a [`Failure`], whose kind decides the exit
//! code of `orch` and, on a server, the HTTP status. A failure never holds a secret: it is made of names and reasons.

use std::borrow::Cow;
use std::fmt;

use serde_json::{Map, Value, json};

mod runner;
mod vault;

pub(crate) use runner::{incomplete, no_scratch};

/// The classes of failure, one per exit code of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The agent failed: a non-zero exit, a trap, or output that does not match its schema.
    Agent,
    /// Flags, manifest, config or input are wrong, or a file is not there.
    Usage,
    /// No usable key, or every key was rejected.
    NoKey,
    /// Policy refused: a capability had no grant, or the agent failed after a refused request.
    Denied,
    /// Every candidate of the plan was tried and failed.
    Providers,
    /// A limit of the run was hit.
    Limit,
    /// The vault is locked, tampered with, rolled back, or its storage failed.
    Vault,
    /// A server is unreachable, refused, or did not accept who asked.
    Server,
    /// A defect in `orch` itself.
    Defect,
    /// The person at the terminal interrupted.
    Interrupted,
}

impl Kind {
    /// The exit code of the process.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Agent => 1,
            Self::Usage => 2,
            Self::NoKey => 3,
            Self::Denied => 4,
            Self::Providers => 5,
            Self::Limit => 6,
            Self::Vault => 7,
            Self::Server => 8,
            Self::Defect => 70,
            Self::Interrupted => 130,
        }
    }

    /// The class with this exit code. What no class has is a server that this `orch` does not understand.
    #[must_use]
    pub fn of_exit_code(code: u8) -> Self {
        match code {
            1 => Self::Agent,
            2 => Self::Usage,
            3 => Self::NoKey,
            4 => Self::Denied,
            5 => Self::Providers,
            6 => Self::Limit,
            7 => Self::Vault,
            70 => Self::Defect,
            130 => Self::Interrupted,
            _ => Self::Server,
        }
    }
}

/// One failure: what, why, and what to do next.
#[derive(Debug, Clone)]
pub struct Failure {
    kind: Kind,
    code: Cow<'static, str>,
    message: String,
    hints: Vec<String>,
    /// Apart, because nearly every function here may return a failure.
    details: Box<Map<String, Value>>,
}

impl Failure {
    /// A failure of `kind`; `code` is the stable word that programs match on.
    pub fn new(kind: Kind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code: code.into(), message: message.into(), hints: Vec::new(), details: Box::default() }
    }

    /// A failure that a server told: the fields of its error, and the exit code that it says belongs to it.
    #[must_use]
    pub fn remote(
        exit_code: u8,
        code: String,
        message: String,
        hints: Vec<String>,
        details: Map<String, Value>,
    ) -> Self {
        Self {
            kind: Kind::of_exit_code(exit_code),
            code: code.into(),
            message,
            hints,
            details: Box::new(details),
        }
    }

    /// Shorthand for [`Kind::Usage`].
    pub fn usage(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, code, message)
    }

    /// Shorthand for [`Kind::Defect`]: something that the code holds to be impossible.
    pub fn defect(message: impl Into<String>) -> Self {
        Self::new(Kind::Defect, "defect", message)
            .hint("this is a defect in orch: please report it with the command that you ran")
    }

    /// A failed file operation on `path`.
    pub fn file(code: &'static str, doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::usage(code, format!("cannot {doing} {}: {error}", path.display()))
    }

    /// Adds what to do next; a command in it can be pasted.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds a machine-readable fact.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// The same in other words: `say` gets everything in it that a person may have written.
    #[must_use]
    pub fn reworded(&self, say: impl Fn(&str) -> String) -> Self {
        Self {
            kind: self.kind,
            code: self.code.clone(),
            message: say(&self.message),
            hints: self.hints.iter().map(|hint| say(hint)).collect(),
            details: Box::new(
                self.details.iter().map(|(name, value)| (say(name), reworded(value, &say))).collect(),
            ),
        }
    }

    /// Its class.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The stable word for programs, such as `no_key`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What happened and why.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Machine-readable facts.
    #[must_use]
    pub fn details(&self) -> &Map<String, Value> {
        &self.details
    }

    /// What to do next.
    #[must_use]
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The machine-readable form: `{"error":{"code","message","hints","details"}}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "error": {
            "code": self.code, "message": self.message, "hints": self.hints, "details": self.details,
        }})
    }
}

fn reworded(value: &Value, say: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(say(text)),
        Value::Array(all) => all.iter().map(|value| reworded(value, say)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (say(name), reworded(value, say))).collect()
        }
        other => other.clone(),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_exit_code_of_the_contract() {
        let codes = [
            (Kind::Agent, 1),
            (Kind::Usage, 2),
            (Kind::NoKey, 3),
            (Kind::Denied, 4),
            (Kind::Providers, 5),
            (Kind::Limit, 6),
            (Kind::Vault, 7),
            (Kind::Server, 8),
            (Kind::Defect, 70),
            (Kind::Interrupted, 130),
        ];
        for (kind, code) in codes {
            assert_eq!(kind.exit_code(), code, "{kind:?}");
            assert_eq!(Kind::of_exit_code(code), kind);
        }
    }

    #[test]
    fn names_in_details_are_reworded_as_well() {
        let failure = Failure::usage("x", "m").detail("a", json!([{ "a": { "b": "c" } }])).detail("d", 1);
        let said = failure.reworded(|text| format!("{text}!"));
        assert_eq!(
            said.details(),
            json!({ "a!": [{ "a!": { "b!": "c!" } }], "d!": 1 }).as_object().expect("fields")
        );
    }

    #[test]
    fn the_json_form_has_the_four_fields() {
        let failure = Failure::usage("bad_input", "input is not JSON").hint("orch run …").detail("line", 3);
        assert_eq!(
            failure.to_json(),
            json!({"error": {"code": "bad_input", "message": "input is not JSON", "hints": ["orch run …"], "details": {"line": 3}}})
        );
    }
}
