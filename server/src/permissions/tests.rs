use orch_manifests::{ByteSize, Format, Limits};

use super::*;
use crate::run::LimitRequest;

fn manifest(rest: &str) -> Manifest {
    let text = format!("name: acme/x\nversion: 1.0.0\nmodule: x.wasm\nsupported_providers: [any]\n{rest}");
    Manifest::parse(&text, Format::Yaml, "orch.yaml").expect("a manifest")
}

fn want(fields: &str) -> EgressWant {
    manifest(&format!("egress: [{{ {fields} }}]")).egress.remove(0)
}

fn account() -> AccountWant {
    let llm = "llm: { primary: gpt-4o, account: [{ provider: openai, methods: [GET, DELETE], paths: [/v1/files, '/v1/files/*'] }] }";
    manifest(llm).llm.expect("models").account.remove(0)
}

fn mount(guest: &str, writable: bool) -> MountRequest {
    MountRequest { host: "/srv".into(), guest: guest.to_owned(), writable }
}

#[test]
fn an_allowed_host_covers_its_own_pattern_and_port() {
    for (allowed, wanted, covers) in [
        ("api.example.com", "host: api.example.com", true),
        ("API.example.COM", "host: api.example.com", true),
        ("api.example.com:443", "host: api.example.com", true),
        ("api.example.com", "host: api.example.com, port: 443", true),
        ("api.example.com:8443", "host: api.example.com, port: 8443", true),
        ("api.example.com", "host: api.example.com, port: 8443", false),
        ("api.example.com:8443", "host: api.example.com", false),
        ("api.example.com", "host: other.example.com", false),
        // What was allowed is HTTPS; plain HTTP has to be meant.
        ("api.example.com", "host: api.example.com, scheme: http", false),
        ("api.example.com:80", "host: api.example.com, scheme: http", true),
        // A pattern allows the same pattern; a wider word for a narrower want was not said.
        ("*.example.com", "host: '*.example.com'", true),
        ("*.example.com", "host: api.example.com", false),
        ("api.example.com", "host: '*.example.com'", false),
    ] {
        let allowed: AllowedHost = allowed.parse().expect(allowed);
        assert_eq!(allowed.covers(&want(wanted)), covers, "{allowed} {wanted}");
    }
}

#[test]
fn what_is_no_host_is_refused_with_its_text() {
    for bad in [
        "",
        "10.0.0.1",
        "[::1]:443",
        "*",
        "*.com",
        "a.example:",
        "a.example:0",
        "a.example:70000",
        "a.example:x",
        "https://a.example",
        "a.example/path",
    ] {
        let why = bad.parse::<AllowedHost>().expect_err(bad);
        assert!(why.contains(bad), "{why}");
    }
}

#[test]
fn the_text_of_an_allowed_host_allows_the_same() {
    for fields in ["host: a.example", "host: '*.a.example', port: 8443", "host: a.example, scheme: http"] {
        let want = want(fields);
        let text = AllowedHost::for_want(&want).to_string();
        assert!(text.parse::<AllowedHost>().expect("its own text").covers(&want), "{text}");
    }
}

/// What is remembered is this text, so it must tell apart whatever differs, and stay the same over versions.
#[test]
fn capabilities_have_one_text_each() {
    for (fields, text) in [
        ("host: a.example", "talk to https://a.example (any method)"),
        ("host: a.example, port: 443", "talk to https://a.example (any method)"),
        ("host: a.example, port: 8443", "talk to https://a.example:8443 (any method)"),
        ("host: a.example, scheme: http", "talk to http://a.example (any method)"),
        ("host: '*.a.example', methods: [GET, POST]", "talk to https://*.a.example (GET,POST)"),
        (
            "host: a.example, methods: [GET], paths: ['/r/**', /s]",
            "talk to https://a.example (GET; /r/** /s)",
        ),
    ] {
        assert_eq!(Capability::Egress(want(fields)).to_string(), text);
    }
    let secret = Capability::Secret { name: "TOKEN".to_owned(), host: "a.example".to_owned() };
    assert_eq!(secret.to_string(), "use the secret TOKEN toward a.example");
}

#[test]
fn the_combined_risk_names_what_is_read_and_who_hears_it() {
    let wanted = [
        Capability::Egress(want("host: b.example")),
        Capability::Egress(want("host: a.example")),
        Capability::Secret { name: "TOKEN".to_owned(), host: "a.example".to_owned() },
    ];
    assert_eq!(
        combined_risk("acme/x", &wanted, &[mount("/data", false), mount("/more", true)]),
        "Together: acme/x reads its input and /data, /more and can send what it reads to a.example, b.example."
    );
    for (wanted, risk) in [
        (
            Capability::ServerTool(ServerTool::ImageUrl),
            "talks to model providers only, which can pass it on to anybody.",
        ),
        (Capability::ServerTool(ServerTool::Code), "talks to model providers only."),
        (
            Capability::Account(account()),
            "talks to model providers only, in whose accounts it can leave and find things.",
        ),
    ] {
        let risk = format!("Together: acme/x reads its input and {risk}");
        assert_eq!(combined_risk("acme/x", &[wanted], &[]), risk);
    }
    assert_eq!(
        combined_risk("acme/x", &[], &[]),
        "Together: acme/x reads its input and talks to model providers only."
    );
}

#[test]
fn the_hints_of_a_refusal_grant_it() {
    let question = Question {
        agent: "acme/x".parse().expect("a name"),
        version: "1.0.0".to_owned(),
        digest: Digest::of(b"x"),
        dropped: Vec::new(),
        wanted: vec![
            Capability::Egress(want("host: a.example, port: 8443")),
            Capability::Egress(want("host: b.example, scheme: http")),
            Capability::Secret { name: "TOKEN".to_owned(), host: "a.example".to_owned() },
            Capability::ServerTool(ServerTool::Search),
            Capability::Account(account()),
        ],
        had: BTreeSet::new(),
        combined: "Together: much.".to_owned(),
    };
    let failure = not_granted(&question);
    assert_eq!((failure.kind(), failure.code()), (Kind::Denied, "not_granted"));
    assert_eq!(
        failure.hints(),
        [
            "--allow a.example:8443",
            "--allow b.example:80",
            "--secret TOKEN@a.example",
            "--grant llm.server_tools:search",
            "--grant 'llm.account:openai:GET:/v1/files,GET:/v1/files/*,DELETE:/v1/files,DELETE:/v1/files/*'"
        ]
    );
    assert_eq!(failure.to_json()["error"]["details"]["wanted"].as_array().map(Vec::len), Some(5));
}

#[test]
fn what_was_refused_for_good_says_how_that_is_changed() {
    let digest = Digest::of(b"x");
    let instead =
        Failure::new(Kind::Denied, "not_granted", "no").hint("--allow a.example").detail("name", "acme/x");
    let refused = ["talk to https://a.example (any method)".to_owned()];
    let failure = refused_for_good("acme/x 1.0.0", &digest, &refused, &instead);
    assert_eq!((failure.kind(), failure.code()), (Kind::Denied, "refused_by_user"));
    assert!(
        failure.message().contains("acme/x 1.0.0 wants to talk to https://a.example (any method): "),
        "{failure}"
    );
    let forget = failure.hints()[0].split(' ').nth(3).expect("a digest");
    assert!(forget.parse::<Whose>().expect("whose").means(&"acme/x".parse().expect("a name"), &digest));
    assert!(failure.hints()[1].starts_with("--allow a.example "), "{:?}", failure.hints());
    assert_eq!(
        (&failure.details()["name"], &failure.details()["refused"][0]),
        (&"acme/x".into(), &refused[0].as_str().into())
    );
}

#[test]
fn a_mount_is_never_wider_than_the_manifest_asks() {
    let manifest = manifest("files: [{ path: /data, access: read }, { path: /out, access: write }]");
    let check = |mounts: &[MountRequest]| check_mounts(&manifest, false, mounts);
    let both = check(&[mount("/data", true), mount("/out", true)]).expect("mounted");
    assert_eq!(both.iter().map(|m| m.writable).collect::<Vec<_>>(), [false, true]);
    // The caller may narrow.
    let narrow = check(&[mount("/data", false), mount("/out", false)]).expect("mounted");
    assert!(narrow.iter().all(|m| !m.writable));

    let missing = check(&[mount("/data", false)]).expect_err("missing");
    assert_eq!((missing.kind(), missing.code()), (Kind::Denied, "mount_missing"));
    assert!(missing.hints()[0].ends_with("::/out:rw"), "{:?}", missing.hints());
    let all = [mount("/data", false), mount("/out", true)];
    let more = [&all[..], &[mount("/more", false)]].concat();
    assert_eq!(check(&more).expect_err("not wanted").code(), "mount_not_wanted");
    let twice = [&all[..], &[mount("/data", false)]].concat();
    assert_eq!(check(&twice).expect_err("one place, two folders").code(), "mount_twice");
}

#[test]
fn a_bare_module_has_the_mounts_that_the_caller_says() {
    let manifest = manifest("");
    let mounts = check_mounts(&manifest, true, &[mount("/any", true)]).expect("mounted");
    assert!(mounts[0].writable);
}

#[test]
fn scratch_folders_are_the_manifests_to_ask_for_and_the_operators_to_bound() {
    let manifest = manifest("files: [{ path: /tmp, access: scratch }, { path: /cache, access: scratch }]");
    let none = Limits::default();
    let within =
        |ceilings: &Limits| RunLimits::of(LimitRequest::default(), &manifest.limits, &none, ceilings);
    let given = scratch(&manifest, &within(&none)).expect("given").expect("some");
    assert_eq!(
        (given.guests, given.bytes, given.files),
        (vec!["/tmp".to_owned(), "/cache".to_owned()], 64 << 20, 10_000)
    );
    for ceilings in [
        Limits { scratch: Some(ByteSize(0)), ..Limits::default() },
        Limits { scratch_files: Some(0), ..Limits::default() },
    ] {
        let failure = scratch(&manifest, &within(&ceilings)).expect_err("not here");
        assert_eq!((failure.kind(), failure.code()), (Kind::Denied, "scratch_unavailable"));
    }
    // Nothing needs to be mounted there, and nothing can be.
    assert!(check_mounts(&manifest, false, &[]).expect("nothing is missing").is_empty());
    let failure = check_mounts(&manifest, false, &[mount("/tmp", true)]).expect_err("taken");
    assert_eq!(failure.code(), "mount_not_wanted");
}
