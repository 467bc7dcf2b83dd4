//! Text of doubtful origin, made fit for a log or a terminal.

/// The last `limit` bytes of what a process said, as text without control characters other than newlines.
pub(crate) fn printable_tail(bytes: &[u8], limit: usize) -> String {
    let tail = &bytes[bytes.len().saturating_sub(limit)..];
    printable(String::from_utf8_lossy(tail).trim(), limit)
}

/// At most `limit` bytes of `text`, with everything that a terminal could act on replaced.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    let mut out = String::with_capacity(text.len().min(limit));
    for character in text.chars() {
        let character = if acts_on_terminals(character) { '\u{fffd}' } else { character };
        if out.len() + character.len_utf8() > limit {
            break;
        }
        out.push(character);
    }
    out
}

/// The end of an error message about a process that may have left diagnostics.
pub(crate) fn and_it_said(diagnostics: &str) -> String {
    if diagnostics.is_empty() { String::new() } else { format!("; it said: {diagnostics}") }
}

fn acts_on_terminals(character: char) -> bool {
    let bidirectional = matches!(character, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (character.is_control() && character != '\n') || bidirectional
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_bidirectional_controls_are_replaced() {
        assert_eq!(printable("a\x1b[2Jb\u{9b}c\u{202e}d\ne", 100), "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\ne");
    }

    #[test]
    fn length_is_bounded_at_character_boundaries() {
        assert_eq!(printable("ééé", 5), "éé");
        assert_eq!(printable_tail(b"0123456789", 4), "6789");
        assert!(printable_tail(&[0xff; 100], 10).len() <= 10);
    }
}
