//! Takes memory, a MiB at a time, and touches all of it.

use std::io::{self, Error};

use serde::Deserialize;

const MIB: usize = 1 << 20;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Input {
    /// Stop there and succeed; without it, never.
    mib: Option<usize>,
    /// When no more is given, say so and fail with status 1, instead of aborting as most programs do.
    polite: bool,
}

fn main() -> io::Result<()> {
    let input: Input = serde_json::from_reader(io::stdin().lock()).unwrap_or_default();
    let mut held: Vec<Vec<u8>> = Vec::new();
    while input.mib.is_none_or(|mib| held.len() < mib) {
        let mut block = Vec::new();
        if input.polite {
            block
                .try_reserve_exact(MIB)
                .map_err(|_| Error::other(format!("refused after {} MiB", held.len())))?;
        }
        // Not zero: memory that is never written need not exist.
        block.resize(MIB, 0xa5);
        held.push(block);
        if held.len().is_power_of_two() {
            eprintln!("holding {} MiB", held.len());
        }
    }
    // Read back, so that none of it could be left out.
    let touched: usize = held.iter().map(|block| block.iter().filter(|byte| **byte == 0xa5).count()).sum();
    println!("{{\"held_mib\":{}}}", touched / MIB);
    Ok(())
}
