//! Which limits hold for a run: the caller's, else the manifest's, else the configuration's, within its ceilings.

use std::time::Duration;

use orch_manifests::{ByteSize, Limits, MicroUsd};

use crate::run::LimitRequest;

/// The limits of one run, all of them set but money, whose default is the token limit's worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunLimits {
    /// Linear memory, in bytes.
    pub(crate) memory: u64,
    /// Wall time.
    pub(crate) time: Duration,
    /// CPU time of the guest.
    pub(crate) cpu: Duration,
    /// Bytes on standard output.
    pub(crate) output: u64,
    /// Bytes on standard error.
    pub(crate) log: u64,
    /// Requests that leave the sandbox.
    pub(crate) requests: u64,
    /// Tokens, in and out.
    pub(crate) tokens: u64,
    /// Money for model calls.
    pub(crate) cost: Option<MicroUsd>,
}

/// What holds where nobody says otherwise.
const DEFAULTS: RunLimits = RunLimits {
    memory: 256 << 20,
    time: Duration::from_secs(300),
    cpu: Duration::from_secs(60),
    output: 10 << 20,
    log: 1 << 20,
    requests: 500,
    tokens: 1_000_000,
    cost: None,
};

impl RunLimits {
    /// Combines what the four say.
    #[must_use]
    pub(crate) fn of(caller: LimitRequest, manifest: &Limits, defaults: &Limits, ceilings: &Limits) -> Self {
        let bytes = |caller: Option<ByteSize>, of: fn(&Limits) -> Option<ByteSize>, default: u64| {
            let said = caller.or(of(manifest)).or(of(defaults)).map_or(default, ByteSize::bytes);
            of(ceilings).map_or(said, |ceiling| said.min(ceiling.bytes()))
        };
        let time = |caller: Option<Duration>, of: fn(&Limits) -> Option<Duration>, default: Duration| {
            let said = caller.or(of(manifest)).or(of(defaults)).unwrap_or(default);
            of(ceilings).map_or(said, |ceiling| said.min(ceiling))
        };
        let count = |of: fn(&Limits) -> Option<u64>, default: u64| {
            let said = of(manifest).or(of(defaults)).unwrap_or(default);
            of(ceilings).map_or(said, |ceiling| said.min(ceiling))
        };
        let cost = caller.max_cost.or(manifest.cost_usd).or(defaults.cost_usd);
        Self {
            memory: bytes(caller.memory, |l| l.memory, DEFAULTS.memory),
            time: time(caller.time, |l| l.time, DEFAULTS.time),
            cpu: time(None, |l| l.cpu, DEFAULTS.cpu),
            output: bytes(None, |l| l.output, DEFAULTS.output),
            log: DEFAULTS.log,
            requests: count(|l| l.requests, DEFAULTS.requests),
            tokens: count(|l| l.tokens, DEFAULTS.tokens),
            cost: match (cost, ceilings.cost_usd) {
                (Some(said), Some(ceiling)) => Some(said.min(ceiling)),
                (said, ceiling) => said.or(ceiling),
            },
        }
    }
}

impl RunLimits {
    /// The part of them that the worker enforces.
    #[must_use]
    pub(crate) fn for_worker(&self) -> orch_runner::RunLimits {
        orch_runner::RunLimits {
            memory: self.memory,
            cpu: self.cpu,
            time: self.time,
            output: self.output,
            log: self.log,
            ..orch_runner::RunLimits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_wins_within_the_ceiling() {
        let manifest = Limits { time: Some(Duration::from_secs(30)), ..Limits::default() };
        let ceilings =
            Limits { time: Some(Duration::from_secs(60)), requests: Some(10), ..Limits::default() };
        let none = Limits::default();
        let of = |caller: Option<u64>| {
            let caller = LimitRequest { time: caller.map(Duration::from_secs), ..LimitRequest::default() };
            RunLimits::of(caller, &manifest, &none, &ceilings)
        };
        assert_eq!(of(None).time, Duration::from_secs(30));
        assert_eq!(of(Some(45)).time, Duration::from_secs(45));
        assert_eq!(of(Some(90)).time, Duration::from_secs(60));
        assert_eq!(of(None).requests, 10, "a ceiling below the default holds");
        assert_eq!(of(None).memory, DEFAULTS.memory);
    }
}
