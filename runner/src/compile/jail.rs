//! The inside of a compile jail.

use std::fs::File;
use std::io::{self, Read};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, setrlimit};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wasmparser::BinaryReaderError;
use wit_component::ComponentEncoder;

use super::ModuleError;
use super::inspect::{Kind, inspect, malformed};
use super::wire::{Order, write_answer};
use crate::engine::{Allocation, engine};
use crate::isolate;
use crate::worker::check_imports;

/// The compile jail's `main`: reads an order and a module from descriptor 0, answers on descriptor 1, says what
/// went wrong with itself on descriptor 2. Only the broker starts it.
pub fn compile_main() -> ExitCode {
    match isolate::enter().and_then(|inherited| work(inherited.first, inherited.second)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            isolate::say(&format!("compile jail: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn work(mut input: File, mut output: File) -> io::Result<()> {
    let order = Order::read(&mut input)?;
    bound_self(&order)?;
    let mut module = Vec::new();
    input.read_to_end(&mut module)?;
    let answer = compile(&module, order.artifact);
    write_answer(&mut output, &answer)
}

fn bound_self(order: &Order) -> io::Result<()> {
    let exactly = |limit: u64| Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(Resource::As, exactly(order.memory))?;
    setrlimit(Resource::Cpu, exactly(order.processor_seconds))?;
    setrlimit(Resource::Core, exactly(0))?;
    Ok(())
}

fn compile(module: &[u8], artifact_limit: u64) -> Result<Vec<u8>, ModuleError> {
    let adapted;
    let component = match inspect(module)? {
        Kind::Command => module,
        Kind::CoreCommand => {
            adapted = adapt(module)?;
            &adapted
        }
    };
    let engine = engine(Allocation::OnDemand).map_err(|error| internal(&error))?;
    let compiled = engine.precompile_component(component).map_err(|error| refused_by_wasmtime(&error))?;
    check_imports(&engine, &compiled)?;
    let size = compiled.len() as u64;
    if size > artifact_limit {
        return Err(ModuleError::ArtifactTooLarge { size, limit: artifact_limit });
    }
    Ok(compiled)
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

fn refused_by_wasmtime(error: &wasmtime::Error) -> ModuleError {
    match error.downcast_ref::<BinaryReaderError>() {
        Some(error) => malformed(error),
        None => ModuleError::Malformed { offset: None, reason: format!("{error:#}") },
    }
}

fn internal(error: &wasmtime::Error) -> ModuleError {
    ModuleError::Unadaptable { reason: format!("the compiler cannot be set up: {error:#}") }
}
