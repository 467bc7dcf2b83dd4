//! Connections whose client has not shown its token yet. They have a share of the places; when it is full, the one that
//! said nothing for longest makes room, since a client says who it is at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Strangers at once, where that is more than their part of all places.
const LEAST: usize = 16;
/// Their part of all places: one in so many.
const PART: usize = 8;

/// The strangers of a listener, the oldest at the front.
pub(crate) struct Strangers {
    most: usize,
    present: Mutex<VecDeque<Arc<Notify>>>,
}

impl Strangers {
    /// Where there are so many places altogether.
    pub(crate) fn among(places: usize) -> Arc<Self> {
        Arc::new(Self { most: (places / PART).max(LEAST), present: Mutex::default() })
    }

    /// Lets one in, for whom the oldest may have to go.
    pub(crate) fn enter(self: &Arc<Self>) -> Stranger {
        let put_out = Arc::new(Notify::new());
        let mut present = self.present();
        if present.len() >= self.most
            && let Some(oldest) = present.pop_front()
        {
            oldest.notify_one();
        }
        present.push_back(Arc::clone(&put_out));
        Stranger { strangers: Arc::clone(self), put_out }
    }

    fn present(&self) -> MutexGuard<'_, VecDeque<Arc<Notify>>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place among the strangers, until it is dropped.
pub(crate) struct Stranger {
    strangers: Arc<Strangers>,
    put_out: Arc<Notify>,
}

impl Stranger {
    /// Told once when it has to go.
    pub(crate) fn put_out(&self) -> Arc<Notify> {
        Arc::clone(&self.put_out)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.strangers.present().retain(|other| !Arc::ptr_eq(other, &self.put_out));
    }
}
