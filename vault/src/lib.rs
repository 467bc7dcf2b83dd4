//! Secrets at rest: sealed rows, key custody, resolution order.
