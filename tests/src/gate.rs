//! A gate that a test opens: how upstreams pause without clocks.

use tokio::sync::watch;

/// Closed until [`Gate::open`] is called; clones are the same gate.
#[derive(Clone)]
pub struct Gate {
    state: watch::Sender<bool>,
}

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Self { state: watch::Sender::new(false) }
    }

    /// Lets everything that waits, and everything to come, pass.
    pub fn open(&self) {
        self.state.send_replace(true);
    }

    /// Whether it was opened.
    pub fn is_open(&self) -> bool {
        *self.state.borrow()
    }

    /// Returns once the gate is open.
    pub async fn passed(&self) {
        let mut state = self.state.subscribe();
        // The sender lives in `self`, so the only way out is an open gate.
        let _open = state.wait_for(|open| *open).await;
    }
}
