use std::time::Duration;

use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use orch_gateway::ir::Class;
use orch_gateway::{Attempt, Charged, CredentialRef, Outcome, Receipt};
use orch_manifests::Whose;
use orch_proxy::{Body, full};
use time::macros::datetime;

use super::*;
use crate::redact::Known;
use crate::store::{Bodies, Store};

const KEY: &str = "a value of which nothing looks like a key";

fn receipt(source: &str, whose: Whose) -> Receipt {
    let credential =
        CredentialRef { id: "K".to_owned(), source: source.to_owned(), whose, mask: Some("cdef".to_owned()) };
    Receipt { credential: Some(credential), model_asked: "m".to_owned(), ..Receipt::default() }
}

#[test]
fn a_row_says_whose_key_it_was() {
    let who = Who::of(&Caller::owner());
    let row = |receipt: &Receipt| who.call(None, receipt, datetime!(2026-01-31 12:00 UTC));
    for (source, whose, billing) in [
        ("flag", Whose::Own, Some("own")),
        ("vault", Whose::Team, Some("team")),
        ("vault", Whose::Own, Some("own")),
        ("vault", Whose::Platform, Some("platform")),
    ] {
        let row = row(&receipt(source, whose));
        assert_eq!((row.billing.as_deref(), row.mask.as_deref()), (billing, Some("cdef")), "{source}");
        assert_eq!((row.token.as_deref(), row.member.as_deref()), (Some("owner"), Some("owner")));
    }
    let simulated = Receipt { simulated: true, ..receipt("simulated", Whose::Platform) };
    assert_eq!(row(&simulated).billing, None, "nobody is billed");
    let refused = Receipt { outcome: Outcome::Rejected, class: Some(Class::NoModel), ..Receipt::default() };
    let row = row(&refused);
    assert_eq!(
        (&*row.provider, row.outcome.as_deref(), row.class.as_deref()),
        ("none", Some("rejected"), Some("no_model"))
    );
    assert_eq!((row.credential, row.billing, row.model_asked), (None, None, None));
}

#[test]
fn what_a_failed_attempt_cost_is_its_own_key_s() {
    let who = Who::of(&Caller::owner());
    let attempt = |provider: &str, key: &str, whose, charged: Option<u64>| Attempt {
        provider: provider.to_owned(),
        model: "m".to_owned(),
        credential: Some(key.to_owned()),
        whose: Some(whose),
        class: charged.map(|_| Class::Timeout),
        status: None,
        request_id: None,
        latency_ms: 1,
        charged: charged.map(|cost| Charged {
            input_tokens: 7,
            output_tokens: 9,
            cost_micro_usd: Some(cost),
        }),
        message: String::new(),
    };
    let own = attempt("openai", "own/owner/K", Whose::Own, Some(500));
    let same = attempt("openai", "K", Whose::Platform, Some(30));
    let served = attempt("openai", "K", Whose::Platform, None);
    let refused = attempt("openai", "own/owner/K2", Whose::Own, None);
    let all = Receipt {
        provider_served: Some("openai".to_owned()),
        attempts: vec![own, refused, same, served],
        cost_micro_usd: Some(540),
        outcome: Outcome::Served,
        ..receipt("vault", Whose::Platform)
    };
    let row = |receipt: &Receipt| who.call(None, receipt, datetime!(2026-01-31 12:00 UTC));
    let moved = row(&all).moved;
    assert_eq!(moved.len(), 1, "what the same key was charged for is where it belongs: {moved:?}");
    let moved = &moved[0];
    assert_eq!(
        (moved.credential.as_deref(), moved.billing.as_deref(), moved.cost_micro_usd, moved.output_tokens),
        (Some("own/owner/K"), Some("own"), Some(500), 9)
    );
    let simulated = row(&Receipt { simulated: true, ..all });
    assert_eq!(simulated.moved[0].billing, None, "nobody is billed");
    assert!(row(&Receipt::default()).moved.is_empty());
}

/// A body in pieces.
fn pieces(text: &str, length: usize) -> Body {
    let pieces: Vec<_> = text
        .as_bytes()
        .chunks(length)
        .map(|piece| Ok(Frame::data(bytes::Bytes::copy_from_slice(piece))))
        .collect();
    StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync()
}

struct Stage {
    store: Store,
    recorder: std::sync::Arc<Recorder>,
    _folder: tempfile::TempDir,
}

fn stage(size: usize) -> Stage {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a store");
    let kept = BodiesKept { keep: Duration::from_secs(60), size };
    let keeper = BodyKeeper { store: store.clone(), workspace: "default".into(), kept };
    let recorder = keeper.without(std::sync::Arc::new(Known::finding(&[KEY])));
    Stage { store, recorder, _folder: folder }
}

impl Stage {
    /// Asks and answers, reads so many frames of the answer, and says what is kept.
    async fn keeps(&self, asked: Body, answered: Body, frames: usize) -> Bodies {
        let id = orch_gateway::RequestId::random();
        let mut request = http::Request::post("/v1/chat/completions").body(asked).expect("a request");
        request.extensions_mut().insert(id.clone());
        let response = recorded(Some(&self.recorder), request, async |request| {
            // Whoever answers reads the request, or not.
            let _ = request.into_body().collect().await;
            http::Response::new(answered)
        });
        let mut body = response.await.into_body();
        for _ in 0..frames {
            if body.frame().await.is_none() {
                break;
            }
        }
        drop(body);
        self.store.flush().await.expect("stored");
        let now = OffsetDateTime::now_utc();
        self.store.bodies("default", id.as_str(), now).await.expect("read").expect("kept")
    }
}

fn text(kept: &crate::store::Kept) -> &str {
    std::str::from_utf8(&kept.bytes).expect("text")
}

#[tokio::test]
async fn values_are_taken_out_of_bodies_in_whatever_pieces_they_come() {
    let stage = stage(1 << 16);
    let said = format!("before {KEY} after");
    for length in [1, 3, 7, 1000] {
        let kept = stage.keeps(pieces(&said, length), pieces(&said, length), usize::MAX).await;
        for kept in [&kept.asked, &kept.answered] {
            let text = text(kept);
            assert!(
                text.starts_with("before ") && text.ends_with(" after") && !text.contains("nothing looks"),
                "{text}"
            );
            assert_eq!((kept.of, kept.cut), (said.len() as u64, false));
        }
    }
}

/// At whichever byte a body is cut, no piece of a value is left at its end.
#[tokio::test]
async fn a_cut_leaves_no_piece_of_a_value() {
    let said = format!("before {KEY} after {} end", "sk-proj-0123456789abcdefABCDEF0123456789");
    for size in 1..said.len() {
        let kept = stage(size).keeps(full(said.clone()), full("x"), usize::MAX).await;
        let text = text(&kept.asked);
        assert!(kept.asked.cut && text.len() <= size, "{size}: {text}");
        assert!(
            !text.contains("a val") && !text.contains("sk-proj") && !text.contains("0123"),
            "{size}: {text}"
        );
    }
}

#[tokio::test]
async fn who_hangs_up_leaves_what_passed_by_then() {
    let stage = stage(1 << 16);
    let kept = stage.keeps(full("{}"), pieces("one two three ", 4), 2).await;
    assert_eq!((text(&kept.answered), kept.answered.of), ("one two ", 8));
    let kept = stage.keeps(full("{}"), pieces("one", 4), 0).await;
    assert_eq!((text(&kept.asked), text(&kept.answered), kept.answered.of), ("{}", "", 0));
}

#[tokio::test]
async fn no_run_fills_the_record_alone() {
    let stage = stage(1 << 10);
    let mut ids = Vec::new();
    for _ in 0..=bodies::OF_A_RUN {
        let id = orch_gateway::RequestId::random();
        let mut request = http::Request::post("/v1/chat/completions").body(full("{}")).expect("a request");
        request.extensions_mut().insert(id.clone());
        let answered = recorded(Some(&stage.recorder), request, async |_| http::Response::new(full("no")));
        drop(answered.await);
        ids.push(id);
    }
    stage.store.flush().await.expect("stored");
    let kept = async |id: &orch_gateway::RequestId| {
        let now = OffsetDateTime::now_utc();
        stage.store.bodies("default", id.as_str(), now).await.expect("read").is_some()
    };
    let [first, .., last_kept, beyond] = &ids[..] else { panic!("{} requests", ids.len()) };
    assert!(kept(first).await && kept(last_kept).await && !kept(beyond).await);
}

#[tokio::test]
async fn what_is_no_text_and_what_nobody_asked_to_keep() {
    let stage = stage(1 << 16);
    let kept = stage.keeps(full(vec![0xff, 0x00, b'a']), full(""), usize::MAX).await;
    assert!(text(&kept.asked).contains('a') && kept.asked.of == 3);
    let request = http::Request::get("/v1/models").body(full("x")).expect("a request");
    let response = recorded(Some(&stage.recorder), request, async |request: http::Request<Body>| {
        assert!(
            request.extensions().get::<orch_gateway::RequestId>().is_none(),
            "what is no call is not touched"
        );
        http::Response::new(request.into_body())
    });
    assert_eq!(response.await.into_body().collect().await.expect("read").to_bytes(), "x");
}
