//! `sandbox`: what of it has to hold.

use orch_runner::{LayerName, Requirement};
use serde::Deserialize;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSandbox {
    require: Option<serde_yaml::Value>,
}

impl RawSandbox {
    /// The layers that are required; the error says what is wrong with the list.
    pub(super) fn parse(self) -> Result<Requirement, String> {
        let neither = || "it is `all` or a list of layers, such as [landlock, seccomp]".to_owned();
        let words = match self.require {
            None => return Ok(Requirement::default()),
            Some(serde_yaml::Value::String(word)) if word == "all" => return Ok(Requirement::all()),
            Some(list) => serde_yaml::from_value::<Vec<String>>(list).map_err(|_| neither())?,
        };
        let layers = words.iter().map(|word| word.parse::<LayerName>()).collect::<Result<Vec<_>, _>>();
        layers.map(Requirement::of).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Requirement, String> {
        serde_yaml::from_str::<RawSandbox>(text).map_err(|error| error.to_string())?.parse()
    }

    #[test]
    fn layers_are_named_or_all_of_them_meant() {
        assert_eq!(parse("{}"), Ok(Requirement::default()));
        assert_eq!(parse("require: all"), Ok(Requirement::all()));
        let two = Requirement::of([LayerName::Landlock, LayerName::Seccomp]);
        assert_eq!(parse("require: [seccomp, landlock]"), Ok(two));
        assert_eq!(parse("require: []"), Ok(Requirement::default()));
    }

    #[test]
    fn what_is_no_layer_is_named_with_those_that_are() {
        for (text, part) in [
            (
                "require: [seccmp]",
                "\"seccmp\" is not a layer of the sandbox; they are descriptors, parent-death,",
            ),
            ("require: seccomp", "it is `all` or a list"),
            ("require: none", "it is `all` or a list"),
            ("required: all", "unknown field `required`"),
            ("require: 7", "it is `all` or a list"),
            ("require: [[seccomp]]", "it is `all` or a list"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
