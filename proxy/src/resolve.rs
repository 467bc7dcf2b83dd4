//! Names to addresses, once per connection. What comes out is not trusted: the guard judges every address.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};
use orch_manifests::HostName;

/// Addresses that one name may have. Real services stay far below; a giant answer is an attack or a mistake.
const MAX_ADDRESSES: usize = 32;

/// Aliases on the way from a name to its addresses.
const MAX_ALIASES: usize = 8;

/// Time for one attempt at one name server.
const ATTEMPT: Duration = Duration::from_secs(3);

/// Turns a name into all its addresses, of both families.
pub trait Resolve: Send + Sync {
    /// Looks up A and AAAA of exactly this name: it is absolute, no search domains apply.
    ///
    /// The addresses may be anything; the caller judges them. The proxy bounds the time.
    fn resolve<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>>;
}

/// Why a name has no usable addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DnsError {
    /// The name does not exist, or has no address.
    #[error("no such name, or it has no address")]
    NotFound,
    /// More answers than any real service has.
    #[error("{0} addresses, more than the {MAX_ADDRESSES} that are accepted")]
    TooMany(usize),
    /// A longer chain of aliases than any real service has.
    #[error("more than {MAX_ALIASES} aliases")]
    TooDeep,
    /// No name server answered in time.
    #[error("no answer in time")]
    Timeout,
    /// The resolver could not be set up, or the name servers failed.
    #[error("{0}")]
    Failed(String),
}

/// The machine's own resolver configuration, by hickory: its name servers and hosts file, not its search domains.
pub struct SystemResolver {
    resolver: TokioResolver,
}

impl SystemResolver {
    /// Reads the system's configuration.
    ///
    /// # Errors
    /// [`DnsError::Failed`] when there is none, or it cannot be read.
    pub fn new() -> Result<Self, DnsError> {
        Self::build(TokioResolver::builder_tokio().map_err(failed)?)
    }

    /// Asks these name servers, over UDP and for long answers over TCP, instead of the machine's own.
    ///
    /// # Errors
    /// [`DnsError::Failed`] when there are none.
    pub fn asking(servers: &[SocketAddr]) -> Result<Self, DnsError> {
        if servers.is_empty() {
            return Err(DnsError::Failed("no name servers are set".to_owned()));
        }
        let server = |address: &SocketAddr| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            server
        };
        let config = ResolverConfig::from_name_servers(servers.iter().map(server).collect());
        Self::build(TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()))
    }

    fn build(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<Self, DnsError> {
        let options = builder.options_mut();
        options.timeout = ATTEMPT;
        options.attempts = options.attempts.clamp(1, 2);
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // The aliases are counted below.
        options.preserve_intermediates = true;
        Ok(Self { resolver: builder.build().map_err(failed)? })
    }

    async fn family(&self, name: &Name, family: RecordType) -> Result<Vec<IpAddr>, DnsError> {
        let lookup = match self.resolver.lookup(name.clone(), family).await {
            Ok(lookup) => lookup,
            Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
            Err(NetError::Timeout) => return Err(DnsError::Timeout),
            Err(error) => return Err(failed(error)),
        };
        let mut addresses = Vec::new();
        let mut aliases = 0;
        for record in lookup.answers() {
            match &record.data {
                RData::A(a) => addresses.push(IpAddr::V4(a.0)),
                RData::AAAA(aaaa) => addresses.push(IpAddr::V6(aaaa.0)),
                RData::CNAME(_) => aliases += 1,
                _ => {}
            }
        }
        if aliases > MAX_ALIASES {
            return Err(DnsError::TooDeep);
        }
        Ok(addresses)
    }
}

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
        Box::pin(async move {
            let mut absolute = Name::from_ascii(name.as_str()).map_err(failed)?;
            absolute.set_fqdn(true);
            let (v4, v6) = futures_util::future::join(
                self.family(&absolute, RecordType::A),
                self.family(&absolute, RecordType::AAAA),
            )
            .await;
            merge(v4, v6)
        })
    }
}

#[expect(clippy::needless_pass_by_value, reason = "an argument of map_err")]
fn failed(error: impl ToString) -> DnsError {
    DnsError::Failed(error.to_string())
}

/// One family's failure is survivable when the other has addresses: every address that could be dialled is known.
fn merge(
    v4: Result<Vec<IpAddr>, DnsError>,
    v6: Result<Vec<IpAddr>, DnsError>,
) -> Result<Vec<IpAddr>, DnsError> {
    let mut addresses = match (v4, v6) {
        (Err(DnsError::TooDeep), _) | (_, Err(DnsError::TooDeep)) => return Err(DnsError::TooDeep),
        (Ok(v4), Ok(v6)) => [v4, v6].concat(),
        (Ok(some), Err(error)) | (Err(error), Ok(some)) => {
            if some.is_empty() {
                return Err(error);
            }
            some
        }
        (Err(error), Err(_)) => return Err(error),
    };
    addresses.sort_unstable();
    addresses.dedup();
    accept(addresses)
}

/// The bounds that hold for whichever resolver answered.
pub(crate) fn accept(addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, DnsError> {
    match addresses.len() {
        0 => Err(DnsError::NotFound),
        n if n > MAX_ADDRESSES => Err(DnsError::TooMany(n)),
        _ => Ok(addresses),
    }
}

#[cfg(test)]
mod tests;
