//! What the README promises is what CI runs.

use std::fs;

use orch_tests::guests::repository;

/// The lines of the README's shell blocks that call Cargo.
fn promised() -> Vec<String> {
    let readme = fs::read_to_string(repository().join("README.md")).expect("there is a README");
    let mut commands = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            inside = !inside && matches!(language.trim(), "sh" | "bash" | "console");
        } else if inside {
            let line = line.trim().trim_start_matches("$ ");
            if line.starts_with("cargo run ") || line.starts_with("cargo test") {
                commands.push(line.to_owned());
            }
        }
    }
    commands
}

#[test]
fn the_two_commands_of_the_readme_are_run_by_ci_as_they_stand() {
    let commands = promised();
    assert!(commands.iter().any(|c| c.starts_with("cargo run ")), "{commands:?}");
    assert!(commands.iter().any(|c| c.starts_with("cargo test")), "{commands:?}");
    let ci = fs::read_to_string(repository().join(".ci/run")).expect("there is a CI script");
    let run: Vec<&str> = ci.lines().map(str::trim).collect();
    for command in &commands {
        assert!(run.contains(&command.as_str()), "CI does not run: {command}");
    }
}
