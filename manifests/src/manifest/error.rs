//! What is wrong with a manifest, said so that it can be fixed.

use std::fmt;

use super::Format;
use super::locate;
use super::read::{Draft, Position};

/// Most problems that one error reports. Each costs a pass over the text to find its line.
const REPORTED: usize = 32;

/// A manifest that was refused, with all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestError {
    /// What the manifest is called, such as its path.
    pub label: String,
    /// The problems, in the order of the file where lines are known. Never empty.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The field, such as `egress[0].host`; empty for the file as a whole.
    pub path: String,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of the file as a whole.
    pub(crate) fn whole(message: String) -> Self {
        Self { path: String::new(), line: None, column: None, message, hint: None }
    }
}

impl ManifestError {
    pub(super) fn whole(label: &str, problem: Problem) -> Self {
        Self { label: label.into(), problems: vec![problem] }
    }

    /// Finds where in the text each problem is.
    pub(super) fn locate(label: &str, text: &str, format: Format, drafts: Vec<Draft>) -> Self {
        let more = drafts.len().saturating_sub(REPORTED);
        let mut problems: Vec<Problem> = drafts
            .into_iter()
            .take(REPORTED)
            .map(|draft| {
                let at = match draft.position {
                    Position::Parser(at) => at,
                    Position::LookUp => locate::find(text, format, &draft.path, draft.place),
                };
                Problem {
                    path: locate::path_text(&draft.path),
                    line: at.map(|(line, _)| line),
                    column: at.map(|(_, column)| column),
                    message: draft.message,
                    hint: draft.hint,
                }
            })
            .collect();
        problems.sort_by_key(|problem| (problem.line.unwrap_or(0), problem.column.unwrap_or(0)));
        if more > 0 {
            problems.push(Problem::whole(format!("{more} more problems are not shown")));
        }
        Self { label: label.into(), problems }
    }
}

impl fmt::Display for Problem {
    /// `path: message`, without the position and the hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for ManifestError {
    /// One line per problem as `label:line:column: path: message`, each followed by its hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.label)?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
                if let Some(column) = problem.column {
                    write!(f, ":{column}")?;
                }
            }
            write!(f, ": {problem}")?;
            if let Some(hint) = &problem.hint {
                write!(f, "\n  hint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ManifestError {}
