//! What the parser generates: completions for shells, and the pages of the manual.

use std::process::ExitCode;

use clap::{Command, CommandFactory as _};
use orch_server::Failure;
use serde_json::json;

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::printer::Printer;
use crate::wire::broken_pipe;

pub(crate) fn completions(args: &CompletionsArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "orch", &mut script);
    let script = String::from_utf8_lossy(&script);
    if printer.json() {
        printer.result_json(&json!({ "shell": args.shell.to_string(), "script": script }))
    } else {
        printer.result(script.trim_end())
    }
    .or_else(broken_pipe)?;
    Ok(ExitCode::SUCCESS)
}

/// One page per command.
pub(crate) fn man(args: &ManArgs, printer: Printer) -> Result<ExitCode, Failure> {
    let mut written = Vec::new();
    pages(Cli::command(), &mut |name, page| {
        let path = args.folder.join(format!("{name}.1"));
        std::fs::write(&path, page).map_err(|e| Failure::file("file_unwritable", "write", &path, &e))?;
        written.push(path.display().to_string());
        Ok(())
    })?;
    if printer.json() {
        printer.result_json(&json!({ "files": written }))
    } else {
        printer.result(&written.join("\n"))
    }
    .or_else(broken_pipe)?;
    Ok(ExitCode::SUCCESS)
}

/// Hands over the page of a command and of those below it, each with its name, such as `orch-secrets-set`.
fn pages(command: Command, write: &mut dyn FnMut(&str, &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    page(&command, write)
}

fn page(command: &Command, write: &mut dyn FnMut(&str, &[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name.to_uppercase())
        .render(&mut text)
        .map_err(|e| Failure::defect(format!("the page of {name} cannot be written: {e}")))?;
    write(&name, &text)?;
    command.get_subcommands().filter(|sub| !sub.is_hide_set()).try_for_each(|sub| page(sub, write))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_pages() -> Vec<(String, String)> {
        let mut all = Vec::new();
        pages(Cli::command(), &mut |name, text| {
            all.push((name.to_owned(), String::from_utf8(text.to_vec()).expect("text")));
            Ok(())
        })
        .expect("pages");
        all
    }

    #[test]
    fn every_public_command_has_a_page() {
        let pages = all_pages();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in
            ["orch", "orch-run", "orch-secrets", "orch-secrets-set", "orch-publish", "orch-tokens-create"]
        {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("__")), "{names:?}");
        let (_, run) = &pages[names.iter().position(|name| *name == "orch-run").expect("there")];
        assert!(run.contains("simulate") && run.contains("Run an agent in the sandbox"), "{run}");
    }

    #[test]
    fn completions_know_the_commands_and_not_the_hidden_ones() {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "orch", &mut script);
            let script = String::from_utf8(script).expect("text");
            assert!(script.contains("publish") && script.contains("simulate"), "{shell}");
            assert!(!script.contains("__worker") && !script.contains("__compile"), "{shell}");
        }
    }
}
