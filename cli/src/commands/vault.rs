//! `orch vault`: whether what is kept is sound, what happened to it, and who can open it.

use std::process::ExitCode;

use orch_server::{Failure, Kind};
use orch_vault::{OpenMode, Vault};
use serde_json::{Value, json};

use crate::args::{VaultArgs, VaultCommand};
use crate::commands::secrets::Keeping;
use crate::printer::{Printer, harmless};
use crate::wire::{Installation, broken_pipe};

mod copies;
mod log;
mod slots;

pub(crate) use copies::backup;

pub(crate) fn run(args: &VaultArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let here = Installation::open()?;
    let find = || Keeping::find(&here, args.local);
    match &args.command {
        VaultCommand::Status => status(&here, &find()?, printer),
        VaultCommand::Verify => verify(&find()?, printer),
        VaultCommand::Audit(args) => log::run(find, args, printer),
        VaultCommand::Backup(args) => backup(find, args, printer),
        VaultCommand::Restore(args) => copies::restore(&here, args, printer),
        VaultCommand::Compact => copies::compact(&find()?, printer),
        VaultCommand::Slots(args) => slots::run(&here, args, printer),
        VaultCommand::Rekey => slots::rekey(&here, printer),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn status(here: &Installation, keeping: &Keeping<'_>, printer: Printer) -> Result<(), Failure> {
    let mut status = match keeping {
        Keeping::Here(here) => {
            let vault = Vault::open(&here.vault, OpenMode::ReadOnlyIfExists)?;
            orch_server::vault::described(vault.status()?.as_ref())
        }
        Keeping::Server(client, runtime) => runtime.block_on(client.get::<Value>("/v1/vault"))?,
    };
    let holder = match keeping {
        Keeping::Here(_) => None,
        Keeping::Server(client, _) => Some(client.name().to_owned()),
    };
    status["held_by"] = json!(holder);
    // The places of another machine are that machine's to say.
    if !matches!(keeping, Keeping::Server(client, _) if client.on_network()) {
        status["store"] = json!(here.vault.store);
        status["key_file"] = json!(here.vault.key_file);
    }
    if printer.json() {
        return printer.result_json(&status).or_else(broken_pipe);
    }
    printer.result(&harmless(&described(&status))).or_else(broken_pipe)
}

fn described(status: &Value) -> String {
    if status["exists"] != json!(true) {
        return "there is no vault yet; it is made with the first secret".to_owned();
    }
    let mut lines = Vec::new();
    for (field, name) in [
        ("store", "store"),
        ("key_file", "key file"),
        ("held_by", "held by"),
        ("secrets", "secrets"),
        ("generation", "changes"),
        ("audit_records", "audit records"),
        ("live_bytes", "bytes kept"),
        ("disk_bytes", "bytes on disk"),
        ("slots", "key slots"),
    ] {
        match &status[field] {
            Value::Null => {}
            Value::Array(slots) => {
                let kinds: Vec<&str> = slots.iter().filter_map(|slot| slot["kind"].as_str()).collect();
                lines.push(format!("{name:14} {}", kinds.join(", ")));
            }
            Value::String(text) => lines.push(format!("{name:14} {text}")),
            other => lines.push(format!("{name:14} {other}")),
        }
    }
    lines.join("\n")
}

fn verify(keeping: &Keeping<'_>, printer: Printer) -> Result<(), Failure> {
    let report = match keeping {
        Keeping::Here(here) => orch_server::vault::verified(&Vault::verify_at(&here.vault)?),
        Keeping::Server(client, runtime) => runtime.block_on(client.get::<Value>("/v1/vault/verify"))?,
    };
    if report["sound"] != json!(true) {
        return Err(unsound(&report));
    }
    if printer.json() {
        return printer.result_json(&report).or_else(broken_pipe);
    }
    let text = match &report["generation"] {
        Value::Null => "there is no vault, and nothing that says there was one".to_owned(),
        _ => format!(
            "sound: {} secrets decrypted, {} audit records in one chain, the anchor agrees",
            report["secrets"], report["audit_records"]
        ),
    };
    printer.result(&text).or_else(broken_pipe)
}

fn unsound(report: &Value) -> Failure {
    let findings = report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lines: Vec<String> = findings.iter().map(finding).collect();
    let message = format!("the vault is not what was written to it:\n  {}", lines.join("\n  "));
    let mut failure = Failure::new(Kind::Vault, "vault_tampered", message)
        .hint("nothing was changed: restore the vault's folder and the .head file beside it together");
    for field in ["generation", "secrets", "audit_records", "findings"] {
        failure = failure.detail(field, report[field].clone());
    }
    failure
}

fn finding(finding: &Value) -> String {
    let row = &finding["row"];
    let words = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
    let place = match &row["secret"] {
        Value::String(secret) => {
            format!("the {} of {secret} (workspace {}): ", words("kind"), words("workspace"))
        }
        // The message of an audit record has its number.
        _ if row["kind"].is_null() || row["kind"] == "audit" => String::new(),
        _ => format!("a row ({}): ", words("kind")),
    };
    format!("{place}{}", finding["message"].as_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_is_not_sound_says_what_and_which_rows() {
        let report = json!({
            "sound": false, "generation": 7, "secrets": 1, "audit_records": 7,
            "findings": [
                { "code": "row_not_authentic", "message": "a row is not authentic",
                  "row": { "kind": "value", "workspace": "default", "secret": "A", "sequence": null } },
                { "code": "audit_broken", "message": "audit record 3 is missing, altered or out of order",
                  "row": { "kind": "audit", "workspace": null, "secret": null, "sequence": 3 } },
                { "code": "row_unexpected", "message": "a row that the audit log knows nothing of",
                  "row": { "kind": "unknown", "workspace": null, "secret": null, "sequence": null } },
                { "code": "root_mismatch", "message": "the rows do not match the head", "row": null },
            ],
        });
        let failure = unsound(&report);
        assert_eq!((failure.kind().exit_code(), failure.code()), (7, "vault_tampered"));
        assert_eq!(failure.details()["findings"][0]["row"]["secret"], "A");
        insta::assert_snapshot!(failure.message(), @r"
        the vault is not what was written to it:
          the value of A (workspace default): a row is not authentic
          audit record 3 is missing, altered or out of order
          a row (unknown): a row that the audit log knows nothing of
          the rows do not match the head
        ");
    }

    #[test]
    fn a_status_has_the_kinds_of_the_slots() {
        let status = json!({
            "exists": true, "secrets": 1, "held_by": null,
            "slots": [
                { "id": "50", "kind": "file", "in_use": true },
                { "id": "51", "kind": "passphrase", "in_use": false },
            ],
        });
        insta::assert_snapshot!(described(&status), @r"
        secrets        1
        key slots      file, passphrase
        ");
    }
}
