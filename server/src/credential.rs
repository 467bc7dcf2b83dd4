//! The broker's side of the `authorize` seam: a secret, and how its provider wants to see it.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderName, HeaderValue};
use orch_manifests::{Auth, HostPattern, RunId, Site, Whose};
use orch_proxy::{AuthorizeError, Credential, Hold, Scrubber, Use};
use orch_vault::{Grant, GrantId, Secret, Source};
use zeroize::Zeroizing;

use crate::owner::OwnerGrant;
use crate::secret::{Current, Holder, LiveSecret, Tally};

pub(crate) mod azure;
pub(crate) mod fields;
pub(crate) mod shaped;
pub(crate) mod token_file;
mod usable;

use shaped::{Misshaped, Parted, Shaped};
pub(crate) use usable::{Unusable, is_odd, usable};

/// A key or secret that requests can be authorised with. The value never leaves this type but into a request.
pub(crate) struct HeldCredential {
    id: String,
    source: Source,
    whose: Whose,
    auth: Auth,
    value: Value,
    /// The run that holds it, as long as it does.
    _holder: Option<Holder>,
}

enum Value {
    /// Given for this run: who gave it decided that it may be used.
    Given { secret: Secret, scrubber: Option<Arc<Scrubber>> },
    /// The vault's: what its owner says at each use decides.
    Lent(Arc<LiveSecret>, Lease),
}

/// What the holder of a secret was let do with it. It never grows.
pub(crate) enum Lease {
    /// A run, with a provider's key: by this grant; none when its owner had bound the key to nothing more than its
    /// provider.
    Key(Option<GrantId>),
    /// Clients of the gateway, with a provider's key: by any grant that is not for runs. Their uses go on record from
    /// time to time, all together.
    Client(Arc<Tally>),
    /// A run, with a provider's key toward the provider's account: by these grants.
    Account(Vec<GrantId>),
    /// A run, with another secret: by these grants, and at the hosts that its caller said.
    Secret(Vec<GrantId>, Vec<HostPattern>),
}

impl HeldCredential {
    /// Holds `secret` under the name `id`. Values of under 16 bytes are not scrubbed from responses: replacing so
    /// little would let a host test guesses.
    #[must_use]
    pub(crate) fn given(id: String, source: Source, auth: Auth, secret: Secret) -> Self {
        let part = Parted::of(&secret).scrubber(&auth).cloned();
        let scrubber = part.or_else(|| secret.expose(Scrubber::new).map(Arc::new));
        // Nobody is billed for what a simulation answers, and least of all the caller.
        let whose = if source == Source::Simulated { Whose::Platform } else { Whose::Own };
        Self { id, source, whose, auth, value: Value::Given { secret, scrubber }, _holder: None }
    }

    /// Holds what the vault lent to a run, or to clients.
    #[must_use]
    pub(crate) fn lent(secret: Arc<LiveSecret>, auth: Auth, lease: Lease, run: Option<&RunId>) -> Self {
        let holder = run.map(|run| Holder::of(&secret, run));
        let id = secret.name().to_string();
        let value = Value::Lent(secret, lease);
        Self { id, source: Source::Vault, whose: Whose::Team, auth, value, _holder: holder }
    }

    /// The same, of somebody else than its place says, under a name that tells it from their keys of the same name: what is
    /// known of one key is not known of another.
    #[must_use]
    pub(crate) fn of(self, whose: Whose, id: String) -> Self {
        Self { whose, id, ..self }
    }

    /// Does something with the grant that pays for calls with this key; none when no grant does.
    fn paying<T>(&self, act: impl FnOnce(&Arc<LiveSecret>, &Grant, Option<&Arc<Tally>>) -> T) -> Option<T> {
        let Value::Lent(secret, lease) = &self.value else { return None };
        let current = secret.current().ok()?;
        let (grant, tally) = match lease {
            Lease::Key(id) => (current.grants.iter().find(|grant| Some(grant.id()) == *id)?, None),
            Lease::Client(tally) => {
                // The first that has something left, or the first of all, which then says no.
                let mut open = current.grants.iter().filter(|grant| !grant.is_for_runs());
                let first = open.clone().next()?;
                let pays = |grant: &&OwnerGrant| {
                    secret.check(&grant.grant).is_ok() && secret.left(&grant.grant) != Some(0)
                };
                (open.find(pays).unwrap_or(first), Some(tally))
            }
            Lease::Account(_) | Lease::Secret(..) => return None,
        };
        Some(act(secret, &grant.grant, tally))
    }

    /// Does something with the value as it is now.
    fn with_value<T>(&self, act: impl FnOnce(&Secret) -> T) -> Option<T> {
        match &self.value {
            Value::Given { secret, .. } => Some(act(secret)),
            Value::Lent(secret, _) => Some(act(&secret.current().ok()?.secret)),
        }
    }

    /// Reads the value as its provider does.
    fn shaped(&self, secret: &Secret) -> Result<Shaped, Misshaped> {
        // Whoever sends a key along with a request does not say which of this machine's files are read.
        Shaped::read(&self.auth, secret, self.source == Source::Vault)
    }

    /// Puts the value into a request. Gives back what finds what was put there, where that is not known before.
    fn put(
        &self,
        parts: &mut Parts,
        body: Option<&[u8; 32]>,
        how: Use<'_>,
        secret: &Secret,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        let shaped = self.shaped(secret).map_err(|wrong| match wrong {
            Misshaped::Json(why) => AuthorizeError::Unfit(why.into()),
            Misshaped::Token(none) => AuthorizeError::Unavailable(none.told(secret)),
        })?;
        match (how, &shaped) {
            (Use::Own { endpoint, pinned }, _) => {
                if let Some(signed) = shaped.sign(parts, body, endpoint, pinned) {
                    return signed.map(|()| None);
                }
                if !pinned {
                    shaped.check_place(endpoint)?;
                }
                let Some((name, prefix)) = self.auth.header() else { return Ok(None) };
                match shaped.part() {
                    Some(part) => {
                        set(parts, name, prefix, part)?;
                        Ok(Scrubber::new(part).map(Arc::new))
                    }
                    None => {
                        secret.expose(|whole| set(parts, name, prefix, whole))?;
                        Ok(None)
                    }
                }
            }
            (Use::Swap { place, placeholder, .. }, Shaped::Plain) => {
                secret.expose(|value| place.swap(parts, placeholder, value)).map(|()| None)
            }
            (Use::Swap { .. }, Shaped::Signs(_)) => {
                Err(AuthorizeError::NotPermitted("it signs requests, and stands in none".to_owned()))
            }
            (Use::Swap { .. }, Shaped::Resource(_) | Shaped::Token(_)) => {
                let why = "it is for requests that orch makes itself, and stands in no other";
                Err(AuthorizeError::NotPermitted(why.to_owned()))
            }
        }
    }
}

impl Credential for HeldCredential {
    fn id(&self) -> &str {
        &self.id
    }

    fn source(&self) -> &str {
        self.source.as_str()
    }

    fn whose(&self) -> Whose {
        self.whose
    }

    fn mask(&self) -> Option<String> {
        match &self.value {
            Value::Given { secret, .. } => secret.mask(),
            Value::Lent(secret, _) => secret.current().ok()?.summary.mask.clone(),
        }
    }

    fn version(&self) -> Option<u64> {
        // What is learnt of a token is not learnt of the row that says where it is.
        let (Value::Lent(secret, _), false) = (&self.value, matches!(self.auth, Auth::TokenFile(_))) else {
            return None;
        };
        Some(secret.current().ok()?.summary.version.get())
    }

    fn needs_body_digest(&self) -> bool {
        self.auth == Auth::Aws && self.with_value(|secret| secret.expose(fields::is_json)).unwrap_or(false)
    }

    fn site(&self) -> Option<Site> {
        self.with_value(|secret| self.shaped(secret))?.ok()?.site()
    }

    fn authorize(
        &self,
        parts: &mut Parts,
        body: Option<&[u8; 32]>,
        how: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        match &self.value {
            Value::Given { secret, scrubber } => {
                Ok(self.put(parts, body, how, secret)?.or_else(|| scrubber.clone()))
            }
            Value::Lent(secret, lease) => {
                let current = secret.current()?;
                lease.permits(secret, &current, how)?;
                let put = self.put(parts, body, how, &current.secret)?;
                if let Lease::Client(tally) = lease {
                    tally.count();
                }
                Ok(put.or_else(|| current.scrubber(&self.auth)))
            }
        }
    }

    fn money_left(&self) -> Option<u64> {
        self.paying(|secret, grant, _| secret.left(grant)).flatten()
    }

    fn hold(&self, micro_usd: u64) -> Option<Box<dyn Hold>> {
        let held = self.paying(|secret, grant, tally| secret.hold(grant, micro_usd, tally));
        match held {
            Some(held) => held.map(|held| Box::new(held) as Box<dyn Hold>),
            // Nobody's grant pays: nobody bounds it.
            None => Some(Box::new(())),
        }
    }

    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        if matches!(self.auth, Auth::TokenFile(_)) {
            // The token of this moment, where there is one.
            let shaped = self.with_value(|secret| self.shaped(secret)).and_then(Result::ok);
            if let Some(part) = shaped.as_ref().and_then(Shaped::part) {
                return Scrubber::new(part).map(Arc::new);
            }
        }
        match &self.value {
            Value::Given { scrubber, .. } => scrubber.clone(),
            Value::Lent(secret, _) => secret.current().ok()?.scrubber(&self.auth),
        }
    }
}

impl Lease {
    /// Whether the owner still says so.
    fn permits(&self, secret: &LiveSecret, current: &Current, how: Use<'_>) -> Result<(), AuthorizeError> {
        let refused = |why: &str| AuthorizeError::NotPermitted(why.to_owned());
        match (self, how) {
            // Where a provider's key may go is the catalog's to say, and the binding's.
            (Lease::Key(None) | Lease::Client(_), _) if !current.summary.bound => Ok(()),
            (Lease::Key(None), _) => Err(refused("its owner has bound it to grants since")),
            (Lease::Key(Some(id)), _) => {
                let grant = current.grants.iter().find(|grant| grant.id() == *id);
                secret.check(&grant.ok_or_else(|| refused("its owner took the grant back"))?.grant)
            }
            (Lease::Client(_), _) => {
                let mut nearest = refused("its owner granted it to no client");
                for grant in current.grants.iter().filter(|grant| !grant.is_for_runs()) {
                    match secret.check(&grant.grant) {
                        Ok(()) => return Ok(()),
                        Err(error) => nearest = error,
                    }
                }
                Err(nearest)
            }
            (Lease::Account(grants), Use::Swap { asked, .. }) => {
                let mut nearest = AuthorizeError::NotPermitted(format!(
                    "its owner granted no {}:{} of the account: orch secrets grants add {} --account METHOD:PATH",
                    asked.method,
                    asked.path.path(),
                    secret.name()
                ));
                let lent = |grant: &&OwnerGrant| grants.contains(&grant.id()) && grant.covers_account(&asked);
                for grant in current.grants.iter().filter(lent) {
                    match secret.check(&grant.grant) {
                        Ok(()) => return Ok(()),
                        Err(error) => nearest = error,
                    }
                }
                Err(nearest)
            }
            (Lease::Account(_), Use::Own { .. }) => Err(refused("it is for the account alone")),
            (Lease::Secret(grants, by_caller), Use::Swap { asked, place, .. }) => {
                if by_caller.iter().any(|host| host.matches(asked.host)) {
                    return Ok(());
                }
                let mut nearest = refused("its owner took the grant back");
                let lent = |id| grants.contains(&id);
                for grant in
                    current.grants.iter().filter(|grant| lent(grant.id()) && grant.covers(&asked, place))
                {
                    match secret.check(&grant.grant) {
                        Ok(()) => return Ok(()),
                        Err(error) => nearest = error,
                    }
                }
                Err(nearest)
            }
            (Lease::Secret(..), Use::Own { .. }) => Err(refused("it is no provider's key")),
        }
    }
}

fn set(parts: &mut Parts, name: HeaderName, prefix: &str, value: &[u8]) -> Result<(), AuthorizeError> {
    let mut text = Zeroizing::new(Vec::with_capacity(prefix.len() + value.len()));
    text.extend_from_slice(prefix.as_bytes());
    text.extend_from_slice(value);
    let mut value = HeaderValue::from_bytes(&text).map_err(|_| AuthorizeError::BadValue)?;
    value.set_sensitive(true);
    parts.headers.insert(name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    const KEY: &[u8] = b"sk-0123456789abcdef0123456789abcdef";

    fn held(auth: Auth, value: &[u8]) -> HeldCredential {
        HeldCredential::given("OPENAI_API_KEY".into(), Source::Env, auth, Secret::new(value.to_vec()))
    }

    fn parts() -> Parts {
        http::Request::builder().uri("https://api.example.com/v1").body(()).expect("a request").into_parts().0
    }

    fn authorize(held: &HeldCredential, parts: &mut Parts) -> Result<(), AuthorizeError> {
        let endpoint = "https://api.example.com".parse().expect("an endpoint");
        held.authorize(parts, None, Use::Own { endpoint: &endpoint, pinned: false }).map(drop)
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
    fn a_key_that_signs_is_never_put_into_a_request() {
        let key = br#"{"accessKeyId":"AKIAIOSFODNN7EXAMPLE","secretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY","region":"us-east-1"}"#;
        let signs = held(Auth::Aws, key);
        assert!(signs.needs_body_digest());
        assert_eq!(signs.site(), Some(Site::Region("us-east-1".to_owned())));
        let endpoint = "https://bedrock-runtime.us-east-1.amazonaws.com".parse().expect("an endpoint");
        let mut parts = parts();
        parts
            .headers
            .insert(header::HOST, HeaderValue::from_static("bedrock-runtime.us-east-1.amazonaws.com"));
        let own = Use::Own { endpoint: &endpoint, pinned: false };
        assert!(signs.authorize(&mut parts, None, own).is_err(), "without the body's digest");
        signs.authorize(&mut parts, Some(&[0; 32]), own).expect("signed");
        let said = parts.headers[header::AUTHORIZATION].to_str().expect("text");
        assert!(said.starts_with("AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/"), "{said}");
        let all = format!("{:?} {}", parts.headers, parts.uri);
        assert!(!all.contains("wJalr") && !said.contains("wJalr"), "{all}");

        let placeholder = orch_proxy::Placeholder::random();
        let shown = format!("Bearer {placeholder}");
        parts.headers.insert(header::AUTHORIZATION, HeaderValue::try_from(shown).expect("a header"));
        let host = "bedrock-runtime.us-east-1.amazonaws.com".parse().expect("a name");
        let path = "/model/m/converse".parse().expect("a path");
        let asked = orch_proxy::Asked {
            scheme: orch_manifests::Scheme::Https,
            host: &host,
            port: 443,
            method: &http::Method::POST,
            path: &path,
        };
        let swap = Use::Swap {
            asked,
            place: &orch_proxy::Place::Header(header::AUTHORIZATION),
            placeholder: &placeholder,
        };
        let refused = signs.authorize(&mut parts, Some(&[0; 32]), swap);
        assert!(matches!(refused, Err(AuthorizeError::NotPermitted(_))));

        // A key that travels needs no digest and names no region.
        let bearer = held(Auth::Aws, KEY);
        assert!(!bearer.needs_body_digest() && bearer.site().is_none());
        authorize(&bearer, &mut parts).expect("authorised");
        assert_eq!(parts.headers[header::AUTHORIZATION].as_bytes(), [b"Bearer ".as_slice(), KEY].concat());
    }

    #[test]
    fn of_a_key_that_names_its_resource_the_key_alone_travels_and_there_alone() {
        let json =
            br#"{"endpoint":"https://acme.openai.azure.com/","apiKey":"0123456789abcdef0123456789abcdef"}"#;
        let key = held(Auth::Azure, json);
        assert!(matches!(key.site(), Some(Site::Resource { version: None, deployment: None, .. })));
        let own = |text: &str, pinned| {
            let endpoint = text.parse().expect("an endpoint");
            let mut parts = parts();
            key.authorize(&mut parts, None, Use::Own { endpoint: &endpoint, pinned })
                .map(|scrubber| (parts, scrubber))
        };
        let (sent, scrubber) = own("https://acme.openai.azure.com/openai/v1", false).expect("authorised");
        assert_eq!(sent.headers["api-key"], "0123456789abcdef0123456789abcdef");
        assert!(sent.headers["api-key"].is_sensitive());
        assert!(scrubber.expect("a scrubber").clean(b"you sent 0123456789abcdef0123456789abcdef").is_some());
        for other in [
            "https://other.openai.azure.com",
            "http://acme.openai.azure.com",
            "https://acme.openai.azure.com:8443",
        ] {
            assert!(matches!(own(other, false), Err(AuthorizeError::Unfit(_))), "{other}");
        }
        assert!(own("https://127.0.0.1:8443", true).is_ok(), "an operator's pin is where they say");
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
