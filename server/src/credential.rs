//! The broker's side of the `authorize` seam: a secret, and how its provider wants to see it.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderName, HeaderValue, header};
use orch_manifests::Auth;
use orch_proxy::{AuthorizeError, Credential, Scrubber, Use};
use orch_vault::{Secret, Source};
use zeroize::Zeroizing;

/// A key or secret that requests can be authorised with. The value never leaves this type but into a request.
pub(crate) struct HeldCredential {
    id: String,
    source: Source,
    auth: Auth,
    secret: Secret,
    scrubber: Option<Arc<Scrubber>>,
}

impl HeldCredential {
    /// Holds `secret` under the name `id`. Values of under 16 bytes are not scrubbed from responses: replacing so
    /// little would let a host test guesses.
    #[must_use]
    pub(crate) fn new(id: String, source: Source, auth: Auth, secret: Secret) -> Self {
        let scrubber = secret.expose(Scrubber::new).map(Arc::new);
        Self { id, source, auth, secret, scrubber }
    }

    fn set(&self, parts: &mut Parts, name: HeaderName, prefix: &[u8]) -> Result<(), AuthorizeError> {
        let value = self.secret.expose(|secret| {
            let mut text = Zeroizing::new(Vec::with_capacity(prefix.len() + secret.len()));
            text.extend_from_slice(prefix);
            text.extend_from_slice(secret);
            HeaderValue::from_bytes(&text)
        });
        let mut value = value.map_err(|_| AuthorizeError::BadValue)?;
        value.set_sensitive(true);
        parts.headers.insert(name, value);
        Ok(())
    }
}

impl Credential for HeldCredential {
    fn id(&self) -> &str {
        &self.id
    }

    fn source(&self) -> &str {
        self.source.as_str()
    }

    fn authorize(
        &self,
        parts: &mut Parts,
        _body: Option<&[u8; 32]>,
        how: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        match how {
            Use::Own { .. } => match &self.auth {
                Auth::None => {}
                Auth::Bearer => self.set(parts, header::AUTHORIZATION, b"Bearer ")?,
                Auth::Header(name) => self.set(parts, name.clone(), b"")?,
            },
            Use::Swap { place, placeholder, .. } => {
                self.secret.expose(|value| place.swap(parts, placeholder, value))?;
            }
        }
        Ok(self.scrubber.clone())
    }

    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        self.scrubber.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = b"sk-0123456789abcdef0123456789abcdef";

    fn held(auth: Auth, value: &[u8]) -> HeldCredential {
        HeldCredential::new("OPENAI_API_KEY".into(), Source::Env, auth, Secret::new(value.to_vec()))
    }

    fn parts() -> Parts {
        http::Request::builder().uri("https://api.example.com/v1").body(()).expect("a request").into_parts().0
    }

    fn authorize(held: &HeldCredential, parts: &mut Parts) -> Result<(), AuthorizeError> {
        let endpoint = "https://api.example.com".parse().expect("an endpoint");
        held.authorize(parts, None, Use::Own { endpoint: &endpoint }).map(drop)
    }

    #[test]
    fn each_scheme_puts_the_key_in_its_place() {
        let mut bearer = parts();
        authorize(&held(Auth::Bearer, KEY), &mut bearer).expect("authorised");
        let value = &bearer.headers[header::AUTHORIZATION];
        assert_eq!(value.as_bytes(), [b"Bearer ".as_slice(), KEY].concat());
        assert!(value.is_sensitive(), "an Authorization header is never printed");

        let name = HeaderName::from_static("x-api-key");
        let mut own = parts();
        authorize(&held(Auth::Header(name.clone()), KEY), &mut own).expect("authorised");
        assert_eq!(own.headers[&name].as_bytes(), KEY);
        assert!(own.headers[&name].is_sensitive());
    }

    #[test]
    fn a_value_that_breaks_a_header_is_refused() {
        for bad in [b"sk-0123456789abcdef\r\nHost: evil".as_slice(), b"sk-0123456789abcdef\0"] {
            let mut parts = parts();
            assert!(authorize(&held(Auth::Bearer, bad), &mut parts).is_err());
            assert!(parts.headers.is_empty());
        }
    }
}
