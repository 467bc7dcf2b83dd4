//! A module's outside: what kind it is, what it imports, whether it can be run.

use wasmparser::{BinaryReaderError, Encoding, ExternalKind, Parser, Payload, Validator};

use super::{ModuleError, extent};

/// The interfaces that agents can import, all of version 0.2. `wasi:sockets` is there because some toolchains
/// import it always; every operation on it is denied.
pub const PROVIDED_INTERFACES: [&str; 29] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// The version of WASI that agents are written for.
const WASI_VERSION: &str = "0.2";

/// The module name under which a wasip1 core module imports its host functions.
const WASIP1: &str = "wasi_snapshot_preview1";

/// What a module is, after its outside was found acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A component that exports `wasi:cli/run`.
    Command,
    /// A core module that exports `_start`, to be adapted.
    CoreCommand,
}

/// Checks a module's structure, imports and exports. The bodies of a component's functions are left for wasmtime
/// to validate while it compiles; a core module is validated here, where offsets still mean something.
pub(super) fn inspect(module: &[u8]) -> Result<Kind, ModuleError> {
    let outside = Outside::of(module).map_err(|error| malformed(&error))?;
    match outside.encoding {
        Encoding::Component => {
            for import in &outside.imports {
                check_interface(import.module)?;
            }
            command_export(&outside.exports)?;
            extent::check(module)?;
            Ok(Kind::Command)
        }
        Encoding::Module => {
            Validator::new().validate_all(module).map_err(|error| malformed(&error))?;
            for import in &outside.imports {
                check_core_import(import)?;
            }
            start_export(&outside.exports)?;
            Ok(Kind::CoreCommand)
        }
    }
}

/// The typed form of a parser's complaint.
pub(super) fn malformed(error: &BinaryReaderError) -> ModuleError {
    ModuleError::Malformed { offset: Some(error.offset() as u64), reason: error.message().to_owned() }
}

/// The outermost imports and exports of a module or component.
struct Outside<'a> {
    encoding: Encoding,
    imports: Vec<Import<'a>>,
    exports: Vec<Export<'a>>,
}

struct Import<'a> {
    /// Of a component's import: its whole name.
    module: &'a str,
    /// Of a component's import: empty.
    name: &'a str,
}

struct Export<'a> {
    name: &'a str,
    is_function: bool,
}

impl<'a> Outside<'a> {
    fn of(module: &'a [u8]) -> Result<Self, BinaryReaderError> {
        let mut outside = Outside { encoding: Encoding::Module, imports: Vec::new(), exports: Vec::new() };
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::Version { encoding, .. } if depth == 0 => outside.encoding = encoding,
                // Their own payloads follow, up to their own end.
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ImportSection(section) if depth == 0 => {
                    for import in section.into_imports() {
                        let import = import?;
                        outside.imports.push(Import { module: import.module, name: import.name });
                    }
                }
                Payload::ExportSection(section) if depth == 0 => {
                    for export in section {
                        let export = export?;
                        let is_function = export.kind == ExternalKind::Func;
                        outside.exports.push(Export { name: export.name, is_function });
                    }
                }
                Payload::ComponentImportSection(section) if depth == 0 => {
                    for import in section {
                        outside.imports.push(Import { module: import?.name.name, name: "" });
                    }
                }
                Payload::ComponentExportSection(section) if depth == 0 => {
                    for export in section {
                        outside.exports.push(Export { name: export?.name.name, is_function: false });
                    }
                }
                _ => {}
            }
        }
        Ok(outside)
    }
}

fn check_core_import(import: &Import<'_>) -> Result<(), ModuleError> {
    match import.module {
        WASIP1 => Ok(()),
        // An interface that is described in the module's own `component-type` section.
        module if module.contains(':') => check_interface(module),
        // Functions of a world and of the canonical ABI itself; wit-component knows which exist.
        module if module.starts_with('$') || module.starts_with('[') || module.starts_with("cm32p2") => {
            Ok(())
        }
        module => Err(ModuleError::UnsupportedImport {
            import: format!("{module}.{}", import.name),
            reason: match module {
                "wasi_unstable" => {
                    "it was built for WASI preview 0; build it for wasm32-wasip1 or wasm32-wasip2"
                }
                "env" => "a function was left undefined when it was linked, or it was built for a browser",
                _ => "core modules may import wasi_snapshot_preview1 and component interfaces only",
            }
            .to_owned(),
        }),
    }
}

fn check_interface(import: &str) -> Result<(), ModuleError> {
    let (interface, version) = import.split_once('@').unwrap_or((import, WASI_VERSION));
    let unsupported = |reason: String| ModuleError::UnsupportedImport { import: import.to_owned(), reason };
    if !PROVIDED_INTERFACES.contains(&interface) {
        return Err(unsupported(format!("the interfaces there are: {}", PROVIDED_INTERFACES.join(", "))));
    }
    let patch = version.strip_prefix(WASI_VERSION);
    if !patch.is_some_and(|patch| patch.is_empty() || patch.starts_with('.')) {
        return Err(unsupported(format!("version {WASI_VERSION} of this interface is provided")));
    }
    Ok(())
}

fn command_export(exports: &[Export<'_>]) -> Result<(), ModuleError> {
    let has = |interface: &str| exports.iter().any(|export| export.name.starts_with(interface));
    if has("wasi:cli/run@0.2") {
        return Ok(());
    }
    let reason = if has("wasi:http/incoming-handler@") {
        "it exports wasi:http/incoming-handler, so it is a server; an agent exports wasi:cli/run and makes requests"
            .to_owned()
    } else if exports.is_empty() {
        "it exports nothing; an agent exports wasi:cli/run@0.2".to_owned()
    } else {
        let names: Vec<_> = exports.iter().take(8).map(|export| export.name).collect();
        format!("it exports {}, but not wasi:cli/run@0.2", names.join(", "))
    };
    Err(ModuleError::NotACommand { reason })
}

fn start_export(exports: &[Export<'_>]) -> Result<(), ModuleError> {
    let has = |name: &str| exports.iter().any(|export| export.name == name && export.is_function);
    if has("_start") {
        return Ok(());
    }
    let reason = if has("_initialize") {
        "it is a reactor (it exports _initialize, not _start); build it as a program"
    } else {
        "it does not export _start; build it as a program for wasm32-wasip1"
    };
    Err(ModuleError::NotACommand { reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{
        CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection, Module,
        TypeSection,
    };

    use super::*;

    fn core(imports: &[(&str, &str)], exports: &[&str]) -> Vec<u8> {
        let mut types = TypeSection::new();
        types.ty().function([], []);
        let mut import = ImportSection::new();
        for (module, name) in imports {
            import.import(module, name, EntityType::Function(0));
        }
        let mut functions = FunctionSection::new();
        functions.function(0);
        let mut export = ExportSection::new();
        for name in exports {
            export.export(name, ExportKind::Func, imports.len() as u32);
        }
        let mut body = Function::new([]);
        body.instructions().end();
        let mut code = CodeSection::new();
        code.function(&body);
        let mut module = Module::new();
        module.section(&types).section(&import).section(&functions).section(&export).section(&code);
        module.finish()
    }

    #[test]
    fn a_core_command_is_recognised() {
        assert_eq!(inspect(&core(&[(WASIP1, "proc_exit")], &["_start"])).unwrap(), Kind::CoreCommand);
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        for (module, expected) in [
            (core(&[], &["_initialize"]), "reactor"),
            (core(&[], &[]), "does not export _start"),
            (core(&[("env", "emscripten_sleep")], &["_start"]), "env.emscripten_sleep"),
            (core(&[("wasi_unstable", "fd_write")], &["_start"]), "preview 0"),
            (core(&[("wasi:keyvalue/store@0.2.0", "open")], &["_start"]), "wasi:keyvalue/store@0.2.0"),
            (core(&[("wasi:http/types@0.3.0", "x")], &["_start"]), "version 0.2 of this interface"),
            (b"\0asm\x0d\0\x01\0".to_vec(), "exports nothing"),
        ] {
            let error = inspect(&module).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} should mention {expected}");
        }
    }

    #[test]
    fn every_truncation_is_malformed_or_refused_never_a_panic() {
        let module = core(&[(WASIP1, "proc_exit")], &["_start"]);
        for length in 0..module.len() {
            // A module cut between two sections can be well-formed; it is no command then.
            inspect(&module[..length]).unwrap_err();
        }
        assert!(matches!(inspect(b"not wasm at all"), Err(ModuleError::Malformed { offset: Some(0), .. })));
    }

    #[test]
    fn versions_of_an_interface_are_compared_by_number() {
        check_interface("wasi:cli/stdin@0.2.12").unwrap();
        for bad in ["wasi:cli/stdin@0.20.0", "wasi:cli/stdin@1.0.0", "wasi:cli/run@0.2.0"] {
            check_interface(bad).unwrap_err();
        }
    }
}
