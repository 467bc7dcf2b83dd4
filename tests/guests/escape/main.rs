//! Writes what a terminal would obey, to stderr, and inside well-formed JSON to stdout.
//!
//! Each line draws something that only `orch` may say, were it printed as it is.

use std::io::{self, Write};

use serde_json::json;

const TRICKS: [(&str, &str); 15] = [
    ("clear", "\x1b[2J\x1b[H"),
    ("colour", "\x1b[31;1mred\x1b[0m"),
    ("up", "\x1b[1A\x1b[2Kover the line above"),
    ("title", "\x1b]0;owned title\x07"),
    ("title_st", "\x1b]2;owned title\x1b\\"),
    ("clipboard", "\x1b]52;c;b3duZWQ=\x07"),
    ("link", "\x1b]8;;https://evil.example/\x1b\\click\x1b]8;;\x1b\\"),
    ("device", "\x1bP+q544e\x1b\\\x1b[6n\x1b[c"),
    ("c1_csi", "\u{9b}31mred\u{9b}0m"),
    ("c1_osc", "\u{9d}0;owned title\u{9c}"),
    ("return", "looks fine\rAllow this agent to read /home? [y/N] y"),
    ("backspace", "no\x08\x08yes\x7f"),
    ("bidi", "user \u{202e}nimda\u{202c} \u{2066}x\u{2069} \u{200f}"),
    ("mark", "a\u{61c}b\u{2028}c"),
    ("bells", "\x07\x00\x0b\x0c"),
];

fn main() -> io::Result<()> {
    let mut log = io::stderr();
    for (name, trick) in TRICKS {
        writeln!(log, "{name}: {trick}")?;
    }
    // Bytes that are not UTF-8: a raw C1 CSI and a cut-off character.
    log.write_all(b"raw: \x9b31m \xf0\x9f\n")?;

    // serde_json escapes C0 and leaves DEL, C1 and the bidirectional controls as they are.
    let output: serde_json::Map<_, _> =
        TRICKS.iter().map(|(name, trick)| ((*name).to_owned(), json!(trick))).collect();
    println!("{}", json!(output));
    Ok(())
}
