//! Sentences and words of plain text.

/// Abbreviations whose full stop ends no sentence, in lower case and without their last full stop.
const ABBREVIATIONS: [&str; 37] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "mt", "jr", "sr", "vs", "etc", "e.g", "i.e", "cf", "al", "no",
    "nos", "vol", "fig", "eq", "dept", "approx", "inc", "ltd", "co", "corp", "gen", "col", "sen", "rep",
    "gov", "capt", "lt", "sgt", "rev", "hon", "u.s",
];

/// Words that say nothing about a text's subject.
const STOP_WORDS: &str = " a about above after again against all also am an and any are as at be because been before \
    being below between both but by can could did do does doing down during each even few for from further get had \
    has have having he her here hers him his how i if in into is it its itself just let like made make many may me \
    might more most much must my no nor not now of off on once one only or other our out over own per said same say \
    says see she should since so some still such than that the their them then there these they this those though \
    through to too two under until up upon us use used using very was we well were what when where which while who \
    whom why will with within without would yet you your ";

/// The sentences of `text` in order, trimmed, at most `limit` of them. Line breaks within a sentence are blanks; a
/// blank line, or the start of a list item, ends one.
pub(super) fn sentences(text: &str, limit: usize) -> Vec<String> {
    let mut found = Vec::new();
    for paragraph in paragraphs(text) {
        let mut start = 0;
        let mut rest = paragraph.char_indices().peekable();
        while let Some((at, c)) = rest.next() {
            if !matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？') {
                continue;
            }
            let mut end = at + c.len_utf8();
            while let Some((at, closing)) = rest.next_if(|(_, next)| is_closing(*next)) {
                end = at + closing.len_utf8();
            }
            if ends_sentence(&paragraph[start..at], c, &paragraph[end..]) {
                push(&mut found, &paragraph[start..end]);
                start = end;
            }
        }
        push(&mut found, &paragraph[start..]);
        if found.len() >= limit {
            break;
        }
    }
    found.truncate(limit);
    found
}

/// The words of `text`, in lower case, with an English plural's or possessive's end taken off, so that "agents",
/// "agent's" and "agent" are one word.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’')
        .map(|word| {
            let word = word.trim_matches(['\'', '’']).to_lowercase();
            let stem = word.strip_suffix("'s").or_else(|| word.strip_suffix("’s")).unwrap_or(&word);
            match stem.strip_suffix('s') {
                Some(singular) if singular.len() >= 3 && !singular.ends_with(['s', 'u', 'i']) => {
                    singular.to_owned()
                }
                _ => stem.to_owned(),
            }
        })
        .filter(|word| !word.is_empty())
}

/// Whether a word as [`words`] gives it carries meaning.
pub(super) fn is_content(word: &str) -> bool {
    let mut chars = word.chars();
    let short = chars.next().is_none_or(|first| first.is_ascii() && chars.next().is_none());
    let listed = STOP_WORDS.split(' ').any(|stop| stop == word);
    !short && !listed
}

/// Blocks of text between blank lines; each list item is one of its own. Blanks are made single.
fn paragraphs(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block = String::new();
    for line in text.lines() {
        let line = line.trim();
        let (item, line) = match line.strip_prefix("- ").or_else(|| line.strip_prefix("* ")) {
            Some(line) => (true, line),
            None => (line.starts_with('#'), line.trim_start_matches('#').trim_start()),
        };
        if (line.is_empty() || item) && !block.is_empty() {
            blocks.push(std::mem::take(&mut block));
        }
        for word in line.split_whitespace() {
            if !block.is_empty() {
                block.push(' ');
            }
            block.push_str(word);
        }
    }
    blocks.push(block);
    blocks
}

fn is_closing(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…' | '"' | '\'' | '”' | '’' | ')' | ']' | '»' | '」' | '。' | '！' | '？')
}

/// Whether the mark `mark` between `before` (the sentence so far) and `after` ends the sentence.
fn ends_sentence(before: &str, mark: char, after: &str) -> bool {
    if matches!(mark, '。' | '！' | '？') || after.is_empty() {
        return true;
    }
    // A full stop within a number, a name or an address is followed by no blank.
    let Some(next) = after.strip_prefix(' ') else { return false };
    let first = next.chars().find(|c| c.is_alphanumeric());
    if first.is_some_and(char::is_lowercase) {
        return false;
    }
    if mark != '.' {
        return true;
    }
    let word = before.rsplit([' ', '(', '"', '“']).next().unwrap_or(before).to_lowercase();
    let initial = word.chars().count() == 1 && word.chars().all(char::is_alphabetic) && word != "i";
    !initial && !ABBREVIATIONS.contains(&word.as_str())
}

fn push(found: &mut Vec<String>, sentence: &str) {
    let sentence = sentence.trim();
    if sentence.chars().any(char::is_alphanumeric) {
        found.push(sentence.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        sentences(text, 100)
    }

    #[test]
    fn sentences_end_where_a_reader_ends_them() {
        assert_eq!(
            split("Dr. Smith paid $3.50. \"Really?\" she asked. Yes!"),
            ["Dr. Smith paid $3.50.", "\"Really?\" she asked.", "Yes!"]
        );
        assert_eq!(
            split("See e.g. RFC 9110, by R. Fielding et al. It is long... very long. End"),
            ["See e.g. RFC 9110, by R. Fielding et al. It is long... very long.", "End"]
        );
        assert_eq!(
            split("Visit api.example.com now. Then\nrest\non lines.\n\nNew paragraph"),
            ["Visit api.example.com now.", "Then rest on lines.", "New paragraph"]
        );
        assert_eq!(split("# Title\n\n- one thing\n- another\n"), ["Title", "one thing", "another"]);
        assert_eq!(split("你好。再见！"), ["你好。", "再见！"]);
        assert_eq!(split("  ... !\n\n"), Vec::<String>::new());
    }

    #[test]
    fn no_more_sentences_than_asked_for() {
        assert_eq!(sentences("Ice melts. Snow falls. Rain stops.", 2), ["Ice melts.", "Snow falls."]);
    }

    #[test]
    fn words_are_folded_and_stop_words_known() {
        let found: Vec<String> = words("The Agent's agents' keys, and ÉTÉ classes; bus").collect();
        assert_eq!(found, ["the", "agent", "agent", "key", "and", "été", "classe", "bus"]);
        assert!(is_content("agent") && is_content("été") && is_content("中"));
        assert!(!is_content("the") && !is_content("x") && !is_content("your"));
    }
}
