use std::sync::Arc;

use orch_vault::VaultLocation;
use tempfile::TempDir;

use super::*;
use crate::failure::Kind;

const KEY: &str = "sk-0123456789abcdef0123456789abcdef";

struct Stage {
    _folder: TempDir,
    keeper: Keeper,
    catalog: Arc<Catalog>,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let location = VaultLocation {
            store: folder.path().join("vault"),
            key_file: folder.path().join("vault.key"),
            workspace: "default".to_owned(),
            custody: orch_vault::Custody::default(),
        };
        let catalog = Arc::new(Catalog::builtin());
        Self { _folder: folder, keeper: Keeper::new(location, Arc::clone(&catalog)), catalog }
    }

    async fn put(&self, name: &str, body: &Value) -> Result<Value, Failure> {
        self.put_despite(false, name, body).await
    }

    async fn put_despite(&self, terms: bool, name: &str, body: &Value) -> Result<Value, Failure> {
        let body = body.to_string();
        let sent = (body.as_bytes(), Sender::Other);
        put(&self.keeper, "default", &self.catalog, (name, terms), None, sent).await
    }

    async fn delete(&self, name: &str) -> Result<Value, Failure> {
        let name = secret_name(name, &self.catalog)?;
        self.keeper.with("default", move |vault| remove(vault, &name)).await
    }

    async fn list(&self, workspace: &str) -> Value {
        list(&self.keeper, workspace, &self.catalog).await.expect("listed")
    }
}

#[tokio::test]
async fn a_secret_goes_in_is_listed_and_goes_without_its_value_coming_out() {
    let stage = Stage::new();
    assert_eq!(stage.list("default").await, json!({ "secrets": [] }));
    assert_eq!(stage.delete("TOKEN").await.expect_err("none").code(), "secret_missing");

    let body = json!({
        "value": KEY, "expires": "2090-01-31T12:00:00Z", "grants": [
            { "host": "API.example.com", "place": { "header": "X-Token" }, "agents": ["acme/x"] },
            { "host": "*.example.org", "methods": ["GET"], "paths": ["/v1/**"], "place": { "query": "key" }, "runs": 2 },
        ],
    });
    let first = stage.put("TOKEN", &body).await.expect("set");
    assert_eq!((&first["version"], &first["kept_grants"]), (&json!(1), &json!(0)), "{first}");
    assert_eq!(stage.put("TOKEN", &body).await.expect("set")["version"], 2);
    stage.put("OPENAI_API_KEY", &json!({ "value": KEY })).await.expect("set");

    let listed = stage.list("default").await;
    let row = &listed["secrets"][1];
    let grants = &row["grants"];
    assert_eq!(
        (&grants[0]["host"], &grants[1]["host"]),
        (&json!("api.example.com"), &json!("*.example.org"))
    );
    assert_eq!(grants[0]["place"], json!({ "header": "x-token" }));
    assert_eq!((&grants[0]["agents"], &grants[1]["runs"]), (&json!(["acme/x"]), &json!(2)));
    assert_eq!(grants[1]["used"], json!({ "runs": 0, "cost_usd": 0.0 }));
    assert_eq!((&row["version"], &row["mask"]), (&json!(2), &json!("cdef")));
    assert_eq!(row["expires"], "2090-01-31T12:00:00Z");
    let key = &listed["secrets"][0];
    assert_eq!(key["provider"], json!({ "name": "openai", "host": "api.openai.com" }));
    assert_eq!(key["grants"], json!([]));
    assert!(!listed.to_string().contains("0123456789"), "{listed}");
    assert_eq!(stage.list("other").await, json!({ "secrets": [] }));

    assert_eq!(stage.delete("TOKEN").await.expect("gone"), json!({ "name": "TOKEN", "removed": 2 }));
    assert_eq!(stage.delete("TOKEN").await.expect_err("gone").code(), "secret_missing");
}

#[tokio::test]
async fn what_is_refused_says_why_and_repeats_no_value() {
    let stage = Stage::new();
    let with = |field: &str, said: Value| {
        let mut body = json!({ "value": KEY });
        body[field] = said;
        body
    };
    for (name, body, code) in [
        ("TOKEN", with("grants", json!([{ "host": "*.com" }])), "bad_usage"),
        ("TOKEN", with("grants", json!([{ "host": "a.example", "place": { "body": "x" } }])), "body_invalid"),
        ("TOKEN", with("grants", json!([{ "host": "a.example", "expires": "soon" }])), "body_invalid"),
        ("TOKEN", with("grants", json!([{ "host": "a.example", "runs": -1 }])), "body_invalid"),
        ("TOKEN", with("grants", json!([{ "host": "a.example", "runs": 0 }])), "secret_refused"),
        ("TOKEN", with("grants", json!({ "host": "a.example" })), "body_invalid"),
        ("TOKEN", with("hosts", json!(["a.example"])), "body_invalid"),
        ("TOKEN", with("expires", json!("soon")), "body_invalid"),
        ("TOKEN", with("expires", json!("2020-01-01T00:00:00Z")), "secret_refused"),
        ("TOKEN", with("extra", json!(1)), "body_invalid"),
        ("TOKEN", json!({ "value": 5 }), "body_invalid"),
        ("TOKEN", json!({ "grants": [] }), "body_invalid"),
        ("TOKEN", json!([KEY]), "body_invalid"),
        ("TOKEN", json!({ "value": "short" }), "secret_refused"),
        ("TOKEN", json!({ "value": format!("{KEY}\n") }), "secret_refused"),
        ("OPENAI_API_KEY", with("grants", json!([{ "host": "api.example.com" }])), "bad_usage"),
        ("OPENAI_API_KEY", with("multiline", json!(true)), "bad_usage"),
        ("openai", json!({ "value": KEY }), "secret_name_invalid"),
        (KEY, json!({ "value": KEY }), "secret_name_invalid"),
    ] {
        let failure = stage.put(name, &body).await.expect_err(&body.to_string());
        assert_eq!(failure.code(), code, "{name} {body} {failure}");
        assert!(!failure.to_json().to_string().contains(KEY), "{failure:?}");
    }
    assert_eq!(stage.list("default").await, json!({ "secrets": [] }));
    let short = json!({ "value": "short", "allow_short": true });
    stage.put("TOKEN", &short).await.expect("it was asked for");
    assert_eq!(stage.list("default").await["secrets"][0]["scrubbable"], false);
}

#[test]
fn a_value_is_read_with_its_escapes() {
    let (value, _) = body::new(br#"{"value":"a\"\u00e9\\b"}"#).expect("a body");
    value.expose(|bytes| assert_eq!(bytes, "a\"é\\b".as_bytes()));
    for bad in [&b"{"[..], b"", b"{\"value\":\"\xff\"}"] {
        assert_eq!(body::new(bad).map(|_| ()).expect_err("not JSON").code(), "body_invalid");
    }
}

#[tokio::test]
async fn what_a_provider_s_terms_forbid_is_not_stored_unless_it_is_meant() {
    let stage = Stage::new();
    let token = "sk-ant-oat01-0123456789abcdefghijklmnop";
    let (name, body) = ("CLAUDE_CODE_OAUTH_TOKEN", json!({ "value": token }));
    let failure = stage.put(name, &body).await.expect_err("nobody said so");
    assert_eq!((failure.kind(), failure.code()), (Kind::Denied, "terms_forbid"), "{failure}");
    let said = failure.to_json().to_string();
    assert!(said.contains("despite_terms=true") && said.contains("ANTHROPIC_API_KEY"), "{said}");
    assert!(!said.contains(token), "{said}");
    assert_eq!(stage.list("default").await, json!({ "secrets": [] }));
    let stored = stage.put_despite(true, name, &body).await.expect("it is meant");
    assert!(stored["warnings"].to_string().contains("does not permit"), "{stored}");
    // Nobody's terms forbid these.
    stage.put("QWEN_CODE_OAUTH", &json!({ "value": "qwen-access-0123456789" })).await.expect("stored");
}
