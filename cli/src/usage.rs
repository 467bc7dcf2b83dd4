//! A wrong command line, as a failure like any other: what is wrong, and what to type instead.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use orch_server::Failure;

/// Turns the parser's text into a message and hints.
pub(crate) fn failure(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let (mut message, mut hints, mut command) = (Vec::new(), Vec::new(), "orch".to_owned());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(tip) = line.strip_prefix("tip: ") {
            hints.push(tip.to_owned());
        } else if let Some(usage) = line.strip_prefix("Usage: ") {
            let words =
                usage.split(' ').take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
            command = words.collect::<Vec<_>>().join(" ");
        } else if !line.starts_with("For more information") {
            message.push(line);
        }
    }
    // How to pass what looks like a flag as a value: true, and never what was meant.
    hints.retain(|hint| !hint.contains("as a value, use '-- "));
    hints.push(format!("{command} --help"));
    let message = better_words(error).unwrap_or_else(|| message.join(" "));
    hints.into_iter().fold(Failure::usage("bad_usage", message), Failure::hint)
}

/// Another message where the parser's would repeat a word that may be a piece of a key, or list hidden commands.
fn better_words(error: &clap::Error) -> Option<String> {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.as_str(),
        _ => "",
    };
    match error.kind() {
        ErrorKind::UnknownArgument if !argument.starts_with('-') => {
            Some("there is a word too many on the command line".to_owned())
        }
        ErrorKind::TooManyValues => Some(format!("{argument} takes no value")),
        ErrorKind::MissingSubcommand => Some("no command was given".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use insta::assert_snapshot;

    use super::*;
    use crate::args::Cli;

    fn said(line: &str) -> String {
        let Err(error) = Cli::try_parse_from(line.split(' ')) else { panic!("{line} parses") };
        let failure = failure(&error);
        let hints = failure.hints().iter().map(|hint| format!("\nhint: {hint}"));
        format!("{failure}{}", hints.collect::<String>())
    }

    #[test]
    fn a_misspelt_word_gets_its_neighbour() {
        assert_snapshot!(said("orch runn"), @r"
        unrecognized subcommand 'runn'
        hint: a similar subcommand exists: 'run'
        hint: orch --help
        ");
        assert_snapshot!(said("orch secrets lst"), @r"
        unrecognized subcommand 'lst'
        hint: a similar subcommand exists: 'list'
        hint: orch secrets --help
        ");
        assert_snapshot!(said("orch run --locl x"), @r"
        unexpected argument '--locl' found
        hint: a similar argument exists: '--local'
        hint: orch run --help
        ");
        assert_snapshot!(said("orch frobnicate"), @r"
        unrecognized subcommand 'frobnicate'
        hint: orch --help
        ");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_snapshot!(said("orch run"), @r"
        the following required arguments were not provided: <AGENT>
        hint: orch run --help
        ");
        assert_snapshot!(said("orch run x --key"), @r"
        a value is required for '--key <[PROVIDER=]KEY>' but none was supplied
        hint: orch --help
        ");
        assert_snapshot!(said("orch run x --key k --key-stdin"), @r"
        the argument '--key <[PROVIDER=]KEY>' cannot be used with '--key-stdin'
        hint: orch run --help
        ");
        assert_snapshot!(said("orch --json"), @r"
        no command was given
        hint: orch --help
        ");
    }

    #[test]
    fn no_piece_of_a_key_is_repeated() {
        for line in [
            "orch secrets set OPENAI_API_KEY sk-1 sk-SECRET",
            "orch run x sk-SECRET",
            "orch run x --kye=sk-SECRET",
            "orch run x --key-stdin=sk-SECRET",
            "orch secrets list sk-SECRET",
            "orch run x --key sk-SECRET --key-stdin",
            "orch secrets set X sk-SECRET --from-env",
        ] {
            let said = said(line);
            assert!(!said.contains("SECRET"), "{line}: {said}");
        }
    }
}
