//! What a model's provider may do by itself for whoever asks it: reach out, run code, read and write its account.
//!
//! Each kind is a way around the egress policy of a run, since whatever the model was told can leave in it, or a way
//! to what others of the same account have stored. So each is asked for by a manifest, and granted, by itself.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

/// One kind of what a provider does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ServerTool {
    /// It searches: the web, places, what it knows of the news.
    Search = 1,
    /// It fetches pages that the model names.
    Fetch = 2,
    /// It calls remote tool servers (MCP), and what it calls connectors.
    Mcp = 4,
    /// It runs what the model wrote, and tools of its own, in its own sandbox.
    Code = 8,
    /// It fetches images, documents and films that the request names by address.
    ImageUrl = 16,
    /// It reads and writes what is stored in the account of the key, by id: files, answers, conversations, prompts.
    Stored = 32,
}

impl ServerTool {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Search, Self::Fetch, Self::Mcp, Self::Code, Self::ImageUrl, Self::Stored];

    /// The word for it in manifests, flags and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Fetch => "fetch",
            Self::Mcp => "mcp",
            Self::Code => "code",
            Self::ImageUrl => "image_url",
            Self::Stored => "stored",
        }
    }

    /// What it comes to, as the end of a sentence that begins with `let model providers`.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Search => "search the web",
            Self::Fetch => "fetch pages",
            Self::Mcp => "call remote tool servers",
            Self::Code => "run code and tools of their own",
            Self::ImageUrl => "fetch images and files by address",
            Self::Stored => "read and write what is stored in the key's account",
        }
    }
}

impl fmt::Display for ServerTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no kind of server tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a kind of server tool: they are search, fetch, mcp, code, image_url and stored")]
pub struct UnknownServerTool;

impl FromStr for ServerTool {
    type Err = UnknownServerTool;

    fn from_str(word: &str) -> Result<Self, UnknownServerTool> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or(UnknownServerTool)
    }
}

/// A set of kinds. The default has none.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct ServerTools(u8);

impl ServerTools {
    /// None at all.
    pub const NONE: Self = Self(0);

    /// Every kind, those that nobody knows yet included: what is not known needs all that are.
    pub const ALL: Self = Self(63);

    /// Whether this kind is one of them.
    #[must_use]
    pub fn contains(self, kind: ServerTool) -> bool {
        self.0 & kind as u8 != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those that are here and not there.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those that are here or there.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Each of them, in the order of [`ServerTool::ALL`].
    pub fn iter(self) -> impl Iterator<Item = ServerTool> {
        ServerTool::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl From<ServerTool> for ServerTools {
    fn from(kind: ServerTool) -> Self {
        Self(kind as u8)
    }
}

impl FromIterator<ServerTool> for ServerTools {
    fn from_iter<I: IntoIterator<Item = ServerTool>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | kind as u8))
    }
}

impl fmt::Display for ServerTools {
    /// The words, with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, kind) in self.iter().enumerate() {
            write!(f, "{}{kind}", if at > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for ServerTools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for ServerTools {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for kind in self.iter() {
            list.serialize_element(kind.as_str())?;
        }
        list.end()
    }
}

impl JsonSchema for ServerTools {
    fn schema_name() -> Cow<'static, str> {
        "ServerTools".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words = ServerTool::ALL.map(ServerTool::as_str);
        json_schema!({ "type": "array", "items": { "enum": words }, "minItems": 1, "uniqueItems": true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_into_it() {
        for kind in ServerTool::ALL {
            let one = ServerTools::from(kind);
            assert_eq!(one.iter().collect::<Vec<_>>(), [kind]);
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert!(ServerTools::ALL.contains(kind) && !ServerTools::NONE.contains(kind));
            assert!(!ServerTools::ALL.without(one).contains(kind));
        }
        let some: ServerTools = [ServerTool::Stored, ServerTool::Search].into_iter().collect();
        assert_eq!(some.to_string(), "search, stored");
        assert_eq!(some.and(ServerTool::Code.into()).to_string(), "search, code, stored");
        assert_eq!(serde_json::to_string(&some).expect("JSON"), r#"["search","stored"]"#);
        let all: ServerTools = ServerTool::ALL.into_iter().collect();
        assert_eq!(all, ServerTools::ALL);
        assert_eq!("Search".parse::<ServerTool>(), Err(UnknownServerTool));
    }
}
