use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::frames::Splitter;

/// What AWS publishes as the encoding of a message with one header and a payload (aws-c-event-stream's and
/// smithy-rs' test vectors hold the same bytes).
const PUBLISHED: &[u8] =
    b"\x00\x00\x00\x3d\x00\x00\x00\x20\x07\xfd\x83\x96\x0ccontent-type\x07\x00\x10application/json\
{'foo':'bar'}\x8d\x9c\x08\xb1";

fn read<'a>(limit: usize, chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Frame>, FrameError> {
    let mut splitter = Splitter::EventStream(Parser::new(limit));
    let mut all = Vec::new();
    for chunk in chunks {
        splitter.push(chunk);
        while let Some(frame) = splitter.next_frame()? {
            all.push(frame);
        }
    }
    Ok(all)
}

fn tree(frame: &Frame) -> Value {
    serde_json::from_str(frame.data.as_deref().unwrap()).unwrap()
}

#[test]
fn a_published_message_is_read_and_written() {
    let message = Message::parse(PUBLISHED).unwrap();
    let json = HeaderValue::String("application/json".to_owned());
    assert_eq!(message.headers, [("content-type".to_owned(), json)]);
    assert_eq!(message.payload, "{'foo':'bar'}");
    assert_eq!(message.to_bytes(), PUBLISHED);
    // An empty one, from the same vectors.
    let empty = b"\x00\x00\x00\x10\x00\x00\x00\x00\x05\xc2\x48\xeb\x7d\x98\xc8\xff";
    let message = Message { headers: Vec::new(), payload: Bytes::new() };
    assert_eq!((Message::parse(empty).unwrap(), message.to_bytes()), (message, Bytes::from_static(empty)));
}

#[test]
fn every_type_of_header_is_read_and_written() {
    let values = [
        HeaderValue::Bool(true),
        HeaderValue::Bool(false),
        HeaderValue::Byte(-7),
        HeaderValue::Short(-300),
        HeaderValue::Int(1 << 30),
        HeaderValue::Long(-(1 << 40)),
        HeaderValue::Bytes(Bytes::from_static(b"\x00\xff")),
        HeaderValue::String("é".to_owned()),
        HeaderValue::Timestamp(1_700_000_000_000),
        HeaderValue::Uuid([7; 16]),
    ];
    let headers = values.into_iter().enumerate().map(|(at, value)| (format!("h{at}"), value)).collect();
    let message = Message { headers, payload: Bytes::from_static(b"{}") };
    assert_eq!(Message::parse(&message.to_bytes()), Ok(message));
}

#[test]
fn an_events_data_is_its_payload_under_its_name() {
    let sent = event("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":"é"}}"#);
    let got = read(1 << 16, [&sent.raw[..]]).unwrap();
    assert_eq!(got, [sent]);
    assert_eq!(got[0].name, "contentBlockDelta");
    assert_eq!(
        tree(&got[0]),
        serde_json::json!({"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "é"}}})
    );
    let empty = read(1 << 16, [&event("messageStop", "").raw[..]]).unwrap();
    assert_eq!(empty[0].data.as_deref(), Some(r#"{"messageStop":{}}"#));
}

#[test]
fn what_is_put_in_place_of_an_exceptions_data_is_what_is_read_then() {
    let mut frame = exception("throttlingException", r#"{"message":"no"}"#);
    let data = r#"{"error":{"code":"throttlingException","message":"[redacted]"}}"#;
    frame.replace_data(data.to_owned());
    let again = read(1 << 16, [&frame.raw[..]]).unwrap();
    assert_eq!((again.len(), again[0].data.as_deref()), (1, Some(data)));
}

#[test]
fn exceptions_and_errors_are_told_by_their_names() {
    let sent = exception("modelStreamErrorException", r#"{"message":"no","originalStatusCode":424}"#);
    let wanted = serde_json::json!({"error":
        {"code": "modelStreamErrorException", "message": "no", "originalStatusCode": 424}});
    assert_eq!(tree(&sent), wanted);
    assert_eq!(read(1 << 16, [&sent.raw[..]]).unwrap(), [sent]);

    let loud = read(1 << 16, [&exception("throttlingException", r#"{"Message":"slower"}"#).raw[..]]).unwrap();
    assert_eq!(tree(&loud[0])["error"]["message"], "slower");
    let odd = read(1 << 16, [&exception("throttlingException", "not JSON").raw[..]]).unwrap();
    assert_eq!(tree(&odd[0])["error"]["message"], "not JSON");

    let text = |name: &str, value: &str| (name.to_owned(), HeaderValue::String(value.to_owned()));
    let headers = vec![
        text(":message-type", "error"),
        text(":error-code", "InternalServerError"),
        text(":error-message", "it broke"),
    ];
    let error = Message { headers, payload: Bytes::new() }.to_bytes();
    let got = read(1 << 16, [&error[..]]).unwrap();
    let wanted = serde_json::json!({"error": {"code": "InternalServerError", "message": "it broke"}});
    assert_eq!(tree(&got[0]), wanted);
}

#[test]
fn other_data_keeps_the_headers_and_gets_checksums_of_its_own() {
    let mut message = Message::json(":event-type", "event", "contentBlockDelta", r#"{"delta":{"text":"a"}}"#);
    message.headers.push(("x".to_owned(), HeaderValue::Int(5)));
    let mut frame = read(1 << 16, [&message.to_bytes()[..]]).unwrap().remove(0);
    frame.replace_data(r#"{"contentBlockDelta":{"delta":{"text":"other"}}}"#.to_owned());
    let again = read(1 << 16, [&frame.raw[..]]).unwrap().remove(0);
    assert_eq!(again, frame);
    let again = Message::parse(&again.raw).unwrap();
    assert_eq!(
        (again.payload.as_ref(), again.headers),
        (&br#"{"delta":{"text":"other"}}"#[..], message.headers)
    );
}

#[test]
fn a_flipped_bit_anywhere_is_seen() {
    let sent = event("messageStop", r#"{"stopReason":"end_turn"}"#).raw;
    for at in 0..sent.len() {
        for bit in 0..8 {
            let mut broken = sent.to_vec();
            broken[at] ^= 1 << bit;
            let error = read(1 << 16, [&broken[..]]).unwrap_err();
            let part = if at < PRELUDE { Checked::Prelude } else { Checked::Message };
            assert_eq!(error, FrameError::Checksum(part), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn giant_messages_are_refused_before_they_come() {
    let mut prelude = BytesMut::new();
    for word in [u32::MAX, 0] {
        prelude.extend_from_slice(&word.to_be_bytes());
    }
    let sum = crc32fast::hash(&prelude);
    prelude.extend_from_slice(&sum.to_be_bytes());
    assert_eq!(read(1 << 20, [&prelude[..]]), Err(FrameError::TooLarge { limit: 1 << 20 }));
    let sent = event("messageStop", r#"{"stopReason":"end_turn"}"#).raw;
    assert!(read(sent.len(), [&sent[..], &sent[..]]).is_ok());
    assert_eq!(read(sent.len() - 1, [&sent[..]]), Err(FrameError::TooLarge { limit: sent.len() - 1 }));
}

#[test]
fn lengths_and_headers_that_cannot_be_are_refused() {
    let with_sums = |total: u32, headers: u32, rest: &[u8]| {
        let mut out = [total.to_be_bytes(), headers.to_be_bytes()].concat();
        out.extend_from_slice(&crc32fast::hash(&out).to_be_bytes());
        out.extend_from_slice(rest);
        let sum = crc32fast::hash(&out);
        out.extend_from_slice(&sum.to_be_bytes());
        out
    };
    let named = b"\x0b:event-type\x07\x00\x01a";
    for (what, bytes) in [
        ("no room for the checksums", with_sums(15, 0, b"")),
        ("more headers than message", with_sums(16, 1, b"")),
        ("a header that is cut", with_sums(16 + 3, 3, b"\x05ab")),
        ("a value that is cut", with_sums(16 + 5, 5, b"\x01a\x07\x00\x09")),
        ("an unknown type", with_sums(16 + 3, 3, b"\x01a\x0a")),
        ("no name", with_sums(16, 0, b"")),
        (
            "a kind nobody knows",
            with_sums(16 + 35, 35, &[&named[..], b"\x0d:message-type\x07\x00\x02no"].concat()),
        ),
        ("a name that is a number", with_sums(16 + 14, 14, b"\x0b:event-type\x02\x01")),
        ("a name that is no text", with_sums(16 + 16, 16, b"\x0b:event-type\x07\x00\x01\xff")),
    ] {
        assert!(matches!(read(1 << 16, [&bytes[..]]), Err(FrameError::Malformed(_))), "{what}");
    }
    let no_text = with_sums(16 + 16 + 1, 16, &[&named[..], b"\xff"].concat());
    assert_eq!(read(1 << 16, [&no_text[..]]), Err(FrameError::NotUtf8));
}

#[test]
fn what_is_unfinished_is_seen() {
    let sent = event("messageStop", "{}").raw;
    for cut in 1..sent.len() {
        let mut parser = Parser::new(1 << 16);
        parser.push(&sent[..cut]);
        assert_eq!((parser.next_message(), parser.has_rest()), (Ok(None), true), "cut after {cut}");
    }
}

proptest! {
    /// Where chunks begin and end changes nothing, and whatever was written is read back.
    #[test]
    fn chunking_is_invisible(
        texts in prop::collection::vec("[a-zA-Zé世\"\\\\ ]{0,40}", 1..12),
        cuts in prop::collection::vec(1usize..40, 1..40),
    ) {
        let frames: Vec<Frame> = texts.iter().map(|text| event("e", &json!({ "t": text }).to_string())).collect();
        let bytes = frames.iter().flat_map(|frame| frame.raw.to_vec()).collect::<Vec<u8>>();
        let mut chunks = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts {
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        chunks.push(rest);
        prop_assert_eq!(read(1 << 16, chunks), Ok(frames));
    }

    /// No bytes make it panic.
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(1 << 10, [&bytes[..]]);
        let _ = Message::parse(&bytes);
    }
}
