//! What a request asks, whatever the dialect, and whether it makes sense.

use serde_json::Value;

/// What a request asks.
#[derive(Debug, Default)]
pub struct Asked {
    /// What the user said last.
    pub prompt: String,
    /// The functions that may be called.
    pub tools: Vec<Tool>,
    /// What they answered in the last turn, by name, in the order of the calls.
    pub results: Vec<(String, String)>,
    /// What the answer has to keep to.
    pub schema: Option<Value>,
    /// Pictures of the last turn.
    pub images: Vec<Vec<u8>>,
    /// Whether the model is to think first.
    pub thinks: bool,
    /// Whether it then shows what it thought.
    pub aloud: bool,
    /// Whether the answer is wanted as a stream.
    pub stream: bool,
}

/// A function that may be called.
#[derive(Debug)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// The schema of its arguments.
    pub parameters: Value,
}

impl Asked {
    /// The same, if it is what the tests of client libraries mean to send.
    ///
    /// # Errors
    /// What has got lost on the way.
    pub(super) fn judged(self) -> Result<Asked, String> {
        for tool in &self.tools {
            let of = |name: &str| tool.parameters["properties"][name]["type"].as_str().unwrap_or_default();
            let whole = match tool.name.as_str() {
                "forecast" => {
                    of("city").eq_ignore_ascii_case("string")
                        && of("days").eq_ignore_ascii_case("integer")
                        && tool.parameters["required"] == serde_json::json!(["city"])
                }
                "clock" => {
                    tool.parameters["type"].as_str().is_some_and(|kind| kind.eq_ignore_ascii_case("object"))
                }
                other => return Err(format!("tools: nobody offers {other:?}")),
            };
            if !whole {
                return Err(format!(
                    "tools: the schema of {:?} is not whole: {}",
                    tool.name, tool.parameters
                ));
            }
        }
        if let Some(schema) = &self.schema
            && !schema["properties"]["answer"].is_object()
        {
            return Err(format!("the schema is not whole: {schema}"));
        }
        Ok(self)
    }

    /// More of what the user says in this turn.
    pub(super) fn hear(&mut self, text: &str) {
        if !self.prompt.is_empty() {
            self.prompt.push(' ');
        }
        self.prompt.push_str(text);
    }

    /// A turn of the user begins.
    pub(super) fn turn(&mut self) {
        self.prompt.clear();
        self.images.clear();
    }

    /// A picture, as base64 of a PNG.
    pub(super) fn see(&mut self, media_type: &str, data: &str) -> Result<(), String> {
        let bytes =
            data_encoding::BASE64.decode(data.as_bytes()).map_err(|e| format!("image: no base64: {e}"))?;
        if media_type != "image/png" || !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            return Err(format!("image: this is no {media_type}"));
        }
        self.images.push(bytes);
        Ok(())
    }

    /// The same as a data URL.
    pub(super) fn see_url(&mut self, url: &str) -> Result<(), String> {
        let (media_type, data) = url
            .strip_prefix("data:")
            .and_then(|rest| rest.split_once(";base64,"))
            .ok_or_else(|| format!("image: {url:?} would have to be fetched"))?;
        self.see(media_type, data)
    }
}

/// The calls of the last turn that had any, each of which wants its result before anything else is said.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: Vec<(String, String, Option<String>)>,
}

impl Calls {
    /// A call.
    pub(super) fn call(&mut self, id: &str, name: &str) -> Result<(), String> {
        if self.calls.iter().all(|(.., result)| result.is_some()) {
            self.calls.clear();
        }
        if id.is_empty() || name.is_empty() {
            return Err("a call needs an id and a name".into());
        }
        if self.calls.iter().any(|(other, ..)| other == id) {
            return Err(format!("two calls have the id {id:?}"));
        }
        self.calls.push((id.to_owned(), name.to_owned(), None));
        Ok(())
    }

    /// What a call came to.
    pub(super) fn result(&mut self, id: &str, text: &str) -> Result<(), String> {
        let call = self.calls.iter_mut().find(|(other, _, result)| other == id && result.is_none());
        let call = call.ok_or_else(|| format!("a result belongs to no call: {id:?}"))?;
        call.2 = Some(text.to_owned());
        Ok(())
    }

    /// Something else is said.
    pub(super) fn over(&mut self) -> Result<(), String> {
        let open = self.calls.iter().find(|(.., result)| result.is_none());
        if let Some((id, name, _)) = open {
            return Err(format!("the call {id:?} of {name} has no result"));
        }
        self.calls.clear();
        Ok(())
    }

    /// The results, if they are the last that was said.
    pub(super) fn results(self) -> Result<Vec<(String, String)>, String> {
        let each = self.calls.into_iter().map(|(id, name, result)| {
            result.map(|text| (name, text)).ok_or_else(|| format!("the call {id:?} has no result"))
        });
        each.collect()
    }
}

/// The parts of a content that may be a text by itself; a text is one part.
pub(super) fn parts(content: &Value) -> Vec<Value> {
    match content {
        Value::Array(parts) => parts.clone(),
        Value::String(text) => vec![serde_json::json!({ "type": "text", "text": text })],
        _ => Vec::new(),
    }
}

/// Text in a content, whatever else is there.
pub(super) fn text(content: &Value) -> String {
    parts(content).iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" ")
}
