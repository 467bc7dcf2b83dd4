//! What goes along to a server, and the permission flow against a scripted one.

use super::*;
use crate::args::{Cli, Command};
use crate::client::testing::{Served, json as told};
use clap::Parser as _;
use orch_server::{Config, Environment, Home};
use orch_vault::VaultLocation;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn keys_that_stay_are_named_and_never_shown() {
    let key = |text: &str| Secret::new(text.as_bytes().to_vec());
    let mut keys = BTreeMap::new();
    assert_eq!(stays_here(&keys, "https://o.example"), None);
    keys.insert("OPENAI_API_KEY".to_owned(), key("sk-1"));
    assert_eq!(
        stays_here(&keys, "https://o.example").expect("a hint"),
        "OPENAI_API_KEY stays here; --send-env-keys sends it to https://o.example for this run"
    );
    keys.insert("ANTHROPIC_API_KEY".to_owned(), key("sk-2"));
    assert!(
        stays_here(&keys, "s").expect("a hint").starts_with("ANTHROPIC_API_KEY, OPENAI_API_KEY stay here")
    );
}

const REFUSED: &str = r#"{"error":{"code":"not_granted","message":"no","details":{"agent":"acme/x 1.0.0","name":"acme/x",
    "digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","wanted":["reach a"],"had":[],
    "dropped":[],"combined_risk":"Together: a."}},"exit_code":4}"#;
const ACCEPTED: &str = r#"{"id":"run_aaaaaaaaaaaaaaaaaaaaaaaaaa","status":"queued"}"#;
const GRANTED: &str = r#"{"grants":[
    {"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","capabilities":["reach b"]},
    {"digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","capabilities":["reach c"]}]}"#;

/// Refuses until the run or the workspace is granted what is asked.
async fn guarded() -> Served {
    let granted = AtomicBool::new(false);
    Served::tcp(None, move |asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", "/v1/grants") => told(200, GRANTED),
        ("PUT", _) => {
            granted.store(true, Ordering::Relaxed);
            told(200, "{}")
        }
        _ => {
            let body: Value = serde_json::from_slice(&asked.body).expect("JSON");
            let once = body["grant"] == json!(["reach a"]);
            if once || granted.load(Ordering::Relaxed) { told(202, ACCEPTED) } else { told(403, REFUSED) }
        }
    })
    .await
}

async fn answered(server: &Served, answer: Answer) -> Result<RunResource, Failure> {
    let environment = Environment::Fixed([("ORCH_HOME".to_owned(), "/nowhere".to_owned())].into());
    let printer = Printer::new(true, &environment);
    let home = Home::locate(&environment).expect("a home");
    let vault = VaultLocation {
        store: home.vault(),
        key_file: home.vault_key(),
        workspace: "default".to_owned(),
        custody: orch_vault::Custody::default(),
    };
    let here =
        Installation { environment, home, config: Config::default(), catalog: Catalog::builtin(), vault };
    let Ok(cli) = Cli::try_parse_from(["orch", "run", "acme/x"]) else { panic!("it parses") };
    let Command::Run(args) = cli.command else { panic!("it is a run") };
    let said = Said::read(&args, &here, printer).expect("nothing is said");
    let client = server.client(None);
    let (_keep, stop) = watch::channel(0);
    let flow = Flow { here: &here, client: &client, args: &args, said: &said, printer, stop };
    flow.accepted(&Subject::Name("acme/x".parse().expect("a name")), |_| answer).await
}

#[tokio::test]
async fn a_no_is_the_server_s_refusal() {
    let server = guarded().await;
    let failure = answered(&server, Answer::Deny).await.expect_err("refused");
    assert_eq!((failure.kind(), failure.code()), (Kind::Denied, "not_granted"));
    assert_eq!(server.asked(|asked| asked.method.clone()), ["POST"]);
}

#[tokio::test]
async fn once_is_granted_to_the_run_alone() {
    let server = guarded().await;
    answered(&server, Answer::Once).await.expect("accepted");
    assert_eq!(server.asked(|asked| asked.method.clone()), ["POST", "POST"]);
}

#[tokio::test]
async fn always_is_granted_to_exactly_this_agent_beside_what_it_had() {
    let server = guarded().await;
    answered(&server, Answer::Remember).await.expect("accepted");
    let asked = server.asked(|asked| (asked.method.clone(), asked.path.clone(), asked.body.clone()));
    let methods: Vec<&str> = asked.iter().map(|(method, ..)| method.as_str()).collect();
    assert_eq!(methods, ["POST", "GET", "PUT", "POST"]);
    let (_, path, body) = &asked[2];
    assert_eq!(path, &format!("/v1/grants/{}", Digest::of(b"")));
    let body: Value = serde_json::from_slice(body).expect("JSON");
    assert_eq!(body, json!({ "agent": "acme/x", "capabilities": ["reach a", "reach b"] }));
    let last: Value = serde_json::from_slice(&asked[3].2).expect("JSON");
    assert!(last.get("grant").is_none(), "what is remembered needs no grant of its own");
}
