//! Files in a message, for a provider of another dialect. They stay as their client sent them until they are written: each dialect
//! has a form of its own for the same bytes.

use std::borrow::Cow;

use data_encoding::BASE64;
use serde_json::Value;

use crate::ir::{ChatRequest, Part};

/// The type of what every dialect with files takes.
const PDF: &str = "application/pdf";

/// A file whose content is in the message.
#[derive(Debug, PartialEq)]
struct Document<'p> {
    /// What it is called, where that is said.
    name: Option<&'p str>,
    media_type: Cow<'p, str>,
    data: Data<'p>,
    /// What else is said of it.
    beside: Vec<(&'p str, &'p Value)>,
}

#[derive(Debug, PartialEq)]
enum Data<'p> {
    Base64(&'p str),
    Text(&'p str),
}

/// What a file can be carried as.
enum Carried<'p> {
    /// Base64 of a PDF.
    Pdf(&'p str),
    /// The words of a file that is nothing but text.
    Text(Cow<'p, str>),
}

/// A PDF whose bytes are in the message.
pub(super) struct Pdf<'p> {
    /// What it is called, where that is said.
    pub(super) name: Option<&'p str>,
    /// Base64.
    pub(super) data: &'p str,
    /// What else is said of it.
    pub(super) beside: Vec<(&'p str, &'p Value)>,
}

impl<'p> Pdf<'p> {
    /// Reads a part of a kind that the intermediate form does not know.
    pub(super) fn of(part: &'p Value) -> Option<Pdf<'p>> {
        let document = Document::of(part)?;
        match document.carried()? {
            Carried::Pdf(data) => Some(Pdf { name: document.name, data, beside: document.beside }),
            Carried::Text(_) => None,
        }
    }

    /// A name of it, where one is wanted.
    pub(super) fn file_name(&self) -> &'p str {
        self.name.unwrap_or("document.pdf")
    }

    /// It as an address, which is how OpenAI has it.
    pub(super) fn url(&self) -> String {
        format!("data:{PDF};base64,{}", self.data)
    }
}

/// Whether a part is a PDF, which some dialects do not have in what a tool answered.
pub(super) fn is_pdf(part: &Part) -> bool {
    matches!(part, Part::Opaque(value) if Pdf::of(value).is_some())
}

/// Writes files that are nothing but text as text, which every dialect has.
pub(crate) fn as_text(request: &mut ChatRequest) {
    let parts = request.messages.iter_mut().map(|message| &mut message.content);
    parts.chain([&mut request.system]).for_each(|parts| words_of(parts));
}

fn words_of(parts: &mut [Part]) {
    for part in parts {
        match part {
            Part::ToolResult(result) => words_of(&mut result.content),
            Part::Opaque(value) => {
                if let Some(text) = titled(value) {
                    *part = text;
                }
            }
            _ => {}
        }
    }
}

/// A file's words under its name.
fn titled(part: &Value) -> Option<Part> {
    let document = Document::of(part)?;
    let Carried::Text(text) = document.carried()? else { return None };
    let text = match document.name {
        Some(name) => format!("{name}:\n\n{text}"),
        None => text.into_owned(),
    };
    let extras = document.beside.iter().map(|(key, value)| ((*key).to_owned(), Value::clone(value)));
    Some(Part::Text { text, extras: extras.collect() })
}

/// Bedrock's names of formats, and the types that they stand for.
const FORMATS: [(&str, &str); 9] = [
    ("pdf", PDF),
    ("txt", "text/plain"),
    ("md", "text/markdown"),
    ("html", "text/html"),
    ("csv", "text/csv"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
];

impl<'p> Document<'p> {
    /// Reads a part of a kind that the intermediate form does not know; `None` of what is no file, or lies elsewhere.
    fn of(part: &'p Value) -> Option<Document<'p>> {
        let text = |holder: &'p Value, key: &str| holder.get(key).and_then(Value::as_str);
        let (name, media_type, data, known): (_, Cow<'p, str>, _, &[&str]) = match text(part, "type") {
            // OpenAI's chat completions.
            Some("file") => {
                let file = part.get("file")?;
                let (media_type, data) = of_url(text(file, "file_data")?)?;
                (text(file, "filename"), media_type.into(), Data::Base64(data), &["type", "file"])
            }
            // Its responses.
            Some("input_file") => {
                let (media_type, data) = of_url(text(part, "file_data")?)?;
                let known = &["type", "file_data", "filename"];
                (text(part, "filename"), media_type.into(), Data::Base64(data), known)
            }
            Some("document") => {
                let source = part.get("source")?;
                let data = text(source, "data")?;
                let media_type = text(source, "media_type");
                let (media_type, data) = match text(source, "type")? {
                    "base64" => (media_type?, Data::Base64(data)),
                    "text" => (media_type.unwrap_or("text/plain"), Data::Text(data)),
                    _ => return None,
                };
                (text(part, "title"), media_type.into(), data, &["type", "source", "title"])
            }
            Some(_) => return None,
            None => {
                let inline = part.get("inlineData").or_else(|| part.get("inline_data"));
                match (inline, part.get("document")) {
                    (Some(inline), _) => {
                        let media_type = text(inline, "mimeType").or_else(|| text(inline, "mime_type"))?;
                        let name = text(inline, "displayName");
                        let data = Data::Base64(text(inline, "data")?);
                        (name, media_type.into(), data, &["inlineData", "inline_data"])
                    }
                    (None, Some(document)) => {
                        let format = text(document, "format")?;
                        let (_, media_type) = FORMATS.iter().find(|(name, _)| *name == format)?;
                        let source = document.get("source")?;
                        let data = match (text(source, "bytes"), text(source, "text")) {
                            (Some(bytes), _) => Data::Base64(bytes),
                            (None, Some(text)) => Data::Text(text),
                            (None, None) => return None,
                        };
                        (text(document, "name"), (*media_type).into(), data, &["document"])
                    }
                    (None, None) => return None,
                }
            }
        };
        let beside = part.as_object()?.iter().map(|(key, value)| (key.as_str(), value));
        let beside = beside.filter(|(key, value)| !known.contains(key) && !value.is_null()).collect();
        Some(Document { name, media_type, data, beside })
    }

    /// What it can be written as; `None` of what is neither text nor a PDF.
    fn carried(&self) -> Option<Carried<'p>> {
        match self.data {
            Data::Text(text) => Some(Carried::Text(Cow::Borrowed(text))),
            Data::Base64(data) if self.media_type.eq_ignore_ascii_case(PDF) => Some(Carried::Pdf(data)),
            Data::Base64(data)
                if self.media_type.get(..5).is_some_and(|kind| kind.eq_ignore_ascii_case("text/")) =>
            {
                let bytes = BASE64.decode(data.as_bytes()).ok()?;
                String::from_utf8(bytes).ok().map(|text| Carried::Text(Cow::Owned(text)))
            }
            Data::Base64(_) => None,
        }
    }
}

/// The type and the base64 text of a data URL.
fn of_url(url: &str) -> Option<(&str, &str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    Some((head.strip_suffix(";base64")?, data))
}

/// Whether a part of a kind that the intermediate form does not know is a file, a sound or a film, which a model that is not
/// given it would answer without.
fn is_file(part: &Value) -> bool {
    const KINDS: [&str; 9] = [
        "file",
        "input_file",
        "input_audio",
        "audio_url",
        "video_url",
        "input_video",
        "document",
        "document_url",
        "image",
    ];
    const KEYS: [&str; 8] =
        ["inlineData", "inline_data", "fileData", "file_data", "document", "video", "audio", "image"];
    match part.get("type").and_then(Value::as_str) {
        Some(kind) => KINDS.contains(&kind) || kind == "input_image",
        None => KEYS.iter().any(|key| part.get(key).is_some_and(Value::is_object)),
    }
}

/// Whether a part is a file that a provider of another dialect cannot be given. `files`: whether it takes any.
pub(crate) fn cannot_be_carried(part: &Value, files: bool) -> bool {
    is_file(part)
        && match Document::of(part).and_then(|document| document.carried()) {
            None => true,
            Some(Carried::Text(_)) => false,
            Some(Carried::Pdf(_)) => !files,
        }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_dialect_s_files_are_known() {
        let pdf =
            |name| Document { name, media_type: PDF.into(), data: Data::Base64("AAAA"), beside: Vec::new() };
        let url = "data:application/pdf;base64,AAAA";
        for (part, name) in [
            (json!({ "type": "file", "file": { "filename": "a.pdf", "file_data": url } }), Some("a.pdf")),
            (json!({ "type": "input_file", "filename": "a.pdf", "file_data": url }), Some("a.pdf")),
            (
                json!({ "type": "document", "title": "a.pdf", "source": { "type": "base64", "media_type": PDF, "data": "AAAA" } }),
                Some("a.pdf"),
            ),
            (json!({ "inlineData": { "mimeType": PDF, "data": "AAAA" } }), None),
            (
                json!({ "document": { "format": "pdf", "name": "a.pdf", "source": { "bytes": "AAAA" } } }),
                Some("a.pdf"),
            ),
        ] {
            assert_eq!(Document::of(&part), Some(pdf(name)), "{part}");
            assert!(cannot_be_carried(&part, false), "{part}");
            assert!(!cannot_be_carried(&part, true), "{part}");
        }
    }

    #[test]
    fn what_lies_elsewhere_or_is_neither_text_nor_a_pdf_is_not_carried() {
        for part in [
            json!({ "type": "file", "file": { "file_id": "file-1" } }),
            json!({ "type": "input_file", "file_url": "https://x.example/a.pdf" }),
            json!({ "type": "input_audio", "input_audio": { "data": "AAAA", "format": "wav" } }),
            json!({ "type": "document", "source": { "type": "url", "url": "https://x.example/a.pdf" } }),
            json!({ "inlineData": { "mimeType": "audio/wav", "data": "AAAA" } }),
            json!({ "fileData": { "fileUri": "gs://b/a" } }),
            json!({ "document": { "format": "docx", "name": "a", "source": { "bytes": "AAAA" } } }),
            json!({ "video": { "format": "mp4", "source": { "bytes": "AAAA" } } }),
            json!({ "type": "image", "source": { "type": "file", "file_id": "f" } }),
        ] {
            assert!(cannot_be_carried(&part, true), "{part}");
        }
        for part in [
            json!({ "type": "search_result" }),
            json!({ "type": "redacted_thinking", "data": "x" }),
            json!({ "guardContent": {} }),
        ] {
            assert!(!cannot_be_carried(&part, false), "{part}");
        }
        let text = json!({ "document": { "format": "md", "name": "a", "source": { "bytes": "IyBh" } } });
        let Some(Carried::Text(words)) = Document::of(&text).and_then(|document| document.carried()) else {
            unreachable!("markdown is text")
        };
        assert_eq!(words, "# a");
        assert!(!cannot_be_carried(&text, false));
    }
}
