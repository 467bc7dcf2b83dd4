//! The values that a run holds, taken out of what is said of it: its log, its refusals, its failure.
//!
//! A guest holds placeholders only, but a host that got a value may pass it on to another, whose answers are not searched:
//! that would let the agent test guesses. What people read is searched by the same code as answers are.

use std::borrow::Cow;
use std::sync::Arc;

use orch_proxy::{Credential, ScrubStream, Scrubber};

use crate::failure::Failure;
use crate::keys::Keys;

/// Finds every value that a run held when it began, and those that have taken their places since, but for those too short
/// to be looked for.
#[derive(Default)]
pub(crate) struct Known {
    began: Vec<Arc<Scrubber>>,
    held: Vec<Arc<dyn Credential>>,
}

impl Known {
    /// The values of these keys.
    pub(crate) fn of(keys: &Keys) -> Self {
        let secrets = keys.secrets.iter().map(|secret| &secret.credential);
        Self::holding(keys.of_providers().chain(secrets).cloned().collect())
    }

    /// The values of these credentials.
    pub(crate) fn holding(held: Vec<Arc<dyn Credential>>) -> Self {
        Self { began: held.iter().filter_map(|credential| credential.scrubber()).collect(), held }
    }

    /// What to look for now.
    fn scrubbers(&self) -> impl Iterator<Item = Arc<Scrubber>> {
        let now = self.held.iter().filter_map(|credential| credential.scrubber());
        let new = now.filter(|scrubber| !self.began.iter().any(|began| Arc::ptr_eq(began, scrubber)));
        self.began.iter().cloned().chain(new)
    }

    #[cfg(test)]
    pub(crate) fn finding(values: &[&str]) -> Self {
        let began = values.iter().filter_map(|value| Scrubber::new(value.as_bytes())).map(Arc::new).collect();
        Self { began, held: Vec::new() }
    }

    /// A text without them.
    pub(crate) fn cleaned<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.scrubbers().fold(Cow::Borrowed(text), |text, scrubber| match scrubber.clean(text.as_bytes()) {
            None => text,
            // A form is taken out whole, so that what is left of a text is one.
            Some(clean) => Cow::Owned(String::from_utf8_lossy(&clean).into_owned()),
        })
    }

    /// A failure that says none of them.
    pub(crate) fn cleaned_failure(&self, failure: Failure) -> Failure {
        if self.held.is_empty() && self.began.is_empty() {
            failure
        } else {
            failure.reworded(|text| self.cleaned(text).into_owned())
        }
    }

    /// For a text that comes in pieces.
    pub(crate) fn stream(&self) -> ScrubStream {
        ScrubStream::new(&self.scrubbers().collect::<Vec<_>>(), false)
    }
}

#[cfg(test)]
mod tests {
    use orch_proxy::SCRUBBED;

    use super::*;
    use crate::failure::Kind;

    const VALUE: &str = "a value of which nothing looks like a key";

    fn known() -> Known {
        Known::finding(&[VALUE])
    }

    #[test]
    fn values_are_taken_out_in_any_spelling() {
        let known = known();
        for spelling in [
            VALUE.to_owned(),
            data_encoding::HEXUPPER.encode(VALUE.as_bytes()),
            VALUE.replace(' ', "%20"),
            serde_json::to_string(VALUE).expect("a string"),
        ] {
            let clean = known.cleaned(&spelling).into_owned();
            assert_eq!(clean.replace(['"'], ""), SCRUBBED, "{spelling}");
            assert_eq!(crate::redact::redact(&spelling, crate::redact::Said::Anything), spelling);
        }
        assert!(matches!(known.cleaned("nothing of it"), Cow::Borrowed(_)));
        assert_eq!(Known::default().cleaned(VALUE), VALUE);
    }

    #[test]
    fn failures_and_logs_say_none_of_them() {
        let failure = Failure::new(Kind::Agent, "agent_failed", format!("it said {VALUE}"))
            .hint(VALUE)
            .detail("said", serde_json::json!([{ VALUE: VALUE }]));
        let clean = known().cleaned_failure(failure).to_json().to_string();
        assert!(!clean.contains(VALUE) && clean.matches(SCRUBBED).count() == 4, "{clean}");

        let mut log = known().stream();
        let mut out = Vec::new();
        for piece in format!("log: {VALUE}\n").into_bytes().chunks(3) {
            out.extend_from_slice(&log.push(bytes::Bytes::copy_from_slice(piece)));
        }
        out.extend_from_slice(&log.finish());
        assert_eq!(out, format!("log: {SCRUBBED}\n").into_bytes());
    }
}
