//! What a guest is told when a request of its is refused: a 403 that a program, a model or a person can act on.

use http::{Response, StatusCode};
use orch_manifests::Provider;
use orch_proxy::{Body, Reason, Refusal, RuleMissing};
use serde_json::json;

/// Longest path that is repeated, in bytes. A line that is cut short would ask for something else.
const PATH_SHOWN: usize = 512;

/// A refusal by the egress policy. At the host of a provider, what is missing is most likely a path of its account.
pub(super) fn of_policy(host: &str, reason: &Reason, provider: Option<&Provider>) -> Response<Body> {
    let missing = reason.rule_missing.as_deref().filter(|missing| missing.path_length() <= PATH_SHOWN);
    let steps = match missing {
        Some(missing) => match provider {
            Some(provider) => to_open(missing, provider),
            None => to_allow(missing),
        },
        None => instead(reason.code),
    };
    respond(reason.code, host, &reason.text, missing, &steps)
}

/// A refusal for another reason, with what to do about it.
pub(super) fn because(code: &str, host: &str, text: &str, steps: &[String]) -> Response<Body> {
    respond(code, host, text, None, steps)
}

fn respond(
    code: &str,
    host: &str,
    text: &str,
    missing: Option<&RuleMissing>,
    steps: &[String],
) -> Response<Body> {
    let (kind, rule_missing) = ("egress_denied", missing.map(|missing| json!(missing)));
    Refusal { kind, code, host, message: text, rule_missing, next_steps: steps }
        .response(StatusCode::FORBIDDEN)
}

/// Who would have to say what so that this request is allowed: the author first, or nobody else can.
fn to_allow(missing: &RuleMissing) -> Vec<String> {
    let RuleMissing { scheme, host, port, .. } = missing;
    let place = if *port == 443 { host.clone() } else { format!("{host}:{port}") };
    vec![
        "do not try it again in this run: what a run may reach is settled when it starts".to_owned(),
        format!("the agent's author adds to `egress` in orch.yaml: {}", missing.line()),
        format!("then whoever runs the agent allows it ({scheme}): orch run --allow {place} …"),
        format!(
            "or an operator allows it to every agent that asks for it, in config.yaml: egress: {{ allow: [\"{place}\"] }}"
        ),
    ]
}

/// The same of a provider's account, whose requests go with the provider's key.
fn to_open(missing: &RuleMissing, provider: &Provider) -> Vec<String> {
    let method = missing.method.as_ref().map_or("GET", http::Method::as_str);
    let path = missing.path.as_deref().unwrap_or("/");
    let slug = &provider.slug;
    let line = json!({ "provider": slug.as_str(), "methods": [method], "paths": [path] });
    let mut steps = vec![
        "do not try it again in this run: what a run may reach is settled when it starts".to_owned(),
        format!("the agent's author adds to `llm.account` in orch.yaml: - {line}"),
        format!(
            "then whoever runs the agent grants it: orch run --grant 'llm.account:{slug}:{method}:{path}' …"
        ),
    ];
    steps.extend(provider.key_name().map(|key| {
        format!("and the owner of the vault's key lets it go there: orch secrets grants add {key} --account '{method}:{path}'")
    }));
    steps
}

/// What to do where no rule could help.
fn instead(code: &str) -> Vec<String> {
    let step = match code {
        "name_refused" | "ip_literal_refused" => {
            "use the public name of a host; no rule allows this one. A model server on a private network is for an \
             operator to pin, in config.yaml: providers: { NAME: { base_url: … } }"
        }
        "target_refused" | "authority_conflict" | "host_refused" | "path_refused" | "url_too_long" => {
            "send the request with one plain URL: https://HOST/PATH, without user information, and without escapes \
             that hide a slash or a dot"
        }
        "scheme_refused" => "use https (or http, where the manifest asks for `scheme: http`)",
        "method_refused" => "use GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS",
        "upgrade_refused" => "use plain requests and responses, or server-sent events",
        "override_header_refused" => {
            "leave the field out, and send the method and the path that are meant; or the author asks for the host \
             without `methods` and `paths`"
        }
        "credential_not_permitted" => {
            "the secret's owner says where it may be used: orch secrets grants add NAME --host HOST"
        }
        _ => return Vec::new(),
    };
    vec![step.to_owned()]
}

#[cfg(test)]
mod tests {
    use http::Method;
    use http_body_util::BodyExt as _;
    use orch_manifests::{CanonicalPath, EgressWant, Format, HostName, Scheme};
    use orch_proxy::{Asked, Rule, RuleOrigin, Verdict, decide};
    use serde_json::Value;

    use super::*;

    async fn said(response: Response<Body>) -> Value {
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        serde_json::from_slice::<Value>(&body).expect("JSON")["error"].take()
    }

    fn refusal(scheme: Scheme, host: &str, port: u16, path: &str) -> Reason {
        let (host, path): (HostName, _) =
            (host.parse().expect("a name"), CanonicalPath::parse(path).expect("a path"));
        let asked = Asked { scheme, host: &host, port, method: &Method::PUT, path: &path };
        match decide(&[], &asked) {
            Verdict::Deny(reason) => reason,
            Verdict::Allow { .. } => panic!("no rules allow nothing"),
        }
    }

    #[tokio::test]
    async fn a_refusal_says_which_rule_is_missing_and_who_can_add_it() {
        let reason = refusal(Scheme::Http, "api.example.com", 8080, "/a/b?q=1");
        let error = said(of_policy("api.example.com", &reason, None)).await;
        assert_eq!(error["type"], "egress_denied");
        assert_eq!((&error["code"], &error["host"]), (&json!("nothing_allowed"), &json!("api.example.com")));
        assert_eq!(
            error["rule_missing"],
            json!({ "scheme": "http", "host": "api.example.com", "port": 8080, "method": "PUT", "path": "/a/b" })
        );
        let steps: Vec<&str> =
            error["next_steps"].as_array().expect("steps").iter().filter_map(Value::as_str).collect();
        assert!(steps[2].contains("--allow api.example.com:8080"), "{steps:?}");
        assert!(steps[3].contains("egress: { allow: [\"api.example.com:8080\"] }"), "{steps:?}");
        // The author's line can be pasted, and allows just that.
        let line = steps[1].split_once("orch.yaml: ").expect("the line").1;
        let wants = EgressWant::list_in(&format!("egress:\n  {line}\n"), Format::Yaml, "x", &["egress"])
            .expect("a manifest's egress")
            .expect("there");
        let rules: Vec<Rule> = wants.iter().map(|want| Rule::of_want(want, RuleOrigin::Manifest)).collect();
        for (url, method, allowed) in [
            ("http://api.example.com:8080/a/b", Method::PUT, true),
            ("http://api.example.com:8080/a/b", Method::GET, false),
            ("http://api.example.com:8080/a/b/c", Method::PUT, false),
            ("http://api.example.com/a/b", Method::PUT, false),
            ("https://api.example.com:8080/a/b", Method::PUT, false),
        ] {
            let target = orch_proxy::RequestTarget::of_url(url).expect("a target");
            let verdict = decide(&rules, &target.asked(&method));
            assert_eq!(matches!(verdict, Verdict::Allow { .. }), allowed, "{method} {url}");
        }
    }

    #[tokio::test]
    async fn at_a_provider_s_host_it_is_the_account_that_is_not_granted() {
        let catalog = orch_manifests::Catalog::builtin();
        let reason = refusal(Scheme::Https, "api.openai.com", 443, "/v1/files?limit=1");
        let error = said(of_policy("api.openai.com", &reason, catalog.provider("openai"))).await;
        let steps: Vec<&str> =
            error["next_steps"].as_array().expect("steps").iter().filter_map(Value::as_str).collect();
        // The author's line can be pasted.
        let line = steps[1].split_once("orch.yaml: - ").expect("the line").1;
        let manifest = format!(
            "name: a/b\nversion: 1.0.0\nmodule: x.wasm\nllm: {{ primary: gpt-4o, account: [{line}] }}\n"
        );
        let manifest = orch_manifests::Manifest::parse(&manifest, Format::Yaml, "x").expect("a manifest");
        let want = &manifest.llm.expect("models").account[0];
        assert_eq!((want.provider.as_str(), want.paths[0].as_str()), ("openai", "/v1/files"));
        assert!(steps[2].contains("--grant 'llm.account:openai:PUT:/v1/files'"), "{steps:?}");
        assert!(steps[3].contains("grants add OPENAI_API_KEY --account 'PUT:/v1/files'"), "{steps:?}");
    }

    #[tokio::test]
    async fn what_no_rule_allows_names_no_rule() {
        let error = said(of_policy("localhost", &refusal(Scheme::Https, "localhost", 443, "/"), None)).await;
        assert_eq!((&error["code"], &error["rule_missing"]), (&json!("name_refused"), &Value::Null));
        assert!(error["next_steps"][0].as_str().is_some_and(|step| step.contains("pin")), "{error}");
        let long = format!("/{}", "a".repeat(PATH_SHOWN));
        let error =
            said(of_policy("a.example", &refusal(Scheme::Https, "a.example", 443, &long), None)).await;
        assert_eq!((&error["rule_missing"], &error["next_steps"]), (&Value::Null, &json!([])));
    }
}
