use super::*;

const ALL: [Framing; 3] = [Framing::Sse, Framing::Ndjson, Framing::EventStream];

#[test]
fn what_is_written_is_read_back() {
    for framing in ALL {
        let frames = [framing.frame("a", r#"{"x":1}"#), framing.frame("b", r#"{"y":"é"}"#)];
        let mut splitter = framing.splitter(1 << 10);
        assert_eq!(splitter.framing(), framing);
        for frame in &frames {
            splitter.push(&frame.raw);
        }
        for frame in frames {
            assert_eq!(splitter.next_frame(), Ok(Some(frame)), "{framing:?}");
        }
        assert_eq!((splitter.next_frame(), splitter.has_rest()), (Ok(None), false));
    }
}

#[test]
fn replaced_data_is_what_is_read_from_the_bytes() {
    for framing in ALL {
        let mut frame = framing.frame("a", r#"{"x":1}"#);
        let data = frame.data.clone().unwrap().replace('1', "[2]");
        frame.replace_data(data.clone());
        let mut splitter = framing.splitter(1 << 10);
        splitter.push(&frame.raw);
        let again = splitter.next_frame().unwrap().unwrap();
        assert_eq!((again.data.as_deref(), again.name), (Some(data.as_str()), frame.name), "{framing:?}");
    }
}

#[test]
fn a_content_type_names_one_framing() {
    for (text, named) in [
        ("text/event-stream", Some(Framing::Sse)),
        (" Text/Event-Stream ; charset=utf-8", Some(Framing::Sse)),
        ("application/x-ndjson", Some(Framing::Ndjson)),
        ("application/x-ndjson; charset=utf-8", Some(Framing::Ndjson)),
        ("application/vnd.amazon.eventstream", Some(Framing::EventStream)),
        ("application/json", None),
        ("text/event-streams", None),
        ("", None),
    ] {
        assert_eq!(ALL.into_iter().find(|framing| framing.is_named_by(text)), named, "{text:?}");
    }
    for framing in ALL {
        assert!(framing.is_named_by(framing.content_type().to_str().unwrap()));
    }
}

#[test]
fn a_frame_of_the_gateways_own_is_told_apart() {
    let told =
        |framing: Framing| String::from_utf8_lossy(&framing.own_frame("orch.receipt", "{}").raw).into_owned();
    assert_eq!(told(Framing::Sse), "event: orch.receipt\ndata: {}\n\n");
    assert_eq!(told(Framing::Ndjson), "{\"orch.receipt\":{}}\n");
    assert!(told(Framing::EventStream).contains("orch.receipt"));
}
