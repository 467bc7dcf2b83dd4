//! `http://` to a host that is granted over TLS: the client speaks plainly with the proxy, which it trusts anyway, and
//! the proxy speaks TLS with the host. That is how a secret gets into a request of a client that does not know it.

use http::uri::{Authority, PathAndQuery, Scheme as UriScheme};
use http::{HeaderValue, Uri, header, request};
use orch_manifests::Scheme;

use crate::target::RequestTarget;
use crate::{Asked, Reason, Rule, RuleIndex};

/// Turns the request into one over TLS, on port 443, where no rule allows it as it is. Only when rules speak of plain
/// http to that host, and none allows this over TLS either, is it refused as what it was: else the refusal would tell
/// whoever reads it to allow plain http. A request that makes no sense stays as it is, for whoever judges it to say so.
/// Gives back where it wants to go now.
///
/// # Errors
/// As [`RequestTarget::parse`] has them.
pub(crate) fn to_https(
    parts: &mut request::Parts,
    rules: &[Rule],
    index: &RuleIndex,
) -> Result<RequestTarget, Reason> {
    let target = RequestTarget::parse(parts)?;
    if target.scheme != Scheme::Http || target.port != Scheme::Http.default_port() {
        return Ok(target);
    }
    let plain = target.asked(&parts.method);
    let secure = Asked { scheme: Scheme::Https, port: Scheme::Https.default_port(), ..plain };
    let allowed = |asked| index.allows(rules, asked);
    let spoken_of =
        || rules.iter().any(|rule| rule.scheme == Scheme::Http && rule.host.matches(&target.host));
    if allowed(&plain) || (!allowed(&secure) && spoken_of()) {
        return Ok(target);
    }
    let (Ok(authority), Ok(host)) =
        (target.host.as_str().parse::<Authority>(), HeaderValue::from_str(target.host.as_str()))
    else {
        return Ok(target);
    };
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder().scheme(UriScheme::HTTPS).authority(authority).path_and_query(path).build();
    let Ok(uri) = uri else { return Ok(target) };
    parts.uri = uri;
    parts.headers.insert(header::HOST, host);
    Ok(RequestTarget { scheme: Scheme::Https, port: Scheme::Https.default_port(), ..target })
}

#[cfg(test)]
mod tests {
    use http::{Method, Request};

    use super::*;
    use crate::{Methods, RuleOrigin};

    fn rule(scheme: Scheme, port: u16) -> Rule {
        Rule {
            scheme,
            host: "a.example.com".parse().unwrap(),
            port,
            methods: Methods::from(vec![Method::GET]),
            paths: Vec::new(),
            origin: RuleOrigin::Flag,
        }
    }

    fn upgraded(uri: &str, host: &str, rules: &[Rule]) -> (String, String) {
        let request = Request::builder().uri(uri).header("host", host).body(()).unwrap();
        let mut parts = request.into_parts().0;
        let target = to_https(&mut parts, rules, &RuleIndex::new(rules));
        assert_eq!(target, RequestTarget::parse(&parts), "{uri}");
        (parts.uri.to_string(), parts.headers[header::HOST].to_str().unwrap().to_owned())
    }

    #[test]
    fn only_what_is_not_allowed_plainly() {
        let https = [rule(Scheme::Https, 443)];
        let both = [rule(Scheme::Https, 443), rule(Scheme::Http, 80)];
        let elsewhere = [rule(Scheme::Https, 8443)];
        let post = [Rule { methods: Methods::from(vec![Method::POST]), ..rule(Scheme::Http, 80) }];
        for (uri, host, rules, expected) in [
            ("http://a.example.com/x?y", "a.example.com", &https[..], "https://a.example.com/x?y"),
            ("http://A.example.com:80", "a.example.com:80", &https, "https://a.example.com/"),
            ("http://a.example.com/x", "a.example.com", &both, "http://a.example.com/x"),
            ("http://a.example.com/x", "a.example.com", &elsewhere, "https://a.example.com/x"),
            ("http://a.example.com/x", "a.example.com", &post, "http://a.example.com/x"),
            ("http://a.example.com:443/x", "a.example.com:443", &https, "http://a.example.com:443/x"),
            ("http://b.example.com/x", "b.example.com", &https, "https://b.example.com/x"),
            ("http://a.example.com/x", "b.example.com", &https, "http://a.example.com/x"),
            ("https://a.example.com/x", "a.example.com", &https, "https://a.example.com/x"),
        ] {
            let (uri_then, host_then) = upgraded(uri, host, rules);
            assert_eq!(uri_then, expected, "{uri}");
            let expected_host = if uri_then.starts_with("https:") { &uri_then[8..21] } else { host };
            assert_eq!(host_then, expected_host, "{uri}");
        }
    }
}
