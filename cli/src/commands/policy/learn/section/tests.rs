use proptest::prelude::*;

use super::super::asked::tests::decided;
use super::*;

fn learned(decisions: &[Value]) -> (Record, Section) {
    let record = Record::of(decisions);
    let section = Section::learned(&record);
    (record, section)
}

#[test]
fn hosts_methods_and_paths_are_merged_and_reasons_are_said() {
    let refused = Some("host_not_allowed");
    let mut trial = decided("GET", "https://api.example.com/status", None);
    trial["trial"] = json!("deny");
    let decisions: Vec<Value> = (1..=5)
        .map(|n| decided("GET", &format!("https://api.example.com/users/{n}/posts"), refused))
        .chain([
            trial,
            decided("GET", "https://api.example.com/users", refused),
            decided("POST", "https://api.example.com/users", refused),
            decided("HEAD", "https://api.example.com/users", refused),
            decided("GET", "https://api.example.com/repos/a/x", refused),
            decided("GET", "https://api.example.com/repos/b/x", refused),
            decided("GET", "https://api.example.com/repos/c/x", refused),
            decided("PUT", "http://b.example.com:8080/a*b", refused),
            decided("GET", "https://localhost/x", Some("name_refused")),
        ])
        .collect();
    let (_, section) = learned(&decisions);
    insta::assert_snapshot!(section.text("run_x (acme/x)"), @r#"
    # Learned from run_x (acme/x): 14 requests at 2 hosts. It asks for what was asked for, wanted or not: read it first.
    egress:
      # /users/*/posts stands for 5 paths that were seen: /users/1/posts, /users/2/posts, /users/3/posts, /users/4/posts, …
      - host: api.example.com
        methods: [GET]
        paths:
          - "/repos/a/x"
          - "/repos/b/x"
          - "/repos/c/x"
          - "/status"
          - "/users/*/posts"
      - host: api.example.com
        methods: [GET, HEAD, POST]
        paths: ["/users"]
      # /a*b was asked for as it stands, and is a pattern that allows more.
      - host: b.example.com
        scheme: http
        port: 8080
        methods: [PUT]
        paths: ["/a*b"]
    # Not in it, because no egress rule can allow it:
    #   GET https://localhost/x (name_refused: why)
    # The policy on trial would have refused:
    #   GET https://api.example.com/status
    "#);
    let json = section.json();
    assert_eq!(json["egress"].as_array().map(Vec::len), Some(3));
    assert_eq!(json["generalised"][0]["path"], "/users/*/posts");
    assert_eq!(json["not_covered"][0]["request"], "GET https://localhost/x");
    // It is a policy file as it stands.
    let policy = EgressWant::policy_in(&section.text("x"), Format::Yaml, "learned");
    assert_eq!(policy.expect("a policy").len(), 3);
}

#[test]
fn a_tunnel_stands_for_everything_at_its_host() {
    let mut tunnel = decided("CONNECT", "https://a.example.com/", Some("connect_narrowed"));
    tunnel["path"] = json!("");
    let mut odd = decided("CONNECT", "https://b.example.com:8443/", Some("host_not_allowed"));
    odd["path"] = json!("");
    let decisions = [
        tunnel,
        decided("GET", "https://a.example.com/x", None),
        odd,
        decided("GET", "https://b.example.com/y", None),
    ];
    let (_, section) = learned(&decisions);
    insta::assert_snapshot!(section.text("proxy.log"), @r#"
    # Learned from proxy.log: 4 requests at 3 hosts. It asks for what was asked for, wanted or not: read it first.
    egress:
      # A tunnel: anything may go through it. Requests to http://a.example.com/ are judged one by one, and sent over TLS.
      - host: a.example.com
      - host: b.example.com
        methods: [GET]
        paths: ["/y"]
      # A tunnel: anything may go through it.
      - host: b.example.com
        port: 8443
    "#);
    let items = json!([
        { "host": "a.example.com" },
        { "host": "b.example.com", "methods": ["GET"], "paths": ["/y"] },
        { "host": "b.example.com", "port": 8443 },
    ]);
    assert_eq!((&section.json()["egress"], section.left.len()), (&items, 0), "{section:#?}");
}

#[test]
fn two_are_no_family_and_words_are_no_identifiers() {
    let paths = |list: &[&'static str]| -> Vec<String> {
        of_one_method(&list.iter().copied().collect()).into_keys().collect()
    };
    assert_eq!(paths(&["/u/1", "/u/2"]), ["/u/1", "/u/2"]);
    assert_eq!(paths(&["/u/1", "/u/2", "/u/3"]), ["/u/*"]);
    assert_eq!(paths(&["/u/1", "/u/2", "/u/me", "/u/you", "/u/we"]).len(), 5);
    assert_eq!(paths(&["/v1/x", "/v2/x", "/v3/x"]).len(), 3);
    assert_eq!(paths(&["/u/1/p/7", "/u/1/p/8", "/u/1/p/9"]), ["/u/1/p/*"]);
    let grid = [
        "/u/1/p/1", "/u/1/p/2", "/u/1/p/3", "/u/2/p/1", "/u/2/p/2", "/u/2/p/3", "/u/3/p/1", "/u/3/p/2",
        "/u/3/p/3",
    ];
    assert_eq!(paths(&grid), ["/u/*/p/*"]);
    // The members of one family are no reason to take in a path of another.
    assert_eq!(paths(&["/u/1", "/u/2", "/u/3", "/u/4/x"]), ["/u/*", "/u/4/x"]);
}

#[test]
fn a_method_is_never_lent_to_a_sibling() {
    let refused = Some("nothing_allowed");
    let (record, section) = learned(&[
        decided("GET", "https://a.example.com/u/1", refused),
        decided("GET", "https://a.example.com/u/2", refused),
        decided("DELETE", "https://a.example.com/u/3", refused),
    ]);
    assert!(section.json()["generalised"].as_array().is_some_and(Vec::is_empty));
    let wants = EgressWant::policy_in(&section.text("x"), Format::Yaml, "learned").expect("a policy");
    let origin = record.asked.keys().next().expect("an origin");
    for (path, method, allowed) in
        [("/u/1", "GET", true), ("/u/3", "DELETE", true), ("/u/1", "DELETE", false)]
    {
        assert_eq!(allows(&granted(&wants), origin, path, method), allowed, "{method} {path}");
    }
}

#[test]
fn nothing_asked_for_is_nothing_allowed() {
    let (_, section) = learned(&[]);
    let text = section.text("run_x");
    assert!(text.ends_with("egress: []"), "{text}");
    assert_eq!(EgressWant::policy_in(&text, Format::Yaml, "learned").expect("a policy"), []);
}

#[test]
fn what_no_manifest_can_say_is_said() {
    let long = format!("/{}", "a".repeat(1100));
    let mut decision = decided("GET", "https://a.example.com/", Some("host_not_allowed"));
    decision["reason"]["rule_missing"] = json!({ "path": long });
    let (_, section) =
        learned(&[decision, decided("GET", "https://b.example.com/", Some("host_not_allowed"))]);
    assert_eq!((section.items.len(), section.left.is_empty()), (1, false), "{section:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_was_asked_for_is_allowed_and_a_stranger_is_not(
        rows in proptest::collection::vec(
            (0..3_usize, 0..3_usize, "(/[a-c]|/[0-9]{1,2}|/x[0-9]{6}|/%C3%BC|/\"'#?){1,3}"), 1..30)
    ) {
        let hosts = ["https://a.example.com", "https://b.example.com:8443", "http://c.example.com"];
        let methods = ["GET", "POST", "DELETE"];
        let decisions: Vec<Value> = rows
            .iter()
            .map(|(host, method, path)| decided(methods[*method], &format!("{}{path}", hosts[*host]), Some("host_not_allowed")))
            .collect();
        let (record, section) = learned(&decisions);
        let text = section.text("x");
        let wants = EgressWant::policy_in(&text, Format::Yaml, "learned");
        let wants = wants.map_err(|error| TestCaseError::fail(format!("{text}\n{error}")))?;
        let rules = granted(&wants);
        for (origin, paths) in &record.asked {
            for (path, methods) in paths {
                for method in ["GET", "POST", "DELETE", "PUT"] {
                    let asked = methods.contains(method);
                    if asked {
                        prop_assert!(allows(&rules, origin, path, method), "{method} {path}\n{text}");
                    } else if !text.contains('*') {
                        prop_assert!(!allows(&rules, origin, path, method), "{method} {path}\n{text}");
                    }
                }
            }
            prop_assert!(!allows(&rules, origin, "/never/asked/for", "GET"));
        }
    }
}
