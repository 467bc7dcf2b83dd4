//! Who waits for a turn, and in which order.
//!
//! Workspaces take turns, and within a workspace who came first goes first. A workspace with a thousand waiting runs
//! delays another by one run at a time.

use std::collections::{BTreeMap, HashMap};

/// Those who wait, a line per workspace.
pub(super) struct Lines<T> {
    lines: HashMap<Box<str>, Line<T>>,
    /// The workspaces that wait, by their place in the round.
    round: BTreeMap<u64, Box<str>>,
    /// Counts on with everything that needs a place in an order.
    next: u64,
}

/// A workspace's line: its place in the round, and who waits in it by ticket. It is never empty.
struct Line<T> {
    place: u64,
    waiting: BTreeMap<u64, T>,
}

impl<T> Lines<T> {
    pub(super) fn new() -> Self {
        Self { lines: HashMap::new(), round: BTreeMap::new(), next: 0 }
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lines.values().map(|line| line.waiting.len()).sum()
    }

    /// Adds somebody at the end of a workspace's line; a workspace that did not wait comes last in the round.
    pub(super) fn join(&mut self, workspace: &str, who: T) -> u64 {
        let ticket = self.count();
        if let Some(line) = self.lines.get_mut(workspace) {
            line.waiting.insert(ticket, who);
        } else {
            let line = Line { place: ticket, waiting: BTreeMap::from([(ticket, who)]) };
            self.lines.insert(workspace.into(), line);
            self.round.insert(ticket, workspace.into());
        }
        ticket
    }

    /// Takes somebody out of the line; false when they are not in it any more.
    pub(super) fn leave(&mut self, workspace: &str, ticket: u64) -> bool {
        let Some(line) = self.lines.get_mut(workspace) else { return false };
        if line.waiting.remove(&ticket).is_none() {
            return false;
        }
        if line.waiting.is_empty() {
            self.round.remove(&line.place);
            self.lines.remove(workspace);
        }
        true
    }

    /// Who is next. Their workspace goes to the end of the round.
    pub(super) fn next(&mut self) -> Option<T> {
        let (_, workspace) = self.round.pop_first()?;
        let place = self.count();
        let line = self.lines.get_mut(&workspace)?;
        let (_, who) = line.waiting.pop_first()?;
        if line.waiting.is_empty() {
            self.lines.remove(&workspace);
        } else {
            line.place = place;
            self.round.insert(place, workspace);
        }
        Some(who)
    }

    fn count(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(lines: &mut Lines<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| lines.next()).collect()
    }

    #[test]
    fn workspaces_take_turns_and_each_goes_in_its_own_order() {
        let mut lines = Lines::new();
        for (workspace, who) in [("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("c", "c1"), ("b", "b2")]
        {
            lines.join(workspace, who);
        }
        assert_eq!(lines.len(), 6);
        assert_eq!(drained(&mut lines), ["a1", "b1", "c1", "a2", "b2", "a3"]);
        assert_eq!(lines.len(), 0);
    }

    #[test]
    fn who_comes_back_comes_last() {
        let mut lines = Lines::new();
        for (workspace, who) in [("a", "a1"), ("b", "b1"), ("b", "b2")] {
            lines.join(workspace, who);
        }
        assert_eq!(lines.next(), Some("a1"));
        lines.join("a", "a2");
        assert_eq!(drained(&mut lines), ["b1", "a2", "b2"]);
    }

    #[test]
    fn who_leaves_keeps_nobody_waiting_and_gains_nothing() {
        let mut lines = Lines::new();
        let first = lines.join("a", "a1");
        lines.join("b", "b1");
        lines.join("a", "a2");
        let only = lines.join("c", "c1");
        assert!(lines.leave("a", first) && lines.leave("c", only));
        assert!(!lines.leave("a", first) && !lines.leave("c", only) && !lines.leave("nobody", 1));
        assert_eq!(lines.len(), 2);
        lines.join("c", "c2");
        assert_eq!(drained(&mut lines), ["a2", "b1", "c2"]);
    }
}
