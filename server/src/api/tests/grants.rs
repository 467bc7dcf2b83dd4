//! Grants, and the record of them.

use orch_vault::{AuditEvent, OpenMode, Vault};

use super::*;

/// What cannot be put on record is not done: somebody else has the vault.
#[tokio::test]
async fn a_grant_is_taken_back_only_when_that_is_on_record() {
    let stage = Stage::new().await;
    let digest = orch_manifests::Digest::of(b"x");
    let path = format!("/v1/grants/{digest}");
    let grant = json!({ "agent": "acme/x", "capabilities": ["talk to https://api.example.com (GET)"] });
    assert_eq!(stage.own("PUT", &path, Some(&grant)).await.status, StatusCode::OK);
    let location = VaultLocation {
        store: stage.service.home().vault(),
        key_file: stage.service.home().vault_key(),
        workspace: "default".to_owned(),
        custody: orch_vault::Custody::default(),
    };
    let removals = |vault: &Vault| {
        let events = vault.audit().expect("a log").into_iter().map(|record| record.event);
        events.filter(|event| matches!(event, AuditEvent::GrantRemoved { .. })).count()
    };
    let granted = async || {
        let all = stage.own("GET", "/v1/grants", None).await.json();
        all["grants"].as_array().expect("a list").len()
    };

    let elsewhere = Vault::open(&location, OpenMode::ReadOnlyIfExists).expect("a vault");
    assert_eq!(stage.own("DELETE", &path, None).await.refused(), (503, "vault_locked".to_owned()));
    assert_eq!((granted().await, removals(&elsewhere)), (1, 0));
    drop(elsewhere);

    assert_eq!(stage.own("DELETE", &path, None).await.status, StatusCode::OK);
    // What is not there any more is not taken back again, nor on record as if it had been.
    assert_eq!(stage.own("DELETE", &path, None).await.refused(), (404, "not_found".to_owned()));
    let vault = Vault::open(&location, OpenMode::ReadOnlyIfExists).expect("a vault");
    assert_eq!((granted().await, removals(&vault)), (0, 1));
}
