//! `orch secrets import`: everything that a .env file holds, or nothing.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use orch_manifests::Catalog;
use orch_server::secrets::{Sender, arriving, check_terms, new_secret_name};
use orch_server::{Failure, Kind};
use orch_vault::{Secret, SecretMeta, SecretName, ValueError};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::Keeping;
use super::proof::all_proven;
use super::row::Row;
use super::set::{say_who_opens_it, warn_about};
use crate::args::ImportArgs;
use crate::printer::{Printer, harmless};
use crate::table::{Side, Table};
use crate::wire::{Installation, broken_pipe};

mod dotenv;

use dotenv::Line;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1024 * 1024;

#[derive(Deserialize)]
struct Stored {
    secrets: Vec<StoredRow>,
}

#[derive(Deserialize)]
struct StoredRow {
    #[serde(flatten)]
    secret: Row,
    replaced: bool,
}

/// What would become of one line.
struct Planned {
    line: usize,
    name: String,
    what: What,
}

enum What {
    New,
    /// In the place of this version.
    Replace(u64),
    /// Not, and why.
    Refuse(String),
    /// Not, since its provider's terms forbid it and nobody said that it is meant; in words.
    Forbid(String),
}

pub(super) fn run<'a>(
    here: &'a Installation,
    find: impl FnOnce() -> Result<Keeping<'a>, Failure>,
    args: &ImportArgs,
    printer: Printer,
) -> Result<(), Failure> {
    let from_stdin = args.file == Path::new("-");
    let file = if from_stdin { "standard input".to_owned() } else { args.file.display().to_string() };
    let text = if from_stdin { read_all(std::io::stdin().lock(), &file) } else { read(&args.file, printer) }?;
    let lines = dotenv::parse(&text).map_err(|wrong| {
        let (line, column) = (wrong.line, wrong.column);
        Failure::usage("env_file_invalid", format!("{file}, line {line}, column {column}: {}", wrong.why))
            .detail("line", line)
            .detail("column", column)
    })?;
    if lines.is_empty() {
        return Err(Failure::usage("env_file_invalid", format!("{file} holds nothing to import")));
    }
    let literal: Vec<String> =
        lines.iter().filter(|line| line.dollar).map(|line| line.number.to_string()).collect();
    if !literal.is_empty() {
        let which = if literal.len() == 1 { "line" } else { "lines" };
        printer.note(&format!("a $ is a $: no variable was replaced ({which} {})", literal.join(", ")));
    }
    let keeping = find()?;
    let Drawn { plan, values, warnings } = drawn(lines, (here, &keeping.rows()?), args);
    let refused = plan.iter().any(|planned| planned.refusal().is_some());
    if args.dry_run {
        return show(&plan, (!refused, &warnings), printer);
    }
    if refused {
        return Err(refusal(&file, &plan));
    }
    let first = matches!(keeping, Keeping::Here(_)) && !here.vault.store.exists();
    let checks = all_proven(here, &keeping, &values, &args.proof, printer)?;
    let asks = !args.proof.no_check && here.checks_keys();
    let mut answer = keeping.import(values, args.overwrite, (asks, args.despite_terms))?;
    if !checks.is_empty() {
        answer["checks"] = json!(checks);
    }
    let warnings = with_said(warnings, &answer);
    answer["warnings"] = json!(warnings);
    if printer.json() {
        return printer.result_json(&answer).or_else(broken_pipe);
    }
    let Stored { secrets } = keeping.typed("POST /v1/secrets/import", answer)?;
    if first {
        say_who_opens_it(here, printer)?;
    }
    for StoredRow { secret, replaced } in &secrets {
        let how = if *replaced { "replaced, " } else { "" };
        printer.note(&format!(
            "stored {}, {how}version {}{}",
            secret.name,
            secret.version,
            keeping.elsewhere()
        ));
    }
    for warning in &warnings {
        printer.warn(warning);
    }
    for StoredRow { secret, .. } in &secrets {
        warn_about(secret, printer);
    }
    if !from_stdin {
        printer.note(&format!("{file} still holds the values: delete it"));
    }
    Ok(())
}

/// What would become of all lines.
struct Drawn {
    plan: Vec<Planned>,
    values: Vec<(SecretName, Secret)>,
    /// What about the values deserves a word.
    warnings: Vec<String>,
}

/// What was found out here, and what a server said beside it.
fn with_said(mut warnings: Vec<String>, answer: &Value) -> Vec<String> {
    for text in answer["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !warnings.iter().any(|known| known == text) {
            warnings.push(text.to_owned());
        }
    }
    warnings
}

fn drawn(lines: Vec<Line>, (here, rows): (&Installation, &[Row]), args: &ImportArgs) -> Drawn {
    let mut plan: Vec<Planned> = Vec::new();
    let mut values: Vec<(SecretName, Secret)> = Vec::new();
    let mut warnings: Vec<String> = Vec::new();
    for Line { number, name: said, value, .. } in lines {
        let name = match new_secret_name(&said, &here.catalog) {
            Ok(name) => name,
            // Something else than a name may stand there: it is not repeated.
            Err(failure) => {
                let why = failure.message().to_owned();
                plan.push(Planned { line: number, name: String::new(), what: What::Refuse(why) });
                continue;
            }
        };
        let before = rows.iter().find(|row| row.name == name.as_str());
        let meta = SecretMeta {
            never_in_header: before.is_some_and(|row| row.never_in_header),
            ..SecretMeta::default()
        };
        let (value, wrong) = match arriving(&here.catalog, &name, value, Sender::Owner) {
            Ok((value, said)) => {
                warnings.extend(said);
                (value, None)
            }
            Err(failure) => (Secret::new(Vec::new()), Some(failure.message().to_owned())),
        };
        let forbidden = check_terms(&here.catalog, &name, args.despite_terms).err();
        let forbidden = forbidden.map(|failure| failure.message().to_owned());
        let twice = plan.iter().find(|planned| planned.name == name.as_str()).map(|planned| planned.line);
        let what = match (twice, meta.accepts(&value), before) {
            (Some(line), ..) => What::Refuse(format!("line {line} has that name already")),
            _ if wrong.is_some() => What::Refuse(wrong.unwrap_or_default()),
            (None, Err(why), _) => What::Refuse(refused(&name, &why, &here.catalog)),
            _ if forbidden.is_some() => What::Forbid(forbidden.unwrap_or_default()),
            (None, Ok(()), Some(_)) if !args.overwrite => {
                What::Refuse("the vault holds it already; --overwrite replaces it".to_owned())
            }
            (None, Ok(()), Some(row)) => What::Replace(row.version),
            (None, Ok(()), None) => What::New,
        };
        plan.push(Planned { line: number, name: name.to_string(), what });
        values.push((name, value));
    }
    Drawn { plan, values, warnings }
}

/// Why a value is not taken, and how it could be.
fn refused(name: &SecretName, why: &ValueError, catalog: &Catalog) -> String {
    let way = match why {
        ValueError::Short(_) => format!("; if it is a secret: orch secrets set {name} --allow-short"),
        ValueError::LineBreak => match catalog.provider_of_key(name.as_str()) {
            Some(provider) => format!("; {name} is {}'s key, which goes into a header", provider.name),
            None => format!("; orch secrets set {name} --multiline takes it"),
        },
        _ => String::new(),
    };
    format!("{why}{way}")
}

/// The plan is the result, whatever it says: nothing has failed.
fn show(plan: &[Planned], (works, warnings): (bool, &[String]), printer: Printer) -> Result<(), Failure> {
    if printer.json() {
        let rows: Vec<Value> = plan.iter().map(Planned::document).collect();
        let said = json!({ "plan": rows, "works": works, "warnings": warnings });
        return printer.result_json(&said).or_else(broken_pipe);
    }
    for warning in warnings {
        printer.warn(warning);
    }
    printer.result(&harmless(&table(plan).text())).or_else(broken_pipe)?;
    printer.note(match works {
        true => "nothing was stored: this is what would be",
        false => "nothing was stored, and nothing would be: all of it goes in, or none",
    });
    Ok(())
}

fn table(plan: &[Planned]) -> Table {
    let mut table = Table::new(&[("line", Side::Right), ("name", Side::Left), ("", Side::Left)]);
    for planned in plan {
        let what = match &planned.what {
            What::New => "new".to_owned(),
            What::Replace(version) => format!("replaces version {version}"),
            What::Refuse(why) | What::Forbid(why) => format!("refused: {why}"),
        };
        table.row([planned.line.to_string(), planned.name.clone(), what]);
    }
    table
}

fn refusal(file: &str, plan: &[Planned]) -> Failure {
    let lines: Vec<String> = plan.iter().filter_map(Planned::refusal).collect();
    let rows: Vec<Value> = plan.iter().map(Planned::document).collect();
    let text = format!("nothing of {file} was stored:\n  {}", lines.join("\n  "));
    let failure = match plan.iter().any(|planned| matches!(planned.what, What::Refuse(_))) {
        true => Failure::usage("import_refused", text),
        // What is in the file is as it should be, and somebody else does not want it.
        false => Failure::new(Kind::Denied, "terms_forbid", text)
            .hint("--despite-terms takes it all the same, at your own risk"),
    };
    failure.hint("take these lines out of the file, or set them one by one").detail("plan", rows)
}

impl Planned {
    fn document(&self) -> Value {
        let (action, why) = match &self.what {
            What::New => ("new", None),
            What::Replace(_) => ("replace", None),
            What::Refuse(why) | What::Forbid(why) => ("refuse", Some(why)),
        };
        let name = (!self.name.is_empty()).then_some(&self.name);
        json!({ "line": self.line, "name": name, "action": action, "why": why })
    }

    fn refusal(&self) -> Option<String> {
        let (What::Refuse(why) | What::Forbid(why)) = &self.what else { return None };
        let name = if self.name.is_empty() { String::new() } else { format!(" {}", self.name) };
        Some(format!("line {}{name}: {why}", self.line))
    }
}

/// The whole file. That others can read it is worth a word.
fn read(path: &Path, printer: Printer) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let unreadable = |e: &std::io::Error| Failure::file("value_unreadable", "read", path, e);
    let file = File::open(path).map_err(|e| unreadable(&e))?;
    let meta = file.metadata().map_err(|e| unreadable(&e))?;
    // A pipe has a mode of its own, and nobody else reads it.
    if meta.is_file() && meta.permissions().mode() & 0o077 != 0 {
        printer.warn(&format!("others can read {}: its values may be known to them", path.display()));
    }
    read_all(file, &path.display().to_string())
}

/// All that there is, in memory that is cleared again.
fn read_all(from: impl Read, name: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    // All of it at once: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST as usize + 2));
    from.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::usage("value_unreadable", format!("cannot read {name}: {e}")))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::usage("env_file_invalid", format!("{name} is larger than 1 MiB")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_be_taken_is_said_to_be() {
        let catalog = Catalog::builtin();
        let why = |name: &str| refused(&name.parse().expect("a name"), &ValueError::LineBreak, &catalog);
        assert!(why("TOKEN").contains("orch secrets set TOKEN --multiline"));
        assert!(!why("OPENAI_API_KEY").contains("--multiline"));
    }
}
