//! One account for all the memory that the worker holds for a run.
//!
//! | part | what |
//! |---|---|
//! | linear | linear memories of all instances |
//! | tables | their tables, by the size of an element |
//! | resources | what the guest's handles stand for: headers, requests, bodies, streams ([`Account::resources_are`]) |
//! | buffers | bytes on their way in or out ([`Charge`]) |
//!
//! What the account cannot see is bounded by constants instead: stacks (2 MiB), the state of instances (their number is
//! bounded), and what one host call copies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::ResourceLimiter;

use super::{LimitHit, Meter};
use crate::protocol::LimitName;

/// What an element of a table takes, in bytes.
const ELEMENT: u64 = size_of::<usize>() as u64;

/// What a run holds, in bytes.
#[derive(Default)]
pub(super) struct Account {
    linear: AtomicU64,
    tables: AtomicU64,
    resources: AtomicU64,
    buffers: AtomicU64,
    peak: AtomicU64,
}

impl Account {
    fn held(&self) -> u64 {
        [&self.linear, &self.tables, &self.resources, &self.buffers]
            .iter()
            .map(|part| part.load(Ordering::Relaxed))
            .fold(0, u64::saturating_add)
    }

    pub(super) fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

/// Bytes that are held for a run until this is dropped.
pub(crate) struct Charge {
    meter: Arc<Meter>,
    bytes: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.meter.memory.buffers.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Meter {
    /// Notes that the worker holds `bytes` more for the run.
    ///
    /// # Errors
    /// When that is too much, which ends the run at its next turn whether or not the guest hears of it.
    pub(crate) fn charge(self: &Arc<Self>, bytes: u64) -> Result<Charge, LimitHit> {
        self.room_for(bytes).inspect_err(|&hit| {
            // The first reason is kept.
            let _ = self.exceeded.set(hit);
        })?;
        self.memory.buffers.fetch_add(bytes, Ordering::Relaxed);
        Ok(Charge { meter: Arc::clone(self), bytes })
    }

    /// Notes what the guest's resources take.
    ///
    /// # Errors
    /// When that is too much.
    pub(crate) fn resources_are(&self, bytes: u64) -> Result<(), LimitHit> {
        self.memory.resources.store(bytes, Ordering::Relaxed);
        self.room_for(0)
    }

    /// Whether there is room for `more`, which counts for the peak if there is.
    fn room_for(&self, more: u64) -> Result<(), LimitHit> {
        let (used, limit) = (self.memory.held().saturating_add(more), self.limits.memory);
        if used > limit {
            return Err(LimitHit { name: LimitName::Memory, used, limit });
        }
        self.memory.peak.fetch_max(used, Ordering::Relaxed);
        Ok(())
    }
}

/// Counts the memories and the tables of all of a run's instances.
pub(crate) struct Growth {
    meter: Arc<Meter>,
    /// What the growth that was allowed last added, until it is known to have worked.
    last: u64,
}

impl Growth {
    pub(crate) fn new(meter: &Arc<Meter>) -> Self {
        Growth { meter: Arc::clone(meter), last: 0 }
    }

    /// Whether `part` may grow by `added`. What the guest itself forbids is not the limit's doing.
    fn grow(&mut self, part: fn(&Account) -> &AtomicU64, added: u64, within_its_own: bool) -> bool {
        self.last = 0;
        if !within_its_own {
            return false;
        }
        if let Err(hit) = self.meter.room_for(added) {
            self.meter.refuse(hit);
            return false;
        }
        part(&self.meter.memory).fetch_add(added, Ordering::Relaxed);
        self.last = added;
        true
    }

    fn failed(&mut self, part: fn(&Account) -> &AtomicU64) {
        part(&self.meter.memory).fetch_sub(std::mem::take(&mut self.last), Ordering::Relaxed);
    }
}

fn added(current: usize, desired: usize) -> u64 {
    desired.saturating_sub(current) as u64
}

impl ResourceLimiter for Growth {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let within_its_own = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(self.grow(|account| &account.linear, added(current, desired), within_its_own))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.failed(|account| &account.linear);
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let within_its_own = maximum.is_none_or(|maximum| desired <= maximum);
        let added = added(current, desired).saturating_mul(ELEMENT);
        Ok(self.grow(|account| &account.tables, added, within_its_own))
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.failed(|account| &account.tables);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::RunLimits;

    fn meter() -> Arc<Meter> {
        Meter::start(RunLimits { memory: 100, ..RunLimits::default() }, Default::default())
    }

    #[test]
    fn memory_is_counted_over_all_memories_and_given_back_when_growth_fails() {
        let meter = meter();
        let mut growth = Growth::new(&meter);
        assert!(growth.memory_growing(0, 60, None).unwrap());
        assert!(growth.memory_growing(0, 40, None).unwrap());
        growth.memory_grow_failed(wasmtime::format_err!("no room")).unwrap();
        assert!(growth.memory_growing(60, 90, None).unwrap());
        assert!(!growth.memory_growing(90, 101, None).unwrap());
        assert_eq!(meter.memory_peak(), 100, "what was allowed, even if it then failed");
        let hit = meter.refused_growth().unwrap();
        assert_eq!(hit, LimitHit { name: LimitName::Memory, used: 101, limit: 100 });
    }

    #[test]
    fn a_growth_beyond_the_guests_own_maximum_is_not_the_limits_doing() {
        let meter = meter();
        let mut growth = Growth::new(&meter);
        assert!(!growth.memory_growing(0, 90, Some(80)).unwrap());
        assert!(!growth.memory_growing(0, 900, Some(80)).unwrap());
        assert!(!growth.table_growing(0, 9, Some(8)).unwrap());
        assert!(meter.refused_growth().is_none());
        assert!(!growth.table_growing(0, 13, None).unwrap());
        assert_eq!(meter.refused_growth().unwrap().used, 104);
    }

    #[test]
    fn all_parts_share_one_bound_and_buffers_are_given_back() {
        let meter = meter();
        let mut growth = Growth::new(&meter);
        assert!(growth.memory_growing(0, 40, None).unwrap());
        assert!(growth.table_growing(0, 2, None).unwrap());
        meter.resources_are(20).unwrap();
        let buffer = meter.charge(24).unwrap();
        assert!(!growth.memory_growing(40, 41, None).unwrap());
        drop(buffer);
        assert!(growth.memory_growing(40, 64, None).unwrap());
        assert!(meter.exceeded().is_none(), "a refusal that the guest hears of does not end it");
        let hit = meter.charge(1).map(|_| ()).unwrap_err();
        assert_eq!((hit.used, meter.exceeded()), (101, Some(hit)));
        assert_eq!(meter.resources_are(21).unwrap_err().used, 101);
        assert_eq!(meter.memory_peak(), 100);
    }
}
