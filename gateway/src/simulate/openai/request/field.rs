//! Single fields of a request, with OpenAI's wording for what is wrong with them.

use serde_json::{Map, Value};

use crate::simulate::failure::Reject;

/// The code of a value of the wrong JSON type.
pub(in crate::simulate) const INVALID_TYPE: &str = "invalid_type";

pub(in crate::simulate) fn range(
    fields: &Map<String, Value>,
    name: &str,
    low: f64,
    high: f64,
) -> Result<(), Reject> {
    let Some(value) = fields.get(name).filter(|value| !value.is_null()) else { return Ok(()) };
    let number = value.as_f64().ok_or_else(|| wrong_type(name, "a decimal", value))?;
    let (bound, side, sign, code) = if number > high {
        (high, "above maximum", "<=", "decimal_above_max_value")
    } else if number < low {
        (low, "below minimum", ">=", "decimal_below_min_value")
    } else {
        return Ok(());
    };
    let message = format!(
        "Invalid '{name}': decimal {side} value. Expected a value {sign} {bound}, but got {value} instead."
    );
    Err(Reject::bad(message).at(name).code(code))
}

pub(in crate::simulate) fn whole(
    fields: &Map<String, Value>,
    name: &str,
    low: u64,
    high: u64,
) -> Result<Option<u64>, Reject> {
    let Some(value) = fields.get(name).filter(|value| !value.is_null()) else { return Ok(None) };
    match value.as_u64() {
        Some(number) if number > high => {
            let message = format!(
                "Invalid '{name}': integer above maximum value. Expected a value <= {high}, but got {value} instead."
            );
            Err(Reject::bad(message).at(name).code("integer_above_max_value"))
        }
        Some(number) if number >= low => Ok(Some(number)),
        None if !value.is_i64() => Err(wrong_type(name, "an integer", value)),
        Some(_) | None => {
            let message = format!(
                "Invalid '{name}': integer below minimum value. Expected a value >= {low}, but got {value} instead."
            );
            Err(Reject::bad(message).at(name).code("integer_below_min_value"))
        }
    }
}

pub(in crate::simulate) fn flag(fields: &Map<String, Value>, name: &str) -> Result<Option<bool>, Reject> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(other) => Err(wrong_type(name, "a boolean", other)),
    }
}

pub(in crate::simulate) fn missing(name: &str) -> Reject {
    Reject::bad(format!("Missing required parameter: '{name}'.")).at(name).code("missing_required_parameter")
}

pub(in crate::simulate) fn wrong_type(name: &str, expected: &str, got: &Value) -> Reject {
    let message =
        format!("Invalid type for '{name}': expected {expected}, but got {} instead.", article(got));
    Reject::bad(message).at(name).code(INVALID_TYPE)
}

pub(in crate::simulate) fn article(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
