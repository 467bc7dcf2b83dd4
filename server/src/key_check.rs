//! Asks providers about keys: when one is stored, and in `orch doctor`.
//!
//! The request goes the way of every other: through the egress proxy, with its guard of addresses, to where the catalog or
//! the operator says that the provider is. The key is bound to exactly the request of the check. Nobody waits for long, and
//! what cannot be reached holds nothing up.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use http::request::Parts;
use orch_gateway::check::{self, Verdict};
use orch_manifests::{Check, Endpoint, Provider, RunId};
use orch_proxy::{AuthorizeError, Credential, Grant, Limits, LiveGrant, Proxy, Scrubber, Use};
use orch_vault::{Secret, Source};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::Instant;

use crate::config::Config;
use crate::credential::shaped::{Misshaped, Shaped};
use crate::credential::{HeldCredential, usable};
use crate::failure::{Failure, Kind};
use crate::upstream::internet;

mod described;
mod shape;
mod storing;
#[cfg(test)]
mod tests;

pub use described::{Described, describe, document, rejected};
pub(crate) use shape::Misplaced;
pub use shape::{check_file, check_shape, tidy};
pub(crate) use storing::Proof;

/// How long a check may take, a made-up key's included.
const LONGEST: Duration = Duration::from_secs(5);
/// Requests of one check: two, and what is tried again.
const REQUESTS: u64 = 8;

/// Asks about keys.
pub struct KeyChecker {
    proxy: Arc<Proxy>,
}

impl KeyChecker {
    /// Over a proxy of its own, as the operator's configuration says.
    ///
    /// # Errors
    /// A root of the configuration that is not usable.
    pub fn new(config: &Config) -> Result<Self, Failure> {
        Ok(Self { proxy: internet(config)? })
    }

    /// Over the proxy of a server.
    pub(crate) fn over(proxy: Arc<Proxy>) -> Self {
        Self { proxy }
    }

    /// Asks the provider about a key of its that is, or will be, in the vault. Takes five seconds at most.
    pub async fn check(&self, workspace: &str, provider: &Provider, name: &str, secret: &Secret) -> Verdict {
        self.check_from(Source::Vault, workspace, provider, name, secret).await
    }

    /// The same, of a key that is elsewhere.
    pub async fn check_from(
        &self,
        source: Source,
        workspace: &str,
        provider: &Provider,
        name: &str,
        secret: &Secret,
    ) -> Verdict {
        let refers = source == Source::Vault;
        if let Err(wrong) = usable(provider, secret, refers) {
            let why = wrong.why();
            return match Shaped::read(&provider.auth, secret, refers) {
                Err(Misshaped::Token(none)) if none.over => Verdict::Revoked { why: none.to_string() },
                Err(Misshaped::Token(none)) => Verdict::Unchecked { why: none.to_string() },
                _ => Verdict::Invalid { why: format!("it {why}") },
            };
        }
        if let Some(misplaced) = Misplaced::judge(provider, secret) {
            let why = format!("it is {}, and is not shown to {}", misplaced.what(), provider.name);
            return Verdict::Unchecked { why };
        }
        let copy = secret.expose(|bytes| Secret::new(bytes.to_vec()));
        let held: Arc<dyn Credential> =
            Arc::new(HeldCredential::given(name.to_owned(), source, provider.auth.clone(), copy));
        let site = held.site();
        let there = site.and_then(|site| provider.at(&site).ok());
        let provider = there.as_deref().unwrap_or(provider);
        let Check::Asks(request) = &provider.check else {
            let why = match &provider.check {
                Check::Impossible(why) => why.clone(),
                Check::Asks(_) => String::new(),
            };
            return Verdict::Unchecked { why };
        };
        let (endpoint, path) = provider.check_target(request);
        let bound = |inner: Arc<dyn Credential>| -> Arc<dyn Credential> {
            let path = path.split('?').next().unwrap_or_default().to_owned();
            Arc::new(ForCheck { inner, method: request.method.clone(), endpoint: endpoint.clone(), path })
        };
        let made_up = match made_up(secret) {
            Ok(made_up) => made_up,
            Err(failure) => return Verdict::Unchecked { why: failure.message().to_owned() },
        };
        // It is sent as a plain key whatever the real one is: of a JSON credential its place is the same.
        let made_up = HeldCredential::given(name.to_owned(), Source::Flag, provider.auth.clone(), made_up);
        let until = Instant::now() + LONGEST;
        let grant = LiveGrant::without_token(Grant {
            run: RunId::random(),
            workspace: workspace.to_owned(),
            rules: Vec::new(),
            trials: Vec::new(),
            bindings: Vec::new(),
            limits: Limits::of(REQUESTS, 2),
            expires: until,
        });
        let (held, made_up) = (bound(held), bound(Arc::new(made_up)));
        check::check(&self.proxy, &grant, provider, &held, &made_up, until).await
    }
}

/// The host that is asked about a key, for the record: where the key says that it is.
#[must_use]
pub fn asked_host(provider: &Provider, secret: &Secret) -> String {
    let site = Shaped::read(&provider.auth, secret, true).ok().and_then(|shaped| shaped.site());
    let there = site.and_then(|site| provider.at(&site).ok());
    let provider = there.as_deref().unwrap_or(provider);
    match &provider.check {
        Check::Asks(request) => provider.check_target(request).0.host.to_string(),
        Check::Impossible(_) => provider.endpoint.host.to_string(),
    }
}

/// A key that nobody has, which looks like this one as far as is seen from outside.
fn made_up(like: &Secret) -> Result<Secret, Failure> {
    let mut bits = [0_u8; 24];
    SystemRandom::new()
        .fill(&mut bits)
        .map_err(|_| Failure::defect("the operating system gives no randomness"))?;
    let begins = like.expose(|bytes| bytes.starts_with(b"sk-"));
    let begin = if begins { "sk-" } else { "" };
    Ok(Secret::new(format!("{begin}{}", data_encoding::HEXLOWER.encode(&bits)).into_bytes()))
}

/// A key that goes with one request and no other.
struct ForCheck {
    inner: Arc<dyn Credential>,
    method: Method,
    endpoint: Endpoint,
    path: String,
}

impl Credential for ForCheck {
    fn id(&self) -> &str {
        self.inner.id()
    }

    fn source(&self) -> &str {
        self.inner.source()
    }

    fn needs_body_digest(&self) -> bool {
        self.inner.needs_body_digest()
    }

    fn authorize(
        &self,
        parts: &mut Parts,
        body: Option<&[u8; 32]>,
        how: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        let own = matches!(how, Use::Own { endpoint, .. } if *endpoint == self.endpoint);
        if !own || parts.method != self.method || parts.uri.path() != self.path {
            return Err(AuthorizeError::NotPermitted("it is for the check of this key alone".to_owned()));
        }
        self.inner.authorize(parts, body, how)
    }

    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        self.inner.scrubber()
    }
}

/// A key that a provider said is none is not stored. `set` is the command that stores another one, where it is not that for
/// secrets.
///
/// # Errors
/// When the provider rejected it; how to store it all the same is the caller's to say.
pub fn refuse_rejected(
    provider: &Provider,
    name: &str,
    verdict: &Verdict,
    set: Option<&str>,
) -> Result<(), Failure> {
    if !verdict.rejects_key() {
        return Ok(());
    }
    let Described { text, hints } = described::with(provider, name, verdict, set);
    let failure = Failure::new(Kind::NoKey, "key_rejected", format!("{text}; nothing was stored"));
    let failure = hints.into_iter().fold(failure, Failure::hint);
    Err(failure
        .detail("verdict", verdict.word())
        .detail("provider", provider.slug.as_str())
        .detail("name", name))
}
