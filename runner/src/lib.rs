//! The sandbox: wasmtime in a worker process of its own, and the broker's end of its socket.
