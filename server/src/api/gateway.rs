//! The LLM gateway for clients, over the same way out as the runs.

use std::sync::{Arc, OnceLock};

use http::{Request, Response};
use orch_gateway::Receipt;
use orch_proxy::Body;
use time::OffsetDateTime;

use super::metrics::Metrics;
use crate::caller::Caller;
use crate::failure::Failure;
use crate::llm::{Client, Llm};
use crate::service::Service;
use crate::store::CallRow;

/// Made when it is first asked: most commands never do.
#[derive(Default)]
pub(super) struct ClientGateway(OnceLock<Llm>);

impl ClientGateway {
    /// Answers a client's request. Its errors are in the path's dialect; only what keeps the gateway from being there
    /// at all is a failure.
    pub(super) async fn answer(
        &self,
        service: &Service,
        metrics: &Arc<Metrics>,
        caller: &Caller,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let client = Client { workspace: Arc::clone(&caller.workspace), token: Arc::clone(&caller.id) };
        Ok(self.llm(service, metrics)?.answer(&client, request).await)
    }

    fn llm(&self, service: &Service, metrics: &Arc<Metrics>) -> Result<&Llm, Failure> {
        if let Some(llm) = self.0.get() {
            return Ok(llm);
        }
        let upstream = service.broker().internet()?;
        let (store, metrics) = (service.store().clone(), Arc::clone(metrics));
        let books = move |client: &Client, receipt: Receipt| {
            let call = call_row(client, &receipt);
            metrics.called(&call.provider, receipt.provider_served.is_some());
            store.record_call(call);
        };
        let gateway = Arc::clone(&upstream.gateway);
        let ceilings = &service.config().limit_ceilings;
        Ok(self.0.get_or_init(|| Llm::new(gateway, Arc::clone(service.keeper()), ceilings, books)))
    }
}

fn call_row(client: &Client, receipt: &Receipt) -> CallRow {
    let (provider, model) = receipt.answered_by();
    CallRow {
        workspace: client.workspace.to_string(),
        run: None,
        caller: client.token.to_string(),
        agent: None,
        provider,
        model,
        input_tokens: receipt.input_tokens,
        output_tokens: receipt.output_tokens,
        cost_micro_usd: receipt.cost_micro_usd,
        time: OffsetDateTime::now_utc(),
        receipt: serde_json::to_value(receipt).unwrap_or_default(),
    }
}
