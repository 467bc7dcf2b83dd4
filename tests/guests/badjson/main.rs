//! Succeeds with something that is not JSON on stdout.

fn main() {
    println!("{{\"summary\": \"this object is never closed\"");
}
