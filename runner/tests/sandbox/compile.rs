//! Modules that cannot be compiled, and jails that cannot compile.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use orch_runner::protocol::encode;
use orch_runner::{CompileError, CompileLimits, Compiler, ModuleError, WorkerCommand};

use crate::support::{compiler, guest, this_program};

async fn module_error(module: Bytes) -> ModuleError {
    match compile_error(&compiler(), module).await {
        CompileError::Module(error) => error,
        other => panic!("{other:?}"),
    }
}

async fn compile_error(compiler: &Compiler, module: Bytes) -> CompileError {
    compiler.compile(module).await.map(|compiled| compiled.len()).unwrap_err()
}

pub(crate) async fn what_is_wrong_is_named() {
    let garbage = module_error(Bytes::from_static(b"#!/bin/sh\necho hello")).await;
    assert!(matches!(garbage, ModuleError::Malformed { offset: Some(0), .. }), "{garbage:?}");
    let nothing = module_error(Bytes::new()).await;
    assert!(matches!(nothing, ModuleError::Malformed { .. }), "{nothing:?}");

    let whole = guest("echo");
    let cut = module_error(whole.slice(..whole.len() / 2)).await;
    assert!(matches!(cut, ModuleError::Malformed { offset: Some(1..), .. }), "{cut:?}");
    let core = guest("echo-core");
    let cut = module_error(core.slice(..core.len() / 2)).await;
    assert!(matches!(cut, ModuleError::Malformed { .. }), "{cut:?}");

    // A function's body that is not code, deep inside.
    let mut broken = core.to_vec();
    let middle = broken.len() / 2;
    broken[middle..middle + 64].fill(0xff);
    let broken = module_error(broken.into()).await;
    assert!(matches!(broken, ModuleError::Malformed { offset: Some(1..), .. }), "{broken:?}");

    let import = module_error(replaced(&whole, b"wasi:cli/stdin@0.2", b"evil:cli/stdin@0.2")).await;
    let ModuleError::UnsupportedImport { import, reason } = &import else { panic!("{import:?}") };
    assert!(
        import.starts_with("evil:cli/stdin") && reason.contains("wasi:http/outgoing-handler"),
        "{reason}"
    );
    let library = module_error(replaced(&core, b"_start", b"_sturt")).await;
    assert!(matches!(library, ModuleError::NotACommand { .. }), "{library:?}");
    let server = module_error(replaced(&whole, b"wasi:cli/run@0.2", b"wasi:cli/ran@0.2")).await;
    assert!(matches!(server, ModuleError::NotACommand { .. }), "{server:?}");
}

/// `module` with every `from` replaced by a `to` of the same length.
fn replaced(module: &[u8], from: &[u8], to: &[u8]) -> Bytes {
    assert_eq!(from.len(), to.len());
    let mut module = module.to_vec();
    let mut found = false;
    for at in 0..module.len() - from.len() {
        if &module[at..at + from.len()] == from {
            module[at..at + to.len()].copy_from_slice(to);
            found = true;
        }
    }
    assert!(found);
    module.into()
}

pub(crate) async fn a_module_may_be_too_large_or_take_too_long_or_too_much() {
    let with = |set: fn(&mut CompileLimits)| {
        let mut limits = CompileLimits::default();
        set(&mut limits);
        Compiler::new(this_program("__compile"), limits)
    };
    let error = compile_error(&with(|limits| limits.module = 1000), guest("echo")).await;
    assert!(matches!(error, CompileError::TooLarge { limit: 1000, .. }), "{error}");
    let error = compile_error(&with(|limits| limits.artifact = 1000), guest("echo")).await;
    assert!(
        matches!(error, CompileError::Module(ModuleError::ArtifactTooLarge { limit: 1000, .. })),
        "{error}"
    );
    let error = compile_error(&with(|limits| limits.time = Duration::from_millis(5)), guest("echo")).await;
    assert!(matches!(error, CompileError::TimedOut { .. }), "{error}");
    // Less than the program itself takes: nothing more can be had.
    let limits = CompileLimits { memory: 16 << 20, ..CompileLimits::default() };
    let error = compile_error(&Compiler::new(this_program("__compile"), limits), guest("wanderer")).await;
    assert!(matches!(error, CompileError::OutOfMemory { limit: 0x100_0000 }), "{error}");
}

pub(crate) async fn a_jail_that_dies_is_reported() {
    let shell =
        |script: &str| WorkerCommand { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()] };
    for (script, expected) in [
        ("echo 'it hurts' >&2; exit 9", "exited with status 9; it said: it hurts"),
        ("kill -SEGV $$", "was ended by signal 11"),
        ("echo nonsense; exit 0", "exited with status 0"),
    ] {
        let error =
            compile_error(&Compiler::new(shell(script), CompileLimits::default()), guest("noop")).await;
        assert!(matches!(error, CompileError::Crashed { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    for (script, expected) in [
        ("kill -SYS $$", "sandbox violation"),
        ("kill -XCPU $$", "of processor time"),
        ("echo 'thread main has overflowed its stack' >&2; kill -ABRT $$", "nested too deeply"),
        ("echo 'memory allocation of 7 bytes failed' >&2; kill -ABRT $$", "bytes of memory allowed"),
    ] {
        let error =
            compile_error(&Compiler::new(shell(script), CompileLimits::default()), guest("noop")).await;
        assert!(error.to_string().contains(expected), "{error}");
    }
    let nobody = WorkerCommand { program: "/nonexistent/orch".into(), args: Vec::new() };
    let error = compile_error(&Compiler::new(nobody, CompileLimits::default()), guest("noop")).await;
    assert!(matches!(error, CompileError::Start(_)), "{error}");
}

/// A compile jail's `main` on a system without system-call filters.
pub(crate) fn unjailed() -> ExitCode {
    let report = serde_json::json!([{ "layer": "seccomp", "state": "missing", "reason": "there is none" }]);
    io::stdout().write_all(&encode(&report).unwrap()).unwrap();
    io::stdout().flush().unwrap();
    // It stays until the broker has had enough of it.
    io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
    ExitCode::SUCCESS
}
