//! Reading a JSON object field by field, with errors that name the field's path.

use std::cell::RefCell;

use serde_json::{Map, Value};

use crate::bounded;
use crate::dialect::RequestError;

/// An object whose fields are taken out one by one, which leaves null in their place; what is left over are the extras.
pub(crate) struct Fields {
    map: Map<String, Value>,
    path: String,
    /// The names that were asked for.
    asked: RefCell<Vec<&'static str>>,
}

/// A name as a server reads it that does not tell small letters from capitals, as those written in Go do: with them, two
/// signs beyond ASCII are letters as well.
pub(crate) fn folded(name: &str) -> String {
    name.chars().map(fold).collect()
}

fn fold(c: char) -> char {
    match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    }
}

/// Whether two names are one to such a server.
pub(crate) fn alike(one: &str, other: &str) -> bool {
    one.chars().map(fold).eq(other.chars().map(fold))
}

fn differs_in_case_only(one: &str, other: &str) -> bool {
    one != other && alike(one, other)
}

impl Fields {
    /// Reads a whole body. A field that is there twice is refused at any depth: which one counts would be the
    /// provider's guess, and limits were checked on the other.
    pub(crate) fn parse(body: &[u8]) -> Result<Fields, RequestError> {
        let value = bounded::request(body).map_err(|e| RequestError {
            path: String::new(),
            message: format!("the body is not valid JSON: {e}"),
        })?;
        Fields::of(value, String::new())
    }

    /// The object at `path`.
    pub(crate) fn of(value: Value, path: String) -> Result<Fields, RequestError> {
        match value {
            Value::Object(map) => Ok(Fields { map, path, asked: RefCell::default() }),
            other => Err(wrong(path, "an object", &other)),
        }
    }

    /// The object with each field under the name that `rename` gives it.
    ///
    /// # Errors
    /// Two of them would have the same one.
    pub(crate) fn renamed(self, rename: impl Fn(&str) -> String) -> Result<Fields, RequestError> {
        let mut map = Map::new();
        for (key, value) in self.map {
            let name = rename(&key);
            if map.insert(name.clone(), value).is_some() {
                let path = if self.path.is_empty() { name } else { format!("{}.{name}", self.path) };
                return Err(RequestError { path, message: "is there twice, in two spellings".to_owned() });
            }
        }
        Ok(Fields { map, path: self.path, asked: RefCell::default() })
    }

    /// The path of one of its fields.
    pub(crate) fn at(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// An error about one of its fields.
    pub(crate) fn error(&self, key: &str, message: impl Into<String>) -> RequestError {
        RequestError { path: self.at(key), message: message.into() }
    }

    /// Takes any value; null counts as absent.
    pub(crate) fn value(&mut self, key: &'static str) -> Option<Value> {
        self.asked.get_mut().push(key);
        // Null in its place, and not closed up: the others keep their order without being moved.
        self.map.get_mut(key).map(Value::take).filter(|v| !v.is_null())
    }

    /// Looks without taking.
    pub(crate) fn peek(&self, key: &'static str) -> Option<&Value> {
        self.asked.borrow_mut().push(key);
        self.map.get(key).filter(|v| !v.is_null())
    }

    pub(crate) fn string(&mut self, key: &'static str) -> Result<Option<String>, RequestError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(s)) => Ok(Some(s)),
            Some(other) => Err(wrong(self.at(key), "a string", &other)),
        }
    }

    pub(crate) fn required_string(&mut self, key: &'static str) -> Result<String, RequestError> {
        self.string(key)?.ok_or_else(|| self.error(key, "is missing"))
    }

    pub(crate) fn uint(&mut self, key: &'static str) -> Result<Option<u64>, RequestError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => match whole(&value) {
                Some(n) => Ok(Some(n)),
                None => Err(wrong(self.at(key), "a whole number that is not negative", &value)),
            },
        }
    }

    pub(crate) fn int(&mut self, key: &'static str) -> Result<Option<i64>, RequestError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(n) => Ok(Some(n)),
                None => Err(wrong(self.at(key), "a whole number", &value)),
            },
        }
    }

    pub(crate) fn number(&mut self, key: &'static str) -> Result<Option<f64>, RequestError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(n) => Ok(Some(n)),
                None => Err(wrong(self.at(key), "a number", &value)),
            },
        }
    }

    pub(crate) fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, RequestError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Bool(b)) => Ok(Some(b)),
            Some(other) => Err(wrong(self.at(key), "true or false", &other)),
        }
    }

    /// Takes an array of objects.
    pub(crate) fn objects(&mut self, key: &'static str) -> Result<Option<Vec<Fields>>, RequestError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => elements(value, &self.at(key)).map(Some),
        }
    }

    /// Takes an object.
    pub(crate) fn object(&mut self, key: &'static str) -> Result<Option<Fields>, RequestError> {
        let path = self.at(key);
        self.value(key).map(|value| Fields::of(value, path)).transpose()
    }

    pub(crate) fn required_object(&mut self, key: &'static str) -> Result<Fields, RequestError> {
        self.object(key)?.ok_or_else(|| self.error(key, "is missing"))
    }

    /// A string, or an array of strings.
    pub(crate) fn strings(&mut self, key: &'static str) -> Result<Vec<String>, RequestError> {
        let path = self.at(key);
        match self.value(key) {
            None => Ok(Vec::new()),
            Some(Value::String(s)) => Ok(vec![s]),
            Some(Value::Array(items)) => items
                .into_iter()
                .enumerate()
                .map(|(i, item)| match item {
                    Value::String(s) => Ok(s),
                    other => Err(wrong(format!("{path}[{i}]"), "a string", &other)),
                })
                .collect(),
            Some(other) => Err(wrong(path, "a string or an array of strings", &other)),
        }
    }

    /// Whether of fields of which one at most may be there, one at most is: whoever reads it may look at another one than
    /// was looked at here.
    pub(crate) fn one_of(&self, members: &[&'static str]) -> Result<(), RequestError> {
        self.one_at_most(members.iter().copied().filter(|name| self.peek(name).is_some()))
    }

    /// The same of an object that holds nothing beside the one.
    pub(crate) fn one(&self) -> Result<(), RequestError> {
        self.one_at_most(self.map.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str()))
    }

    fn one_at_most<'n>(&self, mut there: impl Iterator<Item = &'n str>) -> Result<(), RequestError> {
        match (there.next(), there.next()) {
            (Some(first), Some(second)) => {
                let first: String = first.chars().take(64).collect();
                Err(self.error(second, format!("stands beside {first}, and only one of them may be there")))
            }
            _ => Ok(()),
        }
    }

    /// Puts a field back, for a part that is kept whole.
    pub(crate) fn restore(&mut self, key: &str, value: Value) {
        self.map.insert(key.to_owned(), value);
    }

    /// The object as it came, for those that are the client's own data, where null means something.
    pub(crate) fn untouched(self) -> Map<String, Value> {
        debug_assert!(self.asked.borrow().is_empty(), "what was taken would be null");
        self.map
    }

    /// What was not taken, nulls left out.
    ///
    /// # Errors
    /// A field that differs from one that was asked for in letter case only: it was not looked at here, and some providers
    /// take it for that one.
    pub(crate) fn rest(self) -> Result<Map<String, Value>, RequestError> {
        let asked = self.asked.borrow();
        for name in self.map.iter().filter(|(_, v)| !v.is_null()).map(|(name, _)| name) {
            let asked_itself = || asked.iter().any(|known| known == name);
            if asked.iter().any(|known| differs_in_case_only(known, name)) && !asked_itself() {
                let name: String = name.chars().take(64).collect();
                return Err(self.error(
                    &name,
                    "differs from a known field in letter case only; write it as it is known",
                ));
            }
        }
        drop(asked);
        Ok(self.map.into_iter().filter(|(_, v)| !v.is_null()).collect())
    }
}

/// The objects of an array.
pub(crate) fn elements(value: Value, path: &str) -> Result<Vec<Fields>, RequestError> {
    match value {
        Value::Array(items) => {
            items.into_iter().enumerate().map(|(i, item)| Fields::of(item, format!("{path}[{i}]"))).collect()
        }
        other => Err(wrong(path.to_owned(), "an array", &other)),
    }
}

/// An error that says what was expected and what was found.
pub(crate) fn wrong(path: String, wanted: &str, found: &Value) -> RequestError {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    RequestError { path, message: format!("must be {wanted}, not {found}") }
}

/// The value at the end of a path of field names. What `Value::pointer` finds, without building each name anew: this is
/// asked several times of every event of a stream.
pub(crate) fn at_path<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, name| value.get(name))
}

/// A text that says something.
pub(crate) fn nonempty(value: Option<&Value>) -> Option<String> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A count, also when it is spelled `4096.0` as some clients do.
pub(crate) fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let n = value.as_f64()?;
        // 2^53: beyond it a float no longer counts in ones.
        (n >= 0.0 && n.fract() == 0.0 && n <= 9_007_199_254_740_992.0).then_some(n as u64)
    })
}

/// Tokens that no call comes to. A provider that counts as many cannot count, and a budget that believed it would be spent
/// for as long as it lasts.
pub(crate) const NO_COUNT: u64 = 1 << 28;

/// Whether a value is a number of tokens.
fn is_count(value: &Value) -> bool {
    whole(value).is_some_and(|count| count < NO_COUNT)
}

/// Whether the counts in an answer, or in an event of one, are whole numbers that can be. Where one is not, the others are
/// no better: an estimate takes their place.
pub(crate) fn counts_are_whole(tree: &Value) -> bool {
    let Some(fields) = tree.as_object() else { return true };
    fields.iter().all(|(key, value)| match key.as_str() {
        "usage" | "usageMetadata" => tokens_are_whole(value),
        "prompt_eval_count" | "eval_count" => value.is_null() || is_count(value),
        // Where the counts of the dialects stand.
        "message" | "response" | "delta" | "metadata" | "x_groq" => counts_are_whole(value),
        // Moonshot has them in a choice.
        "choices" => value.as_array().is_none_or(|choices| choices.iter().all(counts_are_whole)),
        _ => true,
    })
}

/// Beside the tokens there are times and costs.
fn tokens_are_whole(counts: &Value) -> bool {
    let Some(counts) = counts.as_object() else { return true };
    counts.iter().all(|(key, value)| match value {
        Value::Number(_) | Value::String(_) => {
            let tokens = ["tokens", "Tokens", "TokenCount"].iter().any(|end| key.ends_with(end));
            !tokens || is_count(value)
        }
        inner => tokens_are_whole(inner),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_path_and_what_was_found() {
        let mut fields = Fields::parse(br#"{"messages":[{"role":1}]}"#).unwrap();
        let mut messages = fields.objects("messages").unwrap().unwrap();
        let error = messages[0].required_string("role").unwrap_err();
        assert_eq!(error.to_string(), "messages[0].role: must be a string, not a number");
    }

    #[test]
    fn a_field_given_twice_is_refused_at_any_depth() {
        for body in [r#"{"max_tokens":1,"max_tokens":9}"#, r#"{"tools":[{"type":"a","type":"b"}]}"#] {
            let Err(error) = Fields::parse(body.as_bytes()) else { panic!("{body} was accepted") };
            assert!(error.message.contains("twice"), "{error}");
        }
    }

    #[test]
    fn a_field_in_another_letter_case_is_refused_and_not_passed_on() {
        let read = |body: &str| {
            let mut fields = Fields::parse(body.as_bytes())?;
            fields.value("tools");
            fields.peek("messages");
            fields.rest().map(|rest| rest.keys().cloned().collect::<Vec<_>>())
        };
        assert_eq!(read(r#"{"tools":1,"messages":2,"Other":3}"#).unwrap(), ["messages", "Other"]);
        for body in [
            r#"{"Tools":1}"#,
            r#"{"TOOLS":1,"tools":2}"#,
            r#"{"tool\u017f":1}"#,
            r#"{"messages":1,"Messages":2}"#,
        ] {
            let error = read(body).expect_err(body);
            assert!(error.message.contains("letter case only"), "{error}");
        }
        assert_eq!(read(r#"{"Tools":null}"#).unwrap(), [""; 0], "what is null is nothing to anybody");
        assert_eq!((folded("Web_\u{212a}ey\u{17f}").as_str(), folded("é")), ("web_keys", "é".to_owned()));
    }

    #[test]
    fn counts_may_be_spelled_as_floats_but_not_as_fractions() {
        assert_eq!(whole(&Value::from(4096.0)), Some(4096));
        assert_eq!(whole(&Value::from(0.5)), None);
        assert_eq!(whole(&Value::from(-1)), None);
    }

    #[test]
    fn counts_are_whole_numbers_and_what_stands_beside_them_may_be_anything() {
        let whole = |text: &str| counts_are_whole(&serde_json::from_str(text).unwrap());
        for sound in [
            r#"{"usage":{"prompt_tokens":20,"completion_tokens":7.0,"cost":0.00014,"queue_time":0.1}}"#,
            r#"{"usage":{"prompt_tokens":null,"cost":{"input_tokens_cost":0.1}},"temperature":-0.5}"#,
            r#"{"message":{"tool_calls":[{"arguments":{"tokens":-1}}]},"eval_count":7}"#,
            r#"[{"usage":{"prompt_tokens":-1}}]"#,
        ] {
            assert!(whole(sound), "{sound}");
        }
        for unsound in [
            r#"{"usage":{"prompt_tokens":-5}}"#,
            r#"{"usage":{"tokens":{"input_tokens":0.5}}}"#,
            r#"{"usageMetadata":{"promptTokenCount":1e300}}"#,
            r#"{"metadata":{"usage":{"inputTokens":99999999999999999999}}}"#,
            r#"{"choices":[{"index":0,"usage":{"prompt_tokens":-5}}]}"#,
            r#"{"type":"message_start","message":{"usage":{"input_tokens":-1}}}"#,
            r#"{"eval_count":-7}"#,
            r#"{"eval_count":"7"}"#,
            r#"{"usage":{"prompt_tokens":20,"completion_tokens":"5000"}}"#,
            r#"{"usage":{"prompt_tokens":20,"completion_tokens":1000000000000000000}}"#,
        ] {
            assert!(!whole(unsound), "{unsound}");
        }
    }
}
