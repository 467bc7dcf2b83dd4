//! Traps: a panic is an `unreachable` here.

fn main() {
    panic!("this guest traps on purpose");
}
