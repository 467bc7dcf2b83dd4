//! The failure matrix: what follows each class of failure, by its place in the plan and by whether the client has heard
//! anything yet. It is made from the same function that decides while calls are made, is written into
//! `docs/failures.md`, and a test drives every cell of it.

use std::fmt::Write as _;
use std::time::Duration;

use orch_manifests::OnError;

use crate::ir::Class;
use crate::route::{Failing, Step, Timing, after};

/// Where the candidate that fails stands in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// There is no other.
    Only,
    /// Another model follows.
    First,
    /// The same model follows with another key, and then another model.
    BeforeAnotherKey,
    /// All before it have failed.
    Last,
}

impl Place {
    /// All of them.
    pub const ALL: [Place; 4] = [Place::Only, Place::First, Place::BeforeAnotherKey, Place::Last];

    /// What the table calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Place::Only => "only",
            Place::First => "another model follows",
            Place::BeforeAnotherKey => "another key follows",
            Place::Last => "last",
        }
    }
}

/// Whether the client has heard anything of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Not yet: somebody else may answer.
    Before,
    /// It has: the stream is this provider's.
    After,
}

/// What becomes of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The same model is asked with another key.
    AnotherKey,
    /// Another model is asked.
    AnotherModel,
    /// The client is told of this failure, whatever else the plan has.
    Refused,
    /// The client is told that all have failed.
    AllFailed,
    /// The stream ends with an error event, and never with an end.
    Broken,
}

/// A cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// How the candidate fails, each time it is asked.
    pub class: Class,
    /// Its place in the plan.
    pub place: Place,
    /// When it fails.
    pub moment: Moment,
    /// Whether the plan says that the next model is asked for what is the request's own doing.
    pub on: OnError,
    /// How often the candidate is asked.
    pub asked: u32,
    /// What becomes of the call then.
    pub then: Then,
}

/// Every cell for a plan that says this of failures that are the request's own doing.
#[must_use]
pub fn cells(on: OnError) -> Vec<Cell> {
    let mut cells = Vec::new();
    for class in Class::ALL {
        for place in Place::ALL {
            let (asked, then) = before(class, place, on);
            cells.push(Cell { class, place, moment: Moment::Before, on, asked, then });
            cells.push(Cell { class, place, moment: Moment::After, on, asked: 1, then: Then::Broken });
        }
    }
    cells
}

fn before(class: Class, place: Place, on: OnError) -> (u32, Then) {
    let alone = matches!(place, Place::Only | Place::Last);
    let mut failing = Failing {
        class,
        retry_after: None,
        tries: 1,
        left: Duration::from_secs(60),
        another_key: place == Place::BeforeAnotherKey,
        last: alone,
        on,
    };
    loop {
        return match after(&failing, 0.5, &Timing::default()) {
            Step::Again(_) => {
                failing.tries += 1;
                continue;
            }
            Step::Stop => (failing.tries, Then::Refused),
            _ if alone => (failing.tries, Then::AllFailed),
            Step::NextKey if place == Place::BeforeAnotherKey => (failing.tries, Then::AnotherKey),
            Step::NextKey | Step::NextModel => (failing.tries, Then::AnotherModel),
        };
    }
}

/// The matrix as a table in Markdown, without limits and waits that a provider asks for.
#[must_use]
pub fn table() -> String {
    let mut text = String::from("| class |");
    for place in Place::ALL {
        let _ = write!(text, " {} |", place.as_str());
    }
    text.push_str(" after the first content |\n|---|");
    text.push_str(&"---|".repeat(Place::ALL.len() + 1));
    text.push('\n');
    let on_next = OnError {
        context_too_long: orch_manifests::After::Next,
        refused_by_filter: orch_manifests::After::Next,
    };
    for class in Class::ALL {
        let _ = write!(text, "| `{}` |", class.as_str());
        for place in Place::ALL {
            let plain = before(class, place, OnError::default());
            let planned = before(class, place, on_next);
            let _ = write!(text, " {}", words(plain));
            if planned != plain {
                let _ = write!(text, "; where the plan says `next`: {}", words(planned));
            }
            text.push_str(" |");
        }
        text.push_str(" the stream ends with an error event |\n");
    }
    text
}

fn words((asked, then): (u32, Then)) -> String {
    let then = match then {
        Then::AnotherKey => "the other key",
        Then::AnotherModel => "the other model",
        Then::Refused => "the client is told",
        Then::AllFailed => "the client is told that all failed",
        Then::Broken => "the stream ends with an error event",
    };
    if asked > 1 { format!("once more, then {then}") } else { then.to_owned() }
}
