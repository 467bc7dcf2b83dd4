//! Writes without end, to stdout or to stderr.

use std::io::{self, Write};

use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Input {
    /// Flood the log instead of the output.
    stderr: bool,
}

fn main() -> io::Result<()> {
    let input: Input = serde_json::from_reader(io::stdin().lock()).unwrap_or_default();
    let line = [b"0123456789abcdef".repeat(255), b"0123456789abcde\n".to_vec()].concat();
    let mut sink: Box<dyn Write> =
        if input.stderr { Box::new(io::stderr()) } else { Box::new(io::stdout().lock()) };
    loop {
        sink.write_all(&line)?;
    }
}
