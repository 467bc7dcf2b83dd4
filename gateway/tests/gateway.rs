//! The gateway over a real proxy, against providers that do what they are told on loopback.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "gateway/budget.rs"]
mod budget;
#[path = "gateway/cohere.rs"]
mod cohere;
#[path = "gateway/cuts.rs"]
mod cuts;
#[path = "gateway/deltas.rs"]
mod deltas;
#[path = "gateway/direct.rs"]
mod direct;
#[path = "gateway/embeddings.rs"]
mod embeddings;
#[path = "gateway/failures.rs"]
mod failures;
#[path = "gateway/forms.rs"]
mod forms;
#[path = "gateway/gemini.rs"]
mod gemini;
#[path = "gateway/hostile.rs"]
mod hostile;
#[path = "gateway/invoke.rs"]
mod invoke;
#[path = "gateway/listening.rs"]
mod listening;
#[path = "gateway/matrix.rs"]
mod matrix;
#[path = "gateway/ollama.rs"]
mod ollama;
#[path = "gateway/reach.rs"]
mod reach;
#[path = "gateway/requests.rs"]
mod requests;
#[path = "gateway/responses.rs"]
mod responses;
#[path = "gateway/routes.rs"]
mod routes;
#[path = "gateway/rules.rs"]
mod rules;
#[path = "gateway/serving.rs"]
mod serving;
#[path = "gateway/simulated.rs"]
mod simulated;
#[path = "gateway/streams.rs"]
mod streams;
#[path = "gateway/upstream.rs"]
mod upstream;
#[path = "gateway/world.rs"]
mod world;
