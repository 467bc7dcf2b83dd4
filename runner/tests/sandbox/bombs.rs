//! Modules that are made to be expensive to look at. The compile jail ends within its bounds, and says which.

use std::fmt::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use orch_runner::{CompileError, CompileLimits, Compiler, ModuleError};

use crate::support::this_program;

/// Far less than a jail may have otherwise, so that the tests are quick.
fn limits() -> CompileLimits {
    CompileLimits { memory: 2 << 30, time: Duration::from_secs(10), ..CompileLimits::default() }
}

async fn fails(name: &str, module: impl Into<Bytes>, limits: CompileLimits) -> CompileError {
    let module = module.into();
    let began = Instant::now();
    let result = Compiler::new(this_program("__compile"), limits).compile(module).await;
    // Ending a process takes a moment on a busy machine.
    let slack = Duration::from_secs(10);
    assert!(began.elapsed() < limits.time + slack, "{name} took {:?}", began.elapsed());
    result.map(|compiled| format!("{name} was compiled to {} bytes", compiled.len())).unwrap_err()
}

async fn refused(name: &str, module: impl Into<Bytes>) -> ModuleError {
    match fails(name, module, limits()).await {
        CompileError::Module(error) => error,
        other => panic!("{name}: {other}"),
    }
}

fn text(wat: &str) -> Bytes {
    wat::parse_str(wat).unwrap().into()
}

/// A program of core wasm with these fields.
fn core(fields: &str) -> Bytes {
    text(&format!("(module {fields} (memory (export \"memory\") 1) (func (export \"_start\")))"))
}

/// A program that is a component with these fields.
fn component(fields: &str) -> Bytes {
    text(&format!(
        r#"(component {fields}
            (core module $m (func (export "run") (result i32) (i32.const 0)))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $command (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $command)))"#
    ))
}

pub(crate) async fn functions_that_are_expensive_to_compile() {
    // One function that is as long as functions may be, of which nothing can be left out.
    let mut long = wasm_encoder::Function::new([(1, wasm_encoder::ValType::I32)]);
    for number in 0..900_000 {
        let to = wasm_encoder::MemArg { offset: number % 100, align: 2, memory_index: 0 };
        long.instructions().local_get(0).local_get(0).i32_store(to);
    }
    long.instructions().end();
    let long = Bytes::from(program(&long));
    let hasty = CompileLimits { time: Duration::from_millis(700), ..CompileLimits::default() };
    let error = fails("a long function in a short time", long.clone(), hasty).await;
    assert!(matches!(error, CompileError::TimedOut { limit } if limit == hasty.time), "{error}");
    let tight = CompileLimits { memory: 320 << 20, time: Duration::from_secs(100), ..limits() };
    let error = fails("a long function in little memory", long, tight).await;
    assert!(matches!(error, CompileError::OutOfMemory { limit } if limit == tight.memory), "{error}");
}

fn program(body: &wasm_encoder::Function) -> Vec<u8> {
    use wasm_encoder::{
        CodeSection, ExportKind, ExportSection, FunctionSection, MemorySection, Module, TypeSection,
    };
    let (mut types, mut functions, mut code) =
        (TypeSection::new(), FunctionSection::new(), CodeSection::new());
    types.ty().function([], []);
    functions.function(0);
    code.function(body);
    let mut memories = MemorySection::new();
    let page = wasm_encoder::MemoryType {
        minimum: 1,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    };
    memories.memory(page);
    let mut exports = ExportSection::new();
    exports.export("_start", ExportKind::Func, 0).export("memory", ExportKind::Memory, 0);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&exports).section(&code);
    module.finish()
}

pub(crate) async fn deep_nesting() {
    let mut types = String::from("(type $t0 (list u8))");
    for depth in 1..5000 {
        write!(types, "(type $t{depth} (list $t{}))", depth - 1).unwrap();
    }
    let error = refused("types", component(&types)).await;
    assert!(error.to_string().contains("type nesting is too deep"), "{error}");

    // Components inside of each other.
    let mut nested = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..5000 {
        let mut outer = b"\0asm\x0d\0\x01\0\x04".to_vec();
        wasm_encoder::Encode::encode(&nested.len(), &mut outer);
        outer.extend_from_slice(&nested);
        nested = outer;
    }
    let command = component("");
    let (header, rest) = command.split_at(8);
    let mut module = header.to_vec();
    module.push(4);
    wasm_encoder::Encode::encode(&nested.len(), &mut module);
    module.extend_from_slice(&nested);
    module.extend_from_slice(rest);
    let error = refused("components", module).await;
    assert!(matches!(&error, ModuleError::TooMuch { what, .. } if what.contains("nested")), "{error}");
}

pub(crate) async fn instances_without_number() {
    // Each component has two of the next one: sixteen million instances in two kilobytes.
    let mut nest = String::from("(component $c (core module $m) (core instance (instantiate $m)))");
    for _ in 0..24 {
        nest = format!("(component $c {nest} (instance (instantiate $c)) (instance (instantiate $c)))");
    }
    let error = refused("instances", component(&format!("{nest} (instance (instantiate $c))"))).await;
    assert!(
        matches!(&error, ModuleError::TooMuch { what, has: 257.., limit: 256 } if what == "instances"),
        "{error}"
    );
    // As many as there may be are no reason to refuse it, and neither is what nobody instantiates.
    let some = "(core module $m0) ".to_owned() + &"(core instance (instantiate $m0))".repeat(200);
    let some = component(&(some + "(component $unused (core module $m) (core instance (instantiate $m)))"));
    Compiler::new(this_program("__compile"), limits()).compile(some).await.unwrap();
    let many = "(core module $m0) ".to_owned() + &"(core instance (instantiate $m0))".repeat(256);
    let error = refused("instances in one place", component(&many)).await;
    assert!(matches!(error, ModuleError::TooMuch { has: 257, limit: 256, .. }), "{error}");
}

pub(crate) async fn too_many_of_everything() {
    let mut imports = String::new();
    for number in 0..5000 {
        write!(imports, "(import \"wasi:cli/x{number}@0.2.0\" (instance))").unwrap();
    }
    let error = refused("imported instances", component(&imports)).await;
    assert!(matches!(error, ModuleError::UnsupportedImport { .. }), "{error}");

    let mut imports = String::new();
    for number in 0..50_000 {
        write!(imports, "(import \"wasi_snapshot_preview1\" \"x{number}\" (func))").unwrap();
    }
    let error = refused("imported functions", core(&imports)).await;
    assert!(matches!(error, ModuleError::Unadaptable { .. }), "{error}");
    assert!(error.to_string().len() < 2000, "{error}");

    let error =
        refused("variables of one function", core(&format!("(func (local{}))", " i64".repeat(50_001)))).await;
    assert!(error.to_string().contains("too many locals"), "{error}");
    let error = refused("elements", core("(table 5000000 funcref)")).await;
    assert!(matches!(&error, ModuleError::TooMuch { what, .. } if what == "elements in a table"), "{error}");
    let error = refused("tables", core(&"(table 1 funcref)".repeat(40))).await;
    assert!(matches!(&error, ModuleError::TooMuch { what, .. } if what == "tables"), "{error}");
    let name = "n".repeat(200_000);
    let error = refused("a long name", core(&format!("(func (export \"{name}\"))"))).await;
    assert!(error.to_string().contains("string size out of bounds"), "{error}");
}
