//! Laws that hold for every input.

use orch_manifests::{
    ByteSize, CanonicalPath, Catalog, Endpoint, HostName, HostPattern, Manifest, ModelName, PathGlob,
    format_duration, parse_count, parse_duration, resolve_model,
};
use proptest::prelude::*;

use crate::{SUMMARIZER, json, yaml};

/// Text that is likely to hit the interesting branches of host and path parsers.
fn spiky() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-cA-C0-9.x%*\\\\/:@\\[\\]_ -]{0,24}",
        "/?([a-c.%~;*]{0,4}|\\.\\.|%2[eEfF]|%25|%5c|é){0,4}(/([a-c.%~;*]{0,4}|\\.\\.|%2[eE]|\\*\\*)){0,5}(\\?[a-c/%]{0,4})?",
        "(\\*\\.)?([a-c]{1,3}\\.){0,3}(com|co\\.uk|example|github\\.io|１|。|ü)?\\.?",
    ]
}

/// A path in which any character may be escaped, and the escape again.
fn escaped() -> impl Strategy<Value = String> {
    let character = (prop::sample::select(b"//...%25eE2fF3bBcC;ax*\\".to_vec()), 0_usize..3);
    let escape = |text: String| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    prop::collection::vec(character, 0..20).prop_map(move |characters| {
        let one = |(byte, times): &(u8, usize)| {
            (0..*times).fold(char::from(*byte).to_string(), |text, _| escape(text))
        };
        format!("/{}", characters.iter().map(one).collect::<String>())
    })
}

fn label() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,6}"
}

fn labels(count: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    prop::collection::vec(label(), count).prop_map(|labels| labels.join("."))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_canonical_path_is_its_own_canonical_form(text in prop_oneof![spiky(), escaped()]) {
        if let Ok(path) = CanonicalPath::parse(&text) {
            prop_assert_eq!(&CanonicalPath::parse(path.as_str()).unwrap(), &path);
            prop_assert!(path.path().starts_with('/') && path.as_str().is_ascii());
            prop_assert!(!path.path().contains("//") && !path.path().contains('\\'));
            prop_assert!(path.path().split('/').all(|segment| segment != "." && segment != ".."));
            // Nothing that a server may decode turns into another structure.
            let lower = path.path().to_lowercase();
            prop_assert!(!["%2e", "%2f", "%5c", "%00"].iter().any(|escape| lower.contains(escape)));
        }
    }

    #[test]
    fn a_glob_without_wildcards_matches_its_own_path(text in "(/[a-z%~.é]{1,5}){1,4}/?") {
        if let Ok(glob) = text.parse::<PathGlob>() {
            prop_assert!(glob.matches(&CanonicalPath::parse(&text).unwrap()), "{} on itself", glob);
            prop_assert_eq!(&glob.to_string().parse::<PathGlob>().unwrap(), &glob);
        }
    }

    #[test]
    fn a_subtree_glob_matches_below_and_nothing_else(base in "(/[a-z]{1,4}){1,3}", rest in "[a-z/]{0,8}", other in "(/[a-z]{1,4}){0,5}/?") {
        let glob: PathGlob = format!("{base}/**").parse().unwrap();
        let below = CanonicalPath::parse(&format!("{base}/{rest}")).unwrap();
        prop_assert!(glob.matches(&below), "{} on {}", glob, below);
        let other = CanonicalPath::parse(&if other.is_empty() { "/".into() } else { other }).unwrap();
        prop_assert_eq!(glob.matches(&other), other.path().starts_with(&format!("{base}/")));
    }

    #[test]
    fn a_host_name_is_its_own_canonical_form(text in spiky()) {
        if let Ok(host) = text.parse::<HostName>() {
            prop_assert_eq!(&host.as_str().parse::<HostName>().unwrap(), &host);
            prop_assert_eq!(&format!("{host}.").parse::<HostName>().unwrap(), &host);
            prop_assert_eq!(&host.as_str().to_uppercase().parse::<HostName>().unwrap(), &host);
            prop_assert!(host.as_str().parse::<std::net::IpAddr>().is_err());
            // The URL parser that others use sees the same name, and a name.
            let url = url::Url::parse(&format!("https://{host}/")).unwrap();
            prop_assert_eq!(url.host(), Some(url::Host::Domain(host.as_str())));
        }
    }

    #[test]
    fn what_a_wildcard_matches_ends_at_a_dot(base in labels(2..4), host in labels(1..6), glued in label()) {
        let Ok(pattern) = format!("*.{base}").parse::<HostPattern>() else { return Ok(()) };
        let host: HostName = host.parse().unwrap();
        prop_assert_eq!(pattern.matches(&host), host.as_str().ends_with(&format!(".{base}")));
        let (glued_on, below) = (format!("{glued}{base}"), format!("{glued}.{base}"));
        prop_assert!(!pattern.matches(&base.parse().unwrap()));
        prop_assert!(!pattern.matches(&glued_on.parse().unwrap()));
        prop_assert!(pattern.matches(&below.parse().unwrap()));
        prop_assert_eq!(&pattern.to_string().parse::<HostPattern>().unwrap(), &pattern);
    }

    #[test]
    fn endpoints_are_written_as_they_are_read(text in spiky()) {
        if let Ok(endpoint) = format!("https://{text}").parse::<Endpoint>() {
            prop_assert_eq!(&endpoint.to_string().parse::<Endpoint>().unwrap(), &endpoint);
        }
    }

    #[test]
    fn amounts_are_written_as_they_are_read(number in any::<u64>(), millis in 0..86_400_000_000_u64, text in any::<String>()) {
        prop_assert_eq!(ByteSize(number).to_string().parse::<ByteSize>().unwrap(), ByteSize(number));
        prop_assert_eq!(parse_count(&number.to_string()).unwrap(), number);
        let duration = std::time::Duration::from_millis(millis);
        prop_assert_eq!(parse_duration(&format_duration(duration)).unwrap(), duration);
        let _ = (text.parse::<ByteSize>(), parse_count(&text), parse_duration(&text));
    }

    #[test]
    fn resolving_never_guesses_ollama(name in "[a-z0-9.:-]{1,20}") {
        let Ok(name) = name.parse::<ModelName>() else { return Ok(()) };
        if let Ok(route) = resolve_model(&Catalog::builtin(), &name) {
            prop_assert_ne!(route.provider.as_str(), "ollama");
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = (yaml(&text), json(&text));
    }

    /// One change somewhere in a good manifest: it parses, or it is refused with at least one problem inside the text.
    #[test]
    fn a_damaged_manifest_is_read_or_refused_with_a_place(
        at in 0..SUMMARIZER.len(),
        cut in 0..20_usize,
        insert in prop_oneof![Just(String::new()), "[ -~\n\t]{1,4}", any::<char>().prop_map(String::from)],
    ) {
        let mut text = SUMMARIZER.to_owned();
        text.replace_range(at..(at + cut).min(SUMMARIZER.len()), &insert);
        // As YAML counts them. It puts the end of the text on a line of its own.
        let breaks = text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
        let lines = breaks + 2;
        match yaml(&text) {
            Ok(manifest) => round_trip(&manifest)?,
            Err(error) => {
                prop_assert!(!error.problems.is_empty());
                for problem in &error.problems {
                    prop_assert!(!problem.message.is_empty());
                    prop_assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{}", error);
                }
            }
        }
    }

    #[test]
    fn manifests_survive_their_canonical_form(
        egress in prop::collection::vec((labels(2..4), prop::option::of(1..=u16::MAX), "(/[a-z*]{1,3}){1,3}"), 0..4),
        description in prop::option::of(any::<String>()),
        env in prop::collection::btree_map("[A-Z]{1,4}", "[^\0]{0,8}", 0..3),
        schema in json_value(),
        tokens in any::<u64>(),
        cost in 0..u64::MAX / 2,
    ) {
        let mut document = serde_json::json!({
            "name": "a/b", "version": "1.0.0", "module": "a.wasm", "env": env,
            "input": {"default": schema},
            "limits": {"tokens": tokens, "cost_usd": orch_manifests::MicroUsd(cost).to_string()},
            "egress": egress.iter().map(|(host, port, path)| {
                let mut want = serde_json::json!({"host": host, "paths": [path]});
                if let Some(port) = port {
                    want["port"] = (*port).into();
                }
                want
            }).collect::<Vec<_>>(),
        });
        if let Some(description) = description {
            document["description"] = description.into();
        }
        let from_json = json(&document.to_string());
        let from_yaml = yaml(&serde_yaml::to_string(&document).unwrap());
        match (from_json, from_yaml) {
            (Ok(from_json), Ok(from_yaml)) => {
                prop_assert_eq!(from_json.canonical_json(), from_yaml.canonical_json());
                prop_assert_eq!(&from_json, &from_yaml);
                round_trip(&from_json)?;
            }
            // A path pattern such as `/a**` may have come out; both formats then say the same.
            (Err(from_json), Err(from_yaml)) => {
                let messages = |error: orch_manifests::ManifestError| {
                    let mut all: Vec<_> = error.problems.into_iter().map(|p| (p.path, p.message)).collect();
                    all.sort();
                    all
                };
                prop_assert_eq!(messages(from_json), messages(from_yaml));
            }
            (from_json, from_yaml) => prop_assert!(false, "{:?} but {:?}", from_json, from_yaml),
        }
    }
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(|number| serde_json::Number::from_f64(number).map_or(0.into(), Into::into)),
        "[ -~é\n\"\\\\]{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map("[ -~]{0,4}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn round_trip(manifest: &Manifest) -> Result<(), TestCaseError> {
    let canonical = manifest.canonical_json();
    let text = String::from_utf8(canonical.clone()).unwrap();
    let again = json(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
    prop_assert_eq!(&again, manifest);
    prop_assert_eq!(again.canonical_json(), canonical);
    Ok(())
}
