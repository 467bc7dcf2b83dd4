//! Where clients' calls are written down.

use std::sync::Arc;

use orch_gateway::Receipt;
use time::OffsetDateTime;

use crate::caller::Caller;
use crate::store::{CallRow, Store};

/// Takes the receipt of each call when it has ended. It does not block.
pub(super) type Books = Arc<dyn Fn(&Caller, Receipt) + Send + Sync>;

/// Each call as a row of the store, which is not waited for.
pub(super) fn books(store: Store) -> Books {
    Arc::new(move |client, receipt| store.record_call(row(client, &receipt, OffsetDateTime::now_utc())))
}

fn row(client: &Caller, receipt: &Receipt, time: OffsetDateTime) -> CallRow {
    let (provider, model) = receipt.answered_by();
    // What was refused at once was for no provider yet.
    let provider = if provider.is_empty() { "none".to_owned() } else { provider };
    CallRow {
        workspace: client.workspace.to_string(),
        run: None,
        caller: client.name.to_string(),
        agent: None,
        provider,
        model,
        input_tokens: receipt.input_tokens,
        output_tokens: receipt.output_tokens,
        cost_micro_usd: receipt.cost_micro_usd,
        time,
        request: Some(receipt.request_id.clone()),
        credential: receipt.credential.as_ref().map(|credential| credential.id.clone()),
        price_date: receipt.price_as_of.clone(),
        receipt: serde_json::to_string(receipt).unwrap_or_default(),
    }
}
