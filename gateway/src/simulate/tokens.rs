//! An approximation of a tokenizer, good enough for limits and bills that look real.
//!
//! A token is up to six bytes of one word together with the blanks before it, or of one run of punctuation. For
//! English prose that gives about 1.3 tokens a word, close to what real tokenizers give, and it is cheap, without
//! tables and the same everywhere. It is not any provider's tokenizer.

/// The most bytes of one token, not counting leading blanks.
const BYTES: usize = 6;

/// How many tokens `text` is.
pub(super) fn count(text: &str) -> u64 {
    pieces(text).count() as u64
}

/// Where `text` is cut to keep its first `max` tokens; `None` when it has no more than that.
pub(super) fn first(text: &str, max: u64) -> Option<usize> {
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let mut end = 0;
    for (index, piece) in pieces(text).enumerate() {
        if index == max {
            return Some(end);
        }
        end += piece.len();
    }
    None
}

/// The pieces that a stream sends: the first token alone, so that a client sees one early and even a short answer
/// has several, then four at a time.
pub(super) fn chunks(text: &str) -> Vec<&str> {
    let mut ends = Vec::new();
    let mut end = 0;
    for (index, piece) in pieces(text).enumerate() {
        if index % 4 == 1 {
            ends.push(end);
        }
        end += piece.len();
    }
    ends.push(end);
    let mut start = 0;
    let cut = |end| {
        let chunk = &text[start..end];
        start = end;
        chunk
    };
    ends.into_iter().map(cut).filter(|chunk| !chunk.is_empty()).collect()
}

/// The tokens, which are together the whole text.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at(piece_end(rest));
        rest = after;
        Some(piece)
    })
}

/// Where the first token of a text ends; at least one character on.
fn piece_end(text: &str) -> usize {
    let body = text.find(|c: char| !c.is_whitespace()).unwrap_or(text.len());
    let Some(kind) = text[body..].chars().next().map(char::is_alphanumeric) else { return text.len() };
    let mut end = body;
    for c in text[body..].chars() {
        let full = end > body && end - body + c.len_utf8() > BYTES;
        if full || c.is_whitespace() || c.is_alphanumeric() != kind {
            break;
        }
        end += c.len_utf8();
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tokens_are_words_pieces_of_long_ones_and_punctuation() {
        let split: Vec<&str> = pieces("The  capital, Reykjavík!\n").collect();
        assert_eq!(split, ["The", "  capita", "l", ",", " Reykja", "vík", "!", "\n"]);
        assert_eq!(count(""), 0);
        assert_eq!(count("中文字"), 2);
    }

    #[test]
    fn a_prefix_of_tokens_is_found_only_when_there_are_more() {
        assert_eq!(first("One two three", 2), Some(7));
        assert_eq!(first("One two three", 3), None);
        assert_eq!(first("One", 0), Some(0));
        assert_eq!(first("", 0), None);
    }

    #[test]
    fn a_short_answer_still_comes_in_several_chunks() {
        assert_eq!(chunks("Yes it is so my friend"), ["Yes", " it is so my", " friend"]);
        assert_eq!(chunks("Yes."), ["Yes", "."]);
        assert_eq!(chunks(""), Vec::<&str>::new());
    }

    proptest! {
        #[test]
        fn chunks_and_pieces_are_the_text(text in ".{0,200}") {
            prop_assert!(pieces(&text).collect::<String>() == text);
            prop_assert!(chunks(&text).concat() == text);
            prop_assert!(chunks(&text).len() <= pieces(&text).count());
        }

        #[test]
        fn the_kept_prefix_has_exactly_the_tokens_allowed(text in ".{0,120}", max in 0u64..30) {
            match first(&text, max) {
                Some(end) => prop_assert_eq!(count(&text[..end]), max),
                None => prop_assert!(count(&text) <= max),
            }
        }
    }
}
