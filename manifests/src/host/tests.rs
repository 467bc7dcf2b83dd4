use super::*;

fn host(text: &str) -> HostName {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn pattern(text: &str) -> HostPattern {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[test]
fn one_name_has_one_spelling() {
    for (text, canonical) in [
        ("example.com", "example.com"),
        ("EXAMPLE.Com", "example.com"),
        ("example.com.", "example.com"),
        ("example。com", "example.com"),
        ("example.com。", "example.com"),
        ("ｅｘａｍｐｌｅ.com", "example.com"),
        ("exa\u{ad}mple.com", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("my_bucket.s3.example.com", "my_bucket.s3.example.com"),
        ("localhost", "localhost"),
        ("LOCALHOST.", "localhost"),
        ("1password.com", "1password.com"),
        ("3com", "3com"),
        ("0xcafe.example", "0xcafe.example"),
        ("x.0xg", "x.0xg"),
    ] {
        assert_eq!(host(text).as_str(), canonical, "{text:?}");
    }
}

#[test]
fn addresses_are_not_names_in_any_spelling() {
    for text in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0X7F.0.0.1",
        "0177.0.0.1",
        "0177.1",
        "017700000001",
        "127.0.0.1.",
        "127.1.",
        "0",
        "0x",
        "0x.0x.0",
        "00000127.0.0.1",
        "１２７.0.0.1",
        "１２７.１",
        "①②⑦.0.0.1",
        "127。0。0。1",
        "127.0.0.１",
        "169.254.169.254",
        "0xa9fea9fe",
        "2852039166",
        "999.999.999.999",
        "1.2.3.4.5",
        "256.1",
        "4294967296",
        "example.123",
        "example.0x1f",
        "[::1]",
        "::1",
        "::ffff:127.0.0.1",
        "[::ffff:7f00:1]",
        "fe80::1%eth0",
        "[fe80::1%25eth0]",
        "[v1.x]",
        "0:0:0:0:0:0:0:1",
        "[::1",
    ] {
        let got = text.parse::<HostName>();
        assert!(matches!(got, Err(HostError::Address(_))), "{text:?}: {got:?}");
    }
}

#[test]
fn what_is_not_a_name_is_refused() {
    let long_label = format!("{}.com", "a".repeat(64));
    let long_name = ["a".repeat(60).as_str(); 5].join(".");
    for text in [
        "",
        ".",
        "..",
        "。",
        "a..b",
        ".a",
        "a.b..",
        "a.b。.",
        "a.b.。",
        "-a.com",
        "a-.com",
        "a b.com",
        " a.com",
        "a.com ",
        "a\tb",
        "a\nb.com",
        "a\0.com",
        "a.com\0",
        "example.com%2e",
        "%65xample.com",
        "user@example.com",
        "a@b",
        "example.com:443",
        "http://example.com",
        "example.com/x",
        "example.com?x",
        "example.com#x",
        "example.com\\x",
        "\\\\example.com",
        "a,b",
        "a;b",
        "a!b",
        "a$b",
        "a(b)",
        "a+b",
        "a=b",
        "a~b",
        "a'b",
        "a\"b",
        "a<b",
        "a{b}",
        "a|b",
        "a^b",
        "a`b",
        "*",
        "*.com",
        "a*.com",
        "xn--",
        "xn--a-\u{fc}",
        "xn--zzzzzzzzzzz99999.com",
        "a\u{202e}b.com",
        "a\u{2024}\u{2024}b",
        "a／b.com",
        "a＠b.com",
        "a：1",
        "a％2eb",
        &long_label,
        &long_name,
    ] {
        assert!(text.parse::<HostName>().is_err(), "{text:?} became {:?}", text.parse::<HostName>());
    }
}

#[test]
fn local_names_are_told_apart() {
    for text in [
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "printer.local",
        "db.internal",
        "metadata.google.internal",
        "metadata",
        "router",
        "nas.home.arpa",
        "x.onion",
        "localhost.localdomain",
        "llm.orch.internal",
    ] {
        assert!(host(text).local_reason().is_some(), "{text}");
    }
    for text in
        ["example.com", "notlocalhost.com", "internal.example.com", "local.example", "mylocal.io", "a.xlocal"]
    {
        assert_eq!(host(text).local_reason(), None, "{text}");
    }
}

#[test]
fn wildcards_stop_at_the_dot() {
    let p = pattern("*.example.com");
    for (text, expected) in [
        ("a.example.com", true),
        ("a.b.example.com", true),
        ("A.EXAMPLE.COM.", true),
        ("example.com", false),
        ("badexample.com", false),
        ("example.com.evil.org", false),
        ("a.example.org", false),
        ("xn--bcher-kva.example.com", true),
    ] {
        assert_eq!(p.matches(&host(text)), expected, "{text}");
    }
    assert!(pattern("Example.com").matches(&host("example.COM.")));
    assert!(!pattern("example.com").matches(&host("a.example.com")));
}

#[test]
fn wildcards_over_unrelated_owners_are_refused() {
    for text in [
        "*.com",
        "*.co.uk",
        "*.github.io",
        "*.GITHUB.IO.",
        "*.ck",
        "*.anything.ck",
        "*.localhost",
        "*.test",
        "*.blogspot.com",
    ] {
        let got = text.parse::<HostPattern>();
        assert!(matches!(got, Err(HostError::PublicSuffix { .. })), "{text}: {got:?}");
    }
    for text in [
        "*",
        "*.*.com",
        "a.*.com",
        "*a.com",
        "a*.com",
        "**.example.com",
        "*.",
        "*..com",
        "*.127.0.0.1",
        "*.0x7f.1",
        "*.a:1",
        "*.[::1]",
    ] {
        assert!(text.parse::<HostPattern>().is_err(), "{text}");
    }
    assert_eq!(pattern("*.Sub.Example.COM").to_string(), "*.sub.example.com");
    assert_eq!(pattern("*.user.github.io").to_string(), "*.user.github.io");
}

#[test]
fn covering_is_matching_of_all() {
    for (wide, narrow, expected) in [
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "*.example.com", true),
        ("*.example.com", "*.a.example.com", true),
        ("*.a.example.com", "*.example.com", false),
        ("*.example.com", "example.com", false),
        ("a.example.com", "*.example.com", false),
        ("a.example.com", "a.example.com", true),
    ] {
        assert_eq!(pattern(wide).covers(&pattern(narrow)), expected, "{wide} over {narrow}");
    }
}
