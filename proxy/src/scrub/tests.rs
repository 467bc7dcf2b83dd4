use proptest::prelude::*;

use super::*;

const SECRET: &[u8] = b"sk-Ab/9+zQ\"x\\y%41~ 7_end";

fn stream(scrubber: &Arc<Scrubber>, chunks: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut stream = ScrubStream::new(std::slice::from_ref(scrubber), false);
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend_from_slice(&stream.push(chunk.into()));
    }
    out.extend_from_slice(&stream.finish());
    out
}

fn percent(value: &[u8], keep: fn(u8) -> bool, upper: bool) -> Vec<u8> {
    let mut out = String::new();
    for byte in value {
        match (keep(*byte), upper) {
            (true, _) => out.push(char::from(*byte)),
            (false, true) => out.push_str(&format!("%{byte:02X}")),
            (false, false) => out.push_str(&format!("%{byte:02x}")),
        }
    }
    out.into_bytes()
}

fn base64_forms(value: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut forms = Vec::new();
    for (name, encoding) in [
        ("base64", &data_encoding::BASE64),
        ("base64url", &data_encoding::BASE64URL),
        ("base64url-nopad", &data_encoding::BASE64URL_NOPAD),
    ] {
        for before in 0..3 {
            let whole = [&b"xyz"[..before], value, b"tail"].concat();
            forms.push((format!("{name} at {before}"), encoding.encode(&whole).into_bytes()));
        }
    }
    forms
}

/// Every spelling that the promise names, written by encoders other than the scrubber's own.
fn forms(value: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut forms = vec![
        ("raw".to_owned(), value.to_vec()),
        ("hex".to_owned(), data_encoding::HEXLOWER.encode(value).into_bytes()),
        ("HEX".to_owned(), data_encoding::HEXUPPER.encode(value).into_bytes()),
        (
            "percent, unreserved kept".to_owned(),
            percent(value, |b| b.is_ascii_alphanumeric() || b"-._~".contains(&b), true),
        ),
        ("percent, letters kept".to_owned(), percent(value, |b| b.is_ascii_alphanumeric(), false)),
        ("percent, all".to_owned(), percent(value, |_| false, true)),
        (
            "percent, twice".to_owned(),
            percent(&percent(value, |b| b.is_ascii_alphanumeric(), true), |b| b != b'%', true),
        ),
        ("percent, three times".to_owned(), {
            let once = percent(value, |b| b.is_ascii_alphanumeric(), false);
            percent(&percent(&once, |b| b != b'%', false), |b| b != b'%', false)
        }),
        ("json, all".to_owned(), value.iter().flat_map(|b| format!("\\u{b:04x}").into_bytes()).collect()),
        (
            "form".to_owned(),
            percent(value, |b| b.is_ascii_alphanumeric() || b == b' ', true)
                .into_iter()
                .map(|b| if b == b' ' { b'+' } else { b })
                .collect(),
        ),
    ];
    if let Ok(text) = std::str::from_utf8(value) {
        let json = serde_json::to_string(text).unwrap();
        forms.push(("json".to_owned(), json[1..json.len() - 1].into()));
        let slashed = json[1..json.len() - 1].replace('/', "\\/");
        forms.push(("json, slashes escaped".to_owned(), slashed.into()));
    }
    forms.extend(base64_forms(value));
    forms
}

/// The digits of a form that hold nothing but the secret: at its ends, base64 digits also hold other bytes.
fn core_of(value: &[u8], name: &str, form: &[u8]) -> Vec<u8> {
    let Some((_, before)) = name.split_once(" at ") else { return form.to_vec() };
    let before: usize = before.parse().unwrap();
    form[(before * 8).div_ceil(6)..(before + value.len()) * 8 / 6].to_vec()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[test]
fn every_form_is_found_at_every_split() {
    let scrubber = Arc::new(Scrubber::new(SECRET).unwrap());
    for (name, form) in forms(SECRET) {
        let text = [b"before ", &form[..], b" after"].concat();
        for split in 0..=text.len() {
            let out = stream(&scrubber, [text[..split].to_vec(), text[split..].to_vec()]);
            let shown = String::from_utf8_lossy(&out);
            assert!(shown.contains(SCRUBBED), "{name} split at {split}: {shown}");
            assert!(!contains(&out, &core_of(SECRET, &name, &form)), "{name} split at {split}: {shown}");
            assert!(shown.starts_with("before ") && shown.ends_with(" after"), "{name}: {shown}");
        }
        let bytewise = stream(&scrubber, text.iter().map(|byte| vec![*byte]));
        assert!(!contains(&bytewise, &core_of(SECRET, &name, &form)), "{name} byte by byte");
    }
}

#[test]
fn what_is_not_the_secret_passes_unchanged() {
    let scrubber = Arc::new(Scrubber::new(SECRET).unwrap());
    let texts: [&[u8]; 6] = [
        b"",
        b"data: {\"choices\":[{\"delta\":{\"content\":\"line\\n\\u0041 100%\"}}]}\n\n",
        &SECRET[..SECRET.len() - 1],
        &SECRET[1..],
        b"%%%\\\\\\%4%\\u00",
        &[0, 255, 128, b'%', b'\\'],
    ];
    for text in texts {
        for split in 0..=text.len() {
            assert_eq!(stream(&scrubber, [text[..split].to_vec(), text[split..].to_vec()]), text);
        }
        assert!(scrubber.clean(text).is_none());
    }
}

#[test]
fn an_event_goes_on_as_soon_as_it_is_whole() {
    let scrubber = Arc::new(Scrubber::new(SECRET).unwrap());
    let mut stream = ScrubStream::new(&[scrubber], true);
    let event = Bytes::from_static(b"data: {\"content\":\"ask-s\"}\n\n");
    assert_eq!(stream.push(event.clone()), event);
    // Only an end that begins a form waits, and no longer than it does.
    assert_eq!(&stream.push(Bytes::from_static(b"data: sk-A"))[..], b"data: ");
    assert_eq!(&stream.push(Bytes::from_static(b"c\n\n"))[..], b"sk-Ac\n\n");
}

#[test]
fn repeated_and_overlapping_secrets_are_all_taken_out() {
    let secret = b"abababababababab";
    let scrubber = Scrubber::new(secret).unwrap();
    assert_eq!(
        scrubber.clean(&[&secret[..], secret, b"ab."].concat()).unwrap(),
        [SCRUBBED, SCRUBBED, "ab."].concat().into_bytes()
    );
    // The beginning of one inside the beginning of another.
    assert_eq!(scrubber.clean(b"abaabababababababab").unwrap(), ["aba", SCRUBBED].concat().into_bytes());
}

#[test]
fn secrets_made_of_escapes_do_not_take_forever() {
    for byte in *b"\\%" {
        let secret = vec![byte; 64];
        let scrubber = Arc::new(Scrubber::new(&secret).unwrap());
        let out = stream(&scrubber, std::iter::repeat_n(vec![byte; 63], 20));
        assert!(!contains(&out, &secret));
    }
}

#[test]
fn beyond_ascii_json_is_found_too() {
    let secret = "schlüssel-für-Tür-🔑-42";
    let scrubber = Scrubber::new(secret.as_bytes()).unwrap();
    let escaped = "schl\\u00fcssel-f\\u00FCr-T\\u00fcr-\\ud83d\\udd11-42";
    assert_eq!(
        scrubber.clean(format!("<{escaped}>").as_bytes()).unwrap(),
        format!("<{SCRUBBED}>").into_bytes()
    );
    assert!(scrubber.clean(format!("<{secret}>").as_bytes()).is_some());
}

#[test]
fn two_secrets_in_one_stream() {
    let first = Arc::new(Scrubber::new(b"first-secret-000").unwrap());
    let second = Arc::new(Scrubber::new(b"second-secret-00").unwrap());
    let mut stream = ScrubStream::new(&[first, second], false);
    let mut out = Vec::new();
    for byte in b"a first-secret-000 b second-secret-00 c" {
        out.extend_from_slice(&stream.push(Bytes::copy_from_slice(&[*byte])));
    }
    out.extend_from_slice(&stream.finish());
    assert_eq!(String::from_utf8(out).unwrap(), format!("a {SCRUBBED} b {SCRUBBED} c"));
}

#[test]
fn percent_signs_without_end_do_not_take_forever() {
    let scrubber = Arc::new(Scrubber::new(b"a/secret/of/paths/").unwrap());
    let text = [b"%".to_vec(), b"25".repeat(200_000), b"2Fx".to_vec()].concat();
    assert_eq!(stream(&scrubber, [text.clone()]), text);
    let bytewise = text[..2000].iter().map(|byte| vec![*byte]);
    assert_eq!(stream(&scrubber, bytewise), text[..2000]);
}

#[test]
fn short_values_are_not_searched_for() {
    assert!(Scrubber::new(b"fifteen bytes!!").is_none());
    assert!(Scrubber::new(b"sixteen bytes!!!").is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_form_survives_any_chunking(
        secret in prop_oneof![
            proptest::collection::vec(0x20u8..0x7f, 16..48),
            proptest::collection::vec(proptest::sample::select(b"ab%\\\"/+ u0".to_vec()), 16..24),
        ],
        which in 0usize..32,
        noise in proptest::collection::vec(any::<u8>(), 0..40),
        cuts in proptest::collection::vec(0usize..200, 0..12),
    ) {
        let scrubber = Arc::new(Scrubber::new(&secret).unwrap());
        let forms = forms(&secret);
        let (name, form) = &forms[which % forms.len()];
        let text = [&noise[..], form, &noise[..], form].concat();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let out = stream(&scrubber, cuts.windows(2).map(|pair| text[pair[0]..pair[1]].to_vec()));
        for (name, form) in &forms {
            prop_assert!(!contains(&out, &core_of(&secret, name, form)), "{} survived: {}", name, String::from_utf8_lossy(&out));
        }
        prop_assert!(contains(&out, SCRUBBED.as_bytes()), "{} was not replaced", name);
    }

    #[test]
    fn each_character_may_be_written_in_its_own_way(
        secret in prop_oneof![
            proptest::collection::vec(0u8..=u8::MAX, 16..40),
            proptest::collection::vec(proptest::sample::select(b"ab%\\\"/+ u0\n".to_vec()), 16..24),
        ],
        hex in any::<bool>(),
        ways in proptest::collection::vec(0u8..6, 80),
        cut in 0usize..400,
        events in any::<bool>(),
    ) {
        let form = if hex { data_encoding::HEXUPPER.encode(&secret).into_bytes() } else { secret.clone() };
        let mut text = b"x".to_vec();
        for (byte, way) in form.iter().zip(&ways) {
            match way {
                0 => text.extend(format!("%{byte:02x}").bytes()),
                1 => text.extend(format!("%25{byte:02X}").bytes()),
                2 => text.extend(format!("\\u{byte:04x}").bytes()),
                _ => text.push(*byte),
            }
        }
        // Beyond ASCII a byte that JSON escapes is another character.
        prop_assume!(form.iter().zip(&ways).all(|(byte, way)| *way != 2 || byte.is_ascii()));
        text.push(b'x');
        let cut = cut.min(text.len());
        let mut stream = ScrubStream::new(&[Arc::new(Scrubber::new(&secret).unwrap())], events && !secret.contains(&b'\n'));
        let mut out = stream.push(Bytes::copy_from_slice(&text[..cut])).to_vec();
        out.extend_from_slice(&stream.push(Bytes::copy_from_slice(&text[cut..])));
        out.extend_from_slice(&stream.finish());
        prop_assert!(contains(&out, SCRUBBED.as_bytes()), "{} was not found", String::from_utf8_lossy(&text));
    }

    #[test]
    fn without_the_secret_nothing_changes(
        text in proptest::collection::vec(any::<u8>(), 0..300),
        cut in 0usize..300,
    ) {
        let scrubber = Arc::new(Scrubber::new(SECRET).unwrap());
        let cut = cut.min(text.len());
        prop_assert_eq!(stream(&scrubber, [text[..cut].to_vec(), text[cut..].to_vec()]), text);
    }
}

#[test]
fn nothing_that_ended_waits_in_a_stream_of_events() {
    for secret in [&b"\n\n\nsixteen bytes!!"[..], b"\r\n\r\nsixteen bytes", b"a\n\nb\n\nsixteen bytes"] {
        for event in [&b"data: a\n\n"[..], b"a\r\n\r\n", b"\n\n\n\n", b"data: a\r\n\r\n\r\n", b"a\r\r"] {
            for split in 0..event.len() {
                let mut stream = ScrubStream::new(&[Arc::new(Scrubber::new(secret).unwrap())], true);
                let mut out = stream.push(Bytes::copy_from_slice(&event[..split])).to_vec();
                out.extend_from_slice(&stream.push(Bytes::copy_from_slice(&event[split..])));
                assert_eq!(out, event, "{secret:?} at {split}");
            }
        }
    }
}

#[test]
fn what_goes_ahead_is_kept_in_mind() {
    let scrubber = Arc::new(Scrubber::new(SECRET).unwrap());
    let scrubbers = [Arc::clone(&scrubber), Arc::new(Scrubber::new(b"sk-another/0123456789").unwrap())];
    for most in 0..6 {
        for length in 1..SECRET.len() {
            let mut stream = ScrubStream::new(&scrubbers, false);
            let mut out = stream.push(Bytes::from_static(b"a ")).to_vec();
            out.extend_from_slice(&stream.push(Bytes::copy_from_slice(&SECRET[..length])));
            let ahead = stream.release(most);
            // All of it or nothing, and once.
            assert_eq!(&ahead[..], if length <= most { &SECRET[..length] } else { b"" });
            assert!(stream.release(most).is_empty());
            assert_eq!(stream.held(), length);
            let mut harmless = [&out[..], &ahead].concat();
            out.clone_from(&harmless);
            out.extend_from_slice(&stream.push(Bytes::copy_from_slice(&SECRET[length..])));
            out.extend_from_slice(&stream.push(Bytes::from_static(b" b")));
            out.extend_from_slice(&stream.finish());
            assert_eq!(out, [b"a ", &ahead[..], SCRUBBED.as_bytes(), b" b"].concat(), "{length} of {most}");

            // Where it was no secret, nothing of it is lost or sent twice.
            let mut stream = ScrubStream::new(&scrubbers, false);
            harmless.clear();
            for piece in [&b"a "[..], &SECRET[..length], b"s", b"sk-", &SECRET[..length]] {
                harmless.extend_from_slice(&stream.push(Bytes::copy_from_slice(piece)));
                harmless.extend_from_slice(&stream.release(most));
            }
            harmless.extend_from_slice(&stream.finish());
            assert_eq!(harmless, [b"a ", &SECRET[..length], b"ssk-", &SECRET[..length]].concat());
        }
    }
}

#[test]
fn a_text_is_let_through_if_no_stream_would_hold_or_change_any_of_it() {
    let sought = Sought::new(&[Arc::new(Scrubber::new(SECRET).unwrap())]);
    for text in [&b"nothing"[..], b"ask", b"sk-Ab/9 and more", b"", b"s", b"100%", b"x\\", SECRET, b"sk-A"] {
        let mut stream = sought.stream();
        let same = stream.push(Bytes::copy_from_slice(text)) == text && stream.held() == 0;
        assert_eq!(sought.lets_through(text), same, "{}", String::from_utf8_lossy(text));
    }
    assert!(Sought::new(&[]).lets_through(SECRET));
}
