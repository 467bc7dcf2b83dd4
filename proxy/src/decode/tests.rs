use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;

/// As node's zlib made it.
const BROTLI: &str =
    "G2gAYBSh0q/WpbpzlWrNL8IGnBgElngkGx+ZDmg4L56uH76NwsuFVNpY50PEudTWB5rmZX0YQT4bdEpSJoHp+gE=";
const BROTLI_TEXT: &str = "got sk-live/0123456789+abcdef\"ghij before, and again: sk-live/0123456789+abcdef\"ghij, got got \
                           got got got";

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zlib(text: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn deflate(text: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

/// A Brotli stream of one stored block of up to 64 KiB (RFC 7932, section 9.2).
fn stored(text: &[u8]) -> Vec<u8> {
    let head = (u32::try_from(text.len()).unwrap() - 1) << 4 | 1 << 20;
    [&head.to_le_bytes()[..3], text, &[3]].concat()
}

fn decoded(coding: Coding, chunks: &[&[u8]]) -> Result<Vec<u8>, String> {
    let mut decoder = Decoder::new(coding);
    let mut out = Vec::new();
    for chunk in chunks {
        decoder.feed(Bytes::copy_from_slice(chunk));
        while let Some(piece) = decoder.next().map_err(|e| e.to_string())? {
            assert!(!piece.is_empty() && piece.len() <= PIECE);
            out.extend_from_slice(&piece);
        }
    }
    decoder.finish().map_err(|e| e.to_string())?;
    Ok(out)
}

#[test]
fn every_coding_comes_out_whole_however_it_is_cut() {
    let text = BROTLI_TEXT.as_bytes();
    let brotli = data_encoding::BASE64.decode(BROTLI.as_bytes()).unwrap();
    let members = [gzip(&text[..10]), gzip(b""), gzip(&text[10..])].concat();
    for (name, coding, data) in [
        ("gzip", Coding::Gzip, gzip(text)),
        ("gzip in members", Coding::Gzip, members),
        ("zlib", Coding::Deflate, zlib(text)),
        ("bare deflate", Coding::Deflate, deflate(text)),
        ("brotli", Coding::Brotli, brotli),
        ("stored brotli", Coding::Brotli, stored(text)),
    ] {
        for split in 0..=data.len() {
            assert_eq!(
                decoded(coding, &[&data[..split], &data[split..]]).unwrap(),
                text,
                "{name} at {split}"
            );
        }
        let bytes: Vec<&[u8]> = data.chunks(1).collect();
        assert_eq!(decoded(coding, &bytes).unwrap(), text, "{name} byte by byte");
        for end in 1..data.len() {
            // Between two members everything that came is whole.
            let cut = decoded(coding, &[&data[..end]]);
            assert!(
                name == "gzip in members" || cut.unwrap_err().ends_with("is not whole"),
                "{name} up to {end}"
            );
        }
        assert_eq!(decoded(coding, &[]).unwrap(), b"");
    }
}

#[test]
fn what_breaks_its_coding_is_an_error() {
    let text = b"some text that is long enough to be changed";
    let mut wrong_sum = gzip(text);
    let at = wrong_sum.len() - 6;
    wrong_sum[at] ^= 1;
    for (coding, data) in [
        (Coding::Gzip, b"ok".to_vec()),
        (Coding::Gzip, wrong_sum),
        (Coding::Gzip, [&gzip(text)[..], b"no member"].concat()),
        (Coding::Deflate, b"\x78\x00 that is no header".to_vec()),
        (Coding::Deflate, [&zlib(text)[..], b"more"].concat()),
        (Coding::Brotli, vec![0xff; 40]),
        (Coding::Brotli, [&stored(text)[..], b"more"].concat()),
    ] {
        let error = decoded(coding, &[&data]).unwrap_err();
        assert!(error.ends_with("is not valid") || error.ends_with("goes on after its end"), "{error}");
    }
}

#[test]
fn bombs_are_given_up_soon() {
    let zeros = vec![0u8; 8 << 20];
    for (coding, data) in [(Coding::Gzip, gzip(&zeros)), (Coding::Deflate, deflate(&zeros))] {
        let mut decoder = Decoder::new(coding);
        decoder.feed(data.clone().into());
        let mut made = 0;
        let error = loop {
            match decoder.next() {
                Ok(Some(piece)) => made += piece.len() as u64,
                Ok(None) => panic!("{made} bytes of a bomb came out"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.ends_with("unpacks to more than 256 times its size"), "{error}");
        assert!(made <= FREE + RATIO * decoder.taken, "{made} bytes of {}", decoder.taken);
    }
    // A small one may be what it likes.
    let zeros = vec![0u8; FREE as usize];
    assert_eq!(decoded(Coding::Gzip, &[&gzip(&zeros)]).unwrap().len(), zeros.len());
}

#[test]
fn members_of_nothing_are_given_up_soon() {
    let empty = gzip(b"");
    let mut decoder = Decoder::new(Coding::Gzip);
    decoder.feed(empty.repeat(10_000).into());
    let error = decoder.next().unwrap_err().to_string();
    assert!(error.ends_with("is in too many small members"), "{error}");
    assert_eq!(decoder.taken, (MEMBERS + 1) * empty.len() as u64);
    // A log that is written by the line has as many as it likes.
    let line = vec![b'l'; 2 * MEMBER as usize];
    let log = gzip(&line).repeat(500);
    assert_eq!(decoded(Coding::Gzip, &[&log]).unwrap().len(), 500 * line.len());
}

#[test]
fn only_one_known_coding_is_undone() {
    let coding = |lines: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(line));
        }
        coding_of(&headers)
    };
    for (lines, expected) in [
        (&[][..], None),
        (&["identity"], None),
        (&["", " identity , "], None),
        (&["gzip"], Some(Coding::Gzip)),
        (&["X-GZip, identity"], Some(Coding::Gzip)),
        (&["identity", "deflate"], Some(Coding::Deflate)),
        (&[" BR "], Some(Coding::Brotli)),
    ] {
        assert_eq!(coding(lines).unwrap(), expected, "{lines:?}");
    }
    for lines in [&["zstd"][..], &["gzip, gzip"], &["gzip", "br"], &["gzip;q=1"], &["compress"], &["g zip"]] {
        assert!(coding(lines).unwrap_err().starts_with("it compressed "), "{lines:?}");
    }
}

#[test]
fn the_head_speaks_of_what_the_guest_gets() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-encoding", "gzip"),
        ("content-length", "12"),
        ("accept-ranges", "bytes"),
        ("content-md5", "x"),
        ("content-digest", "sha-256=:x:"),
        ("etag", "\"x\""),
        ("content-type", "text/plain"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    describe_decoded(&mut headers);
    assert_eq!(headers.len(), 2, "{headers:?}");
    assert_eq!(
        (&headers["etag"], &headers["content-type"]),
        (&"W/\"x\"".parse().unwrap(), &"text/plain".parse().unwrap())
    );
    describe_decoded(&mut headers);
    assert_eq!(headers["etag"], "W/\"x\"");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything_is_data_or_an_error(
        data in proptest::collection::vec(any::<u8>(), 0..400),
        cut in 0usize..400,
    ) {
        let cut = cut.min(data.len());
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli] {
            let whole = decoded(coding, &[&data]);
            let parts = decoded(coding, &[&data[..cut], &data[cut..]]);
            prop_assert_eq!(whole.is_ok(), parts.is_ok());
            if let (Ok(whole), Ok(parts)) = (whole, parts) {
                prop_assert_eq!(whole, parts);
            }
        }
    }
}
