//! Agents and grants.

use orch_manifests::Digest;

use super::*;

const MODULE: &[u8] = b"\0asm\x0d\0\x01\0";

fn manifest(version: &str, host: &str) -> String {
    format!(
        "name: acme/x\nversion: {version}\ndescription: Does x.\nmodule: x.wasm\nsupported_providers: [any]\n\
         egress: [{{ host: {host} }}]\n"
    )
}

fn bytes(method: &str, path: &str, body: &[u8]) -> Request<Body> {
    Request::builder().method(method).uri(path).body(full(body.to_vec())).expect("a request")
}

impl Stage {
    async fn own_bytes(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.send(Some(Caller::owner()), Peer::Unix, bytes(method, path, body)).await
    }

    /// Uploads the module and publishes a version.
    pub(super) async fn publish(&self, version: &str, host: &str) -> Answer {
        let digest = Digest::of(MODULE);
        self.own_bytes("PUT", &format!("/v1/blobs/{digest}"), MODULE).await;
        let body =
            json!({ "manifest": manifest(version, host), "format": "yaml", "module": digest.to_string() });
        self.own("PUT", &format!("/v1/agents/acme/x/{version}"), Some(&body)).await
    }
}

#[tokio::test]
async fn a_module_is_kept_by_its_digest() {
    let stage = Stage::new().await;
    let path = format!("/v1/blobs/{}", Digest::of(MODULE));
    let absent = stage.own("HEAD", &path, None).await;
    assert_eq!((absent.status.as_u16(), absent.text.as_str()), (404, ""), "a head has no body");
    assert_eq!(stage.own_bytes("PUT", &path, MODULE).await.status, 201);
    assert_eq!(stage.own_bytes("PUT", &path, MODULE).await.status, 200);
    assert_eq!(stage.own("HEAD", &path, None).await.status, 200);
    let got = stage.own("GET", &path, None).await;
    assert_eq!((got.status.as_u16(), got.text.as_bytes()), (200, MODULE));

    let other = stage.own_bytes("PUT", &path, b"\0asm other").await;
    assert_eq!(other.refused(), (400, "digest_mismatch".to_owned()));
    let text = b"#!/bin/sh";
    let script = stage.own_bytes("PUT", &format!("/v1/blobs/{}", Digest::of(text)), text).await;
    assert_eq!(script.refused(), (400, "module_invalid".to_owned()));
    let mut huge = bytes("PUT", &path, MODULE);
    huge.headers_mut().insert("content-length", "999999999999".parse().expect("a value"));
    let huge = stage.send(Some(Caller::owner()), Peer::Unix, huge).await;
    assert_eq!(huge.refused(), (413, "body_too_large".to_owned()));
    assert_eq!(stage.own("GET", "/v1/blobs/sha256:00", None).await.refused(), (400, "bad_digest".to_owned()));

    // The modules that come with orch are there without having been sent.
    let summarizer = stage.own("GET", "/v1/agents/orch/summarizer/latest", None).await.json();
    let path = format!("/v1/blobs/{}", summarizer["module"].as_str().expect("text"));
    assert_eq!(stage.own("HEAD", &path, None).await.status, 200);
    let got = stage.own("GET", &path, None).await;
    assert_eq!(got.headers["content-length"], summarizer["size"].to_string().as_str());

    let copy = json!({ "manifest": manifest("1.0.0", "a.example"), "format": "yaml", "module": summarizer["module"] });
    assert_eq!(stage.own("PUT", "/v1/agents/acme/x/1.0.0", Some(&copy)).await.status, 201);

    // What else is kept by digest is nobody's to ask for.
    let report = stage.service.store().blobs().put(b"{\"output\":1}".to_vec().into()).await.expect("stored");
    assert_eq!(stage.own("GET", &format!("/v1/blobs/{report}"), None).await.refused().1, "not_found");
}

#[tokio::test]
async fn a_version_is_published_once() {
    let stage = Stage::new().await;
    let made = stage.publish("1.0.0", "a.example").await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(stage.publish("1.0.0", "a.example").await.status, 200);
    let other = stage.publish("1.0.0", "b.example").await;
    assert_eq!(other.refused(), (409, "version_exists".to_owned()));
    assert_eq!(other.json()["error"]["details"]["digest"], made.json()["digest"]);

    let body = |text: String| json!({ "manifest": text, "format": "yaml", "module": Digest::of(MODULE).to_string() });
    for (path, body, code) in [
        ("/v1/agents/acme/x/2.0.0", body(manifest("1.0.0", "a.example")), "manifest_differs"),
        ("/v1/agents/acme/y/1.0.0", body(manifest("1.0.0", "a.example")), "manifest_differs"),
        ("/v1/agents/orch/x/1.0.0", body(manifest("1.0.0", "a.example")), "org_reserved"),
        ("/v1/agents/local/x/1.0.0", body(manifest("1.0.0", "a.example")), "org_reserved"),
        ("/v1/agents/acme/x/latest", body(manifest("1.0.0", "a.example")), "bad_version"),
        ("/v1/agents/ACME/x/1.0.0", body(manifest("1.0.0", "a.example")), "bad_agent"),
        ("/v1/agents/acme/x/1.0.1", body("name: [".to_owned()), "manifest_invalid"),
        ("/v1/agents/acme/x/1.0.1", json!({ "manifest": "", "format": "toml", "module": "" }), "bad_json"),
    ] {
        let answer = stage.own("PUT", path, Some(&body)).await;
        assert_eq!(answer.refused(), (400, code.to_owned()), "{path}");
    }
    let absent = json!({ "manifest": manifest("1.0.1", "a.example"), "format": "yaml", "module": Digest::of(b"").to_string() });
    let absent = stage.own("PUT", "/v1/agents/acme/x/1.0.1", Some(&absent)).await;
    assert_eq!(absent.refused(), (404, "not_found".to_owned()));
}

#[tokio::test]
async fn versions_are_found_listed_and_compared() {
    let stage = Stage::new().await;
    for (version, host) in [("1.0.0", "a.example"), ("1.2.0", "b.example"), ("2.0.0-rc.1", "b.example")] {
        assert_eq!(stage.publish(version, host).await.status, 201);
    }
    for (asked, version) in [
        ("latest", "1.2.0"),
        ("1.0.0", "1.0.0"),
        ("%5E1.0", "1.2.0"),
        ("~1.0", "1.0.0"),
        ("2.0.0-rc.1", "2.0.0-rc.1"),
    ] {
        let found = stage.own("GET", &format!("/v1/agents/acme/x/{asked}"), None).await;
        assert_eq!(found.json()["version"], version, "{asked}: {}", found.text);
    }
    assert_eq!(stage.own("GET", "/v1/agents/acme/x/9", None).await.refused().1, "version_not_found");
    assert_eq!(stage.own("GET", "/v1/agents/acme/x/v1", None).await.refused().1, "bad_version");
    assert_eq!(stage.own("GET", "/v1/agents/acme/nobody", None).await.refused().1, "agent_not_found");

    let one = stage.own("GET", "/v1/agents/acme/x/1.0.0", None).await.json();
    assert_eq!(one["manifest"], manifest("1.0.0", "a.example"));
    assert_eq!((&one["format"], &one["publisher"]), (&json!("yaml"), &json!("owner")));
    assert_eq!(one["capabilities"], json!(["talk to https://a.example (any method)"]));
    assert_eq!((&one["granted"], &one["size"]), (&json!([]), &json!(MODULE.len())));
    let versions = stage.own("GET", "/v1/agents/acme/x", None).await.json();
    let numbers: Vec<&str> = versions["versions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|v| v["version"].as_str().expect("text"))
        .collect();
    assert_eq!(
        (numbers, &versions["description"]),
        (vec!["2.0.0-rc.1", "1.2.0", "1.0.0"], &json!("Does x."))
    );

    let diff = stage.own("GET", "/v1/agents/acme/x/latest/diff?from=1.0.0", None).await.json();
    assert_eq!(
        diff,
        json!({ "from": "1.0.0", "to": "1.2.0", "kept": [], "added": ["talk to https://b.example (any method)"],
            "removed": ["talk to https://a.example (any method)"] })
    );
    assert_eq!(stage.own("GET", "/v1/agents/acme/x/latest/diff", None).await.refused().1, "bad_query");

    let agents = stage.own("GET", "/v1/agents", None).await.json();
    let agents = agents["agents"].as_array().expect("a list").clone();
    let ours = agents.iter().find(|agent| agent["name"] == "acme/x").expect("published");
    assert_eq!(
        (&ours["latest"], &ours["versions"], &ours["builtin"]),
        (&json!("1.2.0"), &json!(3), &json!(false))
    );
    assert!(agents.iter().any(|agent| agent["name"] == "orch/summarizer" && agent["builtin"] == true));
    let builtin = stage.own("GET", "/v1/agents/orch/summarizer/latest", None).await.json();
    assert_eq!((&builtin["publisher"], &builtin["published_at"]), (&json!("orch"), &Value::Null));
}

#[tokio::test]
async fn a_grant_is_for_one_content_in_one_workspace() {
    let stage = Stage::new().await;
    let digest =
        stage.publish("1.0.0", "a.example").await.json()["digest"].as_str().expect("text").to_owned();
    let run = json!({ "agent": "acme/x", "simulate": { "scenario": "ok" } });
    let refused = stage.own("POST", "/v1/runs", Some(&run)).await;
    assert_eq!(refused.refused(), (403, "not_granted".to_owned()));
    let details = &refused.json()["error"]["details"];
    assert_eq!((&details["digest"], &details["name"]), (&json!(digest), &json!("acme/x")));

    let path = format!("/v1/grants/{digest}");
    let body = json!({ "agent": "acme/x", "capabilities": details["wanted"] });
    assert_eq!(stage.own("PUT", &path, Some(&body)).await.status, 200);
    let grants = stage.own("GET", "/v1/grants", None).await.json();
    assert_eq!(
        (&grants["grants"][0]["digest"], &grants["grants"][0]["granted_by"]),
        (&json!(digest), &json!("owner"))
    );
    assert_eq!(stage.own("POST", "/v1/runs?wait", Some(&run)).await.status, 200, "granted");
    assert_eq!(stage.own("GET", "/v1/agents/acme/x/latest", None).await.json()["granted"], details["wanted"]);

    let theirs = stage.token("other", &[Scope::Admin]).await;
    assert_eq!(stage.ask(&theirs, "GET", "/v1/grants", None).await.json()["grants"], json!([]));
    assert_eq!(stage.ask(&theirs, "DELETE", &path, None).await.refused(), (404, "not_found".to_owned()));
    assert_eq!(stage.ask(&theirs, "POST", "/v1/runs", Some(&run)).await.refused().1, "not_granted");

    assert_eq!(stage.own("DELETE", &path, None).await.status, 200);
    assert_eq!(stage.own("POST", "/v1/runs", Some(&run)).await.refused().1, "not_granted");
    // For one run only.
    let mut once = run.clone();
    once["grant"] = details["wanted"].clone();
    assert_eq!(stage.own("POST", "/v1/runs?wait", Some(&once)).await.status, 200);
    assert_eq!(stage.own("POST", "/v1/runs", Some(&run)).await.refused().1, "not_granted");
    for bad in [json!([]), json!([""]), json!(["x".repeat(5000)])] {
        let body = json!({ "agent": "acme/x", "capabilities": bad });
        assert_eq!(stage.own("PUT", &path, Some(&body)).await.refused(), (400, "bad_grant".to_owned()));
    }
}
