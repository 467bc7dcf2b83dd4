//! An `egress` list that stands outside of a manifest: in a policy file, a configuration, a request.

use super::decode;
use super::error::ManifestError;
use super::locate::{Place, Step};
use super::read::{Cursor, Draft, Position, Sink};
use super::tree::{self, Node};
use super::{EgressWant, Format, MANIFEST_MAX, Policy, too_large};

impl EgressWant {
    /// Reads the list that `path` leads to from the root of a text, item by item as a manifest's `egress` is read. What
    /// else the text holds is not looked at. `None` when nothing stands there; `path` may be empty, when the text is the
    /// list itself.
    ///
    /// # Errors
    /// As [`Manifest::parse`](super::Manifest::parse): all problems of the list, with path, line and column.
    pub fn list_in(
        text: &str,
        format: Format,
        label: &str,
        path: &[&str],
    ) -> Result<Option<Vec<Self>>, ManifestError> {
        if text.len() > MANIFEST_MAX {
            return Err(ManifestError::whole(label, too_large()));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let root = match tree::parse(text, format) {
            Ok(root) => root,
            Err(fault) => return Err(ManifestError::locate(label, text, format, vec![*fault])),
        };
        let mut node = &root;
        for step in path {
            let Node::Map(entries) = node else { return Ok(None) };
            let Some((_, inner)) = entries.iter().find(|(key, _)| key == step) else { return Ok(None) };
            node = inner;
        }
        if *node == Node::Null && !path.is_empty() {
            // `egress:` with every item commented out must not read as "not said".
            let steps = path.iter().map(|step| Step::Key((*step).to_owned())).collect();
            let draft = Draft {
                path: steps,
                place: Place::Key,
                message: "has no value".into(),
                hint: Some("write `[]` for a policy that allows nothing, or remove the field".into()),
                position: Position::LookUp,
            };
            return Err(ManifestError::locate(label, text, format, vec![draft]));
        }
        let sink = Sink::default();
        let at = Cursor::inside(node, path, &sink);
        let items = at.list().map(|items| items.iter().filter_map(decode::egress).collect::<Vec<_>>());
        match items {
            Some(items) if sink.is_empty() => Ok(Some(items)),
            _ => Err(ManifestError::locate(label, text, format, sink.into_drafts())),
        }
    }

    /// The `egress` of a [`Policy`].
    ///
    /// # Errors
    /// As [`Policy::parse`].
    pub fn policy_in(text: &str, format: Format, label: &str) -> Result<Vec<Self>, ManifestError> {
        Policy::parse(text, format, label).map(|policy| policy.egress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_found_and_read_as_a_manifest_s() {
        let text = "a: 1\negress:\n  trial:\n    - { host: api.example.com, methods: [GET] }\n";
        let list = EgressWant::list_in(text, Format::Yaml, "x", &["egress", "trial"]).expect("a list");
        assert_eq!(list.expect("there").len(), 1);
        assert_eq!(EgressWant::list_in(text, Format::Yaml, "x", &["egress", "other"]).expect("fine"), None);
        let list = EgressWant::list_in("[{\"host\":\"a.example\"}]", Format::Json, "x", &[]).expect("a list");
        assert_eq!(list.expect("there")[0].host.to_string(), "a.example");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_in_the_whole_text() {
        let text = "tests: []\negress:\n  - host: api.example.com\n    methds: [GET]\n";
        let error =
            EgressWant::list_in(text, Format::Yaml, "p.yaml", &["egress"]).expect_err("a misspelling");
        assert_eq!(error.problems[0].line, Some(4), "{error}");
        assert!(error.to_string().contains("p.yaml:4:5: egress[0].methds: unknown field"), "{error}");
        for (text, says) in [
            ("egress:\n", "has no value"),
            ("egress: {}\n", "expected a list"),
            ("egress: [\n", "not valid YAML"),
            ("egress: [{ host: 10.0.0.1 }]", "IP address"),
        ] {
            let error = EgressWant::list_in(text, Format::Yaml, "p", &["egress"]).expect_err(text);
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
