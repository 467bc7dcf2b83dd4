use super::*;

fn path(text: &str) -> CanonicalPath {
    CanonicalPath::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[test]
fn one_path_has_one_spelling() {
    for (text, canonical) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("//a///b//", "/a/b/"),
        ("/./a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/%2e/a", "/a"),
        ("/a/%2E%2e/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/%61bc", "/abc"),
        ("/%7euser", "/~user"),
        ("/a%2cb", "/a%2Cb"),
        ("/a,b", "/a,b"),
        ("/é", "/%C3%A9"),
        ("/%c3%a9", "/%C3%A9"),
        ("/a%20b", "/a%20b"),
        ("/{id}", "/%7Bid%7D"),
        ("/a;v=1", "/a;v=1"),
        ("/a%25b", "/a%25b"),
        ("/100%2541", "/100%2541"),
        ("/..a/b..", "/..a/b.."),
        ("/...", "/..."),
        ("/v1beta/models/x:generate", "/v1beta/models/x:generate"),
        ("/a?", "/a?"),
        ("/a?b=/../c//%2e", "/a?b=/../c//%2e"),
        ("/a?é", "/a?%C3%A9"),
        ("/a/..?x", "/?x"),
        ("/a//../b", "/b"),
    ] {
        assert_eq!(path(text).as_str(), canonical, "{text:?}");
    }
    let both = path("/a/b?x=1?y");
    assert_eq!((both.path(), both.query()), ("/a/b", Some("x=1?y")));
    assert_eq!((path("/a?").query(), path("/a").query()), (Some(""), None));
}

#[test]
fn ambiguous_paths_are_refused() {
    use PathError as E;
    for (text, error) in [
        ("", E::NotAbsolute),
        ("a", E::NotAbsolute),
        ("*", E::NotAbsolute),
        ("https://x/", E::NotAbsolute),
        ("?a", E::NotAbsolute),
        ("\\a", E::NotAbsolute),
        ("/a#b", E::Fragment),
        ("/..", E::AboveRoot),
        ("/a/../../b", E::AboveRoot),
        ("/%2e%2e/b", E::AboveRoot),
        ("/a%2fb", E::HiddenSeparator),
        ("/a%2F..%2fb", E::HiddenSeparator),
        ("/a\\b", E::HiddenSeparator),
        ("/a%5cb", E::HiddenSeparator),
        ("/..%5c", E::HiddenSeparator),
        ("/a b", E::Control),
        ("/a\0", E::Control),
        ("/a%00", E::Control),
        ("/a\r\nb", E::Control),
        ("/a%0d%0a", E::Control),
        ("/a\u{7f}", E::Control),
        ("/a?b c", E::Control),
        ("/a?b\n", E::Control),
        ("/%", E::BadEscape),
        ("/%2", E::BadEscape),
        ("/%zz", E::BadEscape),
        ("/%+1", E::BadEscape),
        ("/%252e%252e/a", E::DoubleEncoding),
        ("/%252f", E::DoubleEncoding),
        ("/%255c", E::DoubleEncoding),
        ("/%25252e", E::DoubleEncoding),
        ("/%2500", E::DoubleEncoding),
        ("/%25%32%65%25%32%65/a", E::DoubleEncoding),
        ("/%25%32f", E::DoubleEncoding),
        ("/%252%46", E::DoubleEncoding),
        ("/%25%35%43", E::DoubleEncoding),
        ("/a/..;/b", E::DotParameters),
        ("/a/..;x=1/b", E::DotParameters),
        ("/a/.;/b", E::DotParameters),
        ("/a/%2e%2e%3b/b", E::DotParameters),
        ("/a/..%3Bx/b", E::DotParameters),
    ] {
        assert_eq!(CanonicalPath::parse(text), Err(error), "{text:?}");
    }
    assert_eq!(CanonicalPath::parse(&format!("/{}", "a".repeat(TARGET_MAX))), Err(E::TooLong));
}

#[test]
fn globs_match_segments() {
    for (glob, text, expected) in [
        ("/", "/", true),
        ("/", "/a", false),
        ("/a", "/a", true),
        ("/a", "/a/", false),
        ("/a/", "/a/", true),
        ("/a", "/A", false),
        ("/a", "/a?x=/b", true),
        ("/repos/**", "/repos/a", true),
        ("/repos/**", "/repos/a/b", true),
        ("/repos/**", "/repos/", true),
        ("/repos/**", "/repos", false),
        ("/repos/**", "/reposx/a", false),
        ("/repos/**", "/repos/../user", false),
        ("/repos/**", "/x/%2e%2e/repos/a", true),
        ("/v1/*", "/v1/a", true),
        ("/v1/*", "/v1/a/b", false),
        ("/v1/*", "/v1/", false),
        ("/v1/*", "/v1", false),
        ("/v*/x", "/v1/x", true),
        ("/v*/x", "/v/x", true),
        ("/v*/x", "/w/x", false),
        ("/a*b*c", "/aXbYc", true),
        ("/a*b*c", "/abc", true),
        ("/a*b*c", "/ac", false),
        ("/a*a", "/a", false),
        ("/a*a", "/aa", true),
        ("/a/**/z", "/a/z", true),
        ("/a/**/z", "/a/b/c/z", true),
        ("/a/**/z", "/a/z/y", false),
        ("/a/**/z", "/a/z/z", true),
        ("/**", "/", true),
        ("/**", "/a/b", true),
        ("/**/b/**/d", "/a/b/c/b/d", true),
        ("/**/b/**/d", "/a/c/d", false),
        ("/%61", "/a", true),
        ("/a b", "/a", false),
        ("/a%20b", "/a%20b", true),
        ("/models/*:generateContent", "/models/g-1:generateContent", true),
        ("/models/*:generateContent", "/models/g-1:countTokens", false),
    ] {
        let Ok(glob) = glob.parse::<PathGlob>() else {
            assert!(!expected, "{glob} does not parse");
            continue;
        };
        assert_eq!(glob.matches(&path(text)), expected, "{glob} on {text}");
    }
}

#[test]
fn broken_globs_are_refused() {
    for glob in [
        "",
        "a",
        "repos/**",
        "*",
        "/a**",
        "/**a",
        "/***",
        "/a//b",
        "/a//",
        "//",
        "/../a",
        "/a/./b",
        "/a/%2e%2e/b",
        "/a?b",
        "/a#b",
        "/a b",
        "/a%2fb",
        "/a\\b",
        "/%zz",
        "/a\0",
        &format!("/{}", "a".repeat(1024)),
        // Three times as long once it is escaped.
        &format!("/{}", "|".repeat(342)),
    ] {
        assert!(glob.parse::<PathGlob>().is_err(), "{glob:?}");
    }
    assert_eq!("/a/**/**/b%2cc".parse::<PathGlob>().unwrap().to_string(), "/a/**/b%2Cc");
}

#[test]
fn matching_takes_bounded_time() {
    let glob: PathGlob = format!("/{}x", "**/a*a*a*a/".repeat(80)).parse().unwrap();
    assert!(!glob.matches(&path(&"/aaaaaaaaaaaaaaaa".repeat(2000))));
}

#[test]
fn patterns_meet_where_a_path_fits_both() {
    let glob = |text: &str| text.parse::<PathGlob>().unwrap();
    for (one, other, meet) in [
        ("/v1/files", "/v1/files", true),
        ("/v1/files", "/v1/file", false),
        ("/v1/files", "/v1/files/", false),
        ("/v1/*", "/v1/files", true),
        ("/v1/*", "/v1/files/x", false),
        ("/*/files", "/v1/*", true),
        ("/v1/**", "/v1/a/b/c", true),
        ("/v1/**", "/v1", false),
        ("/**/c", "/a/**", true),
        ("/**/c", "/a/b", false),
        ("/a/**/b/**", "/**/b/c", true),
        ("/m/a*", "/m/*:x", true),
        ("/m/a*:y", "/m/*:x", false),
        ("/m/*a*", "/m/b*b", true),
        ("/m/a:x", "/m/*:x", true),
        ("/m/a%3Ax", "/m/*:x", true),
        ("/m/a%3ax", "/m/a:x", true),
    ] {
        assert_eq!(glob(one).meets(&glob(other)), meet, "{one} {other}");
        assert_eq!(glob(other).meets(&glob(one)), meet, "{other} {one}");
    }
}

#[test]
fn an_encoded_slash_stays_in_requests_of_our_own() {
    let target = "/model/arn%3Aaws%3aa%2fb%2Fc/converse";
    assert_eq!(CanonicalPath::parse(target), Err(PathError::HiddenSeparator));
    assert_eq!(CanonicalPath::parse_own(target).unwrap().as_str(), "/model/arn%3Aaws%3Aa%2Fb%2Fc/converse");
    for (target, error) in [
        ("/a%5cb", PathError::HiddenSeparator),
        ("/a%252fb", PathError::DoubleEncoding),
        ("/a%0ab", PathError::Control),
    ] {
        assert_eq!(CanonicalPath::parse_own(target), Err(error), "{target}");
    }
}

/// Every text of so many of these characters.
fn texts(of: &str, length: usize) -> Vec<String> {
    (0..length).fold(vec![String::new()], |texts, _| {
        texts.iter().flat_map(|text| of.chars().map(move |c| format!("{text}{c}"))).collect()
    })
}

#[test]
fn what_is_taken_as_it_is_would_not_be_changed() {
    let mut as_it_is = 0;
    for target in (0..7).flat_map(|length| texts("/.a~%2;?", length)).filter(|target| is_canonical(target)) {
        as_it_is += 1;
        let canonical = CanonicalPath::canonicalised(&target, Slashes::Refused).unwrap();
        assert_eq!((canonical.as_str(), canonical.path()), (&*target, &*target));
    }
    assert!(as_it_is > 1000, "{as_it_is}");
    for byte in 0..=0x7f_u8 {
        let target = format!("/a{}b", char::from(byte));
        if is_canonical(&target) {
            assert_eq!(CanonicalPath::canonicalised(&target, Slashes::Kept).unwrap().as_str(), target);
        }
    }
    assert!(
        !is_canonical("/a b") && !is_canonical("/a%20b") && !is_canonical("/\u{e9}") && !is_canonical("")
    );
}
