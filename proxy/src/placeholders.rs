//! Finding a run's placeholders in a request: in its head, where some are swapped, and in its body, where none is.

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use http::{HeaderMap, HeaderName, header};

use crate::Binding;

/// A search for all placeholders of one run at once.
pub(crate) struct Placeholders {
    /// `None` when the run has no placeholders, or they are too many to search for at once.
    search: Option<AhoCorasick>,
    /// Bytes of the longest.
    longest: usize,
}

impl Placeholders {
    pub(crate) fn new(bindings: &[Binding]) -> Self {
        let mut texts: Vec<&str> = bindings.iter().map(|binding| binding.placeholder.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        let longest = texts.iter().map(|text| text.len()).max().unwrap_or_default();
        let search = if texts.is_empty() { None } else { automaton(&texts) };
        Self { search, longest }
    }

    /// How many placeholders stand in these headers and this request target: in its path or query, in any header, as
    /// themselves or inside Basic credentials.
    pub(crate) fn count(&self, headers: &HeaderMap, target: &str) -> u32 {
        let Some(search) = &self.search else { return 0 };
        let mut count = search.find_iter(target).count();
        for (name, value) in headers {
            count += search.find_iter(value.as_bytes()).count();
            if let Some(decoded) = basic_credentials(name, value.as_bytes()) {
                count += search.find_iter(&decoded).count();
            }
        }
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// For a body, as it travels: what is compressed or escaped is not looked into.
    pub(crate) fn in_body(&self) -> Option<InBody> {
        let search = self.search.clone()?;
        Some(InBody { search, longest: self.longest, tail: Vec::new() })
    }
}

/// A search for placeholders in one body that comes in pieces.
pub(crate) struct InBody {
    search: AhoCorasick,
    longest: usize,
    /// The end of what came so far: all that a placeholder could begin in and not end.
    tail: Vec<u8>,
}

impl InBody {
    /// From the beginning of the same body.
    pub(crate) fn again(mut self) -> Self {
        self.tail.clear();
        self
    }

    /// How many placeholders end in this piece.
    pub(crate) fn count(&mut self, piece: &[u8]) -> u32 {
        let seam = self.tail.len();
        let reach = self.longest.saturating_sub(1);
        self.tail.extend_from_slice(&piece[..piece.len().min(reach)]);
        let across =
            self.search.find_iter(&self.tail).filter(|it| it.start() < seam && it.end() > seam).count();
        let whole = self.search.find_iter(piece).count();
        if piece.len() >= reach {
            self.tail.clear();
            self.tail.extend_from_slice(&piece[piece.len() - reach..]);
        } else {
            self.tail.drain(..self.tail.len().saturating_sub(reach));
        }
        u32::try_from(across + whole).unwrap_or(u32::MAX)
    }
}

/// Of a kind that is quickly built and small, since each run has its own. Texts without a placeholder are passed over by what
/// their beginnings have in common.
fn automaton(texts: &[&str]) -> Option<AhoCorasick> {
    AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(texts).ok()
}

fn basic_credentials(name: &HeaderName, value: &[u8]) -> Option<Vec<u8>> {
    if *name != header::AUTHORIZATION {
        return None;
    }
    let (scheme, rest) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    data_encoding::BASE64.decode(rest).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_counted_once_however_a_body_is_cut() {
        let (one, two) = ("orch_ph_aaaaaaaaaaaa", "orch_ph_bbbbbbbbbbbbbbbb");
        let placeholders =
            Placeholders { search: Some(AhoCorasick::new([one, two]).unwrap()), longest: two.len() };
        let body = format!("{one}{two}, and {{\"text\":\"{two}\"}} orch_ph_aaaa orch_ph_{one}orch_ph_");
        let whole = placeholders.in_body().unwrap().count(body.as_bytes());
        assert_eq!(whole, 4);
        for size in 1..body.len() {
            let mut search = placeholders.in_body().unwrap();
            let found: u32 = body.as_bytes().chunks(size).map(|piece| search.count(piece)).sum();
            assert_eq!(found, whole, "in pieces of {size}");
            assert_eq!(search.again().count(body.as_bytes()), whole);
        }
        assert!(Placeholders::new(&[]).in_body().is_none());
    }
}
