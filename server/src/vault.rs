//! `/v1/vault` and `/v1/audit`: what a vault is like, whether it is sound, and what happened in it.

use std::ops::ControlFlow;

use orch_vault::{
    AuditEvent, AuditRecord, Finding, OpenMode, SlotInfo, SlotKind, Vault, VaultStatus, Verification,
};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::failure::Failure;
use crate::keeper::{Keeper, VaultAt};
use crate::secrets::{GrantSaid, Written};

/// A status as the contract has it; without a vault, nothing but that there is none.
#[must_use]
pub fn described(status: Option<&VaultStatus>) -> Value {
    let Some(status) = status else { return json!({ "exists": false }) };
    json!({
        "exists": true,
        "workspace": status.workspace,
        "secrets": status.secrets,
        "generation": status.generation,
        "audit_records": status.audit_records,
        "live_bytes": status.live_bytes,
        "disk_bytes": status.disk_bytes,
        "slots": status.slots.iter().map(slot).collect::<Vec<_>>(),
    })
}

/// A key slot as the contract has it.
#[must_use]
pub fn slot(slot: &SlotInfo) -> Value {
    let mut row = json!({ "id": slot.id.to_string(), "kind": slot.kind.as_str(), "in_use": slot.in_use });
    if let SlotKind::Unknown(number) = slot.kind {
        row["number"] = json!(number);
    }
    row
}

/// A verification as the contract has it.
#[must_use]
pub fn verified(report: &Verification) -> Value {
    json!({
        "sound": report.is_sound(),
        "generation": report.generation,
        "secrets": report.secrets,
        "audit_records": report.audit_records,
        "findings": report.findings.iter().map(found).collect::<Vec<_>>(),
    })
}

fn found(finding: &Finding) -> Value {
    let row = finding.row.as_ref().map(|row| {
        json!({
            "kind": row.kind.as_str(),
            "workspace": row.workspace,
            "secret": row.secret.as_ref().map(ToString::to_string),
            "sequence": row.sequence,
        })
    });
    json!({ "code": finding.code, "message": finding.message, "row": row })
}

/// An audit record as the contract has it: the event's own fields beside when and where.
#[must_use]
pub fn recorded(record: &AuditRecord) -> Value {
    let mut fields = Map::new();
    fields.insert("sequence".to_owned(), record.sequence.into());
    fields.insert("time".to_owned(), written(record.time).into());
    fields.insert("workspace".to_owned(), record.workspace.as_str().into());
    if let Ok(Value::Object(event)) = serde_json::to_value(&record.event) {
        fields.extend(event);
    }
    if let AuditEvent::SecretGranted { terms, .. } = &record.event {
        fields.insert("terms".to_owned(), said(&GrantSaid::from(terms)));
    }
    Value::Object(fields)
}

/// The terms of a grant in the contract's words; what narrows nothing is left out.
fn said(terms: &GrantSaid) -> Value {
    let mut terms = serde_json::to_value(terms).unwrap_or_default();
    if let Some(fields) = terms.as_object_mut() {
        fields.retain(|_, value| !value.is_null() && *value != json!([]));
    }
    terms
}

fn written(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

/// `GET /v1/vault`.
///
/// # Errors
/// When the vault cannot be read.
pub(crate) async fn status(keeper: &Keeper, workspace: &str) -> Result<Value, Failure> {
    let status = keeper.look(workspace, |at| reading(at, |vault| Ok(vault.status()?))).await?;
    Ok(described(status.as_ref()))
}

/// `GET /v1/vault/verify`.
///
/// # Errors
/// When the vault cannot be looked at.
pub(crate) async fn verify(keeper: &Keeper, workspace: &str) -> Result<Value, Failure> {
    let report = keeper
        .look(workspace, |at| match at {
            VaultAt::Open(vault) => Ok(vault.verify()?),
            VaultAt::Rest(location) => Ok(Vault::verify_at(location)?),
        })
        .await?;
    Ok(verified(&report))
}

/// Bytes of records after which a page of the log ends: far less than an answer may have.
const PAGE: usize = 1 << 20;

/// Which part of the log is asked for.
pub(crate) struct Part {
    /// From this time on.
    pub(crate) since: Option<OffsetDateTime>,
    /// Behind the record with this number.
    pub(crate) after: Option<u64>,
    /// So many records at most.
    pub(crate) limit: usize,
}

/// `GET /v1/audit`: a page of the log, and behind which record the next one begins; null where none does.
///
/// # Errors
/// When the log is broken, or cannot be read.
pub(crate) async fn audit(keeper: &Keeper, workspace: &str, part: Part) -> Result<Value, Failure> {
    keeper.look(workspace, move |at| reading(at, |vault| page(vault, &part))).await
}

fn page(vault: &Vault, part: &Part) -> Result<Value, Failure> {
    let (mut records, mut bytes, mut last, mut next) = (Vec::new(), 0, None, None);
    vault.audit_after(part.after, &mut |record| {
        if part.since.is_some_and(|since| record.time < since) {
            return ControlFlow::Continue(());
        }
        if records.len() >= part.limit || bytes >= PAGE {
            next = last;
            return ControlFlow::Break(());
        }
        last = Some(record.sequence);
        let record = recorded(&record);
        bytes += record.to_string().len();
        records.push(record);
        ControlFlow::Continue(())
    })?;
    Ok(json!({ "records": records, "next": next }))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backup {
    passphrase: Written,
}

/// `POST /v1/vault/backup`: a backup, sealed under the passphrase of the body.
///
/// # Errors
/// A passphrase that is refused, a vault that is not sound, or the vault's own.
pub(crate) async fn backup(keeper: &Keeper, workspace: &str, wanted: Backup) -> Result<Vec<u8>, Failure> {
    let Written(passphrase) = wanted.passphrase;
    keeper.with(workspace, move |vault| Ok(vault.backup(&passphrase)?)).await
}

/// `POST /v1/vault/compact`.
///
/// # Errors
/// A vault that is not sound, or the vault's own.
pub(crate) async fn compact(keeper: &Keeper, workspace: &str) -> Result<Value, Failure> {
    let done = keeper.with(workspace, |vault| Ok(vault.compact()?)).await?;
    Ok(compacted(done.as_ref()))
}

/// A compaction as the contract has it: the bytes on disk before and after, and how many of them are live.
#[must_use]
pub fn compacted(done: Option<&(VaultStatus, VaultStatus)>) -> Value {
    json!({
        "before": done.map(|(before, _)| before.disk_bytes),
        "after": done.map(|(_, after)| after.disk_bytes),
        "live": done.map(|(_, after)| after.live_bytes),
    })
}

fn reading<T>(at: VaultAt<'_>, read: impl FnOnce(&Vault) -> Result<T, Failure>) -> Result<T, Failure> {
    match at {
        VaultAt::Open(vault) => read(vault),
        VaultAt::Rest(location) => read(&Vault::open(location, OpenMode::ReadOnlyIfExists)?),
    }
}
