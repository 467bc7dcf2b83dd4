//! The regular expressions to which Claude keeps.

use std::iter::Peekable;
use std::str::Chars;

/// Repetitions that are not called large anywhere.
const MOST_TIMES: u32 = 64;

/// Whether a pattern is made of what is documented as taken: anchors, alternatives, plain groups and classes, `.`, `\d`,
/// `\w`, `\s`, and quantifiers of small numbers.
pub(super) fn is_taken(pattern: &str) -> bool {
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(letter) = chars.next() {
        let taken = match letter {
            '\\' => chars.next().is_some_and(|escaped| "dws".contains(escaped) || !escaped.is_alphanumeric()),
            ']' if in_class => {
                in_class = false;
                true
            }
            _ if in_class => true,
            '[' => {
                in_class = true;
                true
            }
            // Groups that look around, or have a name.
            '(' => chars.peek() != Some(&'?'),
            // Quantifiers of quantifiers are lazy or possessive ones.
            '*' | '+' | '?' => !is_quantifier(chars.peek()),
            '{' => is_small(&mut chars) && !is_quantifier(chars.peek()),
            _ => true,
        };
        if !taken {
            return false;
        }
    }
    !in_class
}

fn is_quantifier(letter: Option<&char>) -> bool {
    letter.is_some_and(|letter| "*+?{".contains(*letter))
}

/// Reads what stands in braces, to their end.
fn is_small(chars: &mut Peekable<Chars<'_>>) -> bool {
    let mut numbers = String::new();
    loop {
        match chars.next() {
            Some('}') => break,
            Some(letter) if letter.is_ascii_digit() || letter == ',' => numbers.push(letter),
            _ => return false,
        }
    }
    let (least, most) = numbers.split_once(',').unwrap_or((numbers.as_str(), numbers.as_str()));
    let small = |number: &str| number.parse::<u32>().is_ok_and(|number| number <= MOST_TIMES);
    small(least) && (most.is_empty() || small(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_documented_is_taken() {
        for pattern in
            ["^[A-Z]{3}-\\d+$", "a|b", "(ab)*", "\\w+@\\w+\\.\\w{2,}", "^.{0,64}$", "[?*{(]", "[\\]\\s]", ""]
        {
            assert!(is_taken(pattern), "{pattern}");
        }
        for pattern in [
            "(?=a)",
            "(?:a)",
            "(?<n>a)",
            "\\bword",
            "(a)\\1",
            "\\p{L}",
            "a*?",
            "a++",
            "a{1,2}?",
            "a{1,1000}",
            "a{65}",
            "a{",
            "a{,3}",
            "[a",
            "a\\",
        ] {
            assert!(!is_taken(pattern), "{pattern}");
        }
    }
}
