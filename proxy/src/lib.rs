//! The egress proxy: policy, address guard, DNS, TLS, credential injection.
//!
//! Everything that leaves a sandbox passes [`Proxy::forward`] (a guest's own request) or [`Proxy::send`] (a request
//! that the gateway built for a provider). Both work for a [`LiveGrant`], which says what its run may do, counts what
//! it did, and ends it. The order of things is fixed: parse, [`decide`], clean, swap placeholders for secrets where
//! their owners said ([`Credential`]), resolve once, judge every address ([`Guard`]), dial a judged one, and stream the
//! answer back with the secrets taken out again ([`Scrubber`]).
//!
//! Read `policy.rs`, then `forward.rs`, `exchange.rs` and `attempt.rs`; `pool.rs` says who shares connections, `place.rs`
//! where a secret can stand, and `under_way.rs` how an exchange is ended from outside.

mod address;
mod alarm;
mod attempt;
mod body;
mod cleaning;
mod config;
mod connect;
mod credential;
mod decode;
mod dial;
mod download;
mod drain;
mod error;
mod exchange;
mod forward;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(all(test, not(fuzzing)))]
#[allow(unreachable_pub, clippy::unwrap_used, reason = "public to fuzz targets, and no part of a release")]
mod fuzzing;
mod grant;
mod http1;
mod http2;
mod hygiene;
mod incoming;
mod lanes;
mod ledger;
mod limits;
mod listener;
mod place;
mod placeholders;
mod policy;
mod pool;
mod proxy;
mod received;
mod record;
mod refusal;
mod resolve;
mod scrub;
mod self_test;
mod send;
mod sigv4;
mod target;
mod tenancy;
mod tls;
mod turns;
mod under_way;
mod upload;

pub use address::{
    BadAddress, CheckedAddr, Class, Guard, Interfaces, ListenerEntry, OwnListeners, Reach, SystemInterfaces,
    judge,
};
pub use alarm::Alarm;
pub use body::{Body, BodyError, empty, full};
pub use config::{Caps, PoolLimits, ProxyConfig, Timeouts};
pub use credential::{AuthorizeError, Credential, Hold, Placeholder, Use};
pub use dial::{BadLogin, ProxyLogin, Resolution, TunnelError, UpstreamProxy};
pub use error::{EgressError, Ended, TimeoutKind};
pub use grant::{Binding, CapabilityToken, Grant, Grants, LiveGrant};
pub use lanes::{Lanes, Seat};
pub use ledger::{CallId, Decision, Ledger, Maker, OnDecision, Outcome, Totals, Trial};
pub use limits::{LimitHit, Limits, Pace, Rate, Shares};
pub use listener::{
    BadClient, Client, ClientName, ClientToken, HelloError, Listener, ListenerLimits, TunnelEnd, TunnelEnded,
    Witness,
};
pub use place::{Place, swap_in_header, swap_in_query};
pub use policy::{
    Asked, Methods, Miss, Reason, Rule, RuleIndex, RuleMissing, RuleOrigin, Target, Verdict, decide,
    decide_connect, nearest,
};
pub use proxy::Proxy;
pub use refusal::Refusal;
pub use resolve::{DnsError, Resolve, SystemResolver};
pub use scrub::{SCRUBBED, ScrubStream, Scrubber, Sought};
pub use self_test::{SelfTestError, self_test};
pub use send::ProviderCall;
pub use sigv4::Signer;
pub use target::RequestTarget;
pub use tls::ProxyError;
