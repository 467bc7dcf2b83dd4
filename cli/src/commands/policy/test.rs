//! `orch policy test`: expectations about a policy, in a file beside it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use orch_manifests::EgressWant;
use orch_proxy::Rule;
use orch_server::Failure;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Judgement, POLICY_LIMIT, format_of, granted, judge, line, method, read, read_text};
use crate::args::TestArgs;
use crate::printer::{Printer, harmless};
use crate::wire::broken_pipe;

/// What a file of expectations holds. Its `egress` is read apart, as a manifest's is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    manifest: Option<PathBuf>,
    egress: Option<serde_yaml::Value>,
    tests: Vec<Expectation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    url: String,
    method: Option<String>,
    expect: Expect,
    /// The number of the rule that allows it, from 1.
    rule: Option<usize>,
    /// The code of the refusal.
    code: Option<String>,
}

#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Expect {
    Allow,
    Deny,
}

impl Expect {
    fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

pub(super) fn run(args: &TestArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let text = read_text(&args.file, POLICY_LIMIT, "the expectations")?;
    let (rules, tests) = load(&text, &args.file)?;
    let results = tests.iter().enumerate().map(|(at, test)| check(&rules, at, test));
    let results: Vec<Outcome<'_>> = results.collect::<Result<_, _>>()?;
    let failed: Vec<&Outcome<'_>> = results.iter().filter(|result| result.wrong.is_some()).collect();
    if printer.json() {
        let all: Vec<Value> = results.iter().map(Outcome::json).collect();
        let summary = json!({ "passed": results.len() - failed.len(), "failed": failed.len(), "tests": all });
        printer.result_json(&summary).or_else(broken_pipe)?;
    } else {
        let mut lines: Vec<String> = failed.iter().map(|result| result.text()).collect();
        lines.push(format!("{} passed, {} failed", results.len() - failed.len(), failed.len()));
        printer.result(&harmless(&lines.join("\n"))).or_else(broken_pipe)?;
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The policy that a file names or holds, and what it expects of that.
fn load(text: &str, file: &Path) -> Result<(Vec<Rule>, Vec<Expectation>), Failure> {
    let label = file.display().to_string();
    let invalid = |why: String| Failure::usage("expectations_invalid", why);
    let document: Document = serde_yaml::from_str(text).map_err(|error| {
        let place = error.location().map_or_else(String::new, |at| format!(":{}:{}", at.line(), at.column()));
        invalid(format!("{label}{place}: {error}"))
    })?;
    let wants = match (&document.manifest, &document.egress) {
        (Some(manifest), None) => read(&file.parent().unwrap_or(Path::new(".")).join(manifest))?,
        (None, Some(_)) => EgressWant::list_in(text, format_of(file), &label, &["egress"])
            .map_err(|error| invalid(error.to_string()))?
            .unwrap_or_default(),
        (Some(_), Some(_)) => {
            return Err(invalid(format!("{label}: has both `manifest` and `egress`: keep one")));
        }
        (None, None) => {
            return Err(invalid(format!("{label}: says no policy"))
                .hint("manifest: orch.yaml")
                .hint("egress: [{ host: api.example.com }]"));
        }
    };
    if document.tests.is_empty() {
        return Err(invalid(format!("{label}: `tests` is empty, and would pass whatever the policy says")));
    }
    for (at, test) in document.tests.iter().enumerate() {
        let wrong = |why: &str| invalid(format!("{label}: tests[{at}]: {why}"));
        match test.expect {
            Expect::Allow if test.code.is_some() => {
                return Err(wrong("`code` is the code of a refusal, and `allow` is expected"));
            }
            Expect::Deny if test.rule.is_some() => {
                return Err(wrong("`rule` is the rule that allows, and `deny` is expected"));
            }
            _ => {}
        }
        if let Some(rule) = test.rule
            && !(1..=wants.len()).contains(&rule)
        {
            return Err(wrong(&format!("`rule` is {rule}, and the policy has rules 1 to {}", wants.len())));
        }
    }
    Ok((granted(&wants), document.tests))
}

fn check<'a>(rules: &[Rule], at: usize, test: &'a Expectation) -> Result<Outcome<'a>, Failure> {
    let asked = method(test.method.as_deref().unwrap_or("GET"))
        .map_err(|e| Failure::usage("expectations_invalid", format!("tests[{at}].method: {e}")))?;
    let Judgement { verdict, nearest, .. } = judge::request(rules, &test.url, &asked);
    let (got, happened, fits) = match &verdict {
        Ok(rule) => (
            Expect::Allow,
            format!("allow, by rule {}: {}", rule + 1, line(&rules[*rule])),
            test.rule.is_none_or(|wanted| wanted == rule + 1),
        ),
        Err(reason) => {
            let near = nearest.map_or_else(String::new, |(rule, miss)| {
                format!("; nearest is rule {}, whose `{}` does not fit", rule + 1, miss.field())
            });
            let fits = test.code.as_deref().is_none_or(|wanted| wanted == reason.code);
            (Expect::Deny, format!("deny, {}: {reason}{near}", reason.code), fits)
        }
    };
    let wrong = (got != test.expect || !fits).then(|| {
        let rule = test.rule.map_or_else(String::new, |rule| format!(", by rule {rule}"));
        let code = test.code.as_ref().map_or_else(String::new, |code| format!(", {code}"));
        format!("{}{rule}{code}", test.expect.word())
    });
    Ok(Outcome { at, test, method: asked.to_string(), wrong, happened })
}

/// How one expectation turned out.
struct Outcome<'a> {
    at: usize,
    test: &'a Expectation,
    method: String,
    /// What was expected, where something else happened.
    wrong: Option<String>,
    happened: String,
}

impl Outcome<'_> {
    fn text(&self) -> String {
        let expected = self.wrong.as_deref().unwrap_or_default();
        format!(
            "FAIL tests[{}]: {} {}\n  expected: {expected}\n  happened: {}",
            self.at, self.method, self.test.url, self.happened
        )
    }

    fn json(&self) -> Value {
        json!({
            "test": self.at, "method": self.method, "url": self.test.url, "passed": self.wrong.is_none(),
            "expected": self.wrong, "happened": self.happened,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str =
        "egress:\n  - { host: api.example.com, methods: [GET] }\n  - { host: '*.example.com' }\n";

    fn wrong(tests: &str) -> Vec<String> {
        let text = format!("{POLICY}tests:\n{tests}");
        let (rules, tests) = load(&text, Path::new("p.yaml")).expect("expectations");
        let outcomes = tests.iter().enumerate().map(|(at, test)| check(&rules, at, test).expect("judged"));
        outcomes.filter(|outcome| outcome.wrong.is_some()).map(|outcome| outcome.text()).collect()
    }

    #[test]
    fn what_is_as_expected_is_silent() {
        let none: Vec<String> = Vec::new();
        assert_eq!(
            wrong(
                "- { url: 'https://api.example.com/', expect: allow, rule: 1 }
- { url: 'https://api.example.com/', method: PUT, expect: allow, rule: 2 }
- { url: 'https://example.com/', expect: deny, code: host_not_allowed }
- { url: 'https://u@api.example.com/', expect: deny, code: target_refused }
"
            ),
            none
        );
    }

    #[test]
    fn what_is_not_says_what_happened() {
        insta::assert_snapshot!(wrong(
            "- { url: 'https://api.example.com/', expect: deny }
- { url: 'https://api.example.com/', expect: allow, rule: 2 }
- { url: 'http://api.example.com/', expect: allow }
- { url: 'https://localhost/', expect: deny, code: host_not_allowed }
"
        ).join("\n"), @r"
        FAIL tests[0]: GET https://api.example.com/
          expected: deny
          happened: allow, by rule 1: - { host: api.example.com, methods: [GET] }
        FAIL tests[1]: GET https://api.example.com/
          expected: allow, by rule 2
          happened: allow, by rule 1: - { host: api.example.com, methods: [GET] }
        FAIL tests[2]: GET http://api.example.com/
          expected: allow
          happened: deny, scheme_not_allowed: http to api.example.com is not allowed; nearest is rule 1, whose `scheme` does not fit
        FAIL tests[3]: GET https://localhost/
          expected: deny, host_not_allowed
          happened: deny, name_refused: localhost is refused: names under `localhost` are this machine (RFC 6761)
        ");
    }

    #[test]
    fn a_mistake_in_the_file_is_named_with_its_place() {
        let one = "tests: [{ url: 'https://a.example', expect: deny }]\n";
        for (text, says) in [
            (format!("{POLICY}test: []\n"), "p.yaml:4:1: unknown field `test`"),
            (format!("{POLICY}tests:\n  - url: x\n    expcet: deny\n"), "unknown field `expcet`"),
            (format!("{POLICY}tests:\n  - url: x\n    expect: maybe\n"), "p.yaml:6:13: "),
            (format!("{POLICY}tests: []\n"), "`tests` is empty"),
            (POLICY.to_owned(), "missing field `tests`"),
            (one.to_owned(), "says no policy"),
            (format!("manifest: x.yaml\n{POLICY}{one}"), "both `manifest` and `egress`"),
            (format!("egress: [{{ host: 10.0.0.1 }}]\n{one}"), "p.yaml:1:18: egress[0].host"),
            (format!("egress: [{{ hots: a.example.com }}]\n{one}"), "egress[0].hots: unknown field"),
            (format!("manifest: /nowhere/orch.yaml\n{one}"), "does not exist"),
            (format!("{POLICY}tests: [{{ url: x, expect: deny, rule: 1 }}]"), "tests[0]: `rule`"),
            (format!("{POLICY}tests: [{{ url: x, expect: allow, code: y }}]"), "tests[0]: `code`"),
            (format!("{POLICY}tests: [{{ url: x, expect: allow, rule: 3 }}]"), "rules 1 to 2"),
        ] {
            let failure = load(&text, Path::new("p.yaml")).err().expect("refused");
            assert!(failure.message().contains(says), "{text}\n{failure}");
        }
    }
}
