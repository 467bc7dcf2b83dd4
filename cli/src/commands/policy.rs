//! `orch policy`: what a policy says, before, beside and after runs. Nothing here sends a request or looks up a name.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use http::Method;
use orch_manifests::{EgressWant, Format, Manifest};
use orch_proxy::{Methods, Rule, RuleOrigin};
use orch_server::Failure;
use serde_json::Value;

use crate::args::PolicyCommand;
use crate::printer::Printer;

mod check;
mod explain;
mod judge;
mod learn;
mod test;

use judge::Judgement;

/// Largest policy file that is read, in bytes: what a manifest may have.
const POLICY_LIMIT: u64 = 1 << 20;

pub(crate) fn run(command: &PolicyCommand, printer: Printer) -> Result<ExitCode, Failure> {
    match command {
        PolicyCommand::Explain(args) => explain::run(args, printer),
        PolicyCommand::Check(args) => check::run(args, printer),
        PolicyCommand::Test(args) => test::run(args, printer),
        PolicyCommand::Learn(args) => learn::run(args, printer),
    }
}

/// The policy in a file: the `egress` of a manifest, of the manifest in a folder, or of a file that has nothing else.
///
/// # Errors
/// When it cannot be read, or is none; each problem with its line and column.
pub(crate) fn read(path: &Path) -> Result<Vec<EgressWant>, Failure> {
    let invalid = |error: orch_manifests::ManifestError| Failure::usage("policy_invalid", error.to_string());
    let file = Manifest::find(path).map_err(invalid)?;
    let text = read_text(&file, POLICY_LIMIT, "the policy")?;
    EgressWant::policy_in(&text, format_of(&file), &file.display().to_string()).map_err(invalid)
}

fn format_of(file: &Path) -> Format {
    match file.extension().is_some_and(|ext| ext.eq_ignore_ascii_case("json")) {
        true => Format::Json,
        false => Format::Yaml,
    }
}

/// A file's text; `-` is standard input.
fn read_text(path: &Path, limit: u64, what: &str) -> Result<String, Failure> {
    let unreadable =
        |error: &std::io::Error| Failure::file("file_unreadable", &format!("read {what} in"), path, error);
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(limit + 1).read_to_end(&mut bytes).map_err(|e| unreadable(&e))?;
    } else {
        let file = File::open(path).map_err(|e| unreadable(&e))?;
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| unreadable(&e))?;
    }
    if bytes.len() as u64 > limit {
        let text = format!("{} is larger than {} MiB", path.display(), limit >> 20);
        return Err(Failure::usage("file_too_large", text));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        Failure::usage("file_not_text", format!("{}:{line}: is not UTF-8 text", path.display()))
    })
}

/// The rules of a policy, as if all of it was granted.
fn granted(wants: &[EgressWant]) -> Vec<Rule> {
    wants.iter().map(|want| Rule::of_want(want, RuleOrigin::Manifest)).collect()
}

/// A method that requests can have.
fn method(text: &str) -> Result<Method, Failure> {
    let wrong = |why: String| {
        Failure::usage("bad_usage", format!("--method {text:?}: {why}"))
            .hint("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS; methods are written in capitals")
    };
    // Methods are case-sensitive, and nobody means `get`.
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(wrong("it is not written in capitals".to_owned()));
    }
    text.parse::<Method>().map_err(|e| wrong(e.to_string()))
}

/// A rule as the manifest writes it.
fn line(rule: &Rule) -> String {
    let mut text = format!("- {{ host: {}", quoted_star(&rule.host.to_string()));
    if rule.scheme != orch_manifests::Scheme::Https {
        text += &format!(", scheme: {}", rule.scheme);
    }
    if rule.port != rule.scheme.default_port() {
        text += &format!(", port: {}", rule.port);
    }
    if let Methods::Only(methods) = &rule.methods {
        let methods: Vec<&str> = methods.iter().map(Method::as_str).collect();
        text += &format!(", methods: [{}]", methods.join(", "));
    }
    if !rule.paths.is_empty() {
        let paths: Vec<String> =
            rule.paths.iter().map(|path| Value::from(path.as_str()).to_string()).collect();
        text += &format!(", paths: [{}]", paths.join(", "));
    }
    text + " }"
}

/// A host pattern as a YAML scalar: one that begins with a star would be an alias.
fn quoted_star(host: &str) -> String {
    if host.starts_with('*') { format!("\"{host}\"") } else { host.to_owned() }
}

/// The word for who wrote a rule.
fn origin(origin: RuleOrigin) -> &'static str {
    match origin {
        RuleOrigin::Manifest => "manifest",
        RuleOrigin::Flag => "flag",
        RuleOrigin::Config => "config",
        RuleOrigin::Catalog => "catalog",
        RuleOrigin::Account => "account",
        RuleOrigin::Scenario => "scenario",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_written_as_the_manifest_reads_it() {
        for text in [
            "- { host: a.example.com }",
            "- { host: \"*.example.com\", scheme: http, port: 8080, methods: [GET, POST], paths: [\"/a/**\", \"/b'\"] }",
        ] {
            let list = EgressWant::list_in(&format!("egress:\n  {text}\n"), Format::Yaml, "x", &["egress"]);
            let rules = granted(&list.expect("a list").expect("there"));
            assert_eq!(line(&rules[0]), text);
        }
    }

    #[test]
    fn methods_are_written_in_capitals() {
        assert_eq!(method("PATCH").expect("a method"), Method::PATCH);
        for bad in ["get", "", "GE T", "GET\n"] {
            assert_eq!(method(bad).expect_err(bad).code(), "bad_usage");
        }
    }
}
