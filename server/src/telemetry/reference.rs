//! `docs/metrics.md` says what there is: made from what is told when everything has happened once.

use std::collections::{BTreeMap, BTreeSet};

use orch_gateway::ir::Class;
use orch_gateway::{BoundOf, LimitHit, Operation, Outcome, Receipt};
use orch_manifests::Catalog;
use orch_proxy::Outcome as Verdict;
use time::OffsetDateTime;

use super::collector::destination;
use super::models::Caller;
use super::tests::decision;
use super::{Telemetry, otlp};

/// Everything has happened once.
pub(crate) fn filled() -> Telemetry {
    let telemetry = Telemetry::default();
    telemetry.counters.count(&decision(Verdict::Allowed, "/"));
    telemetry.counters.moved(1, 1);
    telemetry.exported("traces", true);
    let catalog = Catalog::builtin();
    let provider = catalog.provider("openai").expect("a provider");
    let series = telemetry.models.of(Caller::Client, Operation::Chat, Some((provider, "gpt-4o")));
    series.first_token.observe(0.5);
    series.first_chunk.observe(0.5);
    series.per_token.observe(0.1);
    series.failed(Class::Server);
    series.retried();
    series.fell_back();
    let receipt = Receipt {
        input_tokens: 1,
        output_tokens: 1,
        cost_micro_usd: Some(1),
        outcome: Outcome::Served,
        ..Receipt::default()
    };
    series.ended(&receipt, None, 1.0);
    series.ended(&Receipt { outcome: Outcome::Broken, ..Receipt::default() }, Some("truncated"), 1.0);
    let hit = LimitHit { name: "tokens", used: 1, limit: 1, needed: Some(1), of: BoundOf::Run };
    telemetry.models.refused(Caller::Run, &hit);
    telemetry
}

/// What Prometheus is told, as rows of a table.
pub(crate) fn of_prometheus(text: &str) -> String {
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once(['{', ' ']).expect("a name");
        let inside = rest.split_once('}').map_or("", |(inside, _)| inside);
        let keys = inside.split("\",").filter_map(|pair| pair.split_once('=')).map(|(key, _)| key);
        let known = labels.entry(name).or_default();
        known.extend(keys.filter(|key| *key != "le"));
    }
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    let mut table = "| metric | type | labels | what it is |\n|---|---|---|---|\n".to_owned();
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            types.insert(name, kind);
        }
    }
    for line in &lines {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        let kind = types[name];
        let shown = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let sample = if kind == "histogram" { format!("{name}_count") } else { shown.clone() };
        let of = labels.get(&*sample).unwrap_or_else(|| panic!("{name} was told nothing"));
        let of: Vec<String> = of.iter().map(|label| format!("`{label}`")).collect();
        table += &format!("| `{shown}` | {kind} | {} | {} |\n", of.join(", "), help.trim_end_matches('.'));
    }
    table
}

/// What a collector is told, as rows of a table.
pub(crate) fn of_otlp(telemetry: &Telemetry) -> String {
    let endpoint = "http://127.0.0.1:4318".parse().expect("an endpoint");
    let to = destination(&endpoint, std::time::Duration::from_secs(1));
    let now = OffsetDateTime::now_utc();
    let document = otlp::metrics(&to, telemetry, now, now);
    let mut table = "| metric | type | unit | attributes | what it is |\n|---|---|---|---|---|\n".to_owned();
    for metric in document["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().expect("metrics") {
        let text = |key: &str| metric[key].as_str().expect("text").to_owned();
        let kind = if metric["sum"].is_object() { "sum" } else { "histogram" };
        let points = metric[kind]["dataPoints"].as_array().expect("points");
        assert!(!points.is_empty(), "{} was told nothing", metric["name"]);
        let keys: BTreeSet<String> = points
            .iter()
            .flat_map(|point| point["attributes"].as_array().expect("attributes"))
            .map(|attribute| format!("`{}`", attribute["key"].as_str().expect("a key")))
            .collect();
        let keys = keys.into_iter().collect::<Vec<_>>().join(", ");
        table += &format!(
            "| `{}` | {kind} | `{}` | {keys} | {} |\n",
            text("name"),
            text("unit"),
            text("description")
        );
    }
    table
}
