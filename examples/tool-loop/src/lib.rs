//! The tools of the agent: plain functions from arguments to a sentence, apart from any model.

pub mod tools;
