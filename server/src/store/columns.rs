//! Values as columns hold them, and back.

use std::str::FromStr;

use orch_manifests::Digest;
use rusqlite::Row;
use serde_json::Value;
use time::OffsetDateTime;

use super::problem::Problem;

/// Microseconds since 1970. Every time of the years that [`OffsetDateTime`] knows fits.
pub(super) fn micros(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1000)).unwrap_or(i64::MAX)
}

/// The time of such a number.
pub(super) fn time(micros: i64) -> Result<OffsetDateTime, Problem> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)
        .map_err(|_| Problem::Row(format!("{micros} is no time")))
}

/// A column's time.
pub(super) fn time_in(row: &Row<'_>, column: &str) -> Result<OffsetDateTime, Problem> {
    time(row.get(column)?)
}

/// A column's time, if it has one.
pub(super) fn time_if(row: &Row<'_>, column: &str) -> Result<Option<OffsetDateTime>, Problem> {
    row.get::<_, Option<i64>>(column)?.map(time).transpose()
}

/// A column's digest.
pub(super) fn digest_in(row: &Row<'_>, column: &str) -> Result<Digest, Problem> {
    Ok(Digest::from_bytes(row.get(column)?))
}

/// A column's text as what it spells.
pub(super) fn parsed<T: FromStr>(row: &Row<'_>, column: &str) -> Result<T, Problem> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| Problem::Row(format!("column `{column}` holds what is no value of it")))
}

/// JSON text of a column.
pub(super) fn json(text: &str, column: &str) -> Result<Value, Problem> {
    serde_json::from_str(text).map_err(|e| Problem::Row(format!("column `{column}` holds no JSON: {e}")))
}

/// A list of words as JSON text, as capabilities and scopes are kept.
pub(super) fn words(words: &[String]) -> String {
    Value::from(words.to_vec()).to_string()
}

/// Such a list.
pub(super) fn words_in(row: &Row<'_>, column: &str) -> Result<Vec<String>, Problem> {
    serde_json::from_str(&row.get::<_, String>(column)?)
        .map_err(|_| Problem::Row(format!("column `{column}` holds no list of words")))
}

/// A count, bounded by what SQLite's integers hold.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A column's count.
pub(super) fn count_in(row: &Row<'_>, column: &str) -> Result<u64, Problem> {
    u64::try_from(row.get::<_, i64>(column)?)
        .map_err(|_| Problem::Row(format!("column `{column}` is negative")))
}
