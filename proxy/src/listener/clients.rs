//! Who may use the listener, and how they show it.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderMap, header};
use orch_manifests::HostPattern;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::LiveGrant;

/// Why a client cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadClient {
    /// A name that could not stand in a URL as it is.
    #[error("a client's name is 1 to 64 letters, digits, `-`, `_` or `.`")]
    Name,
    /// A token that could be guessed, or could not stand in a URL as it is.
    #[error("a client's token is 32 to 256 letters, digits, `-` or `_`")]
    Token,
}

/// The name of a client: what stands before the colon of its credentials.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientName(String);

impl ClientName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientName {
    type Err = BadClient;

    fn from_str(text: &str) -> Result<Self, BadClient> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let fits = (1..=64).contains(&text.len()) && text.bytes().all(plain);
        if fits { Ok(Self(text.to_owned())) } else { Err(BadClient::Name) }
    }
}

impl std::fmt::Display for ClientName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client shows. Not `Debug`, not `Clone`: who holds it may do what the client may.
pub struct ClientToken(Zeroizing<String>);

impl ClientToken {
    /// 256 random bits, as 64 hex digits.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    #[must_use]
    pub fn random() -> Self {
        let mut bits = Zeroizing::new([0_u8; 32]);
        SystemRandom::new().fill(bits.as_mut()).expect("the operating system provides randomness");
        Self(Zeroizing::new(data_encoding::HEXLOWER.encode(bits.as_ref())))
    }

    /// A token that somebody keeps in a file.
    ///
    /// # Errors
    /// [`BadClient::Token`].
    pub fn parse(text: &str) -> Result<Self, BadClient> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let fits = (32..=256).contains(&text.len()) && text.bytes().all(plain);
        if fits { Ok(Self(Zeroizing::new(text.to_owned()))) } else { Err(BadClient::Token) }
    }

    /// The token, for whoever is to use it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Somebody who may use the listener.
pub struct Client {
    /// Under which name.
    pub name: ClientName,
    /// With which token. Only its digest is kept.
    pub token: ClientToken,
    /// What it may do, and what it did.
    pub grant: Arc<LiveGrant>,
    /// Hosts to which its tunnels may carry anything: TLS that names another server, or none, or no TLS.
    pub opaque: Vec<HostPattern>,
}

/// A client that is known.
pub(crate) struct Known {
    pub(crate) name: ClientName,
    pub(crate) grant: Arc<LiveGrant>,
    pub(crate) opaque: Vec<HostPattern>,
    /// Its connections.
    pub(crate) connections: Arc<Semaphore>,
    fingerprint: [u8; 32],
}

/// Everybody who may use the listener.
pub(crate) struct Clients(HashMap<String, Arc<Known>>);

impl Clients {
    pub(crate) fn new(clients: Vec<Client>, connections: usize) -> Self {
        let known = |client: Client| {
            let Client { name, token, grant, opaque } = client;
            let known = Known {
                name: name.clone(),
                grant,
                opaque,
                connections: Arc::new(Semaphore::new(connections)),
                fingerprint: fingerprint(token.reveal().as_bytes()),
            };
            (name.0, Arc::new(known))
        };
        Self(clients.into_iter().map(known).collect())
    }

    /// Whose credentials these are.
    pub(crate) fn find(&self, headers: &HeaderMap) -> Option<&Arc<Known>> {
        let mut lines = headers.get_all(header::PROXY_AUTHORIZATION).iter();
        let line = lines.next().filter(|_| lines.next().is_none())?.as_bytes();
        let (scheme, encoded) = line.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let decoded = Zeroizing::new(data_encoding::BASE64.decode(encoded.trim_ascii()).ok()?);
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        let known = std::str::from_utf8(&decoded[..colon]).ok().and_then(|name| self.0.get(name));
        // As much work for a name that nobody has.
        let shown = fingerprint(&decoded[colon + 1..]);
        let expected = known.map_or([0; 32], |known| known.fingerprint);
        let same = bool::from(shown.ct_eq(&expected));
        known.filter(|_| same)
    }
}

fn fingerprint(token: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest(&SHA256, token).as_ref());
    sum
}

#[cfg(test)]
mod tests {
    use orch_manifests::RunId;
    use tokio::time::Instant;

    use super::*;
    use crate::{Grant, Limits};

    fn clients() -> Clients {
        let client = |name: &str, letter: &str| Client {
            name: name.parse().unwrap(),
            token: ClientToken::parse(&letter.repeat(40)).unwrap(),
            grant: LiveGrant::without_token(Grant {
                run: RunId::random(),
                workspace: "default".to_owned(),
                rules: Vec::new(),
                trials: Vec::new(),
                bindings: Vec::new(),
                limits: Limits::of(1, 1),
                expires: Instant::now(),
            }),
            opaque: Vec::new(),
        };
        Clients::new(vec![client("one", "a"), client("two", "b")], 1)
    }

    fn found(lines: &[String]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::PROXY_AUTHORIZATION, line.parse().unwrap());
        }
        clients().find(&headers).map(|known| known.name.to_string())
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", data_encoding::BASE64.encode(text.as_bytes()))
    }

    #[test]
    fn a_client_is_who_shows_its_token() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let good = basic(&format!("one:{a}"));
        assert_eq!(found(std::slice::from_ref(&good)).as_deref(), Some("one"));
        assert_eq!(found(&[good.replace("Basic", "bASIC")]).as_deref(), Some("one"));
        assert_eq!(found(&[basic(&format!("two:{b}"))]).as_deref(), Some("two"));
        for wrong in [
            vec![],
            vec![good.clone(), good.clone()],
            vec![basic(&format!("one:{b}"))],
            vec![basic(&format!("One:{a}"))],
            vec![basic(&format!("three:{a}"))],
            vec![basic(&format!(":{a}"))],
            vec![basic("one:")],
            vec![basic("one")],
            vec![format!("Bearer {a}")],
            vec![good.replace("Basic ", "Basic")],
            vec![format!("{good}=")],
        ] {
            assert_eq!(found(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn names_and_tokens_fit_into_a_url() {
        assert_ne!(ClientToken::random().reveal(), ClientToken::random().reveal());
        assert_eq!(ClientToken::random().reveal().len(), 64);
        for bad in ["", "a b", "a:b", "a@b", "a/b", "é", &"x".repeat(65)] {
            assert_eq!(bad.parse::<ClientName>(), Err(BadClient::Name), "{bad}");
        }
        for bad in ["", "short", &"x".repeat(31), &"x".repeat(257), &format!("{}@", "x".repeat(40))] {
            assert!(ClientToken::parse(bad).is_err(), "{bad}");
        }
    }
}
