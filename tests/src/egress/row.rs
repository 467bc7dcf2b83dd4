//! Rows of the corpus, read strictly: an unknown field is a mistake, not a comment.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::guests::repository;

/// One thing that somebody could ask.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Unique; lower case letters, digits and dashes.
    pub id: String,
    /// The kind of attack, as the security design names it.
    pub kind: String,
    /// Which variation of it.
    pub family: String,
    /// What it is, for a person.
    pub what: String,
    /// Why it must come out as it is expected to.
    pub reason: String,
    /// The policy that it is asked under.
    pub policy: String,
    /// A request that both ways can try.
    #[serde(default)]
    pub request: Option<Request>,
    /// Bytes for the listener; each character is one.
    #[serde(default)]
    pub raw: Option<String>,
    /// Whether the client shuts its side after these bytes.
    #[serde(default)]
    pub end: bool,
    /// Milliseconds between any two of these bytes.
    #[serde(default)]
    pub pace: Option<u64>,
    /// A tunnel, for the listener.
    #[serde(default)]
    pub connect: Option<Tunnel>,
    /// What the name server says about the request's host.
    #[serde(default)]
    pub dns: Option<Answers>,
    /// What must come of it.
    pub expect: Expect,
    /// What is different through a guest.
    #[serde(default)]
    pub guest: Option<Differs>,
    /// What is different through the listener.
    #[serde(default)]
    pub listener: Option<Differs>,
}

/// A request in parts.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Any text.
    pub method: String,
    /// Any text.
    pub scheme: String,
    /// Any text.
    pub authority: String,
    /// Path and query, any text.
    pub path: String,
    /// Names and values, in order.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Text.
    #[serde(default)]
    pub body: String,
}

/// What a client does with CONNECT.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tunnel {
    /// The target of CONNECT.
    pub authority: String,
    /// The name in the ClientHello; absent with `bytes`. `null` sends none.
    #[serde(default, deserialize_with = "present")]
    pub sni: Option<Option<String>>,
    /// How the hello is cut: `bytes` (a packet each), `records` (16 bytes each), `tiny` (records of a byte).
    #[serde(default)]
    pub split: Option<String>,
    /// These bytes instead of a hello.
    #[serde(default)]
    pub bytes: Option<String>,
    /// Only so many bytes of the hello, and then the end.
    #[serde(default)]
    pub cut: Option<usize>,
    /// Whether the client shuts its side after its bytes.
    #[serde(default)]
    pub end: bool,
    /// The request line to send once TLS stands.
    #[serde(default)]
    pub ask: Option<String>,
}

fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// What the name server says, one list after the other, the last one for ever.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// Addresses of IPv4.
    #[serde(default, rename = "A")]
    pub a: Vec<Vec<String>>,
    /// Addresses of IPv6.
    #[serde(default, rename = "AAAA")]
    pub aaaa: Vec<Vec<String>>,
    /// Aliases on the way.
    #[serde(default, rename = "CNAME")]
    pub cname: Vec<String>,
    /// Something else than an answer: a response code, `EMPTY`, `GARBAGE`, `OTHERNAME`.
    #[serde(default)]
    pub says: Option<String>,
    /// Each family may be asked for once.
    #[serde(default)]
    pub once: bool,
    /// The name must never be asked for.
    #[serde(default)]
    pub never: bool,
}

/// What must come of a row. A refusal, or one of the others; where both stand, either will do.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The codes that a refusal may have.
    #[serde(default, deserialize_with = "one_or_many")]
    pub refused: Vec<String>,
    /// Also good: the answer of an upstream that got this.
    #[serde(default, rename = "or")]
    pub or: Option<Box<Expect>>,
    /// The upstream gets exactly this request.
    #[serde(default)]
    pub sees: Option<Seen>,
    /// The upstream gets exactly one request, with this line.
    #[serde(default)]
    pub single: Option<String>,
    /// The request arrives with its placeholders as they are.
    #[serde(default)]
    pub inert: bool,
    /// `clean`: the secret went up, and came back only as a mark. `absent`: it did not come back at all.
    #[serde(default)]
    pub echo: Option<String>,
    /// The upstream's own status comes back.
    #[serde(default)]
    pub answers: Option<u16>,
    /// `refused`: a second message of the connection is.
    #[serde(default)]
    pub then: Option<String>,
    /// A part of the request may have gone up, if the upstream can tell that it is one.
    #[serde(default)]
    pub part: bool,
    /// The upstream may get the request, by the line in `or`, although what comes back is a refusal: of its answer, or of
    /// another message.
    #[serde(default)]
    pub sent: bool,
    /// A trailer that must not go up.
    #[serde(default)]
    pub no_trailer: Option<String>,
    /// For whoever reads the row: who may refuse it.
    #[serde(default)]
    pub any: Option<String>,
}

/// A request as the upstream sees it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The request line.
    pub line: String,
    /// All fields but those about framing.
    pub fields: Vec<(String, String)>,
    /// The body without its transfer coding.
    pub body: String,
}

/// How one way differs.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Differs {
    /// The way cannot express it.
    Cannot {
        /// Why.
        cannot: String,
    },
    /// Something else comes of it.
    Expect(Box<Expect>),
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    match Value::deserialize(from)? {
        Value::String(one) => Ok(vec![one]),
        many => serde_json::from_value(many).map_err(serde::de::Error::custom),
    }
}

/// The two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Through a guest.
    Guest,
    /// Through the listener.
    Listener,
}

impl Row {
    /// What must come of it this way; `None` where it cannot be asked.
    pub fn expected(&self, way: Way) -> Option<&Expect> {
        let differs = match way {
            Way::Guest => &self.guest,
            Way::Listener => &self.listener,
        };
        match differs {
            None => Some(&self.expect),
            Some(Differs::Expect(expect)) => Some(expect),
            Some(Differs::Cannot { .. }) => None,
        }
    }

    /// What makes it another row than the rest.
    pub fn essence(&self) -> String {
        let answers = self.dns.as_ref().filter(|dns| !dns.never);
        match answers {
            // Names of these rows are only numbers.
            Some(dns) => format!("{} {dns:?}", self.policy),
            None => {
                format!(
                    "{} {:?} {:?} {:?} {:?} {}",
                    self.policy, self.request, self.raw, self.pace, self.connect, self.end
                )
            }
        }
    }
}

/// The attacks, by kind and in order.
pub fn attacks() -> Vec<Row> {
    let folder = repository().join("tests/egress/attacks");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files.iter().flat_map(read).collect()
}

/// What must not be refused.
pub fn lookalikes() -> Vec<Row> {
    read(&repository().join("tests/egress/lookalikes.jsonl"))
}

fn read(path: &PathBuf) -> Vec<Row> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let row = |(number, line): (usize, &str)| {
        serde_json::from_str(line).unwrap_or_else(|e| panic!("{}:{}: {e}", path.display(), number + 1))
    };
    text.lines().enumerate().map(row).collect()
}
