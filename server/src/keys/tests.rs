use orch_manifests::{Format, Scheme};
use orch_proxy::{Asked, Place, Use};
use orch_vault::{AuditEvent, ExpectedVersion, GrantTerms, SecretMeta, ValuePlace};
use tempfile::TempDir;

use super::*;
use crate::environment::Environment;

const KEY: &str = "sk-0123456789abcdef0123456789abcdef";
const OTHER: &str = "sk-fedcba9876543210fedcba9876543210";

/// A vault in a folder of its own, an environment, and what is asked of them.
struct Stage {
    _folder: TempDir,
    vault: VaultLocation,
    environment: Environment,
    catalog: Catalog,
    run: RunId,
}

/// What a question says beside the providers.
#[derive(Default)]
struct Said<'a> {
    manifest: &'a str,
    bare: bool,
    flags: &'a [(Option<&'a str>, &'a str)],
    secrets: &'a [&'a str],
}

impl Stage {
    fn new(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let vault = VaultLocation {
            store: folder.path().join("vault"),
            key_file: folder.path().join("vault.key"),
            workspace: "default".to_owned(),
            custody: orch_vault::Custody::default(),
        };
        let set = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment = Environment::Fixed(set.collect());
        Self { _folder: folder, vault, environment, catalog: Catalog::builtin(), run: RunId::random() }
    }

    fn store(&self, name: &str, value: &str, meta: SecretMeta) {
        let mut vault = Vault::open(&self.vault, OpenMode::Create).expect("a vault");
        let secret = Secret::new(value.as_bytes().to_vec());
        vault.set(&name.parse().expect("a name"), secret, meta, ExpectedVersion::Any).expect("stored");
    }

    /// Asks for the keys of these providers, and for what the manifest says.
    fn ask(&self, providers: &[&str], said: &Said<'_>) -> Result<Keys, Failure> {
        self.answer(providers, said, |question| {
            question.open(&KeySources::new(&self.environment, &self.catalog, &self.vault))
        })
    }

    fn answer<T>(
        &self,
        providers: &[&str],
        said: &Said<'_>,
        ask: impl FnOnce(KeyQuestion<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let text = format!(
            "name: acme/x\nversion: 1.0.0\nmodule: x.wasm\nsupported_providers: [any]\n{}",
            said.manifest
        );
        let manifest = Manifest::parse(&text, Format::Yaml, "orch.yaml").expect("a manifest");
        let wanted: Vec<&Provider> =
            providers.iter().map(|slug| self.catalog.provider(slug).expect("known")).collect();
        let searched: Vec<&Provider> =
            manifest.search.iter().filter_map(|slug| self.catalog.searcher(slug.as_str())).collect();
        let grants = said.secrets.iter().map(|text| SecretGrant::parse(text, &self.catalog));
        let secret_grants = grants.collect::<Result<Vec<_>, _>>()?;
        let flag = |(provider, key): &(Option<&str>, &str)| FlagKey {
            provider: provider.map(str::to_owned),
            secret: Secret::new(key.as_bytes().to_vec()),
        };
        let flags: Vec<FlagKey> = said.flags.iter().map(flag).collect();
        ask(KeyQuestion {
            run: &self.run,
            manifest: &manifest,
            bare: said.bare,
            wanted: &wanted,
            searched: &searched,
            flags: &flags,
            names_prove: true,
            lends: false,
            secret_grants: &secret_grants,
        })
    }

    /// The planned uses on record.
    fn audited(&self) -> Vec<(String, String)> {
        let vault = Vault::open(&self.vault, OpenMode::ReadOnlyIfExists).expect("a vault");
        let records = vault.audit().expect("an audit log").into_iter();
        records
            .filter_map(|record| match record.event {
                AuditEvent::UsePlanned { run, secret, host, .. } => {
                    assert_eq!(run, self.run.to_string());
                    Some((secret.to_string(), host))
                }
                _ => None,
            })
            .collect()
    }
}

/// What a credential puts into a request: the only way to its value.
fn injected(credential: &Arc<dyn Credential>) -> String {
    let mut parts = http::Request::new(()).into_parts().0;
    let endpoint = "https://api.example.com".parse().expect("an endpoint");
    credential
        .authorize(&mut parts, None, Use::Own { endpoint: &endpoint, pinned: false })
        .expect("authorised");
    let values: Vec<_> = parts.headers.values().map(|v| v.to_str().expect("text").to_owned()).collect();
    values.join(",")
}

fn provider<'k>(keys: &'k Keys, slug: &str) -> Option<&'k Arc<dyn Credential>> {
    keys.providers.get(&slug.parse::<Slug>().expect("a slug"))
}

fn refused(answer: Result<Keys, Failure>) -> Failure {
    match answer {
        Ok(_) => panic!("not refused"),
        Err(failure) => failure,
    }
}

fn to(hosts: &[&str]) -> SecretMeta {
    granted(hosts, &GrantTerms::default())
}

/// These terms at each of these hosts.
fn granted(hosts: &[&str], terms: &GrantTerms) -> SecretMeta {
    let grant = |host: &&str| GrantTerms { host: Some((*host).to_owned()), ..terms.clone() };
    SecretMeta { grants: Some(hosts.iter().map(grant).collect()), ..SecretMeta::default() }
}

fn hosts_of(secret: &BoundSecret) -> Vec<String> {
    secret.ways.iter().map(|way| way.target.host.to_string()).collect()
}

#[test]
fn a_flag_may_name_its_provider() {
    let catalog = Catalog::builtin();
    for (text, provider, key) in [
        ("openai=sk-a", Some("openai"), "sk-a"),
        ("google=sk-a", Some("gemini"), "sk-a"),
        ("sk-A1=b=", None, "sk-A1=b="),
        ("=sk-a", None, "=sk-a"),
        ("sk=", None, "sk="),
        ("AB=cd", None, "AB=cd"),
        ("openai=", Some("openai"), ""),
        ("Groq=gsk_0123456789", Some("groq"), "gsk_0123456789"),
        ("Bedrock=ABSK0123456789", Some("aws"), "ABSK0123456789"),
    ] {
        let flag = flag_key(&Secret::new(text.as_bytes().to_vec()), &catalog)
            .unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(flag.provider.as_deref(), provider, "{text}");
        flag.secret.expose(|value| assert_eq!(value, key.as_bytes(), "{text}"));
    }
    let Err(mistyped) = flag_key(&Secret::new(b"opneai=sk-a".to_vec()), &catalog) else { panic!("taken") };
    assert_eq!(mistyped.code(), "provider_unknown");
    assert!(!mistyped.message().contains("sk-a") && mistyped.hints()[0].contains("openai"), "{mistyped}");
    // Taken as a key, it would be sent whole to another provider.
    let capital = flag_key(&Secret::new(b"Antropic=sk-ant-a".to_vec()), &catalog);
    assert_eq!(capital.err().map(|e| e.hints()[0].clone()).as_deref(), Some("did you mean anthropic?"));
}

#[test]
fn flag_then_environment_then_vault() {
    let stage = Stage::new(&[("OPENAI_API_KEY", KEY), ("GOOGLE_API_KEY", OTHER)]);
    stage.store("OPENAI_API_KEY", OTHER, SecretMeta::default());
    stage.store("ANTHROPIC_API_KEY", OTHER, SecretMeta::default());

    let all = ["openai", "anthropic", "gemini", "ollama"];
    let keys = stage.ask(&all, &Said::default()).expect("keys");
    let of = |slug| provider(&keys, slug).map(|held| (held.id(), held.source(), injected(held)));
    assert_eq!(of("openai"), Some(("OPENAI_API_KEY", "env", format!("Bearer {KEY}"))));
    assert_eq!(of("anthropic"), Some(("ANTHROPIC_API_KEY", "vault", OTHER.to_owned())));
    assert_eq!(of("gemini").map(|(name, source, _)| (name, source)), Some(("GOOGLE_API_KEY", "env")));
    assert_eq!(of("ollama"), None);
    assert!(keys.missing.is_empty(), "a provider without keys misses none");

    let flag = Said { flags: &[(None, "sk-flag-flag-flag-flag")], ..Said::default() };
    let keys = stage.ask(&all, &flag).expect("keys");
    let held = provider(&keys, "openai").expect("the primary's");
    assert_eq!((held.source(), injected(held)), ("flag", "Bearer sk-flag-flag-flag-flag".to_owned()));
}

#[test]
fn each_of_two_flags_goes_to_its_provider() {
    let stage = Stage::new(&[]);
    let flags = [(Some("anthropic"), OTHER), (None, KEY)];
    let keys = stage.ask(&["openai", "anthropic"], &Said { flags: &flags, ..Said::default() }).expect("keys");
    assert_eq!(injected(provider(&keys, "openai").expect("bare")), format!("Bearer {KEY}"));
    assert_eq!(injected(provider(&keys, "anthropic").expect("named")), OTHER);

    let twice = [(Some("openai"), OTHER), (None, KEY)];
    let failure = refused(stage.ask(&["openai"], &Said { flags: &twice, ..Said::default() }));
    assert_eq!(failure.code(), "bad_usage");
    let unused = [(Some("gemini"), OTHER)];
    let failure = refused(stage.ask(&["openai"], &Said { flags: &unused, ..Said::default() }));
    assert!(failure.message().contains("gemini"), "{failure}");
}

#[test]
fn what_is_missing_says_where_it_was_looked_for() {
    let keys = Stage::new(&[("OPENAI_API_KEY", " \n")]).ask(&["openai"], &Said::default()).expect("none");
    assert!(keys.providers.is_empty());
    let places: Vec<_> = keys.missing[0].looked_for.iter().map(|place| place.source.as_str()).collect();
    assert_eq!(places, ["flag", "env", "vault"]);
}

#[test]
fn only_names_of_the_catalog_are_taken_from_the_environment() {
    let stage = Stage::new(&[("TOKEN", KEY), ("OPENAI_API_KEY", KEY)]);
    let sources = KeySources::new(&stage.environment, &stage.catalog, &stage.vault);
    let lookup: &dyn orch_vault::Lookup = &sources;
    assert!(lookup.env("OPENAI_API_KEY") && !lookup.env("TOKEN"));
    assert!(sources.in_environment("TOKEN").is_none());
    let manifest = "secrets: [{ name: TOKEN, hosts: [api.example.com] }]";
    assert_eq!(refused(stage.ask(&[], &Said { manifest, ..Said::default() })).code(), "secret_missing");
}

#[test]
fn a_key_that_no_header_can_carry_ends_the_run_or_is_left_out_aloud() {
    let stage = Stage::new(&[("OPENAI_API_KEY", "sk with blanks"), ("ANTHROPIC_API_KEY", KEY)]);
    let failure = refused(stage.ask(&["openai", "anthropic"], &Said::default()));
    assert_eq!((failure.kind(), failure.code()), (Kind::NoKey, "key_unusable"));
    assert!(failure.message().contains("OPENAI_API_KEY") && !failure.message().contains("blanks sk"));

    // The same key of a provider that is not asked first.
    let keys = stage.ask(&["anthropic", "openai"], &Said::default()).expect("the other's");
    assert!(provider(&keys, "openai").is_none() && provider(&keys, "anthropic").is_some());
    let warnings = keys.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("OPENAI_API_KEY"), "{warnings:?}");

    let flags = [(Some("openai"), "sk with blanks")];
    let said = Said { flags: &flags, ..Said::default() };
    assert_eq!(refused(stage.ask(&["anthropic", "openai"], &said)).code(), "key_unusable");
}

#[test]
fn a_key_of_another_provider_ends_the_run_or_is_left_out_aloud() {
    let foreign = "sk-ant-api03-0123456789abcdefghij0123456789";
    let stage = Stage::new(&[("OPENAI_API_KEY", foreign), ("GEMINI_API_KEY", KEY)]);
    let failure = refused(stage.ask(&["openai", "gemini"], &Said::default()));
    assert_eq!((failure.kind(), failure.code()), (Kind::NoKey, "key_unusable"));
    assert!(
        failure.message().contains("OPENAI_API_KEY (env) is a key of Anthropic"),
        "{}",
        failure.message()
    );
    assert!(failure.hints()[0].contains("ANTHROPIC_API_KEY"), "{:?}", failure.hints());
    let keys = stage.ask(&["gemini", "openai"], &Said::default()).expect("the other's");
    assert!(provider(&keys, "openai").is_none() && provider(&keys, "gemini").is_some());
    assert!(keys.warnings()[0].contains("is a key of Anthropic"), "{:?}", keys.warnings());
}

#[test]
fn what_terms_forbid_is_said_of_a_token_that_nobody_stored() {
    let token = "sk-ant-oat01-0123456789abcdefghij0123456789";
    let stage = Stage::new(&[("CLAUDE_CODE_OAUTH_TOKEN", token), ("OPENAI_API_KEY", KEY)]);
    let said = |first: &[&str]| stage.ask(first, &Said::default()).expect("keys").warnings();
    assert!(said(&["claude-code", "openai"])[0].contains("does not permit"));
    assert_eq!(said(&["openai", "claude-code"]), Vec::<String>::new(), "it is not what is thought with");
}

#[test]
fn a_key_too_short_to_scrub_is_warned_of_whatever_its_source() {
    let stage = Stage::new(&[("ANTHROPIC_API_KEY", "sk-short")]);
    stage.store("GEMINI_API_KEY", "sk-tiny", SecretMeta { scrubbable: false, ..SecretMeta::default() });
    stage.store("TOKEN", "tiny", SecretMeta { scrubbable: false, ..to(&["a.example"]) });
    let said =
        Said { flags: &[(None, "sk-flag")], manifest: "secrets: [{ name: TOKEN }]", ..Said::default() };
    let warnings = stage.ask(&["openai", "anthropic", "gemini"], &said).expect("keys").warnings();
    for (name, source) in [
        ("OPENAI_API_KEY", "flag"),
        ("ANTHROPIC_API_KEY", "env"),
        ("GEMINI_API_KEY", "vault"),
        ("TOKEN", "vault"),
    ] {
        assert!(
            warnings.iter().any(|w| w.starts_with(name) && w.contains(&format!("({source})"))),
            "{name}: {warnings:?}"
        );
    }
    assert_eq!(warnings.len(), 4);
    assert!(!warnings.concat().contains("sk-"), "{warnings:?}");

    let sixteen = Stage::new(&[("OPENAI_API_KEY", "0123456789abcdef")]);
    assert!(sixteen.ask(&["openai"], &Said::default()).expect("keys").warnings().is_empty());
}

#[test]
fn planned_uses_are_on_record_once_the_run_is_permitted() {
    let stage = Stage::new(&[("OPENAI_API_KEY", KEY)]);
    stage.store("ANTHROPIC_API_KEY", KEY, SecretMeta::default());
    stage.store("TOKEN", KEY, to(&["a.example", "b.example"]));
    let said = Said { manifest: "secrets: [{ name: TOKEN, hosts: [a.example] }]", ..Said::default() };
    let keys = stage.ask(&["openai", "anthropic"], &said).expect("keys");
    assert!(stage.audited().is_empty(), "a run that is refused has used nothing");

    keys.record_uses(&stage.vault).expect("recorded");
    let mut audited = stage.audited();
    audited.sort();
    let row = |secret: &str, host: &str| (secret.to_owned(), host.to_owned());
    assert_eq!(audited, [row("ANTHROPIC_API_KEY", "api.anthropic.com"), row("TOKEN", "a.example")]);
}

#[test]
fn keys_that_are_elsewhere_need_no_vault() {
    let stage = Stage::new(&[("OPENAI_API_KEY", KEY)]);
    let keys = stage.ask(&["openai"], &Said::default()).expect("keys");
    keys.record_uses(&stage.vault).expect("nothing to record");
    assert!(!stage.vault.store.exists() && !stage.vault.key_file.exists());
}

#[test]
fn a_secret_goes_where_its_owner_said_and_the_manifest_asks() {
    let stage = Stage::new(&[]);
    let place = Some(ValuePlace::Header("x-token".to_owned()));
    let terms = GrantTerms { place, ..GrantTerms::default() };
    stage.store("TOKEN", KEY, granted(&["*.a.example", "b.example"], &terms));
    let hosts = |manifest: &str, secrets: &[&str]| -> Result<Vec<String>, Failure> {
        let keys = stage.ask(&[], &Said { manifest, secrets, ..Said::default() })?;
        let header = Place::Header(http::HeaderName::from_static("x-token"));
        assert!(keys.secrets.len() == 1 && keys.secrets[0].ways.iter().all(|way| way.place == header));
        Ok(hosts_of(&keys.secrets[0]))
    };
    assert_eq!(hosts("secrets: [{ name: TOKEN }]", &[]).expect("bound"), ["*.a.example", "b.example"]);
    let narrowed = "secrets: [{ name: TOKEN, hosts: [x.a.example, c.example] }]";
    assert_eq!(hosts(narrowed, &[]).expect("bound"), ["x.a.example"]);
    // The caller is an owner as well.
    assert_eq!(hosts(narrowed, &["TOKEN@c.example"]).expect("bound"), ["c.example", "x.a.example"]);

    let elsewhere = "secrets: [{ name: TOKEN, hosts: [c.example] }]";
    assert_eq!(hosts(elsewhere, &[]).expect_err("unbound").code(), "secret_unbound");
    let unasked = hosts("", &["TOKEN@b.example"]).expect_err("not wanted");
    assert_eq!(unasked.code(), "secret_not_wanted");
}

#[test]
fn the_caller_grants_the_hosts_that_it_names_and_no_other() {
    let stage = Stage::new(&[]);
    stage.store("TOKEN", KEY, to(&["a.example", "b.example"]));
    let manifest = "secrets: [{ name: TOKEN }]";
    let ungranted = |secrets: &[&str]| {
        let keys = stage.ask(&[], &Said { manifest, secrets, ..Said::default() }).expect("keys");
        keys.ungranted.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let (a, b) = ("use the secret TOKEN toward a.example", "use the secret TOKEN toward b.example");
    assert_eq!(ungranted(&[]), [a, b]);
    assert_eq!(ungranted(&["TOKEN@a.example"]), [b]);
    assert!(ungranted(&["TOKEN@a.example", "TOKEN@b.example"]).is_empty());
}

#[test]
fn an_owner_who_names_agents_means_them_alone() {
    let stage = Stage::new(&[]);
    let agents = |agent: &str| {
        granted(&["a.example"], &GrantTerms { agents: vec![agent.to_owned()], ..GrantTerms::default() })
    };
    stage.store("MINE", KEY, agents("acme/x"));
    stage.store("THEIRS", KEY, agents("acme/y"));
    let mine = Said { manifest: "secrets: [{ name: MINE }]", ..Said::default() };
    assert!(stage.ask(&[], &mine).expect("keys").ungranted.is_empty());
    let theirs = Said { manifest: "secrets: [{ name: THEIRS }]", ..Said::default() };
    let failure = refused(stage.ask(&[], &theirs));
    assert_eq!((failure.kind(), failure.code()), (Kind::Denied, "secret_not_for_agent"));
    // Who runs it may say otherwise, for this run.
    let said = Said { secrets: &["THEIRS@a.example"], ..theirs };
    assert!(stage.ask(&[], &said).expect("keys").ungranted.is_empty());
}

#[test]
fn a_bare_module_gets_what_the_command_line_names_once() {
    let stage = Stage::new(&[]);
    stage.store("TOKEN", KEY, to(&["of-the-row.example"]));
    let said = Said { bare: true, secrets: &["TOKEN@a.example", "TOKEN@b.example"], ..Said::default() };
    let keys = stage.ask(&[], &said).expect("keys");
    assert_eq!(keys.secrets.len(), 1);
    assert_eq!(hosts_of(&keys.secrets[0]), ["a.example", "b.example"]);
    assert!(keys.ungranted.is_empty());
    let key = Said { bare: true, secrets: &["OPENAI_API_KEY@evil.example"], ..Said::default() };
    assert_eq!(refused(stage.ask(&[], &key)).code(), "secret_of_provider");
}

#[test]
fn a_secret_that_never_goes_into_a_header_is_not_bound_to_one() {
    let stage = Stage::new(&[]);
    stage.store("PEM", KEY, SecretMeta { never_in_header: true, ..to(&["a.example"]) });
    let said = Said { manifest: "secrets: [{ name: PEM }]", ..Said::default() };
    assert_eq!(refused(stage.ask(&[], &said)).code(), "secret_invalid");
}

#[test]
fn a_simulated_run_touches_neither_environment_nor_vault() {
    let stage = Stage::new(&[("OPENAI_API_KEY", KEY)]);
    stage.store("TOKEN", KEY, to(&["a.example"]));
    let said = Said { manifest: "secrets: [{ name: TOKEN, hosts: [b.example] }]", ..Said::default() };
    let keys =
        stage.answer(&["openai"], &said, |question| question.simulated(&BTreeMap::new())).expect("keys");
    assert!(keys.providers.is_empty(), "what the simulation does not hand out is not there");
    let bound = &keys.secrets[0];
    assert_eq!((bound.credential.source(), bound.ways.len()), ("simulated", 1));
    assert!(bound.credential.scrubber().is_some(), "it is scrubbed like a real one");
    let mut parts = http::Request::new(()).into_parts().0;
    let placeholder = orch_proxy::Placeholder::random();
    parts.headers.insert("authorization", placeholder.as_str().parse().expect("a value"));
    let (host, path) = ("b.example".parse().expect("a host"), "/".parse().expect("a path"));
    let how = Use::Swap {
        asked: Asked {
            scheme: Scheme::Https,
            host: &host,
            port: 443,
            method: &http::Method::GET,
            path: &path,
        },
        place: &Place::Header(http::header::AUTHORIZATION),
        placeholder: &placeholder,
    };
    bound.credential.authorize(&mut parts, None, how).expect("swapped");
    let value = parts.headers["authorization"].to_str().expect("text");
    assert!(value.starts_with("orch-simulated-"), "{value}");
    keys.record_uses(&stage.vault).expect("nothing to record");
    assert!(stage.audited().is_empty());

    let said = Said { flags: &[(None, KEY)], ..Said::default() };
    let answer = stage.answer(&["openai"], &said, |question| question.simulated(&BTreeMap::new()));
    assert_eq!(refused(answer).code(), "bad_usage");
}

#[test]
fn a_provider_s_key_is_for_whom_its_owner_says() {
    let stage = Stage::new(&[]);
    let grant = |terms: GrantTerms| SecretMeta { grants: Some(vec![terms]), ..SecretMeta::default() };
    let agents = |agent: &str| GrantTerms { agents: vec![agent.to_owned()], ..GrantTerms::default() };
    stage.store("OPENAI_API_KEY", KEY, grant(agents("acme/x")));
    let keys = stage.ask(&["openai"], &Said::default()).expect("keys");
    assert_eq!(keys.uses[0].grant.map(GrantId::get), Some(1));
    assert!(keys.ungranted.is_empty(), "on the user's own machine a name is enough");

    stage.store("OPENAI_API_KEY", KEY, grant(agents("acme/y")));
    let failure = refused(stage.ask(&["openai"], &Said::default()));
    assert_eq!((failure.kind(), failure.code()), (Kind::Denied, "secret_not_for_agent"));
    // One that was not asked for first is gone without.
    stage.store("ANTHROPIC_API_KEY", KEY, SecretMeta::default());
    let keys = stage.ask(&["anthropic", "openai"], &Said::default()).expect("keys");
    assert!(provider(&keys, "openai").is_none() && keys.unusable[0].contains("is for acme/y"));

    let once = GrantTerms { runs: Some(1), ..GrantTerms::default() };
    stage.store("OPENAI_API_KEY", KEY, grant(once));
    let first = stage.ask(&["openai"], &Said::default()).expect("keys");
    let second = stage.ask(&["openai"], &Said::default()).expect("keys");
    first.record_uses(&stage.vault).expect("on record");
    // Both looked before either was on record: the record decides.
    let failure = second.record_uses(&stage.vault).expect_err("used up");
    assert!(failure.to_string().contains("it was for 1 runs"), "{failure}");
    let failure = refused(stage.ask(&["openai"], &Said::default()));
    assert_eq!((failure.kind(), failure.code()), (Kind::Denied, "secret_used_up"));
}

#[test]
fn on_a_server_a_name_does_not_stand_in_for_a_grant_of_this_content() {
    let stage = Stage::new(&[]);
    let terms = GrantTerms { agents: vec!["acme/x".to_owned()], ..GrantTerms::default() };
    stage.store("OPENAI_API_KEY", KEY, SecretMeta { grants: Some(vec![terms]), ..SecretMeta::default() });
    let keys = stage.answer(&["openai"], &Said::default(), |question| {
        let question = KeyQuestion { names_prove: false, ..question };
        question.open(&KeySources::new(&stage.environment, &stage.catalog, &stage.vault))
    });
    let ungranted: Vec<_> = keys.expect("keys").ungranted.iter().map(ToString::to_string).collect();
    assert_eq!(ungranted, ["use the secret OPENAI_API_KEY toward api.openai.com"]);
}

#[test]
fn where_keys_are_lent_one_that_cannot_be_used_is_handed_on() {
    let stage = Stage::new(&[]);
    for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY"] {
        let terms = GrantTerms { agents: vec!["acme/other".to_owned()], ..GrantTerms::default() };
        stage.store(name, KEY, SecretMeta { grants: Some(vec![terms]), ..SecretMeta::default() });
    }
    let providers = ["openai", "anthropic"];
    let alone = refused(stage.ask(&providers, &Said::default()));
    assert_eq!(alone.kind(), Kind::Denied, "{alone}");
    let keys = stage.answer(&providers, &Said::default(), |question| {
        let question = KeyQuestion { lends: true, ..question };
        question.open(&KeySources::new(&stage.environment, &stage.catalog, &stage.vault))
    });
    let keys = keys.expect("it may be lent another");
    assert!(keys.providers.is_empty() && keys.unusable.is_empty() && keys.failed.is_empty());
    let of = |slug: &str| keys.refused.get(&slug.parse::<Slug>().expect("a slug")).expect("handed on");
    assert_eq!((of("openai").failure.code(), of("openai").needed), (alone.code(), true));
    assert!(!of("anthropic").needed, "the primary's is what no run goes on without");
}

#[test]
fn where_keys_are_lent_one_to_search_with_may_come_later() {
    let stage = Stage::new(&[]);
    let terms = GrantTerms { agents: vec!["acme/other".to_owned()], ..GrantTerms::default() };
    stage.store("EXA_API_KEY", KEY, SecretMeta { grants: Some(vec![terms]), ..SecretMeta::default() });
    let said = Said { manifest: "search: [tavily, exa]", ..Said::default() };
    assert!(matches!(refused(stage.ask(&[], &said)).kind(), Kind::NoKey | Kind::Denied));
    let keys = stage.answer(&[], &said, |question| {
        let question = KeyQuestion { lends: true, ..question };
        question.open(&KeySources::new(&stage.environment, &stage.catalog, &stage.vault))
    });
    let keys = keys.expect("it may be lent one");
    let left = keys.unsearched.iter();
    let left: Vec<_> = left.map(|(slug, left)| (slug.as_str(), left.failure.code(), left.has_key)).collect();
    assert_eq!(left, [("exa", "secret_not_for_agent", true), ("tavily", "key_missing", false)]);
}

#[test]
fn a_secret_whose_grants_are_used_up_says_so() {
    let stage = Stage::new(&[]);
    let terms = GrantTerms { runs: Some(1), ..GrantTerms::default() };
    stage.store("TOKEN", KEY, granted(&["a.example", "b.example"], &terms));
    let said = Said { manifest: "secrets: [{ name: TOKEN, hosts: [a.example] }]", ..Said::default() };
    let keys = stage.ask(&[], &said).expect("keys");
    keys.record_uses(&stage.vault).expect("on record");
    let failure = refused(stage.ask(&[], &said));
    assert_eq!((failure.kind(), failure.code()), (Kind::Denied, "secret_used_up"));
    // The other grant has its own count.
    let other = Said { manifest: "secrets: [{ name: TOKEN, hosts: [b.example] }]", ..Said::default() };
    assert!(stage.ask(&[], &other).is_ok());
}

#[test]
fn a_key_whose_grants_were_all_taken_back_is_for_nobody() {
    let stage = Stage::new(&[]);
    let terms = GrantTerms { runs: Some(1), ..GrantTerms::default() };
    stage.store("OPENAI_API_KEY", KEY, SecretMeta { grants: Some(vec![terms]), ..SecretMeta::default() });
    let mut vault = Vault::open(&stage.vault, OpenMode::Create).expect("a vault");
    vault.remove_grant(&"OPENAI_API_KEY".parse().expect("a name"), GrantId::new(1)).expect("taken back");
    drop(vault);
    let failure = refused(stage.ask(&["openai"], &Said::default()));
    assert_eq!((failure.kind(), failure.code()), (Kind::Denied, "secret_not_granted"));
}

#[test]
fn a_caller_s_host_gets_the_value_where_its_owner_has_it_stand_there() {
    let stage = Stage::new(&[]);
    let place = |place| GrantTerms { place: Some(place), ..GrantTerms::default() };
    let query = granted(&["maps.example"], &place(ValuePlace::Query("key".to_owned())));
    let header = granted(&["api.example"], &place(ValuePlace::Header("x-key".to_owned())));
    let grants = Some([query.grants, header.grants].into_iter().flatten().flatten().collect());
    stage.store("TOKEN", KEY, SecretMeta { grants, ..SecretMeta::default() });
    let secrets = &["TOKEN@api.example", "TOKEN@maps.example", "TOKEN@c.example"];
    let said = Said { bare: true, secrets, ..Said::default() };
    let keys = stage.ask(&[], &said).expect("keys");
    let places: Vec<_> = keys.secrets[0].ways.iter().map(|way| way.place.clone()).collect();
    let header = |name| Place::Header(http::HeaderName::from_static(name));
    assert_eq!(places, [header("x-key"), Place::Query("key".to_owned()), header("authorization")]);
}
