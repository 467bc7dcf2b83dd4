//! AWS's keys as people keep them: `{"accessKeyId","secretAccessKey","sessionToken"?,"region"}`, which sign requests, beside
//! the plain keys of Bedrock, which travel.

use std::sync::Arc;

use http::request::Parts;
use orch_manifests::{Catalog, Endpoint};
use orch_proxy::{AuthorizeError, Scrubber, Signer};
use orch_vault::Secret;
use serde::Deserialize;
use time::OffsetDateTime;
use zeroize::Zeroize as _;

/// The service's name in signatures.
const SERVICE: &str = "bedrock";

/// The slug of the provider whose hosts have regions.
const PROVIDER: &str = "aws";

const SHAPE: &str = "it is no JSON object with the texts accessKeyId, secretAccessKey, region and, for temporary keys, sessionToken";

/// A key that signs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AwsKey {
    access_key_id: String,
    secret_access_key: String,
    #[serde(default)]
    session_token: Option<String>,
    region: String,
}

impl Drop for AwsKey {
    fn drop(&mut self) {
        self.secret_access_key.zeroize();
        self.session_token.zeroize();
    }
}

impl AwsKey {
    /// Reads a key; `None` for one that is no JSON, and travels as it is.
    ///
    /// # Errors
    /// What begins as JSON is no key, and why, without a word of it.
    pub(crate) fn read(secret: &Secret) -> Result<Option<AwsKey>, &'static str> {
        secret.expose(|bytes| {
            if !signs(bytes) {
                return Ok(None);
            }
            // The error of the parser would repeat names of fields, which may be values in the wrong place.
            let key: AwsKey = serde_json::from_slice(bytes).map_err(|_| SHAPE)?;
            let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| (0x21..=0x7e).contains(&b));
            let texts = [&key.access_key_id, &key.secret_access_key, &key.region];
            let token = key.session_token.as_deref().is_none_or(plain);
            if !token || !texts.iter().all(|text| plain(text)) || key.access_key_id.contains([',', '/', '='])
            {
                return Err("one of its texts is empty or holds blanks or other characters that no key has");
            }
            if host(&key.region).is_none() {
                return Err("its region is no name of a region such as eu-central-1");
            }
            Ok(Some(key))
        })
    }

    /// The region that it names.
    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// Signs a request for this endpoint: Bedrock's in the key's region, or where an operator pinned it.
    pub(crate) fn sign(
        &self,
        parts: &mut Parts,
        body: Option<&[u8; 32]>,
        endpoint: &Endpoint,
        pinned: bool,
    ) -> Result<(), AuthorizeError> {
        if !pinned && host(&self.region).as_ref() != Some(endpoint) {
            return Err(AuthorizeError::Unfit("its region has another host than the one that was asked for"));
        }
        let body = body.ok_or(AuthorizeError::Unfit("it signs the body, whose digest is not at hand"))?;
        let signer = Signer {
            access_key_id: &self.access_key_id,
            secret_access_key: self.secret_access_key.as_bytes(),
            session_token: self.session_token.as_deref(),
            region: &self.region,
            service: SERVICE,
        };
        signer.sign(parts, body, OffsetDateTime::now_utc())
    }
}

/// Whether this is a key that signs, or was meant to be one.
pub(crate) fn signs(value: &[u8]) -> bool {
    value.trim_ascii_start().first() == Some(&b'{')
}

/// Finds what of a key that signs may be seen: its token, which travels, or else its secret, which does not. None where
/// this is no such key.
pub(crate) fn scrubber(secret: &Secret) -> Option<Arc<Scrubber>> {
    let key = AwsKey::read(secret).ok()??;
    let travels = key.session_token.as_ref().unwrap_or(&key.secret_access_key);
    Scrubber::new(travels.as_bytes()).map(Arc::new)
}

/// Where Bedrock is in a region.
fn host(region: &str) -> Option<Endpoint> {
    let catalog = Catalog::builtin();
    let there = catalog.provider(PROVIDER)?.in_region(region)?;
    Some(there.endpoint.clone())
}

#[cfg(test)]
mod tests {
    use orch_manifests::Auth;
    use orch_proxy::Credential as _;
    use orch_vault::Source;

    use super::*;
    use crate::credential::HeldCredential;

    const LASTING: &str = r#"{"accessKeyId":"AKIAIOSFODNN7EXAMPLE","secretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY","region":"eu-central-1"}"#;

    fn key(text: &str) -> Result<Option<AwsKey>, &'static str> {
        AwsKey::read(&Secret::new(text.as_bytes().to_vec()))
    }

    fn sign(key: &AwsKey, url: &str, pinned: bool) -> Result<Parts, AuthorizeError> {
        let endpoint: Endpoint = url.parse().unwrap();
        let request =
            http::Request::post("/model/m/converse").header("host", endpoint.authority()).body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        key.sign(&mut parts, Some(&[0; 32]), &endpoint, pinned).map(|()| parts)
    }

    #[test]
    fn a_key_signs_for_its_regions_host_and_no_other() {
        let key = key(LASTING).unwrap().unwrap();
        let parts = sign(&key, "https://bedrock-runtime.eu-central-1.amazonaws.com", false).unwrap();
        let authorization = parts.headers["authorization"].to_str().unwrap();
        assert!(authorization.contains("/eu-central-1/bedrock/aws4_request, "), "{authorization}");
        assert!(!format!("{:?}", parts.headers).contains("wJalr"));
        for other in [
            "https://bedrock-runtime.us-east-1.amazonaws.com",
            "https://bedrock-runtime.eu-central-1.amazonaws.com:8443",
            "http://bedrock-runtime.eu-central-1.amazonaws.com",
            "https://evil.example",
        ] {
            assert!(matches!(sign(&key, other, false), Err(AuthorizeError::Unfit(_))), "{other}");
        }
        assert!(sign(&key, "https://127.0.0.1:8443", true).is_ok(), "an operator's pin is where they say");
    }

    #[test]
    fn what_is_no_json_is_a_key_of_its_own_and_what_is_broken_is_refused() {
        assert!(key("ABSKQmVkcm9jaw==").unwrap().is_none());
        let with = |from: &str, to: &str| key(&LASTING.replace(from, to)).err();
        assert_eq!(
            with("eu-central-1", "eu.central"),
            Some("its region is no name of a region such as eu-central-1")
        );
        for (from, to) in [
            ("region", "Region"),
            (r#","region":"eu-central-1""#, ""),
            ("accessKeyId", "access_key_id"),
            ("}", ""),
            (r#""region""#, r#""extra":1,"region""#),
        ] {
            assert_eq!(with(from, to), Some(SHAPE), "{from} {to}");
        }
        for (from, to) in [("AKIAIOSFODNN7EXAMPLE", ""), ("wJal", "w Jal"), ("AKIA", "A/B")] {
            assert!(with(from, to).is_some_and(|why| why.starts_with("one of its texts")), "{from} {to}");
        }
    }

    #[test]
    fn what_travels_is_what_is_looked_for() {
        let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
        let found = |text: &str, said: &str| {
            let held = HeldCredential::given("K".to_owned(), Source::Vault, Auth::Aws, secret(text));
            held.scrubber().unwrap().clean(said.as_bytes()).is_some()
        };
        let token = "IQoJb3JpZ2luX2VjEXAMPLE0123456789";
        let temporary = LASTING.replace(r#""region""#, &format!(r#""sessionToken":"{token}","region""#));
        assert!(found(&temporary, &format!("you sent {token}")));
        assert!(found(LASTING, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"));
        assert!(found("ABSKQmVkcm9jay0123456789", "ABSKQmVkcm9jay0123456789"));
        // Where it does not sign, all of it travels, whatever it looks like.
        let other = HeldCredential::given("K".to_owned(), Source::Vault, Auth::None, secret(&temporary));
        let clean = other.scrubber().unwrap().clean(format!("you sent {temporary}").as_bytes()).unwrap();
        assert!(!String::from_utf8(clean).unwrap().contains("wJalr"));
    }
}
