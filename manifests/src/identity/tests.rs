use super::*;

#[test]
fn agent_names() {
    let name: AgentName = "acme/summarizer-2".parse().unwrap();
    assert_eq!(
        (name.org(), name.name(), name.to_string().as_str()),
        ("acme", "summarizer-2", "acme/summarizer-2")
    );
    let long = "a".repeat(65);
    for bad in [
        "",
        "/",
        "acme",
        "acme/",
        "/x",
        "Acme/x",
        "acme/x/y",
        "acme/x_y",
        "acme/..",
        "a b/c",
        "acme/-x",
        "acme/x-",
        "acme/x\0",
        "acme/ünder",
        &format!("{long}/x"),
        &format!("x/{long}"),
    ] {
        assert!(bad.parse::<AgentName>().is_err(), "{bad:?}");
    }
}

#[test]
fn agent_references_round_trip() {
    for (text, shown) in [("acme/t", "acme/t"), ("acme/t@*", "acme/t"), ("acme/t@^2", "acme/t@^2")] {
        assert_eq!(text.parse::<AgentRef>().unwrap().to_string(), shown);
    }
    for bad in ["acme@2", "acme/t@", "acme/t@banana", "@1"] {
        assert!(bad.parse::<AgentRef>().is_err(), "{bad:?}");
    }
}

#[test]
fn digests_round_trip_and_have_one_spelling() {
    // FIPS 180-2, appendix B.1.
    let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(Digest::of(b"abc").to_string(), text);
    assert_eq!(text.parse::<Digest>().unwrap(), Digest::of(b"abc"));
    assert!(text.to_uppercase().parse::<Digest>().is_err());
    assert!(text.replace("ba78", "BA78").parse::<Digest>().is_err());
    assert!(text[..70].parse::<Digest>().is_err());
}

#[test]
fn run_ids_are_random_and_have_one_spelling() {
    let (one, two) = (RunId::random(), RunId::random());
    assert_ne!(one, two);
    assert_eq!(one.as_str().len(), 30);
    assert_eq!(one.as_str().parse::<RunId>().unwrap(), one);
    for bad in [
        "run_",
        "run_aaaaaaaaaaaaaaaaaaaaaaaaa",
        "run_AAAAAAAAAAAAAAAAAAAAAAAAAA",
        "aaaaaaaaaaaaaaaaaaaaaaaaaa",
        // The last character's two spare bits must be zero, or two texts would name one run.
        "run_aaaaaaaaaaaaaaaaaaaaaaaaab",
        "run_aaaaaaaaaaaaaaaaaaaaaaaaa1",
    ] {
        assert!(bad.parse::<RunId>().is_err(), "{bad:?}");
    }
}

#[test]
fn model_names() {
    let name: ModelName = "openrouter/meta-llama/llama-3.1-8b:free".parse().unwrap();
    assert_eq!(name.split(), (Some("openrouter"), "meta-llama/llama-3.1-8b:free"));
    for bad in
        ["", "a b", "a//b", "/a", "a/", "a/../b", "a%2fb", "a?b", "a#b", "a\nb", "módel", &"m".repeat(257)]
    {
        assert!(bad.parse::<ModelName>().is_err(), "{bad:?}");
    }
}

#[test]
fn secret_names() {
    assert!("GITHUB_TOKEN".parse::<SecretName>().is_ok());
    for bad in ["", "1A", "A-B", "A=B", "A B", "A\0", "Ä", &"A".repeat(129)] {
        assert!(bad.parse::<SecretName>().is_err(), "{bad:?}");
    }
}
