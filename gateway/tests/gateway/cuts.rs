//! Every recorded stream, cut after every byte on its way through the gateway, and whole in any chunks, for clients of
//! every dialect.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use orch_gateway::Outcome;
use orch_gateway::dialect::wire;
use orch_gateway::ir::{Class, StreamEvent};
use orch_manifests::Dialect;
use orch_proxy::SCRUBBED;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::hostile::speech::{self, frames, said};
use crate::hostile::{KEY, Victim, told};

/// The streams that end well.
const STREAMS: [(Dialect, &str, &[u8]); 16] = [
    (Dialect::OpenAiChat, "text", include_bytes!("../../src/dialect/fixtures/openai_text.sse")),
    (Dialect::OpenAiChat, "tools", include_bytes!("../../src/dialect/fixtures/openai_tools.sse")),
    (
        Dialect::OpenAiResponses,
        "text",
        include_bytes!("../../src/dialect/fixtures/openai_responses_text.sse"),
    ),
    (
        Dialect::OpenAiResponses,
        "tools",
        include_bytes!("../../src/dialect/fixtures/openai_responses_tools.sse"),
    ),
    (
        Dialect::OpenAiResponses,
        "refusal",
        include_bytes!("../../src/dialect/fixtures/openai_responses_refusal.sse"),
    ),
    (
        Dialect::OpenAiResponses,
        "incomplete",
        include_bytes!("../../src/dialect/fixtures/openai_responses_incomplete.sse"),
    ),
    (Dialect::AnthropicMessages, "text", include_bytes!("../../src/dialect/fixtures/anthropic_text.sse")),
    (Dialect::AnthropicMessages, "tools", include_bytes!("../../src/dialect/fixtures/anthropic_tools.sse")),
    (Dialect::GeminiGenerateContent, "text", include_bytes!("../../src/dialect/fixtures/gemini_text.sse")),
    (Dialect::GeminiGenerateContent, "tools", include_bytes!("../../src/dialect/fixtures/gemini_tools.sse")),
    (Dialect::BedrockConverse, "text", include_bytes!("../../src/dialect/fixtures/bedrock_text.eventstream")),
    (
        Dialect::BedrockConverse,
        "tools",
        include_bytes!("../../src/dialect/fixtures/bedrock_tools.eventstream"),
    ),
    (Dialect::CohereChat, "text", include_bytes!("../../src/dialect/fixtures/cohere_text.sse")),
    (Dialect::CohereChat, "tools", include_bytes!("../../src/dialect/fixtures/cohere_tools.sse")),
    (Dialect::OllamaChat, "text", include_bytes!("../../src/dialect/fixtures/ollama_text.ndjson")),
    (Dialect::OllamaChat, "tools", include_bytes!("../../src/dialect/fixtures/ollama_tools.ndjson")),
];

/// A provider that answers everybody with the same pieces.
struct Provider {
    address: SocketAddr,
    pieces: Arc<Mutex<Vec<Bytes>>>,
    accepted: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Provider {
    async fn start(media_type: &'static str) -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pieces = Arc::new(Mutex::new(Vec::<Bytes>::new()));
        let accepted = Arc::new(AtomicUsize::new(0));
        let (shared, counts) = (Arc::clone(&pieces), Arc::clone(&accepted));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                counts.fetch_add(1, Ordering::SeqCst);
                let _ = socket.set_nodelay(true);
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                    let shared = Arc::clone(&shared);
                    async move {
                        let _ = request.into_body().collect().await;
                        let pieces = shared.lock().unwrap().clone();
                        let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
                        let body = StreamBody::new(stream::iter(frames));
                        Response::builder().header("content-type", media_type).body(body)
                    }
                });
                connections.spawn(async move {
                    let http1 = hyper::server::conn::http1::Builder::new();
                    let _ = http1.serve_connection(TokioIo::new(socket), service).await;
                });
            }
        });
        Provider { address, pieces, accepted, _tasks: tasks }
    }

    /// What everybody hears from now on, in pieces of 1 to 512 bytes.
    fn says(&self, bytes: &[u8], seed: &mut u64) {
        let mut rest = bytes;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            // xorshift64: the same pieces in every run.
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            let most = [8, 64, 512][usize::try_from(*seed >> 32).unwrap() % 3];
            let length = rest.len().min(1 + usize::try_from(*seed % most).unwrap());
            let (piece, after) = rest.split_at(length);
            pieces.push(Bytes::copy_from_slice(piece));
            rest = after;
        }
        *self.pieces.lock().unwrap() = pieces;
    }
}

/// What a stream says, so that two can be compared: its words, its calls by their names (some dialects have a call when it
/// is whole, so that another may come first), and its ends.
fn all_said(spoken: Dialect, bytes: &[u8]) -> (String, Vec<String>, Vec<StreamEvent>) {
    let frames = frames(wire(spoken).framing(), bytes);
    let mut parser = wire(spoken).stream_parser();
    let (mut words, mut calls) = (String::new(), Vec::new());
    for event in frames.iter().flat_map(|frame| parser.read(frame).unwrap()) {
        match event {
            StreamEvent::Text(text) | StreamEvent::Refusal(text) => words.push_str(&text),
            StreamEvent::ToolStart { name, .. } => calls.push(name),
            _ => {}
        }
    }
    calls.sort();
    (words, calls, said(spoken, &frames).1)
}

/// From how many bytes on a stream is whole: behind the frame in which the dialect says so.
fn whole_from(spoken: Dialect, bytes: &[u8]) -> usize {
    let frames = frames(wire(spoken).framing(), bytes);
    let ends = |count: usize| said(spoken, &frames[..count]).1 == [StreamEvent::End];
    let count = (0..=frames.len()).find(|count| ends(*count)).expect("it ends well");
    frames[..count].iter().map(|frame| frame.raw.len()).sum()
}

/// One recorded stream. Each cut is heard by a client of another dialect, in turn, so that each hears cuts everywhere.
async fn cut_everywhere(spoken: Dialect, name: &str, bytes: &[u8]) {
    let provider = Provider::start(wire(spoken).framing().media_type()).await;
    let mut victim = Victim::in_the_clear(spoken, provider.address);
    let whole_from = whole_from(spoken, bytes);
    let (text, calls, _) = all_said(spoken, bytes);
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    let (mut failed, mut broken) = (0, 0);
    for cut in 0..=bytes.len() {
        if cut % 100 == 99 {
            // Every call leaves a receipt, and all are looked at for the last.
            victim = Victim::in_the_clear(spoken, provider.address);
        }
        // Of whole ones every dialect hears each.
        let hears =
            |client: &Dialect| cut == bytes.len() || *client == Dialect::ALL[cut % Dialect::ALL.len()];
        for client in clients(spoken).iter().filter(|client| hears(client)) {
            let at = format!("{spoken} {name} cut after {cut} of {} to {client}", bytes.len());
            provider.says(&bytes[..cut], &mut seed);
            let (status, body, receipt) = victim.hears(*client, speech::model(spoken), true).await;
            let classes: Vec<_> = receipt.attempts.iter().filter_map(|attempt| attempt.class).collect();
            if !status.is_success() {
                failed += 1;
                assert_eq!((status.as_u16(), receipt.outcome), truncated(*client), "{at}");
                assert_eq!(classes, [Class::Truncated; 2], "{at}");
                continue;
            }
            let (heard, called, ends) = all_said(*client, &body);
            if cut >= whole_from {
                assert_eq!((receipt.outcome, ends), (Outcome::Served, vec![StreamEvent::End]), "{at}");
                assert_eq!((&heard, &called), (&text, &calls), "{at}");
                continue;
            }
            broken += 1;
            assert_eq!(receipt.outcome, Outcome::Broken, "{at}");
            assert!(text.starts_with(&heard), "{at}: {heard:?}");
            assert!(called.iter().all(|name| calls.contains(name)), "{at}: {called:?}");
            let [StreamEvent::Error(error)] = ends.as_slice() else { panic!("{at}: {ends:?}") };
            assert_eq!(told(&body).unwrap_or(error.class), Class::Truncated, "{at}");
        }
    }
    assert!(failed > 0 && broken > 0, "{spoken} {name}: cut before and after the first content");
}

/// Whose clients hear a provider that speaks this dialect. OpenAI itself has another one for clients of responses.
fn clients(spoken: Dialect) -> Vec<Dialect> {
    let own = |client: &Dialect| spoken != Dialect::OpenAiChat || *client != Dialect::OpenAiResponses;
    Dialect::ALL.into_iter().filter(own).collect()
}

/// What a client of a dialect is told when nothing came of it.
fn truncated(client: Dialect) -> (u16, Outcome) {
    (if client == Dialect::BedrockConverse { 424 } else { 502 }, Outcome::AllFailed)
}

/// The streams of a dialect with these names; all of them without any.
async fn cut_all(dialect: Dialect, names: &[&str]) {
    let of = STREAMS.iter().filter(|(spoken, ..)| *spoken == dialect);
    let mut count = 0;
    for (spoken, name, bytes) in of.filter(|(_, name, _)| names.is_empty() || names.contains(name)) {
        cut_everywhere(*spoken, name, bytes).await;
        count += 1;
    }
    assert!(count >= names.len().max(1), "{dialect} {names:?}");
}

#[tokio::test]
async fn rule_4_no_cut_of_openai_s_streams_is_an_end() {
    cut_all(Dialect::OpenAiChat, &[]).await;
}

#[tokio::test]
async fn rule_4_no_cut_of_responses_with_text_is_an_end() {
    cut_all(Dialect::OpenAiResponses, &["text"]).await;
}

#[tokio::test]
async fn rule_4_no_cut_of_responses_with_calls_is_an_end() {
    cut_all(Dialect::OpenAiResponses, &["tools"]).await;
}

#[tokio::test]
async fn rule_4_no_cut_of_responses_that_end_early_is_an_end() {
    cut_all(Dialect::OpenAiResponses, &["refusal", "incomplete"]).await;
}

#[tokio::test]
async fn rule_4_no_cut_of_anthropic_s_and_gemini_s_streams_is_an_end() {
    cut_all(Dialect::AnthropicMessages, &[]).await;
    cut_all(Dialect::GeminiGenerateContent, &[]).await;
}

#[tokio::test]
async fn rule_4_no_cut_of_bedrock_s_streams_is_an_end() {
    cut_all(Dialect::BedrockConverse, &[]).await;
}

#[tokio::test]
async fn rule_4_no_cut_of_cohere_s_and_ollama_s_streams_is_an_end() {
    cut_all(Dialect::CohereChat, &[]).await;
    cut_all(Dialect::OllamaChat, &[]).await;
}

/// What comes behind the last word of a stream is the end of its message, which the connection has to have behind it before it
/// serves again: a handshake less for the next call.
#[tokio::test]
async fn a_stream_leaves_its_connection_to_the_next() {
    let mut seed = 11;
    for spoken in Dialect::ALL {
        let provider = Provider::start(wire(spoken).framing().media_type()).await;
        let victim = Victim::in_the_clear(spoken, provider.address);
        let streams = STREAMS.iter().filter(|(of, ..)| *of == spoken);
        for (client, (_, name, bytes)) in
            streams.flat_map(|stream| clients(spoken).into_iter().map(move |client| (client, stream)))
        {
            provider.says(bytes, &mut seed);
            let (_, _, receipt) = victim.hears(client, speech::model(spoken), true).await;
            assert_eq!(receipt.outcome, Outcome::Served, "{spoken} {name} to {client}");
            while victim.session.grant.running() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert_eq!(provider.accepted.load(Ordering::SeqCst), 1, "{spoken}");
    }
}

/// Where the catalog says that a provider may leave out the terminator, the client gets it all the same; where it does not,
/// what has no terminator was cut.
#[tokio::test]
async fn a_missing_terminator_is_an_end_only_where_the_provider_is_known_for_it() {
    let (_, _, bytes) = STREAMS[0];
    let done = b"data: [DONE]\n\n";
    let without = bytes.strip_suffix(done).unwrap();
    let provider = Provider::start("text/event-stream").await;
    let lenient = Victim::of_provider("perplexity", None, "perplexity/sonar", provider.address);
    let strict = Victim::in_the_clear(Dialect::OpenAiChat, provider.address);
    let (text, ..) = all_said(Dialect::OpenAiChat, bytes);
    let mut seed = 3;
    for client in Dialect::ALL {
        for sent in [bytes, without] {
            provider.says(sent, &mut seed);
            let (status, body, receipt) = lenient.hears(client, "perplexity/sonar", true).await;
            assert_eq!((status.as_u16(), receipt.outcome), (200, Outcome::Served), "{client}");
            let (heard, _, ends) = all_said(client, &body);
            assert_eq!((heard.as_str(), ends), (text.as_str(), vec![StreamEvent::End]), "{client}");
            if client == Dialect::OpenAiChat {
                assert!(
                    body.ends_with(done) && body.windows(done.len()).filter(|part| part == done).count() == 1
                );
            }
        }
        // What was cut before it said why it ends is no end there either.
        let cut = bytes.windows(14).position(|window| window == b"finish_reason\"").unwrap();
        provider.says(&bytes[..cut], &mut seed);
        let (_, _, receipt) = lenient.hears(client, "perplexity/sonar", true).await;
        assert_ne!(receipt.outcome, Outcome::Served, "{client}");
        if !clients(Dialect::OpenAiChat).contains(&client) {
            continue;
        }
        provider.says(without, &mut seed);
        let (_, body, receipt) = strict.hears(client, "gpt-4o-mini", true).await;
        assert_eq!(receipt.outcome, Outcome::Broken, "{client}");
        let [StreamEvent::Error(error)] = &all_said(client, &body).2[..] else { panic!("{client}") };
        assert_eq!(told(&body).unwrap_or(error.class), Class::Truncated, "{client}");
    }
}

/// A provider's host that says the key that it got, in two pieces: no client of any dialect hears it, and what else is said
/// arrives.
#[tokio::test]
async fn a_key_in_two_deltas_of_any_dialect_reaches_no_client() {
    // Ollama takes no key, so that its host has none to say.
    for spoken in Dialect::ALL.into_iter().filter(|spoken| *spoken != Dialect::OllamaChat) {
        let provider = Provider::start(wire(spoken).framing().media_type()).await;
        let victim = Victim::in_the_clear(spoken, provider.address);
        let mut seed = 7;
        let cuts = (1..KEY.len()).step_by(5);
        for (at, client) in cuts.flat_map(|at| clients(spoken).into_iter().map(move |client| (at, client))) {
            let (one, two) = KEY.split_at(at);
            let mut writer = wire(spoken).stream_writer(true);
            let mut bytes = Vec::new();
            let say = |text: &str| StreamEvent::Text(text.to_owned());
            for event in [
                StreamEvent::Start { id: "x".into(), model: "m".into(), created: 1 },
                say("see "),
                say(one),
                say(two),
                say(", ok"),
                StreamEvent::Stop { reason: orch_gateway::ir::StopReason::Stop, sequence: None },
                StreamEvent::End,
            ] {
                writer.write(&event, &mut bytes);
            }
            provider.says(&bytes, &mut seed);
            let (_, body, receipt) = victim.hears(client, speech::model(spoken), true).await;
            let case = format!("{spoken} to {client}, cut at {at}");
            assert!(!body.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "{case}");
            let (heard, ..) = all_said(client, &body);
            assert_eq!((receipt.outcome, heard), (Outcome::Served, format!("see {SCRUBBED}, ok")), "{case}");
        }
    }
}
