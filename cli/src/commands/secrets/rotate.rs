//! `orch secrets rotate`: another value in the place of one.

use orch_server::Failure;
use orch_server::secrets::secret_name;
use orch_vault::Rotation;
use serde::Deserialize;

use super::Keeping;
use super::proof::{arrived, asks_there, proven, say_heard};
use super::row::Row;
use super::said::read_value;
use crate::args::RotateArgs;
use crate::moment;
use crate::printer::Printer;
use crate::wire::{Installation, broken_pipe};

#[derive(Deserialize)]
struct Rotated {
    #[serde(flatten)]
    secret: Row,
    /// The runs that use it; none where nobody follows them.
    #[serde(default)]
    under_way: Option<Vec<String>>,
}

pub(super) fn run<'a>(
    here: &'a Installation,
    find: impl FnOnce() -> Result<Keeping<'a>, Failure>,
    args: &RotateArgs,
    printer: Printer,
) -> Result<(), Failure> {
    let name = secret_name(&args.name, &here.catalog)?;
    let expires = args.expires.as_deref().map(moment::from_now).transpose()?;
    let value = read_value(here, ("rotate", &name), &args.value, printer)?;
    let keeping = find()?;
    let value = arrived(here, &name, value, printer)?;
    let check = proven(here, &keeping, (&name, &value), &args.proof, printer)?;
    let rotation = Rotation { value, expires, scrubbable: !args.value.allow_short };
    let mut answer = keeping.rotate(&name, rotation, asks_there(here, &keeping, &args.proof))?;
    if let Some(check) = check {
        answer["check"] = check;
    }
    if printer.json() {
        return printer.result_json(&answer).or_else(broken_pipe);
    }
    say_heard(&keeping, &answer, printer);
    let Rotated { secret, under_way } = keeping.typed("POST /v1/secrets/{name}/rotate", answer)?;
    printer.note(&format!("{name} has a new value, version {}{}", secret.version, keeping.elsewhere()));
    printer.note(&match under_way.as_deref() {
        None => "the next run uses it; runs under way on this machine keep what they read".to_owned(),
        Some([]) => "no run under way uses it; clients and runs get the new value from their next request on"
            .to_owned(),
        Some([_]) => "1 run under way uses it, and gets the new value from its next request on".to_owned(),
        Some(runs) => {
            format!("{} runs under way use it, and get the new value from their next request on", runs.len())
        }
    });
    if let Some(at) = &secret.expires {
        printer.note(&format!("it expires {at}"));
    }
    if !secret.scrubbable {
        printer.warn(&format!("{name} is too short to be cleaned out of responses"));
    }
    Ok(())
}
