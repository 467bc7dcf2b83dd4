//! Connections for reading: a few, opened when they are needed, on threads where blocking is allowed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::problem::Problem;
use super::schema;
use crate::failure::Failure;

/// How many read at once.
const READERS: usize = 4;

#[derive(Clone)]
pub(super) struct Readers {
    path: Arc<PathBuf>,
    turns: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path: Arc::new(path), turns: Arc::new(Semaphore::new(READERS)), idle: Arc::default() }
    }

    /// Reads one state of the database: what was committed when `work` began.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Failure> {
        let Ok(turn) = Arc::clone(&self.turns).acquire_owned().await else {
            return Err(Failure::defect("the readers of the store are closed"));
        };
        let readers = self.clone();
        let read = spawn_blocking(move || {
            // Held until the connection is back, also when the caller has gone.
            let _turn = turn;
            readers.blocking(work).map_err(|problem| problem.told(&readers.path))
        });
        read.await.unwrap_or_else(|error| Err(Failure::defect(format!("reading the store: {error}"))))
    }

    fn blocking<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Problem>) -> Result<T, Problem> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let db = match idle {
            Some(db) => db,
            None => schema::open_reader(&self.path)?,
        };
        let outcome = {
            let transaction = db.unchecked_transaction()?;
            work(&transaction)
        };
        // A connection that saw trouble is not used again.
        if outcome.is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(db);
        }
        outcome
    }
}
