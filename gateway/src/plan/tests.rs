use std::sync::Arc;

use orch_manifests::{Catalog, Dialect, Llm, ModelName, Routes, Slug, Supported, Target, resolve_model};
use orch_proxy::{AuthorizeError, Credential, Scrubber, Use};

use super::*;

struct Key(String);

impl Credential for Key {
    fn id(&self) -> &str {
        &self.0
    }
    fn source(&self) -> &str {
        "env"
    }
    fn authorize(
        &self,
        _: &mut http::request::Parts,
        _: Option<&[u8; 32]>,
        _: Use<'_>,
    ) -> Result<Option<Arc<Scrubber>>, AuthorizeError> {
        Ok(None)
    }
    fn scrubber(&self) -> Option<Arc<Scrubber>> {
        None
    }
}

fn llm(models: &[&str]) -> Llm {
    let mut names = models.iter().map(|name| name.parse().unwrap());
    Llm::new(names.next().unwrap(), names.collect())
}

fn only(slugs: &[&str]) -> Supported {
    Supported::Only(slugs.iter().map(|slug| slug.parse().unwrap()).collect())
}

/// `smart`: OpenAI and Anthropic share the calls, and Gemini is asked when both have failed.
fn routes() -> Routes {
    let mut routes = Routes::none();
    let smart = "{targets: [{model: gpt-4o, priority: 1, weight: 3}, {model: claude-3-haiku, priority: 1},
                  {model: gemini-2.5-flash, priority: 2, rename: flash}], on: {refused_by_filter: next}}";
    let smart = serde_yaml::from_str(smart).unwrap();
    routes.add("smart".parse().unwrap(), smart, &Catalog::builtin()).unwrap();
    routes
}

/// Provider, model, local.
type Overrides<'a> = (Option<&'a str>, Option<&'a str>, bool);

fn make(
    llm: Option<&Llm>,
    supported: &Supported,
    keys: &[&str],
    overrides: Overrides<'_>,
) -> Result<Plan, PlanError> {
    let (provider, model, local) = overrides;
    let model: Option<ModelName> = model.map(|name| name.parse().unwrap());
    let keys = |slug: &Slug| {
        let found = keys.iter().filter(|name| **name == slug.as_str());
        found.map(|name| Arc::new(Key((*name).to_owned())) as Arc<dyn Credential>).collect()
    };
    let (catalog, routes) = (Catalog::builtin(), &routes());
    plan(&Wishes {
        llm,
        supported,
        catalog: &catalog,
        keys: &keys,
        routes,
        provider,
        model: model.as_ref(),
        prefer: None,
        local,
    })
}

fn names(plan: &Plan) -> Vec<String> {
    plan.candidates.iter().map(Planned::name).collect()
}

const NONE: Overrides<'_> = (None, None, false);

#[test]
fn the_manifests_order_minus_what_cannot_serve_and_that_is_said() {
    let llm = llm(&["gemini-2.5-flash", "gpt-4o-mini", "claude-3-haiku"]);
    let plan = make(Some(&llm), &Supported::Any, &["openai", "anthropic"], NONE).unwrap();
    assert_eq!(names(&plan), ["openai/gpt-4o-mini", "anthropic/claude-3-haiku-20240307"]);
    assert_eq!(plan.skipped.len(), 1);
    assert_eq!(plan.skipped[0].model, "gemini-2.5-flash");
    assert!(plan.skipped[0].reason.contains("GEMINI_API_KEY"), "{}", plan.skipped[0].reason);

    let plan = make(Some(&llm), &only(&["anthropic"]), &["openai", "anthropic"], NONE).unwrap();
    assert_eq!(names(&plan), ["anthropic/claude-3-haiku-20240307"]);
    assert_eq!(plan.skipped.len(), 2);
    assert!(plan.skipped[1].reason.contains("supported_providers"));
    assert!(
        plan.provider(&"openai".parse().unwrap()).is_none(),
        "a key is not used for what is not supported"
    );
}

#[test]
fn no_key_says_what_to_set() {
    let llm = llm(&["gpt-4o-mini", "claude-3-haiku"]);
    let error = make(Some(&llm), &Supported::Any, &[], NONE).err().unwrap();
    let PlanError::NoKey(missing) = &error else { panic!("{error}") };
    assert_eq!(missing.iter().map(|key| key.provider.as_str()).collect::<Vec<_>>(), ["openai", "anthropic"]);
    assert!(error.to_string().contains("OPENAI_API_KEY") && error.to_string().contains("ANTHROPIC_API_KEY"));
    assert!(error.hints().contains(&"orch secrets set OPENAI_API_KEY".to_owned()));
    // A key of a provider that the plan does not name is no key for the plan.
    assert!(matches!(make(Some(&llm), &Supported::Any, &["gemini"], NONE), Err(PlanError::NoKey(_))));
    // Without an llm section a supported provider still needs one.
    assert!(matches!(make(None, &only(&["anthropic"]), &[], NONE), Err(PlanError::NoKey(_))));
}

#[test]
fn an_agent_without_an_llm_needs_no_key() {
    let plan = make(None, &only(&[]), &[], NONE).unwrap();
    assert!(plan.candidates.is_empty() && plan.at_hand.is_empty());
}

#[test]
fn ollama_is_local_or_pinned() {
    let llm = llm(&["ollama/llama3.2"]);
    assert!(matches!(make(Some(&llm), &Supported::Any, &[], NONE), Err(PlanError::NoCandidate(_))));
    let plan = make(Some(&llm), &Supported::Any, &[], (None, None, true)).unwrap();
    assert_eq!(names(&plan), ["ollama/llama3.2"]);
    assert!(plan.candidates[0].keys.is_empty());

    let pin = orch_manifests::OperatorProvider {
        slug: "ollama".parse().unwrap(),
        dialect: None,
        base_url: Some("http://10.0.0.5:11434".parse().unwrap()),
        env: Vec::new(),
        models: Vec::new(),
        free: false,
        prices: std::collections::BTreeMap::new(),
    };
    let catalog = Catalog::builtin().with_operator(vec![pin]).unwrap();
    let wishes = Wishes {
        llm: Some(&llm),
        supported: &Supported::Any,
        catalog: &catalog,
        keys: &|_| Vec::new(),
        routes: &Routes::none(),
        provider: None,
        model: None,
        prefer: None,
        local: false,
    };
    assert_eq!(names(&plan_of(&wishes)), ["ollama/llama3.2"]);
}

fn plan_of(wishes: &Wishes<'_>) -> Plan {
    plan(wishes).unwrap()
}

#[test]
fn overrides() {
    let llm = llm(&["gpt-4o-mini", "claude-3-haiku"]);
    let keys = &["openai", "anthropic"];
    let make = |provider, model| make(Some(&llm), &Supported::Any, keys, (provider, model, false));

    let plan = make(None, Some("gpt-4o")).unwrap();
    assert_eq!(names(&plan), ["openai/gpt-4o", "anthropic/claude-3-haiku-20240307"]);
    let plan = make(Some("anthropic"), None).unwrap();
    assert_eq!(names(&plan), ["anthropic/claude-3-haiku-20240307"]);
    assert!(plan.skipped[0].reason.contains("--provider"));
    let plan = make(Some("openai"), Some("my-finetune")).unwrap();
    assert_eq!(names(&plan), ["openai/my-finetune"]);
    let plan = make(Some("openai"), Some("openai/my-finetune")).unwrap();
    assert_eq!(names(&plan), ["openai/my-finetune"]);
    let plan = make(None, Some("claude-3-haiku")).unwrap();
    assert_eq!(names(&plan), ["anthropic/claude-3-haiku-20240307"], "asked once");

    assert!(matches!(make(Some("acme"), None), Err(PlanError::UnknownProvider { .. })));
    assert!(matches!(make(None, Some("nobody-knows-it")), Err(PlanError::UnknownModel(_))));
    assert!(matches!(make(Some("gemini"), None), Err(PlanError::NoCandidate(_))));
    assert!(matches!(make(Some("gemini"), Some("gemini-2.5-flash")), Err(PlanError::NoKey(_))));
    assert!(matches!(make(Some("ollama"), None), Err(PlanError::Provider { .. })));
}

#[test]
fn models_outside_the_plan_need_their_provider_at_hand() {
    let llm = llm(&["gpt-4o-mini"]);
    let plan = make(Some(&llm), &Supported::Any, &["openai"], NONE).unwrap();
    let catalog = Catalog::builtin();
    assert_eq!(outside(&plan, &catalog, "gpt-4o").unwrap().name(), "openai/gpt-4o");
    assert!(outside(&plan, &catalog, "claude-3-haiku").unwrap_err().contains("anthropic"));
    assert!(outside(&plan, &catalog, "no such model").is_err());
    assert!(outside(&plan, &catalog, "nobody-knows-it").is_err());
}

/// Name, step, weight.
fn steps(plan: &Plan) -> Vec<(String, u32, u16)> {
    plan.candidates.iter().map(|planned| (planned.name(), planned.step, planned.weight)).collect()
}

#[test]
fn a_route_stands_where_a_model_would() {
    let keys = &["openai", "anthropic", "gemini"];
    let llm = llm(&["gpt-4o-mini", "smart", "gpt-4o"]);
    let plan = make(Some(&llm), &Supported::Any, keys, NONE).unwrap();
    let wanted = [
        ("openai/gpt-4o-mini", 0, 1),
        ("openai/gpt-4o", 1, 3),
        ("anthropic/claude-3-haiku-20240307", 1, 1),
        ("gemini/gemini-2.5-flash", 2, 1),
    ];
    assert_eq!(steps(&plan), wanted.map(|(name, step, weight)| (name.to_owned(), step, weight)));
    assert_eq!(plan.candidates[3].sent.as_deref(), Some("flash"));
    let on =
        plan.candidates.iter().map(|planned| planned.on.refused_by_filter == orch_manifests::After::Next);
    assert_eq!(on.collect::<Vec<_>>(), [false, true, true, true]);

    // As `--model`, in front of the manifest's fallbacks; and within `--provider`.
    let plan = make(Some(&llm), &Supported::Any, keys, (Some("gemini"), Some("smart"), false)).unwrap();
    assert_eq!(names(&plan), ["gemini/gemini-2.5-flash"]);
    assert!(plan.skipped.iter().any(|s| s.model == "gpt-4o" && s.reason.contains("--provider")));
}

#[test]
fn what_a_route_cannot_reach_is_said_and_without_any_key_nothing_is() {
    let llm = llm(&["smart"]);
    let plan = make(Some(&llm), &Supported::Any, &["anthropic"], NONE).unwrap();
    assert_eq!(names(&plan), ["anthropic/claude-3-haiku-20240307"]);
    let skipped: Vec<&str> = plan.skipped.iter().map(|skipped| skipped.model.as_str()).collect();
    assert_eq!(skipped, ["gpt-4o", "gemini-2.5-flash"]);
    let error = make(Some(&llm), &Supported::Any, &[], NONE).err().unwrap();
    let PlanError::NoKey(missing) = &error else { panic!("{error}") };
    assert_eq!(missing.len(), 3);
}

#[test]
fn a_target_may_name_its_keys() {
    let llm = llm(&["smart"]);
    let plan = make(Some(&llm), &Supported::Any, &["openai", "openai"], NONE).unwrap();
    assert_eq!(plan.candidates[0].keys.len(), 2, "all of them, where it names none");
    let at_hand = plan.provider(&"openai".parse().unwrap()).unwrap();
    // The test's keys go by their provider's name.
    let target = |keys: &str| {
        let target: Target = serde_yaml::from_str(&format!("{{model: gpt-4o, keys: {keys}}}")).unwrap();
        let route = resolve_model(&Catalog::builtin(), &target.model).unwrap();
        at_hand.target(route, &target)
    };
    let weights: Vec<u16> = target("{openai: 7}").unwrap().keys.iter().map(|key| key.weight).collect();
    assert_eq!(weights, [7, 7]);
    let error = target("[OPENAI_API_KEY_2]").err().unwrap();
    assert!(error.contains("OPENAI_API_KEY_2"), "{error}");
}

#[test]
fn a_variant_s_name_says_what_is_spoken_in_a_route_as_well() {
    let at_hand = make(None, &Supported::Any, &["openai"], NONE).unwrap();
    let at_hand = at_hand.provider(&"openai".parse().unwrap()).unwrap();
    let planned = |name: &str| {
        let target: Target = serde_yaml::from_str(&format!("{{model: {name}, rename: mine}}")).unwrap();
        let route = resolve_model(&Catalog::builtin(), &target.model).unwrap();
        at_hand.target(route, &target).unwrap()
    };
    let (named, plain) = (planned("openai-responses/gpt-4o"), planned("gpt-4o"));
    assert_eq!(
        (named.dialect, named.name().as_str()),
        (Some(Dialect::OpenAiResponses), "openai-responses/gpt-4o")
    );
    assert_eq!((plain.dialect, plain.name().as_str()), (None, "openai/gpt-4o"));
    assert!(!named.is_same_as(&plain), "the other may serve where this one does not");
}

/// The plan of `models` with keys for these providers, for somebody who thinks with `provider` first.
fn preferring(
    models: &[&str],
    supported: &Supported,
    keys: &[&str],
    (provider, model): (&str, Option<&str>),
    overrides: (Option<&str>, Option<&str>),
) -> Plan {
    let keys = |slug: &Slug| {
        let found = keys.iter().filter(|name| **name == slug.as_str());
        found.map(|name| Arc::new(Key((*name).to_owned())) as Arc<dyn Credential>).collect()
    };
    let (catalog, routes) = (Catalog::builtin(), routes());
    let model_flag: Option<ModelName> = overrides.1.map(|name| name.parse().unwrap());
    let llm = (!models.is_empty()).then(|| llm(models));
    let prefer = Preference { provider: provider.to_owned(), model: model.map(str::to_owned) };
    plan(&Wishes {
        llm: llm.as_ref(),
        supported,
        catalog: &catalog,
        keys: &keys,
        routes: &routes,
        provider: overrides.0,
        model: model_flag.as_ref(),
        prefer: Some(&prefer),
        local: true,
    })
    .unwrap()
}

#[test]
fn who_is_preferred_comes_first_and_no_fallback_is_lost() {
    const ALL: &[&str] = &["openai", "anthropic", "gemini"];
    let manifest: &[&str] = &["gemini-2.5-flash", "gpt-4o-mini", "claude-3-haiku"];
    let none = (None, None);
    let plan = preferring(manifest, &Supported::Any, ALL, ("openai", None), none);
    let expected = ["openai/gpt-4o-mini", "gemini/gemini-2.5-flash", "anthropic/claude-3-haiku-20240307"];
    assert_eq!(names(&plan), expected);
    let steps: Vec<u32> = plan.candidates.iter().map(|planned| planned.step).collect();
    assert!(steps.is_sorted(), "{steps:?}");
    assert!(plan.skipped.is_empty());

    let plan = preferring(manifest, &Supported::Any, ALL, ("anthropic", Some("claude-sonnet-4-6")), none);
    let expected = [
        "anthropic/claude-sonnet-4-6",
        "anthropic/claude-3-haiku-20240307",
        "gemini/gemini-2.5-flash",
        "openai/gpt-4o-mini",
    ];
    assert_eq!(names(&plan), expected);

    // Of a route, whose steps keep their order among each provider's own.
    let plan = preferring(&["smart"], &Supported::Any, ALL, ("google", None), none);
    assert_eq!(names(&plan)[0], "gemini/gemini-2.5-flash");
    assert_eq!(names(&plan).len(), 3);

    // Where the agent names nothing, what is preferred is what unnamed requests get.
    let plan = preferring(&[], &Supported::Any, ALL, ("openai", Some("gpt-4o")), none);
    assert_eq!(names(&plan), ["openai/gpt-4o"]);
}

#[test]
fn who_is_preferred_by_a_variant_s_name_is_spoken_to_in_its_dialect() {
    let manifest: &[&str] = &["gemini-2.5-flash", "gpt-4o-mini"];
    for (provider, model, dialect) in [
        ("openai", None, None),
        ("openai-responses", None, Some(Dialect::OpenAiResponses)),
        ("openai-responses", Some("gpt-4o"), Some(Dialect::OpenAiResponses)),
    ] {
        let plan =
            preferring(manifest, &Supported::Any, &["openai", "gemini"], (provider, model), (None, None));
        assert_eq!(plan.candidates[0].provider.slug.as_str(), "openai");
        assert_eq!(plan.candidates[0].dialect, dialect, "{provider} {model:?}");
        let others = plan.candidates.iter().filter(|planned| planned.provider.slug.as_str() != "openai");
        assert!(others.into_iter().all(|planned| planned.dialect.is_none()), "{provider}");
    }
}

#[test]
fn a_preference_that_cannot_be_is_said_and_changes_nothing() {
    let manifest: &[&str] = &["gemini-2.5-flash", "claude-3-haiku"];
    let before = ["gemini/gemini-2.5-flash", "anthropic/claude-3-haiku-20240307"];
    let keys: &[&str] = &["gemini", "anthropic"];
    for (supported, provider, why) in [
        (only(&["gemini", "anthropic"]), "openai", "supported_providers leave out openai"),
        (Supported::Any, "openai", "no key for openai"),
        (Supported::Any, "nobody", "no such provider"),
    ] {
        let plan = preferring(manifest, &supported, keys, (provider, Some("gpt-4o")), (None, None));
        assert_eq!(names(&plan), before, "{provider}");
        assert_eq!(plan.skipped.len(), 1);
        assert!(plan.skipped[0].reason.contains(why), "{:?}", plan.skipped);
    }
    // An agent that names nothing goes on as without it.
    let plan = preferring(&[], &Supported::Any, keys, ("openai", Some("gpt-4o")), (None, None));
    assert!(plan.candidates.is_empty() && plan.at_hand.len() >= 2);
}

#[test]
fn flags_go_before_a_preference() {
    let keys: &[&str] = &["openai", "anthropic", "gemini"];
    let manifest: &[&str] = &["gemini-2.5-flash", "claude-3-haiku"];
    let plan = |flags| preferring(manifest, &Supported::Any, keys, ("anthropic", None), flags);
    assert_eq!(names(&plan((Some("gemini"), None))), ["gemini/gemini-2.5-flash"]);
    assert_eq!(names(&plan((None, Some("gpt-4o"))))[0], "openai/gpt-4o");
}
