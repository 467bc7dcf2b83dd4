//! A secret that is spread over deltas, seen as a client sees it: by what its texts are in the end.

mod bedrock;
mod between;
mod spread;
mod ways;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use orch_manifests::Dialect;
use orch_proxy::{SCRUBBED, Scrubber, Sought, full};

use super::Deltas;
use crate::attempt::{Events, FRAME_CAP, Item, Pace};
use crate::dialect::wire;
use crate::ir::StreamEvent;

const SECRET: &str = "sk-Ab/9+zQ7_endx";

thread_local! {
    /// For the clock of whoever waits.
    static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");

    /// The one that was used last.
    static SCRUBBER: RefCell<Option<(Vec<u8>, Arc<Scrubber>)>> = const { RefCell::new(None) };
}

fn scrubber(secret: &[u8]) -> Arc<Scrubber> {
    SCRUBBER.with_borrow_mut(|last| match last {
        Some((of, scrubber)) if of == secret => Arc::clone(scrubber),
        _ => {
            let scrubber = Arc::new(Scrubber::new(secret).expect("long enough"));
            *last = Some((secret.to_vec(), Arc::clone(&scrubber)));
            scrubber
        }
    })
}

fn deltas(secret: &[u8], spoken: Dialect) -> Deltas {
    Deltas::new(Sought::new(&[scrubber(secret)]), spoken)
}

/// What the events of this stream become.
fn items(secret: &[u8], spoken: Dialect, stream: &(impl AsRef<[u8]> + ?Sized)) -> Vec<Item> {
    RUNTIME.with(|runtime| {
        let _inside = runtime.enter();
        let body = full(stream.as_ref().to_vec());
        let pace = Pace { idle: Duration::from_secs(60), silent: Duration::from_secs(60) };
        let (splitter, parser) = (wire(spoken).framing().splitter(FRAME_CAP), wire(spoken).stream_parser());
        let mut events = Events::new(body, splitter, parser, Some(deltas(secret, spoken)), pace);
        let mut next =
            || events.next(None).now_or_never().expect("a body that is all there is not waited for");
        std::iter::from_fn(|| next().unwrap_or_else(|failure| panic!("{failure:?}"))).collect()
    })
}

fn raw(items: &[Item]) -> String {
    items.iter().map(|item| std::str::from_utf8(&item.frame.raw).unwrap()).collect()
}

/// The texts of a stream that came out, as another client's dialect has them.
fn translated(items: &[Item], client: Dialect) -> BTreeMap<String, String> {
    let mut writer = wire(client).stream_writer(true);
    let mut out = Vec::new();
    items.iter().flat_map(|item| &item.meaning).for_each(|event| writer.write(event, &mut out));
    ways::texts(client, std::str::from_utf8(&out).unwrap())
}

fn complete(items: &[Item]) -> bool {
    items.iter().any(|item| item.meaning.contains(&StreamEvent::End))
}

/// The text without the secret.
fn cleaned(secret: &[u8], text: &str) -> String {
    let clean = scrubber(secret).clean(text.as_bytes());
    clean.map_or(text.to_owned(), |clean| String::from_utf8(clean).unwrap())
}

/// Every spelling that is looked for, by encoders other than the scrubber's.
fn forms(secret: &str) -> Vec<String> {
    let bytes = secret.as_bytes();
    let escaped = |write: fn(u8) -> String| bytes.iter().map(|byte| write(*byte)).collect::<String>();
    let mut forms = vec![
        secret.to_owned(),
        data_encoding::HEXLOWER.encode(bytes),
        data_encoding::HEXUPPER.encode(bytes),
        escaped(|byte| format!("%{byte:02X}")),
        escaped(|byte| format!("\\u{byte:04x}")),
        secret.replace('/', "%2F").replace('+', "%2B"),
        secret.replace('/', "\\/"),
    ];
    for before in 0..3 {
        let padded = [&b"xyz"[..before], bytes, b"tail"].concat();
        forms.push(data_encoding::BASE64.encode(&padded));
        forms.push(data_encoding::BASE64URL_NOPAD.encode(&padded));
    }
    forms
}

/// The text in two pieces, and in three, cut at every character.
fn cuts(text: &str, three: bool) -> Vec<Vec<&str>> {
    let at: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let mut all: Vec<Vec<&str>> = at.iter().map(|at| vec![&text[..*at], &text[*at..]]).collect();
    if three {
        for (i, first) in at.iter().enumerate() {
            for second in &at[i..] {
                all.push(vec![&text[..*first], &text[*first..*second], &text[*second..]]);
            }
        }
    }
    all
}
