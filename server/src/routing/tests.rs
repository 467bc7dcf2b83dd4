use std::time::{Duration, SystemTime};

use orch_gateway::KeyHealth;

use super::*;

fn route(text: &str) -> Route {
    serde_json::from_str(text).expect("a route")
}

fn name(text: &str) -> RouteName {
    text.parse().expect("a name")
}

const ANY: &str = r#"{"targets": [{"model": "gpt-4o"}]}"#;

fn routings(folder: &std::path::Path) -> (Routings, Store) {
    let store = Store::open(folder).expect("a store");
    (Routings::new(store.clone(), Arc::new(Catalog::builtin())), store)
}

fn names(routing: &Routing) -> Vec<&str> {
    routing.routes.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn a_workspace_has_its_own_routes_beside_the_operators() {
    let folder = tempfile::tempdir().expect("a folder");
    let (routings, _) = routings(folder.path());
    let catalog = Catalog::builtin();
    let mut operators = Routes::none();
    operators.add(name("theirs"), route(ANY), &catalog).expect("fine");
    let operators = Arc::new(operators);

    routings.put("a", &operators, name("mine"), route(ANY)).await.expect("stored");
    let (a, b) = (routings.of("a", &operators).await, routings.of("b", &operators).await);
    assert_eq!(names(&a.expect("read")), ["mine", "theirs"]);
    assert_eq!(names(&b.expect("read")), ["theirs"]);

    let refused =
        routings.put("a", &operators, name("theirs"), route(ANY)).await.expect_err("the operator's");
    assert_eq!(refused.code(), "route_of_operator");
    let nowhere = route(r#"{"targets": [{"model": "gpt-4o"}, {"model": "nobody-knows-it"}]}"#);
    let refused = routings.put("a", &operators, name("x"), nowhere).await.expect_err("it leads nowhere");
    assert_eq!((refused.code(), &refused.details()["field"]), ("route_invalid", &"targets[1].model".into()));

    // The configuration was read again, and has the name now.
    let reloaded = Arc::new(operators.joined_by({
        let mut more = Routes::none();
        more.add(name("mine"), route(r#"{"targets": [{"model": "claude-3-haiku"}]}"#), &catalog)
            .expect("fine");
        more
    }));
    let a = routings.of("a", &reloaded).await.expect("read");
    assert_eq!(a.routes.get("mine").expect("there").targets[0].model.as_str(), "claude-3-haiku");

    assert!(routings.remove("a", &operators, &name("mine")).await.expect("removed"));
    assert!(!routings.remove("a", &operators, &name("mine")).await.expect("gone"));
    assert_eq!(names(&routings.of("a", &operators).await.expect("read")), ["theirs"]);
}

#[tokio::test]
async fn routes_and_health_survive_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let none = Arc::default();
    {
        let (routings, store) = routings(folder.path());
        routings.put("a", &none, name("mine"), route(ANY)).await.expect("stored");
        let rejected = KeyHealth { version: 3, rejected: Some(7), ..KeyHealth::default() };
        store.note_health("a", "OPENAI_API_KEY", serde_json::to_string(&rejected).expect("text"));
        store.note_health("b", "OPENAI_API_KEY", "not what this program writes".to_owned());
        store.flush().await.expect("stored");
    }
    let (routings, store) = routings(folder.path());
    let a = routings.of("a", &none).await.expect("read");
    assert_eq!(names(&a), ["mine"]);
    assert_eq!(a.health.all()["OPENAI_API_KEY"].rejected, Some(7));
    assert!(routings.of("b", &none).await.expect("read").health.all().is_empty());

    // A change of routes leaves what is known of keys where it is, and a reset is stored, too.
    routings.put("a", &none, name("other"), route(ANY)).await.expect("stored");
    let again = routings.of("a", &none).await.expect("read");
    assert!(Arc::ptr_eq(&again.health, &a.health));
    assert!(again.health.reset("OPENAI_API_KEY"));
    store.flush().await.expect("stored");
    let rows = store.health_of_keys("a").await.expect("rows");
    let health: KeyHealth = serde_json::from_str(&rows[0].1).expect("JSON");
    assert!(health.is_fine(SystemTime::now() + Duration::from_secs(1)));
}
