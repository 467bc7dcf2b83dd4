//! A filter of system calls: what running a guest needs is allowed, and anything else ends the process.
//!
//! A few calls are refused with an error instead, because a library makes them in good faith and knows what to do without:
//! see [`calls::REFUSED`]. What is allowed is bounded by its arguments where they can be seen: memory is never made
//! executable, threads are started and processes are not, signals go to the process itself.

mod calls;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use super::report::Layer;
use calls::{Argument, Call, Test};

pub(super) struct Seccomp {
    /// Whether files below mounts may be opened and changed. Which is a matter of the other layers.
    pub(super) files: bool,
}

impl Seccomp {
    pub(super) fn apply(&self) -> Layer {
        match self.filters() {
            Err(error) => Layer::missing(error.to_string()),
            Ok(filters) => {
                // Of several filters the strictest answer counts. The one that ends the process comes last: the others
                // could not be added any more.
                for filter in filters {
                    if let Err(error) = apply_filter(&filter) {
                        return Layer::missing(error.to_string());
                    }
                }
                Layer::Active
            }
        }
    }

    fn filters(&self) -> Result<Vec<BpfProgram>, BackendError> {
        let arch = std::env::consts::ARCH.try_into()?;
        let process = u64::from(std::process::id());
        let allowed = calls::ALWAYS.iter().chain(if self.files { calls::FILES } else { &[] });
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        for call in allowed {
            rules.entry(call.number).or_default().extend(rule(call, process)?);
        }
        let mut refusals: BTreeMap<u32, BTreeMap<i64, Vec<SeccompRule>>> = BTreeMap::new();
        for refused in calls::REFUSED {
            // A file call that is allowed is allowed; everything that is refused must get past the last filter.
            if let Entry::Vacant(vacant) = rules.entry(refused.number) {
                vacant.insert(Vec::new());
                refusals.entry(refused.error as u32).or_default().insert(refused.number, Vec::new());
            }
        }
        let mut filters = Vec::new();
        for (error, calls) in refusals {
            let refuse = SeccompFilter::new(calls, SeccompAction::Allow, SeccompAction::Errno(error), arch)?;
            filters.push(refuse.try_into()?);
        }
        let allow = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)?;
        filters.push(allow.try_into()?);
        Ok(filters)
    }
}

/// All of a call's tests have to hold. No test at all is no rule: the call is allowed however it is made.
fn rule(call: &Call, process: u64) -> Result<Option<SeccompRule>, BackendError> {
    let conditions = call
        .tests
        .iter()
        .map(|&Argument(index, test)| {
            use SeccompCmpArgLen::{Dword, Qword};
            let (width, operator, value) = match test {
                Test::Is(value) => (Dword, SeccompCmpOp::Eq, value),
                Test::IsNull => (Qword, SeccompCmpOp::Eq, 0),
                Test::IsThisProcess => (Dword, SeccompCmpOp::Eq, process),
                Test::Without(bits) => (Qword, SeccompCmpOp::MaskedEq(bits), 0),
                Test::OnlyBesides(bits, value) => (Qword, SeccompCmpOp::MaskedEq(!bits), value),
            };
            SeccompCondition::new(index, width, operator, value)
        })
        .collect::<Result<Vec<_>, _>>()?;
    if conditions.is_empty() { Ok(None) } else { SeccompRule::new(conditions).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_listed_with_and_without_a_test() {
        // An empty list of rules means "always", so a bare entry beside a tested one would lose against it.
        for list in [calls::ALWAYS, calls::FILES] {
            for call in list {
                let same: Vec<_> = list.iter().filter(|other| other.number == call.number).collect();
                assert!(same.len() == 1 || same.iter().all(|call| !call.tests.is_empty()), "{}", call.number);
            }
        }
        let repeated =
            calls::FILES.iter().find(|call| calls::ALWAYS.iter().any(|other| other.number == call.number));
        assert!(repeated.is_none(), "in both lists: {:?}", repeated.map(|call| call.number));
    }

    #[test]
    fn what_matters_most_is_in_no_list() {
        let never = [
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_io_uring_setup,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_mount,
            libc::SYS_chroot,
            libc::SYS_kill,
            libc::SYS_fchmod,
            libc::SYS_fchown,
            libc::SYS_seccomp,
        ];
        for number in never {
            let listed = calls::ALWAYS.iter().chain(calls::FILES).any(|call| call.number == number);
            assert!(!listed && calls::REFUSED.iter().all(|refused| refused.number != number), "{number}");
        }
    }

    #[test]
    fn the_filters_compile() {
        for files in [false, true] {
            let filters = Seccomp { files }.filters().unwrap();
            assert!(filters.len() >= 2);
        }
    }
}
