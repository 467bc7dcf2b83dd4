//! Finding a run's placeholders in a request's head.

use aho_corasick::AhoCorasick;
use http::{HeaderMap, HeaderName, header};

use crate::Binding;

/// A search for all placeholders of one run at once.
pub(crate) struct Placeholders {
    /// `None` when the run has no placeholders, or they are too many to search for at once.
    search: Option<AhoCorasick>,
}

impl Placeholders {
    pub(crate) fn new(bindings: &[Binding]) -> Self {
        let mut texts: Vec<&str> = bindings.iter().map(|binding| binding.placeholder.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        let search = if texts.is_empty() { None } else { AhoCorasick::new(texts).ok() };
        Self { search }
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
