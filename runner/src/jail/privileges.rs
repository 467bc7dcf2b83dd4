//! No capabilities, none to be had by executing anything, and no other process may look into this one.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};

use super::report::Layer;

pub(super) struct Privileges;

impl Privileges {
    pub(super) fn apply(&self) -> Layer {
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        // Those of its own namespaces, too: a namespace's root meets more of the kernel than anybody should.
        let steps: [(&str, Result<(), Errno>); 3] = [
            ("capabilities stay", set_capabilities(None, none)),
            ("programs may gain privileges", set_no_new_privs(true)),
            ("other processes may look into it", set_dumpable_behavior(DumpableBehavior::NotDumpable)),
        ];
        let failed: Vec<String> = steps
            .into_iter()
            .filter_map(|(otherwise, step)| step.err().map(|error| format!("{otherwise} ({error})")))
            .collect();
        match failed.len() {
            0 => Layer::Active,
            1 | 2 => Layer::partial(failed.join("; ")),
            _ => Layer::missing(failed.join("; ")),
        }
    }
}
