//! AWS's keys as people keep them: `{"accessKeyId","secretAccessKey","sessionToken"?,"region"}`, which sign requests, beside
//! the plain keys of Bedrock, which travel.

use std::sync::Arc;

use http::request::Parts;
use orch_manifests::{Catalog, Check, Endpoint, Site};
use orch_proxy::{AuthorizeError, Scrubber, Signer};
use orch_vault::Secret;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::credential::fields::{self, Field};

/// The service's name in signatures.
const SERVICE: &str = "bedrock";

/// The slug of the provider whose hosts have regions.
const PROVIDER: &str = "aws";

const FIELDS: &[Field] = &[
    Field::required("accessKeyId"),
    Field::required("secretAccessKey"),
    Field::optional("sessionToken"),
    Field::required("region"),
];

/// A key that signs.
pub(crate) struct AwsKey {
    access_key_id: Zeroizing<String>,
    secret_access_key: Zeroizing<String>,
    session_token: Option<Zeroizing<String>>,
    region: Zeroizing<String>,
}

impl AwsKey {
    /// Reads a key; `None` for one that is no JSON, and travels as it is.
    ///
    /// # Errors
    /// What begins as JSON is no key, and why, without a word of it.
    pub(crate) fn read(secret: &Secret) -> Result<Option<AwsKey>, String> {
        secret.expose(|bytes| {
            if !signs(bytes) {
                return Ok(None);
            }
            let mut texts = fields::texts(bytes, FIELDS)?;
            let key = AwsKey {
                access_key_id: texts.take("accessKeyId"),
                secret_access_key: texts.take("secretAccessKey"),
                session_token: texts.take_some("sessionToken"),
                region: texts.take("region"),
            };
            let plain = |text: &str| text.bytes().all(|b| (0x21..=0x7e).contains(&b));
            let odd =
                |name: &str| format!("its field `{name}` holds blanks or other characters that no key has");
            if !plain(&key.access_key_id) || key.access_key_id.contains([',', '/', '=']) {
                return Err(odd("accessKeyId"));
            }
            if !plain(&key.secret_access_key) {
                return Err(odd("secretAccessKey"));
            }
            if !key.session_token.as_ref().is_none_or(|token| plain(token)) {
                return Err(odd("sessionToken"));
            }
            if host(&key.region).is_none() {
                return Err("its field `region` is no name of a region such as eu-central-1".to_owned());
            }
            Ok(Some(key))
        })
    }

    /// Where it is used.
    pub(crate) fn site(&self) -> Site {
        Site::Region(self.region.to_string())
    }

    /// Signs a request for this endpoint: Bedrock's in the key's region, or where an operator pinned it.
    pub(crate) fn sign(
        &self,
        parts: &mut Parts,
        body: Option<&[u8; 32]>,
        endpoint: &Endpoint,
        pinned: bool,
    ) -> Result<(), AuthorizeError> {
        if !pinned && !is_host(&self.region, endpoint) {
            return Err(unfit("its region has another host than the one that was asked for"));
        }
        let body = body.ok_or_else(|| unfit("it signs the body, whose digest is not at hand"))?;
        let signer = Signer {
            access_key_id: &self.access_key_id,
            secret_access_key: self.secret_access_key.as_bytes(),
            session_token: self.session_token.as_ref().map(|token| token.as_str()),
            region: &self.region,
            service: SERVICE,
        };
        signer.sign(parts, body, OffsetDateTime::now_utc())
    }
}

/// Whether this is a key that signs, or was meant to be one.
pub(crate) fn signs(value: &[u8]) -> bool {
    fields::is_json(value)
}

fn unfit(why: &'static str) -> AuthorizeError {
    AuthorizeError::Unfit(why.into())
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

/// Whether an endpoint is Bedrock's in a region: where models answer, or where a key is checked.
fn is_host(region: &str, endpoint: &Endpoint) -> bool {
    let catalog = Catalog::builtin();
    let Some(there) = catalog.provider(PROVIDER).and_then(|provider| provider.in_region(region)) else {
        return false;
    };
    let checked = match &there.check {
        Check::Asks(check) => Some(there.check_target(check).0),
        Check::Impossible(_) => None,
    };
    let same = |own: &Endpoint| {
        (own.scheme, &own.host, own.port) == (endpoint.scheme, &endpoint.host, endpoint.port)
    };
    same(&there.endpoint) || checked.as_ref().is_some_and(same)
}

#[cfg(test)]
mod tests {
    use orch_manifests::Auth;
    use orch_proxy::Credential as _;
    use orch_vault::Source;

    use super::*;
    use crate::credential::HeldCredential;

    const LASTING: &str = r#"{"accessKeyId":"AKIAIOSFODNN7EXAMPLE","secretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY","region":"eu-central-1"}"#;

    fn key(text: &str) -> Result<Option<AwsKey>, String> {
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
        let with = |from: &str, to: &str| key(&LASTING.replace(from, to)).err().unwrap_or_default();
        for (from, to, why) in [
            ("eu-central-1", "eu.central", "its field `region` is no name of a region such as eu-central-1"),
            ("region", "Region", "it has a field `Region`, which is called `region`"),
            (r#","region":"eu-central-1""#, "", "its field `region` is missing"),
            ("accessKeyId", "access_key_id", "it has a field `access_key_id`, which is called `accessKeyId`"),
            (
                r#""region""#,
                r#""extra":1,"region""#,
                "it has a field `extra`, and the fields are accessKeyId, secretAccessKey, sessionToken, region",
            ),
            ("AKIAIOSFODNN7EXAMPLE", "", "its field `accessKeyId` is empty"),
            ("wJal", "w Jal", "its field `secretAccessKey` holds blanks or other characters that no key has"),
            ("AKIA", "A/B", "its field `accessKeyId` holds blanks or other characters that no key has"),
        ] {
            assert_eq!(with(from, to), why, "{from} {to}");
        }
        assert!(with("}", "").starts_with("it is not a JSON object"));
    }

    #[test]
    fn a_key_is_checked_where_models_are_listed() {
        let key = key(LASTING).unwrap().unwrap();
        assert!(sign(&key, "https://bedrock.eu-central-1.amazonaws.com", false).is_ok());
        assert!(sign(&key, "https://bedrock.us-east-1.amazonaws.com", false).is_err());
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
