//! Two things timed side by side.
//!
//! Absolute times move with the machine and with what else it does, so a figure is the ratio of two operations that
//! were measured in turns: every round times A and B once each, in alternating order, and the medians over all rounds
//! are compared. CPU time is taken beside wall time; where the two disagree the machine was busy.

use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;

/// Fewer rounds than this say nothing.
pub const LEAST_ROUNDS: usize = 7;

/// What one operation cost, on average over a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Wall time.
    pub wall: Duration,
    /// CPU time of this process and of the children that it has waited for. The kernel counts it in ticks, 10 ms as a
    /// rule, so a round should take much longer than one.
    pub cpu: Duration,
}

/// The outcome: medians over the rounds.
#[derive(Debug, Clone)]
pub struct Comparison {
    names: [String; 2],
    medians: [Cost; 2],
    rounds: usize,
    ops: u32,
}

impl Comparison {
    /// The medians of A and B.
    pub fn medians(&self) -> [Cost; 2] {
        self.medians
    }

    /// A's median wall time over B's.
    pub fn ratio(&self) -> f64 {
        self.medians[0].wall.as_secs_f64() / self.medians[1].wall.as_secs_f64()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "medians over {} interleaved rounds of {} operations", self.rounds, self.ops)?;
        for (name, cost) in self.names.iter().zip(self.medians) {
            writeln!(f, "{name:>32}: {:>10.3?} wall, {:>10.3?} cpu", cost.wall, cost.cpu)?;
        }
        write!(f, "{:>32}: {:.2}", "ratio of wall times", self.ratio())
    }
}

/// Times `a` and `b` in turns: `rounds` rounds (at least [`LEAST_ROUNDS`]) of `ops` operations each, after one round of
/// each that is not counted.
pub fn compare(
    rounds: usize,
    ops: u32,
    (a_name, mut a): (&str, impl FnMut()),
    (b_name, mut b): (&str, impl FnMut()),
) -> Comparison {
    assert!(rounds >= LEAST_ROUNDS, "{rounds} rounds say nothing; take at least {LEAST_ROUNDS}");
    assert!(ops > 0, "a round needs an operation");
    round(ops, &mut a);
    round(ops, &mut b);
    let (mut costs_a, mut costs_b) = (Vec::new(), Vec::new());
    for i in 0..rounds {
        // Whoever is second finds the caches of the first.
        if i % 2 == 0 {
            costs_a.push(round(ops, &mut a));
            costs_b.push(round(ops, &mut b));
        } else {
            costs_b.push(round(ops, &mut b));
            costs_a.push(round(ops, &mut a));
        }
    }
    Comparison {
        names: [a_name.to_owned(), b_name.to_owned()],
        medians: [median(&costs_a), median(&costs_b)],
        rounds,
        ops,
    }
}

fn round(ops: u32, operation: &mut impl FnMut()) -> Cost {
    let (started, cpu) = (Instant::now(), cpu_time());
    for _ in 0..ops {
        operation();
    }
    Cost { wall: started.elapsed() / ops, cpu: cpu_time().saturating_sub(cpu) / ops }
}

fn median(costs: &[Cost]) -> Cost {
    let middle = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    Cost {
        wall: middle(costs.iter().map(|c| c.wall).collect()),
        cpu: middle(costs.iter().map(|c| c.cpu).collect()),
    }
}

/// User and system time of this process and of the children that it has waited for (proc(5), `stat`).
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("proc is mounted");
    let (_, fields) = stat.rsplit_once(") ").expect("the name is in parentheses");
    // utime, stime, cutime and cstime are fields 14 to 17, and the state after the name is field 3.
    let ticks: u64 =
        fields.split(' ').skip(11).take(4).map(|n| n.parse::<u64>().expect("a number of ticks")).sum();
    Duration::from_nanos(ticks * 1_000_000_000 / clock_ticks_per_second())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::process::Command;

    #[test]
    fn the_two_take_turns_in_alternating_order() {
        let order = RefCell::new(String::new());
        compare(7, 2, ("a", || order.borrow_mut().push('a')), ("b", || order.borrow_mut().push('b')));
        assert_eq!(*order.borrow(), "aabb".repeat(2) + &"bbaaaabb".repeat(3));
    }

    #[test]
    fn work_of_children_counts_and_more_work_costs_more() {
        let shell = |turns: u32| {
            move || {
                let script = format!("i=0; while [ $i -lt {turns} ]; do i=$((i+1)); done");
                let status = Command::new("/bin/sh").args(["-c", &script]).status().expect("a shell");
                assert!(status.success());
            }
        };
        let compared = compare(7, 1, ("much", shell(200_000)), ("little", shell(1)));
        let [much, little] = compared.medians();
        assert!(compared.ratio() > 2.0, "{compared}");
        assert!(much.cpu > little.cpu, "{compared}");
    }

    #[test]
    fn a_median_is_not_moved_by_one_bad_round() {
        let cost = |ms| Cost { wall: Duration::from_millis(ms), cpu: Duration::from_millis(ms) };
        assert_eq!(median(&[cost(3), cost(900), cost(1), cost(2), cost(2)]), cost(2));
    }
}
