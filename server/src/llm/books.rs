//! Where clients' calls are written down.

use std::sync::Arc;

use orch_gateway::Receipt;
use time::OffsetDateTime;

use crate::caller::Caller;
use crate::records::Who;
use crate::store::Store;

/// Takes the receipt of each call when it has ended. It does not block.
pub(super) type Books = Arc<dyn Fn(&Caller, Receipt) + Send + Sync>;

/// Each call as a row of the store, which is not waited for.
pub(super) fn books(store: Store) -> Books {
    Arc::new(move |client, receipt| {
        store.record_call(&Who::of(client).call(None, &receipt, OffsetDateTime::now_utc()));
    })
}
