use proptest::prelude::*;

use super::{Frame, FrameError, Parser};

/// The name and data of each event.
type Read = Vec<(String, Option<String>)>;

fn read<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let mut parser = Parser::new(1 << 16);
    let mut all = Vec::new();
    for chunk in chunks {
        parser.push(chunk);
        while let Some(Frame { name, data, .. }) = parser.next_event().unwrap() {
            all.push((name, data));
        }
    }
    all
}

fn data(text: &str) -> (String, Option<String>) {
    (String::new(), Some(text.to_owned()))
}

#[test]
fn the_corners_of_the_format() {
    let named = |name: &str, text: &str| (name.to_owned(), Some(text.to_owned()));
    let rows: &[(&str, Read)] = &[
        ("data: a\n\n", vec![data("a")]),
        ("data:a\n\n", vec![data("a")]),
        ("data:  a\n\n", vec![data(" a")]),
        ("data: a\r\n\r\ndata: b\r\n\r\n", vec![data("a"), data("b")]),
        ("data: a\r\rdata: b\r\r", vec![data("a"), data("b")]),
        ("data: a\ndata: b\n\n", vec![data("a\nb")]),
        ("data\n\n", vec![data("")]),
        ("data:\ndata:\n\n", vec![data("\n")]),
        ("event: x\ndata: a\nid: 7\nretry: 3\n\n", vec![named("x", "a")]),
        (": hello\n\n", vec![(String::new(), None)]),
        (": hello\ndata: a\n\n", vec![data("a")]),
        ("\n\n\ndata: a\n\n\n\n", vec![data("a")]),
        ("\u{feff}data: a\n\n", vec![data("a")]),
        ("data: a\n", vec![]),
        ("data: {\"a\":\"b: c\"}\n\n", vec![data("{\"a\":\"b: c\"}")]),
    ];
    for (text, wanted) in rows {
        assert_eq!(&read([text.as_bytes()]), wanted, "{text:?}");
        assert_eq!(&read(text.as_bytes().chunks(1)), wanted, "{text:?}, byte by byte");
    }
}

#[test]
fn raw_bytes_are_whole_blocks() {
    let text = ": c\n\nevent: x\ndata: a\n\ndata: b\n\n";
    let mut parser = Parser::new(100);
    parser.push(text.as_bytes());
    let mut joined = Vec::new();
    while let Some(event) = parser.next_event().unwrap() {
        assert!(event.raw.ends_with(b"\n\n"));
        joined.extend_from_slice(&event.raw);
    }
    assert_eq!(joined, text.as_bytes());
    assert!(!parser.has_rest());
    parser.push(b"data: c");
    assert_eq!(parser.next_event(), Ok(None));
    assert!(parser.has_rest());
}

#[test]
fn an_event_does_not_wait_for_the_one_after_it() {
    let mut parser = Parser::new(100);
    parser.push(b"data: a\r\n\r");
    assert!(parser.next_event().unwrap().is_some());
    parser.push(b"\ndata: b\r\n\r\n");
    assert_eq!(parser.next_event().unwrap().unwrap().data.as_deref(), Some("b"));
}

#[test]
fn large_events_are_refused_finished_or_not() {
    let limit = Err(FrameError::TooLarge { limit: 16 });
    let mut parser = Parser::new(16);
    parser.push(b"data: 0123456789abcdef");
    assert_eq!(parser.next_event(), limit);
    let mut parser = Parser::new(16);
    parser.push(b"data: 0123456789abcdef\n\n");
    assert_eq!(parser.next_event(), limit);
    let mut parser = Parser::new(16);
    parser.push(b"data: 01234567\n\ndata: 01234567\n\n");
    assert!(parser.next_event().unwrap().is_some() && parser.next_event().unwrap().is_some());
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let mut parser = Parser::new(100);
    parser.push(b"data: \xff\n\n");
    assert_eq!(parser.next_event(), Err(FrameError::NotUtf8));
}

proptest! {
    /// Where chunks begin and end changes nothing.
    #[test]
    fn chunking_is_invisible(
        lines in prop::collection::vec("(data: ?|data|event: |: |)[a-zé世 :]{0,6}(\n|\r|\r\n)", 0..24),
        cuts in prop::collection::vec(1usize..9, 1..40),
    ) {
        let text = lines.concat();
        let mut chunks = Vec::new();
        let mut rest = text.as_bytes();
        for cut in cuts {
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        chunks.push(rest);
        prop_assert_eq!(read(chunks), read([text.as_bytes()]));
    }
}
