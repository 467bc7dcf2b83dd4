//! What Rust agents import: input, output and model calls through the gateway.
