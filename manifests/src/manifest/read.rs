//! Walking the tree: typed access that notes what is wrong and goes on, so that all problems are reported at once.

use std::cell::RefCell;
use std::fmt::Display;
use std::str::FromStr;

use super::locate::{Place, Step};
use super::tree::Node;
use crate::text::{nearest, quote};

/// A problem before its position is looked up.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) path: Vec<Step>,
    pub(super) place: Place,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    pub(super) position: Position,
}

/// How the line and column of a problem are found.
#[derive(Debug, Clone, Copy)]
pub(super) enum Position {
    /// By reading the text again.
    LookUp,
    /// They are what the parser said, if it said anything.
    Parser(Option<(usize, usize)>),
}

impl Draft {
    /// A problem of the text as a whole, whose position is known or cannot be.
    pub(super) fn at(message: String, position: Option<(usize, usize)>) -> Self {
        let position = Position::Parser(position);
        Self { path: Vec::new(), place: Place::Value, message, hint: None, position }
    }
}

/// Where problems go.
#[derive(Default)]
pub(super) struct Sink(RefCell<Vec<Draft>>);

impl Sink {
    pub(super) fn into_drafts(self) -> Vec<Draft> {
        self.0.into_inner()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// A value in the tree, and the way to it. What it returns as `None` it has reported.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    pub(super) node: &'a Node,
    path: Vec<Step>,
    sink: &'a Sink,
}

impl<'a> Cursor<'a> {
    pub(super) fn root(node: &'a Node, sink: &'a Sink) -> Self {
        Self { node, path: Vec::new(), sink }
    }

    /// A value that lies at the end of these keys.
    pub(super) fn inside(node: &'a Node, keys: &[&str], sink: &'a Sink) -> Self {
        Self { node, path: keys.iter().map(|key| Step::Key((*key).to_owned())).collect(), sink }
    }

    fn at(&self, step: Step, node: &'a Node) -> Self {
        let mut path = self.path.clone();
        path.push(step);
        Self { node, path, sink: self.sink }
    }

    fn note(&self, place: Place, message: String, hint: Option<String>) {
        let draft = Draft { path: self.path.clone(), place, message, hint, position: Position::LookUp };
        self.sink.0.borrow_mut().push(draft);
    }

    /// Reports that this value is wrong.
    pub(super) fn problem(&self, message: impl Display) {
        self.note(Place::Value, message.to_string(), None);
    }

    /// Reports that this value is wrong and what to write.
    pub(super) fn problem_hint(&self, message: impl Display, hint: impl Display) {
        self.note(Place::Value, message.to_string(), Some(hint.to_string()));
    }

    fn expected(&self, what: &str) {
        self.problem(format!("expected {what}, found {}", kind(self.node)));
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        match self.node {
            Node::Text(text) => Some(text),
            Node::Number(number) => {
                self.problem_hint(
                    format!("expected text, found the number {number}"),
                    format!("write it in quotes: \"{number}\""),
                );
                None
            }
            Node::Bool(value) => {
                self.problem_hint(
                    format!("expected text, found `{value}`"),
                    format!("write it in quotes: \"{value}\""),
                );
                None
            }
            _ => {
                self.expected("text");
                None
            }
        }
    }

    /// Text that is parsed into a type; the type's own error is the message.
    pub(super) fn parse<T: FromStr<Err: Display>>(&self) -> Option<T> {
        self.parse_with(T::from_str)
    }

    pub(super) fn parse_with<T, E: Display>(&self, parser: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        parser(self.text()?).map_err(|error| self.problem(error)).ok()
    }

    /// A number, or text that spells an amount; both go through the same parser.
    pub(super) fn amount<T, E: Display>(&self, parser: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        match self.node {
            Node::Number(number) => parser(&number.to_string()).map_err(|error| self.problem(error)).ok(),
            Node::Text(text) => parser(text).map_err(|error| self.problem(error)).ok(),
            _ => {
                self.expected("a number or text");
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let hint = match nearest(text, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("use one of: {}", known.join(", ")),
        };
        self.problem_hint(format!("{} is not known here", quote(text)), hint);
        None
    }

    pub(super) fn list(&self) -> Option<Vec<Cursor<'a>>> {
        match self.node {
            Node::List(items) => Some(
                items.iter().enumerate().map(|(index, item)| self.at(Step::Index(index), item)).collect(),
            ),
            _ => {
                self.problem_hint(
                    format!("expected a list, found {}", kind(self.node)),
                    "write one item per line, each after `- `, or all of them in `[ ]`",
                );
                None
            }
        }
    }

    /// A list where an empty one would say nothing while its absence says everything.
    pub(super) fn filled_list(&self, absence: &str) -> Option<Vec<Cursor<'a>>> {
        let items = self.list()?;
        if items.is_empty() {
            self.problem_hint(
                "the list is empty, which would allow nothing",
                format!("leave it out for {absence}"),
            );
            return None;
        }
        Some(items)
    }

    /// Every entry of a mapping with free names.
    pub(super) fn entries(&self) -> Option<Vec<(&'a str, Cursor<'a>)>> {
        match self.node {
            Node::Map(entries) => Some(
                entries
                    .iter()
                    .map(|(key, value)| (key.as_str(), self.at(Step::Key(key.clone()), value)))
                    .collect(),
            ),
            _ => {
                self.expected("a mapping");
                None
            }
        }
    }

    /// A mapping with known fields. `example` shows one when something else stands here.
    pub(super) fn fields(&self, example: &str) -> Option<Fields<'a>> {
        match self.node {
            Node::Map(entries) => Some(Fields { cursor: self.clone(), entries, known: Vec::new() }),
            _ => {
                self.problem_hint(
                    format!("expected a mapping, found {}", kind(self.node)),
                    format!("write it as `{example}`"),
                );
                None
            }
        }
    }
}

/// A mapping whose fields are asked for by name. [`Fields::finish`] reports the ones that nobody asked for.
pub(super) struct Fields<'a> {
    cursor: Cursor<'a>,
    entries: &'a [(String, Node)],
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The field, if it is there. A field without a value is reported: `methods:` with every item commented out must
    /// not read as "any method".
    pub(super) fn get(&mut self, name: &'static str) -> Option<Cursor<'a>> {
        self.known.push(name);
        let (_, node) = self.entries.iter().find(|(key, _)| key == name)?;
        let field = self.cursor.at(Step::Key(name.into()), node);
        if *node == Node::Null {
            field.note(Place::Key, "has no value".into(), Some("give it one, or remove the field".into()));
            return None;
        }
        Some(field)
    }

    /// The field, which has to be there.
    pub(super) fn need(&mut self, name: &'static str, example: &str) -> Option<Cursor<'a>> {
        let field = self.get(name);
        if !self.entries.iter().any(|(key, _)| key == name) {
            self.cursor
                .problem_hint(format!("the field `{name}` is missing"), format!("add `{name}: {example}`"));
        }
        field
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _)| key == name)
    }

    pub(super) fn finish(self) {
        for (key, node) in self.entries {
            if self.known.contains(&key.as_str()) {
                continue;
            }
            let fields = self.known.join(", ");
            let hint = match nearest(key, self.known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`? The fields here are: {fields}"),
                None => format!("the fields here are: {fields}"),
            };
            let field = self.cursor.at(Step::Key(key.clone()), node);
            field.note(Place::Key, format!("unknown field {}", quote(key)), Some(hint));
        }
    }
}

fn kind(node: &Node) -> &'static str {
    match node {
        Node::Null => "nothing",
        Node::Bool(_) => "true or false",
        Node::Number(_) => "a number",
        Node::Text(_) => "text",
        Node::List(_) => "a list",
        Node::Map(_) => "a mapping",
    }
}
