//! Manifests that try to exhaust their reader.

use std::time::{Duration, Instant};

use crate::{error, json, with, yaml};

/// Far more than any of these takes, and far less than any of the attacks would.
const QUICK: Duration = Duration::from_secs(20);

fn quickly<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    assert!(took < QUICK, "took {took:?}");
    result
}

#[test]
fn size() {
    let big = with(&format!("description: {}", "x".repeat(1 << 20)));
    assert_eq!(error(&big), "orch.yaml: is larger than 1 MiB");
    let fits = with(&format!("description: {}", "x".repeat((1 << 20) - 100)));
    assert!(yaml(&fits).is_ok());
}

#[test]
fn aliases_that_multiply() {
    let mut laughs = String::from("input:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..30 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs += &format!("  a{level}: &a{level} [{below}]\n");
    }
    insta::assert_snapshot!(quickly(|| error(&with(&laughs))), @"
    orch.yaml:5:33: holds too much, aliases written out
      hint: a manifest has at most 100000 values and 4 MiB of text
    ");

    let wide = format!("input:\n  a: &a {:?}\n  b: [{}]\n", "x".repeat(400_000), "*a, ".repeat(100_000));
    insta::assert_snapshot!(quickly(|| error(&with(&wide))), @"
    orch.yaml:5:6: holds too much, aliases written out
      hint: a manifest has at most 100000 values and 4 MiB of text
    ");

    let many = format!("input:\n  b: [{}]\n", "1, ".repeat(200_000));
    insta::assert_snapshot!(quickly(|| error(&with(&many))), @"
    orch.yaml:5:299974: holds too much, aliases written out
      hint: a manifest has at most 100000 values and 4 MiB of text
    ");

    let cycle = "input: &a\n  a: *a\n";
    assert!(quickly(|| error(&with(cycle))).starts_with("orch.yaml:"));
}

#[test]
fn nesting() {
    let deep =
        |depth: usize, open: &str, close: &str| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    assert!(yaml(&with(&format!("input: {{default: {}}}", deep(60, "[", "]")))).is_ok());
    insta::assert_snapshot!(error(&with(&format!("input: {{default: {}}}", deep(70, "[", "]")))), @"orch.yaml:4:80: input.default[0][0]: is nested deeper than 64 levels");
    insta::assert_snapshot!(error(&with(&format!("input: {}", deep(900, "{a: ", "}")))), @"orch.yaml:4:1032: is nested deeper than 64 levels");
    for text in [
        "[".repeat(1_000_000),
        format!("{}{}", "[".repeat(80), "{".repeat(900_000)),
        format!("{{\"a\":{}{}", "[".repeat(80), "[1,".repeat(300_000)),
        format!("{}{}", "[".repeat(250), "1,".repeat(500_000)),
        "{".repeat(1_000_000),
        "{a: ".repeat(250_000),
        "- ".repeat(500_000),
        "? ".repeat(500_000),
        "[{".repeat(500_000),
        deep(500_000, "[", "]"),
        format!("input: {}", "!a ".repeat(300_000)),
        format!("input: {}", "&a ".repeat(300_000)),
        format!("input: {}", "- - - \n".repeat(100_000)),
        "a: ".repeat(300_000),
        "\"".repeat(1_000_000),
        "x: |\n".repeat(200_000),
        "---\n".repeat(250_000),
        "%YAML 1.2\n".repeat(100_000),
    ] {
        let head: String = text.chars().take(12).collect();
        quickly(|| assert!(yaml(&text).is_err(), "{head}"));
        quickly(|| assert!(json(&text).is_err(), "{head}"));
    }
    let json_deep = format!("{{\"input\": {}}}", deep(100_000, "{\"a\":", "}"));
    insta::assert_snapshot!(json(&json_deep).unwrap_err(), @"orch.json:1:26: input.a.a.a: is nested deeper than 64 levels");
}

#[test]
fn large_and_honest() {
    let rules: String =
        (0..5_000).map(|i| format!("  - host: h{i}.example.com\n    paths: [\"/a/**\"]\n")).collect();
    let manifest = quickly(|| yaml(&with(&format!("egress:\n{rules}")))).unwrap();
    assert_eq!(manifest.egress.len(), 5_000);
    // Many problems far down: each costs a pass over the text.
    let broken = format!("egress:\n{rules}{}", "  - host: localhost\n".repeat(100));
    assert_eq!(quickly(|| yaml(&with(&broken))).unwrap_err().problems.len(), 33);
}
