use http::Request;
use proptest::prelude::*;

use super::*;
use crate::{Methods, Rule, RuleOrigin, Verdict, decide};

/// What a policy of api.example.com, *.cdn.example.com, bücher.example and straße.example says about a GET.
fn judged(url: &str) -> Result<(), &'static str> {
    let hosts = ["api.example.com", "*.cdn.example.com", "xn--bcher-kva.example", "xn--strae-oqa.example"];
    let rules = hosts.map(|host| Rule {
        scheme: Scheme::Https,
        host: host.parse().expect("a pattern"),
        port: 443,
        methods: Methods::Any,
        paths: Vec::new(),
        origin: RuleOrigin::Manifest,
    });
    let target = RequestTarget::of_url(url).map_err(|reason| reason.code)?;
    match decide(&rules, &target.asked(&Method::GET)) {
        Verdict::Allow { .. } => Ok(()),
        Verdict::Deny(reason) => Err(reason.code),
    }
}

#[test]
fn whatever_is_not_clearly_the_allowed_host_is_refused() {
    for (url, code) in [
        // Other destinations.
        ("https://example.com/", "host_not_allowed"),
        ("https://api.example.com.evil.test/", "host_not_allowed"),
        ("https://xapi.example.com/", "host_not_allowed"),
        ("https://cdn.example.com/", "host_not_allowed"),
        ("https://evil-cdn.example.com/", "host_not_allowed"),
        ("http://api.example.com/", "scheme_not_allowed"),
        ("https://api.example.com:8443/", "port_not_allowed"),
        ("https://api.example.com:80/", "port_not_allowed"),
        // Schemes and shapes that browsers repair.
        ("", "target_refused"),
        ("api.example.com", "target_refused"),
        ("//api.example.com/", "target_refused"),
        ("/etc/passwd", "target_refused"),
        ("https:api.example.com/", "target_refused"),
        ("https:/api.example.com/", "target_refused"),
        ("https:///api.example.com/", "target_refused"),
        ("https:\\\\api.example.com\\", "target_refused"),
        ("https://", "target_refused"),
        ("https://?x", "target_refused"),
        ("https://#x", "target_refused"),
        ("ftp://api.example.com/", "scheme_refused"),
        ("wss://api.example.com/", "scheme_refused"),
        ("file:///etc/passwd", "scheme_refused"),
        ("javascript:alert(1)", "scheme_refused"),
        ("blob:https://api.example.com/x", "scheme_refused"),
        ("view-source:https://api.example.com/", "scheme_refused"),
        // Characters that parsers strip, or end at.
        (" https://api.example.com/", "target_refused"),
        ("https://api.example.com/ ", "target_refused"),
        ("ht\ttps://api.example.com/", "target_refused"),
        ("https://api.example\t.com/", "target_refused"),
        ("https://api.example.com\n/", "target_refused"),
        ("https://api.example.com/a\r\nHost: evil.test", "target_refused"),
        ("https://api.example.com\0.evil.test/", "target_refused"),
        ("https://api.example.com/\0", "target_refused"),
        ("https://api.example.com/\u{7f}", "target_refused"),
        ("https://api.example.com/\u{85}x", "target_refused"),
        ("https://api.example.com/\u{2028}x", "target_refused"),
        ("\u{feff}https://api.example.com/", "target_refused"),
        // User information, and what is read as it.
        ("https://user@api.example.com/", "target_refused"),
        ("https://user:pass@api.example.com/", "target_refused"),
        ("https://@api.example.com/", "target_refused"),
        ("https://api.example.com@evil.test/", "target_refused"),
        ("https://api.example.com:443@evil.test/", "target_refused"),
        ("https://evil.test\\@api.example.com/", "target_refused"),
        ("https://api.example.com\\@evil.test/", "target_refused"),
        ("https://api.example.com\\.evil.test/", "target_refused"),
        ("https://api.example.com\\", "target_refused"),
        ("https://api.example.com#@evil.test/", "target_refused"),
        ("https://api.example.com#.evil.test/", "target_refused"),
        ("https://api.example.com#\\evil.test", "target_refused"),
        ("https://api.example.com?@evil.test/", "target_refused"),
        ("https://api.example.com?.evil.test/", "target_refused"),
        ("https://api.example.com?#@evil.test/", "target_refused"),
        ("https://evil.test#@api.example.com/", "target_refused"),
        // Names.
        ("https://api.example.com../", "host_refused"),
        ("https://.api.example.com/", "host_refused"),
        ("https://api..example.com/", "host_refused"),
        ("https://api%2eexample.com/", "host_refused"),
        ("https://api.example.com%00.evil.test/", "host_refused"),
        ("https://api.example.com%2f.evil.test/", "host_refused"),
        ("https://%61pi.example.com/", "host_refused"),
        ("https://*.cdn.example.com/", "host_refused"),
        ("https://api.example.com;evil.test/", "host_refused"),
        ("https://api.example.com,evil.test/", "host_refused"),
        ("https://ａｐｉ.example.com/", "host_refused"),
        ("https://api。example。com/", "host_refused"),
        ("https://api\u{ff0e}example\u{ff61}com/", "host_refused"),
        ("https://api.exam\u{ad}ple.com/", "host_refused"),
        ("https://api.exam\u{200b}ple.com/", "host_refused"),
        ("https://api.example.com\u{202e}/", "host_refused"),
        ("https://api.example\u{3000}.com/", "host_refused"),
        ("https://арі.example.com/", "host_not_allowed"),
        ("https://api.e\u{445}ample.com/", "host_not_allowed"),
        ("https://xn--a/", "host_refused"),
        // Addresses.
        ("https://127.0.0.1/", "ip_literal_refused"),
        ("https://2130706433/", "ip_literal_refused"),
        ("https://0x7f.1/", "ip_literal_refused"),
        ("https://0177.0.0.1/", "ip_literal_refused"),
        ("https://127.1/", "ip_literal_refused"),
        ("https://169.254.169.254./", "ip_literal_refused"),
        ("https://[::1]/", "ip_literal_refused"),
        ("https://[::ffff:127.0.0.1]:443/", "ip_literal_refused"),
        ("https://[fe80::1%25eth0]/", "ip_literal_refused"),
        ("https://[api.example.com]/", "ip_literal_refused"),
        // Names of the inside.
        ("https://localhost/", "name_refused"),
        ("https://LOCALHOST./", "name_refused"),
        ("https://metadata.google.internal/", "name_refused"),
        ("https://printer.local/", "name_refused"),
        ("https://intranet/", "name_refused"),
        ("http://llm.orch.internal/v1/models", "name_refused"),
        // Ports.
        ("https://api.example.com:/", "target_refused"),
        ("https://api.example.com:0/", "target_refused"),
        ("https://api.example.com:65536/", "target_refused"),
        ("https://api.example.com:0443/", "target_refused"),
        ("https://api.example.com:00000000443/", "target_refused"),
        ("https://api.example.com:+443/", "target_refused"),
        ("https://api.example.com:-443/", "target_refused"),
        ("https://api.example.com:443:80/", "target_refused"),
        ("https://api.example.com:４４３/", "target_refused"),
        ("https://api.example.com:%34%34%33/", "target_refused"),
        ("https://api.example.com:https/", "target_refused"),
        // Paths that servers read in two ways.
        ("https://api.example.com/a\\b", "path_refused"),
        ("https://api.example.com/a%5cb", "path_refused"),
        ("https://api.example.com/a%2fb", "path_refused"),
        ("https://api.example.com/a%00b", "path_refused"),
        ("https://api.example.com/a%0d%0ab", "path_refused"),
        ("https://api.example.com/%252e%252e/b", "path_refused"),
        ("https://api.example.com/..;/b", "path_refused"),
        ("https://api.example.com/../b", "path_refused"),
        ("https://api.example.com/%2e%2e/b", "path_refused"),
        ("https://api.example.com/100%", "path_refused"),
        ("https://api.example.com/%zz", "path_refused"),
    ] {
        let got = judged(url);
        // Fullwidth digits and hosts may be refused for more than one reason; that they are is what counts.
        assert!(got.is_err(), "{url:?} is let through");
        assert_eq!(got, Err(code), "{url:?}");
    }
}

#[test]
fn what_people_and_libraries_write_is_let_through() {
    for url in [
        "https://api.example.com",
        "https://api.example.com/",
        "HTTPS://API.EXAMPLE.COM/",
        "https://Api.Example.Com/Path",
        "https://api.example.com:443/",
        "https://api.example.com./",
        "https://api.example.com.:443/",
        "https://a.cdn.example.com/",
        "https://a.b.cdn.example.com/x",
        "https://bücher.example/",
        "https://BÜCHER.example/",
        "https://bu\u{308}cher.example/",
        "https://xn--bcher-kva.example/",
        "https://XN--BCHER-KVA.example/",
        "https://straße.example/",
        "https://api.example.com?x=1",
        "https://api.example.com?",
        "https://api.example.com#top",
        "https://api.example.com/#@evil.test",
        "https://api.example.com/?u=https://evil.test/",
        "https://api.example.com/?mail=a@b.example&x=1",
        "https://api.example.com/@user/repo",
        "https://api.example.com/a/b/../c",
        "https://api.example.com/a//b/",
        "https://api.example.com/a%20b/%C3%BC?q=%E2%82%AC",
        "https://api.example.com/bücher/世界?q=grüße",
        "https://api.example.com/👩\u{200d}💻?q=👩\u{200d}💻",
        "https://api.example.com/?q=a|b^c`{d}[e]\\f\"g<h>'",
        "https://api.example.com/a;v=1,2/b:c=d&e+f!g$(h)*~_-.",
        "https://api.example.com/v1/models/x:generate",
        "https://api.example.com/{id}/<x>|\"y\"",
        "https://api.example.com/?a=b?c=d/e",
        "https://api.example.com/x#a#b",
        "https://api.example.com/localhost/127.0.0.1",
        "https://api.example.com/?host=127.0.0.1&next=%0d%0a",
    ] {
        assert_eq!(judged(url), Ok(()), "{url:?}");
    }
}

#[test]
fn the_target_is_what_goes_upstream() {
    let target = RequestTarget::of_url("https://BÜCHER.example.:443/a/%7e/../ü?q=<ü>#x").expect("a target");
    assert_eq!(target.host.as_str(), "xn--bcher-kva.example");
    assert_eq!((target.port, target.path.as_str()), (443, "/a/%C3%BC?q=%3C%C3%BC%3E"));
    assert_eq!(RequestTarget::of_url("https://a.example?x").expect("a target").path.as_str(), "/?x");
}

#[test]
fn a_long_url_is_refused_and_takes_no_time() {
    let long = format!("https://api.example.com/{}", "a".repeat(Caps::default().url));
    assert_eq!(judged(&long), Err("url_too_long"));
    let longer = format!("https://api.example.com/{}", "a/".repeat(1 << 20));
    assert_eq!(judged(&longer), Err("path_refused"));
    assert!(judged(&format!("https://{}/", "ü".repeat(1 << 20))).is_err());
}

/// What the door makes of the same text, if hyper makes a URI of it at all.
fn at_the_door(url: &str) -> Option<Result<RequestTarget, Reason>> {
    let request = Request::builder().uri(url).body(()).ok()?;
    Some(RequestTarget::parse(&request.into_parts().0))
}

/// Pieces that URLs are attacked with, in any order.
fn spelled() -> impl Strategy<Value = String> {
    let pieces = [
        "https",
        "HTTP",
        "http",
        ":",
        "/",
        "//",
        "\\",
        "@",
        "#",
        "?",
        "%",
        "%2e",
        "%2f",
        "%00",
        "%25",
        ".",
        "..",
        ";",
        "api.example.com",
        "evil.test",
        "127.0.0.1",
        "[::1]",
        "443",
        ":80",
        "x",
        "ü",
        "ｅ",
        "。",
        "\t",
        "\0",
        " ",
        "*",
    ];
    let noise = proptest::collection::vec(proptest::sample::select(pieces.to_vec()), 0..8)
        .prop_map(|parts| parts.concat());
    (proptest::bool::ANY, noise).prop_map(|(whole, noise)| match whole {
        true => format!("https://api.example.com{noise}"),
        false => format!("https://{noise}"),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_door_and_the_text_agree(url in spelled()) {
        let Ok(target) = RequestTarget::of_url(&url) else { return Ok(()) };
        if let Some(door) = at_the_door(&url) {
            prop_assert_eq!(Ok(&target), door.as_ref(), "{:?}", url);
        }
        // The WHATWG's parser, which is what browsers, Node and Deno have.
        let browser = url::Url::parse(&url);
        let browser = browser.map_err(|error| TestCaseError::fail(format!("{url:?}: {error}")))?;
        let host = browser.host_str().unwrap_or_default();
        prop_assert_eq!(host.strip_suffix('.').unwrap_or(host), target.host.as_str(), "{:?}", url);
        prop_assert_eq!(browser.port_or_known_default(), Some(target.port), "{:?}", url);
        prop_assert!(browser.username().is_empty() && browser.password().is_none(), "{:?}", url);
        // Said again in canonical words, it is the same.
        let again = format!("{}://{}:{}{}", target.scheme, target.host, target.port, target.path);
        prop_assert_eq!(RequestTarget::of_url(&again), Ok(target));
    }

    #[test]
    fn no_text_makes_it_panic(text in ".*") {
        let _ = RequestTarget::of_url(&text);
        let _ = RequestTarget::of_url(&format!("https://{text}"));
    }
}
