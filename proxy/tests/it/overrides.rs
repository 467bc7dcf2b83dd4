//! Fields that make servers read another method or path than was judged.

use http::Method;
use orch_proxy::{Methods, Outcome, Target};

use crate::support::*;

const URL: &str = "https://api.example.com/v1/x";

const OVERRIDES: [&str; 6] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x_http_method_override",
];

/// How a rule or a binding's target narrows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Narrow {
    No,
    Methods,
    Paths,
    /// Two of them fit, of which one does not.
    OneOfTwo,
}

impl Narrow {
    const ALL: [Self; 4] = [Self::No, Self::Methods, Self::Paths, Self::OneOfTwo];

    fn targets(self) -> Vec<Target> {
        let mut one = target("https://api.example.com");
        match self {
            Self::No => return vec![one],
            Self::Paths => one.paths = vec!["/v1/**".parse().unwrap()],
            Self::Methods | Self::OneOfTwo => one.methods = Methods::Only(vec![Method::GET]),
        }
        if self == Self::OneOfTwo { vec![one, target("https://api.example.com")] } else { vec![one] }
    }

    fn is_narrow(self) -> bool {
        matches!(self, Self::Methods | Self::Paths)
    }
}

#[tokio::test]
async fn they_are_refused_where_methods_or_paths_are_bounded() {
    let (upstream, proxy) = answering(OK).await;
    for by_rule in Narrow::ALL {
        for by_binding in Narrow::ALL {
            let rules = by_rule.targets().into_iter().map(|target| {
                let mut rule = rule("https://api.example.com");
                (rule.methods, rule.paths) = (target.methods, target.paths);
                rule
            });
            let mut grant = grant(rules.collect());
            let binding = bind("x-api-key", by_binding.targets());
            let placeholder = binding.placeholder.clone();
            grant.bindings = vec![binding];
            let grant = live(grant);
            for injected in [false, true] {
                for field in OVERRIDES {
                    let mut request = with(get(URL), field, "DELETE");
                    if injected {
                        request = with(request, "x-api-key", placeholder.as_str());
                    }
                    let refused = by_rule.is_narrow() || injected && by_binding.is_narrow();
                    let row = format!("{by_rule:?} {by_binding:?} {injected} {field}");
                    let before = upstream.requests().len();
                    let result = proxy.forward(&grant, request).await;
                    let decision = grant.ledger().decisions().pop().unwrap();
                    if refused {
                        let error = result.unwrap_err();
                        assert_eq!(error.code(), "override_header_refused", "{row}");
                        assert!(error.to_string().contains(field), "{error}");
                        assert_eq!(decision.verdict, Outcome::Denied, "{row}");
                        assert!(decision.injected.is_empty(), "{row}");
                        assert_eq!(upstream.requests().len(), before, "{row}");
                    } else {
                        assert_eq!(text(result.unwrap()).await, "ok", "{row}");
                        let raw = upstream.requests().pop().unwrap();
                        assert_eq!(raw.fields(field), ["DELETE"], "{row}");
                        assert_eq!(decision.injected.len(), usize::from(injected), "{row}");
                    }
                }
            }
            // Other fields are nobody's business.
            let other = with(get(URL), "x-http-method-of-payment", "card");
            assert_eq!(text(proxy.forward(&grant, other).await.unwrap()).await, "ok");
        }
    }
}
