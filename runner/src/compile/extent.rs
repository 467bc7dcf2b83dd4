//! How much a component instantiates, before anything is made of it.
//!
//! A compiler writes instances out one by one, and a component that has two of the next one, twenty levels down, stands
//! for a million of them in a kilobyte. They are counted here the way a compiler would, only without writing them out.

use wasmparser::{
    BinaryReaderError, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Instance, Parser, Payload,
};

use super::ModuleError;
use super::inspect::malformed;
use crate::engine::MAX_INSTANCES;

/// Components inside of components, at most. Toolchains make two or three levels.
const MAX_DEPTH: usize = 100;

/// Instances of components, at most: they take no room in a worker, and time to compile.
const MAX_COMPONENT_INSTANCES: u64 = 10_000;

/// What one instance of a component comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Extent {
    /// Instances of core modules.
    modules: u64,
    /// Instances of components, itself included.
    components: u64,
}

/// A component while it is read.
#[derive(Default)]
struct Scope {
    is_module: bool,
    own: Extent,
    /// The index space of components.
    components: Vec<Extent>,
}

/// Refuses a component that instantiates more than a worker has room for.
pub(super) fn check(component: &[u8]) -> Result<(), ModuleError> {
    let mut counting = Counting { scopes: vec![Scope::default()], largest: Extent::default() };
    for payload in Parser::new(0).parse_all(component) {
        counting.see(payload.map_err(|error| malformed(&error))?)?;
    }
    Ok(())
}

struct Counting {
    /// From the outermost to the one that is being read.
    scopes: Vec<Scope>,
    /// The largest of all that were read, for one that cannot be told.
    largest: Extent,
}

impl Counting {
    fn see(&mut self, payload: Payload<'_>) -> Result<(), ModuleError> {
        let read = match payload {
            Payload::ModuleSection { .. } => self.enter(true),
            Payload::ComponentSection { .. } => self.enter(false),
            Payload::End(_) => self.leave(),
            Payload::InstanceSection(section) => section.into_iter().try_for_each(|instance| {
                if let Instance::Instantiate { .. } = instance? {
                    self.add(Extent { modules: 1, components: 0 });
                }
                Ok(())
            }),
            Payload::ComponentInstanceSection(section) => section.into_iter().try_for_each(|instance| {
                if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                    let mut of = self.component(0, component_index);
                    of.components = of.components.saturating_add(1);
                    self.add(of);
                }
                Ok(())
            }),
            Payload::ComponentImportSection(section) => section.into_iter().try_for_each(|import| {
                if let ComponentTypeRef::Component(_) = import?.ty {
                    self.name(self.largest);
                }
                Ok(())
            }),
            Payload::ComponentExportSection(section) => section.into_iter().try_for_each(|export| {
                let export = export?;
                if export.kind == ComponentExternalKind::Component {
                    self.name(self.component(0, export.index));
                }
                Ok(())
            }),
            Payload::ComponentAliasSection(section) => section.into_iter().try_for_each(|alias| {
                match alias? {
                    ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => {
                        self.name(self.largest);
                    }
                    ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                        self.name(self.component(count, index));
                    }
                    _ => {}
                }
                Ok(())
            }),
            _ => Ok(()),
        };
        read.map_err(|error: BinaryReaderError| malformed(&error))?;
        self.within_bounds()
    }

    fn enter(&mut self, is_module: bool) -> Result<(), BinaryReaderError> {
        self.scopes.push(Scope { is_module, ..Scope::default() });
        Ok(())
    }

    fn leave(&mut self) -> Result<(), BinaryReaderError> {
        // The outermost stays, to be looked at.
        if self.scopes.len() > 1
            && let Some(Scope { is_module: false, own, .. }) = self.scopes.pop()
        {
            self.largest.modules = self.largest.modules.max(own.modules);
            self.largest.components = self.largest.components.max(own.components);
            self.name(own);
        }
        Ok(())
    }

    /// The component with this index, `outer` levels up. What is not there is refused by whoever validates it.
    fn component(&self, outer: u32, index: u32) -> Extent {
        let scope = self.scopes.len().checked_sub(1 + outer as usize).and_then(|at| self.scopes.get(at));
        scope.and_then(|scope| scope.components.get(index as usize)).copied().unwrap_or_default()
    }

    fn name(&mut self, component: Extent) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.components.push(component);
        }
    }

    fn add(&mut self, instance: Extent) {
        if let Some(Scope { own, .. }) = self.scopes.last_mut() {
            own.modules = own.modules.saturating_add(instance.modules);
            own.components = own.components.saturating_add(instance.components);
        }
    }

    fn within_bounds(&self) -> Result<(), ModuleError> {
        let whole = self.scopes.first().map(|scope| scope.own).unwrap_or_default();
        let too_much = [
            ("levels of nested components", self.scopes.len() as u64 - 1, MAX_DEPTH as u64),
            ("instances", whole.modules, u64::from(MAX_INSTANCES)),
            ("instances of components", whole.components, MAX_COMPONENT_INSTANCES),
        ];
        match too_much.into_iter().find(|(_, has, limit)| has > limit) {
            Some((what, has, limit)) => Err(ModuleError::TooMuch { what: what.to_owned(), has, limit }),
            None => Ok(()),
        }
    }
}
