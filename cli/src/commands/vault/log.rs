//! `orch vault audit`: what happened, page by page.
//!
//! A log grows for as long as its vault lives, so no more of it is in memory than a page. The first page of a server comes
//! when the whole chain was verified; what breaks off behind it ends the command with a failure, and its JSON unfinished.

use std::io;

use orch_server::Failure;
use orch_vault::{OpenMode, Vault};
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;
use url::form_urlencoded::Serializer;

use crate::args::AuditArgs;
use crate::client::Client;
use crate::commands::secrets::Keeping;
use crate::moment::{ago, written};
use crate::printer::{Printer, harmless};
use crate::table::{Side, Table};
use crate::wire::broken_pipe;

pub(super) fn run<'a>(
    find: impl FnOnce() -> Result<Keeping<'a>, Failure>,
    args: &AuditArgs,
    printer: Printer,
) -> Result<(), Failure> {
    let now = OffsetDateTime::now_utc();
    let since = args.since.as_deref().map(|text| ago("since", text, now)).transpose()?;
    match find()? {
        Keeping::Here(here) => {
            // The vault is closed before anything is printed: who reads slowly keeps nobody from it.
            let records = Vault::open(&here.vault, OpenMode::ReadOnlyIfExists)?.audit_since(since)?;
            let records: Vec<Value> = records.iter().map(orch_server::vault::recorded).collect();
            let mut shown = Shown::new(printer);
            shown.page(&records).and_then(|()| shown.end()).or_else(broken_pipe)
        }
        Keeping::Server(client, runtime) => runtime.block_on(follow(&client, since, printer)),
    }
}

/// A page of a server's log.
#[derive(Deserialize)]
struct Page {
    records: Vec<Value>,
    /// Behind which record the next page begins.
    #[serde(default)]
    next: Option<u64>,
}

/// All pages, one after another.
async fn follow(client: &Client, since: Option<OffsetDateTime>, printer: Printer) -> Result<(), Failure> {
    let mut shown = Shown::new(printer);
    let mut after: Option<u64> = None;
    loop {
        let mut query = Serializer::new(String::new());
        since.map(|since| query.append_pair("since", &written(since)));
        after.map(|after| query.append_pair("after", &after.to_string()));
        let path = format!("/v1/audit?{}", query.finish());
        let page: Page = client.get(path.trim_end_matches('?')).await?;
        if let Err(error) = shown.page(&page.records) {
            return broken_pipe(error);
        }
        match page.next {
            None => return shown.end().or_else(broken_pipe),
            Some(next) if after.is_none_or(|after| next > after) => after = Some(next),
            Some(_) => return Err(client.unexpected("GET /v1/audit", "a page that leads back")),
        }
    }
}

/// What was shown so far: one document, or one table, from all pages.
struct Shown {
    printer: Printer,
    begun: bool,
    records: bool,
}

impl Shown {
    fn new(printer: Printer) -> Self {
        Self { printer, begun: false, records: false }
    }

    fn page(&mut self, records: &[Value]) -> io::Result<()> {
        let first = !std::mem::replace(&mut self.begun, true);
        if self.printer.json() {
            let mut text = if first { "{\"records\":[".to_owned() } else { String::new() };
            for record in records {
                if std::mem::replace(&mut self.records, true) {
                    text.push(',');
                }
                text.push_str(&record.to_string());
            }
            return self.printer.stream(&text);
        }
        let text = table(records).text();
        let rows = if first { Some(text.as_str()) } else { text.split_once('\n').map(|(_, rows)| rows) };
        rows.map_or(Ok(()), |rows| self.printer.result(&harmless(rows)))
    }

    fn end(&self) -> io::Result<()> {
        if self.printer.json() { self.printer.result("]}") } else { Ok(()) }
    }
}

fn table(records: &[Value]) -> Table {
    let mut table = Table::new(&[
        ("#", Side::Right),
        ("time", Side::Left),
        ("event", Side::Left),
        ("secret", Side::Left),
        ("", Side::Left),
    ]);
    for record in records {
        let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
        let rest: Vec<String> = record
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| {
                !["sequence", "time", "workspace", "event", "secret"].contains(&name.as_str())
            })
            .map(|(name, value)| match value {
                Value::String(text) => format!("{name} {text}"),
                Value::Array(list) => {
                    let list: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
                    format!("{name} {}", list.join(", "))
                }
                other => format!("{name} {other}"),
            })
            .collect();
        let sequence = record["sequence"].to_string();
        table.row([sequence, text("time"), text("event"), text("secret"), rest.join("; ")]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_log_is_a_table() {
        let records = [
            json!({ "sequence": 0, "time": "2026-01-31T10:00:00Z", "workspace": "", "event": "created" }),
            json!({ "sequence": 1, "time": "2026-01-31T10:00:01Z", "workspace": "default", "event": "set",
                    "secret": "GITHUB_TOKEN", "version": 1, "hosts": ["api.github.com", "x.example"] }),
            json!({ "sequence": 2, "time": "2026-01-31T10:00:02Z", "workspace": "", "event": "slot_added",
                    "slot": "50515253", "kind": "passphrase" }),
            json!({ "sequence": 3, "time": "2026-01-31T10:00:03Z", "workspace": "", "event": "rekeyed",
                    "term": 2 }),
        ];
        insta::assert_snapshot!(table(&records).text(), @r"
        #  time                  event       secret
        0  2026-01-31T10:00:00Z  created
        1  2026-01-31T10:00:01Z  set         GITHUB_TOKEN  version 1; hosts api.github.com, x.example
        2  2026-01-31T10:00:02Z  slot_added                slot 50515253; kind passphrase
        3  2026-01-31T10:00:03Z  rekeyed                   term 2
        ");
    }
}
