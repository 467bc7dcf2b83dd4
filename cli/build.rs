//! How the program is linked.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |name| env::var(name).unwrap_or_default();
    // Seventy thousand relocations, of a program that may lie anywhere, are most of what its start costs the loader; in
    // their packed form (DT_RELR) there is a thirtieth of them to read. glibc knows it since 2.36.
    if target("CARGO_CFG_TARGET_OS") == "linux" && target("CARGO_CFG_TARGET_ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
