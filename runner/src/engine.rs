//! The one configuration of wasmtime that compile jail, broker and workers share.
//!
//! Compiled code only loads into an engine with the same settings, so there is a single function that makes them
//! (`config`) and the parameters it takes are those that cannot change the code: how instances are allocated and
//! how code becomes executable. [`fingerprint`] identifies the rest, in the [artifact cache](crate::artifact)'s key.

pub(crate) mod mapped;

use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use wasmtime::component::Component;
use wasmtime::{Config, CustomCodeMemory, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::protocol::Pool;

/// The release of wasmtime that compiles and runs code.
pub const WASMTIME_VERSION: &str = "48.0.8";

/// The most stack that wasm may use, in bytes: deep enough for interpreters compiled to wasm.
const WASM_STACK: usize = 1 << 20;

/// A run's whole stack in bytes: wasm's share and room for the host calls at its end.
const RUN_STACK: usize = WASM_STACK + (1 << 20);

/// What one component may consist of. The pool has room for as much in every run, so that no agent can use up
/// another one's. A Rust command has a handful of instances (its module, the adapter, two shims), a Python one dozens.
pub(crate) const MAX_INSTANCES: u32 = 256;
const MAX_TABLES: u32 = 32;
const MAX_MEMORIES: u32 = 4;

/// Table elements that one table can grow to.
const MAX_TABLE_ELEMENTS: u32 = 100_000;

/// How an engine finds room for instances.
#[derive(Debug, Clone, Copy)]
pub enum Allocation {
    /// One mapping per memory, for engines that compile and do not run.
    OnDemand,
    /// Slots reserved ahead.
    Pooled(Pool),
}

/// An engine with the shared settings.
///
/// # Errors
/// When the host cannot provide what the settings ask for, such as the pool's address space.
pub fn engine(allocation: Allocation) -> wasmtime::Result<Engine> {
    Engine::new(&config(allocation, None))
}

/// An engine that runs code from memory that was mapped by [`mapped::Mapped`].
pub(crate) fn engine_for_mapped_code(allocation: Allocation) -> wasmtime::Result<Engine> {
    Engine::new(&config(allocation, Some(Arc::new(mapped::PublishMapped))))
}

/// An engine that compiles, and loads what it compiled without ever being able to run it: nothing becomes executable.
pub(crate) fn engine_that_runs_nothing() -> wasmtime::Result<Engine> {
    Engine::new(&config(Allocation::OnDemand, Some(Arc::new(mapped::NeverExecuted))))
}

/// Identifies everything about the engine that decides whether compiled code loads and means the same: the
/// target and its features, wasmtime's version, its settings and the accepted wasm features.
///
/// # Panics
/// Never: an on-demand engine needs nothing that a host could lack.
pub fn fingerprint() -> [u8; 32] {
    static FINGERPRINT: OnceLock<[u8; 32]> = OnceLock::new();
    *FINGERPRINT.get_or_init(|| {
        let engine =
            engine(Allocation::OnDemand).expect("the settings are constant and valid on this target");
        fingerprint_of(&engine)
    })
}

/// What a component has too much of for any pool: the name of it, how many, how many are allowed.
pub(crate) fn oversized(component: &Component) -> Option<(&'static str, u64, u64)> {
    let needs = component.resources_required()?;
    [
        ("linear memories", u64::from(needs.num_memories), u64::from(MAX_MEMORIES)),
        ("tables", u64::from(needs.num_tables), u64::from(MAX_TABLES)),
        ("elements in a table", needs.max_initial_table_size.unwrap_or(0), u64::from(MAX_TABLE_ELEMENTS)),
    ]
    .into_iter()
    .find(|(_, has, allowed)| has > allowed)
}

fn fingerprint_of(engine: &Engine) -> [u8; 32] {
    let mut hasher = Blake(blake3::Hasher::new_derive_key("orch engine settings fingerprint v1"));
    engine.precompile_compatibility_hash().hash(&mut hasher);
    *hasher.0.finalize().as_bytes()
}

fn config(allocation: Allocation, code_memory: Option<Arc<dyn CustomCodeMemory>>) -> Config {
    let mut config = Config::new();
    // Runs are reproducible (recordings rely on it): the only sources of nondeterminism are imports.
    config.cranelift_nan_canonicalization(true).relaxed_simd_deterministic(true);
    // What the toolchains in use emit; each proposal more is attack surface. Threads, exceptions and garbage
    // collection are not even compiled in.
    config
        .wasm_component_model(true)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false);
    // Guests are interrupted by epochs, checked at loop heads and function entries.
    config.epoch_interruption(true);
    config.max_wasm_stack(WASM_STACK).async_stack_size(RUN_STACK);
    // Explicit, because the default looks at an environment variable.
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    config.parallel_compilation(true);
    config.with_custom_code_memory(code_memory);
    if let Allocation::Pooled(pool) = allocation {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(pool)));
    }
    config
}

fn pooling(pool: Pool) -> PoolingAllocationConfig {
    let mut pooling = PoolingAllocationConfig::new();
    pooling
        .total_component_instances(pool.runs)
        .total_stacks(pool.runs)
        .max_core_instances_per_component(MAX_INSTANCES)
        .total_core_instances(pool.runs.saturating_mul(MAX_INSTANCES))
        .max_tables_per_component(MAX_TABLES)
        .max_tables_per_module(MAX_TABLES)
        .total_tables(pool.runs.saturating_mul(MAX_TABLES))
        .table_elements(MAX_TABLE_ELEMENTS as usize)
        .max_memories_per_component(MAX_MEMORIES)
        .total_memories(pool.runs.saturating_mul(MAX_MEMORIES))
        // All of a 32-bit memory, which costs nothing more: each slot reserves that much address space in any case,
        // so that accesses need no bounds checks. What a run may use of it is its limiter's business.
        .max_memory_size(1 << 32);
    pooling
}

/// A stable hasher: `std`'s makes no promise across releases.
struct Blake(blake3::Hasher);

impl Hasher for Blake {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.finalize();
        u64::from_le_bytes(*digest.as_bytes().first_chunk().expect("a digest has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocation_does_not_change_the_fingerprint() {
        let pool = Pool { runs: 2, memory: 1 << 20, yielding: false };
        let pooled = engine_for_mapped_code(Allocation::Pooled(pool)).unwrap();
        assert_eq!(fingerprint_of(&pooled), fingerprint());
        assert_eq!(fingerprint_of(&engine_that_runs_nothing().unwrap()), fingerprint());
    }

    #[test]
    fn settings_change_the_fingerprint() {
        let mut config = config(Allocation::OnDemand, None);
        config.cranelift_nan_canonicalization(false);
        assert_ne!(fingerprint_of(&Engine::new(&config).unwrap()), fingerprint());
    }

    #[test]
    fn the_named_version_is_the_locked_one() {
        let lock = include_str!("../../Cargo.lock");
        let entry = format!("name = \"wasmtime\"\nversion = \"{WASMTIME_VERSION}\"\n");
        assert!(lock.contains(&entry), "WASMTIME_VERSION differs from Cargo.lock");
    }
}
