//! Rows through the listener of `orch proxy`.
