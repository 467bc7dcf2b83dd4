use super::*;

fn open(request: &EgressRequest) -> Result<ClientPolicy, Failure> {
    ClientPolicy::open(&Config::default(), &Catalog::builtin(), request)
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn nothing_named_is_nothing_allowed() {
    let egress = open(&EgressRequest::default()).expect("a policy");
    assert!(egress.allowed().is_empty());
}

#[test]
fn flags_and_manifest_add_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("orch.yaml");
    let manifest = "name: local/job\nversion: 1.0.0\nmodule: job.wasm\negress:\n  - { host: b.example.com, methods: [GET], \
                    paths: [\"/v1/*\"] }\n  - { host: c.example.com, scheme: http, port: 8080 }\n";
    std::fs::write(&file, manifest).expect("written");
    for manifest in [file, folder.path().to_owned()] {
        let allow = texts(&["a.example.com", "*.a.example.com:8443"]);
        let egress = open(&EgressRequest { allow, manifest: Some(manifest), ..EgressRequest::default() });
        assert_eq!(
            egress.expect("a policy").allowed(),
            [
                "https://a.example.com",
                "https://*.a.example.com:8443",
                "https://b.example.com GET /v1/*",
                "http://c.example.com:8080",
            ]
        );
    }
}

#[test]
fn a_policy_file_names_hosts_and_limits_and_no_agent() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("policy.yaml");
    let with = |text: &str| {
        std::fs::write(&file, text).expect("written");
        open(&EgressRequest { manifest: Some(file.clone()), concurrent: 8, ..EgressRequest::default() })
    };
    let egress = with(
        "egress:\n  - { host: b.example.com, methods: [GET] }\nlimits: { requests: 7, concurrent: 100 }\n",
    );
    let egress = egress.expect("a policy");
    assert_eq!(egress.allowed(), ["https://b.example.com GET"]);
    assert_eq!((egress.limits.run.requests, egress.limits.run.concurrent), (7, 8));
    for (text, says) in [
        ("limits: { requests: 7 }", "has no `egress` list"),
        ("egress: []\nlimits: { memory: 1MiB }\n", "limits.memory: is a limit of a run"),
        ("egress: []\nsecrets: []\n", "policy.yaml:2:1: secrets: unknown field"),
        ("version: 1.0.0\negress: []\n", "version: unknown field"),
    ] {
        let failure = with(text).err().expect(text);
        assert_eq!(failure.code(), "manifest_invalid", "{text}");
        assert!(failure.message().contains(says), "{text}: {failure}");
    }
    let other = folder.path().join("policy.txt");
    std::fs::write(&other, "egress: []\n").expect("written");
    let failure =
        open(&EgressRequest { manifest: Some(other), ..EgressRequest::default() }).err().expect("no policy");
    assert!(failure.message().contains("a policy is a .yaml, .yml or .json file"), "{failure}");
}

#[test]
fn what_makes_no_sense_says_so() {
    let allow = texts(&["a.example.com", "b.example.com:8443"]);
    let request = EgressRequest { allow, ..EgressRequest::default() };
    for (request, code) in [
        (EgressRequest { allow: texts(&["10.0.0.1"]), ..request.clone() }, "bad_usage"),
        (EgressRequest { allow: texts(&["a.example.com:0"]), ..request.clone() }, "bad_usage"),
        (EgressRequest { opaque: texts(&["c.example.com"]), ..request.clone() }, "opaque_not_allowed"),
        (EgressRequest { opaque: texts(&["*"]), ..request.clone() }, "bad_usage"),
        (EgressRequest { secrets: texts(&["TOKEN"]), ..request.clone() }, "bad_usage"),
        (EgressRequest { secrets: texts(&["TOKEN@c.example.com"]), ..request.clone() }, "secret_unreachable"),
        (EgressRequest { secrets: texts(&["TOKEN@b.example.com"]), ..request.clone() }, "secret_unreachable"),
        (
            EgressRequest { secrets: texts(&["OPENAI_API_KEY@a.example.com"]), ..request.clone() },
            "secret_of_provider",
        ),
        (EgressRequest { manifest: Some("/nowhere.yaml".into()), ..request.clone() }, "manifest_invalid"),
    ] {
        match open(&request) {
            Ok(_) => panic!("{request:?} was taken"),
            Err(failure) => assert_eq!(failure.code(), code, "{request:?}"),
        }
    }
    assert!(open(&EgressRequest { opaque: texts(&["b.example.com"]), ..request }).is_ok());
}
