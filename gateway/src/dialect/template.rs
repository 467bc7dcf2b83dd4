//! What an event that says a text alone has around its text, so that the next one, which mostly differs in nothing else, is
//! read without its JSON being parsed.
//!
//! An event is cut in two at each string that changes, just behind the quote that opens it and just before the one that
//! closes it. JSON is read from the left, so that whatever stands between those two quotes, as long as it is the inside of a
//! string, the rest is read as it was before: another event of the same pieces is the same event with another text.

use std::borrow::Cow;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use serde_json::value::RawValue;

/// How many fields of an event change: its text and two that say nothing.
const HOLES: usize = 3;

/// Bytes of an event that is kept. Those of a text alone have hundreds.
const LONGEST: usize = 4 << 10;

/// Digits of a number that is one whatever they are.
const DIGITS: usize = 15;

/// What an event means that says a text alone, as its dialect reads it.
pub(super) struct Plain<'d, T> {
    /// Not empty.
    pub(super) text: Cow<'d, str>,
    /// Where it belongs.
    pub(super) place: T,
    /// Fields that say nothing and change all the time.
    pub(super) changing: [Option<Changing<'d>>; HOLES - 1],
}

/// The value of a field that says nothing: a string without escapes, a number of few digits, a flag or null, as it is written.
#[derive(Clone, Copy)]
pub(super) struct Changing<'d>(&'d str);

impl<'de: 'd, 'd> Deserialize<'de> for Changing<'d> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let told = match raw.as_bytes() {
            [b'"', .., b'"'] => is_plain(&raw[1..raw.len() - 1]),
            [b'0'..=b'9', ..] => is_count(raw.as_bytes()),
            _ => matches!(raw, "null" | "true" | "false"),
        };
        told.then_some(Changing(raw)).ok_or_else(|| D::Error::custom("something that may say more"))
    }
}

/// The event that was read last, and what in it may be another the next time.
pub(super) struct Template<T> {
    event: String,
    /// In the order in which they stand in it. Those that are not used are at its end, and empty.
    holes: [Hole; HOLES],
    count: usize,
    place: Option<T>,
}

#[derive(Clone, Default)]
struct Hole {
    at: Range<usize>,
    holds: Holds,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Holds {
    #[default]
    Text,
    /// The inside of a string.
    String,
    /// All of a number.
    Count,
}

// Not derived, which would ask for a default of the place.
impl<T> Default for Template<T> {
    fn default() -> Self {
        Template { event: String::new(), holes: Default::default(), count: 0, place: None }
    }
}

impl<T: Copy> Template<T> {
    /// The place and the text of an event that says a text alone, as `read` reads it, or as it read one before that was the
    /// same but for what changes.
    pub(super) fn read<'d>(
        &mut self,
        data: &'d str,
        read: impl FnOnce(&'d str) -> Option<Plain<'d, T>>,
    ) -> Option<(T, String)> {
        if let Some(place) = self.place
            && let Some(text) = self.filled(data)
        {
            return Some((place, text));
        }
        let plain = read(data)?;
        self.learn(data, &plain);
        Some((plain.place, plain.text.into_owned()))
    }

    /// The text of an event that is cut as the last one.
    fn filled(&self, data: &str) -> Option<String> {
        let mut text = None;
        let (mut from, mut rest) = (0, data);
        for hole in &self.holes[..self.count] {
            rest = rest.strip_prefix(&self.event[from..hole.at.start])?;
            let (inside, behind) = match hole.holds {
                Holds::Text => {
                    let (inside, behind) = rest.split_at(closing_quote(rest)?);
                    text = Some(inside);
                    (inside, behind)
                }
                Holds::String => rest.split_at(rest.find('"')?),
                Holds::Count => rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count()),
            };
            let same = match hole.holds {
                Holds::Text => !inside.is_empty(),
                Holds::String => is_plain(inside),
                Holds::Count => is_count(inside.as_bytes()),
            };
            if !same {
                return None;
            }
            (from, rest) = (hole.at.end, behind);
        }
        if rest != &self.event[from..] {
            return None;
        }
        unescaped(text?)
    }

    /// Cuts an event, if its text is written as it is.
    fn learn(&mut self, data: &str, plain: &Plain<'_, T>) {
        if data.len() > LONGEST {
            return;
        }
        self.place = None;
        let Cow::Borrowed(text) = &plain.text else { return };
        let mut holes: [Hole; HOLES] = Default::default();
        let mut count = 0;
        let mut cut = |part: &str, holds| {
            if let Some(at) = offset(data, part) {
                holes[count] = Hole { at: at..at + part.len(), holds };
                count += 1;
            }
        };
        cut(text, Holds::Text);
        for Changing(raw) in plain.changing.iter().flatten() {
            match raw.as_bytes()[0] {
                b'"' => cut(&raw[1..raw.len() - 1], Holds::String),
                b'0'..=b'9' => cut(raw, Holds::Count),
                // A flag is no other flag.
                _ => {}
            }
        }
        holes[..count].sort_unstable_by_key(|hole| hole.at.start);
        if !holes.iter().any(|hole| hole.holds == Holds::Text && !hole.at.is_empty()) {
            return;
        }
        self.event.clear();
        self.event.reserve_exact(data.len());
        self.event.push_str(data);
        self.holes = holes;
        self.count = count;
        self.place = Some(plain.place);
    }
}

/// Where a part of a string stands in it.
fn offset(whole: &str, part: &str) -> Option<usize> {
    let at = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    (at + part.len() <= whole.len()).then_some(at)
}

/// Where the string ends that this begins inside of.
fn closing_quote(inside: &str) -> Option<usize> {
    let bytes = inside.as_bytes();
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// What the inside of a string says, if it is one.
fn unescaped(inside: &str) -> Option<String> {
    if is_plain(inside) {
        return Some(inside.to_owned());
    }
    serde_json::from_str(&["\"", inside, "\""].concat()).ok()
}

/// Whether this is the inside of a string that says what is written.
fn is_plain(inside: &str) -> bool {
    inside.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
}

/// Whether this is a number.
fn is_count(digits: &[u8]) -> bool {
    let is_one = (1..=DIGITS).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_one && (digits[0] != b'0' || digits.len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Event<'d> {
        at: u64,
        #[serde(borrow)]
        text: Cow<'d, str>,
        #[serde(borrow)]
        padding: Option<Changing<'d>>,
        #[serde(borrow)]
        number: Option<Changing<'d>>,
    }

    fn parsed(data: &str) -> Option<Plain<'_, u64>> {
        let Event { at, text, padding, number } = serde_json::from_str(data).ok()?;
        (!text.is_empty()).then_some(Plain { text, place: at, changing: [padding, number] })
    }

    /// What an event says after another one, and whether it was parsed for that.
    fn after(before: &str, data: &str) -> (Option<(u64, String)>, bool) {
        let mut template = Template::default();
        template.read(before, parsed).expect("it says a text alone");
        let mut was_parsed = false;
        let said = template.read(data, |data| {
            was_parsed = true;
            parsed(data)
        });
        (said, was_parsed)
    }

    const FIRST: &str = r#"{"at":7,"number":12,"text":"one","padding":"xyz"}"#;

    #[test]
    fn an_event_that_differs_in_what_changes_is_not_parsed() {
        for (data, text) in [
            (FIRST, "one"),
            (r#"{"at":7,"number":0,"text":"two three","padding":""}"#, "two three"),
            (r#"{"at":7,"number":999999999999999,"text":"é\n\"\\\ud83d\ude00","padding":"é"}"#, "é\n\"\\😀"),
            (r#"{"at":7,"number":12,"text":"\\","padding":"x"}"#, "\\"),
        ] {
            assert_eq!(after(FIRST, data), (Some((7, text.to_owned())), false), "{data}");
        }
    }

    #[test]
    fn an_event_that_differs_in_anything_else_is() {
        for (data, said) in [
            (r#"{"at":8,"number":12,"text":"one","padding":"xyz"}"#, Some(8)),
            (r#"{"at":7, "number":12,"text":"one","padding":"xyz"}"#, Some(7)),
            (r#"{"at":7,"number":12,"text":"one","padding":"xyz"} "#, Some(7)),
            (r#"{"at":7,"number":"12","text":"one","padding":"xyz"}"#, Some(7)),
            (r#"{"at":7,"number":null,"text":"one","padding":"xyz"}"#, Some(7)),
            (r#"{"at":7,"number":012,"text":"one","padding":"xyz"}"#, None),
            (r#"{"at":7,"number":,"text":"one","padding":"xyz"}"#, None),
            (r#"{"at":7,"number":1234567890123456,"text":"one","padding":"xyz"}"#, None),
            (r#"{"at":7,"number":12,"text":"","padding":"xyz"}"#, None),
            (r#"{"at":7,"number":12,"text":"one","padding":"x\"yz"}"#, None),
            (r#"{"at":7,"number":12,"text":"one\","padding":"xyz"}"#, None),
            (r#"{"at":7,"number":12,"text":"\ud83d","padding":"xyz"}"#, None),
            (r#"{"at":7,"number":12,"text":"\x","padding":"xyz"}"#, None),
            ("{\"at\":7,\"number\":12,\"text\":\"\u{1}\",\"padding\":\"xyz\"}", None),
            ("{\"at\":7,\"number\":12,\"text\":\"one\",\"padding\":\"\n\"}", None),
            (r#"{"at":7,"number":12,"text":"one","at":8,"padding":"xyz"}"#, None),
            (r#"{"at":7,"number":12,"text":"one","padding":"x","more":"yz"}"#, None),
            (r#"{"at":7,"number":12,"text":"one","padding":"xyz""#, None),
            (r#"{"at":7,"number":12,"text":"one"#, None),
            (r#"{"at":7,"number":12,"text":""#, None),
            ("", None),
        ] {
            let (heard, was_parsed) = after(FIRST, data);
            assert_eq!((heard.map(|(at, _)| at), was_parsed), (said, true), "{data}");
        }
    }

    #[test]
    fn a_text_that_is_written_in_another_way_is_no_template() {
        let escaped = r#"{"at":7,"text":"o\u006ee"}"#;
        assert_eq!(after(escaped, escaped), (Some((7, "one".to_owned())), true));
        let mut template = Template::default();
        assert!(template.read(escaped, parsed).is_some() && template.place.is_none());
        assert!(template.read(FIRST, parsed).is_some() && template.place.is_some());
        assert!(template.read(escaped, parsed).is_some() && template.place.is_none());
    }

    #[test]
    fn what_is_kept_of_a_stream_is_bounded() {
        let long = FIRST.replace("one", &"o".repeat(LONGEST));
        let mut template = Template::default();
        assert!(template.read(&long, parsed).is_some() && template.event.is_empty());
        assert!(template.read(FIRST, parsed).is_some() && template.event == FIRST);
        assert!(template.read(&long, |_| None).is_some(), "it is read by what was kept");
        assert!(template.event.capacity() <= LONGEST);
    }

    #[test]
    fn the_same_text_elsewhere_is_not_taken_for_it() {
        let first = r#"{"padding":"one","at":7,"text":"one"}"#;
        let (said, was_parsed) = after(first, r#"{"padding":"two","at":7,"text":"three"}"#);
        assert_eq!((said, was_parsed), (Some((7, "three".to_owned())), false));
    }
}
