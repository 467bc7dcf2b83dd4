//! Proof, before the first run, that secrets go where they belong and come out nowhere.
//!
//! A request with a placeholder goes through [`Proxy::forward`] as a guest's would: policy, swap, HTTP, scrubber, ledger.
//! Only the connection is a pipe in this process, so it needs no network and takes a millisecond.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderName, Request, header, request};
use http_body_util::BodyExt as _;
use orch_manifests::{Host, HostName, RunId, Scheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{Instant, timeout};

use crate::pool::{Connection, Key};
use crate::{
    AuthorizeError, Binding, Credential, DnsError, EgressError, Grant, Guard, Limits, LiveGrant, Maker,
    Methods, Place, Placeholder, Proxy, ProxyConfig, Resolve, Rule, RuleOrigin, SCRUBBED, Scrubber, Target,
    Use, body,
};

/// Never a name on any network (RFC 6761, section 6.4).
const HOST: &str = "self-test.invalid";
const URL: &str = "https://self-test.invalid/v1/self-test";
/// Where no rule leads.
const ELSEWHERE: &str = "https://elsewhere.invalid/v1/self-test";
const VALUE: &str = "orch-self-test/0123456789+\"abcdef";
/// The header that the value is bound to.
const BOUND: HeaderName = header::AUTHORIZATION;
/// A header that it is not bound to.
const UNBOUND: &str = "x-history";
/// Far more than it takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the self-test found. The proxy is not to be used.
#[derive(Debug, thiserror::Error)]
#[error("the egress proxy's self-test failed: {0}")]
pub struct SelfTestError(&'static str);

/// Proves that a placeholder turns into its secret in its place alone, that the secret is taken out of what comes back,
/// and that nothing goes to a host that is not allowed. Wants a tokio runtime; touches no network and no key.
///
/// # Errors
/// What did not hold.
pub async fn self_test() -> Result<(), SelfTestError> {
    let scrubber = Scrubber::new(VALUE.as_bytes()).map(Arc::new);
    let credential = Known { value: VALUE, scrubber };
    timeout(PATIENCE, tested(Arc::new(credential))).await.unwrap_or(Err(SelfTestError("it took too long")))
}

/// A credential whose value is no secret.
struct Known {
    value: &'static str,
    scrubber: Option<Arc<Scrubber>>,
}

impl Credential for Known {
    fn id(&self) -> &str {
        "SELF_TEST"
    }

    fn source(&self) -> &str {
        "simulated"
    }

    fn authorize(
        &self,
        parts: &mut request::Parts,
        _: Option<&[u8; 32]>,
        how: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        let Use::Swap { place, placeholder, .. } = how else { return Err(AuthorizeError::NotThere) };
        place.swap(parts, placeholder, self.value.as_bytes())?;
        Ok(self.scrubber())
    }

    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        self.scrubber.clone()
    }
}

/// Knows no name: only the pipe leads anywhere.
struct NoNames;

impl Resolve for NoNames {
    fn resolve<'a>(&'a self, _: &'a HostName) -> BoxFuture<'a, Result<Vec<IpAddr>, DnsError>> {
        Box::pin(std::future::ready(Err(DnsError::NotFound)))
    }
}

async fn tested(credential: Arc<dyn Credential>) -> Result<(), SelfTestError> {
    let placeholder = Placeholder::random();
    let grant = grant(credential, placeholder.clone())?;
    let none = Guard::new(Box::new(Vec::<ipnet::IpNet>::new()));
    let proxy = Proxy::with_guard(ProxyConfig::default(), Arc::new(NoNames), none)
        .map_err(|_| SelfTestError("the proxy cannot be made"))?;

    // What is allowed nowhere is refused before the pipe could show it.
    let refused = proxy.forward(&grant, asking(ELSEWHERE, &placeholder)?).await;
    if !matches!(&refused, Err(EgressError::Refused(reason)) if reason.code == "host_not_allowed") {
        return Err(SelfTestError("a host that no rule names was not refused"));
    }

    let upstream = piped(&proxy, &grant).await?;
    let asked = asking(URL, &placeholder)?;
    let (answered, seen) = tokio::join!(answer_of(&proxy, &grant, asked), echoed(upstream));
    seen?.check(&placeholder)?;
    answered?.check()?;

    let mut parts = asking(URL, &placeholder)?.into_parts().0;
    for breaking in ["a value\r\nof two lines", "a value\nof two lines", "a value\0 with NUL"] {
        let swapped = Place::Header(BOUND).swap(&mut parts, &placeholder, breaking.as_bytes());
        if swapped != Err(AuthorizeError::BadValue) {
            return Err(SelfTestError("a value with a line break or NUL was put into a header"));
        }
    }
    match &grant.ledger().decisions()[..] {
        [_, decision] if decision.injected == ["SELF_TEST"] && decision.inert_placeholders == 1 => Ok(()),
        _ => Err(SelfTestError("the ledger does not say what was put in")),
    }
}

fn grant(credential: Arc<dyn Credential>, placeholder: Placeholder) -> Result<Arc<LiveGrant>, SelfTestError> {
    let host: HostName = HOST.parse().map_err(|_| SelfTestError("its host is no host"))?;
    let host = orch_manifests::HostPattern::Exact(host);
    let (scheme, port, methods, paths) = (Scheme::Https, 443, Methods::Any, Vec::new());
    let target = Target { scheme, host: host.clone(), port, methods: methods.clone(), paths: Vec::new() };
    Ok(LiveGrant::without_token(Grant {
        run: RunId::random(),
        workspace: "orch self-test".to_owned(),
        rules: vec![Rule { scheme, host, port, methods, paths, origin: RuleOrigin::Config }],
        trials: Vec::new(),
        bindings: vec![Binding {
            placeholder,
            credential,
            targets: vec![target],
            place: Place::Header(BOUND),
        }],
        limits: Limits::of(2, 1),
        expires: Instant::now() + PATIENCE,
    }))
}

fn asking(url: &str, placeholder: &Placeholder) -> Result<Request<crate::Body>, SelfTestError> {
    Request::get(url)
        .header(BOUND, format!("Bearer {placeholder}"))
        .header(UNBOUND, placeholder.as_str())
        .header(header::ACCEPT_ENCODING, "gzip")
        .body(body::empty())
        .map_err(|_| SelfTestError("its request is no request"))
}

/// Puts a connection that is a pipe where the proxy looks for one. Gives back the upstream's end.
async fn piped(proxy: &Proxy, grant: &LiveGrant) -> Result<DuplexStream, SelfTestError> {
    let (ours, theirs) = tokio::io::duplex(16 << 10);
    let host: HostName = HOST.parse().map_err(|_| SelfTestError("its host is no host"))?;
    let setup = proxy.setup();
    let route = setup.route(Scheme::Https, Host::Name(host), 443, false);
    let key = Key::new(grant.standing().tenancy, Maker::Guest, &route);
    let connection = setup.pool.adopt_http1(&key, ours, IpAddr::V4(Ipv4Addr::LOCALHOST)).await;
    match connection {
        Ok(Connection::Http1(connection, _)) => setup.pool.give_back(&key, connection),
        _ => return Err(SelfTestError("no connection can be made")),
    }
    Ok(theirs)
}

/// The head of a request as the upstream saw it.
struct Seen(String);

impl Seen {
    fn check(&self, placeholder: &Placeholder) -> Result<(), SelfTestError> {
        let fields = |name: &str| {
            let field = move |line: &'_ str| -> Option<String> {
                let (field, value) = line.split_once(": ")?;
                field.eq_ignore_ascii_case(name).then(|| value.to_owned())
            };
            self.0.lines().filter_map(field).collect::<Vec<_>>()
        };
        if fields(BOUND.as_str()) != [format!("Bearer {VALUE}")] {
            return Err(SelfTestError("a placeholder in its place did not turn into its secret"));
        }
        if fields(UNBOUND) != [placeholder.as_str()] || self.0.matches(VALUE).count() != 1 {
            return Err(SelfTestError("a placeholder outside its place did not travel as it is"));
        }
        if fields("accept-encoding") != ["identity"] {
            return Err(SelfTestError("an answer that has to be searched may come compressed"));
        }
        Ok(())
    }
}

/// Plays the upstream: says back what it got in head, body and trailers, in several spellings and cut in two.
async fn echoed(mut upstream: DuplexStream) -> Result<Seen, SelfTestError> {
    let broken = |_| SelfTestError("the pipe broke");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(upstream.read_u8().await.map_err(broken)?);
    }
    let base64 = data_encoding::BASE64.encode(format!("user:{VALUE}").as_bytes());
    let hex = data_encoding::HEXUPPER.encode(VALUE.as_bytes());
    let (first, second) = VALUE.split_at(VALUE.len() / 2);
    let mut answer = format!("HTTP/1.1 200 OK\r\nx-echo: {VALUE}\r\ntransfer-encoding: chunked\r\n\r\n");
    for chunk in [&format!("{hex} {first}"), second, " ", &base64] {
        answer.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    }
    answer.push_str(&format!("0\r\nx-end: {VALUE}\r\n\r\n"));
    upstream.write_all(answer.as_bytes()).await.map_err(broken)?;
    String::from_utf8(head).map(Seen).map_err(|_| SelfTestError("the request is not text"))
}

/// An answer as the guest would read it.
struct Answered {
    echo: Vec<u8>,
    body: Vec<u8>,
    end: Vec<u8>,
}

impl Answered {
    fn check(&self) -> Result<(), SelfTestError> {
        let marker = SCRUBBED.as_bytes();
        if self.echo != marker || self.end != marker {
            return Err(SelfTestError("a secret stayed in the head or the trailers of an answer"));
        }
        let base64_left = self.body.strip_prefix(format!("{SCRUBBED} {SCRUBBED} ").as_bytes());
        // The digits before the secret's own, and the one that it shares with the end.
        match base64_left {
            Some(rest)
                if rest.windows(marker.len()).any(|part| part == marker)
                    && rest.len() < marker.len() + 12 =>
            {
                Ok(())
            }
            _ => Err(SelfTestError("a secret stayed in the body of an answer")),
        }
    }
}

async fn answer_of(
    proxy: &Proxy,
    grant: &Arc<LiveGrant>,
    request: Request<crate::Body>,
) -> Result<Answered, SelfTestError> {
    let failed = SelfTestError("an allowed request was not answered");
    let Ok(response) = proxy.forward(grant, request).await else { return Err(failed) };
    let field =
        |fields: &http::HeaderMap, name| fields.get(name).map_or_else(Vec::new, |v| v.as_bytes().to_vec());
    let echo = field(response.headers(), "x-echo");
    let Ok(whole) = response.into_body().collect().await else { return Err(failed) };
    let end = whole.trailers().map_or_else(Vec::new, |trailers| field(trailers, "x-end"));
    Ok(Answered { echo, body: whole.to_bytes().to_vec(), end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_holds_and_takes_no_time() {
        self_test().await.unwrap();
        let begun = std::time::Instant::now();
        self_test().await.unwrap();
        // Without optimisation, beside other tests.
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    }

    async fn found(value: &'static str, searched: Option<&str>) -> String {
        let scrubber = searched.and_then(|value| Scrubber::new(value.as_bytes())).map(Arc::new);
        tested(Arc::new(Known { value, scrubber })).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn what_does_not_hold_is_found() {
        let error = found("another value than it should be", Some(VALUE)).await;
        assert!(error.ends_with("a placeholder in its place did not turn into its secret"), "{error}");
        for searched in [None, Some("another value than it should be")] {
            let error = found(VALUE, searched).await;
            assert!(error.ends_with("a secret stayed in the head or the trailers of an answer"), "{error}");
            assert!(!error.contains(VALUE));
        }
    }

    #[test]
    fn each_part_of_an_answer_is_looked_at() {
        let good = || Answered {
            echo: SCRUBBED.into(),
            body: format!("{SCRUBBED} {SCRUBBED} dXNlcjp{SCRUBBED}I=").into(),
            end: SCRUBBED.into(),
        };
        good().check().unwrap();
        for change in [
            (|answered: &mut Answered| answered.echo.clear()) as fn(&mut Answered),
            |answered| answered.end.clear(),
            |answered| answered.body.clear(),
            |answered| answered.body = format!("{SCRUBBED} {VALUE} dXNlcjp{SCRUBBED}").into(),
            |answered| answered.body.extend_from_slice(VALUE.as_bytes()),
        ] {
            let mut bad = good();
            change(&mut bad);
            assert!(bad.check().is_err());
        }
    }
}
