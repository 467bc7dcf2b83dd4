use orch_manifests::Limits;
use orch_proxy::{Asked, Verdict, decide};
use orch_vault::{Secret, Source};

use super::*;
use crate::config::Config;
use crate::credential::HeldCredential;
use crate::keys::BoundSecret;
use crate::run::LimitRequest;
use crate::stage;

const API: &str = "{ host: api.example.com, methods: [GET], paths: ['/r/**'] }";

fn agent(rest: &str) -> Agent {
    stage::agent(&format!("supported_providers: [any]\n{rest}"))
}

fn bare() -> Agent {
    Agent { bare: true, ..agent("") }
}

fn wants(agent: &Agent, flags: &[&str], config: &[&str]) -> Result<Wants, Failure> {
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let config: Vec<AllowedHost> = config.iter().map(|host| host.parse().expect("a host")).collect();
    Wants::of(agent, &allowed_hosts(&flags, &config)?, &BTreeSet::new())
}

fn refused<T>(answer: Result<T, Failure>) -> Failure {
    match answer {
        Ok(_) => panic!("not refused"),
        Err(failure) => failure,
    }
}

fn real() -> Upstream {
    Upstream::real(&Config::default(), &Arc::new(Catalog::builtin())).expect("a proxy")
}

fn held(name: &str) -> Arc<dyn Credential> {
    let secret = Secret::new(b"sk-0123456789abcdef".to_vec());
    Arc::new(HeldCredential::given(name.to_owned(), Source::Flag, orch_manifests::Auth::None, secret))
}

fn way(host: &str) -> Way {
    Way {
        target: crate::owner::anything_at(host.parse().expect("a host")),
        place: Place::Header(http::HeaderName::from_static("x-token")),
        grant: None,
    }
}

fn keys(providers: &[&str], secrets: &[(&str, &[&str])]) -> Keys {
    Keys {
        providers: providers.iter().map(|slug| (slug.parse().expect("a slug"), held(slug))).collect(),
        secrets: secrets
            .iter()
            .map(|(name, hosts)| BoundSecret {
                name: name.parse().expect("a name"),
                credential: held(name),
                ways: hosts.iter().map(|host| way(host)).collect(),
            })
            .collect(),
        ..Keys::default()
    }
}

fn minted(keys: &Keys, issued: &[Issued], rules: Vec<Rule>) -> Grant {
    let none = Limits::default();
    let limits = RunLimits::of(LimitRequest::default(), &none, &none, &none);
    let terms = Terms {
        run: &RunId::random(),
        workspace: "default",
        keys,
        account: &[],
        issued,
        catalog: &Catalog::builtin(),
        limits: &limits,
        trials: [None, None],
        expires: Instant::now(),
    };
    grant(&terms, rules)
}

#[test]
fn a_want_is_granted_by_flag_or_configuration_and_stays_as_narrow_as_it_is() {
    let agent = agent(&format!("egress: [{API}]"));
    for (flags, config, origin) in [
        (&["api.example.com"][..], &[][..], RuleOrigin::Flag),
        (&[], &["api.example.com"], RuleOrigin::Config),
        (&["api.example.com"], &["api.example.com"], RuleOrigin::Flag),
    ] {
        let wants = wants(&agent, flags, config).expect("wants");
        assert_eq!((wants.all().count(), wants.open().count()), (1, 0));
        let [rule] = wants.granted(&real()).try_into().expect("one rule");
        assert_eq!((rule.origin, rule.port, rule.scheme), (origin, 443, Scheme::Https));
        assert_eq!(rule.methods, Methods::Only(vec![http::Method::GET]));
        assert_eq!(rule.paths.len(), 1);
    }
}

#[test]
fn what_nobody_allowed_is_open() {
    let agent = agent(&format!("egress: [{API}, {{ host: b.example.com }}]"));
    let wants = wants(&agent, &[], &["b.example.com", "unasked.example.com"]).expect("wants");
    let open: Vec<_> = wants.open().map(|capability| capability.to_string()).collect();
    assert_eq!(open, ["talk to https://api.example.com (GET; /r/**)"]);
    // The person at the terminal said yes: the rule is the manifest's.
    let origins: Vec<_> = wants.granted(&real()).iter().map(|rule| rule.origin).collect();
    assert_eq!(origins, [RuleOrigin::Manifest, RuleOrigin::Config]);
}

#[test]
fn a_flag_for_what_the_manifest_does_not_ask_is_an_error_that_says_what_it_asks() {
    let failure = refused(wants(&agent(&format!("egress: [{API}]")), &["api.example.org"], &[]));
    assert_eq!(failure.code(), "allow_not_wanted");
    assert!(failure.message().contains("api.example.org"), "{failure}");
    assert!(failure.hints()[0].ends_with("acme/x asks for api.example.com"), "{:?}", failure.hints());
    let failure = refused(wants(&agent(""), &["api.example.com:8443"], &[]));
    assert!(failure.message().contains(":8443") && failure.hints()[0].ends_with("no host"), "{failure}");
    assert_eq!(refused(wants(&agent(""), &["10.0.0.1"], &[])).code(), "bad_usage");
}

#[test]
fn for_a_bare_module_the_command_line_is_the_manifest_and_the_configuration_is_not() {
    let wants = wants(&bare(), &["a.example.com", "b.example.com:8443"], &["c.example.com"]).expect("wants");
    assert_eq!(wants.open().count(), 0);
    let rules = wants.granted(&real());
    let said: Vec<_> = rules.iter().map(|rule| (rule.host.to_string(), rule.port, rule.origin)).collect();
    let row = |host: &str, port| (host.to_owned(), port, RuleOrigin::Flag);
    assert_eq!(said, [row("a.example.com", 443), row("b.example.com", 8443)]);
    assert!(rules.iter().all(|rule| rule.methods == Methods::Any && rule.paths.is_empty()));
}

#[tokio::test]
async fn a_simulated_run_reaches_what_the_scenario_scripts_and_nothing_else() {
    let upstream = Upstream::simulated(orch_gateway::simulate::Scenario::ok()).await.expect("a simulation");
    let agent =
        agent("egress: [{ host: api.openai.com }, { host: api.example.com }, { host: '*.anthropic.com' }]");
    let wants = wants(&agent, &["api.openai.com", "api.example.com", "*.anthropic.com"], &[]).expect("wants");
    let rules = wants.granted(&upstream);
    let said: Vec<_> = rules.iter().map(|rule| (rule.host.to_string(), rule.origin)).collect();
    let row = |host: &str| (host.to_owned(), RuleOrigin::Scenario);
    assert_eq!(said, [row("api.openai.com"), row("api.anthropic.com")]);
    upstream.shutdown().await;
}

#[test]
fn a_provider_s_key_is_bound_to_its_inference_paths_and_its_header() {
    let keys = keys(&["openai", "anthropic", "gemini"], &[]);
    let catalog = Catalog::builtin();
    let issued = issue(&keys, &catalog);
    let grant = minted(&keys, &issued, Vec::new());
    assert!(grant.rules.is_empty(), "a key is no permission to reach its host");
    assert_eq!(grant.bindings.len(), 3);
    for (slug, header) in
        [("openai", "authorization"), ("anthropic", "x-api-key"), ("gemini", "x-goog-api-key")]
    {
        let provider = catalog.provider(slug).expect("known");
        let binding = grant.bindings.iter().find(|binding| binding.credential.id() == slug).expect("bound");
        assert_eq!(binding.place, Place::Header(http::HeaderName::from_static(header)));
        assert_eq!(binding.targets.len(), provider.inference.len());
        for (target, inference) in binding.targets.iter().zip(&provider.inference) {
            assert_eq!(target.host.to_string(), provider.endpoint.host.to_string());
            assert_eq!(target.methods, Methods::Only(vec![inference.method.clone()]));
            assert_eq!(
                target.paths.iter().map(ToString::to_string).collect::<Vec<_>>(),
                [inference.path.as_str()]
            );
        }
    }
    let placeholders: Vec<_> = grant.bindings.iter().map(|binding| binding.placeholder.as_str()).collect();
    assert_ne!(placeholders[0], placeholders[1]);
}

/// Its client libraries sent a key in `x-api-key` at first, and send it as everybody's since.
#[test]
fn a_key_goes_to_anthropic_s_account_in_either_of_its_headers() {
    let catalog = Catalog::builtin();
    for (slug, headers) in [
        ("anthropic", &["x-api-key", "authorization"][..]),
        ("openai", &["authorization"]),
        ("gemini", &["x-goog-api-key"]),
    ] {
        let provider = catalog.provider(slug).expect("known");
        let want = AccountWant {
            provider: slug.parse().expect("a slug"),
            methods: vec![http::Method::GET],
            paths: vec!["/v1/models".parse().expect("a pattern")],
        };
        let own = place(provider).expect("a place");
        let placeholder = Placeholder::random();
        let bindings = account::bindings(provider, &want, &placeholder, &held(slug), &own);
        let places: Vec<_> = bindings.iter().map(|binding| binding.place.clone()).collect();
        let expected = headers.iter().map(|name| Place::Header(http::HeaderName::from_static(name)));
        assert_eq!(places, expected.collect::<Vec<_>>(), "{slug}");
        for Binding { targets, .. } in &bindings {
            assert_eq!(targets.len(), 1);
            assert_eq!(targets[0].methods, Methods::Only(vec![http::Method::GET]));
            assert_eq!(targets[0].paths, want.paths);
        }
    }
}

/// At the path of those that make vectors, other models answer in words that no budget counts.
#[test]
fn bedrock_s_key_is_bound_to_the_listed_models_where_others_are_asked_as_well() {
    let provider = Catalog::builtin().provider("aws").expect("known").clone();
    let binding = provider_binding(&provider, Placeholder::random(), held("aws")).expect("bound");
    assert_eq!(binding.targets.len(), 3);
    let covered = |path: &str| {
        let path = path.parse::<orch_manifests::CanonicalPath>().expect("a path");
        binding.targets.iter().any(|target| target.paths.iter().any(|glob| glob.matches(&path)))
    };
    for path in [
        "/model/amazon.nova-lite-v1:0/converse",
        "/model/amazon.titan-embed-text-v2:0/invoke",
        "/model/amazon.titan-embed-text-v2%3A0/invoke",
    ] {
        assert!(covered(path), "{path}");
    }
    for path in ["/model/amazon.nova-lite-v1:0/invoke", "/model/amazon.titan-embed-image-v1/invoke"] {
        assert!(!covered(path), "{path}");
    }
}

#[test]
fn the_key_of_a_pinned_address_is_bound_to_no_guest_request() {
    let config = Config::parse(
        "providers: { openai: { base_url: 'http://10.0.0.5:8000/v1' } }",
        "config.yaml",
        std::path::Path::new("/nowhere"),
    );
    let catalog = config.expect("parses").catalog().expect("complete");
    let provider = catalog.provider("openai").expect("pinned");
    let binding =
        provider_binding(provider, Placeholder::random(), held("openai")).expect("known to the gateway");
    assert!(binding.targets.is_empty());
}

#[test]
fn a_secret_goes_over_tls_to_its_hosts_in_its_header() {
    let keys = keys(&[], &[("TOKEN", &["api.example.com", "*.b.example.com"])]);
    let issued = issue(&keys, &Catalog::builtin());
    let [binding] = minted(&keys, &issued, Vec::new()).bindings.try_into().ok().expect("one binding");
    assert_eq!(binding.placeholder.as_str(), issued[0].placeholder.as_str());
    assert_eq!(binding.place, Place::Header(http::HeaderName::from_static("x-token")));
    let said: Vec<_> = binding.targets.iter().map(|t| (t.scheme, t.host.to_string(), t.port)).collect();
    let row = |host: &str| (Scheme::Https, host.to_owned(), 443);
    assert_eq!(said, [row("api.example.com"), row("*.b.example.com")]);
}

#[test]
fn the_grant_decides_as_the_manifest_says() {
    let wants = wants(&agent(&format!("egress: [{API}]")), &["api.example.com"], &[]).expect("wants");
    let keys = Keys::default();
    let grant = minted(&keys, &[], wants.granted(&real()));
    let host = "api.example.com".parse().expect("a host");
    let allows = |method: http::Method, port, path: &str| {
        let path = orch_manifests::CanonicalPath::parse(path).expect("a path");
        let asked = Asked { scheme: Scheme::Https, host: &host, port, method: &method, path: &path };
        matches!(decide(&grant.rules, &asked), Verdict::Allow { .. })
    };
    assert!(allows(http::Method::GET, 443, "/r/x"));
    assert!(!allows(http::Method::POST, 443, "/r/x"));
    assert!(!allows(http::Method::GET, 8443, "/r/x"));
    assert!(!allows(http::Method::GET, 443, "/s"));
    assert_eq!((grant.limits.run.requests, grant.limits.run.concurrent), (500, 64));
}

fn environment(manifest: &str, env: &[(&str, &str)], models: bool) -> Result<Vec<(String, String)>, Failure> {
    let keys = keys(&["gemini"], &[("TOKEN", &["a.example.com"])]);
    let issued = issue(&keys, &Catalog::builtin());
    let said: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    guest_environment(&RunId::random(), &agent(manifest).manifest, &said, &issued, models)
}

#[test]
fn the_guest_s_environment_is_what_the_contract_says() {
    let env = environment("env: { MODE: quiet, LEVEL: '1' }", &[("LEVEL", "2")], true).expect("set");
    let value = |name: &str| -> Vec<&str> {
        env.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!(value("ORCH_AGENT"), ["acme/x"]);
    assert_eq!(value("ORCH_VERSION"), ["1.2.3"]);
    assert!(value("ORCH_RUN_ID")[0].starts_with("run_"));
    for (name, url) in [
        ("ORCH_LLM_URL", "http://llm.orch.internal/v1"),
        ("OPENAI_BASE_URL", "http://llm.orch.internal/v1"),
        ("ANTHROPIC_BASE_URL", "http://llm.orch.internal"),
        ("GOOGLE_GEMINI_BASE_URL", "http://llm.orch.internal"),
    ] {
        assert_eq!(value(name), [url]);
    }
    assert_eq!((value("MODE"), value("LEVEL")), (vec!["quiet"], vec!["2"]), "the caller's word goes last");
    for name in ["GEMINI_API_KEY", "TOKEN"] {
        assert!(
            value(name).len() == 1 && value(name)[0].starts_with("orch_ph_"),
            "{name}: {:?}",
            value(name)
        );
    }
    assert_eq!(env.len(), 11, "and nothing else: {env:?}");
}

#[test]
fn a_run_without_models_has_no_gateway() {
    let env = environment("", &[], false).expect("set");
    assert!(!env.iter().any(|(name, _)| name.ends_with("_URL")), "{env:?}");
}

#[test]
fn names_that_orch_sets_have_no_other_meaning() {
    for name in ["ORCH_RUN_ID", "ORCH_ANYTHING", "TOKEN", "GEMINI_API_KEY"] {
        let failure = refused(environment("", &[(name, "x")], true));
        assert_eq!(failure.code(), "env_reserved", "{name}");
    }
    // The manifest's parser refuses the names that it can know.
    let failure = refused(environment("env: { TOKEN: x }", &[], true));
    assert_eq!(failure.code(), "env_reserved");
}
