//! Errors about scenarios, with the place and the nearest known name.

use std::fmt;

/// What is wrong with a scenario: where, what, and what was probably meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// The file, or `None` when the scenario's name itself is wrong.
    pub file: Option<String>,
    /// The path of the field within the file, such as `rules[0].answer`.
    pub field: Option<String>,
    /// Line and column, from 1.
    pub place: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
    /// The nearest known name, where a name is unknown.
    pub nearest: Option<String>,
}

impl ScenarioError {
    pub(super) fn unknown_name(name: &str, known: &[&str]) -> ScenarioError {
        let nearest = nearest(name, known.iter().copied());
        ScenarioError {
            file: None,
            field: None,
            place: None,
            message: format!("`{name}` is no scenario and no file"),
            nearest: Some(match nearest {
                Some(nearest) => format!("did you mean `{nearest}`? Known: {}", known.join(", ")),
                None => format!("known: {}", known.join(", ")),
            }),
        }
    }

    pub(super) fn unknown_provider<'a>(
        file: &str,
        rule: usize,
        slug: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> ScenarioError {
        ScenarioError {
            file: Some(file.to_owned()),
            field: Some(format!("rules[{rule}].provider")),
            place: None,
            message: format!("no provider is called `{slug}`"),
            nearest: nearest(slug, known).map(|nearest| format!("did you mean `{nearest}`?")),
        }
    }

    pub(super) fn in_file(file: &str, message: String) -> ScenarioError {
        ScenarioError { file: Some(file.to_owned()), field: None, place: None, message, nearest: None }
    }

    /// Takes apart what `serde_yaml` reports. Its message is `path: text at line L column C`, and serde's own texts
    /// for unknown names list the known ones in backquotes; where that shape is not found the text is kept whole.
    pub(super) fn from_yaml(file: &str, error: &serde_yaml::Error) -> ScenarioError {
        let text = error.to_string();
        let place = error.location().map(|at| (at.line(), at.column()));
        let text = match place {
            Some((line, column)) => {
                text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text).to_owned()
            }
            None => text,
        };
        let (field, message) = match text.split_once(": ") {
            Some((path, rest)) if is_path(path) => (Some(path.to_owned()), rest.to_owned()),
            _ => (None, text),
        };
        // An unknown field is reported at the mapping that holds it; its own path says more.
        let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
        let field = match (field, unknown) {
            (Some(parent), Some((name, _))) => Some(format!("{parent}.{name}")),
            (None, Some((name, _))) => Some(name.to_owned()),
            (field, None) => field,
        };
        let nearest = did_you_mean(&message);
        ScenarioError { file: Some(file.to_owned()), field, place, message, nearest }
    }
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            f.write_str(file)?;
            if let Some((line, column)) = self.place {
                write!(f, ":{line}:{column}")?;
            }
            f.write_str(": ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; {nearest}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ScenarioError {}

/// Whether `text` is a field path as `serde_yaml` writes them: `rules[0].answer`, never with a space.
fn is_path(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '[' | ']' | '_' | '-' | '?'))
}

fn did_you_mean(message: &str) -> Option<String> {
    let quoted =
        message.strip_prefix("unknown field `").or_else(|| message.strip_prefix("unknown variant `"))?;
    let (name, expected) = quoted.split_once("`, expected ")?;
    let known = expected.split('`').skip(1).step_by(2);
    nearest(name, known).map(|nearest| format!("did you mean `{nearest}`?"))
}

/// The known name that most likely was meant: within a third of its length in typing errors, or sharing a prefix of
/// at least four characters.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_ascii_lowercase().replace('_', "-");
    known
        .map(|candidate| (strsim::damerau_levenshtein(&lower, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= candidate.len().div_ceil(3) || (lower.len() >= 4 && candidate.starts_with(&lower))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
