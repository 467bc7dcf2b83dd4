//! Requests that the gateway builds.

use std::sync::Arc;

use http::request;
use orch_manifests::Endpoint;
use orch_proxy::{
    AuthorizeError, Credential, Maker, ProviderCall, Proxy, ProxyConfig, SCRUBBED, Scrubber, Sought, Use,
    full,
};

use crate::support::*;

fn held() -> Arc<dyn Credential> {
    Arc::new(Held(SECRET))
}

#[tokio::test]
async fn a_provider_call_carries_the_credential_and_comes_back_scrubbed() {
    let (upstream, proxy) = scripted(
        |_, mut wire| async move {
            wire.request().await;
            let body = format!("bad key {SECRET}");
            wire.send(format!("HTTP/1.1 401 Unauthorized\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
                .await;
        },
        |_| {},
    )
    .await;
    let endpoint: Endpoint = "https://api.example.com/v1".parse().unwrap();
    let grant = live(grant(Vec::new()));
    let request = with(request("POST", "/v1/chat/completions?beta=1", full("{}")), "accept-encoding", "gzip");
    let call = ProviderCall {
        endpoint: &endpoint,
        pinned: false,
        request: with(request, "range", "bytes=5-"),
        credential: Some(&held()),
    };
    let response = proxy.send(&grant, call).await.unwrap();
    assert_eq!(response.status(), 401);
    assert!(!response.headers().contains_key("content-length"));
    assert_eq!(text(response).await, format!("bad key {SCRUBBED}"));
    let raw = &upstream.requests()[0];
    assert_eq!(raw.line(), "POST /v1/chat/completions?beta=1 HTTP/1.1");
    assert_eq!(raw.fields("x-api-key"), [SECRET]);
    assert_eq!(raw.fields("host"), [HOST]);
    assert_eq!(raw.fields("accept-encoding"), ["identity"]);
    assert!(raw.fields("range").is_empty());
    let decision = &grant.ledger().decisions()[0];
    assert_eq!((decision.maker, &decision.injected[..]), (Maker::Gateway, &["TEST_KEY".to_owned()][..]));
}

#[tokio::test]
async fn only_the_gateway_is_told_what_an_answer_was_searched_for() {
    let ca = Ca::new();
    let upstream = Upstream::answering(Some(ca.server(&[HOST])), OK).await;
    let proxy = proxy_with(&ca, &upstream, |_| {});
    let endpoint: Endpoint = "https://api.example.com/v1".parse().unwrap();
    let binding = bind_in(orch_proxy::Place::Header("x-api-key".parse().unwrap()), held());
    let mut grant = grant(vec![rule("https://api.example.com")]);
    let own = with(get("https://api.example.com/x"), "x-api-key", binding.placeholder.as_str());
    grant.bindings = vec![binding];
    let grant = live(grant);
    let call = |credential| ProviderCall {
        endpoint: &endpoint,
        pinned: false,
        request: get("/v1/models"),
        credential,
    };
    let held = held();
    // Its host has got nothing so far.
    let bare = proxy.send(&grant, call(None)).await.unwrap();
    assert!(bare.extensions().get::<Sought>().is_none());
    let answer = proxy.send(&grant, call(Some(&held))).await.unwrap();
    let sought = answer.extensions().get::<Sought>().expect("a secret was put in");
    assert!(!sought.lets_through(SECRET.as_bytes()) && sought.lets_through(b"anything else!"));
    // Now it has, whoever asks.
    let later = proxy.send(&grant, call(None)).await.unwrap();
    assert!(later.extensions().get::<Sought>().is_some());
    let guests = proxy.forward(&grant, own).await.unwrap();
    assert!(guests.extensions().get::<Sought>().is_none());
}

#[tokio::test]
async fn pinned_addresses_are_reached_with_their_own_certificate() {
    let ca = Ca::new();
    let upstream = Upstream::answering(Some(ca.server(&["127.0.0.1"])), OK).await;
    let config = ProxyConfig { extra_roots: vec![ca.root()], ..ProxyConfig::default() };
    let proxy = Proxy::new(config, Arc::new(Told::default())).unwrap();
    let endpoint: Endpoint = format!("https://{}/v1", upstream.addr).parse().unwrap();
    let grant = live(grant(Vec::new()));
    let call =
        |pinned| ProviderCall { endpoint: &endpoint, pinned, request: get("/v1/models"), credential: None };
    assert_eq!(text(proxy.send(&grant, call(true)).await.unwrap()).await, "ok");
    assert_eq!(upstream.requests()[0].fields("host"), [upstream.addr.to_string()]);
    assert_eq!(code(proxy.send(&grant, call(false)).await), "ip_literal_refused");
}

#[tokio::test]
async fn pins_never_lead_to_metadata_or_link_local() {
    let told = Told::of("model.example.com", &[&["169.254.169.254"]]);
    let proxy = Proxy::new(ProxyConfig::default(), told).unwrap();
    let grant = live(grant(Vec::new()));
    for base in [
        "http://169.254.169.254",
        "http://100.100.100.200",
        "http://168.63.129.16",
        "http://[fd00:ec2::254]",
        "http://[fe80::1]",
        "http://0.0.0.0:80",
        "http://[::]:80",
        "http://model.example.com",
    ] {
        let endpoint: Endpoint = base.parse().unwrap();
        let call = ProviderCall { endpoint: &endpoint, pinned: true, request: get("/"), credential: None };
        assert_eq!(code(proxy.send(&grant, call).await), "address_refused", "{base}");
    }
    for base in ["http://localhost:11434", "http://ollama:11434", "http://model.internal"] {
        let endpoint: Endpoint = base.parse().unwrap();
        let call = ProviderCall { endpoint: &endpoint, pinned: false, request: get("/"), credential: None };
        assert_eq!(code(proxy.send(&grant, call).await), "name_refused", "{base}");
    }
}

/// Signs the body, as AWS wants it.
struct Signer;

impl Credential for Signer {
    fn id(&self) -> &str {
        "SIGNER"
    }

    fn source(&self) -> &str {
        "flag"
    }

    fn needs_body_digest(&self) -> bool {
        true
    }

    fn authorize(
        &self,
        parts: &mut request::Parts,
        body: Option<&[u8; 32]>,
        _: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        let sum = body.ok_or(AuthorizeError::Unavailable("no digest".to_owned()))?;
        parts.headers.insert("x-sum", data_encoding::HEXLOWER.encode(sum).try_into().unwrap());
        Ok(None)
    }

    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        None
    }
}

#[tokio::test]
async fn a_signing_credential_gets_the_bodys_digest() {
    let ca = Ca::new();
    let upstream = Upstream::answering(Some(ca.server(&[HOST])), OK).await;
    let proxy = proxy_with(&ca, &upstream, |config| config.caps.signed_body = 8);
    let endpoint: Endpoint = "https://api.example.com".parse().unwrap();
    let signer: Arc<dyn Credential> = Arc::new(Signer);
    let grant = live(grant(Vec::new()));
    let call = |body: &'static str| ProviderCall {
        endpoint: &endpoint,
        pinned: false,
        request: request("POST", "/", full(body)),
        credential: Some(&signer),
    };
    assert_eq!(text(proxy.send(&grant, call("abc")).await.unwrap()).await, "ok");
    let raw = &upstream.requests()[0];
    let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!((raw.fields("x-sum"), &raw.body[..]), (vec![sum], &b"abc"[..]));
    assert_eq!(code(proxy.send(&grant, call("too much to sign")).await), "request_body_failed");
}

#[tokio::test]
async fn a_workspace_shares_no_connection_with_another_nor_guests_with_the_gateway() {
    let (upstream, proxy) = answering(OK).await;
    let endpoint: Endpoint = "https://api.example.com".parse().unwrap();
    let grant_in = |workspace: &str| {
        let mut grant = grant(vec![rule("https://api.example.com")]);
        workspace.clone_into(&mut grant.workspace);
        live(grant)
    };
    let (a, b) = (grant_in("a"), grant_in("b"));
    let call = || ProviderCall { endpoint: &endpoint, pinned: false, request: get("/"), credential: None };
    let url = "https://api.example.com/";
    for (round, expected) in [(0, 4), (1, 4)] {
        for grant in [&a, &b] {
            text(proxy.forward(grant, get(url)).await.unwrap()).await;
            text(proxy.send(grant, call()).await.unwrap()).await;
        }
        assert_eq!(upstream.accepted(), expected, "round {round}");
    }
    assert_eq!(upstream.requests().len(), 8);
}
