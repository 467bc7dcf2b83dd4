//! The name of one request: in its answer, in the receipt, and in what is on record of it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE32HEX_NOPAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::rand::{SecureRandom as _, SystemRandom};

/// Where a client finds the name of its request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where Anthropic's clients look for it.
const OF_ANTHROPIC: HeaderName = HeaderName::from_static("request-id");

/// Where providers name the requests that they got, those of most first.
const OF_PROVIDERS: [&str; 5] =
    ["x-request-id", "request-id", "x-amzn-requestid", "x-debug-trace-id", "apim-request-id"];

/// Characters of a provider's name for a request that are kept.
const LONGEST: usize = 128;

/// The name of one request, made at the door that it came through: that of a server's API, or that of a run. It stands in
/// the extensions of requests that have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A name that no other request has. It is no secret. It begins with the time, in milliseconds, and is in the order of
    /// the names that came before: what is found by name then lies together on disk as it came, and one page is written
    /// for many requests instead of one for each.
    #[must_use]
    pub fn random() -> RequestId {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis());
        let mut bits = [0; 13];
        let (time, random) = bits.split_at_mut(6);
        // The upper bytes are those of years after 10,000.
        time.copy_from_slice(&now.to_be_bytes()[10..]);
        // Without randomness requests of one moment have the same name, which is better than no answer.
        let _ = SystemRandom::new().fill(random);
        RequestId(format!("req_{}", BASE32HEX_NOPAD.encode(&bits).to_ascii_lowercase()).into())
    }

    /// The name that the extensions of a request hold, or a new one.
    pub(crate) fn of<B>(request: &http::Request<B>) -> RequestId {
        request.extensions().get().cloned().unwrap_or_else(RequestId::random)
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the value of a header.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).unwrap_or(HeaderValue::from_static("req_"))
    }

    /// Puts it into the head of the answer.
    pub(crate) fn seal(&self, headers: &mut HeaderMap) {
        headers.insert(REQUEST_ID, self.header());
        headers.insert(OF_ANTHROPIC, self.header());
    }
}

/// What a provider calls a request, as the head of its answer says.
pub(crate) fn of_provider(headers: &HeaderMap) -> Option<String> {
    let value = OF_PROVIDERS.iter().find_map(|name| headers.get(*name))?.to_str().ok()?;
    let plain: String = value.chars().filter(char::is_ascii_graphic).take(LONGEST).collect();
    (!plain.is_empty()).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_another_one() {
        let (one, other) = (RequestId::random(), RequestId::random());
        assert_ne!(one, other);
        assert!(one.as_str().starts_with("req_") && one.header() == *one.as_str());
    }

    #[test]
    fn names_are_in_the_order_of_time() {
        let one = RequestId::random();
        std::thread::sleep(std::time::Duration::from_millis(2));
        let later = RequestId::random();
        assert!(
            one.as_str() < later.as_str() && one.as_str().len() == later.as_str().len(),
            "{one:?} {later:?}"
        );
    }

    #[test]
    fn providers_have_headers_of_their_own_for_it() {
        let head = |name: &'static str, value: &str| {
            HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
        };
        for name in OF_PROVIDERS {
            assert_eq!(of_provider(&head(name, "abc-1")).as_deref(), Some("abc-1"));
        }
        assert_eq!(of_provider(&head("request-id", &"x".repeat(500))).unwrap().len(), LONGEST);
        assert_eq!(of_provider(&head("request-id", "")), None);
        assert_eq!(of_provider(&head("server", "x")), None);
    }
}
