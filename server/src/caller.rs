//! Who calls a server, and what they may do.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use time::OffsetDateTime;

mod first;
mod text;
mod tokens;

pub use first::{AdminToken, ensure_admin_token};
pub(crate) use text::{NewToken, digest_of};
pub(crate) use tokens::Tokens;

/// The workspace of an installation's owner.
pub(crate) const DEFAULT_WORKSPACE: &str = "default";
/// What the owner is called, as a member of that workspace.
const OWNER: &str = "owner";

/// Whether a member of this name is the owner of the installation. What is a member's goes by the name (keys, models, runs,
/// budgets), so no token stands for this one.
pub(crate) fn is_owner(workspace: &str, name: &str) -> bool {
    workspace == DEFAULT_WORKSPACE && name == OWNER
}

/// Somebody who may call.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The id of the token that says so, `tok_…`; `owner` where none is needed. For the records; not a secret.
    pub id: Arc<str>,
    /// Whose runs, secrets and bill.
    pub workspace: Arc<str>,
    /// Which member of the workspace: what the token is called.
    pub name: Arc<str>,
    /// What they may do.
    pub scopes: Scopes,
    /// When the token ends.
    pub expires: Option<OffsetDateTime>,
}

impl Caller {
    /// The owner of the installation: whoever is this process, or the other end of its socket.
    #[must_use]
    pub fn owner() -> Self {
        Self {
            id: OWNER.into(),
            workspace: DEFAULT_WORKSPACE.into(),
            name: OWNER.into(),
            scopes: Scope::Admin.into(),
            expires: None,
        }
    }

    /// Whether they may do this.
    #[must_use]
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contain(scope)
    }
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// This process.
    InProcess,
    /// The unix socket, whose other end was found to be this user.
    Unix,
    /// A TCP connection.
    Tcp {
        /// Its other end.
        address: SocketAddr,
        /// Whether it is encrypted.
        tls: bool,
    },
    /// A TCP connection of a proxy that the operator trusts.
    Proxied {
        /// Whose request it passes on.
        client: Client,
        /// Whether both parts of the way are encrypted, or the second one does not leave this machine.
        private: bool,
    },
}

/// Whose request a trusted proxy passes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// That of whoever has this address, as the proxy says.
    At(IpAddr),
    /// Nobody can tell, because what was reported contradicts itself or cannot be read. The address is the proxy's.
    Unclear(IpAddr),
    /// The proxy reports nothing: it asks something itself, or does not say for whom. The address is the proxy's.
    Unsaid(IpAddr),
}

impl Peer {
    /// Whether what it sends is seen by nobody else on the way.
    #[must_use]
    pub fn is_private(self) -> bool {
        match self {
            Self::InProcess | Self::Unix => true,
            Self::Tcp { address, tls } => tls || address.ip().to_canonical().is_loopback(),
            Self::Proxied { private, .. } => private,
        }
    }
}

/// One thing that a token may be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Scope {
    /// To make, see and cancel runs, and to see agents.
    Run = 1,
    /// To use the LLM gateway.
    Llm = 2,
    /// To have model providers search, fetch, run tools, and use what is stored in their accounts.
    LlmTools = 64,
    /// To publish agents.
    Publish = 4,
    /// To set and remove secrets.
    Secrets = 8,
    /// To grant what agents ask for.
    Grants = 16,
    /// All of these, tokens, and the state of the server.
    Admin = 32,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 7] =
        [Self::Run, Self::Llm, Self::LlmTools, Self::Publish, Self::Secrets, Self::Grants, Self::Admin];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Llm => "llm",
            Self::LlmTools => "llm:tools",
            Self::Publish => "publish",
            Self::Secrets => "secrets",
            Self::Grants => "grants",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a scope: they are run, llm, llm:tools, publish, secrets, grants and admin")]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(word: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word).ok_or(UnknownScope)
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Whether this allows what `scope` stands for. Who is admin may do everything.
    #[must_use]
    pub fn contain(self, scope: Scope) -> bool {
        self.0 & (scope as u8 | Scope::Admin as u8) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The words of those that were given, in their order in [`Scope::ALL`].
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & *scope as u8 != 0).map(Scope::as_str)
    }
}

impl From<Scope> for Scopes {
    fn from(scope: Scope) -> Self {
        Self(scope as u8)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | scope as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_for_what_it_says_and_admin_for_everything() {
        let some: Scopes = [Scope::Run, Scope::Llm].into_iter().collect();
        for scope in Scope::ALL {
            assert_eq!(some.contain(scope), matches!(scope, Scope::Run | Scope::Llm), "{scope}");
            assert!(Scopes::from(Scope::Admin).contain(scope), "{scope}");
            assert!(!Scopes::default().contain(scope), "{scope}");
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
        assert_eq!(some.words().collect::<Vec<_>>(), ["run", "llm"]);
        assert_eq!("root".parse::<Scope>(), Err(UnknownScope));
        assert_eq!("Admin".parse::<Scope>(), Err(UnknownScope));
    }

    #[test]
    fn what_others_could_read_on_the_way_is_not_private() {
        let tcp = |address: &str, tls| Peer::Tcp { address: address.parse().expect("an address"), tls };
        assert!(Peer::Unix.is_private() && Peer::InProcess.is_private());
        assert!(tcp("127.0.0.1:1", false).is_private() && tcp("[::1]:1", false).is_private());
        assert!(tcp("[::ffff:127.0.0.1]:1", false).is_private());
        assert!(tcp("192.0.2.1:1", true).is_private());
        assert!(!tcp("192.0.2.1:1", false).is_private() && !tcp("10.0.0.1:1", false).is_private());
    }
}
