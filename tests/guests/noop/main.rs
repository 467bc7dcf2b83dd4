//! Does nothing and succeeds: what a run costs by itself.

fn main() {}
