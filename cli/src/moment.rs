//! Points in time, as flags say them and as output shows them.

use std::time::Duration;

use orch_manifests::parse_duration;
use orch_server::Failure;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, Time};

/// `--expires DURATION`: that long from now.
///
/// # Errors
/// When the text is no duration, or leads beyond what a calendar holds.
pub(crate) fn from_now(text: &str) -> Result<OffsetDateTime, Failure> {
    let life: Duration =
        parse_duration(text).map_err(|e| Failure::usage("bad_usage", format!("--expires {text:?}: {e}")))?;
    if life.is_zero() {
        return Err(Failure::usage("bad_usage", format!("--expires {text:?} would be over at once"))
            .hint("--expires 30d, or without --expires it does not end"));
    }
    OffsetDateTime::now_utc()
        .checked_add(life.try_into().unwrap_or(time::Duration::MAX))
        .ok_or_else(|| Failure::usage("bad_usage", format!("--expires {text:?} is too far away")))
}

/// `--FLAG TIME`: a time, the start of a day (UTC), or how long ago.
///
/// # Errors
/// When the text is none of them.
pub(crate) fn ago(flag: &str, text: &str, now: OffsetDateTime) -> Result<OffsetDateTime, Failure> {
    let day = Date::parse(text, format_description!("[year]-[month]-[day]"));
    let at = OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .or_else(|| day.ok().map(|day| day.with_time(Time::MIDNIGHT).assume_utc()))
        .or_else(|| now.checked_sub(parse_duration(text).ok()?.try_into().ok()?));
    at.ok_or_else(|| {
        Failure::usage("bad_usage", format!("--{flag} {text:?} is no time"))
            .hint(format!("--{flag} 2026-01-31, --{flag} 2026-01-31T12:00:00Z or --{flag} 7d"))
    })
}

/// RFC 3339, to the second.
pub(crate) fn written(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

/// A time that was written so.
pub(crate) fn read(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// How long, in its largest unit: `3d`, `5h`, `2m`, `9s`.
pub(crate) fn short(length: time::Duration) -> String {
    let (days, hours, minutes) = (length.whole_days(), length.whole_hours(), length.whole_minutes());
    match (days, hours, minutes) {
        (1.., ..) => format!("{days}d"),
        (_, 1.., _) => format!("{hours}h"),
        (.., 1..) => format!("{minutes}m"),
        _ => format!("{}s", length.whole_seconds().max(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_counted_from_now() {
        let in_a_day = from_now("1d").expect("a life") - OffsetDateTime::now_utc();
        assert!((23..=24).contains(&in_a_day.whole_hours()), "{in_a_day}");
        for bad in ["", "soon", "30", "0s"] {
            assert_eq!(from_now(bad).expect_err(bad).code(), "bad_usage");
        }
    }

    #[test]
    fn times_are_said_in_three_ways() {
        let now = time::macros::datetime!(2026-02-08 12:00:00.5 UTC);
        for (text, at) in [
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("2026-01-31T10:00:00+02:00", "2026-01-31T10:00:00+02:00"),
            ("7d", "2026-02-01T12:00:00Z"),
        ] {
            assert_eq!(written(ago("since", text, now).expect(text)), at);
        }
        for bad in ["", "yesterday", "2026-13-01", "2026-1-1", "99999999999999d"] {
            assert_eq!(ago("since", bad, now).expect_err(bad).code(), "bad_usage");
        }
    }

    #[test]
    fn a_length_is_said_in_its_largest_unit() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m"),
            (3600, "1h"),
            (86_399, "23h"),
            (86_400 * 400, "400d"),
        ] {
            assert_eq!(short(time::Duration::seconds(seconds)), text);
        }
    }
}
