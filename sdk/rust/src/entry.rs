//! The program around an agent: JSON in, JSON out, errors on stderr, and the exit status.

use std::io::{Read, Write};
use std::process::ExitCode;

use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, Result};

/// Runs an agent: reads its input from stdin, awaits it, writes its output to stdout as one line of JSON.
///
/// Returns what `main` should return: success, or status 1 after the error was written to stderr. stdout stays
/// empty when the agent fails. Panics become a trap, which `orch` reports as the agent's failure.
#[cfg(target_family = "wasm")]
pub fn run<I, O, F>(agent: impl FnOnce(I) -> F) -> ExitCode
where
    I: DeserializeOwned,
    O: Serialize,
    F: Future<Output = Result<O>>,
{
    drive(std::io::stdin().lock(), std::io::stdout().lock(), std::io::stderr(), |input| {
        wstd::runtime::block_on(agent(input))
    })
}

/// `run` over any streams and any way to wait for the agent.
fn drive<I: DeserializeOwned, O: Serialize>(
    mut input: impl Read,
    mut output: impl Write,
    mut log: impl Write,
    agent: impl FnOnce(I) -> Result<O>,
) -> ExitCode {
    let outcome = read_input(&mut input).and_then(agent).and_then(|value| write_output(&mut output, &value));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A log that cannot be written leaves nothing to report to.
            let _ = writeln!(log, "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read_input<I: DeserializeOwned>(input: &mut impl Read) -> Result<I> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(|error| Error::Input(error.to_string()))?;
    if bytes.trim_ascii().is_empty() {
        // An agent whose input is optional declares it so; `null` is what "nothing" is in JSON.
        bytes = b"null".to_vec();
    }
    serde_json::from_slice(&bytes).map_err(|error| Error::Input(error.to_string()))
}

fn write_output(output: &mut impl Write, value: &impl Serialize) -> Result<()> {
    // Serialised whole before the first byte is written: a value that fails half way must not leave half a result.
    let mut line = serde_json::to_vec(value).map_err(|error| Error::Output(error.to_string()))?;
    line.push(b'\n');
    output.write_all(&line).and_then(|()| output.flush()).map_err(|error| Error::Output(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Pair {
        a: u32,
        b: u32,
    }

    fn add(input: &str) -> (ExitCode, String, String) {
        let (mut out, mut log) = (Vec::new(), Vec::new());
        let code = drive(input.as_bytes(), &mut out, &mut log, |pair: Pair| {
            pair.a.checked_add(pair.b).ok_or_else(|| Error::agent("too large"))
        });
        (code, String::from_utf8(out).unwrap(), String::from_utf8(log).unwrap())
    }

    #[test]
    fn the_result_is_one_line_of_json() {
        let (code, out, log) = add(r#"{"a":2,"b":3}"#);
        assert_eq!((code, out.as_str(), log.as_str()), (ExitCode::SUCCESS, "5\n", ""));
    }

    #[test]
    fn failures_go_to_the_log_and_leave_stdout_empty() {
        for (input, expected) in [
            (r#"{"a":4294967295,"b":1}"#, "error: too large\n"),
            (
                r#"{"a":1}"#,
                "error: the input is not what this agent expects: missing field `b` at line 1 column 7\n",
            ),
            (
                "",
                "error: the input is not what this agent expects: invalid type: null, expected struct Pair at line 1 column 4\n",
            ),
        ] {
            let (code, out, log) = add(input);
            assert_eq!((code, out.as_str(), log.as_str()), (ExitCode::FAILURE, "", expected), "{input}");
        }
    }

    #[test]
    fn empty_input_is_null_for_agents_that_need_none() {
        let mut out = Vec::new();
        let code = drive(&b" \n"[..], &mut out, Vec::new(), |input: Option<Pair>| Ok(input.is_none()));
        assert_eq!((code, out.as_slice()), (ExitCode::SUCCESS, &b"true\n"[..]));
    }

    #[test]
    fn a_value_that_cannot_be_json_writes_nothing() {
        let unkeyed = std::collections::HashMap::from([((1, 2), 3)]);
        let (mut out, mut log) = (Vec::new(), Vec::new());
        let code = drive(&b"null"[..], &mut out, &mut log, |(): ()| Ok(&unkeyed));
        assert_eq!((code, out.len()), (ExitCode::FAILURE, 0));
        assert!(String::from_utf8(log).unwrap().starts_with("error: the result could not be written: "));
    }

    #[test]
    fn a_closed_stdout_is_an_error() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut log = Vec::new();
        let code = drive(&b"null"[..], Closed, &mut log, |(): ()| Ok(1));
        assert_eq!(
            (code, log.as_slice()),
            (ExitCode::FAILURE, &b"error: the result could not be written: broken pipe\n"[..])
        );
    }
}
