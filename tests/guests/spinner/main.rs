//! Computes forever: no call out, nothing that yields.

use std::hint::black_box;

fn main() {
    eprintln!("spinning");
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}
