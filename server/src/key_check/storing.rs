//! What providers say of keys that a server is about to store.

use std::sync::Arc;

use futures_util::future::join_all;
use orch_gateway::check::Verdict;
use orch_manifests::Provider;
use orch_vault::{Secret, SecretName, Source};
use serde_json::Value;

use super::{KeyChecker, describe, document};
use crate::service::Service;

impl Service {
    /// Asks a provider about a key. Nobody waits for long, and nothing that is in the way of asking is in the way of storing
    /// it: then the verdict says so.
    pub(crate) async fn verdict(
        &self,
        source: Source,
        workspace: &str,
        provider: &Provider,
        (name, secret): (&SecretName, &Secret),
    ) -> Verdict {
        let upstream = match self.broker().internet() {
            Ok(upstream) => upstream,
            Err(failure) => return Verdict::Unchecked { why: failure.message().to_owned() },
        };
        if upstream.simulation.is_some() {
            return Verdict::Unchecked { why: "the providers of this server are simulated".to_owned() };
        }
        let checker = KeyChecker::over(Arc::clone(&upstream.proxy));
        checker.check_from(source, workspace, provider, name.as_str(), secret).await
    }

    /// What providers say of keys that are about to be stored, all of them at the same time; nothing where nobody is to be
    /// asked, and nothing of secrets that are no provider's.
    pub(crate) async fn verdicts_before_storing<'a>(
        &'a self,
        workspace: &'a str,
        keys: &'a [(SecretName, Secret)],
        check: bool,
    ) -> Vec<Proof<'a>> {
        if !check || !self.checks_keys() {
            return Vec::new();
        }
        let mut asked = Vec::new();
        for key in keys {
            if let Some(provider) = self.catalog().provider_of_key(key.0.as_str()) {
                asked.push(self.proof(workspace, provider, key));
            }
        }
        join_all(asked).await
    }

    async fn proof<'a>(
        &self,
        workspace: &str,
        provider: &'a Provider,
        (name, secret): &'a (SecretName, Secret),
    ) -> Proof<'a> {
        // Whoever sends a value says of no file of this machine that it be read.
        let verdict = self.verdict(Source::Flag, workspace, provider, (name, secret)).await;
        Proof { provider, name, verdict }
    }
}

/// What a provider says of a key that is about to be stored.
pub(crate) struct Proof<'a> {
    pub(crate) provider: &'a Provider,
    pub(crate) name: &'a SecretName,
    pub(crate) verdict: Verdict,
}

impl Proof<'_> {
    /// The same for programs.
    pub(crate) fn document(&self) -> Value {
        document(self.provider, self.name.as_str(), &self.verdict)
    }

    /// What about it deserves a word: all that is not plainly good.
    pub(crate) fn warning(&self) -> Option<String> {
        let good = matches!(self.verdict, Verdict::Valid);
        (!good).then(|| describe(self.provider, self.name.as_str(), &self.verdict).text)
    }
}
