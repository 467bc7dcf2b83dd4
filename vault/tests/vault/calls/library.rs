//! Preloaded into a process (`LD_PRELOAD`), stands between it and the kernel's file calls: writes them down, or
//! makes some of them fail. Compiled by the tests that use it (`calls.rs`).
//!
//! The calls are caught in the kernel (`trap.rs`), because not all of them pass through the C library.
#![allow(unsafe_code, reason = "it stands between a program and the kernel")]

mod call;
mod fault;
mod record;
mod trap;

use trap::Raw;

/// What is done: `record` or `fail`.
const WHAT: &str = "ORCH_VAULT_TEST_CALLS";
/// The folder that it is about.
const ROOT: &str = "ORCH_VAULT_TEST_CHILD";

#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

extern "C" fn begin() {
    let (Some(what), Some(root)) = (std::env::var_os(WHAT), std::env::var_os(ROOT)) else { return };
    call::ROOT.set(root.into_encoded_bytes()).expect("the program begins once");
    let handler: fn(&Raw) -> isize = match what.to_str() {
        Some("record") => record::handle,
        Some("fail") => fault::handle,
        _ => return,
    };
    trap::install(call::NUMBERS, handler);
}
