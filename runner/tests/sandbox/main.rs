//! Workers and compile jails as processes, driven through the crate's public API.
//!
//! This program is its own worker: started with a hidden subcommand it becomes one, as `orch` does. That is why it
//! has a `main` of its own instead of the standard harness, and takes the standard harness's arguments as far as
//! `cargo test` and its like use them.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, reason = "it is a test harness")]

mod bombs;
mod cache;
mod compile;
mod distrust;
mod files;
mod hostile;
mod http;
mod isolation;
#[cfg(target_os = "linux")]
mod jail;
mod limits;
mod mounts;
mod runs;
#[cfg(target_os = "linux")]
mod scratch;
mod support;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

type Test = fn() -> Pin<Box<dyn Future<Output = ()>>>;

macro_rules! tests {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), || Box::pin($module::$name()))),*]
    };
}

/// Every test. One that is forgotten here is dead code, which the lints refuse.
const TESTS: &[(&str, Test)] = tests![
    runs::a_guest_that_does_nothing_succeeds,
    runs::input_becomes_output,
    runs::a_core_module_runs_like_a_component,
    runs::long_input_is_streamed,
    runs::the_environment_and_arguments_are_what_was_given,
    runs::a_failing_guest_has_its_status,
    runs::a_trap_is_described,
    runs::many_runs_share_a_worker,
    runs::cancelling_stops_a_busy_guest,
    runs::dropping_the_future_stops_a_busy_guest,
    runs::a_run_that_cannot_be_set_up_is_rejected,
    runs::mounts_are_visible_and_read_only_unless_writable,
    runs::shutting_down_lets_runs_finish,
    mounts::links_that_lead_out_lead_nowhere,
    mounts::a_guest_makes_no_way_out,
    mounts::a_read_only_mount_stays_as_it_is,
    mounts::pipes_sockets_and_devices_are_not_opened,
    mounts::a_folder_that_turns_into_a_link_again_and_again,
    mounts::a_file_that_turns_into_a_pipe_again_and_again,
    mounts::a_folder_that_was_moved_away_is_still_the_guests,
    mounts::nested_mounts_do_not_widen_each_other,
    files::listings_are_on_the_runs_account,
    files::files_that_a_guest_begins_to_read_hold_nothing,
    limits::processor_time,
    limits::wall_clock_time_of_a_busy_guest,
    limits::wall_clock_time_of_a_sleeping_guest,
    limits::memory,
    limits::a_polite_refusal_of_memory_is_not_the_limits_doing,
    limits::output,
    limits::log,
    limits::open_resources,
    limits::slow_readers_stop_the_guest,
    limits::a_busy_run_does_not_starve_another,
    limits::a_run_takes_as_many_mappings_as_are_counted_for_it,
    hostile::processors,
    hostile::stacks,
    hostile::memory,
    hostile::streams,
    hostile::resources,
    hostile::inside_a_call,
    hostile::everything_at_once,
    http::a_request_reaches_the_door_and_its_response_the_guest,
    http::reserved_headers_are_the_protocols_alone,
    http::refusals_become_error_codes,
    http::large_bodies_travel_both_ways,
    http::responses_without_bodies_keep_their_heads,
    http::a_broken_response_is_an_error_in_the_guest,
    http::a_run_that_ends_takes_its_requests_with_it,
    isolation::a_worker_has_three_descriptors_and_no_environment,
    isolation::sockets_are_denied,
    isolation::a_worker_ends_with_its_socket_while_its_guest_spins,
    isolation::a_worker_is_started_by_a_broker_only,
    distrust::another_version_is_refused_by_the_broker,
    distrust::another_version_is_refused_by_the_worker,
    distrust::too_much_output_is_the_workers_end,
    distrust::an_answer_that_never_comes_is_the_workers_end,
    distrust::a_run_that_does_not_exist_is_the_workers_end,
    distrust::a_dead_worker_ends_its_runs_with_what_it_said,
    distrust::tokens_and_targets_are_checked,
    distrust::bodies_are_streamed_both_ways,
    compile::what_is_wrong_is_named,
    compile::a_module_may_be_too_large_or_take_too_long_or_too_much,
    compile::a_jail_that_dies_is_reported,
    bombs::functions_that_are_expensive_to_compile,
    bombs::deep_nesting,
    bombs::instances_without_number,
    bombs::too_many_of_everything,
    cache::entries_are_reused_and_private,
    cache::a_damaged_entry_is_replaced_and_never_loaded,
    cache::another_version_is_a_miss,
    cache::two_at_once_compile_once,
    cache::the_key_file_decides_what_is_trusted,
];

/// What the jail holds is Linux's.
#[cfg(target_os = "linux")]
const OF_LINUX: &[(&str, Test)] = tests![
    scratch::bytes_are_bounded_and_a_full_folder_is_an_error_like_any_other,
    scratch::files_are_bounded_whatever_they_are,
    scratch::a_hole_costs_nothing_until_it_is_written_to,
    scratch::they_lead_nowhere_else,
    scratch::each_is_one_runs_alone,
    scratch::nothing_is_left_of_them_however_the_worker_ends,
    jail::every_layer_is_active,
    jail::forbidden_calls_end_the_worker,
    jail::forbidden_calls_are_possible_outside_of_the_jail,
    jail::files_are_out_of_reach,
    jail::a_read_only_mount_cannot_be_changed_and_none_executed,
    jail::another_runs_mount_is_out_of_reach,
    jail::a_link_in_the_place_of_a_mount_is_not_followed,
    jail::nested_mounts_have_their_own_rights,
    jail::a_nested_mount_that_is_moved_costs_its_run_and_no_layer,
    jail::scratch_folders_give_no_more_rights_than_a_mount,
    jail::an_undeclared_mount_is_refused,
    jail::threads_are_started_and_processes_are_not,
    jail::a_violation_ends_every_run_and_the_next_worker_is_fine,
    jail::a_worker_does_not_outlive_its_broker,
    jail::a_compile_jail_is_jailed_too,
];
#[cfg(not(target_os = "linux"))]
const OF_LINUX: &[(&str, Test)] = &[];

/// Longer than any test takes, even in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("__worker") => orch_runner::worker_main(),
        Some("__compile") => orch_runner::compile_main(),
        #[cfg(target_os = "linux")]
        Some("__native") => orch_runner::worker_main_with(jail::native::on_run),
        #[cfg(target_os = "linux")]
        Some("__deed") => jail::native::outside(args.get(1).map_or("", String::as_str)),
        #[cfg(target_os = "linux")]
        Some("__broker") => jail::broker(args.get(1).map_or("", String::as_str)),
        Some("__unjailed") => compile::unjailed(),
        Some("__misbehave") => distrust::misbehave(args.get(1).map_or("", String::as_str)),
        _ => run_tests(&args),
    }
}

fn run_tests(args: &[String]) -> ExitCode {
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-') && *arg != "terse").collect();
    let wanted = |name: &str| match flag("--exact") {
        true => filters.iter().any(|filter| *filter == name),
        false => filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())),
    };
    let chosen: Vec<_> = all().filter(|(name, _)| wanted(name) && !flag("--ignored")).collect();
    if flag("--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let mut failed = 0;
    for (name, test) in &chosen {
        let began = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(|| run_test(*test))).is_ok();
        failed += usize::from(!passed);
        println!("test {name} ... {} ({:.2?})", if passed { "ok" } else { "FAILED" }, began.elapsed());
    }
    let (passed, out) = (chosen.len() - failed, all().count() - chosen.len());
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {result}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {out} filtered out\n"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all() -> impl Iterator<Item = &'static (&'static str, Test)> {
    TESTS.iter().chain(OF_LINUX)
}

fn run_test(test: Test) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(PATIENCE, test()).await.expect("the test takes too long") });
}
