//! Responses.

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use orch_proxy::{Body, full};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::records::Csv;

/// A document.
pub(super) fn json(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A document that answers what was asked.
pub(super) fn ok(value: &Value) -> Response<Body> {
    json(StatusCode::OK, value)
}

/// A table.
pub(super) fn csv(table: &Csv) -> Response<Body> {
    let mut response = Response::new(full(table.text().to_owned()));
    let kind = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Where the next page of a table begins, which has no place for it.
pub(super) fn next(response: &mut Response<Body>, next: Option<&str>) {
    if let Some(Ok(next)) = next.map(HeaderValue::from_str) {
        response.headers_mut().insert("x-next", next);
    }
}

/// A time as the API writes it: in UTC, to the microsecond, which is what is stored.
pub(super) fn time(at: OffsetDateTime) -> Value {
    let at = at.to_offset(time::UtcOffset::UTC);
    let at = at.replace_nanosecond(at.nanosecond() / 1000 * 1000).unwrap_or(at);
    at.format(&Rfc3339).map_or(Value::Null, Value::from)
}

/// The same for a time that may not have come.
pub(super) fn time_or_null(at: Option<OffsetDateTime>) -> Value {
    at.map_or(json!(null), time)
}
