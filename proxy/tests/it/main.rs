//! The proxy against real servers on loopback: what arrives upstream, byte for byte, and what comes back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bodies;
mod compressed;
mod destinations;
mod draining;
mod echoes;
mod events;
mod frames;
mod http2;
mod injection;
mod laws;
mod limits;
mod listener;
mod multiplexing;
mod overrides;
mod permission;
mod provider;
mod query;
mod reload;
mod requests;
mod support;
mod tunnels;
mod upstream_proxy;
mod withdrawal;
