//! An owner for the tasks of one connection.
//!
//! hyper spawns a task per stream and a worker's end spawns a few of its own. They share one [`JoinSet`], so that
//! nothing outlives the connection's owner and nothing is spawned without one.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// A cloneable handle to a set of tasks; all of them end at [`Tasks::shutdown`].
#[derive(Clone)]
pub(crate) struct Tasks(Arc<Inner>);

struct Inner {
    runtime: Handle,
    /// `None` once shut down.
    set: Mutex<Option<JoinSet<()>>>,
}

impl Tasks {
    /// Tasks that run on the current runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn new() -> Self {
        Tasks::on(Handle::current())
    }

    /// Tasks that run on `runtime`.
    pub(crate) fn on(runtime: Handle) -> Self {
        Tasks(Arc::new(Inner { runtime, set: Mutex::new(Some(JoinSet::new())) }))
    }

    /// Starts a task, from any thread. After [`Tasks::shutdown`] the future is dropped instead.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.0.set.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(set) = set.as_mut() else { return };
        // Finished tasks stay in the set until they are joined; a panic has been reported by its hook already.
        while set.try_join_next().is_some() {}
        set.spawn_on(task, &self.0.runtime);
    }

    /// Aborts every task, now and later. The tasks hold clones of this handle, so dropping it would not do.
    pub(crate) fn shutdown(&self) {
        // Taken out of the lock first: dropping a task's future may call back into `spawn`.
        let set = self.0.set.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(set);
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        self.spawn(async move {
            task.await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_end_with_their_owner_and_none_starts_afterwards() {
        let tasks = Tasks::new();
        let (kept, gone) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn(async move {
            let _kept = kept;
            std::future::pending::<()>().await;
        });
        tasks.shutdown();
        assert!(gone.await.is_err(), "the task was dropped");
        let (kept, gone) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn(async move {
            let _ = kept.send(());
        });
        assert!(gone.await.is_err(), "never ran");
    }
}
