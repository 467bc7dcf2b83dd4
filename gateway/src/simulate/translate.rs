//! A pseudo-translation: the same text in letters that no language uses together, behind a label that says so.
//!
//! It is what localisers use to find untranslated strings. It makes every letter a multi-byte one, which is also what
//! finds clients that split UTF-8. Anything that is no prose (addresses, `{placeholders}`, code) stays as it is.

/// `source` in accented letters, labelled with the language it would have been translated to.
pub(super) fn translate(source: &str, language: Option<&str>) -> String {
    let label = match language {
        Some(language) => format!("[simulated translation to {language}]"),
        None => "[simulated translation]".to_owned(),
    };
    let text: String = source.trim().split_inclusive(char::is_whitespace).map(word).collect();
    format!("{label} {text}")
}

fn word(word: &str) -> String {
    let technical = ["://", "{", "}", "@", "`", "<", ">"].iter().any(|mark| word.contains(mark));
    if technical { word.to_owned() } else { word.chars().map(accented).collect() }
}

fn accented(letter: char) -> char {
    match letter {
        'a' => 'á',
        'c' => 'ç',
        'd' => 'ð',
        'e' => 'é',
        'g' => 'ĝ',
        'h' => 'ĥ',
        'i' => 'î',
        'j' => 'ĵ',
        'k' => 'ķ',
        'l' => 'ļ',
        'n' => 'ñ',
        'o' => 'ö',
        'r' => 'ŕ',
        's' => 'š',
        't' => 'ţ',
        'u' => 'û',
        'w' => 'ŵ',
        'y' => 'ý',
        'z' => 'ž',
        'A' => 'Á',
        'C' => 'Ç',
        'D' => 'Ð',
        'E' => 'É',
        'G' => 'Ĝ',
        'H' => 'Ĥ',
        'I' => 'Î',
        'L' => 'Ļ',
        'N' => 'Ñ',
        'O' => 'Ö',
        'R' => 'Ŕ',
        'S' => 'Š',
        'T' => 'Ţ',
        'U' => 'Û',
        'W' => 'Ŵ',
        'Y' => 'Ý',
        'Z' => 'Ž',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prose_is_accented_and_everything_else_kept() {
        assert_eq!(
            translate("Good day, {name}!\nSee https://a.org or 42.", Some("French")),
            "[simulated translation to French] Ĝööð ðáý, {name}!\nŠéé https://a.org öŕ 42."
        );
        assert_eq!(translate("Yes", None), "[simulated translation] Ýéš");
    }
}
