//! `orch policy check`: a list of URLs, one answer a line.

use std::fmt::Write as _;
use std::process::ExitCode;

use orch_proxy::Rule;
use orch_server::Failure;
use serde::de::{Deserializer, Visitor};
use serde_json::{Value, json};

use super::{granted, judge, line, read, read_text};
use crate::args::CheckArgs;
use crate::printer::{Printer, harmless};
use crate::wire::broken_pipe;

/// Largest list that is read, in bytes.
const LIST_LIMIT: u64 = 256 << 20;

pub(super) fn run(args: &CheckArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let rules = granted(&read(&args.manifest)?);
    let text = read_text(&args.urls, LIST_LIMIT, "the URLs")?;
    let label = args.urls.display().to_string();
    // All of it is read before anything is answered: half an answer to a list that is none helps nobody.
    let urls = urls(&text, &label)?;
    let mut answers = String::new();
    for url in &urls {
        // Writing to a String cannot fail.
        let _ = writeln!(answers, "{}", answer(&rules, url));
    }
    if let Some(answers) = answers.strip_suffix('\n') {
        printer.result(&harmless(answers)).or_else(broken_pipe)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line of the list.
#[derive(Debug, PartialEq, Eq)]
enum Listed<'a> {
    /// A text that may be a URL.
    Text(String),
    /// A string of JSON that is no text: it has half of a surrogate pair in it. As it was written.
    Broken(&'a str),
}

fn urls<'a>(text: &'a str, label: &str) -> Result<Vec<Listed<'a>>, Failure> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().enumerate().map(|(at, line)| listed(line, &format!("{label}:{}", at + 1))).collect()
}

fn listed<'a>(line: &'a str, place: &str) -> Result<Listed<'a>, Failure> {
    let wrong = |why: String| {
        Failure::usage("urls_invalid", format!("{place}: is not a JSON string: {why}"))
            .hint("the list has one JSON string on each line, such as \"https://api.example.com/v1\"")
    };
    if line.trim().is_empty() {
        return Err(wrong("the line is empty".to_owned()));
    }
    match serde_json::from_str::<Value>(line) {
        Ok(Value::String(text)) => Ok(Listed::Text(text)),
        Ok(_) => Err(wrong("it is JSON of another kind".to_owned())),
        Err(_) if is_string(line) => Ok(Listed::Broken(line.trim())),
        Err(error) => {
            let error = error.to_string();
            Err(wrong(error.rsplit_once(" at line ").map_or(error.as_str(), |(why, _)| why).to_owned()))
        }
    }
}

/// Whether a line is a string by JSON's grammar (RFC 8259, section 7), which allows half of a surrogate pair.
fn is_string(line: &str) -> bool {
    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = ();

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string")
        }

        fn visit_bytes<E>(self, _: &[u8]) -> Result<(), E> {
            Ok(())
        }
    }

    let mut json = serde_json::Deserializer::from_str(line);
    json.deserialize_bytes(Bytes).and_then(|()| json.end()).is_ok() && line.trim_start().starts_with('"')
}

/// One line of the result: always these three fields.
fn answer(rules: &[Rule], url: &Listed<'_>) -> String {
    let url = match url {
        Listed::Text(url) => url,
        Listed::Broken(written) => {
            let reason = json!("target_refused: the URL is not text: it has half of a surrogate pair in it");
            return format!("{{\"url\":{written},\"decision\":\"deny\",\"reason\":{reason}}}");
        }
    };
    let (judgement, method) = judge::any_method(rules, url);
    let (decision, reason) = match judgement.verdict {
        Ok(rule) => ("allow", format!("rule {} allows {method}: {}", rule + 1, line(&rules[rule]))),
        Err(reason) => ("deny", format!("{}: {reason}", reason.code)),
    };
    // In this order, whatever order maps have.
    let [url, reason] = [json!(url), json!(reason)];
    format!("{{\"url\":{url},\"decision\":\"{decision}\",\"reason\":{reason}}}")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use orch_manifests::{EgressWant, Format};

    use super::*;

    fn rules() -> Vec<Rule> {
        let text =
            "[{ host: api.example.com, methods: [GET], paths: [/v1/**] }, { host: '*.cdn.example.com' }]";
        granted(&EgressWant::list_in(text, Format::Yaml, "x", &[]).expect("a list").expect("there"))
    }

    fn one(line: &str) -> Value {
        let listed = listed(line, "x:1").expect("a string");
        serde_json::from_str(&answer(&rules(), &listed)).expect("JSON")
    }

    #[test]
    fn each_answer_has_three_fields_and_the_url_as_it_was() {
        for (line, decision, reason) in [
            (r#""https://api.example.com/v1/x""#, "allow", "rule 1 allows GET: - { host: api.example.com"),
            (r#""https://a.cdn.example.com/\u00e9""#, "allow", "rule 2 allows GET"),
            (r#""https://api.example.com/v2""#, "deny", "path_not_allowed: "),
            (r#""https://api.example.com\u0000.evil.test/v1/x""#, "deny", "target_refused: "),
            (r#""https://localhost/""#, "deny", "name_refused: "),
            (r#""""#, "deny", "target_refused: "),
            (r#"  "x\u001b[31m"  "#, "deny", "target_refused: "),
        ] {
            let answer = one(line);
            assert_eq!(answer["decision"], decision, "{line}: {answer}");
            assert!(answer["reason"].as_str().is_some_and(|it| it.starts_with(reason)), "{line}: {answer}");
            assert_eq!(answer.as_object().map(serde_json::Map::len), Some(3));
            if let Ok(url) = serde_json::from_str::<Value>(line) {
                assert_eq!(answer["url"], url);
            }
        }
        // Half of a surrogate pair is answered as it was written: no text of this program can hold it.
        let broken = listed(r#" "\ud800" "#, "x:1").expect("a string by JSON's grammar");
        assert_eq!(broken, Listed::Broken(r#""\ud800""#));
        let surrogate = answer(&rules(), &broken);
        assert!(surrogate.starts_with(r#"{"url":"\ud800","decision":"deny","reason":""#), "{surrogate}");
    }

    #[test]
    fn a_line_that_is_no_string_is_named() {
        for (text, place) in [
            ("\"a\"\nhttps://x\n", "l:2: is not a JSON string"),
            ("\"a\"\n\n\"b\"\n", "l:2: is not a JSON string: the line is empty"),
            ("{\"url\":\"a\"}", "l:1"),
            ("\"a", "l:1"),
            ("\"a\" \"b\"", "l:1"),
            ("\"a\\x\"", "l:1"),
            ("null", "l:1"),
            ("\"\\ud800", "l:1"),
        ] {
            let failure = urls(text, "l").expect_err(text);
            assert!(failure.message().starts_with(place), "{text:?}: {failure}");
            assert_eq!(failure.code(), "urls_invalid");
        }
        assert_eq!(urls("", "l").expect("an empty list"), []);
        assert_eq!(urls("\u{feff}\"a\"\r\n\"b\"", "l").expect("two").len(), 2);
    }

    #[test]
    fn ten_thousand_urls_take_no_time() {
        let rules = rules();
        let begun = Instant::now();
        for n in 0..10_000 {
            let url = format!("https://h{n}.cdn.example.com/bücher/{n}?q=%7b{n}%7d");
            let answer = answer(&rules, &Listed::Text(url));
            assert!(answer.contains("\"allow\""), "{answer}");
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}, and this is the unoptimised program");
    }
}
