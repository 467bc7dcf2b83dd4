use http::HeaderMap;
use orch_manifests::{Routes, RunId, Slug};
use orch_proxy::{AuthorizeError, Credential, Grant, Grants, Scrubber, Use};
use tokio::time::{Duration, Instant};

use super::*;
use crate::clients;
use crate::plan::{AtHand, KeyAtHand, Preference};
use crate::serve::Chosen;
use crate::usage::Budget;

struct Key(Whose, &'static str);

impl Credential for Key {
    fn id(&self) -> &str {
        self.1
    }
    fn source(&self) -> &str {
        "vault"
    }
    fn whose(&self) -> Whose {
        self.0
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

fn of(whose: Whose, has: &'static [&'static str]) -> impl Fn(&Slug) -> Option<KeyAtHand> {
    move |slug| {
        let name = match (whose, slug.as_str()) {
            (_, slug) if !has.contains(&slug) => return None,
            (Whose::Own, "openai") => "own/alice/OPENAI_API_KEY",
            (Whose::Own, _) => "own/alice/ANTHROPIC_API_KEY",
            (Whose::Team, "openai") => "OPENAI_API_KEY",
            (Whose::Team, _) => "ANTHROPIC_API_KEY",
            (Whose::Platform, "openai") => "platform/OPENAI_API_KEY",
            (Whose::Platform, _) => "platform/ANTHROPIC_API_KEY",
        };
        Some(Ok(vec![Arc::new(Key(whose, name)) as Arc<dyn Credential>]))
    }
}

type Has = &'static [&'static str];

/// Clients whose member, team and platform have keys for these providers.
fn session(policy: ByokPolicy, own: Has, team: Has, platform: Has) -> Session {
    let catalog = Catalog::builtin();
    let expires = Instant::now() + Duration::from_secs(60);
    let (_, grant) = Grants::new().mint(Grant {
        run: RunId::random(),
        workspace: "default".into(),
        rules: Vec::new(),
        trials: Vec::new(),
        bindings: Vec::new(),
        limits: orch_proxy::Limits::of(100, 10),
        expires,
    });
    let ring =
        |whose, has: Has| (!has.is_empty()).then(|| Arc::new(Plan::of_keys(&catalog, &of(whose, has))));
    let plan = Plan::for_clients(&catalog, &of(Whose::Team, team));
    let mut routes = Routes::none();
    for (name, route) in [
        (
            "mine-first",
            r#"{"targets": [{"model": "gpt-4o", "whose": "own"}, {"model": "gpt-4o", "whose": "platform"}]}"#,
        ),
        ("smart", r#"{"targets": [{"model": "gpt-4o"}, {"model": "claude-3-haiku"}]}"#),
        ("second-key", r#"{"targets": [{"model": "gpt-4o", "keys": ["OPENAI_API_KEY_2"]}]}"#),
    ] {
        let route = serde_json::from_str(route).expect("a route");
        routes.add(name.parse().expect("a name"), route, &catalog).expect("added");
    }
    let keyrings = Keyrings { policy, own: ring(Whose::Own, own), platform: ring(Whose::Platform, platform) };
    let session = Session::new(grant, Arc::new(plan), expires, Budget::new(None, None));
    session.with_keyrings(keyrings).with_routes(Arc::new(routes))
}

fn ask(headers: &[(&'static str, &str)], body: &str) -> Ask {
    read(headers, body).unwrap_or_else(|e| panic!("{headers:?} {body}: {e}")).0
}

fn read(headers: &[(&'static str, &str)], body: &str) -> Result<(Ask, String), crate::dialect::RequestError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(*name, value.parse().expect("a header"));
    }
    let (ask, body) = Ask::read(&map, bytes::Bytes::copy_from_slice(body.as_bytes()))?;
    Ok((ask, String::from_utf8(body.to_vec()).expect("text")))
}

/// The keys that would be tried, in order, each with its provider's model.
fn tried(session: &Session, model: &str, ask: &Ask) -> Result<Vec<String>, ApiError> {
    let Chosen { mut planned, .. } = clients::chosen(session, &Catalog::builtin(), model, ask, None)?;
    planned.sort_by_key(|planned| planned.step);
    Ok(planned.iter().flat_map(|planned| &planned.keys).map(|key| key.credential.id().to_owned()).collect())
}

const BOTH: Has = &["openai", "anthropic"];

#[tokio::test]
async fn whose_key_serves_is_the_policy_s_and_the_request_s_to_say() {
    use ByokPolicy::{Disabled, PreferOwn, PreferTeam, RequireTeam};
    let plain = Ask::default();
    let asks = ask(&[("x-use-byok", "true")], "");
    let no = ask(&[("x-use-byok", "false")], "");
    let any = ask(&[], r#"{"byok":{"enabled":true,"disableFallbacks":false}}"#);
    const OWN: &str = "own/alice/OPENAI_API_KEY";
    const TEAM: &str = "OPENAI_API_KEY";
    const PLATFORM: &str = "platform/OPENAI_API_KEY";
    // policy, what is said, who has a key: OWN, TEAM, platform
    type Served = Result<&'static [&'static str], &'static str>;
    let cases: &[(ByokPolicy, &Ask, [bool; 3], Served)] = &[
        (PreferTeam, &plain, [true, true, true], Ok(&[TEAM])),
        (PreferTeam, &plain, [true, false, true], Ok(&[PLATFORM])),
        (PreferTeam, &plain, [true, false, false], Err("orch_no_key")),
        (PreferTeam, &asks, [true, true, true], Ok(&[OWN])),
        (PreferTeam, &asks, [false, true, true], Ok(&[TEAM])),
        (PreferTeam, &asks, [false, false, true], Err("orch_no_key")),
        (PreferTeam, &any, [true, true, true], Ok(&[OWN, TEAM, PLATFORM])),
        (PreferTeam, &any, [false, false, true], Ok(&[PLATFORM])),
        (PreferTeam, &no, [true, true, true], Ok(&[TEAM])),
        (RequireTeam, &plain, [true, true, true], Ok(&[TEAM])),
        (RequireTeam, &asks, [true, true, true], Ok(&[TEAM])),
        (RequireTeam, &any, [true, false, true], Err("orch_no_key")),
        (RequireTeam, &asks, [true, false, true], Err("orch_no_key")),
        (PreferOwn, &plain, [true, true, true], Ok(&[OWN])),
        (PreferOwn, &plain, [false, true, true], Ok(&[TEAM])),
        (PreferOwn, &plain, [false, false, true], Ok(&[PLATFORM])),
        (PreferOwn, &asks, [false, false, true], Err("orch_no_key")),
        (PreferOwn, &no, [true, true, true], Ok(&[TEAM])),
        (PreferOwn, &no, [true, false, true], Ok(&[PLATFORM])),
        (Disabled, &plain, [true, true, true], Ok(&[PLATFORM])),
        (Disabled, &plain, [true, true, false], Err("orch_no_key")),
        (Disabled, &asks, [true, true, true], Err("orch_byok_policy")),
        (Disabled, &no, [true, true, true], Ok(&[PLATFORM])),
    ];
    for (policy, said, has, expected) in cases {
        let keys = |there: bool| if there { BOTH } else { &[] };
        let session = session(*policy, keys(has[0]), keys(has[1]), keys(has[2]));
        let found = tried(&session, "gpt-4o", said);
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, *expected, "{policy} {said:?} {has:?}"),
            (Err(error), Err(code)) => {
                assert_eq!(
                    error.code.as_deref(),
                    Some(*code),
                    "{policy} {said:?} {has:?}: {}",
                    error.message
                );
                assert!(error.message.contains("orch "), "a way out: {}", error.message);
            }
            (found, expected) => panic!("{policy} {said:?} {has:?}: {found:?}, expected {expected:?}"),
        }
    }
}

#[tokio::test]
async fn a_provider_that_is_named_serves_or_nobody_does() {
    let session = session(ByokPolicy::PreferTeam, BOTH, BOTH, &[]);
    let at = |provider: &str| ask(&[("x-byok-provider", provider)], "");
    assert_eq!(tried(&session, "gpt-4o", &at("openai")).expect("serves"), ["own/alice/OPENAI_API_KEY"]);
    assert_eq!(tried(&session, "smart", &at("anthropic")).expect("serves"), ["own/alice/ANTHROPIC_API_KEY"]);
    for (model, provider, code, param) in [
        ("gpt-4o", "nobody", "orch_unknown_provider", "x-byok-provider"),
        ("gpt-4o", "anthropic", "orch_model_elsewhere", "x-byok-provider"),
        ("openai/gpt-4o", "anthropic", "orch_model_elsewhere", "x-byok-provider"),
        ("gpt-4o", "gemini", "orch_model_elsewhere", "x-byok-provider"),
        ("gemini-2.5-flash", "gemini", "orch_no_key", "x-byok-provider"),
    ] {
        let error = tried(&session, model, &at(provider)).expect_err(model);
        assert_eq!(
            (error.code.as_deref(), error.param.as_deref()),
            (Some(code), Some(param)),
            "{model} {provider}"
        );
    }
    let searches = tried(&session, "gpt-4o", &at("tavily")).expect_err("it searches");
    assert_eq!(searches.message, "x-byok-provider: tavily answers no models");
    let in_body = ask(&[], r#"{"byok":{"provider":"nobody"}}"#);
    assert_eq!(
        tried(&session, "gpt-4o", &in_body).expect_err("unknown").param.as_deref(),
        Some("byok.provider")
    );
}

#[tokio::test]
async fn a_route_names_whose_keys_and_policy_and_request_may_take_them_out() {
    let plain = Ask::default();
    let asks = ask(&[("x-use-byok", "true")], "");
    let strict = ask(&[], r#"{"byok":{"enabled":true,"disableFallbacks":true}}"#);
    let (own, platform) = ("own/alice/OPENAI_API_KEY", "platform/OPENAI_API_KEY");
    for (policy, said, expected) in [
        (ByokPolicy::PreferOwn, &plain, vec![own, platform]),
        (ByokPolicy::PreferTeam, &plain, vec![platform]),
        (ByokPolicy::PreferTeam, &asks, vec![own, platform]),
        (ByokPolicy::PreferTeam, &strict, vec![own]),
        (ByokPolicy::Disabled, &plain, vec![platform]),
    ] {
        let session = session(policy, BOTH, BOTH, BOTH);
        assert_eq!(tried(&session, "mine-first", said).expect("serves"), expected, "{policy} {said:?}");
    }
    let session = session(ByokPolicy::RequireTeam, BOTH, BOTH, BOTH);
    let error = tried(&session, "mine-first", &plain).expect_err("nobody may");
    assert!(error.message.contains("require_team"), "{}", error.message);
    // One key and no other: what follows in a route is left out as well.
    let session = self::session(ByokPolicy::PreferTeam, BOTH, BOTH, BOTH);
    assert_eq!(tried(&session, "smart", &strict).expect("serves"), [own]);
    assert_eq!(tried(&session, "smart", &asks).expect("serves"), [own, "own/alice/ANTHROPIC_API_KEY"]);
    // The workspace's names of keys are about its own.
    assert_eq!(tried(&session, "second-key", &asks).expect("serves"), [own]);
    assert!(tried(&session, "second-key", &plain).is_err(), "it has no second one");
}

#[tokio::test]
async fn who_names_no_model_gets_the_active_one_and_whoever_names_one_gets_that() {
    let session = session(ByokPolicy::PreferTeam, &[], BOTH, &[]);
    let catalog = Catalog::builtin();
    let plain = Ask::default();
    let active = |model: Option<&str>| Preference {
        provider: "anthropic".to_owned(),
        model: model.map(str::to_owned),
    };
    let haiku = active(Some("claude-3-haiku-20240307"));
    let asked = |model: &str, ask: &Ask, preferred: &Preference| {
        let chosen = clients::chosen(&session, &catalog, model, ask, Some(preferred))?;
        Ok::<_, ApiError>(chosen.planned[0].name())
    };
    for unnamed in ["", "auto", "default"] {
        let name = asked(unnamed, &plain, &haiku).expect("serves");
        assert_eq!(name, "anthropic/claude-3-haiku-20240307", "{unnamed:?}");
    }
    assert_eq!(asked("gpt-4o", &plain, &haiku).expect("serves"), "openai/gpt-4o");
    // An active provider without a model says nothing, and a request that insists on another one is not about it.
    let at_openai = ask(&[("x-byok-provider", "openai")], "");
    for (ask, preferred) in [(&plain, &active(None)), (&at_openai, &haiku)] {
        let error = asked("", ask, preferred).expect_err("nothing is named");
        assert!(error.message.contains("orch byok model"), "{}", error.message);
    }
    // The route of that name is meant by whoever writes it, and is for all who have nothing active.
    let mut routes = Routes::none();
    let route = serde_json::from_str(r#"{"targets": [{"model": "gpt-4o"}]}"#).expect("a route");
    routes.add("default".parse().expect("a name"), route, &catalog).expect("added");
    let session = session.with_routes(Arc::new(routes));
    let asked = |model: &str, preferred: Option<&Preference>| {
        let chosen = clients::chosen(&session, &catalog, model, &plain, preferred)?;
        Ok::<_, ApiError>(chosen.planned[0].name())
    };
    assert_eq!(asked("default", Some(&haiku)).expect("serves"), "openai/gpt-4o");
    assert_eq!(asked("", None).expect("serves"), "openai/gpt-4o");
    assert_eq!(asked("", Some(&haiku)).expect("serves"), "anthropic/claude-3-haiku-20240307");
}

#[test]
fn a_request_of_a_run_takes_keys_out_and_brings_none() {
    let catalog = Catalog::builtin();
    let openai = catalog.provider("openai").expect("in the catalog");
    let plain = Ask::default();
    let asks = ask(&[("x-use-byok", "true")], "");
    let any = ask(&[], r#"{"byok":{"enabled":true,"disableFallbacks":false}}"#);
    let no = ask(&[("x-use-byok", "false")], "");
    for (whose, said, serves) in [
        (Whose::Platform, &plain, true),
        (Whose::Platform, &asks, false),
        (Whose::Platform, &any, true),
        (Whose::Platform, &no, true),
        (Whose::Team, &asks, true),
        (Whose::Team, &no, true),
        (Whose::Own, &asks, true),
        (Whose::Own, &no, false),
    ] {
        let keys = vec![Arc::new(Key(whose, "OPENAI_API_KEY")) as Arc<dyn Credential>];
        let planned = AtHand::new(openai, keys).planned("gpt-4o");
        match narrowed(said, &catalog, vec![planned]) {
            Ok(left) => assert!(serves && left.len() == 1, "{whose} {said:?}"),
            Err(error) => {
                assert_eq!(error.code.as_deref(), Some("orch_no_key"));
                assert_eq!(error.param.as_deref(), Some("x-use-byok"));
                assert!(!serves, "{whose} {said:?}: {}", error.message);
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_is_there_and_cannot_be_used_is_an_error_and_nobody_else_pays() {
    let catalog = Catalog::builtin();
    let mut session = session(ByokPolicy::PreferOwn, &[], BOTH, BOTH);
    let expired =
        |slug: &Slug| (slug.as_str() == "openai").then(|| Err("OPENAI_API_KEY: it has expired".to_owned()));
    session.keyrings.own = Some(Arc::new(Plan::of_keys(&catalog, &expired)));
    for said in [Ask::default(), ask(&[("x-use-byok", "1")], "")] {
        let error = tried(&session, "gpt-4o", &said).expect_err("expired");
        assert!(error.message.starts_with("OPENAI_API_KEY: it has expired: "), "{}", error.message);
    }
    // Who wants another one to be tried gets that.
    let any = ask(&[], r#"{"byok":{"enabled":true,"disableFallbacks":false}}"#);
    assert_eq!(
        tried(&session, "gpt-4o", &any).expect("the next"),
        ["OPENAI_API_KEY", "platform/OPENAI_API_KEY"]
    );
    assert_eq!(tried(&session, "claude-3-haiku", &Ask::default()).expect("others"), ["ANTHROPIC_API_KEY"]);
}

#[test]
fn what_is_said_is_taken_out_of_the_body_and_every_other_byte_stays() {
    let body = r#"{"model":"gpt-4o", "byok": {"enabled": true, "provider": "OpenAI", "disableFallbacks": true},"temperature":1.0,"messages":[{"role":"user","content":"byok \"byok\""}]}"#;
    let (ask, left) = read(&[], body).expect("read");
    assert_eq!(ask.provider(), Some(("byok.provider", "openai")));
    assert!(ask.is_strict() && !ask.falls_back());
    assert_eq!(
        left,
        r#"{"model":"gpt-4o","temperature":1.0,"messages":[{"role":"user","content":"byok \"byok\""}]}"#
    );
    // Where it is no field of the body it is the client's.
    for untouched in [
        r#"{"model":"m","metadata":{"byok":{"enabled":true}}}"#,
        r#"{"model":"m","messages":[{"content":"\"byok\""}]}"#,
        r#"{ "model" : "m" }"#,
        r#"not json at all "byok""#,
        "",
    ] {
        let (ask, left) = read(&[], untouched).expect("read");
        assert!(ask.is_empty());
        assert_eq!(left, untouched);
    }
}

#[test]
fn headers_and_body_may_say_the_same_and_nothing_else() {
    let both = ask(
        &[("x-use-byok", "TRUE"), ("x-byok-provider", "openai")],
        r#"{"byok":{"enabled":true,"provider":"openai"}}"#,
    );
    assert_eq!((both.enabled(), both.provider()), (Some(true), Some(("byok.provider", "openai"))));
    assert_eq!(ask(&[("x-byok-provider", "openai")], "").enabled(), Some(true), "who names a provider asks");
    assert_eq!(ask(&[("x-use-byok", "0")], "").enabled(), Some(false));
    assert!(
        ask(&[], r#"{"byok":{"disableFallbacks":true}}"#).is_strict(),
        "whoever asks for nothing else gets that"
    );
    assert!(ask(&[], r#"{"byok":{}}"#).is_empty());
    for (headers, body, field) in [
        (&[("x-use-byok", "yes")][..], "", "x-use-byok"),
        (&[("x-use-byok", "")], "", "x-use-byok"),
        (&[("x-use-byok", "true"), ("x-use-byok", "false")], "", "x-use-byok"),
        (&[("x-use-byok", "false")], r#"{"byok":{"enabled":true}}"#, "byok.enabled"),
        (&[("x-byok-provider", "openai")], r#"{"byok":{"provider":"anthropic"}}"#, "byok.provider"),
        (&[("x-use-byok", "false"), ("x-byok-provider", "openai")], "", "x-byok-provider"),
        (&[("x-byok-provider", "")], "", "x-byok-provider"),
        (&[], r#"{"byok":true}"#, "byok"),
        (&[], r#"{"byok":null}"#, "byok"),
        (&[], r#"{"byok":{"enabled":"true"}}"#, "byok.enabled"),
        (&[], r#"{"byok":{"provider":7}}"#, "byok.provider"),
        (&[], r#"{"byok":{"disableFallbacks":"no"}}"#, "byok.disableFallbacks"),
        (&[], r#"{"byok":{"key":"sk-0123456789abcdef"}}"#, "byok"),
        (&[], r#"{"byok":{"enabled":true},"byok":{"enabled":false}}"#, "byok"),
        (&[], r#"{"byok":{"enabled":true,"enabled":false}}"#, "byok.enabled"),
        (&[], r#"{"byok":{"disableFallbacks":true,"disable_fallbacks":false}}"#, "byok.disableFallbacks"),
        (&[], r#"{"byok":{"enabled":null}}"#, "byok.enabled"),
        (&[], r#"{"byok":[]}"#, "byok"),
        (&[], r#"{"byok":{"Enabled":true}}"#, "byok"),
        (&[("x-byok-provider", "openai"), ("x-byok-provider", "openai")], "", "x-byok-provider"),
    ] {
        let error = read(headers, body).expect_err(body);
        assert_eq!(error.path, field, "{headers:?} {body}");
        assert!(!error.message.contains("sk-0123"), "{}", error.message);
    }
}

/// The table in the documentation is what the code does.
#[test]
fn the_documented_table_is_the_policy() {
    let says = [
        ("nothing", None, false),
        ("`x-use-byok: true`", Some(true), false),
        ("`byok: {enabled: true, disableFallbacks: false}`", Some(true), true),
        ("`x-use-byok: false`", Some(false), false),
    ];
    let mut table =
        "| policy | the request says | whose key | when a call with it fails |\n|---|---|---|---|\n"
            .to_owned();
    for policy in ByokPolicy::ALL {
        for (said, asked, falls_back) in says {
            let (whose, then) = match policy.order(asked, falls_back) {
                None => ("–".to_owned(), "refused before anything is sent: `orch_byok_policy`"),
                Some(order) => {
                    let words: Vec<&str> = order.whose.iter().map(|whose| whose.as_str()).collect();
                    let then = if order.falls_back { "the next one is tried" } else { "an error" };
                    (words.join(", else "), then)
                }
            };
            table.push_str(&format!("| `{policy}` | {said} | {whose} | {then} |\n"));
        }
    }
    let doc = include_str!("../../../docs/byok.md");
    let (_, after) = doc.split_once("<!-- decisions -->\n").expect("where the table begins");
    let (written, _) = after.split_once("<!-- /decisions -->").expect("where it ends");
    assert_eq!(written, table, "docs/byok.md differs; the table is:\n{table}");
}
