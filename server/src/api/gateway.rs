//! The LLM gateway for clients, over the same way out as the runs.

use std::sync::{Arc, OnceLock};

use http::{Request, Response};
use orch_proxy::Body;

use crate::caller::Caller;
use crate::failure::Failure;
use crate::llm::{Llm, Says};
use crate::service::Service;

/// Made when it is first asked: most commands never do.
#[derive(Default)]
pub(super) struct ClientGateway(OnceLock<Llm>);

impl ClientGateway {
    /// Answers a client's request. What the gateway has to say is said in the path's dialect; only what keeps it from
    /// being there at all is a failure.
    pub(super) async fn answer(
        &self,
        service: &Service,
        caller: &Caller,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let config = service.config();
        let llm = self.llm(service, config.max_connections)?;
        let (policy, _) = service.policies().of(&caller.workspace, &config.byok).await?;
        let says = Says {
            ceilings: &config.limit_ceilings,
            routes: &config.routes,
            policy,
            platform: &config.platform,
            preferred: service.actives().of(caller).await?.map(|(preferred, _)| preferred),
        };
        let bodies = service.body_keeper(&caller.workspace);
        llm.answer(caller, &says, bodies, request).await
    }

    fn llm(&self, service: &Service, calls: usize) -> Result<&Llm, Failure> {
        if let Some(llm) = self.0.get() {
            return Ok(llm);
        }
        let upstream = service.broker().internet()?;
        let (keeper, store) = (Arc::clone(service.keeper()), service.store().clone());
        let telemetry = Arc::clone(service.broker().telemetry());
        let routings = Arc::clone(service.routings());
        let new = || Llm::new(&upstream, keeper, store);
        let lent = service.lent().cloned();
        let made = || {
            let llm = new().lending(lent).telling(telemetry).paid_from(service.budgets());
            llm.routed(routings).of_calls(calls)
        };
        Ok(self.0.get_or_init(made))
    }
}
