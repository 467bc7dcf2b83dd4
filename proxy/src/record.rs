//! A decision in the making: it reaches the ledger however the request ends, a dropped future included.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use http::{Response, StatusCode, request};
use orch_manifests::Scheme;
use time::OffsetDateTime;

use crate::ledger::sanitised;
use crate::{Body, CallId, Decision, EgressError, LiveGrant, Maker, Outcome, Reason, RuleOrigin, Trial};

/// Bytes of a next step that a ledger keeps; cut short it would be a different one.
const NEXT_KEPT: usize = 512;

pub(crate) struct Record {
    grant: Arc<LiveGrant>,
    begun: Instant,
    decision: Option<Decision>,
}

impl Record {
    pub(crate) fn begin(grant: &Arc<LiveGrant>, parts: &request::Parts, maker: Maker) -> Self {
        let decision = Decision {
            time: OffsetDateTime::now_utc(),
            run: grant.grant().run.clone(),
            method: sanitised(parts.method.as_str()),
            scheme: None,
            // What stands before the host may be a password.
            host: parts
                .uri
                .authority()
                .and_then(|text| text.as_str().rsplit('@').next())
                .map(sanitised)
                .unwrap_or_default(),
            port: 0,
            path: sanitised(parts.uri.path()),
            maker,
            request_id: parts.extensions.get().map(|CallId(id)| sanitised(id)),
            verdict: Outcome::Failed,
            rule: None,
            trial: None,
            reason: None,
            address: None,
            injected: Vec::new(),
            inert_placeholders: 0,
            status: None,
            duration_us: 0,
        };
        Self { grant: Arc::clone(grant), begun: Instant::now(), decision: Some(decision) }
    }

    pub(crate) fn target(&mut self, scheme: Scheme, host: &str, port: u16, path: &str) {
        self.change(|decision| {
            decision.scheme = Some(scheme);
            decision.host = sanitised(host);
            decision.port = port;
            decision.path = sanitised(path);
        });
    }

    pub(crate) fn rule(&mut self, origin: RuleOrigin) {
        self.change(|decision| decision.rule = Some(origin));
    }

    pub(crate) fn trial(&mut self, trial: Option<Trial>) {
        self.change(|decision| decision.trial = trial);
    }

    pub(crate) fn injected(&mut self, credential: &str) {
        self.change(|decision| decision.injected.push(credential.to_owned()));
    }

    /// So many more placeholders go up as they are.
    pub(crate) fn inert(&mut self, count: u32) {
        self.change(|decision| {
            decision.inert_placeholders = decision.inert_placeholders.saturating_add(count);
        });
    }

    pub(crate) fn address(&mut self, address: IpAddr) {
        self.change(|decision| decision.address = Some(address));
    }

    /// Enters the result into the ledger.
    pub(crate) fn finish(mut self, result: &Result<Response<Body>, EgressError>) {
        match result {
            Ok(response) => self.pass(response.status()),
            Err(error) => self.fail(error),
        }
    }

    /// It was let through, and this was the answer.
    pub(crate) fn pass(&mut self, status: StatusCode) {
        self.change(|decision| {
            decision.verdict = Outcome::Allowed;
            decision.status = Some(status.as_u16());
        });
    }

    /// It was refused, or failed.
    pub(crate) fn fail(&mut self, error: &EgressError) {
        self.change(|decision| {
            decision.verdict = if error.is_refusal() { Outcome::Denied } else { Outcome::Failed };
            // It says what a policy on trial would have refused, and not what was refused anyway.
            decision.trial = decision.trial.filter(|_| decision.verdict != Outcome::Denied);
            decision.reason = Some(match error {
                EgressError::Refused(reason) => Reason {
                    code: reason.code,
                    text: sanitised(&reason.text),
                    next: reason.next.clone().filter(|next| next.len() <= NEXT_KEPT),
                    rule_missing: reason.rule_missing.clone().filter(|it| it.path_length() <= NEXT_KEPT),
                },
                other => Reason::new(other.code(), sanitised(&other.to_string())),
            });
            if let EgressError::Address { address, .. } = error {
                decision.address = Some(*address);
            }
        });
    }

    fn change(&mut self, change: impl FnOnce(&mut Decision)) {
        if let Some(decision) = &mut self.decision {
            change(decision);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(mut decision) = self.decision.take() {
            if decision.verdict == Outcome::Failed && decision.reason.is_none() {
                decision.reason =
                    Some(Reason::new("cancelled", "whoever asked went away before the response"));
            }
            decision.duration_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.grant.ledger().record(decision);
        }
    }
}
