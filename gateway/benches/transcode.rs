//! A stream of 2,000 chunks from one dialect to another, in memory: split into frames, read, and written anew.
//!
//! Every pair of dialects, each with its own framing. Beside it, in turns, what nothing can go below that understands the
//! stream: `serde_json` reading the data of the same frames. Medians over the rounds are compared; a pair above the target
//! fails. Memory comes from the allocator that the program has.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking and reports by printing"
)]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use orch_gateway::dialect::wire;
use orch_gateway::ir::{StopReason, StreamEvent, Usage};
use orch_manifests::Dialect;
use serde_json::Value;

/// The program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 11;
const CHUNKS: usize = 2_000;
/// For a whole stream.
const TARGET: Duration = Duration::from_millis(3);
/// As the gateway has it.
const LARGEST_FRAME: usize = 1 << 20;
/// As a connection delivers them.
const READ: usize = 16 << 10;

fn main() -> ExitCode {
    println!("{CHUNKS} chunks, {ROUNDS} interleaved rounds, medians; target {TARGET:?}");
    println!("{:>26} {:<24} {:>9} {:>9} {:>7}", "from", "to", "transcode", "read JSON", "ratio");
    let mut reached = true;
    for from in Dialect::ALL {
        let stream = written(from);
        let datas = datas(from, &stream);
        for to in Dialect::ALL {
            if from == to {
                continue;
            }
            let (mut ours, mut floor) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                ours.push(timed(|| transcode(from, to, &stream)));
                floor.push(timed(|| {
                    datas.iter().filter_map(|data| serde_json::from_str::<Value>(data).ok()).count()
                }));
            }
            let (ours, floor) = (median(&mut ours), median(&mut floor));
            println!(
                "{:>26} {:<24} {:>9.2?} {:>9.2?} {:>7.2}{}",
                from.as_str(),
                to.as_str(),
                ours,
                floor,
                ours.as_secs_f64() / floor.as_secs_f64(),
                if ours > TARGET { "  MISSED" } else { "" }
            );
            reached &= ours <= TARGET;
        }
    }
    if reached { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a model says, a token at a time.
fn said() -> impl Iterator<Item = StreamEvent> {
    let begin =
        StreamEvent::Start { id: "id-1".to_owned(), model: "model-1".to_owned(), created: 1_700_000_000 };
    let words = (0..CHUNKS).map(|at| StreamEvent::Text(format!(" word{at}")));
    let usage = Usage { input: 12, output: CHUNKS as u64, ..Usage::default() };
    let end = [
        StreamEvent::Stop { reason: StopReason::Stop, sequence: None },
        StreamEvent::Usage(usage),
        StreamEvent::End,
    ];
    // Said at once, so that a dialect that counts in every chunk does.
    let counted = Usage { output: 0, ..usage };
    [begin, StreamEvent::Usage(counted)].into_iter().chain(words).chain(end)
}

/// It as a provider's stream.
fn written(dialect: Dialect) -> Vec<u8> {
    let mut writer = wire(dialect).stream_writer(true);
    let mut out = Vec::new();
    for event in said() {
        writer.write(&event, &mut out);
    }
    out
}

/// What the frames of a stream hold.
fn datas(dialect: Dialect, stream: &[u8]) -> Vec<String> {
    let mut splitter = wire(dialect).framing().splitter(LARGEST_FRAME);
    splitter.push(stream);
    std::iter::from_fn(|| splitter.next_frame().unwrap()).filter_map(|frame| frame.data).collect()
}

/// The same for a client: what it is sent, and how many pieces of text came through.
fn transcode(from: Dialect, to: Dialect, stream: &[u8]) -> (usize, usize) {
    let (mut parser, mut writer) = (wire(from).stream_parser(), wire(to).stream_writer(true));
    let mut splitter = wire(from).framing().splitter(LARGEST_FRAME);
    let (mut sent, mut pieces) = (0, 0);
    for read in stream.chunks(READ) {
        splitter.push(read);
        while let Some(frame) = splitter.next_frame().unwrap() {
            // Each frame is sent as it comes.
            let mut out = Vec::with_capacity(frame.raw.len() + 256);
            for event in parser.read(&frame).unwrap() {
                pieces += usize::from(matches!(event, StreamEvent::Text(_)));
                writer.write(&event, &mut out);
            }
            sent += out.len();
            black_box(out);
        }
    }
    assert_eq!(pieces, CHUNKS, "{from:?} to {to:?}");
    (sent, pieces)
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begun = Instant::now();
    black_box(work());
    begun.elapsed()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
