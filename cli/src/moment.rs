//! Points in time, as flags say them and as output shows them.

use std::time::Duration;

use orch_manifests::parse_duration;
use orch_server::Failure;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `--expires DURATION`: that long from now.
///
/// # Errors
/// When the text is no duration, or leads beyond what a calendar holds.
pub(crate) fn from_now(text: &str) -> Result<OffsetDateTime, Failure> {
    let life: Duration =
        parse_duration(text).map_err(|e| Failure::usage("bad_usage", format!("--expires {text:?}: {e}")))?;
    OffsetDateTime::now_utc()
        .checked_add(life.try_into().unwrap_or(time::Duration::MAX))
        .ok_or_else(|| Failure::usage("bad_usage", format!("--expires {text:?} is too far away")))
}

/// RFC 3339, to the second.
pub(crate) fn written(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_counted_from_now() {
        let in_a_day = from_now("1d").expect("a life") - OffsetDateTime::now_utc();
        assert!((23..=24).contains(&in_a_day.whole_hours()), "{in_a_day}");
        for bad in ["", "soon", "30"] {
            assert_eq!(from_now(bad).expect_err(bad).code(), "bad_usage");
        }
    }
}
