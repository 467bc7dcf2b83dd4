use super::*;

fn message(text: &str) -> String {
    parse(text, "s.yaml").unwrap_err().to_string()
}

#[test]
fn the_whole_form_is_read() {
    let scenario = parse(
        r#"
rules:
  - provider: openai
    model: gpt-4o-mini
    attempts: 1-2
    answer: rate-limit
    status: 429
    headers: { Retry-After: 1, x-b: "two" }
    body: { error: { message: slow down } }
  - provider: primary
    attempts: 3-
    text: Exactly this.
    delay: 1.5s
    pause: 100ms
    cut: 3
  - attempts: 2
    answer: out-of-money
hosts:
  - host: API.GitHub.com
    method: GET
    path: /repos/acme/widget
    body: { stars: 3 }
  - host: example.org
    port: 8443
    status: 204
"#,
        "s.yaml",
    )
    .unwrap();
    assert_eq!(scenario.name(), "s.yaml");
    let [first, second, third] = &scenario.rules[..] else { panic!("three rules") };
    assert_eq!(first.who, Who::Provider("openai".to_owned()));
    assert_eq!(first.model.as_deref(), Some("gpt-4o-mini"));
    assert_eq!(first.attempts, Attempts { first: 1, last: 2 });
    assert_eq!(first.outcome, Outcome::RateLimit);
    assert_eq!(first.status, Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(
        first.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect::<Vec<_>>(),
        [("retry-after", "1"), ("x-b", "two")]
    );
    assert_eq!(first.body, Some(ScriptedBody::Json(serde_json::json!({"error": {"message": "slow down"}}))));
    assert_eq!(second.who, Who::Primary);
    assert_eq!(second.attempts, Attempts { first: 3, last: u32::MAX });
    assert_eq!((second.delay, second.pause), (Duration::from_millis(1500), Duration::from_millis(100)));
    assert_eq!((second.cut, second.text.as_deref()), (Some(3), Some("Exactly this.")));
    assert_eq!(third.who, Who::Any);
    assert_eq!(third.attempts, Attempts { first: 2, last: 2 });
    let [github, example] = &scenario.hosts[..] else { panic!("two hosts") };
    assert_eq!((github.host.as_str(), github.port), ("api.github.com", 443));
    assert_eq!(github.method, Some(Method::GET));
    assert_eq!(github.reply.body, ScriptedBody::Json(serde_json::json!({"stars": 3})));
    assert_eq!((example.port, example.reply.status), (8443, StatusCode::NO_CONTENT));
    assert_eq!((&example.method, &example.path), (&None, &None));
}

#[test]
fn errors_name_file_place_field_and_the_nearest_name() {
    let text = "rules:\n  - provider: openai\n    answr: rate-limit\n";
    let error = parse(text, "s.yaml").unwrap_err();
    assert_eq!(error.file.as_deref(), Some("s.yaml"));
    assert_eq!(error.place, Some((3, 5)));
    assert_eq!(error.nearest.as_deref(), Some("did you mean `answer`?"));
    assert!(error.to_string().starts_with("s.yaml:3:5: rules[0].answr: unknown field `answr`"), "{error}");

    let error = parse("rules:\n  - answer: rate-limt\n", "s.yaml").unwrap_err();
    assert_eq!(error.place, Some((2, 13)));
    assert_eq!(error.field.as_deref(), Some("rules[0].answer"));
    assert_eq!(error.nearest.as_deref(), Some("did you mean `rate-limit`?"));

    let error = parse("rulez: []\n", "s.yaml").unwrap_err();
    assert_eq!(error.nearest.as_deref(), Some("did you mean `rules`?"));
    assert_eq!(error.place, Some((1, 1)));
}

#[test]
fn values_are_checked_where_they_stand() {
    let rows = [
        ("rules:\n  - attempts: 3-1\n", "s.yaml:2:15: rules[0].attempts: `3-1` is no range"),
        ("rules:\n  - attempts: 0\n", "s.yaml:2:15: rules[0].attempts: `0` is no range"),
        ("rules:\n  - status: 99\n", "s.yaml:2:13: rules[0].status: `99` is no HTTP status"),
        ("rules:\n  - status: 101\n", "s.yaml:2:13: rules[0].status: `101` is no HTTP status"),
        ("rules:\n  - delay: 5\n", "s.yaml:2:12: rules[0].delay: `5` has no unit"),
        ("rules:\n  - delay: 1e9s\n", "s.yaml:2:12: rules[0].delay: `1e9s` is no duration"),
        ("rules:\n  - delay: 11m\n", "s.yaml:2:12: rules[0].delay: `11m` is too long"),
        ("rules:\n  - delay: .s\n", "s.yaml:2:12: rules[0].delay: `.s` is no duration"),
        ("rules:\n  - provider: Open AI\n", "s.yaml:2:15: rules[0].provider: `Open AI` is no provider"),
        ("rules:\n  - cut: -1\n", "s.yaml:2:10: rules[0].cut: invalid type"),
        (
            "rules:\n  - headers: { content-length: 3 }\n",
            "s.yaml:2:16: rules[0].headers: `content-length` cannot",
        ),
        ("rules:\n  - headers: { a b: x }\n", "s.yaml:2:16: rules[0].headers: `a b` is no header name"),
        ("hosts:\n  - path: /x\n", "s.yaml:2:5: hosts[0]: missing field `host`"),
        ("hosts:\n  - host: https://a.org\n", "s.yaml:2:11: hosts[0].host: `https://a.org` is no host name"),
        ("hosts:\n  - host: 10.0.0.1\n", "s.yaml:2:11: hosts[0].host: `10.0.0.1` is no host name"),
        ("hosts:\n  - host: \"*.x.org\"\n", "s.yaml:2:11: hosts[0].host: `*.x.org` is no host name"),
        (
            "hosts:\n  - host: a.org\n    method: get\n",
            "s.yaml:3:13: hosts[0].method: `get` is no HTTP method",
        ),
        ("hosts:\n  - host: a.org\n    path: /a?b\n", "s.yaml:3:11: hosts[0].path: `/a?b` is no path"),
        ("hosts:\n  - host: a.org\n    port: 0\n", "s.yaml:3:11: hosts[0].port: invalid value"),
    ];
    for (text, start) in rows {
        let message = message(text);
        assert!(message.starts_with(start), "{text}\n  gave {message}\n  not {start}");
    }
}

#[test]
fn what_is_no_yaml_or_no_mapping_is_an_error_with_a_place() {
    assert!(message("rules: [").starts_with("s.yaml:"), "{}", message("rules: ["));
    assert!(message("- a\n").contains("invalid type: sequence"), "{}", message("- a\n"));
    assert!(message("rules: 3\n").contains("rules: invalid type: integer"), "{}", message("rules: 3\n"));
}

#[test]
fn an_empty_document_scripts_nothing() {
    let scenario = parse("{}", "s.yaml").unwrap();
    assert!(scenario.rules.is_empty() && scenario.hosts.is_empty());
}
