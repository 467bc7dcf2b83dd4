//! `orch secrets list`: everything that is kept, a line each.

use orch_server::Failure;
use orch_vault::Lookup as _;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::Keeping;
use super::row::Row;
use super::which::layers_of;
use crate::moment::{read, short};
use crate::printer::{Printer, harmless};
use crate::table::{Side, Table};
use crate::wire::{Installation, broken_pipe};

/// What expires within this time is marked.
const SOON: Duration = Duration::days(7);

pub(super) fn run(here: &Installation, keeping: &Keeping<'_>, printer: Printer) -> Result<(), Failure> {
    let mut listing = keeping.listing()?;
    let rows: Vec<Row> = keeping.typed("GET /v1/secrets", listing["secrets"].clone())?;
    let lookup = layers_of(here, keeping, &rows);
    let hidden: Vec<bool> = rows.iter().map(|row| lookup.env(&row.name)).collect();
    if printer.json() {
        for (row, hidden) in listing["secrets"].as_array_mut().into_iter().flatten().zip(hidden) {
            row["hidden_by_env"] = json!(hidden);
        }
        return printer.result_json(&listing).or_else(broken_pipe);
    }
    if rows.is_empty() {
        printer.note("the vault holds nothing; store a key with: orch secrets set OPENAI_API_KEY");
        return Ok(());
    }
    let text = table(&rows, &hidden, OffsetDateTime::now_utc()).text();
    printer.result(&harmless(&text)).or_else(broken_pipe)
}

fn table(rows: &[Row], hidden: &[bool], now: OffsetDateTime) -> Table {
    let mut table = Table::new(&[
        ("name", Side::Left),
        ("v", Side::Right),
        ("mask", Side::Left),
        ("age", Side::Right),
        ("used", Side::Right),
        ("month", Side::Right),
        ("expires", Side::Left),
        ("from", Side::Left),
        ("goes to", Side::Left),
    ]);
    for (row, hidden) in rows.iter().zip(hidden) {
        let since = |text: &str| read(text).map_or_else(String::new, |at| short(now - at));
        let mask = row.mask.as_deref().map_or_else(|| "…".to_owned(), |mask| format!("…{mask}"));
        // The vault is told from time to time, and the record of calls at once.
        let used = [&row.last_used, &row.last_call].into_iter().flatten().filter_map(|at| read(at)).max();
        let used = used.map_or_else(|| "never".to_owned(), |at| short(now - at));
        let spent = row.spent.as_ref().filter(|spent| spent.month_usd > 0.0);
        let spent = spent.map_or_else(String::new, |spent| format!("${:.2}", spent.month_usd));
        let from = if *hidden { "vault; env wins" } else { "vault" };
        table.row([
            row.name.clone(),
            row.version.to_string(),
            mask,
            since(&row.updated),
            used,
            spent,
            expiry(row, now),
            from.to_owned(),
            row.destination(),
        ]);
    }
    table
}

fn expiry(row: &Row, now: OffsetDateTime) -> String {
    let left = row.expires.as_deref().and_then(read).map(|at| at - now);
    match left {
        _ if row.expired => "expired".to_owned(),
        None => String::new(),
        Some(left) if left <= SOON => format!("soon {}", short(left)),
        Some(left) => format!("in {}", short(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn secrets_are_a_table_that_fits() {
        let grant = |host: &str, agents: &[&str]| {
            json!({ "id": 1, "host": host, "methods": [], "paths": [], "place": null, "agents": agents, "runs": null,
                "max_cost_usd": null, "expires": null, "used": { "runs": 0, "cost_usd": 0.0 }, "spent": null })
        };
        let row = |name: &str, mask: Option<&str>, expires: Option<&str>, expired: bool| {
            json!({ "name": name, "version": 12, "mask": mask, "updated": "2026-01-01T00:00:00Z", "expires": expires,
                "expired": expired, "last_used": null, "provider": null, "grants": [], "scrubbable": true,
                "never_in_header": false })
        };
        let mut rows = vec![
            row("GITHUB_TOKEN", Some("cdef"), Some("2026-02-05T00:00:00Z"), false),
            row("OPENAI_API_KEY", Some("0Xa1"), Some("2026-03-10T00:00:00Z"), false),
            row("PEM", None, Some("2026-01-30T00:00:00Z"), true),
            row("WEATHER", Some("abcd"), None, false),
        ];
        rows[0]["grants"] = json!([grant("api.github.com", &["acme/x"])]);
        rows[0]["last_used"] = json!("2026-01-30T21:00:00Z");
        rows[1]["last_call"] = json!("2026-01-30T23:58:00Z");
        rows[1]["spent"] =
            json!({ "today_usd": 0.5, "month_usd": 12.345, "total_usd": 99.0, "tokens": 123_456 });
        rows[1]["provider"] = json!({ "name": "openai", "host": "api.openai.com" });
        rows[3]["grants"] = json!([grant("api.weather.example", &[]), grant("b.example", &[])]);
        let rows: Vec<Row> = serde_json::from_value(json!(rows)).expect("the contract's words");
        let text = table(&rows, &[false, true, false, false], datetime!(2026-01-31 00:00 UTC)).text();
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        insta::assert_snapshot!(text, @r"
        name             v  mask   age   used   month  expires  from             goes to
        GITHUB_TOKEN    12  …cdef  30d     3h          soon 5d  vault            api.github.com (for acme/x)
        OPENAI_API_KEY  12  …0Xa1  30d     2m  $12.35  in 38d   vault; env wins  api.openai.com
        PEM             12  …      30d  never          expired  vault            nowhere yet
        WEATHER         12  …abcd  30d  never                   vault            api.weather.example +1 more
        ");
    }
}
