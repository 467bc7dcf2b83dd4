//! Whether what came of a row is what had to.

use super::ground::SECRETS;
use super::row::{Expect, Row, Seen, Way};
use crate::needle::Needle;
use crate::wire::Received;

/// What stands where a secret stood.
const MARK: &str = "[secret removed by orch]";
/// How placeholders begin.
const PLACEHOLDER: &[u8] = b"orch_ph_";
/// The field by which a request is known again.
pub const ROW_FIELD: &str = "x-row";

/// What a client got.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A refusal, by its code.
    Refused(String),
    /// The answer of an upstream.
    Answer {
        /// Its status.
        status: u16,
        /// Its fields, body and trailers, as far as they came.
        text: String,
    },
}

/// One row that came out wrong.
pub struct Wrong {
    row: String,
    what: String,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.row, self.what)
    }
}

/// Judges every row that goes this way: outcomes are in the rows' order.
pub fn judge(way: Way, rows: &[&Row], outcomes: &[Vec<Outcome>], received: &[Received]) -> Vec<Wrong> {
    assert_eq!(rows.len(), outcomes.len(), "one outcome for each row");
    let needles: Vec<Needle> = SECRETS.iter().map(|(_, value)| Needle::new(value)).collect();
    let mut wrong: Vec<Wrong> = received
        .iter()
        .filter(|request| id(request).is_none_or(|id| !rows.iter().any(|row| row.id == id)))
        .map(|request| Wrong { row: "nobody's".into(), what: format!("an upstream got\n{request:?}") })
        .collect();
    for (row, outcomes) in rows.iter().zip(outcomes) {
        let expect = row.expected(way).expect("only rows that go this way are run");
        let own: Vec<&Received> = received.iter().filter(|r| id(r).as_deref() == Some(&row.id)).collect();
        let mut case = Case { row, expect, own: &own, needles: &needles };
        if let Err(what) = case.judge(outcomes) {
            let what = format!("{what}\n    {}\n    {} because {}", shown(outcomes), row.what, row.reason);
            wrong.push(Wrong { row: row.id.clone(), what });
        }
    }
    wrong
}

fn shown(outcomes: &[Outcome]) -> String {
    let text = format!("{outcomes:?}");
    text.chars().take(600).collect()
}

fn id(request: &Received) -> Option<String> {
    request
        .headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(ROW_FIELD))
        .map(|(_, value)| value.clone())
}

struct Case<'a> {
    row: &'a Row,
    expect: &'a Expect,
    own: &'a [&'a Received],
    needles: &'a [Needle],
}

impl Case<'_> {
    fn judge(&mut self, outcomes: &[Outcome]) -> Result<(), String> {
        let first = outcomes.first().ok_or("nothing came of it")?;
        if let (Some(then), 2..) = (&self.expect.then, outcomes.len()) {
            let second = &outcomes[1];
            if then != "refused" || !matches!(second, Outcome::Refused(_)) {
                return Err(format!("the second message was not refused: {second:?}"));
            }
        }
        match first {
            Outcome::Refused(code) => self.refused(code),
            Outcome::Answer { status, text } => {
                let expect = self.expect.or.as_deref().unwrap_or(self.expect);
                let positive = expect.sees.is_some()
                    || expect.single.is_some()
                    || expect.inert
                    || expect.echo.is_some()
                    || expect.answers.is_some();
                if !positive {
                    return Err("it was answered and had to be refused".into());
                }
                self.answered(expect, *status, text)
            }
        }
    }

    fn refused(&self, code: &str) -> Result<(), String> {
        if !self.expect.refused.iter().any(|good| good == code) {
            return Err(format!("it was refused as {code}, and not as {:?}", self.expect.refused));
        }
        // What breaks off is a fault at the upstream and no request.
        match self.own {
            [] => Ok(()),
            [request] if self.expect.sent => {
                let line = self.expect.or.as_ref().and_then(|or| or.single.as_deref());
                match line.is_none_or(|line| line == line_of(request)) {
                    true => Ok(()),
                    false => Err(format!("an upstream got another request:\n{request:?}")),
                }
            }
            [whole, ..] => Err(format!("it was refused, and yet an upstream got\n{whole:?}")),
        }
    }

    fn answered(&self, expect: &Expect, status: u16, text: &str) -> Result<(), String> {
        let [request] = self.own else {
            return Err(format!("an upstream got {} requests: {:?}", self.own.len(), self.own));
        };
        if let Some(seen) = &expect.sees {
            same(seen, request)?;
        }
        if let Some(line) = &expect.single {
            let got = line_of(request);
            if got != *line {
                return Err(format!("the request line is {got:?} and not {line:?}"));
            }
        }
        if let Some(name) = &self.expect.no_trailer
            && request.trailers.iter().any(|line| line.to_ascii_lowercase().starts_with(name.as_str()))
        {
            return Err(format!("the trailer {name} went up"));
        }
        if expect.answers.is_some_and(|wanted| wanted != status) {
            return Err(format!("the status is {status}"));
        }
        if expect.inert {
            self.inert(request)?;
        }
        match expect.echo.as_deref() {
            Some(kind) => self.came_back_clean(kind, text),
            None => Ok(()),
        }
    }

    fn inert(&self, request: &Received) -> Result<(), String> {
        if self.needles.iter().any(|needle| !in_request(needle, request).is_empty()) {
            return Err(format!("a secret went up:\n{request:?}"));
        }
        let holds = |bytes: &[u8]| bytes.windows(PLACEHOLDER.len()).any(|window| window == PLACEHOLDER);
        if holds(&request.head) || holds(&request.body) {
            Ok(())
        } else {
            Err(format!("the placeholder did not arrive:\n{request:?}"))
        }
    }

    fn came_back_clean(&self, kind: &str, text: &str) -> Result<(), String> {
        let form = self.row.request.as_ref().and_then(|request| request.path.split('/').nth(2));
        for ((name, value), needle) in SECRETS.iter().zip(self.needles) {
            let spelled =
                form.filter(|form| !form.starts_with("base64")).map(|form| super::fill::spelled(value, form));
            let hits = needle.in_bytes("the answer", text.as_bytes());
            if !hits.is_empty()
                || text.contains(value)
                || spelled.is_some_and(|spelled| text.contains(&spelled))
            {
                return Err(format!("{name} came back: {hits:?}"));
            }
        }
        match kind {
            "clean" if !text.contains(MARK) => {
                Err("nothing was taken out: did the secret go up at all?".into())
            }
            "clean" | "absent" => Ok(()),
            other => Err(format!("an echo is not {other}")),
        }
    }
}

fn in_request(needle: &Needle, request: &Received) -> Vec<crate::needle::Hit> {
    let mut hits = needle.in_bytes("the head", &request.head);
    hits.extend(needle.in_bytes("the body", &request.body));
    hits
}

fn line_of(request: &Received) -> String {
    let target = match &request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path.clone(),
    };
    format!("{} {target} HTTP/1.1", request.method)
}

/// What the listener says of itself, under a name that no row can know.
fn passed_here(name: &str, value: &str) -> bool {
    let pseudonym = value.strip_prefix("1.1 orch-").filter(|_| name == "via");
    pseudonym.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn same(seen: &Seen, request: &Received) -> Result<(), String> {
    let framing = ["content-length", "transfer-encoding", ROW_FIELD];
    let mut fields: Vec<(String, String)> = request
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .filter(|(name, value)| !framing.contains(&name.as_str()) && !passed_here(name, value))
        .collect();
    fields.sort();
    let known = |name: &str| {
        let secret = name.strip_prefix("percent:")?;
        let (_, value) = SECRETS.iter().find(|(known, _)| *known == secret)?;
        Some(super::fill::spelled(value, "percent"))
    };
    let (body, line) = (super::fill::fill(&seen.body, &known), super::fill::fill(&seen.line, &known));
    let got = line_of(request);
    if got != line {
        Err(format!("the request line is {got:?} and not {line:?}"))
    } else if fields != seen.fields {
        Err(format!("the fields are {fields:?} and not {:?}", seen.fields))
    } else if request.body != super::fill::bytes(&body) {
        Err(format!("the body is {:?}", String::from_utf8_lossy(&request.body)))
    } else {
        Ok(())
    }
}

/// Fails with the list unless nothing is wrong.
#[track_caller]
pub fn none(way: Way, wrong: &[Wrong]) {
    let list: String = wrong.iter().map(|wrong| format!("  {wrong}\n")).collect();
    assert!(wrong.is_empty(), "{} rows came out wrong through the {way:?}:\n{list}", wrong.len());
}
