//! Turns wasip1 core modules into components with the standard adapter, and compares what components import and
//! export. `examples/build.sh` and `examples/compare.sh` drive it; agents' authors need neither.
//!
//! ```text
//! componentize new MODULE.wasm OUT.wasm
//! componentize world COMPONENT.wasm
//! componentize compare A.wasm B.wasm       status 1 when their worlds differ
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wit_component::{ComponentEncoder, DecodedWasm, decode};

type Outcome = Result<ExitCode, Box<dyn Error>>;

const USAGE: &str = "usage: componentize new MODULE OUT | world COMPONENT | compare A B";

fn main() -> Outcome {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["new", module, out] => new(Path::new(module), Path::new(out)),
        ["world", component] => show(Path::new(component)),
        ["compare", a, b] => compare(Path::new(a), Path::new(b)),
        _ => Err(USAGE.into()),
    }
}

fn new(module: &Path, out: &Path) -> Outcome {
    let component = ComponentEncoder::default()
        .validate(true)
        .module(&read(module)?)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)?
        .encode()?;
    fs::write(out, component).map_err(|error| format!("{}: {error}", out.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn show(component: &Path) -> Outcome {
    let mut stdout = io::stdout().lock();
    for item in world(component)? {
        writeln!(stdout, "{item}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(a: &Path, b: &Path) -> Outcome {
    let (in_a, in_b) = (world(a)?, world(b)?);
    let mut stdout = io::stdout().lock();
    for (only, path) in [(in_a.difference(&in_b), a), (in_b.difference(&in_a), b)] {
        for item in only {
            writeln!(stdout, "only in {}: {item}", path.display())?;
        }
    }
    if in_a != in_b {
        return Ok(ExitCode::FAILURE);
    }
    let bytes = if read(a)? == read(b)? { "identical bytes" } else { "same world, other bytes" };
    writeln!(stdout, "{}: {bytes}", b.display())?;
    Ok(ExitCode::SUCCESS)
}

/// Every function and type that a component imports or exports, one line each.
///
/// Names carry their interface's version, which fixes the signature, so equal lines mean an equal contract.
fn world(component: &Path) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let decoded = decode(&read(component)?).map_err(|error| format!("{}: {error:#}", component.display()))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err(format!("{} is not a component", component.display()).into());
    };
    let world = &resolve.worlds[world];
    let mut items = BTreeSet::new();
    for (direction, side) in [("import", &world.imports), ("export", &world.exports)] {
        for key in side.keys() {
            let name = resolve.name_world_key(key);
            items.insert(format!("{direction} {name}"));
            let named = resolve.interfaces.iter().find(|(id, _)| resolve.id_of(*id).as_ref() == Some(&name));
            if let Some((_, interface)) = named {
                let inner = interface.functions.keys().chain(interface.types.keys());
                items.extend(inner.map(|inner| format!("{direction} {name}#{inner}")));
            }
        }
    }
    Ok(items)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
