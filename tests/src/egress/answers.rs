//! What a proxy answers, taken apart.

use serde_json::Value;

use super::judge::Outcome;

/// The answers on one connection, as their bytes come.
pub struct Answers {
    bytes: Vec<u8>,
    /// Answers have no body, whatever they say of one.
    bodiless: bool,
    ended: bool,
    whole: Vec<Outcome>,
}

impl Answers {
    /// Answers to ordinary requests, or to HEAD.
    pub fn new(head: bool) -> Self {
        Self { bytes: Vec::new(), bodiless: head, ended: false, whole: Vec::new() }
    }

    /// An answer to CONNECT: without a body when there is a tunnel.
    pub fn to_connect() -> Self {
        Self::new(false)
    }

    /// Takes what came; nothing means the end.
    pub fn take(&mut self, piece: &[u8]) {
        self.ended |= piece.is_empty();
        self.bytes.extend_from_slice(piece);
        while let Some((outcome, length)) = parse(&self.bytes, self.bodiless, self.ended) {
            self.whole.push(outcome);
            self.bytes.drain(..length);
        }
    }

    /// Whether no more will come.
    pub fn over(&self) -> bool {
        self.ended
    }

    /// How many are whole.
    pub fn count(&self) -> usize {
        self.whole.len()
    }

    /// What they come to: a connection that ends without a word is a refusal, too.
    pub fn outcomes(mut self) -> Vec<Outcome> {
        if self.whole.is_empty() {
            self.whole.push(Outcome::Refused("closed".into()));
        }
        self.whole
    }
}

/// The first answer, and how many bytes it takes; `None` when it is not whole.
fn parse(bytes: &[u8], bodiless: bool, ended: bool) -> Option<(Outcome, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
    if status == 100 {
        return parse(&bytes[end..], bodiless, ended).map(|(outcome, length)| (outcome, end + length));
    }
    let field = |name: &str| {
        head.lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.trim().to_owned())
    };
    let rest = &bytes[end..];
    let (body, length) = if bodiless || status == 204 || status == 304 {
        (Vec::new(), 0)
    } else if let Some(length) = field("content-length").and_then(|length| length.parse::<usize>().ok()) {
        (rest.get(..length).or(ended.then_some(rest))?.to_vec(), length.min(rest.len()))
    } else if field("transfer-encoding").is_some() {
        match chunks(rest) {
            Some(taken) => taken,
            None if ended => (rest.to_vec(), rest.len()),
            None => return None,
        }
    } else if status == 200 && rest.is_empty() && !ended && field("connection").is_none() {
        // A tunnel.
        (Vec::new(), 0)
    } else if ended {
        (rest.to_vec(), rest.len())
    } else {
        return None;
    };
    let text = String::from_utf8_lossy(&body).into_owned();
    let said: Value = serde_json::from_str(&text).unwrap_or_default();
    let ours =
        matches!(said["error"]["type"].as_str(), Some("egress_denied" | "bad_request" | "egress_failed"));
    let outcome = match said["error"]["code"].as_str().filter(|_| ours) {
        Some(code) => Outcome::Refused(code.to_owned()),
        // Without a body it says no more than that.
        None if bodiless && status >= 400 => Outcome::Refused("denied".into()),
        // A library's own, which gives no reason.
        None if status == 400 && body.is_empty() => Outcome::Refused("without a reason".into()),
        None => Outcome::Answer { status, text: format!("{head}\n{text}") },
    };
    Some((outcome, end + length))
}

/// The content of chunks with their trailers, and how many bytes they take.
fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut at, mut body) = (0, Vec::new());
    let line = |at: usize| {
        let length = bytes.get(at..)?.windows(2).position(|window| window == b"\r\n")?;
        Some((String::from_utf8_lossy(&bytes[at..at + length]).into_owned(), at + length + 2))
    };
    loop {
        let (size, next) = line(at)?;
        let size = usize::from_str_radix(size.split(';').next()?, 16).ok()?;
        at = next;
        if size == 0 {
            break;
        }
        body.extend_from_slice(bytes.get(at..at + size)?);
        at += size + 2;
    }
    loop {
        let (trailer, next) = line(at)?;
        at = next;
        if trailer.is_empty() {
            return Some((body, at));
        }
        body.extend_from_slice(trailer.as_bytes());
    }
}
