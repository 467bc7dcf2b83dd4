//! What a request says of whose key is to serve it: two headers, and an object in the body that is taken out of it.

use bytes::Bytes;
use http::HeaderMap;
use http::header::HeaderName;
use memchr::memmem;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::dialect::RequestError;
use crate::edit::Document;

const USE: HeaderName = HeaderName::from_static("x-use-byok");
const PROVIDER: HeaderName = HeaderName::from_static("x-byok-provider");
/// The object in the body.
const FIELD: &str = "byok";
/// Bytes of a provider's name, as far as anybody has a longer one.
const LONGEST_NAME: usize = 64;

/// What a request says of its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ask {
    enabled: Option<Said<bool>>,
    provider: Option<Said<String>>,
    fallbacks: Option<bool>,
}

/// What was said, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said<T> {
    value: T,
    field: &'static str,
}

impl Ask {
    /// What a request says that asks for a key of its own and no more.
    pub(crate) fn for_own() -> Self {
        Self { enabled: Some(Said { value: true, field: "x-use-byok" }), ..Self::default() }
    }

    /// Whether it says nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Ask::default()
    }

    /// Whether it asks for a key of its own, or wants none of those; `None` when it says nothing of that. Whoever names a
    /// provider asks.
    pub(crate) fn enabled(&self) -> Option<bool> {
        match (&self.enabled, &self.provider) {
            (Some(said), _) => Some(said.value),
            (None, Some(_)) => Some(true),
            (None, None) => None,
        }
    }

    /// The provider that it insists on, and where it says so.
    pub(crate) fn provider(&self) -> Option<(&'static str, &str)> {
        self.provider.as_ref().map(|said| (said.field, said.value.as_str()))
    }

    /// Whether it wants another key to be tried after one that failed.
    pub(crate) fn falls_back(&self) -> bool {
        self.fallbacks == Some(true)
    }

    /// Whether it wants the key that comes first and, in so many words, nothing else: no other key, and no other model.
    pub(crate) fn is_strict(&self) -> bool {
        self.fallbacks == Some(false)
    }

    /// The field to change when what it asks cannot be.
    pub(crate) fn field(&self) -> &'static str {
        match (&self.enabled, &self.provider) {
            (Some(said), _) => said.field,
            (None, Some(said)) => said.field,
            (None, None) => FIELD,
        }
    }

    /// What headers and body say, and the body without that.
    ///
    /// # Errors
    /// What is said is not what it has to be, or contradicts itself. A body that is no JSON object is for others to refuse.
    pub(crate) fn read(headers: &HeaderMap, body: Bytes) -> Result<(Ask, Bytes), RequestError> {
        let mut ask = Ask::of_headers(headers)?;
        // Most bodies have nothing to take out, and stay as they were written.
        if memmem::find(&body, b"\"byok\"").is_none() {
            return Ok((ask, body));
        }
        let Ok(mut document) = Document::parse(&body) else { return Ok((ask, body)) };
        let said = document.take(FIELD);
        let first = match said.as_slice() {
            [one] => one,
            // It stands somewhere further in, where it is the client's own.
            [] => return Ok((ask, body)),
            _ => return Err(wrong(FIELD, "is there twice")),
        };
        ask.add_body(first)?;
        let body = document.to_bytes().map_err(|_| wrong(FIELD, "could not be taken out of the body"))?;
        Ok((ask, body))
    }

    fn of_headers(headers: &HeaderMap) -> Result<Ask, RequestError> {
        let mut ask = Ask::default();
        if let Some(text) = one(headers, &USE)? {
            let value = match text {
                text if text.eq_ignore_ascii_case("true") || text == "1" => true,
                text if text.eq_ignore_ascii_case("false") || text == "0" => false,
                _ => return Err(wrong(USE.as_str(), "is true or false")),
            };
            ask.enabled = Some(Said { value, field: "x-use-byok" });
        }
        if let Some(name) = one(headers, &PROVIDER)? {
            ask.provider = Some(Said { value: named("x-byok-provider", name)?, field: "x-byok-provider" });
        }
        ask.agrees()?;
        Ok(ask)
    }

    fn add_body(&mut self, raw: &RawValue) -> Result<(), RequestError> {
        const ENABLED: &str = "byok.enabled";
        const PROVIDER: &str = "byok.provider";
        const FALLBACKS: &str = "byok.disableFallbacks";
        let mut fields = Document::parse(raw.get().as_bytes()).map_err(|_| {
            wrong(FIELD, "is an object such as {\"enabled\": true, \"provider\": \"openai\"}")
        })?;
        if let Some(value) = taken::<bool>(&mut fields, &["enabled"], ENABLED, "is true or false")? {
            same(self.enabled.as_ref(), &value, ENABLED)?;
            self.enabled = Some(Said { value, field: ENABLED });
        }
        if let Some(name) = taken::<String>(&mut fields, &["provider"], PROVIDER, "is a provider's name")? {
            let value = named(PROVIDER, &name)?;
            same(self.provider.as_ref(), &value, PROVIDER)?;
            self.provider = Some(Said { value, field: PROVIDER });
        }
        let spellings = ["disableFallbacks", "disable_fallbacks"];
        if let Some(disabled) = taken::<bool>(&mut fields, &spellings, FALLBACKS, "is true or false")? {
            self.fallbacks = Some(!disabled);
        }
        if !fields.is_empty() {
            let fields = "has the fields enabled, provider and disableFallbacks, and no others";
            return Err(wrong(FIELD, fields));
        }
        self.agrees()
    }

    /// Whoever wants no key of their own names no provider of one.
    fn agrees(&self) -> Result<(), RequestError> {
        match (&self.enabled, &self.provider) {
            (Some(Said { value: false, field }), Some(provider)) => {
                Err(wrong(provider.field, &format!("names a provider, and {field} is false")))
            }
            _ => Ok(()),
        }
    }
}

/// Takes out the one value of a field that goes by these names.
fn taken<T: DeserializeOwned>(
    fields: &mut Document,
    names: &[&str],
    path: &str,
    is: &str,
) -> Result<Option<T>, RequestError> {
    let mut said: Vec<Box<RawValue>> = names.iter().flat_map(|name| fields.take(name)).collect();
    let Some(value) = said.pop() else { return Ok(None) };
    if !said.is_empty() {
        return Err(wrong(path, "is there twice"));
    }
    serde_json::from_str(value.get()).map(Some).map_err(|_| wrong(path, is))
}

/// The one value of a header.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, RequestError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(wrong(name.as_str(), "is there twice"));
    }
    let text = value.to_str().map_err(|_| wrong(name.as_str(), "is not text"))?;
    Ok(Some(text.trim()))
}

fn named(field: &'static str, name: &str) -> Result<String, RequestError> {
    match (1..=LONGEST_NAME).contains(&name.len()) {
        true => Ok(name.to_ascii_lowercase()),
        false => Err(wrong(field, "is a provider's name, such as openai")),
    }
}

fn same<T: PartialEq>(before: Option<&Said<T>>, value: &T, here: &str) -> Result<(), RequestError> {
    match before {
        Some(before) if before.value != *value => {
            Err(wrong(here, &format!("says something else than {}", before.field)))
        }
        _ => Ok(()),
    }
}

fn wrong(path: &str, message: &str) -> RequestError {
    RequestError { path: path.to_owned(), message: message.to_owned() }
}
