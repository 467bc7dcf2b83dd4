//! The vault from outside: its operations, and everything that files, processes and attackers do to it.

mod operations;
mod support;
