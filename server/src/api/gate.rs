//! Who asks, how often, and whether they may.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderName};
use time::OffsetDateTime;

use super::error::RETRY_AFTER_DETAIL;
use super::reply;
use super::table::Access;
use crate::caller::{Caller, Client, DEFAULT_WORKSPACE, Peer, Scope, Tokens};
use crate::failure::{Failure, Kind};
use crate::http::PeerKey;
use crate::store::Store;

/// Where a token may stand, in the order in which they are looked at: our own clients', Anthropic's, Google's.
pub(super) const TOKEN_HEADERS: [HeaderName; 3] =
    [AUTHORIZATION, HeaderName::from_static("x-api-key"), HeaderName::from_static("x-goog-api-key")];

/// Requests of one peer without a good token, each second and at once. Nobody needs more to ask whether a server is
/// healthy, or to find out that a token is wrong.
const STRANGER: (u32, u32) = (10, 50);
/// Requests with one token, each second and at once: more than most machines answer, less than it takes to keep a large
/// one from answering others.
const HOLDER: (u32, u32) = (50_000, 100_000);
/// Keys that a limiter remembers before it forgets those that it need not.
const REMEMBERED: usize = 16 << 10;

/// Finds out who asks.
pub(super) struct Gate {
    tokens: Tokens,
    strangers: Rate<PeerKey>,
    holders: Rate<Arc<str>>,
}

impl Gate {
    pub(super) fn new(store: Store) -> Self {
        Self { tokens: Tokens::new(store), strangers: Rate::new(STRANGER), holders: Rate::new(HOLDER) }
    }

    /// The tokens that are let in.
    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Who asks: the caller whom the transport knows, or the holder of the request's token. Nobody where `open`.
    ///
    /// # Errors
    /// When there is no token, or it is none of ours, or whoever sends it asks too often.
    pub(super) async fn admit(
        &self,
        caller: Option<Caller>,
        peer: Peer,
        headers: &HeaderMap,
        open: bool,
    ) -> Result<Option<Caller>, Failure> {
        if caller.is_some() {
            return Ok(caller);
        }
        let token = if open { None } else { token(headers) };
        if let Some(text) = token
            && let Some(holder) = self.tokens.holder(text).await?
        {
            self.holders.count(&holder.id)?;
            return Ok(Some(holder));
        }
        if open {
            // A proxy asks this of itself, and takes a server that does not answer out of service. What its clients do
            // must not bring that about.
            if !matches!(peer, Peer::Proxied { client: Client::Unsaid(_), .. }) {
                self.count_stranger(peer)?;
            }
            return Ok(None);
        }
        self.count_stranger(peer)?;
        let newcomer = match token {
            Some(text) => self.tokens.newcomer(text).await?,
            None => None,
        };
        newcomer.map(Some).ok_or_else(|| not_authenticated(token.is_some()))
    }

    /// Counts a request that nobody known has sent.
    ///
    /// # Errors
    /// When there were too many from this peer.
    pub(super) fn count_stranger(&self, peer: Peer) -> Result<(), Failure> {
        PeerKey::of_peer(peer).map_or(Ok(()), |key| self.strangers.count(&key))
    }
}

/// Whether keys may come from there; `what` is said of them where they may not.
///
/// # Errors
/// `keys_need_tls` when others could have read them on the way.
pub(super) fn check_private(peer: Peer, what: &str) -> Result<(), Failure> {
    if peer.is_private() {
        return Ok(());
    }
    let failure = Failure::new(
        Kind::Server,
        "keys_need_tls",
        format!("{what} are not taken over a connection that others can read"),
    );
    let failure = match peer {
        Peer::Proxied { client, .. } => {
            let failure = failure.hint(
                "the proxy says `X-Forwarded-Proto: https` of what it took over TLS, and reaches this server over TLS or loopback",
            );
            match client {
                Client::Unsaid(_) => {
                    failure.hint("a client on the server's machine that is no proxy uses its unix socket")
                }
                Client::At(_) | Client::Unclear(_) => failure,
            }
        }
        _ => failure.hint("serve with --tls-cert and --tls-key"),
    };
    Err(failure.hint("what was sent was readable on the way: replace it"))
}

/// Whether they may.
///
/// # Errors
/// `forbidden` when their token was not made for this.
pub(super) fn permit(caller: &Caller, access: Access) -> Result<(), Failure> {
    let (allowed, needs) = match access {
        Access::Open | Access::Known => return Ok(()),
        Access::Any(scopes) => (
            scopes.iter().any(|scope| caller.may(*scope)),
            scopes.iter().map(|scope| format!("`{scope}`")).collect::<Vec<_>>().join(" or "),
        ),
        Access::Operator => (
            caller.may(Scope::Admin) && *caller.workspace == *DEFAULT_WORKSPACE,
            format!("`admin` of the workspace {DEFAULT_WORKSPACE}"),
        ),
    };
    if allowed { Ok(()) } else { Err(forbidden(caller, &needs)) }
}

/// Whether they may do something beside what the endpoint is for.
///
/// # Errors
/// `forbidden` when their token was not made for this.
pub(super) fn permit_also(caller: &Caller, scope: Scope, what: &str) -> Result<(), Failure> {
    if caller.may(scope) { Ok(()) } else { Err(forbidden(caller, &format!("`{scope}` for {what}"))) }
}

fn forbidden(caller: &Caller, needs: &str) -> Failure {
    let has: Vec<&str> = caller.scopes.words().collect();
    Failure::new(
        Kind::Server,
        "forbidden",
        format!("this takes the scope {needs}; the token {} has {}", caller.name, has.join(", ")),
    )
    .hint("orch tokens create NAME --scope SCOPE")
}

fn not_authenticated(sent_one: bool) -> Failure {
    let what = if sent_one { "the token is unknown, revoked or expired" } else { "there is no token" };
    let failure = Failure::new(Kind::Server, "not_authenticated", what)
        .hint("send `Authorization: Bearer orch_…`")
        .hint("orch login");
    match sent_one {
        // A token ends by this clock, whatever the one of its holder says.
        true => failure.detail("server_time", reply::time(OffsetDateTime::now_utc())),
        false => failure,
    }
}

/// The text of the request's token. Credentials of another scheme are for somebody else, a proxy on the way that has asked
/// for them.
fn token(headers: &HeaderMap) -> Option<&[u8]> {
    let [bearer, plain @ ..] = &TOKEN_HEADERS;
    let of_bearer = headers.get_all(bearer).iter().find_map(|value| {
        // A scheme is read whatever its case (RFC 9110, section 11.1).
        let (scheme, text) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| text.trim_ascii())
    });
    of_bearer.or_else(|| plain.iter().find_map(|name| headers.get(name)).map(|value| value.as_bytes()))
}

/// So many requests of each key.
struct Rate<K: Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    clock: DefaultClock,
}

impl<K: Hash + Eq + Clone> Rate<K> {
    fn new((each_second, at_once): (u32, u32)) -> Self {
        let positive = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(positive(each_second)).allow_burst(positive(at_once));
        Self { limiter: RateLimiter::keyed(quota), clock: DefaultClock::default() }
    }

    fn count(&self, key: &K) -> Result<(), Failure> {
        if self.limiter.len() > REMEMBERED {
            // Whoever has all of their requests left again is as good as new.
            self.limiter.retain_recent();
        }
        self.limiter.check_key(key).map_err(|not_yet| {
            let wait = not_yet.wait_time_from(self.clock.now());
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Failure::new(Kind::Server, "rate_limited", "too many requests")
                .hint(format!("try again in {seconds} s"))
                .detail(RETRY_AFTER_DETAIL, seconds)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pairs: &[(&'static str, &'static str)]) -> Option<Vec<u8>> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a value"));
        }
        token(&headers).map(<[u8]>::to_vec)
    }

    #[test]
    fn a_token_stands_where_clients_put_it() {
        assert_eq!(text(&[("authorization", "Bearer orch_x")]), Some(b"orch_x".to_vec()));
        assert_eq!(text(&[("authorization", "bearer   orch_x ")]), Some(b"orch_x".to_vec()));
        assert_eq!(text(&[("x-api-key", "orch_y")]), Some(b"orch_y".to_vec()));
        assert_eq!(text(&[("x-goog-api-key", "orch_z")]), Some(b"orch_z".to_vec()));
        assert_eq!(
            text(&[("x-api-key", "orch_y"), ("authorization", "Bearer orch_x")]),
            Some(b"orch_x".to_vec())
        );
        for other in ["Basic b3JjaA==", "Bearer", "orch_x", "", "é"] {
            assert_eq!(text(&[("authorization", other)]), None, "{other}");
            for name in ["x-api-key", "x-goog-api-key"] {
                let beside = text(&[("authorization", other), (name, "orch_y")]);
                assert_eq!(beside, Some(b"orch_y".to_vec()), "{other} beside {name}");
            }
        }
        assert_eq!(
            text(&[("authorization", "Basic b3JjaA=="), ("authorization", "Bearer orch_x")]),
            Some(b"orch_x".to_vec())
        );
        assert_eq!(text(&[]), None);
    }

    #[test]
    fn who_asks_too_often_is_told_when_to_come_again() {
        let rate = Rate::new((1, 3));
        let refused =
            (0..10).filter_map(|_| rate.count(&"a").err()).next().expect("after three at most a few more");
        assert_eq!(refused.code(), "rate_limited");
        assert_eq!(refused.details()[RETRY_AFTER_DETAIL], 1);
        rate.count(&"b").expect("others are not held up");
    }

    #[test]
    fn a_scope_opens_what_it_is_for() {
        let caller = |scopes: &[Scope], workspace: &str| Caller {
            scopes: scopes.iter().copied().collect(),
            workspace: workspace.into(),
            ..Caller::owner()
        };
        let any = Access::Any(&[Scope::Run, Scope::Publish]);
        for (scopes, workspace, access, fine) in [
            (&[Scope::Run][..], "x", any, true),
            (&[Scope::Publish], "x", any, true),
            (&[Scope::Llm], "x", any, false),
            (&[], "x", any, false),
            (&[], "x", Access::Known, true),
            (&[Scope::Admin], "x", any, true),
            (&[Scope::Admin], "x", Access::Operator, false),
            (&[Scope::Run], "default", Access::Operator, false),
            (&[Scope::Admin], "default", Access::Operator, true),
        ] {
            let done = permit(&caller(scopes, workspace), access);
            assert_eq!(done.is_ok(), fine, "{scopes:?} {workspace} {access:?}");
            if let Err(failure) = done {
                assert_eq!(failure.code(), "forbidden");
            }
        }
    }
}
