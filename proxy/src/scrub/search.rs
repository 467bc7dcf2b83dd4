//! Where in a text a form of a secret could begin.
//!
//! A form's first [`PREFIX`] characters all stand there as themselves, or one of them is escaped, or the text ends before
//! the last of them. The first is looked for with vector instructions, a few dozen bytes at a time; so are the escapes,
//! and only right before one, and right before the end, places are looked at one by one.

use aho_corasick::packed::{Config, MatchKind, Searcher};
use aho_corasick::{AhoCorasick, Input, Span};
use memchr::memchr2;

use super::form::{ESCAPED, Escape, Form, escapes};

/// Characters that have to fit before a place is looked at closely. With two, every page of prose would have such places.
const PREFIX: usize = 3;

/// Finds places where a form could begin.
pub(super) struct Search {
    prefixes: Prefixes,
    /// The bytes that can begin a form as themselves, and those that can once they are escaped.
    begins: [bool; 256],
    begins_escaped: [bool; 256],
    /// The bytes that can follow a backslash that begins a form.
    after_backslash: [bool; 256],
}

enum Prefixes {
    /// Every form begins with a character that is also written as the beginning of an escape.
    None,
    Vector(Searcher),
    /// For processors without the instructions.
    Automaton(AhoCorasick),
}

impl Search {
    pub(super) fn new(forms: &[Form]) -> Self {
        let (mut begins, mut begins_escaped, mut after_backslash) =
            ([false; 256], [false; 256], [false; 256]);
        for form in forms {
            form.plain(0).for_each(|byte| begins[usize::from(byte)] = true);
            form.bytes(0).for_each(|byte| begins_escaped[usize::from(byte)] = true);
            let may_follow = ESCAPED.into_iter().filter(|byte| may_follow_backslash(form, *byte));
            may_follow.for_each(|byte| after_backslash[usize::from(byte)] = true);
        }
        Self { prefixes: Prefixes::new(&prefixes(forms)), begins, begins_escaped, after_backslash }
    }

    /// The places of one text.
    pub(super) fn candidates<'a>(&'a self, text: &'a [u8]) -> Candidates<'a> {
        Candidates { search: self, text, prefix: None, escape: None }
    }

    /// Whether a form can begin at the beginning of this text, which is not empty.
    fn may_begin(&self, text: &[u8]) -> bool {
        let set = |table: &[bool; 256], byte: u8| table[usize::from(byte)];
        set(&self.begins, text[0])
            || match text {
                [b'%', high, low, ..] => match (hex_value(*high), hex_value(*low)) {
                    // A percent sign that is encoded again may be the beginning of any escape.
                    (Some(high), Some(low)) => {
                        set(&self.begins_escaped, high << 4 | low) || (high, low) == (2, 5)
                    }
                    _ => false,
                },
                [b'\\', second, ..] => set(&self.after_backslash, *second),
                [b'%' | b'\\', ..] => true,
                _ => false,
            }
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Whether a backslash and this byte can begin the first character of the form.
fn may_follow_backslash(form: &Form, byte: u8) -> bool {
    escapes(&[b'\\', byte]).any(|escape| match escape {
        Escape::Byte(byte, _) => form.accepts(0, byte),
        // What is not over yet may still fit.
        Escape::Begun => true,
        Escape::No => false,
    })
}

/// The ways in which the forms begin as long as nothing is escaped.
fn prefixes(forms: &[Form]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for form in forms {
        let mut of_form = vec![Vec::new()];
        for index in 0..PREFIX {
            let mut bytes: Vec<u8> = form.plain(index).filter(|byte| !matches!(byte, b'%' | b'\\')).collect();
            bytes.dedup();
            let longer = |begun: &Vec<u8>| bytes.iter().map(|byte| [begun, &[*byte][..]].concat()).collect();
            of_form = of_form.iter().flat_map::<Vec<_>, _>(longer).collect();
        }
        all.append(&mut of_form);
    }
    all.sort_unstable();
    all.dedup();
    all
}

impl Prefixes {
    fn new(prefixes: &[Vec<u8>]) -> Self {
        if prefixes.is_empty() {
            return Self::None;
        }
        let mut vector = Config::new().match_kind(MatchKind::LeftmostFirst).builder();
        match vector.extend(prefixes).build() {
            Some(searcher) => Self::Vector(searcher),
            None => Self::automaton(prefixes),
        }
    }

    fn automaton(prefixes: &[Vec<u8>]) -> Self {
        Self::Automaton(AhoCorasick::new(prefixes).expect("a few dozen prefixes are not too many"))
    }

    fn find(&self, text: &[u8], from: usize) -> Option<usize> {
        let span = Span::from(from..text.len());
        match self {
            Self::None => None,
            Self::Vector(searcher) => searcher.find_in(text, span).map(|found| found.start()),
            Self::Automaton(automaton) => {
                automaton.find(Input::new(text).span(span)).map(|found| found.start())
            }
        }
    }
}

/// The places in a text, in order.
pub(super) struct Candidates<'a> {
    search: &'a Search,
    text: &'a [u8],
    /// The next place at which a prefix stands, once looked for; at the text's end when there is none.
    prefix: Option<usize>,
    /// The same for the next escape.
    escape: Option<usize>,
}

impl Candidates<'_> {
    /// The first place that is not before `at`.
    pub(super) fn next_from(&mut self, mut at: usize) -> Option<usize> {
        let (search, text) = (self.search, self.text);
        while at < text.len() {
            let prefix = match self.prefix {
                Some(prefix) if prefix >= at => prefix,
                _ => search.prefixes.find(text, at).unwrap_or(text.len()),
            };
            let escape = match self.escape {
                Some(escape) if escape >= at => escape,
                _ => memchr2(b'%', b'\\', &text[at..]).map_or(text.len(), |found| at + found),
            };
            (self.prefix, self.escape) = (Some(prefix), Some(escape));
            // From here on an escape, or the end, is among the first characters.
            let close = escape.saturating_sub(PREFIX - 1).max(at);
            let place = prefix.min(close);
            if place == text.len() {
                return None;
            }
            if search.may_begin(&text[place..]) {
                return Some(place);
            }
            at = place + 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_find_prefixes_find_the_same() {
        let forms = Form::all_of(b"sk-Ab/9+zQ x_0123456789");
        let prefixes = prefixes(&forms);
        let (vector, automaton) = (Prefixes::new(&prefixes), Prefixes::automaton(&prefixes));
        assert!(matches!(automaton, Prefixes::Automaton(_)));
        let text: Vec<u8> =
            prefixes.iter().flat_map(|prefix| [&b"....s-k"[..], prefix, b"sk"].concat()).collect();
        for from in 0..text.len() {
            assert_eq!(vector.find(&text, from), automaton.find(&text, from), "from {from}");
        }
    }
}
