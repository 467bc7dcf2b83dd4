//! Waits, as a section has them under `timeouts`.

use std::time::Duration;

use orch_manifests::parse_duration;

/// What is said of a wait, or the default. An error names it, below its section.
pub(super) fn wait(name: &str, said: Option<&str>, default: Duration) -> Result<Duration, (String, String)> {
    let Some(said) = said else { return Ok(default) };
    parse_duration(said).map_err(|e| (format!("timeouts.{name}"), e.to_string()))
}

/// The same of one for something that takes time.
pub(super) fn some_wait(
    name: &str,
    said: Option<&str>,
    default: Duration,
) -> Result<Duration, (String, String)> {
    match wait(name, said, default)? {
        Duration::ZERO => {
            Err((format!("timeouts.{name}"), "is zero, so nothing could be reached".to_owned()))
        }
        time => Ok(time),
    }
}
