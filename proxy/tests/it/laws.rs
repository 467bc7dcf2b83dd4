//! What holds for every request, whatever it says.

use orch_manifests::CanonicalPath;
use orch_proxy::{Proxy, ProxyConfig};
use proptest::prelude::*;

use crate::support::*;

/// A path in which any character may be escaped, and the escape again.
fn escaped() -> impl Strategy<Value = String> {
    let character = (proptest::sample::select(b"//...%25eE2fF3bBcC;ax*?&=".to_vec()), 0_usize..3);
    let escape = |text: String| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    proptest::collection::vec(character, 0..20).prop_map(move |characters| {
        let one = |(byte, times): &(u8, usize)| {
            (0..*times).fold(char::from(*byte).to_string(), |text, _| escape(text))
        };
        characters.iter().map(one).collect::<String>()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Of a connection full of requests, each that got through went up as it was judged, byte for byte, and no other did.
    #[test]
    fn what_was_judged_is_what_goes_up(rests in proptest::collection::vec(escaped(), 8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (sent, arrived) = runtime.block_on(async {
            let upstream = Upstream::answering(None, OK).await;
            let config = ProxyConfig {
                connect_to: vec![((HOST.parse().unwrap(), 80), upstream.addr)],
                ..ProxyConfig::default()
            };
            let proxy = Proxy::new(config, std::sync::Arc::new(Told::default())).unwrap();
            let mut below = rule(&format!("http://{HOST}"));
            below.paths = vec!["/repos/**".parse().unwrap()];
            let grant = live(grant(vec![below]));
            let mut sent = Vec::new();
            for rest in &rests {
                let Ok(uri) = http::Uri::try_from(format!("http://{HOST}/repos/{rest}")) else { continue };
                let target = uri.path_and_query().unwrap().to_string();
                if let Ok(response) = proxy.forward(&grant, get(&uri.to_string())).await {
                    text(response).await;
                    sent.push(target);
                }
            }
            (sent, upstream.requests())
        });
        prop_assert_eq!(sent.len(), arrived.len());
        for (target, request) in sent.iter().zip(&arrived) {
            let judged = CanonicalPath::parse(target).unwrap();
            prop_assert!(judged.path().starts_with("/repos/"), "{} went up as {}", target, judged);
            prop_assert_eq!(request.line(), format!("GET {judged} HTTP/1.1"));
            // Who decodes once more reads the same path.
            prop_assert_eq!(CanonicalPath::parse(judged.as_str()), Ok(judged.clone()));
        }
    }
}
