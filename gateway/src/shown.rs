//! A provider's words, made fit to be shown: without the key, without control characters, not too long.

use orch_proxy::Credential;

/// Characters that are kept.
const SHOWN_CHARS: usize = 500;

/// The text without the credential's value and without characters that draw on a terminal (C0, C1, bidirectional
/// and invisible ones).
pub(crate) fn shown(text: &str, credential: Option<&dyn Credential>) -> String {
    let cleaned = credential
        .and_then(Credential::scrubber)
        .and_then(|scrubber| scrubber.clean(text.as_bytes()))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = cleaned.as_deref().unwrap_or(text);
    let mut kept: String = text.chars().take(SHOWN_CHARS).map(|c| if draws(c) { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        kept.push('…');
    }
    kept
}

fn draws(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use orch_proxy::{AuthorizeError, Scrubber, Use};
    use std::sync::Arc;

    struct Key(&'static str);

    impl Credential for Key {
        fn id(&self) -> &str {
            "K"
        }
        fn source(&self) -> &str {
            "env"
        }
        fn authorize(
            &self,
            _: &mut http::request::Parts,
            _: Option<&[u8; 32]>,
            _: Use<'_>,
        ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
            Ok(self.scrubber())
        }
        fn scrubber(&self) -> Option<Arc<Scrubber>> {
            Scrubber::new(self.0.as_bytes()).map(Arc::new)
        }
    }

    #[test]
    fn keys_and_control_characters_go() {
        let key = Key("sk-0123456789abcdefghij");
        let text = "bad key sk-0123456789abcdefghij\r\n\u{1b}[2Jyou \u{202e}see";
        let clean = shown(text, Some(&key));
        assert!(
            !clean.contains("0123456789") && !clean.contains('\u{1b}') && !clean.contains('\u{202e}'),
            "{clean}"
        );
        assert!(clean.starts_with("bad key ") && clean.ends_with("see"), "{clean}");
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(shown(&"x".repeat(900), None).chars().count(), SHOWN_CHARS + 1);
    }
}
