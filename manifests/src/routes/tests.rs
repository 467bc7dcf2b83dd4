use super::*;

fn route(text: &str) -> Route {
    serde_yaml::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn refused(text: &str) -> String {
    route(text).check(&Catalog::builtin()).expect_err(text).to_string()
}

fn models(route: &Route) -> Vec<Vec<&str>> {
    route.steps().into_iter().map(|step| step.into_iter().map(|t| t.model.as_str()).collect()).collect()
}

#[test]
fn the_list_is_the_order_and_a_shared_priority_is_a_split() {
    let plain = route("targets: [{model: gpt-4o}, {model: claude-3-haiku}]");
    plain.check(&Catalog::builtin()).expect("fine");
    assert_eq!(models(&plain), [["gpt-4o"], ["claude-3-haiku"]]);

    let split = route(
        "{targets: [{model: gemini-2.5-flash, priority: 9}, {model: gpt-4o, priority: 1, weight: 3},
          {model: claude-3-haiku, priority: 1}], on: {context_too_long: next}}",
    );
    split.check(&Catalog::builtin()).expect("fine");
    assert_eq!(models(&split), [vec!["gpt-4o", "claude-3-haiku"], vec!["gemini-2.5-flash"]]);
    assert_eq!((split.targets[1].share(), split.targets[2].share()), (3, 1));
    assert_eq!((split.on.context_too_long, split.on.refused_by_filter), (After::Next, After::Stop));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, says) in [
        ("targets: []", "targets: a route has 1 to 32 targets"),
        ("targets: [{model: nobody-knows-it}]", "targets[0].model: no provider is known"),
        (
            "targets: [{model: gpt-4o, priority: 1}, {model: claude-3-haiku}]",
            "targets[1].priority: give every",
        ),
        (
            "targets: [{model: gpt-4o, weight: 2}, {model: claude-3-haiku}]",
            "targets[0].weight: no other target",
        ),
        ("targets: [{model: gpt-4o, priority: 1, weight: 2000}]", "targets[0].weight: it is at most 1000"),
        ("targets: [{model: gpt-4o, weight: 0}]", "targets: every target has the weight 0"),
        (
            "targets: [{model: gpt-4o}, {model: openai/gpt-4o}]",
            "targets[1].model: this is targets[0] once more",
        ),
        ("targets: [{model: gpt-4o, rename: \"a b\"}]", "targets[0].rename: "),
        (
            "targets: [{model: gpt-4o, keys: [ANTHROPIC_API_KEY]}]",
            "keys.ANTHROPIC_API_KEY: that is no key of openai",
        ),
        (
            "targets: [{model: gpt-4o, keys: {OPENAI_API_KEY: 0}}]",
            "targets[0].keys: it leaves the target without",
        ),
        (
            "targets: [{model: ollama/llama3.2, keys: [OPENAI_API_KEY]}]",
            "targets[0].keys: ollama takes no key",
        ),
    ] {
        let said = refused(text);
        assert!(said.contains(says), "{text}: {said}");
    }
}

#[test]
fn a_route_does_not_stand_in_a_models_place() {
    let catalog = Catalog::builtin();
    let mut routes = Routes::none();
    let any = route("targets: [{model: gpt-4o}]");
    for name in ["gpt-4o-mini", "claude-3-haiku", "auto"] {
        let error = routes.add(name.parse().unwrap(), any.clone(), &catalog).expect_err(name);
        assert!(error.field.is_empty(), "{error}");
    }
    for name in ["smart", "default", "team.fast-1"] {
        routes.add(name.parse().unwrap(), any.clone(), &catalog).expect(name);
    }
    for name in ["", "A", "a b", "-a", "openai/x", &"x".repeat(65)] {
        assert!(name.parse::<RouteName>().is_err(), "{name:?}");
    }
    assert_eq!(
        routes.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["default", "smart", "team.fast-1"]
    );
}

#[test]
fn the_first_of_two_owners_of_a_name_keeps_it() {
    let catalog = Catalog::builtin();
    let with = |pairs: &[(&str, &str)]| {
        let mut routes = Routes::none();
        for (name, model) in pairs {
            routes
                .add(name.parse().unwrap(), route(&format!("targets: [{{model: {model}}}]")), &catalog)
                .unwrap();
        }
        routes
    };
    let all = with(&[("a", "gpt-4o")]).joined_by(with(&[("a", "claude-3-haiku"), ("b", "claude-3-haiku")]));
    assert_eq!(all.get("a").unwrap().targets[0].model.as_str(), "gpt-4o");
    assert_eq!(all.get("b").unwrap().targets[0].model.as_str(), "claude-3-haiku");
}

#[test]
fn keys_are_a_list_or_weights_and_are_written_as_they_are_read() {
    let list = route("targets: [{model: gpt-4o, keys: [OPENAI_API_KEY_2, OPENAI_API_KEY]}]");
    list.check(&Catalog::builtin()).expect("fine");
    assert_eq!(list.targets[0].keys.weight("OPENAI_API_KEY_2"), Some(1));
    assert_eq!(list.targets[0].keys.weight("OPENAI_API_KEY_3"), None);
    let weights = route("targets: [{model: gpt-4o, keys: {OPENAI_API_KEY: 3, OPENAI_API_KEY_2: 0}}]");
    assert_eq!(weights.targets[0].keys.weight("OPENAI_API_KEY"), Some(3));
    assert_eq!(weights.targets[0].keys.weight("OPENAI_API_KEY_2"), None, "a weight of 0 takes it out");
    for route in [list, weights] {
        let json = serde_json::to_string(&route).unwrap();
        assert_eq!(serde_json::from_str::<Route>(&json).unwrap(), route, "{json}");
    }
    let error = serde_yaml::from_str::<Route>("targets: [{model: gpt-4o, keys: 7}]").unwrap_err().to_string();
    assert!(error.contains("a list of the keys' names"), "{error}");
}

#[test]
fn a_numbered_key_is_its_providers_and_nobody_elses() {
    let catalog = Catalog::builtin();
    let owner = |name: &str| catalog.provider_of_key(name).map(|provider| provider.slug.as_str());
    assert_eq!(owner("OPENAI_API_KEY"), Some("openai"));
    for name in ["OPENAI_API_KEY_2", "OPENAI_API_KEY_16"] {
        assert_eq!(owner(name), Some("openai"), "{name}");
    }
    for name in
        ["OPENAI_API_KEY_1", "OPENAI_API_KEY_17", "OPENAI_API_KEY_02", "OPENAI_API_KEY_", "OPENAI_API_KEY_X"]
    {
        assert_eq!(owner(name), None, "{name}");
    }
    assert_eq!(Provider::further_keys("K").next().as_deref(), Some("K_2"));
    assert_eq!(Provider::further_keys("K").count(), 15);
}
