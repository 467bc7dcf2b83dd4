//! The inside of a compile jail.

use std::io::{self, Read};
use std::process::ExitCode;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wasmparser::BinaryReaderError;
use wasmtime::component::Component;
use wit_component::ComponentEncoder;

use super::ModuleError;
use super::inspect::{Kind, inspect, malformed};
use super::wire::{Order, write_answer, write_report};
use crate::engine::{engine_that_runs_nothing, oversized};
use crate::jail::{self, Purpose, say};
use crate::worker::check_imports;

/// The status that the jail exits with when it ran out of memory and could still say so.
pub(super) const OUT_OF_MEMORY: u8 = 12;

/// The compile jail's `main`: reads an order from descriptor 0, jails itself, says on descriptor 1 what became of that, and
/// only then reads the module and answers. What went wrong with itself it says on descriptor 2. Only the broker starts it.
pub fn compile_main() -> ExitCode {
    match jail::enter().and_then(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("compile jail: {error}"));
            match error.kind() {
                io::ErrorKind::OutOfMemory => ExitCode::from(OUT_OF_MEMORY),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn work(entered: jail::Entered) -> io::Result<()> {
    let (inherited, jail) = entered.split(Purpose::Compile);
    let (mut input, mut output) = (inherited.first, inherited.second);
    let order = Order::read(&mut input)?;
    bound_self(&order)?;
    write_report(&mut output, &jail.close(&[], None).report)?;
    let mut module = Vec::new();
    input.read_to_end(&mut module)?;
    let answer = compile(&module, order.artifact)?;
    write_answer(&mut output, &answer)
}

fn bound_self(order: &Order) -> io::Result<()> {
    let exactly = |limit: u64| Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::As, exactly(order.memory))?;
    // The signal of the lower bound says which bound it was; the upper one is for whoever does not listen.
    let processor = order.processor_seconds;
    setrlimit(
        Resource::Cpu,
        Rlimit { current: Some(processor), maximum: Some(processor.saturating_add(1)) },
    )?;
    Ok(())
}

/// The outer error is this process's, the inner one the module's.
fn compile(module: &[u8], artifact_limit: u64) -> io::Result<Result<Vec<u8>, ModuleError>> {
    let adapted;
    let component = match inspect(module) {
        Ok(Kind::Command) => module,
        Ok(Kind::CoreCommand) => match adapt(module) {
            Ok(component) => {
                adapted = component;
                &adapted
            }
            Err(error) => return Ok(Err(error)),
        },
        Err(error) => return Ok(Err(error)),
    };
    let engine = engine_that_runs_nothing().map_err(|error| own_failure(&error))?;
    let compiled = match engine.precompile_component(component) {
        Ok(compiled) => compiled,
        Err(error) => return refused_by_wasmtime(&error).map(Err),
    };
    let size = compiled.len() as u64;
    if size > artifact_limit {
        return Ok(Err(ModuleError::ArtifactTooLarge { size, limit: artifact_limit }));
    }
    // SAFETY: the bytes were compiled a moment ago, in this process, by this engine.
    #[allow(unsafe_code)]
    let component =
        unsafe { Component::deserialize(&engine, &compiled) }.map_err(|error| own_failure(&error))?;
    if let Some((what, has, limit)) = oversized(&component) {
        return Ok(Err(ModuleError::TooMuch { what: what.to_owned(), has, limit }));
    }
    Ok(match check_imports(&engine, &component) {
        Ok(()) => Ok(compiled),
        Err(error) if is_out_of_memory(&error) => return Err(own_failure(&error)),
        Err(error) => Err(ModuleError::UnsupportedImport {
            import: "something".to_owned(),
            reason: format!("{error:#}"),
        }),
    })
}

fn adapt(module: &[u8]) -> Result<Vec<u8>, ModuleError> {
    let encode = || {
        ComponentEncoder::default()
            .validate(true)
            .module(module)?
            .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)?
            .encode()
    };
    encode().map_err(|error| ModuleError::Unadaptable { reason: format!("{error:#}") })
}

fn refused_by_wasmtime(error: &wasmtime::Error) -> io::Result<ModuleError> {
    if is_out_of_memory(error) {
        return Err(own_failure(error));
    }
    Ok(match error.downcast_ref::<BinaryReaderError>() {
        Some(error) => malformed(error),
        None => ModuleError::Malformed { offset: None, reason: format!("{error:#}") },
    })
}

fn own_failure(error: &wasmtime::Error) -> io::Error {
    let kind = if is_out_of_memory(error) { io::ErrorKind::OutOfMemory } else { io::ErrorKind::Other };
    io::Error::new(kind, format!("{error:#}"))
}

/// Whether a mapping or an allocation failed somewhere below.
fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    error.is::<wasmtime::OutOfMemory>()
        || error.chain().any(|cause| {
            cause.downcast_ref::<Errno>() == Some(&Errno::NOMEM)
                || cause.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::OutOfMemory)
        })
}
