//! How many runs, and how much of what they were asked with, a server keeps while they wait.
//!
//! **The rule**: no workspace may hold more places than are left, nor more bytes of requests than are left. A workspace
//! that is alone has half of everything, two have a third each, and so on: whoever comes next finds room.

use std::collections::HashMap;

use crate::failure::{Failure, Kind};

/// Bytes of requests that runs may hold while they wait for their turn.
const REQUESTS: usize = 512 << 20;

/// Who holds how much.
#[derive(Default)]
pub(super) struct Places {
    all: Held,
    by_workspace: HashMap<Box<str>, Held>,
}

/// Places, and the bytes of requests behind them.
#[derive(Default, Clone, Copy)]
struct Held {
    runs: usize,
    size: usize,
}

impl Places {
    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.all.runs
    }

    /// Whether the rule lets a workspace have one more, for a run with a request of so many bytes. There are `queue`
    /// places, and one for each of the `turns` that nobody has: runs that will not wait take no place from anybody.
    ///
    /// # Errors
    /// `queue_full`.
    pub(super) fn check(
        &self,
        workspace: &str,
        size: usize,
        queue: usize,
        turns: usize,
    ) -> Result<(), Failure> {
        let held = self.by_workspace.get(workspace).copied().unwrap_or_default();
        let left = (queue + turns).saturating_sub(self.all.runs);
        if left == 0 {
            return Err(full(format!(
                "{} runs wait already, which is all that this server accepts",
                self.all.runs
            )));
        }
        if held.runs.saturating_sub(turns) >= left {
            return Err(full(format!(
                "{} runs of this workspace wait already, and the {left} places that are left are kept for others",
                held.runs
            )));
        }
        let left = REQUESTS.saturating_sub(self.all.size);
        // Who waits alone may be large, and what says nothing needs no room for it.
        if self.all.runs > 0 && size > 0 && held.size.saturating_add(size) > left {
            return Err(full(format!(
                "runs that wait hold {} MiB of requests already, {} MiB of them this workspace's",
                self.all.size >> 20,
                held.size >> 20
            )));
        }
        Ok(())
    }

    /// One more is taken.
    pub(super) fn take(&mut self, workspace: &str, size: usize) {
        self.all.add(size);
        match self.by_workspace.get_mut(workspace) {
            Some(held) => held.add(size),
            None => drop(self.by_workspace.insert(workspace.into(), Held { runs: 1, size })),
        }
    }

    /// One that was taken is free again.
    pub(super) fn give_back(&mut self, workspace: &str, size: usize) {
        self.all.remove(size);
        if let Some(held) = self.by_workspace.get_mut(workspace) {
            held.remove(size);
            if held.runs == 0 {
                self.by_workspace.remove(workspace);
            }
        }
    }
}

impl Held {
    fn add(&mut self, size: usize) {
        self.runs += 1;
        self.size += size;
    }

    fn remove(&mut self, size: usize) {
        self.runs -= 1;
        self.size -= size;
    }
}

fn full(why: String) -> Failure {
    Failure::new(Kind::Server, "queue_full", why).hint("try again later, or raise `server.max_queued`")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as many places as the rule allows.
    fn fill(places: &mut Places, workspace: &str, size: usize, queue: usize, turns: usize) -> usize {
        let mut taken = 0;
        while places.check(workspace, size, queue, turns).is_ok() {
            places.take(workspace, size);
            taken += 1;
        }
        taken
    }

    fn refusal(places: &Places, workspace: &str, size: usize, queue: usize) -> String {
        let failure = places.check(workspace, size, queue, 0).expect_err("no room");
        assert_eq!((failure.code(), failure.kind()), ("queue_full", Kind::Server));
        failure.message().to_owned()
    }

    #[test]
    fn who_is_alone_has_half_and_others_find_room() {
        let mut places = Places::default();
        assert_eq!(fill(&mut places, "greedy", 0, 100, 0), 50);
        assert!(refusal(&places, "greedy", 0, 100).contains("the 50 places that are left"));
        assert_eq!(fill(&mut places, "b", 0, 100, 0), 25);
        assert_eq!(fill(&mut places, "c", 0, 100, 0), 13);
        assert!(places.check("d", 0, 100, 0).is_ok());
        // Once others hold places, the first one's share is smaller, as soon as its runs have gone.
        for _ in 0..50 {
            places.give_back("greedy", 0);
        }
        assert_eq!(fill(&mut places, "greedy", 0, 100, 0), 31);
    }

    #[test]
    fn the_smallest_queues_still_take_runs() {
        for (queue, alone) in [(0, 0), (1, 1), (2, 1), (3, 2)] {
            assert_eq!(fill(&mut Places::default(), "a", 0, queue, 0), alone, "{queue}");
        }
        let mut places = Places::default();
        assert_eq!(fill(&mut places, "a", 0, 1, 0), 1);
        assert!(refusal(&places, "b", 0, 1).contains("1 runs wait already, which is all"));
    }

    #[test]
    fn who_will_not_wait_needs_no_share() {
        for queue in [0, 1, 10] {
            assert_eq!(fill(&mut Places::default(), "a", 0, queue, 8), 8 + queue.div_ceil(2), "{queue}");
        }
    }

    #[test]
    fn the_bytes_of_a_workspace_are_bounded_by_those_that_are_left() {
        let mib = 1 << 20;
        let mut places = Places::default();
        assert_eq!(fill(&mut places, "greedy", 64 * mib, 10_000, 0), 4);
        let said = refusal(&places, "greedy", 64 * mib, 10_000);
        assert!(said.contains("256 MiB of requests already, 256 MiB of them this workspace's"), "{said}");
        assert!(places.check("greedy", 0, 10_000, 0).is_ok(), "what says nothing needs no room");
        assert!(places.check("b", 64 * mib, 10_000, 0).is_ok());
        assert!(Places::default().check("alone", 2 * REQUESTS, 10_000, 0).is_ok());
    }
}
