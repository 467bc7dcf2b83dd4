//! Answers a question with tools: the model asks for calls, the agent makes them, until the answer is text.

use std::process::ExitCode;

use orch_sdk::llm::{self, ChatRequest, Completion, ToolCall};
use orch_sdk::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tool_loop::tools;

/// The most calls of a run: a model that asks for more is going round in circles.
const MOST_CALLS: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    question: String,
    #[serde(default = "eight")]
    max_turns: u32,
}

fn eight() -> u32 {
    8
}

#[derive(Serialize)]
struct Output {
    answer: String,
    /// The model that answered, which may be one of the fallbacks.
    model: String,
    turns: u32,
    calls: Vec<Call>,
}

/// A call that was made.
#[derive(Serialize)]
struct Call {
    turn: u32,
    tool: String,
    arguments: Value,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Result(String),
    /// What the model was told, so that it can try again.
    Error(String),
}

fn main() -> ExitCode {
    orch_sdk::run(answer)
}

async fn answer(input: Input) -> Result<Output> {
    let question = input.question.trim();
    if question.is_empty() {
        return Err(Error::agent("there is nothing to answer: \"question\" is empty"));
    }
    let mut request = ChatRequest::new()
        .system(
            "Answer the user's question. Use the tools for every computation, conversion and date, several at once \
             where they do not depend on each other, and never work such a thing out yourself. When a tool reports \
             an error, correct the call or say why it cannot be answered. Answer in a few sentences.",
        )
        .user(question)
        .max_tokens(1024);
    for tool in tools::offered() {
        request = request.tool(tool);
    }

    let mut calls: Vec<Call> = Vec::new();
    for turn in 1..=input.max_turns {
        let completion = ask(request.clone()).await?;
        if completion.tool_calls.is_empty() {
            return finished(completion, turn, calls);
        }
        request = request.turn(&completion);
        for call in &completion.tool_calls {
            if calls.len() == MOST_CALLS {
                return Err(Error::agent(format!("the model wanted more than {MOST_CALLS} tool calls")));
            }
            let made = make(turn, call);
            let told = match &made.outcome {
                Outcome::Result(result) => result.clone(),
                Outcome::Error(error) => format!("error: {error}"),
            };
            eprintln!("{} {} -> {told}", made.tool, made.arguments);
            request = request.tool_result(call, told);
            calls.push(made);
        }
    }
    Err(Error::agent(format!(
        "the model still wanted tools after {} turns and {} calls; raise \"max_turns\"",
        input.max_turns,
        calls.len()
    )))
}

async fn ask(request: ChatRequest) -> Result<Completion> {
    let mut stream = llm::chat(request).await?;
    while stream.next().await?.is_some() {}
    let completion = stream.into_completion()?;
    // Arguments that were cut off would be called with what is left of them.
    if completion.finish_reason.as_deref() == Some("length") {
        return Err(Error::agent("the model ran out of tokens before it was done"));
    }
    Ok(completion)
}

fn make(turn: u32, call: &ToolCall) -> Call {
    let outcome = match tools::call(call) {
        Ok(result) => Outcome::Result(result),
        Err(reason) => Outcome::Error(reason),
    };
    let arguments = call.arguments().unwrap_or_else(|_| Value::String(call.arguments.clone()));
    Call { turn, tool: call.name.clone(), arguments, outcome }
}

fn finished(completion: Completion, turns: u32, calls: Vec<Call>) -> Result<Output> {
    let answer = completion.text.trim();
    if answer.is_empty() {
        return Err(Error::agent("the model answered with neither text nor a tool call"));
    }
    Ok(Output { answer: answer.to_owned(), model: completion.model, turns, calls })
}
