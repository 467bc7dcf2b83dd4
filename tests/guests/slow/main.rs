//! Sleeps, for runs that must overlap or be interrupted. Says on stderr when it begins and when it is done.

use std::io::{self, Error};
use std::thread::sleep;
use std::time::Duration;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    /// How long to sleep, in milliseconds.
    ms: u64,
}

fn main() -> io::Result<()> {
    let Input { ms } = serde_json::from_reader(io::stdin().lock()).map_err(Error::from)?;
    eprintln!("sleeping {ms} ms");
    sleep(Duration::from_millis(ms));
    eprintln!("awake");
    println!("{{\"slept_ms\":{ms}}}");
    Ok(())
}
