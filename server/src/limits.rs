//! Which limits hold for a run: the caller's, else the manifest's, else the configuration's, within its ceilings.

use std::time::Duration;

use orch_manifests::{self as manifests, ByteSize, Limits, MicroUsd, format_duration};
use orch_proxy::Shares;

use crate::config::Config;
use crate::run::LimitRequest;

/// The limits of one run. Money is bounded only when somebody says so; tokens always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunLimits {
    /// Memory of all kinds, in bytes.
    pub(crate) memory: u64,
    /// Wall time.
    pub(crate) time: Duration,
    /// CPU time of the guest.
    pub(crate) cpu: Duration,
    /// Bytes on standard output.
    pub(crate) output: u64,
    /// Bytes on standard error.
    pub(crate) log: u64,
    /// Things of the host that are open at once.
    pub(crate) resources: u32,
    /// Bytes in scratch folders.
    pub(crate) scratch: u64,
    /// Files in scratch folders.
    pub(crate) scratch_files: u64,
    /// Requests that leave the sandbox, their bytes and times.
    pub(crate) network: orch_proxy::Limits,
    /// Tokens, in and out.
    pub(crate) tokens: u64,
    /// Money for model calls.
    pub(crate) cost: Option<MicroUsd>,
}

/// Where nothing is bounded.
const UNBOUNDED: Shares =
    Shares { requests: u64::MAX, concurrent: u32::MAX, upload: u64::MAX, download: u64::MAX, rate: None };

/// What holds where nobody says otherwise.
const DEFAULTS: RunLimits = RunLimits {
    memory: 256 << 20,
    time: Duration::from_secs(300),
    cpu: Duration::from_secs(60),
    output: 10 << 20,
    log: 1 << 20,
    resources: 1_000,
    scratch: 64 << 20,
    scratch_files: 10_000,
    network: orch_proxy::Limits {
        run: Shares { requests: 500, concurrent: 64, upload: 1 << 30, download: 1 << 30, rate: None },
        host: UNBOUNDED,
        first_byte: None,
        idle: None,
        exchange: None,
    },
    tokens: 1_000_000,
    cost: None,
};

/// The most that a manifest gets where the configuration names no ceiling: nobody is asked about memory that no sandbox's
/// own bound counts.
const MOST_SCRATCH: u64 = 1 << 30;
const MOST_SCRATCH_FILES: u64 = 100_000;

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
        let asked_of_nobody = |most: u64, of: fn(&Limits) -> Option<u64>| {
            of(ceilings).unwrap_or_else(|| most.max(of(defaults).unwrap_or_default()))
        };
        let cost = caller.max_cost.or(manifest.cost_usd).or(defaults.cost_usd);
        Self {
            memory: bytes(caller.memory, |l| l.memory, DEFAULTS.memory),
            time: time(caller.time, |l| l.time, DEFAULTS.time),
            cpu: time(None, |l| l.cpu, DEFAULTS.cpu),
            output: bytes(None, |l| l.output, DEFAULTS.output),
            log: bytes(None, |l| l.log, DEFAULTS.log),
            resources: narrow(count(|l| l.resources, DEFAULTS.resources.into())),
            scratch: bytes(None, |l| l.scratch, DEFAULTS.scratch)
                .min(asked_of_nobody(MOST_SCRATCH, |l| l.scratch.map(ByteSize::bytes))),
            scratch_files: count(|l| l.scratch_files, DEFAULTS.scratch_files)
                .min(asked_of_nobody(MOST_SCRATCH_FILES, |l| l.scratch_files)),
            network: network(Said { manifest, defaults, ceilings }, DEFAULTS.network.run),
            tokens: count(|l| l.tokens, DEFAULTS.tokens),
            cost: match (cost, ceilings.cost_usd) {
                (Some(said), Some(ceiling)) => Some(said.min(ceiling)),
                (said, ceiling) => said.or(ceiling),
            },
        }
    }
}

/// What three of the four say about the network; a caller says nothing about it.
#[derive(Clone, Copy)]
struct Said<'a> {
    manifest: &'a Limits,
    defaults: &'a Limits,
    ceilings: &'a Limits,
}

impl Said<'_> {
    /// The manifest's, else the configuration's, within the ceiling.
    fn least<T: Copy + PartialOrd>(self, of: impl Fn(&Limits) -> Option<T>) -> Option<T> {
        match (of(self.manifest).or_else(|| of(self.defaults)), of(self.ceilings)) {
            (Some(said), Some(ceiling)) if said > ceiling => Some(ceiling),
            (said, ceiling) => said.or(ceiling),
        }
    }

    /// A rate with its burst. A ceiling of the rate is one of the burst as well, or a slow rhythm would get around it.
    fn rate(
        self,
        rate: impl Fn(&Limits) -> Option<manifests::Rate>,
        burst: impl Fn(&Limits) -> Option<u64>,
    ) -> Option<orch_proxy::Rate> {
        let least = self.least(&rate)?;
        let at_once = self.least(&burst).unwrap_or_else(|| least.requests().into());
        let ceiling = rate(self.ceilings)
            .map_or(u64::MAX, |rate| burst(self.ceilings).unwrap_or_else(|| rate.requests().into()));
        Some(orch_proxy::Rate {
            requests: least.requests(),
            per: least.period(),
            burst: narrow(at_once.min(ceiling)),
        })
    }
}

/// What is said of the network, and `default` where nothing is said of all of a run.
fn network(said: Said<'_>, default: Shares) -> orch_proxy::Limits {
    // A default is under the ceiling, too.
    let bytes = |of: fn(&Limits) -> Option<ByteSize>, default: u64| {
        let least = |limits: &Limits| of(limits).map(ByteSize::bytes);
        bounded(least(said.manifest).or(least(said.defaults)).unwrap_or(default), least(said.ceilings))
    };
    let count = |of: fn(&Limits) -> Option<u64>, default: u64| {
        bounded(of(said.manifest).or(of(said.defaults)).unwrap_or(default), of(said.ceilings))
    };
    orch_proxy::Limits {
        run: Shares {
            requests: count(|l| l.requests, default.requests),
            concurrent: narrow(count(|l| l.concurrent, default.concurrent.into())),
            upload: bytes(|l| l.upload, default.upload),
            download: bytes(|l| l.download, default.download),
            rate: said.rate(|l| l.rate, |l| l.burst),
        },
        host: Shares {
            requests: count(|l| l.per_host.requests, UNBOUNDED.requests),
            concurrent: narrow(count(|l| l.per_host.concurrent, UNBOUNDED.concurrent.into())),
            upload: bytes(|l| l.per_host.upload, UNBOUNDED.upload),
            download: bytes(|l| l.per_host.download, UNBOUNDED.download),
            rate: said.rate(|l| l.per_host.rate, |l| l.per_host.burst),
        },
        first_byte: said.least(|l| l.first_byte),
        idle: said.least(|l| l.idle),
        exchange: said.least(|l| l.exchange),
    }
}

fn bounded(said: u64, ceiling: Option<u64>) -> u64 {
    ceiling.map_or(said, |ceiling| said.min(ceiling))
}

fn narrow(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Of one call of a client, which is bounded by what nothing may exceed.
pub(crate) fn of_client(requests: u64, concurrent: u32, ceilings: &Limits) -> orch_proxy::Limits {
    let none = Limits::default();
    let limits = network(Said { manifest: &none, defaults: &none, ceilings }, DEFAULTS.network.run);
    // How often a client may call is not a matter of one call.
    let run = Shares { requests, concurrent, rate: None, ..limits.run };
    orch_proxy::Limits { run, host: UNBOUNDED, ..limits }
}

/// Of a client of the egress proxy: what the manifest says, else the configuration, within its ceilings. A client is no
/// run and goes on for long: where nobody says anything nothing is bounded but how much it does at once. `requests`
/// only narrows, as `concurrent` does.
pub(crate) fn of_egress(
    requests: Option<u64>,
    concurrent: u32,
    manifest: &Limits,
    config: &Config,
) -> orch_proxy::Limits {
    let said = Said { manifest, defaults: &config.default_limits, ceilings: &config.limit_ceilings };
    let limits = network(said, UNBOUNDED);
    let run = Shares {
        requests: limits.run.requests.min(requests.unwrap_or(u64::MAX)),
        concurrent: limits.run.concurrent.min(concurrent),
        ..limits.run
    };
    orch_proxy::Limits { run, ..limits }
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
            resources: self.resources,
        }
    }
}

#[cfg(test)]
mod tests {
    use orch_manifests::HostLimits;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);

    fn everything(n: u64) -> Limits {
        let (time, rate) = (Some(Duration::from_secs(n)), format!("{n}/s").parse().ok());
        let (upload, download) = (Some(ByteSize(n)), Some(ByteSize(n)));
        Limits {
            memory: Some(ByteSize(n)),
            time,
            cpu: time,
            output: Some(ByteSize(n)),
            log: Some(ByteSize(n)),
            resources: Some(n),
            scratch: Some(ByteSize(n)),
            scratch_files: Some(n),
            requests: Some(n),
            concurrent: Some(n),
            upload,
            download,
            rate,
            burst: Some(n),
            first_byte: time,
            idle: time,
            exchange: time,
            per_host: HostLimits {
                requests: Some(n),
                concurrent: Some(n),
                upload,
                download,
                rate,
                burst: Some(n),
            },
            tokens: Some(n),
            cost_usd: Some(MicroUsd(n)),
        }
    }

    fn all_are(limits: &RunLimits, n: u64) {
        let (time, count) = (Duration::from_secs(n), u32::try_from(n).expect("small"));
        let rate = Some(orch_proxy::Rate { requests: count, per: Duration::from_secs(1), burst: count });
        let shares = Shares { requests: n, concurrent: count, upload: n, download: n, rate };
        assert_eq!(
            *limits,
            RunLimits {
                memory: n,
                time,
                cpu: time,
                output: n,
                log: n,
                resources: count,
                scratch: n,
                scratch_files: n,
                network: orch_proxy::Limits {
                    run: shares,
                    host: shares,
                    first_byte: Some(time),
                    idle: Some(time),
                    exchange: Some(time),
                },
                tokens: n,
                cost: Some(MicroUsd(n)),
            }
        );
    }

    #[test]
    fn a_manifest_alone_does_not_fill_the_machine_s_memory_with_files() {
        let of = |manifest: u64, defaults: Option<u64>, ceiling: Option<u64>| {
            let limits =
                |n: Option<u64>| Limits { scratch: n.map(ByteSize), scratch_files: n, ..Limits::default() };
            let (manifest, defaults, ceilings) = (limits(Some(manifest)), limits(defaults), limits(ceiling));
            let limits = RunLimits::of(LimitRequest::default(), &manifest, &defaults, &ceilings);
            (limits.scratch, limits.scratch_files)
        };
        assert_eq!(of(1 << 40, None, None), (1 << 30, 100_000));
        assert_eq!(of(50_000, None, None), (50_000, 50_000));
        // Whoever runs the machine may say otherwise.
        assert_eq!(of(1 << 40, None, Some(1 << 35)), (1 << 35, 1 << 35));
        assert_eq!(of(1 << 40, Some(1 << 34), None), (1 << 34, 1 << 34));
        assert_eq!(of(1 << 40, None, Some(7)), (7, 7));
    }

    #[test]
    fn a_burst_is_as_large_as_its_rate_and_no_larger_than_the_ceiling_s() {
        let limits = |rate: &str, burst| Limits { rate: rate.parse().ok(), burst, ..Limits::default() };
        let none = Limits::default();
        let of = |manifest: &Limits, ceilings: &Limits| {
            let rate = RunLimits::of(LimitRequest::default(), manifest, &none, ceilings).network.run.rate;
            rate.map(|rate| (rate.requests, rate.per.as_secs(), rate.burst))
        };
        assert_eq!(of(&limits("60/m", None), &none), Some((60, 60, 60)));
        assert_eq!(of(&limits("60/m", Some(5)), &none), Some((60, 60, 5)));
        assert_eq!(of(&limits("60/m", None), &limits("1/s", None)), Some((60, 60, 1)));
        assert_eq!(of(&limits("9/s", Some(50)), &limits("2/s", Some(20))), Some((2, 1, 20)));
        assert_eq!(of(&none, &limits("2/s", None)), Some((2, 1, 2)));
        assert_eq!(of(&none, &Limits { burst: Some(3), ..none }), None);
    }

    #[test]
    fn a_client_s_call_is_within_the_ceilings() {
        let limits = of_client(16, 4, &everything(7));
        assert_eq!((limits.run.requests, limits.run.concurrent, limits.run.download), (16, 4, 7));
        assert_eq!((limits.run.rate, limits.host, limits.idle), (None, UNBOUNDED, Some(7 * SECOND)));
    }

    #[test]
    fn a_client_of_the_proxy_is_bounded_as_runs_are_and_by_nothing_that_nobody_said() {
        let of = |requests, manifest: &Limits, defaults, ceilings| {
            let config = Config { default_limits: defaults, limit_ceilings: ceilings, ..Config::default() };
            of_egress(requests, 64, manifest, &config)
        };
        let none = Limits::default;
        let free = of(None, &none(), none(), none());
        assert_eq!(free.run, Shares { concurrent: 64, ..UNBOUNDED });
        for (manifest, defaults, ceilings, expected) in [
            (everything(9), everything(7), none(), 9),
            (none(), everything(7), none(), 7),
            (none(), none(), everything(5), 5),
            (everything(9), everything(7), everything(5), 5),
        ] {
            let limits = of(None, &manifest, defaults, ceilings);
            let run = limits.run;
            assert_eq!((run.requests, run.upload, run.download), (expected, expected, expected));
            assert_eq!(u64::from(run.concurrent), expected);
            assert_eq!((limits.host.requests, limits.idle), (expected, Some(Duration::from_secs(expected))));
            assert_eq!(of(Some(2), &manifest, defaults, ceilings).run.requests, 2);
            // It narrows, and never widens.
            assert_eq!(of(Some(1000), &manifest, defaults, ceilings).run.requests, expected);
        }
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
        for said in [&none, &everything(1 << 20)] {
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
