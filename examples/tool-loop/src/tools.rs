//! What the model is offered, and what each call does.
//!
//! A result is a sentence that says what was asked as well as what came out, so that a model that made five calls at
//! once cannot mix them up. An error is a sentence too: the model reads it and tries again.

mod calculator;
mod dates;
mod units;

use orch_sdk::llm::{Tool, ToolCall};
use serde::Deserialize;
use serde_json::{Value, json};

/// The tools, with the schemas of their arguments.
pub fn offered() -> Vec<Tool> {
    let date = |what: &str| json!({ "type": "string", "format": "date", "description": what });
    let unit = |what: &str| json!({ "enum": units::names(), "description": what });
    vec![
        Tool::new(
            "calculate",
            "Work out an arithmetic expression with + - * / % ^ and parentheses.",
            object(json!({ "expression": { "type": "string", "description": "For example (2 + 3) * 4.5" } })),
        ),
        Tool::new(
            "convert_unit",
            "Convert a quantity of length, mass, volume or temperature to another unit.",
            object(json!({
                "value": { "type": "number" },
                "from": unit("The unit that the value is in."),
                "to": unit("The unit that is wanted."),
            })),
        ),
        Tool::new(
            "days_between",
            "Count the days from one date to another; negative when the second is earlier.",
            object(json!({ "from": date("YYYY-MM-DD"), "to": date("YYYY-MM-DD") })),
        ),
        Tool::new(
            "add_days",
            "The date, and its weekday, so many days after a date, or before it when negative.",
            object(json!({ "date": date("YYYY-MM-DD"), "days": { "type": "integer" } })),
        ),
    ]
}

/// A schema that wants all of these properties and no other.
fn object(properties: Value) -> Value {
    let required: Vec<&String> = properties.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Calculate {
    expression: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Convert {
    value: f64,
    from: String,
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Between {
    from: String,
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    date: String,
    days: i64,
}

/// Makes a call. The error is for the model: what is wrong with the call, in words.
pub fn call(call: &ToolCall) -> Result<String, String> {
    match call.name.as_str() {
        "calculate" => {
            let Calculate { expression } = arguments(call)?;
            Ok(format!("{} = {}", expression.trim(), plain(calculator::evaluate(&expression)?)))
        }
        "convert_unit" => {
            let Convert { value, from, to } = arguments(call)?;
            Ok(format!("{} {from} = {} {to}", plain(value), plain(units::convert(value, &from, &to)?)))
        }
        "days_between" => {
            let Between { from, to } = arguments(call)?;
            let days = dates::parse(&to)?.days_since(dates::parse(&from)?);
            Ok(format!("From {from} to {to} it is {days} days"))
        }
        "add_days" => {
            let Add { date, days } = arguments(call)?;
            let then = dates::parse(&date)?.plus(days)?;
            Ok(format!("{days} days after {date} is {}, {then}", then.weekday()))
        }
        other => {
            let known = "calculate, convert_unit, days_between, add_days";
            Err(format!("there is no tool {other:?}; there are {known}"))
        }
    }
}

fn arguments<T: serde::de::DeserializeOwned>(call: &ToolCall) -> Result<T, String> {
    call.arguments().map_err(|error| error.to_string())
}

/// A number to at most ten significant decimals, without zeros at its end.
fn plain(number: f64) -> String {
    let text = if number != 0.0 && !(1e-6..1e15).contains(&number.abs()) {
        return format!("{number:e}");
    } else {
        format!("{number:.10}")
    };
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str, arguments: Value) -> Result<String, String> {
        call(&ToolCall { id: "c".into(), name: name.into(), arguments: arguments.to_string() })
    }

    #[test]
    fn results_say_what_was_asked() {
        for (name, arguments, result) in [
            ("calculate", json!({"expression": " 12 * (7 + 5) "}), "12 * (7 + 5) = 144"),
            ("calculate", json!({"expression": "0.1 + 0.2"}), "0.1 + 0.2 = 0.3"),
            ("calculate", json!({"expression": "2 ^ 80"}), "2 ^ 80 = 1.2089258196146292e24"),
            ("calculate", json!({"expression": "0 * -1"}), "0 * -1 = 0"),
            (
                "convert_unit",
                json!({"value": 10, "from": "miles", "to": "kilometres"}),
                "10 miles = 16.09344 kilometres",
            ),
            (
                "days_between",
                json!({"from": "2024-02-01", "to": "2024-03-01"}),
                "From 2024-02-01 to 2024-03-01 it is 29 days",
            ),
            (
                "add_days",
                json!({"date": "2026-01-15", "days": 90}),
                "90 days after 2026-01-15 is Wednesday, 2026-04-15",
            ),
        ] {
            assert_eq!(made(name, arguments).as_deref(), Ok(result));
        }
    }

    #[test]
    fn errors_are_for_the_model() {
        for (name, arguments, reason) in [
            ("calculate", json!({"expression": "1 / 0"}), "divided by zero"),
            ("calculate", json!({}), "missing field `expression`"),
            ("calculate", json!({"expression": "1", "x": 1}), "unknown field `x`"),
            ("calculate", json!("{"), "invalid type: string"),
            (
                "convert_unit",
                json!({"value": 1, "from": "miles", "to": "pounds"}),
                "miles are no measure of mass",
            ),
            ("days_between", json!({"from": "2025-02-29", "to": "2025-03-01"}), "2025-02-29 is no date"),
            ("add_days", json!({"date": "2026-01-15", "days": i64::MAX}), "beyond"),
            ("rm", json!({}), "there is no tool \"rm\"; there are calculate, convert_unit"),
        ] {
            let error = made(name, arguments).expect_err(name);
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn every_tool_that_is_offered_can_be_called() {
        for tool in offered() {
            let tool = serde_json::to_value(tool).expect("JSON");
            let error =
                made(tool["function"]["name"].as_str().expect("a name"), json!({})).expect_err("empty");
            assert!(error.contains("missing field"), "{error}");
        }
    }
}
