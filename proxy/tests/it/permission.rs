//! Whether a credential may be used is asked at each use, and what it says holds for that use as a whole.

use std::sync::{Arc, Mutex};

use http::request;
use orch_manifests::Endpoint;
use orch_proxy::{
    AuthorizeError, Credential, LiveGrant, Outcome, Place, ProviderCall, SCRUBBED, Scrubber, Use,
};

use crate::support::*;

fn grant_with(credential: Arc<dyn Credential>) -> (Arc<LiveGrant>, http::Request<orch_proxy::Body>) {
    let binding = bind_in(Place::Header("x-api-key".parse().unwrap()), credential);
    let asked = with(get("https://api.example.com/v1/x?q=1"), "x-api-key", binding.placeholder.as_str());
    let mut grant = grant(vec![rule("https://api.example.com")]);
    grant.bindings = vec![binding];
    (live(grant), asked)
}

fn again(request: &http::Request<orch_proxy::Body>) -> http::Request<orch_proxy::Body> {
    let mut same = get(&request.uri().to_string());
    *same.headers_mut() = request.headers().clone();
    same
}

#[tokio::test]
async fn what_may_no_longer_be_used_is_refused_and_on_record() {
    let (upstream, proxy) = answering(OK).await;
    let owned = Owned::new("TEST_KEY", SECRET);
    let (grant, asked) = grant_with(Arc::clone(&owned) as Arc<dyn Credential>);
    let endpoint: Endpoint = "https://api.example.com".parse().unwrap();
    let credential: Arc<dyn Credential> = Arc::clone(&owned) as _;
    let own = || ProviderCall {
        endpoint: &endpoint,
        pinned: false,
        request: get("/"),
        credential: Some(&credential),
    };
    assert_eq!(text(proxy.forward(&grant, again(&asked)).await.unwrap()).await, "ok");
    assert_eq!(text(proxy.send(&grant, own()).await.unwrap()).await, "ok");
    let before = upstream.requests().len();

    owned.set(Err("it expired"));
    for by_gateway in [false, true] {
        let result = if by_gateway {
            proxy.send(&grant, own()).await
        } else {
            proxy.forward(&grant, again(&asked)).await
        };
        let error = result.unwrap_err();
        assert_eq!(error.code(), "credential_not_permitted");
        assert_eq!(error.to_string(), "TEST_KEY may not be used: it expired");
        assert!(error.is_refusal());
        let decision = grant.ledger().decisions().pop().unwrap();
        assert_eq!((decision.verdict, decision.injected.len()), (Outcome::Denied, 0));
        assert_eq!(decision.reason.unwrap().code, "credential_not_permitted");
    }
    assert_eq!(upstream.requests().len(), before);
    // Where it is not used it does not matter.
    let plain = get("https://api.example.com/v1/x");
    assert_eq!(text(proxy.forward(&grant, plain).await.unwrap()).await, "ok");

    owned.set(Ok(SECRET));
    assert_eq!(text(proxy.forward(&grant, asked).await.unwrap()).await, "ok");
}

#[tokio::test]
async fn an_answer_is_searched_for_the_values_that_went_in() {
    const NEW: &str = "the-new-value-0123456789";
    let (upstream, proxy) = scripted(
        |_, mut wire| async move {
            while let Some(raw) = wire.request().await {
                let body = format!("{SECRET} {NEW}");
                let key = raw.fields("x-api-key")[0];
                wire.send(format!(
                    "HTTP/1.1 200 OK\r\nx-echo: {key}\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                ))
                .await;
            }
        },
        |_| {},
    )
    .await;
    let owned = Owned::new("TEST_KEY", SECRET);
    let (grant, asked) = grant_with(Arc::clone(&owned) as Arc<dyn Credential>);
    // Replaced in the middle of its use.
    let replaced = Arc::clone(&owned);
    owned.meanwhile(move || replaced.set(Ok(NEW)));
    let response = proxy.forward(&grant, again(&asked)).await.unwrap();
    assert_eq!(upstream.requests()[0].fields("x-api-key"), [SECRET]);
    assert_eq!(response.headers()["x-echo"], SCRUBBED);
    assert_eq!(text(response).await, format!("{SCRUBBED} {NEW}"));
    let response = proxy.forward(&grant, asked).await.unwrap();
    assert_eq!(upstream.requests()[1].fields("x-api-key"), [NEW]);
    assert_eq!(response.headers()["x-echo"], SCRUBBED);
    // The host still knows the old one from before.
    assert_eq!(text(response).await, format!("{SCRUBBED} {SCRUBBED}"));
}

/// Writes down what it is asked.
#[derive(Default)]
struct Curious(Mutex<Vec<String>>);

impl Credential for Curious {
    fn id(&self) -> &str {
        "CURIOUS"
    }

    fn source(&self) -> &str {
        "vault"
    }

    fn authorize(
        &self,
        _: &mut request::Parts,
        _: Option<&[u8; 32]>,
        how: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        self.0.lock().unwrap().push(match how {
            Use::Own { endpoint, .. } => format!("own {endpoint}"),
            Use::Swap { asked, place, .. } => {
                let (method, path) = (asked.method, asked.path.path());
                format!("{method} {}://{}:{}{path} {place:?}", asked.scheme, asked.host, asked.port)
            }
        });
        Ok(None)
    }

    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        None
    }
}

#[tokio::test]
async fn a_credential_is_told_what_it_is_for() {
    let (_upstream, proxy) = answering(OK).await;
    let curious = Arc::new(Curious::default());
    let credential: Arc<dyn Credential> = Arc::clone(&curious) as _;
    let (grant, asked) = grant_with(Arc::clone(&credential));
    text(proxy.forward(&grant, asked).await.unwrap()).await;
    let endpoint: Endpoint = "https://api.example.com/base".parse().unwrap();
    let call =
        ProviderCall { endpoint: &endpoint, pinned: false, request: get("/"), credential: Some(&credential) };
    text(proxy.send(&grant, call).await.unwrap()).await;
    let told = curious.0.lock().unwrap().join("\n");
    assert_eq!(
        told,
        "GET https://api.example.com:443/v1/x Header(\"x-api-key\")\nown https://api.example.com/base"
    );
}
