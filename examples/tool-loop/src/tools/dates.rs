//! Dates of the Gregorian calendar, years 1 to 9999.

use std::fmt;

const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A date, as its number of days since 0001-01-01, which was a Monday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Date(i64);

/// Reads `YYYY-MM-DD`.
pub(super) fn parse(text: &str) -> Result<Date, String> {
    let no_date = || format!("{text} is no date of the form YYYY-MM-DD");
    let bytes = text.trim().as_bytes();
    let shaped = bytes.len() == 10
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if !shaped {
        return Err(no_date());
    }
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    let (year, month, day) = (number(&bytes[..4]), number(&bytes[5..7]), number(&bytes[8..]));
    if year == 0 || !(1..=12).contains(&month) || day == 0 || day > days_of(year, month) {
        return Err(no_date());
    }
    let months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    Ok(Date(before(year) + months + day - 1))
}

impl Date {
    /// How many days this date is after another; negative when it is before.
    pub(super) fn days_since(self, other: Date) -> i64 {
        self.0 - other.0
    }

    /// The date so many days later.
    pub(super) fn plus(self, days: i64) -> Result<Date, String> {
        let then = self.0.checked_add(days).filter(|then| (0..before(10_000)).contains(then));
        then.map(Date).ok_or_else(|| "that is beyond the years 1 to 9999".to_owned())
    }

    /// The name of its day of the week.
    pub(super) fn weekday(self) -> &'static str {
        WEEKDAYS[usize::try_from(self.0 % 7).unwrap_or_default()]
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A year is never longer than 366 days, so this is the year or one too early.
        let mut year = self.0 / 366 + 1;
        while before(year + 1) <= self.0 {
            year += 1;
        }
        let mut left = self.0 - before(year);
        let mut month = 1;
        while left >= days_of(year, month) {
            left -= days_of(year, month);
            month += 1;
        }
        write!(f, "{year:04}-{month:02}-{:02}", left + 1)
    }
}

/// Days before 1 January of a year.
fn before(year: i64) -> i64 {
    let past = year - 1;
    past * 365 + past / 4 - past / 100 + past / 400
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_date_is_written_as_it_is_read() {
        let (mut date, last) = (parse("0001-01-01").unwrap(), parse("9999-12-31").unwrap());
        assert_eq!(date.weekday(), "Monday");
        for _ in 0..20_000 {
            assert_eq!(parse(&date.to_string()), Ok(date));
            date = date.plus(182).unwrap();
        }
        assert_eq!(last.to_string(), "9999-12-31");
        assert!(last.plus(1).is_err() && parse("0001-01-01").unwrap().plus(-1).is_err());
        assert!(last.plus(i64::MAX).is_err());
    }

    #[test]
    fn days_are_counted_over_leap_years() {
        let between = |from, to| parse(to).unwrap().days_since(parse(from).unwrap());
        assert_eq!(between("2024-01-01", "2025-01-01"), 366);
        assert_eq!(between("1900-02-28", "1900-03-01"), 1);
        assert_eq!(between("2000-02-28", "2000-03-01"), 2);
        assert_eq!(between("2026-03-01", "2026-02-01"), -28);
        assert_eq!(between("1970-01-01", "2026-01-01"), 20_454);
        assert_eq!(parse("1970-01-01").unwrap().weekday(), "Thursday");
    }

    #[test]
    fn what_is_no_date_is_said() {
        for text in [
            "",
            "2025-02-29",
            "2025-13-01",
            "2025-00-10",
            "2025-01-00",
            "0000-01-01",
            "25-1-1",
            "2025/01/01",
            "٢٠٢٥-01-01",
        ] {
            assert_eq!(parse(text), Err(format!("{text} is no date of the form YYYY-MM-DD")));
        }
    }
}
