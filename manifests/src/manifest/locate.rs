//! Where in the text a field is.
//!
//! The parsers give positions only with errors. So the field is looked up by reading the text once more with a visitor
//! that fails exactly there: the position of that error is the field's, whatever the style of the text.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Format, tree};
use crate::text::quote;

/// One step from a value into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// Which part of a field is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Its name.
    Key,
    /// Its value.
    Value,
}

/// A path as messages write it: `egress[0].host`.
pub(super) fn path_text(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(index) => text.push_str(&format!("[{index}]")),
            Step::Key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                let plain = !key.is_empty()
                    && key.len() <= 64
                    && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-$".contains(&b));
                if plain { text.push_str(key) } else { text.push_str(&quote(key)) }
            }
        }
    }
    text
}

/// Line and column, from 1, of what a path leads to. `None` when the text cannot be read that far.
///
/// What an alias stands for is found where its anchor is.
pub(super) fn find(text: &str, format: Format, path: &[Step], place: Place) -> Option<(usize, usize)> {
    let found = Cell::new(false);
    let seed = Finder { path, place, found: &found };
    // JSON is YAML but for corners, and the YAML parser knows where a value starts; serde_json knows where it ends.
    if tree::too_many_brackets(text).is_none() {
        let yaml = seed.deserialize(serde_yaml::Deserializer::from_str(text)).err();
        if let Some(at) = yaml.filter(|_| found.get()).and_then(|error| error.location()) {
            return Some((at.line(), at.column()));
        }
    }
    if format == Format::Yaml {
        return None;
    }
    found.set(false);
    let error = seed.deserialize(&mut serde_json::Deserializer::from_str(text)).err()?;
    found.get().then(|| (error.line(), error.column()))
}

#[derive(Clone, Copy)]
struct Finder<'a> {
    path: &'a [Step],
    place: Place,
    found: &'a Cell<bool>,
}

impl Finder<'_> {
    /// The value at hand: either the one that is looked for, or one that has nothing to step into.
    fn here<T, E: serde::de::Error>(self) -> Result<T, E> {
        self.found.set(self.path.is_empty());
        Err(E::custom("here"))
    }
}

impl<'de> DeserializeSeed<'de> for Finder<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Finder<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.here()
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<(), E> {
        self.here()
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.here()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.here()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.here()
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<(), E> {
        self.here()
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<(), E> {
        self.here()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.here()
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.here()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some((Step::Index(wanted), rest)) = self.path.split_first() else { return self.here() };
        for _ in 0..*wanted {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        items.next_element_seed(Finder { path: rest, ..self })?;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), rest)) = self.path.split_first() else { return self.here() };
        let stop_at_key = (rest.is_empty() && self.place == Place::Key).then_some(self.found);
        while let Some(hit) = entries.next_key_seed(KeyFinder { wanted, stop_at_key })? {
            if hit {
                return entries.next_value_seed(Finder { path: rest, ..self });
            }
            entries.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

struct KeyFinder<'a> {
    wanted: &'a str,
    stop_at_key: Option<&'a Cell<bool>>,
}

impl<'de> DeserializeSeed<'de> for KeyFinder<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for KeyFinder<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<bool, E> {
        match self.stop_at_key {
            Some(found) if key == self.wanted => {
                found.set(true);
                Err(E::custom("here"))
            }
            _ => Ok(key == self.wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(path: &[&str]) -> Vec<Step> {
        path.iter().map(|step| step.parse().map_or_else(|_| Step::Key((*step).into()), Step::Index)).collect()
    }

    #[test]
    fn positions_in_yaml_of_any_style() {
        let text = "\
# comment
name: a/b
egress:
  - host: one
    paths: [\"/a\", '/b']
  - {host: two,
     port: 1}
\"quoted key\": &anchor
  x: 1
copy: *anchor
";
        for (path, place, expected) in [
            (&[][..], Place::Value, Some((2, 1))),
            (&["name"], Place::Key, Some((2, 1))),
            (&["name"], Place::Value, Some((2, 7))),
            (&["egress", "0", "host"], Place::Value, Some((4, 11))),
            (&["egress", "0", "paths"], Place::Key, Some((5, 5))),
            (&["egress", "0", "paths", "1"], Place::Value, Some((5, 19))),
            (&["egress", "1"], Place::Value, Some((6, 5))),
            (&["egress", "1", "port"], Place::Key, Some((7, 6))),
            (&["quoted key", "x"], Place::Value, Some((9, 6))),
            (&["copy", "x"], Place::Value, Some((9, 6))),
            (&["egress", "2"], Place::Value, None),
            (&["nowhere"], Place::Key, None),
            (&["name", "deeper"], Place::Value, None),
        ] {
            assert_eq!(find(text, Format::Yaml, &steps(path), place), expected, "{path:?} {place:?}");
        }
    }

    #[test]
    fn positions_in_json() {
        let text = "{\n\t\"name\": \"a/b\",\n\t\"egress\": [{\"host\": 1}]\n}";
        for (path, place, expected) in [
            (&["name"][..], Place::Key, Some((2, 2))),
            (&["name"], Place::Value, Some((2, 10))),
            (&["egress", "0", "host"], Place::Value, Some((3, 22))),
        ] {
            assert_eq!(find(text, Format::Json, &steps(path), place), expected, "{path:?} {place:?}");
        }
        // A surrogate pair is JSON and not YAML: the line is known all the same.
        let text = "{\n \"a\": \"\\ud83d\\ude00\",\n \"b\": 1\n}";
        assert_eq!(find(text, Format::Json, &steps(&["b"]), Place::Value).map(|at| at.0), Some(3));
    }

    #[test]
    fn paths_as_text() {
        assert_eq!(path_text(&steps(&["egress", "0", "host"])), "egress[0].host");
        assert_eq!(path_text(&steps(&["env", "a b\u{1b}", "$ref"])), "env.`a b\\u{1b}`.$ref");
        assert_eq!(path_text(&[]), "");
    }
}
