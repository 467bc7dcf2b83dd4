//! What the parser generates: completions for shells, and the pages of the manual.

use std::process::ExitCode;

use clap::CommandFactory as _;
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
    for (name, page) in pages()? {
        let path = args.folder.join(format!("{name}.1"));
        std::fs::write(&path, page).map_err(|e| Failure::file("file_unwritable", "write", &path, &e))?;
        written.push(path.display().to_string());
    }
    if printer.json() {
        printer.result_json(&json!({ "files": written }))
    } else {
        printer.result(&written.join("\n"))
    }
    .or_else(broken_pipe)?;
    Ok(ExitCode::SUCCESS)
}

/// The page of every command that is meant for people, with its name, such as `orch-secrets-set`.
fn pages() -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let (mut pages, mut left) = (Vec::new(), vec![&command]);
    while let Some(command) = left.pop() {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone())
            .title(name.to_uppercase())
            .render(&mut page)
            .map_err(|e| Failure::defect(format!("the page of {name} cannot be written: {e}")))?;
        pages.push((name, page));
        left.extend(command.get_subcommands().filter(|sub| !sub.is_hide_set()));
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_public_command_has_a_page() {
        let pages = pages().expect("pages");
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in
            ["orch", "orch-run", "orch-secrets", "orch-secrets-set", "orch-publish", "orch-tokens-create"]
        {
            assert!(names.contains(&name), "{name} is not among {names:?}");
        }
        assert!(!names.contains(&"orch-man"), "{names:?}");
        let (_, run) = &pages[names.iter().position(|name| *name == "orch-run").expect("there")];
        let run = String::from_utf8_lossy(run);
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
