//! The configuration as a whole.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use orch_proxy::Timeouts;

use super::*;

fn parse(text: &str) -> Result<Config, Failure> {
    Config::parse(text, "config.yaml", Path::new("/nowhere"))
}

fn says(text: &str, part: &str) {
    let failure = parse(text).expect_err(text);
    assert!(matches!(failure.code(), "config_invalid"), "{failure:?}");
    assert!(failure.message().contains(part), "{failure} does not say {part:?}");
}

#[test]
fn what_an_operator_should_know_is_warned_of() {
    let warned = |more: &str| {
        let text = format!("egress: {{ upstream_proxy: {{ url: \"http://p.example:3128\"{more} }} }}");
        Config::parse(&text, "config.yaml", Path::new("/nowhere")).expect("a configuration").warnings().len()
    };
    let kept = parse("records: { bodies: { acme: { keep: 2d, size: 8KiB }, default: {} } }").expect("fine");
    assert_eq!(
        kept.warnings(),
        [
            "records.bodies: in the workspace acme what models are asked and answer is kept for 2d, up to 8 KiB of each",
            "records.bodies: in the workspace default what models are asked and answer is kept for 7d, up to 64 KiB of \
             each",
        ]
    );
    assert_eq!((warned(""), warned(", resolve: remote"), Config::default().warnings().len()), (0, 1, 0));
    let patient = |egress: &str| {
        let text = format!("gateway: {{ timeouts: {{ idle: 15m }} }}\negress: {{ {egress} }}");
        parse(&text).expect("fine").warnings()
    };
    assert_eq!(patient("timeouts: { idle: 15m }"), Vec::<String>::new());
    assert_eq!(
        patient(""),
        ["gateway.timeouts.idle is 15m, but egress.timeouts.idle ends a stream after 5m"]
    );
}

#[test]
fn nothing_is_the_default() {
    for text in ["", "\n\n", "# only a comment\n", "egress:\n  allow: []\n"] {
        let config = parse(text).expect("fine");
        assert!(config.egress.allow.is_empty() && config.providers.is_empty());
    }
}

#[test]
fn a_collector_is_a_url_and_nothing_else() {
    let config = parse("telemetry: { otlp_endpoint: \"http://127.0.0.1:4318\" }").expect("fine");
    assert_eq!(config.telemetry.endpoint.expect("a collector").authority(), "127.0.0.1:4318");
    for wrong in
        ["127.0.0.1:4318", "ftp://a.example", "http://user:pass@a.example", "http://a.example/?x=1", ""]
    {
        says(&format!("telemetry: {{ otlp_endpoint: {wrong:?} }}"), "telemetry.otlp_endpoint: ");
    }
    let all = "telemetry: { service_name: ours, resource: { deployment.environment.name: test }, trace_ratio: 0.25 }";
    let telemetry = parse(all).expect("fine").telemetry;
    assert_eq!((telemetry.service_name.as_deref(), telemetry.ratio), (Some("ours"), Some(0.25)));
    assert_eq!(telemetry.resource, [("deployment.environment.name".to_owned(), "test".to_owned())]);
    for (wrong, field) in [
        ("trace_ratio: 1.5", "trace_ratio"),
        ("trace_ratio: .nan", "trace_ratio"),
        ("service_name: \"\"", "service_name"),
        ("service_name: \"a\\nb\"", "service_name"),
        ("resource: { \"a b\": c }", "resource"),
        ("resource: { a: \"\" }", "resource"),
    ] {
        says(&format!("telemetry: {{ {wrong} }}"), &format!("telemetry.{field}: "));
    }
}

#[test]
fn connections_and_runs_are_bounded() {
    let config = parse("server: { max_connections: 20000, max_connections_per_peer: 20000 }").expect("fine");
    assert_eq!((config.max_connections, config.max_connections_per_peer), (20_000, 20_000));
    assert_eq!(Config::default().max_connections_per_peer, 256);
    says("server: { max_connections: 0 }", "server.max_connections: it is between 1 and 100000");
    says("server: { max_connections_per_peer: 100001 }", "server.max_connections_per_peer: it is between");
    says("server: { max_running: 0 }", "server.max_running: it is between");
}

#[test]
fn the_contract_s_example_parses() {
    let config = parse(
        r#"
server: { url: "https://orch.example.com" }
providers:
  openai: { base_url: "https://127.0.0.1:8443/v1" }
  lan-llm: { dialect: openai, base_url: "http://10.0.0.5:8000/v1", env: LAN_LLM_KEY, models: ["llama-*"] }
egress:
  allow: [api.github.com]
  connect_to: { "api.github.com:443": "127.0.0.1:9443" }
  name_servers: ["10.0.0.2", "[fd00::2]:5353"]
  upstream_proxy: null
routes:
  smart: { targets: [{ model: lan-llm/llama-3, rename: prod }, { model: gpt-4o, keys: [OPENAI_API_KEY_2] }] }
limits: { defaults: { time: 1m }, ceilings: { memory: 1GiB } }
vault: { key: auto }
"#,
    )
    .expect("parses");
    assert_eq!(config.providers.len(), 2);
    assert_eq!(config.routes.get("smart").expect("there").targets.len(), 2);
    assert!(parse("routes: {}").expect("none").routes.is_empty());
    let catalog = config.catalog().expect("complete");
    assert!(catalog.provider("openai").expect("built in").pinned);
    assert!(catalog.provider("lan-llm").expect("defined").pinned);
    assert!(!catalog.provider("anthropic").expect("built in").pinned);
    assert_eq!(config.egress.connect_to.len(), 1);
    assert_eq!(config.egress.connect_to[0].1.port(), 9443);
    let servers: Vec<String> = config.egress.name_servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["10.0.0.2:53", "[fd00::2]:5353"]);
}

/// The first YAML block of the README, with what is commented out as well.
#[test]
fn the_readme_s_example_parses_and_shows_every_key() {
    let readme = include_str!("../../../README.md");
    let (_, after) = readme.split_once("```yaml\n").expect("an example");
    let (example, _) = after.split_once("```").expect("its end");
    let config = parse(example).expect("parses");
    let catalog = config.catalog().expect("complete");
    assert!(catalog.provider("ollama").expect("built in").pinned);
    assert!(catalog.provider("lan-llm").expect("defined").free);
    let own = catalog.provider("openai").expect("built in").price("my-finetune").expect("set");
    assert_eq!((own.input_per_mtok.micros(), own.output_per_mtok.micros()), (3_000_000, 12_000_000));
    assert_eq!((config.egress.allow.len(), config.egress.connect_to.len()), (2, 1));
    assert_eq!(config.egress.trial, None);
    let with_trial = parse(&example.replace("# trial", "trial")).expect("parses");
    assert_eq!(with_trial.egress.trial.map(|policy| policy.len()), Some(1));
    assert!(config.default_limits.time.is_some() && config.limit_ceilings.cost_usd.is_some());
    assert!(example.contains("trusted_proxies") && example.contains("forwarded_header"));
    assert!(!config.server_names.is_empty());
    // What is shown is what holds anyway.
    let idle = config.egress.timeouts.idle;
    assert_eq!((config.timing, idle), (Timing::default(), Timeouts::default().idle));

    let uncommented = example.replace("# ca_file", "ca_file");
    says(&uncommented, "/nowhere/extra-roots.pem");
    for key in [
        "base_url",
        "dialect",
        "env",
        "models",
        "free",
        "prices",
        "defaults",
        "ceilings",
        "key: auto",
        "upstream_proxy",
        "timeouts",
        "silent",
        "require: []",
    ] {
        assert!(example.contains(key), "{key} is not shown");
    }
}

#[test]
fn nothing_is_lent_unless_it_is_written_down() {
    let config = parse("limits: {}").expect("fine");
    assert_eq!((config.platform.keys, config.byok.policy.as_str()), (None, "prefer_team"));
    let text = "byok: { policy: prefer_own, workspaces: { acme: require_team } }\n\
                platform: { keys: vault, workspace: ops, providers: [openai, google] }";
    let config = parse(text).expect("fine");
    assert_eq!(config.byok.policy.as_str(), "prefer_own");
    assert_eq!(config.byok.workspaces["acme"].as_str(), "require_team");
    let lent: Vec<&str> = config.platform.providers.iter().map(Slug::as_str).collect();
    let catalog = Catalog::builtin();
    let gemini = catalog.provider("google").expect("built in").slug.as_str();
    assert_eq!((lent, config.platform.workspace.as_str()), (vec!["openai", gemini], "ops"));
}

#[test]
fn each_mistake_is_named_with_its_place() {
    says("egres: {}", "config.yaml:1:1: unknown field");
    says("egress:\n  alow: []\n", "egress");
    says("egress:\n  allow: [\"10.0.0.1\"]\n", "egress.allow[0]");
    says("egress:\n  connect_to: { \"a.example\": \"127.0.0.1:1\" }\n", "HOST:PORT");
    says("egress:\n  connect_to: { \"a.example:443\": \"localhost:1\" }\n", "ADDRESS:PORT");
    says("egress:\n  name_servers: [dns.example.com]\n", "egress.name_servers[0]");
    says(
        "egress:\n  trial:\n    - hots: a.example.com\n",
        "config.yaml:3:7: egress.trial[0].hots: unknown field",
    );
    says("egress:\n  trial: [{ host: 10.0.0.1 }]\n", "IP address");
    says("egress:\n  trial:\n", "egress.trial: has no value");
    says("egress:\n  ca_file: absent.pem\n", "/nowhere/absent.pem");
    says("server:\n  ca_file: absent.pem\n", "server.ca_file");
    says("server: { trusted_proxies: [10.0.0.1, proxy] }", "server.trusted_proxies[1]");
    says("server: { trusted_proxies: [\"::/0\"] }", "everybody");
    says("server: { forwarded_header: via }", "expected `x-forwarded-for` or `forwarded`");
    says("providers:\n  openai: { base_url: \"ftp://x\" }\n", "providers");
    says("providers:\n  mine: { base_url: \"https://x.example/v1\", dialect: morse }\n", "dialect");
    says("limits: { ceilings: { memory: lots } }", "limits.ceilings.memory");
    says("limits: { defaults: { rate: fast } }", "limits.defaults.rate: `fast` is not a rate");
    says("limits: { ceilings: { per_host: { upload: 1M } } }", "limits.ceilings.per_host.upload");
    says("limits: { ceilings: { per_host: { tokens: 1 } } }", "unknown field `tokens`");
    says("egress: { upstream_proxy: \"socks5://p:1\" }", "egress.upstream_proxy.url: is not http");
    says("egress: { timeouts: { idle: soon } }", "egress.timeouts.idle");
    says("vault: { key: paper }", "is not auto, keychain, file, passphrase or systemd-credential");
    says("routes: { smart: { targets: [] } }", "routes.smart.targets: a route has 1 to 32 targets");
    says(
        "routes: { gpt-4o: { targets: [{ model: gpt-4o }] } }",
        "routes.gpt-4o: `gpt-4o` is a model of openai",
    );
    says("routes: { A: { targets: [{ model: gpt-4o }] } }", "routes.A: `A` is no name of a route");
    says("routes: { a: { targets: [{ model: gpt-4o, wait: 1 }] } }", "unknown field `wait`");
    says("byok: { policy: sometimes }", "byok.policy: \"sometimes\" is not a policy");
    says("byok: { workspaces: { acme: never } }", "byok.workspaces.acme: \"never\" is not a policy");
    says("byok: { workspaces: { \"a/b\": disabled } }", "byok.workspaces.a/b: ");
    says("platform: { keys: paper, providers: [openai] }", "unknown variant `paper`");
    says("platform: { providers: [openai] }", "platform.keys: says where the platform's keys are");
    says("platform: { keys: vault }", "platform.providers: names the providers");
    says(
        "platform: { keys: vault, providers: [openai, nobody] }",
        "platform.providers[1]: \"nobody\" is no provider",
    );
    says("platform: { keys: vault, providers: [ollama] }", "platform.providers[0]: ollama wants no key");
    says(
        "platform: { keys: env, workspace: ops, providers: [openai] }",
        "platform.workspace: is for keys of the vault",
    );
    says("records: { bodies: { a: { keep: 0s } } }", "records.bodies.a.keep");
    says("records: { bodies: { a: { keep: 91d } } }", "at most 90d");
    says("records: { bodies: { a: { size: 2MiB } } }", "records.bodies.a.size");
    says("records: { bodies: { a: { size: 0 } } }", "from 1 byte");
    says("records: { bodies: { a: { sise: 1 } } }", "unknown field `sise`");
    says("records: { body: {} }", "unknown field `body`");
    says("records: { bodies: { Acme Inc: {} } }", "records.bodies.Acme Inc");
    says("a: [", "config.yaml:");
    says("- 1", "config.yaml");
}

#[test]
fn incomplete_or_greedy_providers_are_refused() {
    for (text, part) in [
        ("providers:\n  mine: { base_url: \"https://x.example/v1\", env: K }\n", "dialect"),
        (
            "providers:\n  mine: { base_url: \"https://x.example/v1\", dialect: openai, env: OPENAI_API_KEY }\n",
            "key of `openai`",
        ),
    ] {
        let failure = parse(text).expect("parses").catalog().expect_err(text);
        assert!(failure.message().contains(part), "{failure}");
    }
}

#[test]
fn a_misspelt_key_gets_its_neighbour() {
    let failure = parse("egress:\n  alow: []\n").expect_err("refused");
    assert_eq!(failure.hints(), ["did you mean `allow`?"]);
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("config.yaml");
    let set = BTreeMap::from([("ORCH_HOME".to_owned(), dir.path().display().to_string())]);
    let home = Home::locate(&Environment::Fixed(set)).expect("a home");
    assert!(Config::load(&home).expect("no file is the default").egress.allow.is_empty());

    fs::write(&path, "egress: { allow: [api.example.com] }").expect("written");
    assert_eq!(Config::load(&home).expect("fine").egress.allow.len(), 1);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("opened");
    assert_eq!(Config::load(&home).expect_err("refused").code(), "file_unsafe");

    let roots = dir.path().join("roots.pem");
    fs::write(&roots, "").expect("written");
    fs::set_permissions(&roots, fs::Permissions::from_mode(0o666)).expect("opened");
    let failure = Config::parse("egress: { ca_file: roots.pem }", "config.yaml", dir.path());
    let failure = failure.expect_err("refused");
    assert!(failure.message().contains("written to by other users"), "{failure}");

    fs::rename(&path, dir.path().join("elsewhere.yaml")).expect("moved");
    std::os::unix::fs::symlink(dir.path().join("elsewhere.yaml"), &path).expect("linked");
    let failure = Config::load(&home).expect_err("refused");
    assert!(failure.message().contains("symbolic link"), "{failure}");
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("made");
    assert_eq!(Config::load(&home).expect_err("refused").code(), "file_unsafe");
}
