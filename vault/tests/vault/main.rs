//! The vault from outside: its operations, and everything that files, processes and attackers do to it.

mod crash;
mod operations;
mod places;
mod support;
mod tamper;
