//! Which limits hold for a run: the caller's, else the manifest's, else the configuration's, within its ceilings.

use std::time::Duration;

use orch_manifests::{ByteSize, Limits, MicroUsd, format_duration};

use crate::run::LimitRequest;

/// The limits of one run. Money is bounded only when somebody says so; tokens always are.
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
    /// What the caller asked for and a ceiling cut; to be said aloud.
    #[must_use]
    pub(crate) fn cut(caller: &LimitRequest, ceilings: &Limits) -> Vec<String> {
        fn note<T: PartialOrd>(
            flag: &str,
            asked: Option<T>,
            ceiling: Option<T>,
            show: fn(T) -> String,
        ) -> Option<String> {
            let ceiling = ceiling.filter(|ceiling| asked.is_some_and(|asked| asked > *ceiling))?;
            Some(format!("{flag} is cut to {}, the ceiling of the configuration", show(ceiling)))
        }
        [
            note("--time", caller.time, ceilings.time, format_duration),
            note("--memory", caller.memory, ceilings.memory, |size| size.to_string()),
            note("--max-cost", caller.max_cost, ceilings.cost_usd, |usd| usd.to_string()),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

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

    const MINUTE: Duration = Duration::from_secs(60);

    fn everything(n: u64) -> Limits {
        Limits {
            memory: Some(ByteSize(n)),
            time: Some(Duration::from_secs(n)),
            cpu: Some(Duration::from_secs(n)),
            output: Some(ByteSize(n)),
            requests: Some(n),
            tokens: Some(n),
            cost_usd: Some(MicroUsd(n)),
        }
    }

    fn all_are(limits: &RunLimits, n: u64) {
        assert_eq!(
            *limits,
            RunLimits {
                memory: n,
                time: Duration::from_secs(n),
                cpu: Duration::from_secs(n),
                output: n,
                log: DEFAULTS.log,
                requests: n,
                tokens: n,
                cost: Some(MicroUsd(n)),
            }
        );
    }

    #[test]
    fn manifest_then_configuration_then_default() {
        let (nobody, none) = (LimitRequest::default(), Limits::default());
        assert_eq!(RunLimits::of(nobody, &none, &none, &none), DEFAULTS);
        all_are(&RunLimits::of(nobody, &none, &everything(7), &none), 7);
        all_are(&RunLimits::of(nobody, &everything(9), &everything(7), &none), 9);
    }

    #[test]
    fn no_limit_is_beyond_its_ceiling_whoever_says_it() {
        let (nobody, none) = (LimitRequest::default(), Limits::default());
        for said in [&none, &everything(1 << 40)] {
            all_are(&RunLimits::of(nobody, said, &none, &everything(5)), 5);
        }
        all_are(&RunLimits::of(nobody, &everything(4), &none, &everything(5)), 4);
    }

    #[test]
    fn the_caller_wins_within_the_ceiling_and_hears_of_the_cut() {
        let none = Limits::default();
        let of = |time, memory, max_cost, ceilings: &Limits| {
            let caller = LimitRequest {
                time: Some(time),
                memory: Some(ByteSize(memory)),
                max_cost: Some(MicroUsd(max_cost)),
            };
            let limits = RunLimits::of(caller, &everything(30), &none, ceilings);
            (RunLimits::cut(&caller, ceilings), limits)
        };
        let (cut, limits) = of(MINUTE, 60, 60, &everything(60));
        assert_eq!((limits.time, limits.memory), (MINUTE, 60));
        assert_eq!((limits.cost, cut), (Some(MicroUsd(60)), Vec::new()));

        let (cut, limits) = of(2 * MINUTE, 1 << 20, 1_000_000, &everything(60));
        assert_eq!((limits.time, limits.memory), (MINUTE, 60));
        assert_eq!(limits.cost, Some(MicroUsd(60)));
        assert_eq!(cut.len(), 3, "{cut:?}");
        assert!(cut[0].starts_with("--time is cut to 1m"), "{cut:?}");
    }
}
