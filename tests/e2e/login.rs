//! Tokens: kept by `orch login`, made and revoked by `orch tokens`; and the vault of a server.

use std::os::unix::fs::PermissionsExt;

use orch_tests::needle::{self, Needle};
use serde_json::json;

use crate::remote::Remote;
use crate::stage::{OPENAI_KEY, orch};

#[test]
fn a_token_is_kept_for_its_server_until_logout() {
    let remote = Remote::without_keys();
    let url = remote.server.url();
    let nobody = remote.anybody(["whoami", "--json"]).run().expect(8).silent();
    assert_eq!(nobody.error()["code"], "not_authenticated", "{nobody}");
    assert!(nobody.error()["hints"].to_string().contains(&format!("orch login {url}")), "{nobody}");

    let login = orch(&remote.client)
        .args(["login", &url, "-"])
        .stdin(format!("{}\n", remote.server.token()))
        .run()
        .expect(0);
    assert!(login.stderr().contains("logged in at"), "{login}");
    needle::none(&login.search(&Needle::new(remote.server.token())));
    let file = remote.client.orch().join("credentials.json");
    assert_eq!(std::fs::metadata(&file).expect("stored").permissions().mode() & 0o777, 0o600);
    let who = remote.anybody(["whoami", "--json"]).run().expect(0).json();
    assert_eq!(who["scopes"], json!(["admin"]), "{who:#}");
    let said = remote.anybody(["whoami"]).run().expect(0);
    assert!(said.stdout().contains("workspace default"), "{said}");
    // It is this server's alone.
    let other = orch(&remote.client)
        .args(["whoami", "--json"])
        .env("ORCH_SERVER", "http://127.0.0.1:1")
        .run()
        .expect(8);
    needle::none(&other.search(&Needle::new(remote.server.token())));

    remote.anybody(["logout"]).run().expect(0).says("forgot the token");
    remote.anybody(["whoami"]).run().expect(8).silent();
    remote.anybody(["logout"]).run().expect(0).says("there was no token");
    needle::none(&remote.client.search(&Needle::new(remote.server.token())));
}

#[test]
fn a_token_that_the_server_does_not_take_is_not_kept() {
    let remote = Remote::without_keys();
    let wrong = format!("orch_{}", "a".repeat(52));
    let outcome = remote.anybody(["login", "-", "--json"]).stdin(wrong).run().expect(8).silent();
    assert_eq!(outcome.error()["code"], "not_authenticated", "{outcome}");
    assert!(!remote.client.orch().join("credentials.json").exists());
    let file = remote.client.file("token", remote.server.token());
    remote.anybody(["login", "--token-file"]).arg(file).run().expect(0);
    remote.anybody(["whoami"]).run().expect(0);
    // Nobody to ask, nothing to read.
    let outcome = remote.anybody(["login", "--json"]).run().expect(2).silent();
    assert_eq!(outcome.error()["code"], "bad_usage", "{outcome}");
}

#[test]
fn a_token_may_do_what_its_scopes_say_until_it_is_revoked() {
    let remote = Remote::new();
    let made = remote.orch(["tokens", "create", "ci", "--scope", "run", "--expires", "30d"]).run().expect(0);
    let token = made.stdout().trim().to_owned();
    assert!(token.starts_with("orch_") && token.len() == 57, "{made}");
    let run = |token: &str| {
        remote
            .anybody([
                "run",
                "--json",
                "orch/summarizer",
                "--simulate",
                "--input",
                r#"{"text":"Ships wait. Rain falls."}"#,
            ])
            .env("ORCH_TOKEN", token)
            .run()
    };
    run(&token).expect(0);
    let refused =
        remote.anybody(["secrets", "list", "--json"]).env("ORCH_TOKEN", &token).run().expect(8).silent();
    assert_eq!(refused.error()["code"], "forbidden", "{refused}");
    remote.anybody(["tokens", "list"]).env("ORCH_TOKEN", &token).run().expect(8).silent();

    let list = remote.orch(["tokens", "list", "--json"]).run().expect(0);
    needle::none(&list.search(&Needle::new(&token)));
    let list = list.json();
    let row = list["tokens"]
        .as_array()
        .expect("rows")
        .iter()
        .find(|row| row["name"] == "ci")
        .expect("listed")
        .clone();
    let table = remote.orch(["tokens", "list"]).run().expect(0);
    assert!(table.stdout().starts_with("id ") && table.stdout().contains(" ci "), "{table}");
    let id = row["id"].as_str().expect("an id");
    remote.orch(["tokens", "revoke", id]).run().expect(2).silent();
    run(&token).expect(0);
    remote.orch(["tokens", "revoke", id, "--yes"]).run().expect(0);
    assert_eq!(run(&token).expect(8).silent().error()["code"], "not_authenticated");
    // The text of a token in the place of its id is not repeated.
    let outcome = remote.orch(["tokens", "revoke", &token, "--yes"]).run().expect(2).silent();
    needle::none(&outcome.search(&Needle::new(&token)));
}

#[test]
fn secrets_are_those_of_the_server_that_commands_go_to() {
    let remote = Remote::without_keys();
    remote
        .orch(["secrets", "set", "OPENAI_API_KEY", "-"])
        .stdin(OPENAI_KEY)
        .run()
        .expect(0)
        .says(&remote.server.url());
    assert!(!remote.client.orch().join("data/vault").exists());
    // The same rows from afar, over the socket, and once the server is gone from the files.
    let far = remote.orch(["secrets", "list", "--json"]).run().expect(0);
    let near = remote.here(["secrets", "list", "--json"]).run().expect(0);
    assert_eq!(far.json(), near.json());
    assert_eq!(far.json()["secrets"][0]["name"], "OPENAI_API_KEY");
    let lines = remote.here(["secrets", "list"]).run().expect(0);
    assert!(lines.stdout().contains("api.openai.com"), "{lines}");
    let which = remote.orch(["secrets", "which", "openai", "--json"]).run().expect(0).json();
    assert_eq!((&which["source"], &which["version"]), (&json!("vault"), &json!(1)));
    // Over the socket the environment would go along, and goes before the vault.
    let which = remote
        .here(["secrets", "which", "openai", "--json"])
        .env("OPENAI_API_KEY", OPENAI_KEY)
        .run()
        .expect(0)
        .json();
    assert_eq!((&which["source"], &which["shadows"][0]["source"]), (&json!("env"), &json!("vault")));
    // The client's own vault is another one.
    let own = remote.orch(["secrets", "list", "--local", "--json"]).run().expect(0).json();
    assert_eq!(own["secrets"], json!([]));

    remote
        .here(["secrets", "set", "MINE", "-", "--host", "api.example.com"])
        .stdin("0123456789abcdef")
        .run()
        .expect(0);
    let removed = remote.orch(["secrets", "rm", "MINE", "--yes", "--json"]).run().expect(0).json();
    assert_eq!((&removed["name"], &removed["removed"]), (&json!("MINE"), &json!(1)));
    let missing = remote.orch(["secrets", "rm", "MINE", "--yes", "--json"]).run().expect(2).silent();
    assert_eq!(missing.error()["code"], "secret_missing", "{missing}");

    let Remote { stage, server, .. } = remote;
    server.terminate().expect(0);
    let at_rest = stage.orch(["secrets", "list", "--json"]).run().expect(0);
    assert_eq!(at_rest.json()["secrets"][0], far.json()["secrets"][0]);
}
