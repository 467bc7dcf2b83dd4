//! Every provider that has a key, one after another.

use std::process::ExitCode;

use orch_manifests::Auth;
use orch_server::conformance::{Asked, Conformance, Conformed};
use orch_server::{Failure, Kind};
use serde_json::{Value, json};

use super::{announced, dollars, done, word};
use crate::printer::{Printer, harmless};
use crate::table::{Side, Table};
use crate::wire::{Installation, broken_pipe, runtime};

/// Why providers without a key, and a local one that nobody has named, are left out without a word.
const PASSED_OVER: [&str; 2] = ["key_missing", "provider_local"];

/// What there is to check, and what cannot be, each with why.
struct Prepared {
    ready: Vec<Conformance>,
    left_out: Vec<(String, Failure)>,
}

pub(super) fn run(here: &Installation, printer: Printer) -> Result<ExitCode, Failure> {
    let (conformed, left_out) = runtime()?.block_on(checked(here, printer))?;
    let failure = failure(&conformed);
    if printer.json() {
        let value = document(&conformed, &left_out);
        return match failure {
            Some(failure) => Err(failure.detail("found", value)),
            None => printer.result_json(&value).or_else(broken_pipe).map(|()| ExitCode::SUCCESS),
        };
    }
    printer.result(&harmless(&table(&conformed).text())).or_else(broken_pipe)?;
    failure.map_or(Ok(ExitCode::SUCCESS), Err)
}

async fn checked(
    here: &Installation,
    printer: Printer,
) -> Result<(Vec<Conformed>, Vec<(String, Failure)>), Failure> {
    let Prepared { ready, left_out } = prepared(here)?;
    for (provider, why) in &left_out {
        printer.note(&format!("{provider} is left out: {}", why.message()));
    }
    if ready.is_empty() && left_out.is_empty() {
        return Err(Failure::new(Kind::NoKey, "key_missing", "no provider of models has a key here")
            .hint("orch secrets set OPENAI_API_KEY"));
    }
    // The vault is closed by now: what is used of it is on record before the first request.
    for conformance in &ready {
        conformance.record_use(&here.vault)?;
    }
    printer.note(&total(&ready));
    let mut conformed = Vec::with_capacity(ready.len());
    for conformance in ready {
        printer.note(&announced(&conformance));
        conformed.push(done(conformance, printer).await);
    }
    Ok((conformed, left_out))
}

fn prepared(here: &Installation) -> Result<Prepared, Failure> {
    let sources = here.key_sources();
    let (mut ready, mut left_out) = (Vec::new(), Vec::new());
    for provider in here.catalog.providers() {
        // A server without a key is the operator's own; which model it has is not known here.
        if provider.auth == Auth::None {
            continue;
        }
        let asked = Asked { provider: provider.slug.as_str(), model: None, keys: &[] };
        match Conformance::prepare(&here.config, &here.catalog, &sources, &asked) {
            Ok(conformance) => ready.push(conformance),
            Err(failure) if PASSED_OVER.contains(&failure.code()) => {}
            // A vault that cannot be opened is nobody's in particular.
            Err(failure) if failure.kind() == Kind::Vault => return Err(failure),
            Err(failure) => left_out.push((provider.slug.to_string(), failure)),
        }
    }
    // Whoever lists no models, and has no key either, is not worth a word.
    left_out.retain(|(slug, failure)| failure.code() != "model_missing" || has_key(here, slug));
    Ok(Prepared { ready, left_out })
}

fn has_key(here: &Installation, slug: &str) -> bool {
    let sources = here.key_sources();
    let asked = Asked { provider: slug, model: Some("any"), keys: &[] };
    Conformance::prepare(&here.config, &here.catalog, &sources, &asked).is_ok()
}

/// What all of it costs at most.
fn total(ready: &[Conformance]) -> String {
    let mosts: Vec<(u64, Option<u64>)> =
        ready.iter().map(|one| (one.most().0, one.most().1.map(|most| most.micros()))).collect();
    let requests: u64 = mosts.iter().map(|(requests, _)| requests).sum();
    let known: u64 = mosts.iter().filter_map(|(_, most)| *most).sum();
    let unknown = mosts.iter().filter(|(_, most)| most.is_none()).count();
    let rest = match unknown {
        0 => String::new(),
        some => format!(", beside {some} at a price that the catalog does not know"),
    };
    format!("{} providers, {requests} requests, which cost {} at most{rest}", ready.len(), dollars(known))
}

/// What the command ends with. It is about keys where only keys are at fault.
fn failure(conformed: &[Conformed]) -> Option<Failure> {
    let failures: Vec<Failure> = conformed.iter().filter_map(Conformed::failure).collect();
    if failures.is_empty() {
        return None;
    }
    let said: Vec<&str> = failures.iter().map(Failure::message).collect();
    let text = format!("{} of {} providers: {}", failures.len(), conformed.len(), said.join("; "));
    let (kind, code) = match failures.iter().all(|failure| failure.kind() == Kind::NoKey) {
        true => (Kind::NoKey, "key_rejected"),
        false => (Kind::Providers, "provider_nonconforming"),
    };
    let hints = failures.iter().flat_map(Failure::hints);
    Some(hints.fold(Failure::new(kind, code, text), |failure, hint| failure.hint(hint.clone())))
}

fn document(conformed: &[Conformed], left_out: &[(String, Failure)]) -> Value {
    let left_out: Vec<Value> = left_out
        .iter()
        .map(|(provider, why)| json!({ "provider": provider, "code": why.code(), "why": why.message() }))
        .collect();
    let providers: Vec<Value> = conformed
        .iter()
        .map(|one| {
            let mut found = json!(one);
            found["failure"] = one.failure().map(|failure| json!(failure.code())).unwrap_or_default();
            found
        })
        .collect();
    json!({ "providers": providers, "left_out": left_out })
}

fn table(conformed: &[Conformed]) -> Table {
    let columns = ["provider", "model", "check", "result", "detail"].map(|name| (name, Side::Left));
    let mut table = Table::new(&columns);
    for one in conformed {
        for finding in &one.checks {
            let (provider, model) = (one.provider.clone(), one.model.clone());
            let check = finding.check.in_words().to_owned();
            table.row([provider, model, check, word(finding.result).to_owned(), finding.detail.clone()]);
        }
    }
    table
}
