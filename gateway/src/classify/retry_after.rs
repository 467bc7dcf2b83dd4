//! How long a provider asks to wait, in all the spellings that are in use.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::envelope::Envelope;

/// The longest wait that is believed. Values of days have been seen for spend limits; whether a wait is short
/// enough to begin is `route`'s to decide.
pub const RETRY_AFTER_CAP: Duration = Duration::from_secs(3600);

/// Beyond this many seconds a bare number is a date.
const THIRTY_DAYS: f64 = 30.0 * 86_400.0;

/// From the most standard header to the most particular one.
pub(super) fn from_headers(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    if let Some(value) = header("retry-after") {
        if let Some(wait) = seconds(value) {
            return Some(wait);
        }
        if let Ok(date) = httpdate::parse_http_date(value) {
            return Some(until(date, now));
        }
    }
    for name in ["retry-after-ms", "x-ms-retry-after-ms"] {
        if let Some(ms) = header(name).and_then(|v| v.parse::<f64>().ok()) {
            return duration(ms / 1000.0);
        }
    }
    if let Some(value) = header("x-ratelimit-reset").and_then(|v| v.parse::<f64>().ok()) {
        // Epoch milliseconds are in use as well as epoch seconds.
        let epoch = if value > 1e11 { value / 1000.0 } else { value };
        return match value < THIRTY_DAYS {
            true => duration(value),
            false => Some(until(UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(epoch).ok()?)?, now)),
        };
    }
    // Only the window that is used up says when the next request may go.
    let mut wait = None;
    for window in ["requests", "tokens"] {
        if header(&format!("x-ratelimit-remaining-{window}")) == Some("0") {
            wait = wait.max(header(&format!("x-ratelimit-reset-{window}")).and_then(spelled));
        }
    }
    for window in ["requests", "tokens", "input-tokens", "output-tokens"] {
        if header(&format!("anthropic-ratelimit-{window}-remaining")) == Some("0") {
            let reset = header(&format!("anthropic-ratelimit-{window}-reset"))
                .and_then(|v| OffsetDateTime::parse(v, &Rfc3339).ok())
                .map(|date| until(date.into(), now));
            wait = wait.max(reset);
        }
    }
    wait
}

/// Google's structured delays, then the phrases.
pub(super) fn from_body(envelope: &Envelope) -> Option<Duration> {
    if let Some(wait) = envelope.delays.iter().find_map(|text| spelled(text)) {
        return Some(wait);
    }
    let message = envelope.message.to_ascii_lowercase();
    ["try again in ", "reset after ", "retry in ", "retry after "].iter().find_map(|phrase| {
        let at = message.find(phrase)? + phrase.len();
        spelled(&message[at..])
    })
}

/// A whole value in seconds, `20` or `0.5`.
fn seconds(value: &str) -> Option<Duration> {
    value.parse::<f64>().ok().and_then(duration)
}

fn duration(seconds: f64) -> Option<Duration> {
    if !seconds.is_finite() || seconds < 0.0 {
        return None;
    }
    Some(Duration::from_secs_f64(seconds.min(RETRY_AFTER_CAP.as_secs_f64())))
}

fn until(date: SystemTime, now: SystemTime) -> Duration {
    date.duration_since(now).unwrap_or_default().min(RETRY_AFTER_CAP)
}

/// A duration at the start of `text`: `12ms`, `6m0s`, `10h17m5.7s`, `20 seconds`. The unit is required.
fn spelled(text: &str) -> Option<Duration> {
    let mut rest = text.trim_start();
    let mut total = 0.0;
    let mut any = false;
    loop {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let Ok(number) = rest[..digits].trim_end_matches('.').parse::<f64>() else { break };
        let after = rest[digits..].trim_start();
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let unit = match &after[..letters] {
            "ms" | "milliseconds" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            _ => break,
        };
        total += number * unit;
        any = true;
        rest = &after[letters..];
    }
    if any { duration(total) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect()
    }

    #[test]
    fn every_spelling_in_headers() {
        // 2026-11-20T00:00:00Z
        let now = UNIX_EPOCH + Duration::from_secs(1_795_132_800);
        let ms = Duration::from_millis;
        type Row = (&'static [(&'static str, &'static str)], Option<Duration>);
        let rows: &[Row] = &[
            (&[("retry-after", "20")], Some(ms(20_000))),
            (&[("retry-after", "0.25")], Some(ms(250))),
            (&[("retry-after", "Fri, 20 Nov 2026 00:00:30 GMT")], Some(ms(30_000))),
            (&[("retry-after", "Thu, 19 Nov 2026 00:00:00 GMT")], Some(ms(0))),
            (&[("retry-after-ms", "1500")], Some(ms(1_500))),
            (&[("retry-after-ms", "274579000")], Some(RETRY_AFTER_CAP)),
            (&[("x-ms-retry-after-ms", "70")], Some(ms(70))),
            (&[("x-ratelimit-reset", "12")], Some(ms(12_000))),
            (&[("x-ratelimit-reset", "1795132810")], Some(ms(10_000))),
            (&[("x-ratelimit-reset", "1795132810000")], Some(ms(10_000))),
            (
                &[("x-ratelimit-remaining-requests", "0"), ("x-ratelimit-reset-requests", "6m0s")],
                Some(ms(360_000)),
            ),
            (&[("x-ratelimit-remaining-requests", "9"), ("x-ratelimit-reset-requests", "6m0s")], None),
            (
                &[
                    ("anthropic-ratelimit-input-tokens-remaining", "0"),
                    ("anthropic-ratelimit-input-tokens-reset", "2026-11-20T00:00:07Z"),
                ],
                Some(ms(7_000)),
            ),
            (&[("retry-after", "soon")], None),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "NaN")], None),
            (&[], None),
        ];
        for (pairs, wanted) in rows {
            assert_eq!(from_headers(&headers(pairs), now), *wanted, "{pairs:?}");
        }
    }

    #[test]
    fn every_spelling_in_words() {
        let rows = [
            ("12ms", Some(12)),
            ("6m0s", Some(360_000)),
            ("46s", Some(46_000)),
            ("5.7s. Visit", Some(5_700)),
            ("20 seconds.", Some(20_000)),
            ("2 minutes", Some(120_000)),
            ("10h17m5.7s", Some(3_600_000)),
            ("20", None),
            ("a while", None),
            ("", None),
        ];
        for (text, wanted) in rows {
            assert_eq!(spelled(text), wanted.map(Duration::from_millis), "{text:?}");
        }
    }
}
