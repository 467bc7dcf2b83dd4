//! `gateway`: how long providers may take over model calls.

use orch_gateway::Timing;
use serde::Deserialize;

use super::timeouts::{self, some_wait};

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawGateway {
    timeouts: RawTimeouts,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawTimeouts {
    attempt: Option<String>,
    idle: Option<String>,
    silent: Option<String>,
    wait: Option<String>,
}

impl RawGateway {
    /// Reads every field; an error names it, below `gateway`.
    pub(super) fn parse(&self) -> Result<Timing, (String, String)> {
        let RawTimeouts { attempt, idle, silent, wait } = &self.timeouts;
        let default = Timing::default();
        Ok(Timing {
            attempt: some_wait("attempt", attempt.as_deref(), default.attempt)?,
            idle: some_wait("idle", idle.as_deref(), default.idle)?,
            silent: some_wait("silent", silent.as_deref(), default.silent)?,
            // None: the next one is asked at once.
            short_wait: timeouts::wait("wait", wait.as_deref(), default.short_wait)?,
            backoff: default.backoff,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn parse(text: &str) -> Result<Timing, String> {
        let raw = serde_yaml::from_str::<RawGateway>(text).map_err(|error| error.to_string())?;
        raw.parse().map_err(|(field, why)| format!("{field}: {why}"))
    }

    #[test]
    fn what_is_not_said_stays_as_it_is() {
        assert_eq!(parse("{}"), Ok(Timing::default()));
        let secs = Duration::from_secs;
        let said = parse("timeouts: { attempt: 10m, idle: 15m, silent: 20m, wait: 0s }");
        let timing = Timing { attempt: secs(600), idle: secs(900), silent: secs(1200), ..Timing::default() };
        assert_eq!(said, Ok(Timing { short_wait: Duration::ZERO, ..timing }));
    }

    #[test]
    fn what_is_no_time_is_named() {
        for (text, part) in [
            ("timeouts: { idle: 0s }", "timeouts.idle: is zero"),
            ("timeouts: { attempt: \"0s\" }", "timeouts.attempt: is zero"),
            ("timeouts: { silent: \"5\" }", "timeouts.silent: `5` is not a duration"),
            ("timeouts: { wait: soon }", "timeouts.wait: `soon` is not a duration"),
            ("timeouts: { first_byte: 1s }", "unknown field `first_byte`"),
            ("timeout: { idle: 1s }", "unknown field `timeout`"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
