//! `orch secrets`: what is stored is usable and never shown.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use orch_tests::home::Home;
use orch_tests::needle::{self, Needle};
use orch_tests::orch::Outcome;
use serde_json::json;

use crate::stage::{OPENAI_KEY, Outside, Stage, orch, text};

#[track_caller]
fn set(home: &Home, name: &str, value: &str) -> Outcome {
    orch(home).args(["secrets", "set", name, "-", "--json"]).stdin(value).run().expect(0)
}

#[track_caller]
fn list(home: &Home) -> serde_json::Value {
    orch(home).args(["secrets", "list", "--json"]).run().expect(0).json()["secrets"].clone()
}

#[test]
fn a_value_is_stored_listed_by_name_replaced_and_removed() {
    let home = Home::cold();
    assert_eq!(list(&home), json!([]));
    let first = set(&home, "OPENAI_API_KEY", OPENAI_KEY).json();
    assert_eq!((&first["name"], &first["version"]), (&json!("OPENAI_API_KEY"), &json!(1)));
    assert_eq!(set(&home, "OPENAI_API_KEY", OPENAI_KEY).json()["version"], 2);
    let rows = list(&home);
    assert_eq!((rows.as_array().map(Vec::len), &rows[0]["name"]), (Some(1), &json!("OPENAI_API_KEY")));
    let which = orch(&home).args(["secrets", "which", "OPENAI_API_KEY", "--json"]).run().expect(0).json();
    assert_eq!((&which["source"], &which["version"]), (&json!("vault"), &json!(2)));
    orch(&home).args(["secrets", "rm", "OPENAI_API_KEY", "--yes"]).run().expect(0);
    assert_eq!(list(&home), json!([]));
    orch(&home).args(["secrets", "which", "OPENAI_API_KEY"]).run().expect(3).silent();
}

#[test]
fn the_value_is_in_no_file_and_on_no_screen() {
    let home = Home::cold();
    let needle = Needle::new(OPENAI_KEY);
    let outside = Outside::new();
    let file = outside.file("key", OPENAI_KEY);
    let outcomes = [
        orch(&home).args(["secrets", "set", "OPENAI_API_KEY", "-"]).stdin(OPENAI_KEY).run(),
        orch(&home).args(["secrets", "set", "OPENAI_API_KEY", OPENAI_KEY]).run().says("warning:"),
        orch(&home).args(["secrets", "set", "OPENAI_API_KEY", "--from-file", &text(file)]).run(),
        orch(&home)
            .args(["secrets", "set", "OPENAI_API_KEY", "--from-env"])
            .env("OPENAI_API_KEY", OPENAI_KEY)
            .run(),
        orch(&home).args(["secrets", "rotate", "OPENAI_API_KEY", "-"]).stdin(OPENAI_KEY).run(),
        orch(&home).args(["secrets", "list"]).run(),
        orch(&home).args(["secrets", "list", "--json"]).run(),
        orch(&home).args(["secrets", "grants"]).run(),
        orch(&home).args(["secrets", "which", "OPENAI_API_KEY"]).run(),
        orch(&home).args(["secrets", "rm", "OPENAI_API_KEY", "--yes"]).run(),
    ];
    for outcome in outcomes {
        let outcome = outcome.expect(0);
        needle::none(&outcome.search(&needle));
    }
    needle::none(&home.search(&needle));
}

#[test]
fn there_is_no_way_to_read_a_value_back() {
    let home = Home::cold();
    set(&home, "OPENAI_API_KEY", OPENAI_KEY);
    for verb in ["get", "show", "cat", "export", "reveal"] {
        let outcome = orch(&home).args(["secrets", verb, "OPENAI_API_KEY"]).run().expect(2).silent();
        needle::none(&outcome.search(&Needle::new(OPENAI_KEY)));
    }
    let help = orch(&home).args(["secrets", "--help"]).run().expect(0);
    for verb in ["get", "show", "reveal"] {
        assert!(!help.stdout().lines().any(|line| line.trim_start().starts_with(verb)), "{help}");
    }
}

#[test]
fn files_are_private_whatever_the_umask() {
    let home = Home::cold();
    set(&home, "OPENAI_API_KEY", OPENAI_KEY);
    let mut folders = vec![home.orch().to_owned()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("listed") {
            let path = entry.expect("an entry").path();
            let meta = fs::symlink_metadata(&path).expect("there");
            let mode = meta.permissions().mode() & 0o777;
            if meta.is_dir() {
                assert_eq!(mode, 0o700, "{}", path.display());
                folders.push(path);
            } else {
                assert_eq!(mode & 0o177, 0, "{} is {mode:o}", path.display());
                files += 1;
            }
        }
    }
    assert!(files > 1, "a vault and its key");
}

#[test]
fn which_says_what_hides_what() {
    let home = Home::cold();
    set(&home, "OPENAI_API_KEY", OPENAI_KEY);
    let outcome = orch(&home)
        .args(["secrets", "which", "openai", "--json"])
        .env("OPENAI_API_KEY", "sk-from-the-environment-0000")
        .run()
        .expect(0);
    let which = outcome.json();
    assert_eq!(which["source"], "env", "{outcome}");
    assert_eq!(which["shadows"][0]["source"], "vault", "{outcome}");
}

#[test]
fn a_value_that_cannot_be_kept_safe_is_refused() {
    let home = Home::cold();
    for (name, value, flags) in [
        ("OPENAI_API_KEY", "short", &[][..]),
        ("OPENAI_API_KEY", "", &[]),
        ("GITHUB_TOKEN", "ghp_0123456789012345\r\nx-evil: 1", &["--host", "api.github.com"]),
        ("GITHUB_TOKEN", "ghp_0123456789012345", &["--host", "127.0.0.1"]),
        ("GITHUB_TOKEN", "ghp_0123456789012345", &["--host", "*"]),
        ("OPENAI_API_KEY", OPENAI_KEY, &["--host", "evil.example.org"]),
        ("not a name", OPENAI_KEY, &[]),
    ] {
        let outcome =
            orch(&home).args(["secrets", "set", name, "-", "--json"]).args(flags).stdin(value).run();
        let outcome = outcome.expect(2).silent();
        assert!(outcome.error()["message"].is_string(), "{outcome}");
    }
    assert_eq!(list(&home), json!([]), "nothing is half written");
    let short = ["secrets", "set", "SHORT", "-", "--allow-short", "--host", "api.github.com"];
    orch(&home).args(short).stdin("pin-1234").run().expect(0).says("warning:");
}

#[test]
fn nobody_is_asked_where_nobody_is() {
    let stage = Stage::cold();
    stage.orch(["secrets", "set", "OPENAI_API_KEY"]).run().expect(2).silent();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let outcome = stage.orch(["secrets", "rm", "OPENAI_API_KEY"]).run().expect(2).silent();
    assert!(outcome.stderr().contains("--yes"), "{outcome}");
    assert_eq!(list(&stage.home).as_array().map(Vec::len), Some(1));
}

#[test]
fn writers_at_once_lose_nothing() {
    let home = Home::cold();
    set(&home, "OPENAI_API_KEY", OPENAI_KEY);
    let names: Vec<String> = (0..6).map(|i| format!("TOKEN_{i}")).collect();
    let running: Vec<_> = names
        .iter()
        .map(|name| {
            orch(&home)
                .args(["secrets", "set", name, "-", "--host", "api.github.com"])
                .stdin(OPENAI_KEY)
                .start()
        })
        .collect();
    for one in running {
        one.finish().expect(0);
    }
    let rows = list(&home);
    for name in &names {
        assert!(
            rows.as_array().expect("rows").iter().any(|row| row["name"] == json!(name)),
            "{name}: {rows:#}"
        );
    }
}

#[test]
fn a_value_in_the_place_of_a_name_is_not_repeated() {
    let home = Home::cold();
    let value = "sk-proj-e2eMisplaced0123456789abcdefghij";
    for args in [vec![format!("OPENAI_API_KEY={value}")], vec![value.to_owned(), "-".to_owned()]] {
        for json in [false, true] {
            let outcome = orch(&home)
                .args(["secrets", "set"])
                .args(&args)
                .args(json.then_some("--json"))
                .run()
                .expect(2)
                .silent();
            needle::none(&outcome.search(&Needle::new(value)));
        }
    }
}
