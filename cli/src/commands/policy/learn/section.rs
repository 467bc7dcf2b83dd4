//! The egress section of what a run asked for, as YAML with its reasons beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use http::Method;
use orch_manifests::{CanonicalPath, EgressWant, Format, PathGlob, Scheme};
use orch_proxy::{Asked, Verdict, decide, decide_connect};
use serde_json::{Value, json};

use super::asked::{Left, Origin, Record};
use super::cover::fewest;
use crate::commands::policy::granted;

/// Distinct values of one segment that make it look like an identifier and not like a place.
const SIBLINGS: usize = 3;
/// Of what a pattern stands for, how much its comment repeats.
const SHOWN: usize = 4;
/// Refusals that are listed, each.
const LISTED: usize = 50;

/// A learned section.
#[derive(Debug, Default)]
pub(super) struct Section {
    requests: usize,
    items: Vec<Item>,
    left: BTreeSet<Left>,
    on_trial: BTreeSet<String>,
}

/// One item of the list; one without methods and paths allows tunnels, and with them everything.
#[derive(Debug)]
struct Item {
    origin: Origin,
    methods: BTreeSet<String>,
    /// Patterns, each with the paths that it stands for.
    paths: BTreeMap<String, BTreeSet<String>>,
}

impl Section {
    /// The smallest section that allows what was asked for. Nothing else is allowed by it, but where identifiers in
    /// paths became a `*`, or there was one to begin with; its comments say so.
    pub(super) fn learned(record: &Record) -> Self {
        let mut section = Self {
            requests: record.requests,
            left: record.left.clone(),
            on_trial: record.on_trial.clone(),
            ..Self::default()
        };
        let tunnels = record.tunnels.iter().cloned();
        section.items.extend(tunnels.map(|origin| Item {
            origin,
            methods: BTreeSet::new(),
            paths: BTreeMap::new(),
        }));
        // Whoever may open a tunnel may ask for anything there.
        for (origin, paths) in record.asked.iter().filter(|(origin, _)| !record.tunnels.contains(origin)) {
            let (patterns, stands_for) = generalised(paths);
            for (methods, patterns) in fewest(&patterns) {
                let paths = patterns
                    .into_iter()
                    .map(|pattern| {
                        let seen = stands_for.get(&pattern).cloned().unwrap_or_default();
                        (pattern, seen)
                    })
                    .collect();
                section.items.push(Item { origin: origin.clone(), methods, paths });
            }
        }
        section.items.sort_by(|a, b| a.origin.cmp(&b.origin));
        section.prove(record);
        section
    }

    /// Judges all that was asked for by what was learned, as a run would be judged. What it does not allow is said: a
    /// pattern may be too long for a manifest, or the name of a host one that no manifest may have.
    fn prove(&mut self, record: &Record) {
        self.items.retain(|item| match EgressWant::list_in(&item.yaml(), Format::Yaml, "learned", &[]) {
            Ok(_) => true,
            Err(error) => {
                let why = error.problems.first().map(ToString::to_string).unwrap_or_default();
                let what = format!("{} {}", item.origin.scheme, item.origin.host);
                self.left.insert(Left { what, why });
                false
            }
        });
        let text: String = self.items.iter().map(Item::yaml).collect();
        let wants =
            EgressWant::list_in(&text, Format::Yaml, "learned", &[]).ok().flatten().unwrap_or_default();
        let rules = granted(&wants);
        for origin @ Origin { host, port, .. } in &record.tunnels {
            if !matches!(decide_connect(&rules, host, *port), Verdict::Allow { .. }) {
                let what = format!("CONNECT {}:{}", origin.host, origin.port);
                self.left.insert(Left { what, why: "no item of a manifest allows it".to_owned() });
            }
        }
        for (origin, paths) in &record.asked {
            for (path, methods) in paths {
                for method in methods {
                    if !allows(&rules, origin, path, method) {
                        let Origin { scheme, host, port } = origin;
                        let what = format!("{method} {scheme}://{host}:{port}{path}");
                        self.left.insert(Left { what, why: "no item of a manifest allows it".to_owned() });
                    }
                }
            }
        }
    }

    /// The section as a person pastes it; `from` is where it was learned.
    pub(super) fn text(&self, from: &str) -> String {
        let mut text = String::new();
        let origins: BTreeSet<&Origin> = self.items.iter().map(|item| &item.origin).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "# Learned from {from}: {} at {}. It asks for what was asked for, wanted or not: read it first.",
            count(self.requests, "request"),
            count(origins.len(), "host")
        );
        if self.items.is_empty() {
            text.push_str("egress: []\n");
        } else {
            text.push_str("egress:\n");
        }
        for item in &self.items {
            for comment in item.comments() {
                let _ = writeln!(text, "  # {comment}");
            }
            for line in item.yaml().lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
        comment_list(
            &mut text,
            "Not in it, because no egress rule can allow it:",
            self.left.iter().map(|left| format!("{} ({})", left.what, left.why)),
        );
        comment_list(&mut text, "The policy on trial would have refused:", self.on_trial.iter().cloned());
        text.truncate(text.trim_end().len());
        text
    }

    pub(super) fn json(&self) -> Value {
        let items: Vec<Value> = self.items.iter().map(Item::json).collect();
        let generalised: Vec<Value> = self
            .items
            .iter()
            .flat_map(|item| {
                item.widened().map(|(pattern, seen)| {
                json!({ "host": item.origin.host.as_str(), "path": pattern, "seen": seen })
            })
            })
            .collect();
        let left: Vec<Value> =
            self.left.iter().map(|left| json!({ "request": left.what, "reason": left.why })).collect();
        json!({
            "requests": self.requests, "egress": items, "generalised": generalised, "not_covered": left,
            "trial_would_deny": self.on_trial,
        })
    }
}

impl Item {
    /// The item as YAML, from the start of a line.
    fn yaml(&self) -> String {
        let Self { origin: Origin { host, scheme, port }, methods, paths } = self;
        let mut text = format!("- host: {host}\n");
        if *scheme != Scheme::Https {
            text += &format!("  scheme: {scheme}\n");
        }
        if *port != scheme.default_port() {
            text += &format!("  port: {port}\n");
        }
        if self.is_tunnel() {
            return text;
        }
        let methods: Vec<&str> = methods.iter().map(String::as_str).collect();
        text += &format!("  methods: [{}]\n", methods.join(", "));
        // A JSON string is a YAML scalar.
        let quoted: Vec<String> = paths.keys().map(|path| Value::from(path.as_str()).to_string()).collect();
        match quoted.as_slice() {
            [one] => text += &format!("  paths: [{one}]\n"),
            all => {
                text += "  paths:\n";
                for path in all {
                    text += &format!("    - {path}\n");
                }
            }
        }
        text
    }

    fn json(&self) -> Value {
        let mut item = json!({ "host": self.origin.host.as_str() });
        if !self.is_tunnel() {
            item["methods"] = json!(self.methods);
            item["paths"] = json!(self.paths.keys().collect::<Vec<_>>());
        }
        if self.origin.scheme != Scheme::Https {
            item["scheme"] = json!(self.origin.scheme.as_str());
        }
        if self.origin.port != self.origin.scheme.default_port() {
            item["port"] = json!(self.origin.port);
        }
        item
    }

    fn is_tunnel(&self) -> bool {
        self.methods.is_empty()
    }

    /// Patterns that allow more than what was seen.
    fn widened(&self) -> impl Iterator<Item = (&String, &BTreeSet<String>)> {
        self.paths.iter().filter(|(pattern, _)| pattern.contains('*'))
    }

    fn comments(&self) -> Vec<String> {
        if self.is_tunnel() {
            let Origin { host, scheme, port } = &self.origin;
            let mut comment = "A tunnel: anything may go through it.".to_owned();
            if *port == scheme.default_port() {
                comment += &format!(" Requests to http://{host}/ are judged one by one, and sent over TLS.");
            }
            return vec![comment];
        }
        self.widened()
            .map(|(pattern, seen)| {
                let shown: Vec<&str> = seen.iter().take(SHOWN).map(String::as_str).collect();
                let more = if seen.len() > SHOWN { ", …" } else { "" };
                match seen.len() {
                    0 | 1 => {
                        format!("{pattern} was asked for as it stands, and is a pattern that allows more.")
                    }
                    many => format!(
                        "{pattern} stands for {many} paths that were seen: {}{more}",
                        shown.join(", ")
                    ),
                }
            })
            .collect()
    }
}

fn comment_list(text: &mut String, title: &str, lines: impl ExactSizeIterator<Item = String>) {
    let count = lines.len();
    if count == 0 {
        return;
    }
    let _ = writeln!(text, "# {title}");
    for line in lines.take(LISTED) {
        // What was asked for is the agent's to choose: it must not end the comment.
        let line: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let _ = writeln!(text, "#   {line}");
    }
    if count > LISTED {
        let _ = writeln!(text, "#   and {} more", count - LISTED);
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn allows(rules: &[orch_proxy::Rule], origin: &Origin, path: &str, method: &str) -> bool {
    let (Ok(path), Ok(method)) = (CanonicalPath::parse(path), method.parse::<Method>()) else { return false };
    let asked =
        Asked { scheme: origin.scheme, host: &origin.host, port: origin.port, method: &method, path: &path };
    matches!(decide(rules, &asked), Verdict::Allow { .. })
}

/// The methods of each pattern.
type Patterns = BTreeMap<String, BTreeSet<String>>;

/// Patterns in place of paths where at least [`SIBLINGS`] of the same method differ in one segment alone that looks like
/// an identifier; and the paths that each pattern stands for.
fn generalised(paths: &Patterns) -> (Patterns, Patterns) {
    let mut by_method: BTreeMap<&String, BTreeSet<&str>> = BTreeMap::new();
    for (path, methods) in paths {
        for method in methods {
            by_method.entry(method).or_default().insert(path);
        }
    }
    let (mut patterns, mut stands_for) = (Patterns::new(), Patterns::new());
    for (method, paths) in by_method {
        for (pattern, seen) in of_one_method(&paths) {
            patterns.entry(pattern.clone()).or_default().insert(method.clone());
            stands_for.entry(pattern).or_default().extend(seen.into_iter().map(str::to_owned));
        }
    }
    (patterns, stands_for)
}

/// Patterns of the paths of one method, from the left to the right: `/users/1/posts/7` may become `/users/*/posts/*`.
fn of_one_method<'a>(paths: &BTreeSet<&'a str>) -> BTreeMap<String, BTreeSet<&'a str>> {
    let mut known: BTreeMap<Vec<&str>, BTreeSet<&'a str>> = BTreeMap::new();
    for path in paths {
        known.entry(path.split('/').skip(1).collect()).or_default().insert(path);
    }
    let longest = known.keys().map(Vec::len).max().unwrap_or(0);
    for at in 0..longest {
        // By what is left when this segment is blanked: the segments that stood there.
        let mut families: BTreeMap<Vec<&str>, BTreeSet<&str>> = BTreeMap::new();
        for segments in known.keys().filter(|segments| segments.get(at).is_some_and(|it| is_identifier(it))) {
            let mut family = segments.clone();
            let value = std::mem::replace(&mut family[at], "*");
            families.entry(family).or_default().insert(value);
        }
        for (family, values) in families.into_iter().filter(|(_, values)| values.len() >= SIBLINGS) {
            let mut seen = BTreeSet::new();
            for value in values {
                let mut member = family.clone();
                member[at] = value;
                seen.extend(known.remove(&member).unwrap_or_default());
            }
            known.entry(family).or_default().extend(seen);
        }
    }
    let text =
        |segments: Vec<&str>| segments.iter().fold(String::new(), |text, segment| text + "/" + segment);
    let whole: BTreeMap<String, BTreeSet<&str>> =
        known.into_iter().map(|(segments, seen)| (text(segments), seen)).collect();
    // What a pattern allows anyway need not be said beside it.
    let globs: Vec<(String, PathGlob)> = whole
        .keys()
        .filter(|pattern| whole[*pattern].len() > 1)
        .filter_map(|pattern| Some((pattern.clone(), pattern.parse().ok()?)))
        .collect();
    let mut kept: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (pattern, seen) in whole {
        let covering = globs.iter().find(|(other, glob)| {
            *other != pattern
                && seen.len() == 1
                && CanonicalPath::parse(&pattern).is_ok_and(|path| glob.matches(&path))
        });
        let into = covering.map_or(pattern, |(other, _)| other.clone());
        kept.entry(into).or_default().extend(seen);
    }
    kept
}

/// Whether a segment names one thing among many: a number, a UUID, or letters and digits mixed.
fn is_identifier(segment: &str) -> bool {
    let digits = segment.bytes().filter(u8::is_ascii_digit).count();
    let plain = segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let hex = segment.len() >= 8 && segment.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    // `v1` and `2024-q3` are places; an identifier is a number, or has six characters and two digits at least.
    plain && ((digits > 0 && digits == segment.len()) || hex || (segment.len() >= 6 && digits >= 2))
}

#[cfg(test)]
mod tests;
