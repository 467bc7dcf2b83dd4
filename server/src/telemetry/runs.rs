//! The span of a run, which those of its model calls belong to.

use std::sync::Arc;
use std::time::Instant;

use orch_gateway::Listener;
use orch_manifests::{Manifest, RunId};

use super::Telemetry;
use super::genai;
use super::hearing::{Clock, Hearing};
use super::models::Caller;
use super::span::{Kind, Span, Value};
use super::trace::{Begun, Parent};

/// A run that has begun. Dropped without an end, it was cut off.
pub(crate) struct RunSpan {
    telemetry: Arc<Telemetry>,
    clock: Clock,
    /// In a trace that is kept.
    begun: Option<Begun>,
    workspace: Arc<str>,
    agent: String,
    version: String,
    run: RunId,
    /// Whether it has ended, and the code of what it ended with, if that is a failure.
    ended: Option<Option<String>>,
}

impl RunSpan {
    pub(super) fn begin(
        telemetry: &Arc<Telemetry>,
        run: &RunId,
        workspace: &str,
        manifest: &Manifest,
        parent: Option<Parent>,
    ) -> RunSpan {
        let begun = telemetry.traces().and_then(|traces| traces.sampler.begin(parent));
        RunSpan {
            telemetry: Arc::clone(telemetry),
            clock: Clock::start(),
            begun,
            workspace: workspace.into(),
            agent: manifest.name.to_string(),
            version: manifest.version.to_string(),
            run: run.clone(),
            ended: None,
        }
    }

    /// Who hears of its model calls.
    pub(crate) fn listener(&self) -> Arc<dyn Listener> {
        Arc::new(Hearing {
            telemetry: Arc::clone(&self.telemetry),
            caller: Caller::Run,
            workspace: Arc::clone(&self.workspace),
            parent: Some(self.begun.map_or(Parent::NOT_KEPT, Begun::as_parent)),
        })
    }

    /// It is over; `failure` is the code of what it failed with.
    pub(crate) fn end(mut self, failure: Option<&str>) {
        self.ended = Some(failure.map(str::to_owned));
    }
}

impl Drop for RunSpan {
    fn drop(&mut self) {
        let (Some(begun), Some(traces)) = (self.begun, self.telemetry.traces()) else { return };
        let error = self.ended.take().unwrap_or_else(|| Some(genai::CANCELLED.to_owned()));
        let mut attributes = vec![
            ("gen_ai.operation.name", Value::Word("invoke_agent")),
            ("gen_ai.provider.name", Value::Word("orch")),
            ("gen_ai.agent.name", Value::Text(self.agent.clone())),
            ("gen_ai.agent.version", Value::Text(self.version.clone())),
            ("orch.run.id", Value::Text(self.run.to_string())),
            ("orch.workspace", Value::Text(self.workspace.to_string())),
        ];
        let failed = error.is_some();
        attributes.extend(error.map(|code| ("error.type", Value::Text(code))));
        traces.queue.push(vec![Span {
            begun,
            name: format!("invoke_agent {}", self.agent),
            kind: Kind::Internal,
            start: self.clock.nanos(self.clock.instant),
            end: self.clock.nanos(Instant::now()),
            attributes,
            failed,
        }]);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::super::trace::{Sampler, TRACEPARENT};
    use super::*;

    fn manifest() -> Manifest {
        crate::stage::agent(crate::stage::ONE_MODEL).manifest
    }

    fn telemetry(ratio: f64) -> Arc<Telemetry> {
        let telemetry = Arc::<Telemetry>::default();
        telemetry.trace(Sampler { ratio, parent_based: true });
        telemetry
    }

    fn ended(telemetry: &Telemetry) -> Vec<Span> {
        telemetry.traces().expect("kept").queue.batch()
    }

    #[test]
    fn a_run_is_a_span_below_its_callers_and_says_how_it_ended() {
        let telemetry = telemetry(1.0);
        let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static(TRACEPARENT),
            http::HeaderValue::from_static(header),
        )]);
        let parent = Parent::of_request(&headers);
        telemetry.run(&RunId::random(), "default", &manifest(), parent).end(None);
        telemetry.run(&RunId::random(), "default", &manifest(), None).end(Some("limit_reached"));
        drop(telemetry.run(&RunId::random(), "default", &manifest(), None));
        let spans = ended(&telemetry);
        let parents: Vec<_> = spans.iter().map(|span| span.begun.parent).collect();
        assert_eq!(parents, [parent, None, None]);
        let errors: Vec<Option<&Value>> = spans
            .iter()
            .map(|span| {
                span.attributes.iter().find(|(name, _)| *name == "error.type").map(|(_, value)| value)
            })
            .collect();
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(errors, [None, Some(&text("limit_reached")), Some(&text("cancelled"))]);
        assert!(spans.iter().all(|span| span.name == "invoke_agent acme/x" && span.kind == Kind::Internal));
    }

    #[test]
    fn the_calls_of_a_run_that_is_not_kept_are_not_either() {
        let telemetry = telemetry(0.0);
        let run = telemetry.run(&RunId::random(), "default", &manifest(), None);
        // Calls that belong to nothing would begin traces of their own.
        let mut call = run.listener().call();
        let receipt = orch_gateway::Receipt::default();
        call.ended(&orch_gateway::CallEnd {
            receipt: &receipt,
            class: None,
            hit: None,
            id: None,
            stop: None,
            usage: None,
        });
        run.end(None);
        assert!(ended(&telemetry).is_empty());
        let series = telemetry.models.all();
        assert_eq!(series.len(), 1, "it is counted");
    }
}
