//! What the command line says about a secret, read and checked.

use orch_manifests::HostPattern;
use orch_server::{Failure, Kind};
use orch_vault::{Secret, SecretName};

use crate::args::{SecretArg, SetArgs};
use crate::printer::Printer;
use crate::value;
use crate::wire::Installation;

/// The value, from the one place that was named, else from the terminal without echo.
pub(super) fn read_value(
    here: &Installation,
    name: &SecretName,
    args: &SetArgs,
    printer: Printer,
) -> Result<Secret, Failure> {
    let unreadable = |from: &str, e: &dyn std::fmt::Display| {
        Failure::usage("value_unreadable", format!("cannot read the value of {name} from {from}: {e}"))
    };
    if let Some(file) = &args.from_file {
        return value::from_file(file, printer).map_err(|e| unreadable(&file.display().to_string(), &e));
    }
    if args.from_env {
        return here.environment.key(name.as_str()).ok_or_else(|| {
            Failure::new(
                Kind::NoKey,
                "no_key",
                format!("the environment variable {name} is not set, or empty"),
            )
        });
    }
    match args.value.as_deref() {
        Some(SecretArg::Value(secret)) => {
            printer.warn(
                "a value on the command line stays in the shell's history and shows in the process list",
            );
            Ok(value::copy(secret))
        }
        Some(SecretArg::Stdin) => value::from_stdin(printer).map_err(|e| unreadable("standard input", &e)),
        None if printer.interactive() => {
            let text = rpassword::prompt_password(format!("Value of {name} (not shown): "))
                .map_err(|e| unreadable("the terminal", &e))?;
            Ok(Secret::new(text.into_bytes()))
        }
        None => Err(Failure::usage("bad_usage", format!("no value for {name}, and no terminal to ask on"))
            .hint(format!("orch secrets set {name} - < FILE"))
            .hint(format!("orch secrets set {name} --from-env"))),
    }
}

pub(super) fn parse_host(text: &str) -> Result<String, Failure> {
    let pattern: HostPattern =
        text.parse().map_err(|e| Failure::usage("bad_usage", format!("--host {text:?}: {e}")))?;
    Ok(pattern.to_string())
}

pub(super) fn parse_place(text: &str) -> Result<String, Failure> {
    let wrong = || {
        Failure::usage("bad_usage", format!("--in {text:?} is not header:NAME")).hint("--in header:x-api-key")
    };
    let name = text.strip_prefix("header:").ok_or_else(wrong)?;
    let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if valid { Ok(name.to_ascii_lowercase()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_header() {
        assert_eq!(parse_place("header:X-Api-Key").expect("a header"), "x-api-key");
        for bad in ["", "authorization", "header:", "header:a b", "query:key", "header:a\r\nb"] {
            assert_eq!(parse_place(bad).expect_err(bad).code(), "bad_usage");
        }
    }

    #[test]
    fn a_host_is_a_name_or_a_pattern_that_its_owner_can_own() {
        assert_eq!(parse_host("API.Example.com").expect("a host"), "api.example.com");
        assert_eq!(parse_host("*.example.com").expect("a pattern"), "*.example.com");
        for bad in ["*", "*.com", "10.0.0.1", "https://a.example", ""] {
            assert_eq!(parse_host(bad).expect_err(bad).code(), "bad_usage");
        }
    }
}
