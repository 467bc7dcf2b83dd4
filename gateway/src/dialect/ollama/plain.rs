//! A line of text alone.

use std::borrow::Cow;

use serde::Deserialize;

use super::super::plain::{Object, Scalar, read};
use super::super::template::{Changing, Plain};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "what says nothing is listed so that anything else is noticed")]
struct Line<'d> {
    #[serde(borrow)]
    message: Object<Message<'d>>,
    done: bool,
    model: Option<Scalar>,
    #[serde(borrow)]
    created_at: Option<Changing<'d>>,
    remote_model: Option<Scalar>,
    remote_host: Option<Scalar>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as above")]
struct Message<'d> {
    #[serde(borrow)]
    content: Cow<'d, str>,
    role: Option<Scalar>,
}

/// The text, where the line has nothing else.
pub(super) fn text(data: &str) -> Option<Plain<'_, ()>> {
    let Line { message: Object(message), done, created_at, .. } = read(data)?;
    let says = !done && !message.content.is_empty();
    says.then_some(Plain { text: message.content, place: (), changing: [created_at, None] })
}
