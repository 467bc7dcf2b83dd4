//! Makes many requests at once, and reports how many were answered with which status and why the others were not.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::task::Poll;

use orch_sdk::Result;
use orch_sdk::http::Request;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    url: String,
    count: usize,
}

#[derive(Default, Serialize)]
struct Output {
    /// Answers read to their end, by status and by the first 200 characters of a body that is no 200's.
    answers: BTreeMap<String, usize>,
    /// Requests without a whole answer, by reason.
    failures: BTreeMap<String, usize>,
}

fn main() -> ExitCode {
    orch_sdk::run(|input: Input| async move {
        let mut output = Output::default();
        for outcome in together((0..input.count).map(|_| ask(&input.url))).await {
            let (list, key) = match outcome {
                Ok(answer) => (&mut output.answers, answer),
                Err(error) => (&mut output.failures, error.to_string()),
            };
            *list.entry(key).or_default() += 1;
        }
        Ok(output)
    })
}

async fn ask(url: &str) -> Result<String> {
    let answer = Request::get(url).send().await?;
    let status = answer.status();
    let body = answer.bytes().await?;
    let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
    Ok(if status == 200 { status.to_string() } else { format!("{status} {text}") })
}

/// Waits for all of them at once, and says on the log how many have ended.
async fn together<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<Option<Pin<Box<F>>>> = futures.map(|future| Some(Box::pin(future))).collect();
    let mut done = Vec::new();
    let all = poll_fn(move |context| {
        for slot in &mut waiting {
            if let Some(future) = slot
                && let Poll::Ready(outcome) = future.as_mut().poll(context)
            {
                done.push(outcome);
                *slot = None;
            }
        }
        eprintln!("{} of {} have ended", done.len(), waiting.len());
        if done.len() < waiting.len() { Poll::Pending } else { Poll::Ready(std::mem::take(&mut done)) }
    });
    pin!(all).await
}
