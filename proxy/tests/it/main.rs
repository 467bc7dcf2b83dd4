//! The proxy against real servers on loopback: what arrives upstream, byte for byte, and what comes back.

mod bodies;
mod destinations;
mod injection;
mod provider;
mod requests;
mod support;
