//! What the owner of a secret says about it and does with it: in the vault of this home, over the socket of the server
//! that holds it, and over the network.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use orch_tests::home::Home;
use orch_tests::needle::{self, Needle};
use orch_tests::orch::{Orch, Outcome};
use orch_tests::pty;
use serde_json::{Value, json};

use crate::remote::Remote;
use crate::stage::{OPENAI_KEY, Outside, Stage, orch, text};

const TOKEN: &str = "ghp_e2eQw7ZpLx4Vn8Rt2Ys6Hd1Kf9Bm3";
const NEW: &str = "ghp_e2eNw5Xa8Cd1Fg4Hj7Kl0Mn3Pq6Rs9";

/// Where the vault is, as a command finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Here,
    Socket,
    Network,
}

/// Makes a test of each of these functions in each [`Place`]; they take the place.
macro_rules! in_every_place {
    ($($name:ident)*) => {
        mod here {
            $(#[test]
            fn $name() {
                super::$name(super::Place::Here);
            })*
        }

        mod socket {
            $(#[test]
            fn $name() {
                super::$name(super::Place::Socket);
            })*
        }

        mod network {
            $(#[test]
            fn $name() {
                super::$name(super::Place::Network);
            })*
        }
    };
}

in_every_place! {
    grants_are_given_kept_shown_and_taken_back
    a_rotation_changes_the_value_and_nothing_else
    a_removal_says_who_would_miss_it
    a_file_goes_in_whole_or_not_at_all
    what_makes_no_sense_is_refused_before_a_value_is_read
}

/// The owner, at one of these places.
enum Owner {
    Here(Home),
    There(Box<Remote>, Place),
}

impl Owner {
    fn at(place: Place) -> Self {
        match place {
            Place::Here => Self::Here(Home::cold()),
            _ => Self::There(Box::new(Remote::without_keys()), place),
        }
    }

    fn secrets<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Orch {
        let args = ["secrets"].into_iter().chain(args);
        match self {
            Self::Here(home) => orch(home).args(args),
            Self::There(remote, Place::Network) => remote.orch(args),
            Self::There(remote, _) => remote.here(args),
        }
    }

    #[track_caller]
    fn said<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Value {
        self.secrets(args).arg("--json").run().expect(0).json()
    }

    #[track_caller]
    fn set(&self, name: &str, flags: &[&str]) -> Outcome {
        self.secrets(["set", name, "-"]).args(flags).stdin(TOKEN).run().expect(0)
    }

    #[track_caller]
    fn row(&self, name: &str) -> Value {
        let rows = self.said(["list"])["secrets"].clone();
        let row = rows.as_array().expect("rows").iter().find(|row| row["name"] == name).cloned();
        row.unwrap_or_else(|| panic!("no {name} in {rows:#}"))
    }

    /// No value is in any file of any home.
    fn keeps_quiet(&self) {
        for value in [TOKEN, NEW, OPENAI_KEY] {
            let needle = Needle::new(value);
            match self {
                Self::Here(home) => needle::none(&home.search(&needle)),
                Self::There(remote, _) => {
                    needle::none(&remote.stage.home.search(&needle));
                    needle::none(&remote.client.search(&needle));
                }
            }
        }
    }
}

#[track_caller]
fn failed(outcome: Outcome, code: i32, word: &str) -> Value {
    let error = outcome.expect(code).silent().error();
    assert_eq!(error["code"], word, "{error:#}");
    error
}

fn grants_are_given_kept_shown_and_taken_back(place: Place) {
    let owner = Owner::at(place);
    owner.set("TOKEN", &[]).says("may go nowhere yet");
    let flags =
        ["--host", "API.github.com", "--host", "*.example.org", "--method", "get", "--path", "/repos/**"];
    owner.set(
        "TOKEN",
        &[&flags[..], &["--in", "header:X-Token", "--agent", "acme/x", "--runs", "3"]].concat(),
    );
    let row = owner.row("TOKEN");
    let grants = row["grants"].as_array().expect("grants");
    assert_eq!(grants.len(), 2, "{row:#}");
    assert_eq!((&grants[0]["host"], &grants[1]["host"]), (&json!("api.github.com"), &json!("*.example.org")));
    for grant in grants {
        assert_eq!((&grant["methods"], &grant["paths"]), (&json!(["GET"]), &json!(["/repos/**"])));
        assert_eq!((&grant["place"], &grant["runs"]), (&json!({ "header": "x-token" }), &json!(3)));
    }
    let log = match &owner {
        Owner::Here(home) => orch(home).args(["vault", "audit"]),
        Owner::There(remote, _) => remote.here(["vault", "audit"]),
    };
    let log = log.arg("--json").run().expect(0).json();
    let granted =
        log["records"].as_array().expect("records").iter().find(|record| record["event"] == "secret_granted");
    let terms = &granted.expect("on record")["terms"];
    assert_eq!(
        (&terms["methods"], &terms["runs"], &terms["max_cost_usd"]),
        (&json!(["GET"]), &json!(3), &Value::Null)
    );
    // A value without any such flag changes nothing about them, and says so.
    owner.set("TOKEN", &[]).says("kept its 2 grants");
    assert_eq!(owner.row("TOKEN")["grants"], row["grants"]);

    let added = owner.said([
        "grants",
        "add",
        "TOKEN",
        "--host",
        "b.example",
        "--in",
        "query:key",
        "--expires",
        "30d",
    ]);
    let id = added["grants"][0]["id"].to_string();
    assert_eq!(added["grants"][0]["place"], json!({ "query": "key" }), "{added:#}");
    assert!(added["grants"][0]["expires"].is_string(), "{added:#}");
    let shown = owner.secrets(["grants", "TOKEN"]).run().expect(0);
    for part in ["api.github.com", "GET", "/repos/**", "acme/x", "0 of 3 runs", "query:key"] {
        assert!(shown.stdout().contains(part), "{part:?} is missing in {shown}");
    }
    assert_eq!(owner.said(["grants"])["grants"].as_array().map(Vec::len), Some(3));
    assert_eq!(owner.said(["grants", "rm", "TOKEN", &id])["removed_grant"].to_string(), id);
    failed(owner.secrets(["grants", "rm", "TOKEN", &id, "--json"]).run(), 2, "grant_missing");
    assert_eq!(owner.row("TOKEN")["grants"], row["grants"]);
    let missing = failed(
        owner.secrets(["grants", "add", "NONE", "--host", "a.example", "--json"]).run(),
        2,
        "secret_missing",
    );
    assert!(missing["hints"].to_string().contains("orch secrets set NONE"), "{missing:#}");
    failed(owner.secrets(["grants", "NONE", "--json"]).run(), 2, "secret_missing");

    // A provider's key goes where the catalog says: a grant says for whom, and how much.
    owner
        .secrets(["set", "OPENAI_API_KEY", "-", "--agent", "acme/x", "--max-cost", "2.50"])
        .stdin(OPENAI_KEY)
        .run()
        .expect(0);
    let key = owner.row("OPENAI_API_KEY");
    assert_eq!(key["grants"].as_array().map(Vec::len), Some(1), "{key:#}");
    assert_eq!((&key["grants"][0]["max_cost_usd"], &key["grants"][0]["host"]), (&json!(2.5), &Value::Null));
    let list = owner.secrets(["list"]).run().expect(0);
    for part in ["OPENAI_API_KEY", "api.openai.com", "for acme/x", "never", "vault"] {
        assert!(list.stdout().contains(part), "{part:?} is missing in {list}");
    }
    owner.keeps_quiet();
}

fn a_rotation_changes_the_value_and_nothing_else(place: Place) {
    let owner = Owner::at(place);
    let missing =
        failed(owner.secrets(["rotate", "TOKEN", "-", "--json"]).stdin(NEW).run(), 2, "secret_missing");
    assert!(missing["hints"].to_string().contains("orch secrets set TOKEN"), "{missing:#}");
    owner.set("TOKEN", &["--host", "a.example", "--runs", "5", "--expires", "30d"]);
    let before = owner.row("TOKEN");
    let rotated =
        owner.secrets(["rotate", "TOKEN", "-", "--json"]).stdin(format!("{NEW}\r\n")).run().expect(0).json();
    let after = owner.row("TOKEN");
    assert_eq!((&rotated["version"], &after["version"]), (&json!(2), &json!(2)));
    assert_eq!(after["grants"], before["grants"]);
    assert_ne!(after["fingerprint"], before["fingerprint"]);
    assert!(after["expires"].is_string(), "it lives as long as the one before: {after:#}");
    assert_eq!(after["mask"], NEW[NEW.len() - 4..]);
    // Whoever follows runs says how many use it.
    assert_eq!(
        rotated["under_way"],
        if place == Place::Here { Value::Null } else { json!([]) },
        "{rotated:#}"
    );
    let said = owner
        .secrets(["rotate", "TOKEN", "--from-env", "--expires", "60d"])
        .env("TOKEN", TOKEN)
        .run()
        .expect(0);
    for part in ["version 3", "it expires 20"] {
        assert!(said.stderr().contains(part), "{part:?} is missing in {said}");
    }
    failed(owner.secrets(["rotate", "TOKEN", "-", "--json"]).stdin("short").run(), 2, "secret_refused");
    failed(owner.secrets(["rotate", "TOKEN", "--json"]).run(), 2, "bad_usage");
    assert_eq!(owner.row("TOKEN")["version"], 3);
    owner.keeps_quiet();
}

fn a_removal_says_who_would_miss_it(place: Place) {
    let owner = Owner::at(place);
    owner.set("TOKEN", &["--host", "a.example", "--agent", "acme/x"]);
    owner.secrets(["set", "OPENAI_API_KEY", "-"]).stdin(OPENAI_KEY).run().expect(0);
    let refused = failed(owner.secrets(["rm", "TOKEN", "--json"]).run(), 2, "bad_usage");
    assert_eq!(refused["details"]["uses"]["granted"][0]["agent"], "acme/x", "{refused:#}");
    let refused = owner.secrets(["rm", "OPENAI_API_KEY"]).run().expect(2).silent();
    for part in ["goes to api.openai.com", "never used", "orch/summarizer", "--yes"] {
        assert!(refused.stderr().contains(part), "{part:?} is missing in {refused}");
    }
    let removed = owner.said(["rm", "TOKEN", "--yes", "--now"]);
    assert_eq!((&removed["removed"], &removed["uses"]["granted"][0]["agent"]), (&json!(1), &json!("acme/x")));
    let cut = if place == Place::Here { Value::Null } else { json!(0) };
    assert_eq!(removed["cut"], cut, "{removed:#}");
    failed(owner.secrets(["rm", "TOKEN", "--yes", "--json"]).run(), 2, "secret_missing");
    let said = owner.secrets(["rm", "OPENAI_API_KEY", "--yes"]).run().expect(0);
    let how = if place == Place::Here { "keep what they read" } else { "--now would have cut them" };
    assert!(said.stderr().contains(how), "{said}");
    assert_eq!(owner.said(["list"])["secrets"], json!([]));
}

fn a_file_goes_in_whole_or_not_at_all(place: Place) {
    let owner = Owner::at(place);
    let outside = Outside::new();
    let write = |text: &str| {
        let path = outside.file("env", text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our own file");
        self::text(path)
    };
    let file = write(&format!(
        "# keys\r\nexport OPENAI_API_KEY={OPENAI_KEY}\r\nTOKEN='{TOKEN}'\r\nPORT=80\r\nlower={NEW}\r\n"
    ));
    let plan = owner.secrets(["import", &file, "--dry-run", "--json"]).run().expect(0);
    assert_eq!(plan.json()["works"], false, "{plan}");
    let rows = plan.json()["plan"].clone();
    let told: Vec<_> = rows
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| (row["line"].as_u64(), row["action"].as_str()))
        .collect();
    let expected = [
        (Some(2), Some("new")),
        (Some(3), Some("new")),
        (Some(4), Some("refuse")),
        (Some(5), Some("refuse")),
    ];
    assert_eq!(told, expected, "{plan}");
    let refused = owner.secrets(["import", &file, "--json"]).run();
    needle::none(&refused.search(&Needle::new(NEW)));
    failed(refused, 2, "import_refused");
    assert_eq!(owner.said(["list"])["secrets"], json!([]), "nothing was stored");

    let file = write(&format!("OPENAI_API_KEY=\"{OPENAI_KEY}\"\nTOKEN='{TOKEN}'\n"));
    owner.secrets(["import", &file, "--dry-run"]).run().expect(0).says("nothing was stored");
    let piped = owner.secrets(["import", "-", "--dry-run"]).stdin(format!("TOKEN='{TOKEN}'\n")).run();
    assert!(piped.expect(0).stdout().contains("TOKEN"), "from standard input");
    assert_eq!(owner.said(["list"])["secrets"], json!([]), "nothing was stored");
    let done = owner.secrets(["import", &file]).run().expect(0);
    for part in [
        "stored OPENAI_API_KEY, version 1",
        "stored TOKEN, version 1",
        "TOKEN may go nowhere yet",
        "delete it",
    ] {
        assert!(done.stderr().contains(part), "{part:?} is missing in {done}");
    }
    assert!(!done.stderr().contains("others can read"), "{done}");
    owner.said(["grants", "add", "TOKEN", "--host", "a.example"]);
    let file = write(&format!("TOKEN={NEW}\nMORE='{TOKEN}'\n"));
    let refused = failed(owner.secrets(["import", &file, "--json"]).run(), 2, "import_refused");
    assert!(refused["message"].to_string().contains("--overwrite"), "{refused:#}");
    let done = owner.said(["import", &file, "--overwrite"]);
    assert_eq!(
        (&done["secrets"][0]["version"], &done["secrets"][0]["replaced"]),
        (&json!(2), &json!(true)),
        "{done:#}"
    );
    assert_eq!(owner.row("TOKEN")["grants"][0]["host"], "a.example", "what was said about it stays");

    let file = write(&format!("TOKEN={NEW}#{TOKEN}\n"));
    let wrong = failed(owner.secrets(["import", &file, "--json"]).run(), 2, "env_file_invalid");
    assert_eq!((&wrong["details"]["line"], &wrong["details"]["column"]), (&json!(1), &json!(7 + NEW.len())));
    assert!(!wrong.to_string().contains(NEW) && !wrong.to_string().contains(TOKEN), "{wrong:#}");
    let file = write(&format!("TOKEN={NEW}\nTOKEN={TOKEN}\n"));
    let twice = failed(owner.secrets(["import", &file, "--overwrite", "--json"]).run(), 2, "import_refused");
    assert!(twice["message"].to_string().contains("line 1 has that name already"), "{twice:#}");
    let file = write(&format!("DOLLAR=a$b{TOKEN}\n"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("our own file");
    let said = owner.secrets(["import", &file]).run().expect(0);
    for part in ["a $ is a $", "others can read"] {
        assert!(said.stderr().contains(part), "{part:?} is missing in {said}");
    }
    owner.keeps_quiet();
}

fn what_makes_no_sense_is_refused_before_a_value_is_read(place: Place) {
    let owner = Owner::at(place);
    for (name, flags, why) in [
        ("TOKEN", &["--agent", "acme/x"][..], "needs a host"),
        ("TOKEN", &["--runs", "3"], "needs a host"),
        ("TOKEN", &["--host", "10.0.0.1"], "the host"),
        ("TOKEN", &["--host", "a.example", "--method", "TRACE"], "TRACE"),
        ("TOKEN", &["--host", "a.example", "--path", "repos"], "the path"),
        ("TOKEN", &["--host", "a.example", "--in", "body:x"], "neither header:NAME nor query:NAME"),
        ("TOKEN", &["--host", "a.example", "--in", "header:Host"], "the connection's"),
        ("TOKEN", &["--host", "a.example", "--max-cost", "1"], "money is counted for model calls"),
        ("OPENAI_API_KEY", &["--host", "a.example"], "api.openai.com only"),
        ("OPENAI_API_KEY", &["--path", "/**"], "api.openai.com only"),
        ("OPENAI_API_KEY", &["--in", "query:key"], "api.openai.com only"),
        ("OPENAI_API_KEY", &["--max-cost", "much"], "--max-cost"),
        ("OPENAI_API_KEY", &["--multiline"], "no header has line breaks"),
    ] {
        let outcome = owner.secrets(["set", name, "--json"]).args(flags).run();
        let error = failed(outcome, 2, "bad_usage");
        assert!(error["message"].to_string().contains(why), "{why:?}: {error:#}");
    }
    assert_eq!(owner.said(["list"])["secrets"], json!([]));
}

#[test]
fn a_file_of_many_lines_is_kept_out_of_headers() {
    let home = Home::cold();
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAe2e\n-----END PRIVATE KEY-----\n";
    let set = |flags: &[&str]| {
        orch(&home).args(["secrets", "set", "PEM", "-", "--json"]).args(flags).stdin(pem).run()
    };
    let refused = failed(set(&[]), 2, "secret_refused");
    assert!(refused["hints"].to_string().contains("--multiline"), "{refused:#}");
    let refused = failed(set(&["--multiline", "--host", "a.example"]), 2, "secret_refused");
    assert!(refused["hints"].to_string().contains("query:NAME"), "{refused:#}");
    let kept = set(&["--multiline", "--host", "a.example", "--in", "query:key"]).expect(0).json();
    assert_eq!(kept["never_in_header"], true, "{kept:#}");
    // What wraps a value is nearly always a mistake, and the newline that a file ends with is its own.
    let wrapped =
        orch(&home).args(["secrets", "set", "TOKEN", "-", "--json"]).stdin(format!("{TOKEN}\n\n")).run();
    assert!(failed(wrapped, 2, "secret_refused")["hints"].to_string().contains("take them off"));
    let said =
        orch(&home).args(["secrets", "set", "TOKEN", "-"]).stdin(format!("{TOKEN}\r\n")).run().expect(0);
    assert!(said.stderr().contains("one newline at the end was taken off"), "{said}");
}

#[test]
fn a_removal_is_asked_about_and_the_answer_is_no_unless_it_is_yes() {
    let home = Home::cold();
    let set = ["secrets", "set", "TOKEN", "-", "--host", "a.example", "--agent", "acme/x"];
    orch(&home).args(set).stdin(TOKEN).run().expect(0);
    for (answer, code) in [("", 130), ("n", 130), ("sure", 130), ("y", 0)] {
        let (terminal, mut keyboard) = pty::open();
        let asked = orch(&home).args(["secrets", "rm", "TOKEN"]).env("TERM", "dumb").start_on(terminal);
        asked.wait_says("Remove TOKEN? It cannot be read back or restored. [y/N]");
        keyboard.answers(answer);
        let outcome = asked.finish().expect(code);
        assert!(outcome.stderr().contains("granted to acme/x toward a.example"), "{outcome}");
        let list = orch(&home).args(["secrets", "list", "--json"]).run().expect(0).json();
        assert_eq!(list["secrets"].as_array().map(Vec::len), Some(usize::from(code != 0)), "{answer:?}");
    }
}

#[test]
fn which_says_what_is_used_and_what_is_not() {
    let remote = Remote::without_keys();
    remote
        .here(["secrets", "set", "OPENAI_API_KEY", "-", "--expires", "30d"])
        .stdin(OPENAI_KEY)
        .run()
        .expect(0);
    let which = |orch: Orch| orch.env("OPENAI_API_KEY", TOKEN).args(["--json"]).run().expect(0).json();
    let far = which(remote.orch(["secrets", "which", "openai"]));
    assert_eq!(
        (&far["source"], &far["stays_here"]),
        (&json!("vault"), &json!(["OPENAI_API_KEY"])),
        "{far:#}"
    );
    assert_eq!((&far["mask"], far["expires"].is_string()), (&json!("v0Xa"), true), "{far:#}");
    let near = which(remote.here(["secrets", "which", "openai"]));
    assert_eq!(
        (&near["source"], &near["shadows"][0]["source"]),
        (&json!("env"), &json!("vault")),
        "{near:#}"
    );
    let said = remote.orch(["secrets", "which", "openai"]).env("OPENAI_API_KEY", TOKEN).run().expect(0);
    assert!(said.stderr().contains("--send-env-keys"), "{said}");
    let list = remote.here(["secrets", "list"]).env("OPENAI_API_KEY", TOKEN).run().expect(0);
    assert!(list.stdout().contains("env wins"), "{list}");
    // A variable that is no provider's key is nobody's.
    let none = remote.here(["secrets", "which", "TOKEN"]).env("TOKEN", TOKEN).run().expect(3).silent();
    assert!(none.stderr().contains("is not used"), "{none}");
    needle::none(&none.search(&Needle::new(TOKEN)));
}

#[test]
fn an_export_is_a_backup() {
    let stage = Stage::cold();
    stage.store("OPENAI_API_KEY", OPENAI_KEY, &[]);
    let file = text(stage.home.work().join("vault.backup"));
    let export = ["secrets", "export", &file];
    failed(stage.orch(export).arg("--json").run(), 2, "bad_usage");
    assert!(!std::path::Path::new(&file).exists());
    stage
        .orch(export)
        .arg("--passphrase-stdin")
        .stdin("five or six random words")
        .run()
        .expect(0)
        .says("the passphrase alone opens it");
    needle::none(&stage.home.search(&Needle::new(OPENAI_KEY)));
    let help = stage.orch(["secrets", "export", "--help"]).run().expect(0);
    assert!(help.stdout().contains("no export that shows values"), "{help}");
    let other = Home::cold();
    let restore = ["vault", "restore", &file, "--passphrase-stdin"];
    orch(&other).args(restore).stdin("five or six random words").run().expect(0);
    let which = orch(&other).args(["secrets", "which", "openai", "--json"]).run().expect(0).json();
    assert_eq!(which["source"], "vault");
}
